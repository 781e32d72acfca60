//! Writes what was planned, and switches to it.

use std::path::PathBuf;
use std::sync::Arc;

use flowstone_disk::Env;
use flowstone_format::{
    Manifest, SegmentEntry, SegmentState, index_name, is_segment_temp_name, manifest_aside_name,
};
use uuid::Uuid;

use crate::dir::PartitionDir;
use crate::error::LogError;
use crate::repair::sources::Source;
use crate::repair::{Planned, Repair};
use crate::tail::Tail;

impl Repair {
    /// Does it. All that is new is synced before the MANIFEST that lists it takes the old one's
    /// place; a crash before that leaves the partition as damaged as it was, and a repair can be
    /// begun again. Answers with the copy of the MANIFEST that was replaced, if there was one.
    ///
    /// # Errors
    /// When the disk fails or is full: then, unless a sync failed, the partition is as it was.
    pub fn execute(&self, env: &Env) -> Result<Option<PathBuf>, LogError> {
        let dir = PartitionDir::new(Arc::clone(&env.disk), &self.path);
        dir.create()?;
        for name in dir.file_names()? {
            if is_segment_temp_name(&name) {
                dir.remove_if_there(&dir.path.join(name))?;
            }
        }
        let mut segments: Vec<SegmentEntry> = Vec::new();
        let mut made = Vec::new();
        let switched = self
            .write_segments(env, &dir, &mut segments, &mut made)
            .and_then(|()| self.switch(env, &dir, segments));
        if let Err(error) = &switched
            && !matches!(error, LogError::SyncFailed { .. })
        {
            for path in made {
                // Nothing refers to it; should the removal fail, the next repair moves it aside.
                let _ = dir.disk.remove_file(&path);
            }
        }
        let copy = switched?;
        let aside: Vec<_> = self
            .aside
            .iter()
            .filter_map(|path| path.file_name()?.to_str())
            .collect();
        dir.set_aside(aside)?;
        Ok(copy)
    }

    fn write_segments(
        &self,
        env: &Env,
        dir: &PartitionDir,
        segments: &mut Vec<SegmentEntry>,
        made: &mut Vec<PathBuf>,
    ) -> Result<(), LogError> {
        for planned in &self.planned {
            let (mut entry, origin) = match planned {
                Planned::Keep(entry) => {
                    let same = |source: &&Source| source.entry.id == entry.id;
                    (entry.clone(), self.sources.iter().find(same))
                }
                Planned::Write(new, number) => {
                    let origin = number.map(|number| &self.sources[number]);
                    let source =
                        origin.and_then(|source| Some((&**source.file.as_ref()?, &source.entry)));
                    let tail = segments
                        .last()
                        .map_or(Tail::new(new.base_offset()), Tail::after);
                    let entry = new.write(env, dir, self.partition, source, &tail)?;
                    made.push(dir.segment_path(entry.base_offset, entry.id));
                    (entry, origin)
                }
            };
            entry.producers_crc = self.list_producers(env, dir, segments, &entry, origin, made)?;
            segments.push(entry);
        }
        if let Some((last, before)) = segments.split_last_mut()
            && last.state == SegmentState::Closing
        {
            // Nothing is left of what was behind it, so that it goes on.
            *last = last.as_begun(before.last());
        }
        dir.disk
            .sync_dir(&dir.path)
            .map_err(LogError::io("sync", &dir.path))
    }

    /// Replaces the MANIFEST, of which a copy is kept.
    fn switch(
        &self,
        env: &Env,
        dir: &PartitionDir,
        segments: Vec<SegmentEntry>,
    ) -> Result<Option<PathBuf>, LogError> {
        // The indexes of files that are cut speak of frames that do not count any more.
        for source in &self.sources {
            let entry = &source.entry;
            if !segments.contains(entry) {
                let index = index_name(entry.base_offset, entry.id);
                dir.remove_if_there(&dir.path.join(index))?;
            }
        }
        let copy = match dir.read_file(&dir.manifest_path()) {
            Ok(Some(bytes)) => {
                let id = Uuid::from_bytes(env.random.uuid_bytes());
                Some(dir.keep_copy(&manifest_aside_name(id), &bytes)?)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "no copy of the old MANIFEST can be kept");
                None
            }
        };
        dir.write_manifest(&Manifest {
            partition: self.partition,
            generation: self.generation,
            log_start_offset: self.log_start_offset,
            segments,
        })?;
        Ok(copy)
    }
}
