//! Checks sealed segments as they lie on the medium, while the log is in use.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowstone_disk::{Disk, File, OpenMode};
use flowstone_format::{
    Offset, PartitionId, Position, SEGMENT_HEADER_LEN, SegmentEntry, SegmentHeader, SegmentState,
};

use crate::active::FIRST_FRAME;
use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};
use crate::log::Log;
use crate::recover::files::mismatch;
use crate::recover::producers;
use crate::scan::{Bad, FrameAt, Scan, ScanError, check_records};
use crate::tail::Tail;
use crate::view::is_passing;

/// A sealed segment by itself: it can be checked without the log, which goes on meanwhile.
#[derive(Debug)]
pub struct SealedSegment {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    partition: PartitionId,
    entry: SegmentEntry,
    previous: Option<SegmentEntry>,
}

/// What a check of a segment has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Every byte is as it was written.
    Sound,
    /// The first place that is not. What lies behind it was not looked at.
    Damaged(Damage),
    /// The check was broken off.
    BrokenOff,
}

impl Log {
    /// The sealed segments that hold something to read, in order.
    #[must_use]
    pub fn sealed_segments(&self) -> Vec<SealedSegment> {
        let start = self.manifest.log_start_offset;
        let mut previous: Option<&SegmentEntry> = None;
        let mut sealed = Vec::new();
        for entry in &self.manifest.segments {
            if entry.state == SegmentState::Sealed && entry.end_offset > start {
                sealed.push(SealedSegment {
                    disk: Arc::clone(&self.dir.disk),
                    path: self.dir.segment_path(entry.base_offset, entry.id),
                    partition: self.partition,
                    entry: entry.clone(),
                    previous: previous.cloned(),
                });
            }
            previous = Some(entry);
        }
        sealed
    }
}

impl SealedSegment {
    /// The segment file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The offset that it ends before.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.entry.end_offset
    }

    /// The damage of a segment whose file is gone.
    #[must_use]
    pub fn missing(&self) -> Damage {
        self.damage(
            self.entry.start_offset,
            Position::ZERO,
            "it is missing".into(),
        )
    }

    /// Reads the segment from the medium and checks every frame of it: header, chain, payload,
    /// records. `read` hears how many bytes each step has taken, and may break the check off.
    ///
    /// # Errors
    /// When the file cannot be opened, or cannot be read for a reason that says nothing of the
    /// medium.
    pub fn check(&self, mut read: impl FnMut(u64) -> ControlFlow<()>) -> Result<Checked, LogError> {
        let file = self
            .disk
            .open(&self.path, OpenMode::ReadDirect)
            .map_err(LogError::io("open", &self.path))?;
        if let Some(damage) = self.check_header(&*file)? {
            return Ok(Checked::Damaged(damage));
        }
        if read(SEGMENT_HEADER_LEN).is_break() {
            return Ok(Checked::BrokenOff);
        }
        self.check_snapshot()?;
        let mut wrong = None;
        let walked = walk(
            &*file,
            &self.entry,
            self.previous.as_ref(),
            |frame, payload| {
                if let Err(detail) = check_records(&frame.header, payload) {
                    wrong = Some(self.damage(frame.header.base_offset, frame.position, detail));
                    return ControlFlow::Break(());
                }
                read(frame.header.frame_len())
            },
        );
        match walked {
            Ok(ControlFlow::Continue(())) => Ok(Checked::Sound),
            Ok(ControlFlow::Break(())) => Ok(wrong.map_or(Checked::BrokenOff, Checked::Damaged)),
            Err(Broken {
                source: Some(source),
                ..
            }) if is_passing(&source) => Err(LogError::io("read", &self.path)(source)),
            Err(broken) => {
                let Broken {
                    offset,
                    position,
                    detail,
                    ..
                } = broken;
                Ok(Checked::Damaged(self.damage(offset, position, detail)))
            }
        }
    }

    /// A producer snapshot that is bad takes nothing offline: older files may tell the same, and the
    /// next segment gets a good one. But it is told.
    fn check_snapshot(&self) -> Result<(), LogError> {
        let dir = self.path.parent().expect("a segment lies in a directory");
        let dir = PartitionDir::new(Arc::clone(&self.disk), dir);
        if let Err(detail) = producers::read_snapshot(&dir, self.partition, &self.entry)? {
            let path = dir.producers_path(self.entry.base_offset, self.entry.id);
            tracing::error!(file = %path.display(), detail, "a producer snapshot is not as it was written");
        }
        Ok(())
    }

    fn check_header(&self, file: &dyn File) -> Result<Option<Damage>, LogError> {
        let len = file.len().map_err(LogError::io("measure", &self.path))?;
        let end = self.entry.end_position;
        let detail = if len < end.get() {
            Some(format!("it has {len} bytes, and {end} were synced"))
        } else {
            let mut bytes = vec![0; usize::try_from(SEGMENT_HEADER_LEN).expect("a small number")];
            match file.read_exact_at(&mut bytes, 0) {
                Ok(()) => match SegmentHeader::decode(&bytes) {
                    Ok((header, crc)) => mismatch(self.partition, &self.entry, &header, crc),
                    Err(error) => Some(error.to_string()),
                },
                Err(error) if is_passing(&error) => {
                    return Err(LogError::io("read", &self.path)(error));
                }
                Err(error) => Some(format!("it could not be read: {error}")),
            }
        };
        Ok(detail.map(|detail| self.damage(self.entry.start_offset, Position::ZERO, detail)))
    }

    fn damage(&self, offset: Offset, position: Position, detail: String) -> Damage {
        Damage {
            offset,
            path: self.path.clone(),
            position,
            detail,
        }
    }
}

/// The first place of a sealed segment that is not as it was written.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) offset: Offset,
    pub(crate) position: Position,
    pub(crate) detail: String,
    /// Set where it could not be read.
    source: Option<io::Error>,
}

/// Walks through the frames of a sealed segment, each checked by itself and against the one before,
/// and the last against the segment's entry. `on_frame` gets every valid frame and its payload.
pub(crate) fn walk(
    file: &dyn File,
    entry: &SegmentEntry,
    previous: Option<&SegmentEntry>,
    mut on_frame: impl FnMut(&FrameAt, &[u8]) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Broken> {
    let (tail, end) = (Tail::before(entry, previous), entry.end_position.get());
    let mut scan = Scan::new(file, entry.salt, FIRST_FRAME, end, tail);
    let (detail, source) = loop {
        match scan.next_frame() {
            Ok(Some(frame)) => {
                if on_frame(&frame, scan.payload(&frame)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(None) if scan.tail() == Tail::after(entry) => return Ok(ControlFlow::Continue(())),
            Ok(None) => break ("it ends otherwise than the MANIFEST says".to_owned(), None),
            Err(ScanError::Bad(Bad { detail, .. })) => break (detail, None),
            Err(ScanError::Io(error)) => {
                break (format!("it could not be read: {error}"), Some(error));
            }
        }
    };
    Err(Broken {
        offset: scan.tail().next_offset,
        position: scan.position(),
        detail,
        source,
    })
}
