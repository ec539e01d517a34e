//! The target `unit_file`, linked with libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flotilla_fuzz::targets::unit_file::target(data));
