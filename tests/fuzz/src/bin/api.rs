//! The target `api`, linked with libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flotilla_fuzz::targets::api::target(data));
