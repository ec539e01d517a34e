//! The target `fleet_section`, linked with libFuzzer.

#![no_main]

const TARGET: flotilla_fuzz::Target = flotilla_fuzz::named("fleet_section");

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
