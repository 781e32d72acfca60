//! Memory that was not used for a while costs a virtual machine far more the first time than after that.
//!
//! What is freed goes back to the host within seconds, and each page of it has to be had anew by whoever writes next. A
//! machine that does nothing but its work has no memory that rests. So memory is used and freed right before what is measured.

use std::hint::black_box;

use crate::machine::available_bytes;

const PAGE_BYTES: usize = 4096;
/// Left to programs.
const SPARED_BYTES: u64 = 2 << 30;

/// Uses so much memory, or as much as there is, and frees it.
pub(crate) fn touch(bytes: u64) {
    let bytes = bytes.min(available_bytes().saturating_sub(SPARED_BYTES));
    let mut memory = vec![0_u8; usize::try_from(bytes).unwrap_or(usize::MAX)];
    for byte in memory.iter_mut().step_by(PAGE_BYTES) {
        *byte = 1;
    }
    black_box(memory);
}
