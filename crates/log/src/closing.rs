//! A segment that has ended before all of it was on disk: frames go to the next one while it is synced.
//!
//! The MANIFEST lists it as closing before anything is appended behind it, and as sealed once it is on disk. Nothing
//! behind it is durable before that. So where a start finds one that is closing, no frame behind it was ever
//! acknowledged after a sync, or shown to a reader.

use flowstone_format::{Offset, SegmentState};

use crate::active::Active;
use crate::error::LogError;
use crate::log::Log;
use crate::syncs::UnsyncedPart;

/// The segment before the active one.
#[derive(Debug)]
pub(crate) struct Closing {
    segment: Active,
    end_offset: Offset,
}

impl Closing {
    /// Of a segment that was written whole and ends at `end_offset`.
    pub(crate) fn new(segment: Active, end_offset: Offset) -> Self {
        debug_assert_eq!(segment.written_end, segment.staged_end);
        Self {
            segment,
            end_offset,
        }
    }

    pub(crate) fn segment(&self) -> &Active {
        &self.segment
    }

    pub(crate) fn durable_offset(&self) -> Offset {
        self.segment.durable_offset
    }

    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.segment.unsynced_bytes()
    }

    /// What a sync has to make durable. Nothing is left of it where only the MANIFEST could not be written.
    pub(crate) fn unsynced(&self) -> UnsyncedPart {
        self.segment.written(self.end_offset)
    }

    pub(crate) fn is_of(&self, part: &UnsyncedPart) -> bool {
        self.segment.entry.generation == part.generation
    }

    pub(crate) fn synced(&mut self, part: &UnsyncedPart) {
        self.segment.part_synced(part);
    }
}

impl Log {
    /// Waits until the segment that is closing is on disk, if there is one, and seals it.
    pub(crate) fn close(&mut self) -> Result<(), LogError> {
        let Some(closing) = self.closing.as_mut() else {
            return Ok(());
        };
        let synced = closing.segment.sync(closing.end_offset);
        self.poisoned = synced.is_err();
        synced?;
        self.seal_closed()
    }

    /// Lets the MANIFEST say that the segment that was closing is sealed, if all of it is on disk.
    pub(crate) fn seal_closed(&mut self) -> Result<(), LogError> {
        let is_durable = |closing: &mut Closing| closing.unsynced_bytes() == 0;
        let Some(closing) = self.closing.take_if(is_durable) else {
            return Ok(());
        };
        let mut manifest = self.manifest.clone();
        for entry in &mut manifest.segments {
            if entry.state == SegmentState::Closing {
                entry.state = SegmentState::Sealed;
            }
        }
        if let Err(error) = self.dir.write_manifest(&manifest) {
            self.closing = Some(closing);
            return Err(error);
        }
        self.manifest = manifest;
        closing.segment.finish(&self.dir);
        Ok(())
    }
}
