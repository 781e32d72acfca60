//! The real binary, serving a directory, for rigs that have to know how it ends.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::broker::ready;
use crate::{Process, Stub};

const START_LIMIT: Duration = Duration::from_secs(30);
/// One output may close before the other.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// A running broker. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    process: Process,
    url: String,
}

impl Server {
    /// Runs a command that ends in `flowstone serve`, and waits until the broker is ready.
    ///
    /// # Errors
    /// What it has printed, when it ends before, or does not become ready.
    pub fn start(command: &mut Command) -> Result<Self, String> {
        let mut process = Process::spawn("flowstone serve", command, None);
        let ready = process
            .stderr()
            .wait_for(START_LIMIT, |bytes| ready(&String::from_utf8_lossy(bytes)));
        match ready {
            Some(address) => Ok(Self {
                process,
                url: format!("http://{address}"),
            }),
            None => {
                let why = if process.closes_its_outputs(CLOSE_LIMIT) {
                    let status = process.wait(STOP_LIMIT);
                    format!("ends before it is ready, with {status}")
                } else {
                    process.kill9();
                    "is not ready in time".to_owned()
                };
                Err(format!("the broker {why}: {}", process.printed()))
            }
        }
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Connects to it.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn stub(&self) -> Result<Stub, String> {
        Stub::connect(&self.url)
            .await
            .map_err(|error| format!("nobody answers: {error}"))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.stderr().text()
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn kill9(mut self) -> Result<(), String> {
        let ran = self.process.is_running();
        self.process.kill9();
        ran.then_some(())
            .ok_or_else(|| format!("the broker had ended by itself: {}", self.process.printed()))
    }

    /// SIGTERM, which it has to answer by an exit code of 0.
    ///
    /// # Errors
    /// When it ends otherwise.
    pub fn terminate(mut self) -> Result<(), String> {
        self.process.terminate();
        let status = self.process.wait(STOP_LIMIT);
        status
            .success()
            .then_some(())
            .ok_or_else(|| format!("it ends with {status}: {}", self.process.printed()))
    }
}

/// `flowstone`, away from every setting of whoever runs this.
pub fn command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    without_settings(&mut command);
    command
}

/// Takes every setting of whoever runs this from a command.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLOWSTONE_") {
            command.env_remove(name);
        }
    }
}

/// What follows the name of the binary: a broker that serves a directory on a port of its own.
pub fn serve_args(config: &Path, data_dir: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["serve", "--listen", "127.0.0.1:0", "--config"]
        .map(OsString::from)
        .to_vec();
    args.push(config.into());
    args.push("--data-dir".into());
    args.push(data_dir.into());
    args
}
