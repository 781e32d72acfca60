//! A broker as a child process: killed, stopped and started again on the same data directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use flowstone_client::Client;
use tempfile::TempDir;

use crate::{Invocation, Process, flowstone};

const START_LIMIT: Duration = Duration::from_secs(30);
/// Beyond the 5 seconds that a stop may take, so that a late one is told by its time.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// What the line on standard error begins with; the address follows, and a comma.
const READY: &str = "flowstone is ready on ";

/// A broker on 127.0.0.1, on a port of its own and in a temporary directory of its own. Dropping it
/// kills it.
#[derive(Debug)]
pub struct Broker {
    directory: TempDir,
    is_kept_after_failure: bool,
    has_config: bool,
    address: String,
    process: Process,
    /// What the brokers before this one logged.
    log_before: String,
}

/// How a broker ended after SIGTERM.
#[derive(Debug)]
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// How long after the signal.
    pub took: Duration,
}

impl Broker {
    /// Starts a broker on an empty directory and waits until it is ready.
    pub fn start() -> Self {
        Self::launch(None)
    }

    /// As [`Broker::start`], with a configuration file.
    pub fn with_config(toml: &str) -> Self {
        Self::launch(Some(toml))
    }

    fn launch(toml: Option<&str>) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("flowstone-e2e-")
            .tempdir()
            .expect("the system has room for temporary files");
        if let Some(toml) = toml {
            std::fs::write(directory.path().join("flowstone.toml"), toml)
                .expect("the directory can be written to");
        }
        let process = serve(directory.path(), toml.is_some());
        let address = wait_until_ready(&process);
        Self {
            has_config: toml.is_some(),
            directory,
            is_kept_after_failure: false,
            address,
            process,
            log_before: String::new(),
        }
    }

    /// Leaves its directory where it is when the test fails, and says where.
    #[must_use]
    pub fn kept_after_failure(mut self) -> Self {
        self.is_kept_after_failure = true;
        self
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address as clients are given it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its data lies.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.directory.path())
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything that it and the brokers before it on this directory logged.
    pub fn log(&self) -> String {
        format!("{}{}", self.log_before, self.process.stderr().text())
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::connect(self.url()).expect("it is an address")
    }

    /// `flowstone` with these arguments, against this broker.
    pub fn flowstone<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Invocation {
        flowstone(args).env("FLOWSTONE_SERVER", self.url())
    }

    /// kill -9.
    ///
    /// # Panics
    /// When it had ended before.
    pub fn kill9(&mut self) {
        assert!(
            self.process.is_running(),
            "the broker had ended by itself\n{}",
            self.process.printed()
        );
        self.process.kill9();
    }

    /// SIGTERM; returns when the broker has ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn terminate(&mut self) -> Stopped {
        let begun = Instant::now();
        self.process.terminate();
        let status = self.process.wait(STOP_LIMIT);
        Stopped {
            status,
            took: begun.elapsed(),
        }
    }

    /// Starts it again after it has ended, on the same directory and a new port.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn restart(&mut self) {
        self.begin_restart();
        self.address = wait_until_ready(&self.process);
    }

    /// As [`Broker::restart`], but kills it after `delay`, ready or not, and leaves it dead.
    ///
    /// # Panics
    /// When it ends by itself before.
    pub fn restart_and_kill9(&mut self, delay: Duration) {
        self.begin_restart();
        std::thread::sleep(delay);
        self.kill9();
    }

    fn begin_restart(&mut self) {
        assert!(!self.process.is_running(), "the broker is still running");
        self.log_before = self.log();
        self.process = serve(self.directory.path(), self.has_config);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.process.printed());
            if self.is_kept_after_failure {
                self.directory.disable_cleanup(true);
                eprintln!("the data directory is kept: {}", self.data_dir().display());
            }
        } else {
            let log = self.log();
            assert!(!log.contains("panicked"), "the broker panicked:\n{log}");
        }
    }
}

fn data_dir(directory: &Path) -> PathBuf {
    directory.join("data")
}

fn serve(directory: &Path, has_config: bool) -> Process {
    let mut args = vec!["serve".into(), "--data-dir".into()];
    args.push(data_dir(directory).into_os_string());
    args.extend(["--listen".into(), "127.0.0.1:0".into()]);
    if has_config {
        args.push("--config".into());
        args.push(directory.join("flowstone.toml").into_os_string());
    }
    flowstone(args).spawn()
}

fn wait_until_ready(process: &Process) -> String {
    let address = process
        .stderr()
        .wait_for(START_LIMIT, |bytes| ready(&String::from_utf8_lossy(bytes)));
    address.unwrap_or_else(|| panic!("the broker did not become ready\n{}", process.printed()))
}

/// The address, once the whole line is there.
pub(crate) fn ready(log: &str) -> Option<String> {
    let (_, line) = log.split_once(READY)?;
    let (line, _) = line.split_once('\n')?;
    let (address, _) = line.split_once(',')?;
    Some(address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_whole_line() {
        assert_eq!(ready("starting\nflowstone is ready on 127.0.0.1:74"), None);
        assert_eq!(
            ready("starting\nflowstone is ready on 127.0.0.1:7420, data in x\n").as_deref(),
            Some("127.0.0.1:7420")
        );
    }
}
