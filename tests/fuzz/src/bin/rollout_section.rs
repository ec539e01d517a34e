//! The target `rollout_section`, linked with libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flotilla_fuzz::targets::rollout_section::target(data));
