//! The broker as its callers see it: on a simulated machine, step by step, and on a real disk with
//! threads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clocks;
mod closing;
mod damage;
mod failure;
mod first_segments;
mod full_disk;
mod golden;
mod group_admin;
mod group_lifetime;
mod groups;
mod harness;
mod internal_logs;
mod lost_metadata;
mod newer;
mod open_files;
mod opening;
mod overflow;
mod produce;
mod producers;
mod recreation;
mod retention;
mod scrub_thread;
mod sharing;
mod subscribe;
mod threads;
mod topics;
mod watched_disk;
