//! Beginning a new segment: the one place where segments, and the producer snapshots beside them, begin.

use std::sync::Arc;

use flowstone_format::Manifest;
use uuid::Uuid;

use crate::active::{Active, Begin};
use crate::closing::Closing;
use crate::error::LogError;
use crate::log::Log;
use crate::open_segments::Changes;

impl Log {
    /// Ends the active segment and begins the next one. Does nothing when it holds no frame.
    ///
    /// # Errors
    /// As [`Log::append`]; for want of space the old segment stays active.
    pub fn roll(&mut self) -> Result<(), LogError> {
        self.sound()?;
        self.roll_now()
    }

    pub(crate) fn roll_now(&mut self) -> Result<(), LogError> {
        match &self.active {
            Some(active) if !active.is_empty() => self.begin_segment(),
            _ => Ok(()),
        }
    }

    /// Begins a new active segment. In this order: the old one is synced, the producer snapshot and
    /// the new file are made and synced with their names, the MANIFEST names them, and only then may
    /// anything be appended. An old one of which much is not synced is closing from then on instead.
    pub(crate) fn begin_segment(&mut self) -> Result<(), LogError> {
        self.write()?;
        self.close()?;
        let unsynced = self.active.as_ref().map_or(0, Active::unsynced_bytes);
        if unsynced <= self.config.roll_unsynced_bytes {
            self.sync()?;
        }
        if self.manifest.segments.is_empty() {
            self.dir.create()?;
        }
        let id = Uuid::from_bytes(self.env.random.uuid_bytes());
        let base = self.tail.next_offset;
        let snapshot = self.producers.snapshot(self.partition, id, base);
        let Some(snapshot) = snapshot else {
            return self.list_segment(id, 0);
        };
        let (bytes, crc) = snapshot.encode();
        drop(snapshot);
        let path = self.dir.producers_path(base, id);
        self.dir.write_new_file(&path, &bytes)?;
        let listed = self.list_segment(id, crc);
        if matches!(&listed, Err(error) if !matches!(error, LogError::SyncFailed { .. })) {
            // Nothing refers to it; should the removal fail, the next open moves it aside.
            let _ = self.dir.disk.remove_file(&path);
        }
        listed
    }

    /// Makes the file of a new segment and lists it. The directory's sync is that of its snapshot too.
    fn list_segment(&mut self, id: Uuid, producers_crc: u32) -> Result<(), LogError> {
        let begin = Begin {
            partition: self.partition,
            id,
            generation: self.manifest.generation.next(),
            producers_crc,
        };
        let new = Active::create(&self.env, &self.dir, &begin, &self.tail, &self.config)?;
        let manifest = self.manifest_with(&new);
        if let Err(error) = self.dir.write_manifest(&manifest) {
            if !matches!(error, LogError::SyncFailed { .. }) {
                new.discard(&self.dir);
            }
            return Err(error);
        }
        match self.install(manifest, new) {
            Some(old) if old.is_empty() => {
                if let Err(error) = self.dir.remove_segment(&old.entry) {
                    tracing::warn!(%error, "an empty segment's files are left until the next open");
                }
            }
            Some(old) if old.unsynced_bytes() > 0 => {
                self.closing = Some(Closing::new(old, self.tail.next_offset));
            }
            Some(old) => old.finish(&self.dir),
            None => {}
        }
        Ok(())
    }

    /// The MANIFEST that lists a new active segment.
    fn manifest_with(&self, new: &Active) -> Manifest {
        let mut manifest = self.manifest.clone();
        match &self.active {
            // It has no frame, so that the new one takes its place.
            Some(old) if old.is_empty() => drop(manifest.segments.pop()),
            Some(old) => {
                let listed = manifest.segments.last_mut();
                *listed.expect("the active segment is listed") = old.ended_entry(&self.tail);
            }
            None => {}
        }
        manifest.generation = new.entry.generation;
        manifest.segments.push(new.entry.clone());
        manifest
    }

    /// Goes on in a new segment, which the MANIFEST lists. Answers with the one before.
    fn install(&mut self, manifest: Manifest, new: Active) -> Option<Active> {
        self.manifest = manifest;
        self.tail.prev_header_crc = new.entry.header_crc;
        self.producers.segment_began();
        let view = Arc::clone(&new.view);
        let old = self.active.replace(new);
        let replaces = old.as_ref().is_some_and(Active::is_empty);
        self.shared.push(view, replaces);
        old
    }
}

/// A first segment whose files nothing refers to yet.
struct First<'a> {
    log: &'a mut Log,
    new: Active,
    manifest: Manifest,
    /// Of the new file, which the sync to come covers.
    changes: Changes,
}

/// Begins the first segments of logs that have none, with two syncs of the whole file system instead of five of files
/// and directories for each: new files and temporary MANIFESTs, a sync, all renames, a sync. A log for which that is
/// not possible is left as it was: its next append tries by itself, and tells why.
///
/// # Errors
/// [`LogError::SyncFailed`] has to end the process.
pub fn begin_first_segments<'a>(
    logs: impl IntoIterator<Item = &'a mut Log>,
) -> Result<(), LogError> {
    let firsts: Vec<_> = logs.into_iter().filter_map(First::prepare).collect();
    let Some(first) = firsts.first() else {
        return Ok(());
    };
    let dir = first.log.dir.clone();
    let sync_all = || {
        dir.disk
            .sync_all(&dir.path)
            .map_err(LogError::sync(&dir.path))
    };
    sync_all()?;
    let mut named = Vec::with_capacity(firsts.len());
    for first in firsts {
        match first.log.dir.name_manifest() {
            Ok(()) => named.push(first),
            Err(_) => first.new.discard(&first.log.dir),
        }
    }
    sync_all()?;
    for First {
        log,
        new,
        manifest,
        changes,
    } in named
    {
        new.file.synced(changes);
        log.install(manifest, new);
    }
    Ok(())
}

impl<'a> First<'a> {
    /// Makes the files; `None` if that fails, or if it takes more than these.
    fn prepare(log: &'a mut Log) -> Option<Self> {
        let id = Uuid::from_bytes(log.env.random.uuid_bytes());
        let has_segments = log.active.is_some() || !log.manifest.segments.is_empty();
        let snapshot = log
            .producers
            .snapshot(log.partition, id, log.tail.next_offset);
        if log.sound().is_err() || has_segments || snapshot.is_some() {
            return None;
        }
        log.dir.disk.create_dir_all(&log.dir.path).ok()?;
        let begin = Begin {
            partition: log.partition,
            id,
            generation: log.manifest.generation.next(),
            producers_crc: 0,
        };
        let new = Active::create_ahead(&log.env, &log.dir, &begin, &log.tail, &log.config).ok()?;
        let manifest = log.manifest_with(&new);
        if log.dir.write_manifest_ahead(&manifest).is_err() {
            new.discard(&log.dir);
            return None;
        }
        let changes = new.file.changes();
        Some(Self {
            log,
            new,
            manifest,
            changes,
        })
    }
}
