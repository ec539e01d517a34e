//! The target `glob`, linked with libFuzzer.

#![no_main]

const TARGET: flotilla_fuzz::Target = flotilla_fuzz::named("glob");

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
