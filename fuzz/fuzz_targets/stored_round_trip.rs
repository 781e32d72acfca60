//! Records stored and produced again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowstone_fuzz::stored_round_trip(data));
