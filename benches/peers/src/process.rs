//! A server on this machine: started on loopback, waited for, and stopped by its process id.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::procfs::{self, Watch};

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// How long it may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_EVERY: Duration = Duration::from_millis(25);
/// So much of the end of a log is told when a server fails.
const LOG_BYTES_TOLD: usize = 2_000;

/// A process that serves. Dropping it stops it, and all that it has started.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A port of loopback that nobody listens on.
///
/// # Errors
/// When none is free.
pub(crate) fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port of loopback is free")?;
    Ok(listener
        .local_addr()
        .context("no port of loopback is free")?
        .port())
}

/// Whether somebody accepts connections at this port of loopback.
pub(crate) fn accepts(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A program with this name: in the directory, or where the shell looks for programs.
pub(crate) fn find_program(name: &str, first: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = vec![first.to_owned()];
    folders.extend(std::env::split_paths(&path));
    folders.extend(system);
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

impl Server {
    /// Starts it; what it prints goes to a file in `dir`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn start(name: &str, command: &mut Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let err = out
            .try_clone()
            .with_context(|| format!("cannot open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("cannot start {}", told(command.get_program())))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Waits until `answers` is true.
    ///
    /// # Errors
    /// When the process ends before, or takes too long.
    pub(crate) fn wait_until(&mut self, mut answers: impl FnMut() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !answers() {
            if let Some(status) = self
                .child
                .try_wait()
                .context("cannot ask for a child process")?
            {
                bail!(
                    "{} has ended with {status}: {}",
                    self.name,
                    self.end_of_log()
                );
            }
            if begun.elapsed() > START_TIMEOUT {
                bail!("{} does not answer: {}", self.name, self.end_of_log());
            }
            std::thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    /// Waits until the process accepts connections at this port.
    ///
    /// # Errors
    /// When the process ends before, or takes too long.
    pub(crate) fn wait_for_port(&mut self, port: u16) -> Result<()> {
        self.wait_until(|| accepts(port))
    }

    /// Begins to watch what it costs.
    pub(crate) fn watch(&self) -> Watch {
        Watch::begin(self.child.id())
    }

    /// The end of what it has printed.
    pub(crate) fn end_of_log(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| file.read_to_end(&mut text));
        if let Err(error) = read {
            return format!("(its log {} cannot be read: {error})", self.log.display());
        }
        let from = text.len().saturating_sub(LOG_BYTES_TOLD);
        String::from_utf8_lossy(&text[from..]).trim().to_owned()
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        let descendants = procfs::tree(self.child.id());
        // A failure means that it has just ended, which is what is wanted.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let begun = Instant::now();
        while !self.has_ended() && begun.elapsed() < STOP_TIMEOUT {
            std::thread::sleep(POLL_EVERY);
        }
        if !self.has_ended() {
            eprintln!("{} does not stop and is killed", self.name);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // What it started and has not stopped is given to another parent when it ends.
        for pid in descendants
            .into_iter()
            .skip(1)
            .filter(|pid| procfs::is_orphan(*pid))
        {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn told(program: &OsStr) -> String {
    program.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_at_once_is_told_with_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck; exit 3"]);
        let mut server = Server::start("broken", &mut command, dir.path()).unwrap();
        let error = server.wait_until(|| false).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("no such luck"), "{error}");
    }

    #[test]
    fn a_server_is_gone_once_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start("sleeper", Command::new("sleep").arg("60"), dir.path()).unwrap();
        let pid = server.child.id();
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
