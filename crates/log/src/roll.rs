//! Beginning a new segment: the one place where segments, and the producer snapshots beside them, begin.

use std::sync::Arc;

use uuid::Uuid;

use crate::active::{Active, Begin};
use crate::error::LogError;
use crate::log::Log;

impl Log {
    /// Seals the active segment and begins the next one. Does nothing when it holds no frame.
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
    /// anything be appended.
    pub(crate) fn begin_segment(&mut self) -> Result<(), LogError> {
        self.sync()?;
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
        let mut manifest = self.manifest.clone();
        match &self.active {
            // It has no frame, so that the new one takes its place.
            Some(old) if old.is_empty() => drop(manifest.segments.pop()),
            Some(old) => {
                let listed = manifest.segments.last_mut();
                *listed.expect("the active segment is listed") = old.sealed_entry(&self.tail);
            }
            None => {}
        }
        manifest.generation = begin.generation;
        manifest.segments.push(new.entry.clone());
        if let Err(error) = self.dir.write_manifest(&manifest) {
            if !matches!(error, LogError::SyncFailed { .. }) {
                // Nothing refers to the new file; should the removal fail, the next open moves it aside.
                let _ = self.dir.disk.remove_file(&new.path);
            }
            return Err(error);
        }
        self.manifest = manifest;
        self.tail.prev_header_crc = new.entry.header_crc;
        self.producers.segment_began();
        let view = Arc::clone(&new.view);
        let old = self.active.replace(new);
        let replaces = old.as_ref().is_some_and(Active::is_empty);
        self.shared.push(view, replaces);
        match old {
            Some(old) if replaces => {
                if let Err(error) = self.dir.remove_segment(&old.entry) {
                    tracing::warn!(%error, "an empty segment's files are left until the next open");
                }
            }
            Some(old) => old.finish(&self.dir),
            None => {}
        }
        Ok(())
    }
}
