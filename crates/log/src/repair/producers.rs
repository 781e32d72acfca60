//! What a repaired partition remembers of its producers.

use std::path::PathBuf;
use std::sync::Arc;

use flowstone_disk::Env;
use flowstone_format::{Offset, SegmentEntry, producers_name};

use crate::dir::PartitionDir;
use crate::error::LogError;
use crate::producers::{ProducerBudget, ProducerState};
use crate::recover::producers;
use crate::repair::Repair;
use crate::repair::sources::Source;

impl Repair {
    /// The CRC of the producer snapshot that the MANIFEST to come lists for `entry`, which stands
    /// behind the segments `before` and has its frames from `origin`. A snapshot that is good stays.
    /// Where there is none it is written anew, from the snapshots and frames that are left. What was
    /// in frames that are lost is not made up for: their records are gone, so that a repeat of such a
    /// request has to be appended.
    pub(super) fn list_producers(
        &self,
        env: &Env,
        dir: &PartitionDir,
        before: &[SegmentEntry],
        entry: &SegmentEntry,
        origin: Option<&Source>,
        made: &mut Vec<PathBuf>,
    ) -> Result<u32, LogError> {
        let kept = origin.filter(|origin| origin.entry.id == entry.id);
        let same_base = origin.filter(|origin| origin.entry.base_offset == entry.base_offset);
        let budget = Arc::new(ProducerBudget::unlimited());
        let mut told = None;
        if let Some(origin) = same_base {
            told = self.told_by(dir, origin, &budget)?;
        }
        if let (Some((_, crc)), Some(_)) = (&told, kept) {
            return Ok(*crc);
        }
        let state = match (told, before.len().checked_sub(1)) {
            (Some((state, _)), _) => state,
            (None, Some(last)) => {
                let mut state = producers::at_base(dir, self.partition, before, last, &budget)?;
                producers::walk(dir, before, last, &mut state)?;
                state
            }
            (None, None) => {
                let mut state = ProducerState::new(&budget);
                if entry.base_offset > Offset::ZERO {
                    state.lose_upto(env.clock.now_ms());
                }
                state
            }
        };
        let snapshot = state.snapshot(self.partition, entry.id, entry.base_offset);
        let Some(snapshot) = snapshot else {
            return Ok(0);
        };
        let (bytes, crc) = snapshot.encode();
        let name = producers_name(entry.base_offset, entry.id);
        if dir.file_names()?.contains(&name) {
            dir.set_aside([name.as_str()])?;
        }
        let path = dir.path.join(name);
        dir.write_new_file(&path, &bytes)?;
        made.push(path);
        Ok(crc)
    }

    /// The state at the base of a segment as its snapshot tells, and the snapshot's CRC. `None` where
    /// the snapshot is not good, or where nothing says whether there was one.
    fn told_by(
        &self,
        dir: &PartitionDir,
        origin: &Source,
        budget: &Arc<ProducerBudget>,
    ) -> Result<Option<(ProducerState, u32)>, LogError> {
        let entry = &origin.entry;
        if origin.listed {
            let read = producers::read_snapshot(dir, self.partition, entry)?;
            return Ok(read.ok().map(|snapshot| {
                let state = match snapshot {
                    Some(snapshot) => ProducerState::of_snapshot(snapshot, budget),
                    None => ProducerState::new(budget),
                };
                (state, entry.producers_crc)
            }));
        }
        // Its own header is all that speaks of the segment; a snapshot of it is synced before that is
        // listed, and so is whole or was never needed.
        let path = dir.producers_path(entry.base_offset, entry.id);
        let bytes = match dir.read_file(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(LogError::Io { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let decoded = producers::decode_snapshot(&path, &bytes)?;
        Ok(decoded
            .ok()
            .filter(|(snapshot, _)| producers::is_of(snapshot, self.partition, entry))
            .map(|(snapshot, crc)| (ProducerState::of_snapshot(snapshot, budget), crc)))
    }
}
