//! The one table of all settings: the TOML file, its checks and its reference are made from it.

use std::net::SocketAddr;
use std::path::PathBuf;

use uuid::Uuid;

use super::ServerConfig;
use crate::error::ConfigError;

/// One setting of the file.
pub(super) struct Key {
    /// The table it stands in.
    pub(super) section: &'static str,
    /// Its name there.
    pub(super) name: &'static str,
    /// What it is for, in whole sentences.
    pub(super) doc: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
}

/// What a setting holds, and how it is read from and written to the configuration.
pub(super) enum Kind {
    /// A whole number between `least` and `most`, both included.
    Number {
        least: u64,
        most: u64,
        get: fn(&ServerConfig) -> u64,
        set: fn(&mut ServerConfig, u64),
    },
    /// A string; an empty one stands for "not set" where `default_text` says what that means.
    Text {
        what: &'static str,
        default_text: Option<&'static str>,
        get: fn(&ServerConfig) -> String,
        set: fn(&mut ServerConfig, &str) -> Result<(), String>,
    },
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600 * SECOND_MS;

macro_rules! number {
    ($section:literal, $name:literal, $least:expr, $most:expr, $($path:ident).+, $doc:literal) => {
        Key {
            section: $section,
            name: $name,
            doc: $doc,
            kind: Kind::Number {
                least: $least,
                most: $most,
                get: |config| config.$($path).+ as u64,
                // The range was checked, and every upper bound fits the field.
                set: |config, value| config.$($path).+ = value as _,
            },
        }
    };
}

pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("server", "Who may connect, and how long things may take."),
    ("storage", "Where the data lies, and what works on it."),
    (
        "groups",
        "How long members of consumer groups may take, which `GetCluster` tells clients, and how long groups are kept.",
    ),
    (
        "producers",
        "What is remembered so that repeats are appended once.",
    ),
    (
        "limits",
        "What clients can run into. `GetCluster` tells clients those that concern them.",
    ),
    (
        "http2",
        "The transport. The defaults suit a local network; raise the window where the way is long.",
    ),
];

pub(super) const KEYS: &[Key] = &[
    Key {
        section: "server",
        name: "listen",
        doc: "Address and port to listen on. Port 0 takes a free one.",
        kind: Kind::Text {
            what: "an address and port such as \"127.0.0.1:7420\" or \"[::]:7420\"",
            default_text: None,
            get: |config| config.listen.to_string(),
            set: |config, text| {
                config.listen = text
                    .parse::<SocketAddr>()
                    .map_err(|_| format!("{text:?} is no address and port"))?;
                Ok(())
            },
        },
    },
    Key {
        section: "server",
        name: "metrics_listen",
        doc: "Address and port on which metrics are served to Prometheus, over plain HTTP and to whoever \
              asks, at `/metrics`. Port 0 takes a free one, which the log tells.",
        kind: Kind::Text {
            what: "an address and port such as \"127.0.0.1:7421\"",
            default_text: Some("no metrics are served"),
            get: |config| {
                let listen = config.metrics_listen.map(|listen| listen.to_string());
                listen.unwrap_or_default()
            },
            set: |config, text| {
                config.metrics_listen = if text.is_empty() {
                    None
                } else {
                    let listen = text.parse::<SocketAddr>();
                    Some(listen.map_err(|_| format!("{text:?} is no address and port"))?)
                };
                Ok(())
            },
        },
    },
    Key {
        section: "server",
        name: "advertised_endpoint",
        doc: "What `GetCluster` tells clients to connect to, where that differs from `listen`: behind a \
              port mapping, or when listening on all addresses.",
        kind: Kind::Text {
            what: "a host and port such as \"broker.example.net:7420\"",
            default_text: Some("the address listened on"),
            get: |config| config.advertised_endpoint.clone().unwrap_or_default(),
            set: |config, text| {
                config.advertised_endpoint = (!text.is_empty()).then(|| text.to_owned());
                Ok(())
            },
        },
    },
    number!(
        "server",
        "max_connections",
        1,
        1_000_000,
        max_connections,
        "Connections open at a time. Further ones are closed as soon as they are made."
    ),
    number!(
        "server",
        "shutdown_timeout_ms",
        100,
        HOUR_MS,
        shutdown_timeout_ms,
        "How long a stop may take. Running calls are finished and streams are told to go elsewhere; what \
         is still open near the end of this time is cut. Acknowledged records are on disk either way."
    ),
    number!(
        "server",
        "heartbeat_interval_ms",
        100,
        HOUR_MS,
        heartbeat_interval_ms,
        "How often a Subscribe stream that has nothing to tell says that it is alive."
    ),
    number!(
        "server",
        "fetch_wait_ms_max",
        0,
        HOUR_MS,
        fetch_wait_ms_max,
        "The longest that one Fetch waits for records. A longer `max_wait` is cut to this."
    ),
    number!(
        "server",
        "produce_stream_requests_max",
        1,
        65_536,
        produce_stream_requests_max,
        "Requests of one ProduceStream that may be unanswered at a time. The broker reads no further \
         until the first of them is answered."
    ),
    Key {
        section: "storage",
        name: "data_dir",
        doc: "The directory that holds everything: records, topics, committed offsets. It is made if it is \
              missing, and one process at a time may use it.",
        kind: Kind::Text {
            what: "a path",
            default_text: None,
            get: |config| config.data_dir.display().to_string(),
            set: |config, text| {
                if text.is_empty() {
                    return Err("an empty path names no directory".to_owned());
                }
                config.data_dir = PathBuf::from(text);
                Ok(())
            },
        },
    },
    Key {
        section: "storage",
        name: "expected_cluster_id",
        doc: "Refuse to start on a data directory of any other cluster: a guard against the wrong volume.",
        kind: Kind::Text {
            what: "a UUID, as `GetCluster` tells it",
            default_text: Some("any"),
            get: |config| {
                config
                    .expected_cluster_id
                    .map(|id| id.to_string())
                    .unwrap_or_default()
            },
            set: |config, text| {
                config.expected_cluster_id = if text.is_empty() {
                    None
                } else {
                    Some(Uuid::parse_str(text).map_err(|_| format!("{text:?} is no UUID"))?)
                };
                Ok(())
            },
        },
    },
    number!(
        "storage",
        "default_segment_bytes",
        MIB,
        KIB * MIB,
        default_segment_bytes,
        "Capacity of a segment file where the topic names none; where it names `retention_bytes`, an eighth of \
         those at most. With acks before the sync appends run at most two of them ahead of the disk. Retention removes whole segments, and the last of each partition is read at a start; each is one \
         memory map and two files."
    ),
    number!(
        "storage",
        "append_threads",
        1,
        1_024,
        append_threads,
        "Threads that append and sync. Each syncs one partition at a time. While requests want their acks before the \
         sync, one of several is kept for writing, so that these wait for no sync."
    ),
    number!(
        "storage",
        "read_threads",
        1,
        1_024,
        read_threads,
        "Threads that read from disk. What is in memory already is read without them waiting."
    ),
    number!(
        "storage",
        "floor_idle_ms",
        1,
        60 * SECOND_MS,
        floor_idle_ms,
        "How long nothing is committed before the proof of what is durable is synced itself."
    ),
    number!(
        "storage",
        "retention_interval_ms",
        SECOND_MS,
        24 * HOUR_MS,
        retention_interval_ms,
        "How often segments are looked at for retention."
    ),
    number!(
        "storage",
        "disk_reserve_bytes",
        0,
        16 * KIB * MIB,
        disk_reserve_bytes,
        "Space that is taken ahead and given up when the disk is full, so that offsets can still be committed \
         and topics trimmed and deleted. Until it stands again records are refused with DISK_FULL. 0 keeps \
         none."
    ),
    number!(
        "storage",
        "scrub_bytes_per_second",
        0,
        64 * KIB * MIB,
        scrub_bytes_per_second,
        "How fast sealed segments are read from the disk, past the page cache, to look for rot where nobody \
         reads. 0 turns it off: rot is then found by whoever reads it."
    ),
    number!(
        "storage",
        "scrub_interval_ms",
        SECOND_MS,
        365 * 24 * HOUR_MS,
        scrub_interval_ms,
        "How often all sealed segments are read at most. At the speed above a round may take longer."
    ),
    number!(
        "groups",
        "processing_timeout_ms",
        100,
        24 * HOUR_MS,
        groups.processing_timeout_ms,
        "For how long a member that asks for no other time may hold uncommitted records without a call to \
         commit. Then it is put out, and its partitions go to others."
    ),
    number!(
        "groups",
        "revoke_timeout_ms",
        0,
        HOUR_MS,
        groups.revoke_timeout_ms,
        "How long a member has to commit or release a partition that is to go to another. Then it has lost it."
    ),
    number!(
        "groups",
        "member_reconnect_timeout_ms",
        0,
        HOUR_MS,
        groups.member_reconnect_timeout_ms,
        "For how long a member with a name keeps its partitions after its stream has ended, so that a restart \
         does not move them."
    ),
    number!(
        "groups",
        "offsets_retention_ms",
        0,
        100 * 365 * 24 * HOUR_MS,
        groups.offsets_retention_ms,
        "A group that nobody was in and that committed nothing for this long is forgotten, with all its \
         committed offsets. Each start of the broker counts anew. 0 keeps them for ever."
    ),
    number!(
        "producers",
        "retention_ms",
        SECOND_MS,
        365 * 24 * HOUR_MS,
        producer_retention_ms,
        "How long a producer that appends nothing is remembered. A repeat that comes later may be appended \
         twice, and a producer that was opened has to be opened again. `GetCluster` tells it."
    ),
    number!(
        "limits",
        "max_record_bytes",
        1,
        4 * MIB,
        limits.max_record_bytes,
        "Size of one record, key, value and headers together, where the topic names no other."
    ),
    number!(
        "limits",
        "max_request_bytes",
        KIB,
        8 * MIB,
        limits.max_request_bytes,
        "Size of all records of one produce request. With what the broker adds to each record it must fit into \
         8 MiB, so a high limit takes a lower `max_records_per_request`."
    ),
    number!(
        "limits",
        "max_records_per_request",
        1,
        65_536,
        limits.max_records_per_request,
        "Records of one produce request."
    ),
    number!(
        "limits",
        "default_response_bytes",
        KIB,
        64 * MIB,
        limits.default_response_bytes,
        "Size of the records of one response where the request names none."
    ),
    number!(
        "limits",
        "max_response_bytes",
        KIB,
        64 * MIB,
        limits.max_response_bytes,
        "The largest response that a request may ask for; one record always fits. Stock gRPC clients refuse \
         messages over 4 MiB."
    ),
    number!(
        "limits",
        "max_produce_bytes_in_flight",
        MIB,
        4 * KIB * MIB - 1,
        limits.max_produce_bytes_in_flight,
        "Records of all produce requests that are not yet appended. Further ones wait."
    ),
    number!(
        "limits",
        "max_topics",
        1,
        1_000_000,
        limits.max_topics,
        "Topics of the broker."
    ),
    number!(
        "limits",
        "max_partitions_per_topic",
        1,
        1_000_000,
        limits.max_partitions_per_topic,
        "Partitions of one topic."
    ),
    number!(
        "limits",
        "max_partitions",
        1,
        1_000_000,
        limits.max_partitions,
        "Partitions of all topics together."
    ),
    number!(
        "limits",
        "min_segment_bytes",
        64 * KIB,
        KIB * MIB,
        limits.min_segment_bytes,
        "The smallest segment capacity that a topic may ask for. One request always has to fit."
    ),
    number!(
        "limits",
        "max_labels_per_topic",
        0,
        1_024,
        limits.max_labels_per_topic,
        "Labels of one topic."
    ),
    number!(
        "limits",
        "max_committed_offsets",
        1,
        100_000_000,
        limits.max_committed_offsets,
        "Committed offsets of all groups, one for each group and partition."
    ),
    number!(
        "limits",
        "max_cursors_per_commit",
        1,
        100_000,
        limits.max_cursors_per_commit,
        "Cursors of one `CommitOffsets` request."
    ),
    number!(
        "limits",
        "max_subscriptions",
        1,
        1_000_000,
        limits.max_subscriptions,
        "Subscribe streams open at a time."
    ),
    number!(
        "limits",
        "max_producer_sequences",
        KIB,
        1_024 * MIB,
        limits.max_producer_sequences,
        "Sequences of producers that all partitions together remember, 64 bytes of memory each. When it is \
         reached new producers are refused, and those there are remember less."
    ),
    number!(
        "limits",
        "max_opened_producers",
        1,
        100_000_000,
        limits.max_opened_producers,
        "Producers of all topics that `OpenProducer` was called for and that are not forgotten yet."
    ),
    number!(
        "http2",
        "keepalive_interval_ms",
        SECOND_MS,
        HOUR_MS,
        http2.keepalive_interval_ms,
        "How often a connection on which nothing comes is asked for a sign of life."
    ),
    number!(
        "http2",
        "keepalive_timeout_ms",
        SECOND_MS,
        HOUR_MS,
        http2.keepalive_timeout_ms,
        "How long the answer may take before the connection counts as closed."
    ),
    number!(
        "http2",
        "max_concurrent_streams",
        1,
        1_000_000,
        http2.max_concurrent_streams,
        "Calls that one connection may have open at a time."
    ),
    number!(
        "http2",
        "total_window_bytes",
        64 * KIB,
        1_024 * MIB,
        http2.total_window_bytes,
        "What all connections together may send before it is read. A new one gets a sixteenth of what is left, and 64 KiB \
         at least; a single call half of that, so that one that is held up leaves room for others. Throughput of \
         a stream is at most its part for each round trip."
    ),
    number!(
        "http2",
        "max_frame_bytes",
        16 * KIB,
        16 * MIB - 1,
        http2.max_frame_bytes,
        "The largest HTTP/2 frame taken from a client. Large frames cost the least CPU for each byte."
    ),
];

/// `section.name` of a setting that the broker names by its field alone.
pub(super) fn path_of(field: &str) -> String {
    let key = KEYS.iter().find(|key| key.name == field);
    key.map_or_else(|| field.to_owned(), Key::path)
}

impl Key {
    /// `section.name`, as it is told in messages.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Holds the value that is set against the range.
    pub(super) fn check(&self, config: &ServerConfig) -> Result<(), ConfigError> {
        let Kind::Number {
            least, most, get, ..
        } = &self.kind
        else {
            return Ok(());
        };
        let value = get(config);
        if (*least..=*most).contains(&value) {
            return Ok(());
        }
        Err(ConfigError::Invalid {
            key: self.path(),
            detail: format!("{value} is not between {least} and {most}"),
        })
    }

    /// The value as it is written in TOML.
    pub(super) fn toml_value(&self, config: &ServerConfig) -> String {
        match &self.kind {
            Kind::Number { get, .. } => grouped(get(config)),
            Kind::Text { get, .. } => format!("{:?}", get(config)),
        }
    }
}

/// Thousands apart, as TOML allows it: `1_048_576`.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}
