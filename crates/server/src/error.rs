//! Why a server does not start or does not stop well, and why a configuration is refused.

use std::net::SocketAddr;
use std::path::PathBuf;

use flowstone_broker::OpenError;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is no TOML.
    #[error("{} is not valid TOML: {detail}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with the place.
        detail: String,
    },
    /// A section or key that there is not.
    #[error("{}:{line}: unknown setting `{key}`; known here: {known}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The setting as it stands there.
        key: String,
        /// What could stand there.
        known: String,
    },
    /// A value of the wrong kind or out of its range.
    #[error("{}:{line}: `{key}` is {found}, but takes {expected}", path.display())]
    WrongValue {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The setting.
        key: String,
        /// What stands there.
        found: String,
        /// What could stand there.
        expected: String,
    },
    /// Settings that do not fit, or do not fit together.
    #[error("setting `{key}`: {detail}")]
    Invalid {
        /// The setting.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// Why the server did not start. Nothing was changed in the data directory.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process listens there.
    #[error(
        "{listen} is taken by another process: stop that one, or listen on another port \
         (`--{flag}`, or `server.{key}` in the configuration; port 0 takes a free one)",
        key = flag.replace('-', "_")
    )]
    PortTaken {
        /// The address.
        listen: SocketAddr,
        /// The flag of the command line that sets it.
        flag: &'static str,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {listen}: {source}; listen on an address of this machine and a port that this \
         user may use (`--{flag}`, or `server.{key}` in the configuration)",
        key = flag.replace('-', "_")
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The flag of the command line that sets it.
        flag: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The data directory could not be opened; the message says what to do.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The broker could not be started.
    #[error("the broker could not be started: {0}")]
    Broker(flowstone_broker::Error),
}

/// Why serving ended badly. What was acknowledged as durable is on disk all the same.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The broker did not stop cleanly.
    #[error("the broker did not stop cleanly: {0}; the next start recovers what is on disk")]
    Broker(flowstone_broker::Error),
    /// The last sync did not return in time.
    #[error(
        "the broker did not stop within {timeout_ms} ms: the disk is slow or hangs; the next start \
         recovers what is on disk"
    )]
    Timeout {
        /// `server.shutdown_timeout_ms`.
        timeout_ms: u64,
    },
}
