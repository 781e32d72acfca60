//! The real binary, end to end: what it must show, on real processes and real files.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod access_log;
mod bad_input;
mod bench;
mod group;
mod group_admin;
mod group_client;
mod group_sharing;
mod kill;
mod murmur2;
mod open_files;
mod python;
mod quickstart;
mod repair;
mod replay;
mod sharing;
mod shutdown;
mod wire;
