//! How the C library's allocator treats memory that was freed.

/// Has glibc's allocator keep up to 64 MiB of freed memory for each of its arenas, instead of giving blocks above 128 KiB
/// back to the system at once. A broker and its clients handle messages of a megabyte, one after the other, and would have
/// the system find and clear the pages of each anew. Elsewhere than on glibc it does nothing. To be called before other
/// threads are started.
///
/// See mallopt(3): M_MMAP_THRESHOLD and M_TRIM_THRESHOLD. Without these glibc moves both by itself, but only up to twice
/// the largest block that was ever freed.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        /// The highest that glibc takes; larger blocks are mapped by themselves.
        const MAPPED_BYTES_MIN: i32 = 32 << 20;
        const KEPT_BYTES_MAX: i32 = 64 << 20;
        // Where one is refused nothing changes but speed.
        // SAFETY: both only set a number, and no other thread allocates meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX);
        }
    }
}
