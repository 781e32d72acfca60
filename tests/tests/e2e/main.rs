//! The real binary, end to end: what it must show, on real processes and real files.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod kill;
mod quickstart;
