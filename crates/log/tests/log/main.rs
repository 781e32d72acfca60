//! What the log promises, shown on the simulated disk.

mod append_and_read;
mod crash_points;
mod damage;
mod disk_errors;
mod harness;
mod model;
mod prefix_and_suffix;
mod real_disk;
