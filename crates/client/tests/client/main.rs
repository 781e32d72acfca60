//! The client against a broker that does what a test tells it, also what a real one rarely does.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod broker;
mod idempotence;
mod producer;
mod subscription;
