//! gRPC's framing, for the calls that carry records: messages go in and out of HTTP/2 bodies without a copy.
//!
//! It is that of <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>: a byte that says whether the message is
//! compressed, its length in four bytes, the message. tonic copies each message once on its way in and once on its way
//! out; for a megabyte of records that is most of what serving or reading them costs.

mod body;
mod messages;
mod splices;

pub use body::body;
pub use messages::Messages;
pub use splices::Splices;

/// What stands before each message: whether it is compressed, and its length.
pub const PREFIX_BYTES: usize = 5;

/// The prefix of a message that is not compressed.
///
/// # Panics
/// With a message of 4 GiB or more.
pub fn prefix(message_bytes: usize) -> [u8; PREFIX_BYTES] {
    let len = u32::try_from(message_bytes).expect("messages are far below 4 GiB");
    let [a, b, c, d] = len.to_be_bytes();
    [0, a, b, c, d]
}
