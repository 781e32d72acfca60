//! What the writer shows to all readers of a log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// The first place that is not believed, whoever found it.
    damage: RwLock<Option<Damage>>,
    /// Whether there is such a place, for those who look often.
    damaged: AtomicBool,
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
        self.set_damage(|known| {
            // What readers have found stays found.
            let before = known.take_if(|known| known.offset >= log_start_offset);
            *known = before.into_iter().chain(damage).min_by_key(|d| d.offset);
        });
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

    /// Adds a segment at the end. The last one goes if the new one takes its place.
    pub(crate) fn push(&self, view: Arc<SegmentView>, replaces_last: bool) {
        let mut segments = self.segments().to_vec();
        if replaces_last {
            segments.pop();
        }
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

    /// The end of what can be read, which damage cuts short.
    pub(crate) fn readable_end(&self) -> Offset {
        let end = self.high_watermark();
        self.damage().map_or(end, |damage| damage.offset.min(end))
    }

    pub(crate) fn damage(&self) -> Option<Damage> {
        if !self.damaged.load(Ordering::Acquire) {
            return None;
        }
        self.damage
            .read()
            .expect("no one panics holding it")
            .clone()
    }

    /// Takes note of damage that was found while the log is in use. The first place counts; one
    /// below the log start harms nobody.
    pub(crate) fn note_damage(&self, found: &Damage) {
        self.set_damage(|known| {
            let first = known.as_ref().is_none_or(|d| found.offset < d.offset);
            if first && found.offset >= self.log_start() {
                *known = Some(found.clone());
            }
        });
    }

    /// Forgets damage that now lies below the log start.
    pub(crate) fn forget_trimmed_damage(&self) {
        let start = self.log_start();
        self.set_damage(|known| drop(known.take_if(|known| known.offset < start)));
    }

    fn set_damage(&self, change: impl FnOnce(&mut Option<Damage>)) {
        let mut damage = self.damage.write().expect("no one panics holding it");
        change(&mut damage);
        self.damaged.store(damage.is_some(), Ordering::Release);
    }
}
