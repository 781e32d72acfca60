//! gRPC's framing of messages in an HTTP/2 body.
#![no_main]

#[path = "../src/wire.rs"]
#[expect(dead_code, reason = "each target has one of its functions")]
mod wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire::messages(data));
