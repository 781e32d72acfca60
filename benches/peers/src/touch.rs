//! Memory that was never used before costs a virtual machine far more the first time than ever after.

use crate::machine::available_bytes;

const CHUNK_BYTES: usize = 64 << 20;
/// Left to everybody else.
const SPARED_BYTES: u64 = 2 << 30;

/// Fills so much memory, or as much as there is to spare, and gives it back. Answers with how much it was.
pub(crate) fn touch(bytes: u64) -> u64 {
    let bytes = bytes.min(available_bytes().saturating_sub(SPARED_BYTES));
    let mut chunks = Vec::new();
    for _ in 0..bytes / CHUNK_BYTES as u64 {
        chunks.push(std::hint::black_box(vec![1_u8; CHUNK_BYTES]));
    }
    (chunks.len() * CHUNK_BYTES) as u64
}
