//! What the format promises, on generated input, and its bytes to the letter.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "../../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the file is the root of a crate too")]
mod targets;

mod allocations;
mod contradictions;
mod damage;
mod frames;
mod golden;
mod message;
mod page;
mod properties;
mod samples;
