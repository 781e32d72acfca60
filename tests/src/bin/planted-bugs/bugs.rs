//! The bugs: what a tired developer could write, each of which would lose or invent a record, or hide damage.

/// A bug: one place in one file, as it is and as it would be wrong.
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    /// Stands in the file exactly once.
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// Whose tests have to catch it; of none, the explorer of crashes has to.
    pub(crate) packages: &'static [&'static str],
}

const LOG: &[&str] = &["flowstone-log"];
const BROKER: &[&str] = &["flowstone-broker"];
const EXPLORER: &[&str] = &[];

pub(crate) const BUGS: &[Bug] = &[
    Bug {
        name: "data-is-not-synced",
        file: "crates/log/src/active.rs",
        from: "self.file.sync_data().map_err(LogError::sync(&self.path))?;",
        to: "",
        packages: LOG,
    },
    Bug {
        name: "recovery-does-not-sync",
        file: "crates/log/src/recover/active.rs",
        from: "    make_durable(&active, floor)?;",
        to: "    let _ = (floor, make_durable);",
        packages: LOG,
    },
    Bug {
        name: "recovery-does-not-rewrite",
        file: "crates/log/src/recover/active.rs",
        from: ".write_all_at(&bytes, at)",
        to: ".write_all_at(&bytes[..0], at)",
        packages: LOG,
    },
    Bug {
        name: "manifest-is-not-synced",
        file: "crates/log/src/dir.rs",
        from: ".and_then(|()| file.sync_all().map_err(LogError::io(\"sync\", path)))",
        to: "",
        packages: LOG,
    },
    Bug {
        name: "manifest-name-is-not-synced",
        file: "crates/log/src/dir.rs",
        from: "            .sync_dir(&self.path)\n            .map_err(LogError::sync(&self.path))",
        to: "            .list(&self.path)\n            .map(drop)\n            .map_err(LogError::sync(&self.path))",
        packages: LOG,
    },
    Bug {
        name: "segment-header-is-not-synced",
        file: "crates/log/src/active.rs",
        from: ".and_then(|()| file.sync_all().map_err(LogError::io(\"sync\", &path)))",
        to: "",
        packages: LOG,
    },
    Bug {
        name: "segment-name-is-not-synced",
        file: "crates/log/src/active.rs",
        from: ".sync_dir(&dir.path)",
        to: ".list(&dir.path)\n                    .map(drop)",
        packages: LOG,
    },
    Bug {
        name: "roll-does-not-sync-the-old",
        file: "crates/log/src/roll.rs",
        from: "    pub(crate) fn begin_segment(&mut self) -> Result<(), LogError> {\n        self.sync()?;",
        to: "    pub(crate) fn begin_segment(&mut self) -> Result<(), LogError> {\n        self.write()?;",
        packages: LOG,
    },
    Bug {
        name: "files-go-before-the-manifest",
        file: "crates/log/src/retain.rs",
        from: "        self.write_manifest_of(manifest)?;\n        self.shared",
        to: "        for entry in &dropped {\n            self.dir.remove_if_there(&self.dir.segment_path(entry.base_offset, entry.id))?;\n        }\n        self.write_manifest_of(manifest)?;\n        self.shared",
        packages: LOG,
    },
    Bug {
        name: "every-bad-tail-is-torn",
        file: "crates/log/src/recover/torn.rs",
        from: "    if last_nonzero + 1 < end {",
        to: "    if last_nonzero + 1 < end || own_len > 0 {",
        packages: LOG,
    },
    Bug {
        name: "read-error-is-a-torn-tail",
        file: "crates/log/src/recover/active.rs",
        from: "Err(ScanError::Io(error)) => return Err(error),",
        to: "Err(ScanError::Io(error)) => {\n                break Some(Bad { frame_len: None, newer: false, detail: error.to_string() });\n            }",
        packages: LOG,
    },
    Bug {
        name: "floor-is-ignored",
        file: "crates/log/src/recover/active.rs",
        from: "let slot = floor.filter(|slot| slot.generation == entry.generation);",
        to: "let slot = floor.filter(|_| false);",
        packages: LOG,
    },
    Bug {
        name: "later-proof-is-ignored",
        file: "crates/log/src/recover/active.rs",
        from: "*floor = (*floor).max(behind);",
        to: "let _ = behind;",
        packages: LOG,
    },
    Bug {
        name: "stale-manifest-is-believed",
        file: "crates/log/src/recover/files.rs",
        from: "if later && holds_records(dir, name)? {",
        to: "if later && !holds_records(dir, name)? {",
        packages: LOG,
    },
    Bug {
        name: "missing-manifest-means-empty",
        file: "crates/log/src/recover.rs",
        from: "    if let Some(detail) = detail {",
        to: "    if let Some(detail) = detail.filter(|_| false) {",
        packages: LOG,
    },
    Bug {
        name: "payload-checksum-is-not-checked",
        file: "crates/log/src/view.rs",
        from: ".check_payload(&payload)",
        to: ".check_payload(&payload)\n            .or(Ok::<(), flowstone_format::FrameError>(()))",
        packages: LOG,
    },
    Bug {
        name: "watermark-off-by-one",
        file: "crates/log/src/reader.rs",
        from: "        let high_watermark = self.high_watermark();\n        let segments = self.shared.segments();\n        let log_start_offset",
        to: "        let high_watermark = self.high_watermark().saturating_add(1);\n        let segments = self.shared.segments();\n        let log_start_offset",
        packages: LOG,
    },
    Bug {
        name: "append-time-goes-back",
        file: "crates/log/src/log.rs",
        from: "append_ms: self.tail.last_append_ms.max(batch.append_ms),",
        to: "append_ms: batch.append_ms,",
        packages: LOG,
    },
    Bug {
        name: "failed-sync-is-tried-again",
        file: "crates/log/src/log.rs",
        from: "            self.poisoned = synced.is_err();",
        to: "            self.poisoned = false;",
        packages: LOG,
    },
    Bug {
        name: "reopen-forgets-what-it-knew",
        file: "crates/log/src/log.rs",
        from: "floor.into_iter().chain(self.floor()).max_by_key(place)",
        to: "floor.into_iter().max_by_key(place)",
        packages: LOG,
    },
    Bug {
        name: "ack-before-sync",
        file: "crates/broker/src/append/worker.rs",
        from: "        if waiting.acks == Acks::Written {",
        to: "        if waiting.acks == Acks::Written || waiting.acks == Acks::Durable {",
        packages: BROKER,
    },
    Bug {
        name: "failed-sync-does-not-end-it",
        file: "crates/broker/src/append/worker.rs",
        from: "        LogError::SyncFailed { .. } => Some(error.to_string()),\n        _ if",
        to: "        LogError::SyncFailed { .. } => None,\n        _ if",
        packages: BROKER,
    },
    Bug {
        name: "start-does-not-sync-the-disk",
        file: "crates/broker/src/open/directory.rs",
        from: "    disk.sync_all(dir).map_err(failed(\"sync\", dir))?;\n",
        to: "",
        packages: EXPLORER,
    },
    Bug {
        name: "internal-log-answers-before-sync",
        file: "crates/broker/src/internal.rs",
        from: "acks: Acks::Durable",
        to: "acks: Acks::Written",
        packages: EXPLORER,
    },
    Bug {
        name: "snapshot-trims-before-it-is-whole",
        file: "crates/broker/src/internal/snapshot.rs",
        from: "        finish_entry(self.start_entry(core, EntryKind::End(SnapshotEnd {}))).await?;\n",
        to: "        self.with_log(core, |log| log.trim(begin).map(|_: Offset| ()))?;\n        finish_entry(self.start_entry(core, EntryKind::End(SnapshotEnd {}))).await?;\n",
        packages: EXPLORER,
    },
    Bug {
        name: "floor-header-is-believed",
        file: "crates/log/src/floor.rs",
        from: "                match floor.write_header() {",
        to: "                match Ok(()) {",
        packages: LOG,
    },
];
