//! The machine that was measured on.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// What may explain a figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// When it was measured.
    pub(crate) date: String,
    /// The processor's name.
    pub(crate) cpu: String,
    /// How many cores this process may use.
    pub(crate) cores: usize,
    /// Memory, in GiB.
    pub(crate) memory_gib: f64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The file system that servers write to.
    pub(crate) file_system: String,
}

impl Machine {
    /// This one, with the file system of a directory.
    pub(crate) fn this(dir: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            date: jiff::Zoned::now().date().to_string(),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores,
            memory_gib: kib(&read("/proc/meminfo"), "MemTotal") as f64 / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/self/mounts"), dir).unwrap_or_else(unknown),
        }
    }

    /// One line of it.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}: {}, {} cores, {:.0} GiB, Linux {}, {}",
            self.date, self.cpu, self.cores, self.memory_gib, self.kernel, self.file_system
        )
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kib(meminfo: &str, name: &str) -> u64 {
    let value = field(meminfo, name).unwrap_or_default();
    value.trim_end_matches(" kB").parse().unwrap_or(0)
}

/// The type of the mount that holds the directory.
fn file_system(mounts: &str, dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holding = mounts.filter(|(point, _)| dir.starts_with(point));
    let (_, kind) = holding.max_by_key(|(point, _)| point.len())?;
    Some(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_holds_a_directory() {
        let mounts = "a / ext4 rw 0 0\nb /proc proc rw 0 0\nc /proc/self tmpfs rw 0 0\n";
        assert_eq!(
            file_system(mounts, Path::new("/proc")).as_deref(),
            Some("proc")
        );
        assert_eq!(file_system(mounts, Path::new("/")).as_deref(), Some("ext4"));
    }

    #[test]
    fn memory_is_read() {
        assert_eq!(kib("MemTotal:       123 kB\n", "MemTotal"), 123);
    }
}
