//! What the log promises, shown on the simulated disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod append_and_read;
mod closing;
mod crash_points;
mod damage;
mod disk_errors;
mod entry_indexes;
mod floor_slots;
mod found_damage;
mod harness;
mod model;
mod open_segments;
mod overlapping;
mod prefix_and_suffix;
mod producer_crashes;
mod producer_repair;
mod producer_snapshots;
mod producers;
mod read_limits;
mod real_disk;
mod repair;
mod repair_crash;
mod repair_manifest;
mod reserving;
mod scrubbing;
mod segment_files;
