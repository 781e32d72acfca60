//! The real binary, serving a directory.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use flowstone_tests::{Process, Stub};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const READY: &str = "flowstone is ready on ";
/// Small segments, so that they roll all the time.
const CONFIG: &str = "[limits]\nmin_segment_bytes = 65_536\nmax_record_bytes = 16_384\n\
                      max_request_bytes = 32_768\nmax_records_per_request = 64\n\
                      [storage]\ndefault_segment_bytes = 1_048_576\n";

/// A running broker. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    url: String,
}

impl Server {
    /// Starts the binary on `directory/data`. `workspace` takes its configuration.
    pub(crate) fn start(binary: &Path, workspace: &Path, directory: &Path) -> Result<Self, String> {
        let config = workspace.join("flowstone.toml");
        std::fs::write(&config, CONFIG)
            .map_err(|error| format!("{}: {error}", config.display()))?;
        let mut command = command(binary);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config);
        command.arg("--data-dir").arg(directory.join("data"));
        let process = Process::spawn("flowstone serve", &mut command, None);
        let ready = process.stderr().wait_for(START_LIMIT, |bytes| {
            let log = String::from_utf8_lossy(bytes);
            let (line, _) = log.split_once(READY)?.1.split_once('\n')?;
            Some(line.split_once(',')?.0.to_owned())
        });
        match ready {
            Some(address) => Ok(Self {
                process,
                url: format!("http://{address}"),
            }),
            None => Err(format!(
                "the broker does not become ready: {}",
                process.printed()
            )),
        }
    }

    /// Connects to it.
    pub(crate) async fn stub(&self) -> Result<Stub, String> {
        Stub::connect(&self.url)
            .await
            .map_err(|error| format!("nobody answers: {error}"))
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.process.stderr().text()
    }

    /// kill -9.
    pub(crate) fn kill9(mut self) -> Result<(), String> {
        let ran = self.process.is_running();
        self.process.kill9();
        ran.then_some(())
            .ok_or_else(|| format!("the broker had ended by itself: {}", self.process.printed()))
    }

    /// SIGTERM, which it has to answer by an exit code of 0.
    pub(crate) fn terminate(mut self) -> Result<(), String> {
        self.process.terminate();
        let status = self.process.wait(STOP_LIMIT);
        status
            .success()
            .then_some(())
            .ok_or_else(|| format!("it ends with {status}: {}", self.process.printed()))
    }
}

/// `flowstone`, away from every setting of whoever runs this.
pub(crate) fn command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLOWSTONE_") {
            command.env_remove(name);
        }
    }
    command
}
