//! gRPC streams whose messages are opaque bytes: the ceiling is made of them, and they are a client of
//! Flowstone that costs the same, so that only the servers differ.

pub(crate) mod client;
pub(crate) mod codec;
pub(crate) mod keeper;
pub(crate) mod server;
