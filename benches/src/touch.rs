//! Memory that was not used for a while costs a virtual machine far more the first time than after that.
//!
//! What is freed goes back to the host within seconds, and each page of it has to be had anew by whoever writes next. A
//! machine that does nothing but its work has no memory that rests. So memory is used and freed right before what is measured.

use std::fs;
use std::hint::black_box;

const PAGE_BYTES: usize = 4096;
/// Left to programs.
const SPARED_BYTES: u64 = 2 << 30;

/// Uses so many bytes of memory, or as much as there is, and frees it.
pub fn touch(bytes: u64) {
    let bytes = bytes.min(available_bytes().saturating_sub(SPARED_BYTES));
    let mut memory = vec![0_u8; usize::try_from(bytes).unwrap_or(usize::MAX)];
    for byte in memory.iter_mut().step_by(PAGE_BYTES) {
        *byte = 1;
    }
    black_box(memory);
}

/// Memory that can be filled without harm to others, in bytes; 0 where nothing tells it.
fn available_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    available.unwrap_or(0) << 10
}
