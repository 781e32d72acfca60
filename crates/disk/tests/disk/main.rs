//! What every disk does, held against the real one and the simulated one alike.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod conformance;
mod differential;
