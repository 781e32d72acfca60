//! A broker of our own, as a child process.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;

use crate::commands::serve::READY;

const START_LIMIT: Duration = Duration::from_secs(30);
/// How much of the broker's log is kept, to be shown if the story goes wrong.
const LINES_KEPT: usize = 40;

/// What the broker logged last.
pub(super) type Log = Arc<Mutex<VecDeque<String>>>;

/// A running broker. It is killed when it is dropped.
pub(super) struct Broker {
    child: Child,
    pub(super) address: String,
    pub(super) pid: u32,
}

impl Broker {
    /// Starts this very program as a broker on a free port and waits until it is ready.
    pub(super) async fn start(data_dir: &Path, log: &Log) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Settings of the user's own broker are not for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FLOWSTONE_") {
                command.env_remove(name);
            }
        }
        let mut child = command.spawn().context("cannot start the broker")?;
        let pid = child.id().context("the broker ended at once")?;
        let stderr = child.stderr.take().expect("it was asked for");
        let (sender, ready) = oneshot::channel();
        tokio::spawn(listen(stderr, sender, Arc::clone(log)));
        let address = tokio::time::timeout(START_LIMIT, ready)
            .await
            .with_context(|| format!("the broker was not ready within {START_LIMIT:?}"))?
            .context("the broker ended before it was ready")?;
        Ok(Self {
            child,
            address,
            pid,
        })
    }

    /// kill -9, and waits until the process is gone.
    pub(super) async fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the broker had ended by itself: {status}");
        }
        self.child.kill().await.context("cannot kill the broker")
    }
}

/// Keeps what the broker logs, and finds the line that tells that it is ready.
async fn listen(stderr: ChildStderr, ready: oneshot::Sender<String>, log: Log) {
    let mut ready = Some(ready);
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let address = line
            .strip_prefix(READY)
            .and_then(|rest| rest.split(',').next());
        if let (Some(address), Some(ready)) = (address, ready.take_if(|_| address.is_some())) {
            // Nobody listens any more if the start took too long.
            let _ = ready.send(address.to_owned());
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LINES_KEPT {
            log.pop_front();
        }
        log.push_back(line);
    }
}
