//! How a process stands: its memory, files and maps.

use std::fmt;
use std::fs;
use std::str::FromStr;
use std::time::Duration;

use flowstone_benches::anonymous_bytes;

use crate::Outcome;

/// Told by the process that is measured in one line, read by the one that measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    seconds: f64,
    /// Memory that no file stands behind.
    anonymous_bytes: u64,
    files: usize,
    maps: usize,
}

impl Standing {
    /// This process now, after something took so long.
    pub(crate) fn after(took: Duration) -> Outcome<Self> {
        Ok(Self {
            seconds: took.as_secs_f64(),
            anonymous_bytes: anonymous_bytes()?,
            files: fs::read_dir("/proc/self/fd")?.count(),
            maps: fs::read_to_string("/proc/self/maps")?.lines().count(),
        })
    }

    /// As [`Standing::from_str`] reads it.
    pub(crate) fn say(&self) {
        let Self {
            seconds,
            anonymous_bytes,
            files,
            maps,
        } = self;
        println!("{seconds} {anonymous_bytes} {files} {maps}");
    }
}

impl FromStr for Standing {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(line: &str) -> Outcome<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or("a line that ends early");
        Ok(Self {
            seconds: word()?.parse()?,
            anonymous_bytes: word()?.parse()?,
            files: word()?.parse()?,
            maps: word()?.parse()?,
        })
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.anonymous_bytes as f64 / f64::from(1 << 20);
        let Self {
            seconds,
            files,
            maps,
            ..
        } = self;
        write!(f, "{seconds:.3} | {mib:.1} | {files} | {maps}")
    }
}
