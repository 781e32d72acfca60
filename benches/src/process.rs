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

/// CPU time that a process has taken, in seconds: user and system time, in the 10 ms that `/proc` counts in. The process
/// is named as there, `self` or by its id; 0 where that is not to be had.
#[must_use]
pub fn cpu_seconds(process: &str) -> f64 {
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, behind_name) = stat.rsplit_once(')')?;
        let mut numbers = behind_name.split_whitespace().skip(11);
        let user: u64 = numbers.next()?.parse().ok()?;
        let system: u64 = numbers.next()?.parse().ok()?;
        Some(user + system)
    };
    ticks().unwrap_or_default() as f64 / 100.0
}
