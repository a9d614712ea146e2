#![no_main]
#[allow(dead_code, reason = "each target makes one claim")]
#[path = "../claims.rs"]
mod claims;

libfuzzer_sys::fuzz_target!(|input: &[u8]| claims::archive(input));
