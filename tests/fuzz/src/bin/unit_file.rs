//! The target `unit_file`, linked with libFuzzer.

#![no_main]

const TARGET: flotilla_fuzz::Target = flotilla_fuzz::named("unit_file");

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
