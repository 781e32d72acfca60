//! Clients that are programs of their own: started with the work as arguments, they print what came of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::latency::Latencies;
use crate::peer::{Probe, Transferred};
use crate::work::Load;

/// What [`flowstone_disk::keep_freed_memory`] does for the clients in this process.
const KEEP_FREED_MEMORY: &str =
    "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=67108864";

/// Runs a client to its end and answers with what it printed.
///
/// # Errors
/// When it fails, with what it said.
pub(crate) fn run(program: &Path, arguments: &[String]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("GLIBC_TUNABLES", KEEP_FREED_MEMORY)
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} {} has failed: {}",
            program.display(),
            arguments.join(" "),
            said.trim()
        );
    }
    String::from_utf8(output.stdout).context("the client prints no text")
}

/// Producers, bytes of a value, bytes of all values, and seconds, as all clients take them.
pub(crate) fn load_arguments(load: &Load) -> Vec<String> {
    vec![
        load.producers.to_string(),
        load.value_bytes.to_string(),
        load.bound.bytes.to_string(),
        load.bound.time.as_secs_f64().to_string(),
    ]
}

/// Bytes of a value, seconds, and appends a second, as all clients take them.
pub(crate) fn probe_arguments(probe: &Probe) -> Vec<String> {
    vec![
        probe.value_bytes.to_string(),
        probe.time.as_secs_f64().to_string(),
        probe.per_second.unwrap_or(0).to_string(),
    ]
}

/// Reads `records bytes seconds`.
///
/// # Errors
/// When it is anything else.
pub(crate) fn transferred(printed: &str) -> Result<Transferred> {
    let fields: Vec<&str> = printed.split_whitespace().collect();
    let [records, bytes, seconds] = fields[..] else {
        bail!("the client printed {printed:?}");
    };
    let what = || format!("the client printed {printed:?}");
    Ok(Transferred {
        records: records.parse().with_context(what)?,
        bytes: bytes.parse().with_context(what)?,
        seconds: seconds.parse().with_context(what)?,
    })
}

/// As [`transferred`], and checks that it is all that was produced.
///
/// # Errors
/// When it is less or more.
pub(crate) fn replayed(printed: &str, produced: &Transferred) -> Result<Transferred> {
    let read = transferred(printed)?;
    if (read.records, read.bytes) != (produced.records, produced.bytes) {
        bail!("{} records came back of {}", read.records, produced.records);
    }
    Ok(read)
}

/// Reads nanoseconds, a line each.
///
/// # Errors
/// When there are none, or something else.
pub(crate) fn latencies(printed: &str) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for line in printed.lines() {
        let nanos = line
            .parse()
            .with_context(|| format!("the client printed {line:?}"))?;
        latencies.record(Duration::from_nanos(nanos));
    }
    if latencies.percentiles().count == 0 {
        bail!("the client measured nothing");
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_prints_is_read() {
        let read = transferred("10 1000 0.5\n").unwrap();
        assert_eq!((read.records, read.bytes, read.seconds), (10, 1000, 0.5));
        assert!(transferred("10 1000").is_err());
        assert!(replayed("9 900 0.5", &read).is_err());
        assert_eq!(latencies("5\n7\n").unwrap().percentiles().count, 2);
        assert!(latencies("").is_err());
    }

    #[test]
    fn a_client_that_fails_is_told_with_what_it_said() {
        let arguments = ["-c", "echo no broker >&2; exit 1"].map(str::to_owned);
        let error = run(Path::new("/bin/sh"), &arguments)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no broker"), "{error}");
    }
}
