//! SIGINT and SIGTERM: the first asks to stop, the second stops at once.

use std::process;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// As a shell tells that a process was ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// Tells when the process was asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    asked: watch::Receiver<bool>,
}

impl Stop {
    /// Listens from now on.
    pub(crate) fn listen() -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
        let (sender, asked) = watch::channel(false);
        tokio::spawn(forward(interrupt, terminate, sender));
        Ok(Self { asked })
    }

    /// Returns once the process was asked to stop. May be cancelled and called again.
    pub(crate) async fn asked(&mut self) {
        if self.asked.wait_for(|&asked| asked).await.is_err() {
            // The task that listens lives as long as the runtime.
            std::future::pending().await
        }
    }

    /// Whether the process was asked to stop.
    pub(crate) fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }
}

async fn forward(mut interrupt: Signal, mut terminate: Signal, sender: watch::Sender<bool>) {
    for asked_before in [false, true] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if asked_before {
            process::exit(INTERRUPTED);
        }
        sender.send_replace(true);
    }
}
