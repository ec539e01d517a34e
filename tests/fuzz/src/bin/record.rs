//! The target `record`, linked with libFuzzer.

#![no_main]

const TARGET: flotilla_fuzz::Target = flotilla_fuzz::named("record");

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
