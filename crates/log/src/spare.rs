//! Where frames are put together: one buffer for each thread that appends, not one for each log, of which there may be
//! ten thousand that each have seen a large request.

use std::cell::Cell;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's buffer, empty.
pub(crate) fn take() -> Vec<u8> {
    SPARE.take()
}

/// Keeps a buffer for whoever appends next on this thread, or the one that is there already if that is larger.
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    let kept = SPARE.take();
    buffer.clear();
    SPARE.set(if kept.capacity() < buffer.capacity() {
        buffer
    } else {
        kept
    });
}
