//! What an operator can set: plain values, their defaults, and the check that they fit together.

mod keys;
mod reference;
#[cfg(test)]
mod tests;
mod toml_file;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use flowstone_broker::{BrokerConfig, GroupConfig, Limits, OpenError};
use uuid::Uuid;

use crate::error::ConfigError;

/// Everything that a server is started with. The TOML file, its reference page and the checks of
/// single values come from one table, `config/keys.rs`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address and port that metrics are served on over plain HTTP; `None`: they are not.
    pub metrics_listen: Option<SocketAddr>,
    /// What GetCluster tells clients to connect to; `None`: the address listened on.
    pub advertised_endpoint: Option<String>,
    /// Connections open at a time; further ones are closed at once.
    pub max_connections: usize,
    /// How long a stop may take, in milliseconds, before open connections are cut.
    pub shutdown_timeout_ms: u64,
    /// How often an idle Subscribe stream says that it is alive, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// The longest that one Fetch waits for records, in milliseconds; a longer wish is cut to this.
    pub fetch_wait_ms_max: u64,
    /// Requests of one ProduceStream that may be unanswered at a time.
    pub produce_stream_requests_max: usize,

    /// The directory that holds everything.
    pub data_dir: PathBuf,
    /// Refuse a data directory of any other cluster; `None`: take the one that is there.
    pub expected_cluster_id: Option<Uuid>,
    /// Capacity of a segment file where the topic does not say, in bytes.
    pub default_segment_bytes: u64,
    /// Threads that append and sync.
    pub append_threads: usize,
    /// Threads that read from disk.
    pub read_threads: usize,
    /// How long a partition is idle before its durable floor is synced, in milliseconds.
    pub floor_idle_ms: u64,
    /// How often retention is applied, in milliseconds.
    pub retention_interval_ms: u64,
    /// Space that is kept for the broker's own logs on a full disk, in bytes; 0 for none.
    pub disk_reserve_bytes: u64,
    /// How fast sealed segments are read to look for rot; 0: nothing looks.
    pub scrub_bytes_per_second: u64,
    /// How often all of them are read at most, in milliseconds.
    pub scrub_interval_ms: u64,
    /// How long a producer that appends nothing is remembered, in milliseconds.
    pub producer_retention_ms: u64,

    /// How long members of groups may take.
    pub groups: GroupConfig,
    /// What clients can run into; GetCluster tells the most of it.
    pub limits: Limits,
    /// Transport settings.
    pub http2: Http2Config,
}

/// HTTP/2 settings. The windows bound what a peer may have under way before it is read; frames as
/// large as the peer allows cost the least CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Config {
    /// How often a silent connection is asked for a sign of life, in milliseconds.
    pub keepalive_interval_ms: u64,
    /// How long the answer may take before the connection counts as closed, in milliseconds.
    pub keepalive_timeout_ms: u64,
    /// Calls that one connection may have open at a time.
    pub max_concurrent_streams: u32,
    /// What all connections together may send before it is read, in bytes: each gets a sixteenth of what is
    /// left when it is made, and 64 KiB at least; one call has half of that.
    pub total_window_bytes: u32,
    /// The largest HTTP/2 frame taken from a client, in bytes.
    pub max_frame_bytes: u32,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let broker = BrokerConfig::new(PathBuf::from("flowstone-data"));
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7420)),
            metrics_listen: None,
            advertised_endpoint: None,
            max_connections: 10_000,
            shutdown_timeout_ms: 5_000,
            heartbeat_interval_ms: 5_000,
            fetch_wait_ms_max: 60_000,
            produce_stream_requests_max: 1_024,
            data_dir: broker.data_dir,
            expected_cluster_id: broker.expected_cluster_id,
            default_segment_bytes: broker.default_segment_bytes,
            append_threads: broker.append_threads,
            read_threads: broker.read_threads,
            floor_idle_ms: broker.floor_idle_ms,
            retention_interval_ms: broker.retention_interval_ms,
            disk_reserve_bytes: broker.disk_reserve_bytes,
            scrub_bytes_per_second: broker.scrub_bytes_per_second,
            scrub_interval_ms: broker.scrub_interval_ms,
            groups: broker.groups,
            producer_retention_ms: broker.producer_retention_ms,
            limits: broker.limits,
            http2: Http2Config::default(),
        }
    }
}

impl Default for Http2Config {
    fn default() -> Self {
        Self {
            keepalive_interval_ms: 10_000,
            keepalive_timeout_ms: 10_000,
            max_concurrent_streams: 256,
            total_window_bytes: 32 << 20,
            max_frame_bytes: 1 << 20,
        }
    }
}

impl ServerConfig {
    /// Checks every value against its range and the values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the key, what is wrong and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for key in keys::KEYS {
            key.check(self)?;
        }
        self.broker_config()
            .validate()
            .map_err(|error| match error {
                OpenError::InvalidConfig { field, detail } => ConfigError::Invalid {
                    key: keys::path_of(field),
                    detail,
                },
                other => ConfigError::Invalid {
                    key: "storage".to_owned(),
                    detail: other.to_string(),
                },
            })
    }

    /// What the broker below is opened with.
    pub(crate) fn broker_config(&self) -> BrokerConfig {
        BrokerConfig {
            limits: self.limits.clone(),
            groups: self.groups.clone(),
            append_threads: self.append_threads,
            read_threads: self.read_threads,
            default_segment_bytes: self.default_segment_bytes,
            expected_cluster_id: self.expected_cluster_id,
            floor_idle_ms: self.floor_idle_ms,
            retention_interval_ms: self.retention_interval_ms,
            disk_reserve_bytes: self.disk_reserve_bytes,
            scrub_bytes_per_second: self.scrub_bytes_per_second,
            scrub_interval_ms: self.scrub_interval_ms,
            producer_retention_ms: self.producer_retention_ms,
            ..BrokerConfig::new(self.data_dir.clone())
        }
    }
}
