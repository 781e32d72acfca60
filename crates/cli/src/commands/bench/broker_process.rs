//! What the broker costs while it is measured: CPU time and memory of its process, as `/proc` tells
//! them. Only where the broker runs on this machine and may be looked at.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;

/// Clock ticks a second in `/proc/PID/stat`: the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The broker's process, from when the measurement began.
#[derive(Debug)]
pub(super) struct BrokerProcess {
    pid: u32,
    cpu_seconds_before: f64,
    /// Looks at the memory every now and then, and ends with the most that it has seen.
    sampler: JoinHandle<()>,
    most_anonymous: tokio::sync::watch::Receiver<u64>,
}

/// What a measurement has cost the broker.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Cost {
    pub(super) cpu_seconds: f64,
    /// The most anonymous memory that was seen, in bytes: without mapped files.
    pub(super) anonymous_bytes_max: u64,
}

impl BrokerProcess {
    /// Begins to watch the process that listens at this address, if it is on this machine.
    pub(super) fn watch(endpoint: &str) -> Option<Self> {
        let pid = listening_process(local_port(endpoint)?)?;
        let cpu_seconds_before = cpu_seconds(pid)?;
        let (sender, most_anonymous) = tokio::sync::watch::channel(anonymous_bytes(pid)?);
        let sampler = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SAMPLE_EVERY);
            loop {
                ticks.tick().await;
                let Some(bytes) = anonymous_bytes(pid) else {
                    return;
                };
                sender.send_modify(|most| *most = bytes.max(*most));
            }
        });
        Some(Self {
            pid,
            cpu_seconds_before,
            sampler,
            most_anonymous,
        })
    }

    /// What it has cost until now.
    pub(super) fn cost(&self) -> Option<Cost> {
        let seen = *self.most_anonymous.borrow();
        Some(Cost {
            cpu_seconds: cpu_seconds(self.pid)? - self.cpu_seconds_before,
            anonymous_bytes_max: anonymous_bytes(self.pid)?.max(seen),
        })
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

/// The port of an address on this machine.
fn local_port(endpoint: &str) -> Option<u16> {
    let address = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, rest)| rest);
    let address = address.to_socket_addrs().ok()?.next()?;
    let local = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    local.then(|| address.port())
}

/// The process that has a socket listening on this port.
fn listening_process(port: u16) -> Option<u32> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_sockets(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|&pid| has_open(pid, &sockets))
}

/// The inodes of the sockets that listen on this port, of a table as in `/proc/net/tcp`.
fn listening_sockets(table: &str, port: u16) -> Vec<String> {
    let port = format!("{port:04X}");
    let inode = |line: &str| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        let listens = state == LISTEN && local.rsplit(':').next() == Some(&port);
        listens.then(|| inode.to_owned())
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn has_open(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| sockets.iter().any(|socket| link == Path::new(socket)))
}

/// User and system time of all threads, also of those that have ended.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn anonymous_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_behind_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listening_process(port), Some(std::process::id()));
        drop(listener);
        assert_eq!(listening_process(port), None);
    }

    #[test]
    fn only_addresses_of_this_machine_have_a_process_here() {
        assert_eq!(local_port("http://127.0.0.1:7420"), Some(7420));
        assert_eq!(local_port("http://[::1]:7420"), Some(7420));
        assert_eq!(local_port("http://192.0.2.1:7420"), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).is_some());
        assert!(anonymous_bytes(pid).is_some_and(|bytes| bytes > 4096));
    }
}
