//! Which records of a request go to which partition.

mod murmur2;

use std::ops::Range;

use flowstone_format::{Record, RecordError, RecordLimits, Records, leading_records};

pub(crate) use murmur2::murmur2;

/// What one partition gets of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The partition.
    pub(crate) partition: u32,
    /// Byte ranges of whole records in the request, in order; no two of them touch.
    pub(crate) runs: Vec<Range<usize>>,
    /// How many records these are.
    pub(crate) record_count: u32,
}

/// A request, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routed {
    /// The parts, by their first record.
    pub(crate) parts: Vec<Part>,
    /// The request's records in order: so many consecutive ones of the part with this index.
    pub(crate) order: Vec<(u32, u32)>,
}

/// Where records go that a request does not place itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// All to this partition.
    Fixed(u32),
    /// By key; those without one to `keyless`.
    ByKey {
        /// How many partitions there are.
        partition_count: u32,
        /// The partition of the records without a key.
        keyless: u32,
    },
}

impl Placement {
    /// The partition that all records go to, whatever they are.
    fn only(self) -> Option<u32> {
        match self {
            Self::Fixed(partition) => Some(partition),
            Self::ByKey {
                partition_count: 1, ..
            } => Some(0),
            Self::ByKey { .. } => None,
        }
    }

    fn of(self, record: &Record<'_>) -> u32 {
        match self {
            Self::Fixed(partition) => partition,
            Self::ByKey {
                partition_count,
                keyless,
            } => record.key.map_or(keyless, |key| {
                (murmur2(key) & 0x7fff_ffff) % partition_count
            }),
        }
    }
}

/// Scans a request's records and sorts them by partition. Where all go to one, they are only counted, unless that was
/// done: building its frame scans them.
pub(crate) fn route(
    request: &[u8],
    counted: Option<u32>,
    limits: &RecordLimits,
    placement: Placement,
) -> Result<Routed, RecordError> {
    if let Some(partition) = placement.only()
        && let Some(record_count) = counted.or_else(|| count(request))
        && record_count <= limits.max_records
    {
        return Ok(Routed::whole(partition, request.len(), record_count));
    }
    let mut routed = Routed::default();
    let mut parts = PartIndex::default();
    for item in Records::new(request, limits) {
        let (range, record) = item?;
        routed.add(&mut parts, placement.of(&record), range);
    }
    Ok(routed)
}

/// How many records a run has, if it is nothing else.
fn count(run: &[u8]) -> Option<u32> {
    let (end, count) = leading_records(run);
    (end == run.len()).then_some(count)
}

impl Routed {
    fn whole(partition: u32, bytes: usize, record_count: u32) -> Self {
        Self {
            parts: vec![Part {
                partition,
                runs: std::iter::once(0..bytes).collect(),
                record_count,
            }],
            order: vec![(0, record_count)],
        }
    }

    fn add(&mut self, index: &mut PartIndex, partition: u32, range: Range<usize>) {
        let at = match self.order.last_mut() {
            Some((at, count)) if self.parts[*at as usize].partition == partition => {
                *count += 1;
                *at
            }
            _ => {
                let at = index.find_or_add(partition, self.parts.len() as u32);
                self.order.push((at, 1));
                at
            }
        };
        if at as usize == self.parts.len() {
            self.parts.push(Part {
                partition,
                runs: Vec::new(),
                record_count: 0,
            });
        }
        let part = &mut self.parts[at as usize];
        part.record_count += 1;
        match part.runs.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => part.runs.push(range),
        }
    }
}

/// The index of each partition's part: a table by partition, grown as far as partitions are seen.
#[derive(Default)]
struct PartIndex(Vec<u32>);

impl PartIndex {
    const NONE: u32 = u32::MAX;

    fn find_or_add(&mut self, partition: u32, next: u32) -> u32 {
        let partition = partition as usize;
        if partition >= self.0.len() {
            self.0.resize(partition + 1, Self::NONE);
        }
        let entry = &mut self.0[partition];
        if *entry == Self::NONE {
            *entry = next;
        }
        *entry
    }
}

#[cfg(test)]
mod tests;
