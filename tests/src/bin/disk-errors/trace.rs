//! strace: what a broker asks of its data directory, and calls of it that fail.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const DETACH_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);

/// Those by which a broker reaches its data directory.
pub(crate) const SYSCALLS: &[&str] = &[
    "fdatasync",
    "fsync",
    "syncfs",
    "pwrite64",
    "fallocate",
    "openat",
    "rename",
    "unlink",
    "pread64",
    "getdents64",
    "mmap",
    "madvise",
    "mkdir",
    "flock",
    "statx",
    "newfstatat",
];

/// What fails: the n-th call of each thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    pub(crate) syscall: &'static str,
    pub(crate) when: u64,
}

/// One line of what strace has written down.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Unix time in seconds.
    pub(crate) at: f64,
    pub(crate) syscall: String,
    /// Which one of its thread's calls of this kind.
    pub(crate) number: u64,
    /// On which file, below the data directory; empty for the directory itself.
    pub(crate) path: Option<String>,
    pub(crate) is_injected: bool,
}

impl Call {
    /// The partition whose directory it concerns.
    pub(crate) fn partition(&self) -> Option<u64> {
        let below = self.path.as_ref()?.strip_prefix("partitions/")?;
        below.split('/').next()?.parse().ok()
    }

    pub(crate) fn is_of(&self, suffix: &str) -> bool {
        self.path
            .as_ref()
            .is_some_and(|path| path.ends_with(suffix))
    }
}

/// What this machine lacks, if anything.
pub(crate) fn missing() -> Option<&'static str> {
    let tried = Command::new("strace")
        .args(["-D", "-f", "-y", "-ttt", "-o", "/dev/null"])
        .args([
            "-e",
            "trace=openat",
            "-e",
            "inject=openat:error=EIO:when=9999",
        ])
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match tried {
        Err(_) => Some("strace"),
        Ok(status) if status.success() => None,
        Ok(_) => Some("the right to trace processes, and strace 5 or later"),
    }
}

fn options(syscalls: &str, failing: Option<Failing>, log: &Path) -> Vec<OsString> {
    let mut options: Vec<OsString> = ["-f", "-y", "-ttt", "-s", "0", "-o"]
        .map(OsString::from)
        .to_vec();
    options.push(log.into());
    options.extend(["-e".into(), format!("trace={syscalls}").into()]);
    if let Some(Failing { syscall, when }) = failing {
        let inject = format!("inject={syscall}:error=EIO:when={when}");
        options.extend(["-e".into(), inject.into()]);
    }
    options
}

fn traced(failing: Option<Failing>) -> String {
    failing.map_or_else(|| SYSCALLS.join(","), |failing| failing.syscall.to_owned())
}

/// The command that starts a broker under strace, as the child of whoever runs it. Only calls on
/// these paths count.
pub(crate) fn launch(
    binary: &Path,
    failing: Option<Failing>,
    paths: &[PathBuf],
    log: &Path,
) -> Command {
    let mut command = Command::new("strace");
    // It can be asked to let go.
    command.args(["-D", "-I", "2"]);
    command.args(options(&traced(failing), failing, log));
    for path in paths {
        command.arg("-P").arg(path);
    }
    command.arg(binary);
    command
}

/// The command that traces a broker which runs already.
pub(crate) fn attach(pid: u32, failing: Option<Failing>, log: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(options(&traced(failing), failing, log));
    command.arg("-p").arg(pid.to_string());
    command
}

/// Ends the tracer of a process, which goes on without it. What it has written down is complete then.
pub(crate) fn detach(pid: u32) -> Result<(), String> {
    let until = Instant::now() + DETACH_LIMIT;
    while Instant::now() < until {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.map_err(|error| error.to_string())?;
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        let tracer = tracer.and_then(|tracer| tracer.trim().parse().ok());
        let Some(tracer) = tracer.and_then(Pid::from_raw) else {
            return Ok(());
        };
        // It may have gone in this moment.
        let _ = kill_process(tracer, Signal::TERM);
        std::thread::sleep(POLL);
    }
    Err("strace does not let go of the broker".to_owned())
}

/// The calls that concern a data directory, and when the last thread ended.
pub(crate) fn parse(log: &str, data_dir: &Path) -> (Vec<Call>, Option<f64>) {
    let data_dir = data_dir.to_string_lossy();
    let mut calls: Vec<Call> = Vec::new();
    let mut numbers: HashMap<(&str, &str), u64> = HashMap::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    let mut ended = None;
    for line in log.lines() {
        let mut parts = line.splitn(2, ' ');
        let (Some(thread), Some(rest)) = (parts.next(), parts.next()) else {
            continue;
        };
        let Some((at, rest)) = rest.trim_start().split_once(' ') else {
            continue;
        };
        let Ok(at) = at.parse::<f64>() else { continue };
        let is_injected = rest.ends_with("(INJECTED)");
        if rest.starts_with("+++") {
            ended = Some(at);
        } else if rest.starts_with("<...") {
            if let Some(call) = unfinished.remove(thread)
                && is_injected
            {
                calls[call].is_injected = true;
            }
        } else if let Some((syscall, args)) = rest.split_once('(') {
            let number = numbers.entry((thread, syscall)).or_default();
            *number += 1;
            if rest.ends_with("<unfinished ...>") {
                unfinished.insert(thread, calls.len());
            }
            calls.push(Call {
                at,
                syscall: syscall.to_owned(),
                number: *number,
                path: path_in(args, &data_dir),
                is_injected,
            });
        }
    }
    calls.retain(|call| call.path.is_some());
    (calls, ended)
}

/// The first path below a directory that the arguments of a call name.
fn path_in(args: &str, data_dir: &str) -> Option<String> {
    // These name an address and no file. Nothing else is populated.
    if args.contains("MADV_POPULATE_READ") || args.contains("0x16 /* MADV_") {
        return Some("(a map)".to_owned());
    }
    let (_, below) = args.split_once(data_dir)?;
    let end = below.find(['"', '>', ' '])?;
    let path = &below[..end];
    (path.is_empty() || path.starts_with('/')).then(|| path.trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread_and_known_by_their_path() {
        let log = "\
7 100.5 openat(AT_FDCWD</x>, \"/lib/libc.so\", O_RDONLY) = 3</lib/libc.so>
7 100.6 openat(AT_FDCWD</x>, \"/d/FLOOR\", O_RDWR) = 3</d/FLOOR>
8 100.7 fdatasync(5</d/partitions/0000000016/00-ab.segment> <unfinished ...>
7 100.8 pwrite64(3</d/FLOOR>, \"\"..., 512, 4096) = 512
8 100.9 <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)
8 101.0 madvise(0x7f00, 4096, MADV_POPULATE_READ) = 0
8 101.1 openat(AT_FDCWD</x>, \"/d\", O_RDONLY) = 3</d>
8 101.2 openat(AT_FDCWD</x>, \"/data\", O_RDONLY) = 3</data>
8 101.3 +++ exited with 1 +++
";
        let (calls, ended) = parse(log, Path::new("/d"));
        let told: Vec<_> = calls
            .iter()
            .map(|call| {
                let path = call.path.as_deref().unwrap_or_default();
                (call.syscall.as_str(), call.number, path, call.is_injected)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("openat", 2, "FLOOR", false),
                ("fdatasync", 1, "partitions/0000000016/00-ab.segment", true),
                ("pwrite64", 1, "FLOOR", false),
                ("madvise", 1, "(a map)", false),
                ("openat", 1, "", false),
            ]
        );
        assert_eq!(calls[1].partition(), Some(16));
        assert_eq!(ended, Some(101.3));
    }
}
