//! What the writer shows to all readers of a log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use flowstone_format::Offset;

use crate::error::Damage;
use crate::view::SegmentView;

/// The segments, and how far they may be read.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    high_watermark: AtomicU64,
    log_start_offset: AtomicU64,
    /// The segments in order of their offsets; replaced whole when one comes or goes.
    segments: RwLock<Arc<Vec<Arc<SegmentView>>>>,
    damage: RwLock<Option<Damage>>,
}

impl Shared {
    /// Shows what recovery found. The watermark comes last, so that no reader runs ahead of the segments.
    pub(crate) fn reset(
        &self,
        segments: Vec<Arc<SegmentView>>,
        log_start_offset: Offset,
        high_watermark: Offset,
        damage: Option<Damage>,
    ) {
        *self.damage.write().expect("no one panics holding it") = damage;
        self.set_segments(segments);
        self.set_log_start(log_start_offset);
        self.set_high_watermark(high_watermark);
    }

    pub(crate) fn set_segments(&self, segments: Vec<Arc<SegmentView>>) {
        *self.segments.write().expect("no one panics holding it") = Arc::new(segments);
    }

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<SegmentView>>> {
        Arc::clone(&self.segments.read().expect("no one panics holding it"))
    }

    pub(crate) fn push(&self, view: Arc<SegmentView>) {
        let mut segments = self.segments().to_vec();
        segments.push(view);
        self.set_segments(segments);
    }

    pub(crate) fn set_high_watermark(&self, offset: Offset) {
        self.high_watermark.store(offset.get(), Ordering::Release);
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::Acquire))
    }

    pub(crate) fn set_log_start(&self, offset: Offset) {
        self.log_start_offset.store(offset.get(), Ordering::Release);
    }

    pub(crate) fn log_start(&self) -> Offset {
        Offset::new(self.log_start_offset.load(Ordering::Acquire))
    }

    pub(crate) fn damage(&self) -> Option<Damage> {
        self.damage
            .read()
            .expect("no one panics holding it")
            .clone()
    }
}
