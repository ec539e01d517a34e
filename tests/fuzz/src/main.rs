//! A target, linked with libFuzzer: the one whose name this program has.

#![no_main]

const TARGET: flotilla_fuzz::Target = flotilla_fuzz::named(env!("CARGO_BIN_NAME"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
