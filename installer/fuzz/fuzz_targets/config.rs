#![no_main]
#[path = "../claims.rs"]
mod claims;

libfuzzer_sys::fuzz_target!(|input: &[u8]| claims::config(input));
