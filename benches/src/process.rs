//! What a process takes, as Linux tells it.

use std::fs;
use std::io;

/// Memory of this process that no file stands behind, in bytes.
///
/// # Errors
/// Where there is no `/proc` that tells it.
pub fn anonymous_bytes() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: Option<u64> = kib.and_then(|kib| kib.parse().ok());
    Ok(kib.ok_or(io::ErrorKind::Unsupported)? << 10)
}
