//! Loop devices, file systems, and the namespace in which all of it vanishes with the program.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::Process;
use crate::binary::{BINARY, binary};

/// Set for the program that runs within the namespace.
const INSIDE: &str = "FLOWSTONE_RIG_INSIDE";
const LIMIT: Duration = Duration::from_secs(60);
/// Stands in what [`Mounted::after_cut`] tells when the file system itself was broken.
pub const MENDED: &str = "e2fsck -y";
const UNSHARE: &[&str] = &["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const PROGRAMS: &[&str] = &[
    "unshare",
    "mount",
    "umount",
    "losetup",
    "mkfs.ext4",
    "e2fsck",
    "cp",
];

/// What this machine lacks, if anything.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        let opened = File::options().read(true).write(true).open(device);
        if let Err(error) = opened {
            return Some(format!("{device} ({error})"));
        }
    }
    let there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    };
    if let Some(program) = PROGRAMS.iter().find(|program| !there(program)) {
        return Some(format!("the program {program}"));
    }
    let tried = Command::new("unshare")
        .args(UNSHARE)
        .args(["losetup", "--find"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match tried {
        Ok(status) if status.success() => None,
        _ => Some("the right to make namespaces and loop devices".to_owned()),
    }
}

/// Runs a rig in a namespace of its own for mounts and processes. When it ends there, however it ends, the
/// kernel ends what it has started, and unmounts what it has mounted; loop devices are let go with that.
/// On a machine that lacks something it says so in one line, which is no failure.
pub fn in_namespace(rig: &str, work: impl Future<Output = ExitCode>) -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        if let Some(missing) = missing() {
            println!("skipped: the {rig} rig needs {missing}");
            return ExitCode::SUCCESS;
        }
        let error = enter_namespace(binary());
        eprintln!("unshare cannot be run: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("threads can be started").block_on(async {
        // The end of this process is the end of all that it has started and mounted.
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let mut signals = signal(kind).expect("signals can be taken");
            tokio::spawn(async move {
                signals.recv().await;
                eprintln!("interrupted");
                std::process::exit(130);
            });
        }
        work.await
    })
}

/// Becomes the same program within the namespace. Returns only when that fails.
fn enter_namespace(binary: &Path) -> std::io::Error {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error,
    };
    Command::new("unshare")
        .args(UNSHARE)
        .arg("--")
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .env(BINARY, binary)
        .exec()
}

/// How a command ended: its code, and what it printed.
pub fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> (i32, String) {
    let mut command = Command::new(program);
    command.args(args);
    let mut process = Process::spawn(program, &mut command, None);
    let status = process.wait(LIMIT);
    let printed = format!("{}{}", process.stdout().text(), process.stderr().text());
    (status.code().unwrap_or(-1), printed)
}

/// As [`run`], for a command that has to succeed.
pub fn must<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    let (code, printed) = run(program, args);
    assert_eq!(code, 0, "{program} failed: {printed}");
    printed
}

/// A mounted file system. Dropping it unmounts it.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Mounted {
    /// Memory that holds files as long as this program runs.
    pub fn memory(directory: &Path) -> Self {
        must(
            "mount",
            [
                "-t".as_ref(),
                "tmpfs".as_ref(),
                "tmpfs".as_ref(),
                directory.as_os_str(),
            ],
        );
        Self(directory.to_path_buf())
    }

    /// The ext4 in a file, over a loop device that goes with the mount.
    pub fn image(file: &Path, directory: &Path) -> Result<Self, String> {
        let args = [
            "-t".as_ref(),
            "ext4".as_ref(),
            "-o".as_ref(),
            "loop".as_ref(),
            file.as_os_str(),
            directory.as_os_str(),
        ];
        let (code, printed) = run("mount", args);
        if code == 0 {
            Ok(Self(directory.to_path_buf()))
        } else {
            Err(format!("mount: {}", printed.trim()))
        }
    }

    /// As [`Mounted::image`], after a power cut. The journal is replayed by the kernel at the mount or,
    /// with `checked`, by e2fsck before it, as where a machine starts from this disk. Tells how that
    /// went.
    ///
    /// A superblock is twice as long as a sector. When it was torn the kernel does not mount at all,
    /// and e2fsck takes another copy of it.
    pub fn after_cut(
        file: &Path,
        directory: &Path,
        checked: bool,
    ) -> Result<(Self, String), String> {
        let mut told = "journal by the kernel".to_owned();
        if checked {
            let (code, _) = run("e2fsck", ["-fp".as_ref(), file.as_os_str()]);
            told = format!("e2fsck -p {code}");
            if code <= 1 {
                return Ok((Self::image(file, directory)?, told));
            }
        } else if let Ok(mounted) = Self::image(file, directory) {
            return Ok((mounted, told));
        }
        let (code, printed) = run("e2fsck", ["-fy".as_ref(), file.as_os_str()]);
        if code > 1 {
            return Err(format!("e2fsck answers {code}: {}", printed.trim()));
        }
        told.push_str(&format!(", {MENDED} {code}"));
        Ok((Self::image(file, directory)?, told))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let (code, printed) = run("umount", [&self.0]);
        if code != 0 {
            eprintln!("{} is still mounted: {}", self.0.display(), printed.trim());
        }
    }
}

/// Makes an ext4 of so many bytes in a file.
pub fn make_ext4(file: &Path, bytes: u64, block_bytes: u32) -> std::io::Result<()> {
    File::create(file)?.set_len(bytes)?;
    let block_bytes = block_bytes.to_string();
    // Everything at once, so that the kernel does not go on with it in the background.
    let args = [
        "-q",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
        "-b",
        &block_bytes,
    ];
    must(
        "mkfs.ext4",
        args.map(OsStr::new).into_iter().chain([file.as_os_str()]),
    );
    Ok(())
}
