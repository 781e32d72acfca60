//! What a replay has to copy: where it begins and ends in each partition, and what an earlier attempt
//! has left unsure.
//!
//! Each partition of the source is copied by a producer of its own, whose name the same command finds
//! again. A request's sequence tells which offsets of the source it holds, so that the last one can be
//! repeated exactly, whatever the range reads as by then.

use std::fmt;
use std::future::ready;
use std::str::FromStr;

use anyhow::Result;
use flowstone_client::{Client, Error, FetchRequest, Start};
use futures_util::stream::{StreamExt, TryStreamExt, iter};

use super::{ReplayArgs, check_partitions};
use crate::exit::Failure;
use crate::position::{Position, Span};
use crate::units::show_many;

/// How many offsets one request may span: what its length in the sequence can tell.
pub(super) const SPAN_MAX: i64 = (1 << SPAN_BITS) - 1;
const SPAN_BITS: u32 = 20;

/// So many calls for a partition each are under way at the same time: the broker looks at the whole topic for each.
const CALLS_AT_ONCE: usize = 16;

/// Of more partitions that go on where they had stopped it is told only how many they are.
const TOLD_ONE_BY_ONE: usize = 16;

/// A producer's id is at most 128 bytes, and holds the source's id and a partition too.
const RUN_NAME_BYTES_MAX: usize = 64;

/// A range as it was written, which names the run unless told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    text: String,
    span: Span,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self {
            text: text.to_owned(),
            span: text.parse()?,
        })
    }
}

/// What a run is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunName(String);

impl FromStr for RunName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.len() {
            0 => Err("it is empty".to_owned()),
            1..=RUN_NAME_BYTES_MAX => Ok(Self(text.to_owned())),
            bytes => Err(format!(
                "it has {bytes} bytes, and at most {RUN_NAME_BYTES_MAX} are allowed"
            )),
        }
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One partition of the source.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) partition: i32,
    /// The source's id: a topic that is made anew meanwhile is another one.
    pub(super) topic_id: String,
    /// Under which name and epoch it is copied.
    pub(super) producer_id: String,
    pub(super) epoch: i32,
    /// The last request of an earlier attempt, to be repeated first: perhaps not all of it is there.
    pub(super) unsure: Option<std::ops::Range<i64>>,
    /// What is to be copied after that.
    pub(super) offsets: std::ops::Range<i64>,
}

/// What one request may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLimits {
    pub(super) bytes: usize,
    pub(super) records: usize,
}

/// All that is to be copied.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    pub(super) limits: RequestLimits,
    /// To be told once all that can be read was copied.
    pub(super) damage: Option<Error>,
    told: Vec<String>,
}

impl Plan {
    /// Looks everything up, and ends what another process of the same run does.
    pub(super) async fn make(client: &Client, args: &ReplayArgs) -> Result<Self> {
        let (source, _) = client.get_topic(&args.topic).await?;
        let (target, _) = client.get_topic(&args.to).await?;
        check_partitions(args, source.partition_count, target.partition_count)?;
        let run = run_name(args)?;
        let span = args.offset.as_ref().map_or(Span::default(), |o| o.span);
        let begins = list(client, args, span.from.unwrap_or(Position::Start)).await?;
        let ends = list(client, args, span.to.unwrap_or(Position::End)).await?;
        let limits = client.cluster().await?.limits.unwrap_or_default();
        let mut plan = Self {
            parts: Vec::new(),
            limits: RequestLimits::new(limits.max_request_bytes, limits.max_records_per_request),
            damage: client.find_damage(&args.topic, &args.partitions).await?,
            told: Vec::new(),
        };
        let way = if args.same_partitions { "same" } else { "key" };
        let opened: Vec<_> = iter(&begins)
            .map(|(partition, ..)| {
                let producer_id = format!("replay/{}/{partition}/{way}/{run}", source.id);
                async move {
                    let opened = client.open_producer(&args.to, &producer_id).await;
                    opened.map(|(epoch, last)| (producer_id, epoch, last))
                }
            })
            .buffered(CALLS_AT_ONCE)
            .try_collect()
            .await?;
        let mut resumed = Vec::new();
        let places = begins.iter().zip(&ends).zip(opened);
        for ((&(partition, begin, log_start), &(_, end, _)), (producer_id, epoch, last)) in places {
            let mut part = Part {
                partition,
                topic_id: source.id.clone(),
                producer_id,
                epoch,
                unsure: None,
                offsets: begin..end.max(begin),
            };
            if last > 0 {
                let last = offsets_of(last);
                resumed.push((partition, last.end));
                plan.go_on(&mut part, last, log_start);
            } else if begin < log_start {
                plan.told.push(format!(
                    "warning: partition {partition}: offsets {begin} to {} were removed and cannot be \
                     copied",
                    log_start - 1
                ));
            }
            part.offsets.start = part.offsets.start.max(log_start).min(part.offsets.end);
            plan.parts.push(part);
        }
        plan.told.splice(..0, told_of(&resumed));
        Ok(plan)
    }

    /// An earlier attempt has come this far.
    fn go_on(&mut self, part: &mut Part, last: std::ops::Range<i64>, log_start: i64) {
        let partition = part.partition;
        part.offsets = last.end..part.offsets.end.max(last.end);
        if log_start <= last.start {
            part.unsure = Some(last);
        } else {
            self.told.push(format!(
                "warning: partition {partition}: offsets {} to {} were removed before it was sure that \
                 all of them are copied",
                last.start,
                last.end - 1
            ));
        }
    }

    /// What the user should know before it begins.
    pub(super) fn told(&self) -> &[String] {
        &self.told
    }

    /// How many records are to be copied, those that are repeated to make sure included.
    pub(super) fn records(&self) -> u64 {
        let len = |range: &std::ops::Range<i64>| (range.end - range.start).unsigned_abs();
        self.parts
            .iter()
            .map(|part| part.unsure.as_ref().map_or(0, len) + len(&part.offsets))
            .sum()
    }

    /// The lowest time of the records that come first, in Unix milliseconds.
    pub(super) async fn first_time_ms(&self, client: &Client, args: &ReplayArgs) -> Result<i64> {
        let parts = self.parts.iter().filter(|part| !part.offsets.is_empty());
        let first = iter(parts)
            .map(|part| {
                client.fetch(FetchRequest {
                    topic: args.topic.clone(),
                    topic_id: part.topic_id.clone(),
                    partition: part.partition,
                    start: Some(Start::Offset(part.offsets.start).into()),
                    max_records: 1,
                    ..FetchRequest::default()
                })
            })
            .buffer_unordered(CALLS_AT_ONCE)
            .try_fold(i64::MAX, |first, fetched| {
                let times = fetched.records.iter().map(|record| record.timestamp_ms);
                ready(Ok(times.fold(first, i64::min)))
            });
        Ok(first.await?)
    }
}

/// Where partitions go on.
fn told_of(resumed: &[(i32, i64)]) -> Vec<String> {
    if resumed.len() > TOLD_ONE_BY_ONE {
        return vec![format!(
            "going on where it had stopped in {}",
            show_many(resumed.len() as u64, "partition")
        )];
    }
    let one = |(partition, offset)| format!("partition {partition}: going on at offset {offset}");
    resumed.iter().copied().map(one).collect()
}

impl RequestLimits {
    fn new(max_request_bytes: i32, max_records: i32) -> Self {
        /// What a request holds besides its records.
        const ENVELOPE_BYTES: usize = 1 << 10;
        /// Larger requests are no faster.
        const BYTES: usize = 512 << 10;
        /// As many records, which may be tiny.
        const RECORDS: usize = 8_192;
        let told = |limit: i32, ours: usize| match usize::try_from(limit) {
            Ok(limit @ 1..) => limit.min(ours),
            _ => ours,
        };
        Self {
            bytes: told(
                max_request_bytes.saturating_sub(ENVELOPE_BYTES as i32),
                BYTES,
            ),
            records: told(max_records, RECORDS),
        }
    }
}

fn run_name(args: &ReplayArgs) -> Result<String> {
    match (&args.run, &args.offset) {
        (Some(name), _) => Ok(name.to_string()),
        (None, None) => Ok(":".to_owned()),
        (None, Some(range)) => match range.text.parse::<RunName>() {
            Ok(name) => Ok(name.to_string()),
            Err(_) => Err(Failure::Usage(
                "the range is too long a text to name the run: give it a name with --run"
                    .to_owned(),
            )
            .into()),
        },
    }
}

/// Partition, offset and log start of a position, by partition. An offset need not be there.
async fn list(
    client: &Client,
    args: &ReplayArgs,
    position: Position,
) -> Result<Vec<(i32, i64, i64)>> {
    let (at, wanted) = match position {
        Position::Offset(offset) => (Start::Latest, Some(offset)),
        position => (position.as_start(), None),
    };
    let mut found: Vec<_> = client
        .list_offsets(&args.topic, at, &args.partitions, None)
        .await?
        .partitions
        .iter()
        .map(|at| {
            let offset = wanted.map_or(at.offset, |wanted| wanted.min(at.high_watermark));
            (at.partition, offset, at.log_start_offset)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The sequence of a request that holds these offsets of the source.
pub(super) fn sequence(offsets: &std::ops::Range<i64>) -> i64 {
    let span = offsets.end - offsets.start;
    assert!(
        (1..=SPAN_MAX).contains(&span),
        "requests are cut to the span"
    );
    offsets.end << SPAN_BITS | span
}

/// The offsets of the request that has this sequence.
fn offsets_of(sequence: i64) -> std::ops::Range<i64> {
    let end = sequence >> SPAN_BITS;
    end - (sequence & SPAN_MAX)..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_tells_the_offsets_and_rises_with_them() {
        let mut last = 0;
        for offsets in [
            0..1,
            1..1000,
            1000..1001,
            1001..1001 + SPAN_MAX,
            1 << 40..(1 << 40) + 3,
        ] {
            let sequence = sequence(&offsets);
            assert!(sequence > last, "{offsets:?}");
            assert_eq!(offsets_of(sequence), offsets);
            last = sequence;
        }
    }

    #[test]
    fn where_it_goes_on_is_told_one_by_one_or_how_often() {
        let resumed: Vec<_> = (0..=16).map(|partition| (partition, 40)).collect();
        let few = told_of(&resumed[..16]);
        assert_eq!(few.len(), 16);
        assert_eq!(few[3], "partition 3: going on at offset 40");
        assert_eq!(
            told_of(&resumed),
            ["going on where it had stopped in 17 partitions"]
        );
        assert!(told_of(&[]).is_empty());
    }

    #[test]
    fn a_run_has_a_name_that_fits_into_a_producers() {
        assert!("".parse::<RunName>().is_err());
        let longest = "x".repeat(RUN_NAME_BYTES_MAX);
        let name: RunName = longest.parse().unwrap();
        let id = format!("replay/{}/{}/same/{name}", "0".repeat(36), i32::MAX);
        assert!(id.len() <= 128, "{}", id.len());
        assert!(format!("{longest}x").parse::<RunName>().is_err());
    }
}
