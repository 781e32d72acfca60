//! One run of the binary from the command line.

use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::time::Duration;

use crate::{Process, binary};

/// No command of a test takes anywhere near this.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// `flowstone` with these arguments, away from every setting of whoever runs the tests.
pub fn flowstone<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Invocation {
    let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().into()).collect();
    let mut command = Command::new(binary());
    command.args(&args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLOWSTONE_") {
            command.env_remove(name);
        }
    }
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    Invocation {
        name: format!("flowstone {}", words.join(" ")),
        command,
        stdin: None,
    }
}

/// A run that has not begun.
#[derive(Debug)]
pub struct Invocation {
    name: String,
    command: Command,
    stdin: Option<Vec<u8>>,
}

impl Invocation {
    /// What it reads from standard input; nothing unless told.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it and lets it run.
    pub fn spawn(mut self) -> Process {
        Process::spawn(self.name, &mut self.command, self.stdin.take())
    }

    /// Runs it to its end, which may not be a panic.
    ///
    /// # Panics
    /// When it panics, or takes longer than a minute.
    pub fn run(self) -> Run {
        let name = self.name.clone();
        let mut process = self.spawn();
        let status = process.wait(RUN_LIMIT);
        let run = Run {
            name,
            code: status.code(),
            stdout: process.stdout().bytes(),
            stderr: process.stderr().text(),
        };
        assert!(
            !run.stderr.contains("panicked"),
            "{} panicked:\n{}",
            run.name,
            run.stderr
        );
        run
    }
}

/// How a run ended, and what it printed.
#[derive(Debug)]
pub struct Run {
    name: String,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// It ended well.
    ///
    /// # Panics
    /// When the exit code is not 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(
            self.code,
            Some(0),
            "{} failed: {}",
            self.name,
            self.stderr.trim_end()
        );
        self
    }

    /// It failed with this exit code, and its message names all of `told`.
    ///
    /// # Panics
    /// When it ended otherwise, or the message leaves something out.
    #[track_caller]
    pub fn fails(self, code: i32, told: &[&str]) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{} ended otherwise: {}",
            self.name,
            self.stderr.trim_end()
        );
        for fact in told {
            assert!(
                self.stderr.contains(fact),
                "the message of {} does not say {fact:?}: {}",
                self.name,
                self.stderr.trim_end()
            );
        }
        self
    }

    /// Standard output as text.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("the output is text")
    }

    /// Standard output by lines.
    ///
    /// # Panics
    /// When it is no text.
    #[track_caller]
    pub fn lines(&self) -> Vec<&str> {
        self.text().lines().collect()
    }

    /// Standard output as one JSON value.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{} printed no JSON: {error}", self.name))
    }
}
