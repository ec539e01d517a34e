//! The target `journal`, linked with libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flotilla_fuzz::targets::journal::target(data));
