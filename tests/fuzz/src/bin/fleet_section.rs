//! The target `fleet_section`, linked with libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flotilla_fuzz::targets::fleet_section::target(data));
