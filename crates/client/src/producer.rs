//! A producer: records are batched into requests, and requests are pipelined over one stream.

mod batch;
mod codec;
mod delivery;
mod driver;
mod lanes;
mod partitioner;
mod queue;

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use flowstone_proto::v1 as proto;
use tokio::task::JoinHandle;
use tonic::Code;
use uuid::Uuid;

use codec::Entry;
pub use delivery::{Appended, Delivery};
use driver::{Driver, Identity, Repeat, RequestShape};
use lanes::{Lanes, SPREAD_BATCH_BYTES};
pub use queue::ProducerTotals;
use queue::{Bounds, Pushed, Queue};

use crate::{Client, Error, Result, reason};

/// What a broker is taken to allow when it does not say.
const RECORD_BYTES: usize = 1 << 20;
const REQUEST_BYTES: usize = 3 << 20;
const RECORDS_PER_REQUEST: u32 = 65_536;
/// Room in a request for its envelope and its numbers, beside the records, the fields that all
/// requests have, and the producer's id.
const ENVELOPE_BYTES: usize = 64;
/// How large a request grows unless told.
const BATCH_BYTES: usize = 256 << 10;
/// How much may be unanswered unless told: for each partition that records are spread over by their keys, within these
/// bounds. What is unanswered of a partition is what its next frames are made of.
const IN_FLIGHT_BYTES_OF_PARTITION: usize = 32 << 10;
const IN_FLIGHT_BYTES_MIN: usize = 16 << 20;
const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;
/// More requests are not left unanswered, though the broker may remember more.
const UNANSWERED_REQUESTS: usize = 1_024;

/// Describes a producer; [`ProducerBuilder::build`] starts it.
#[derive(Clone, Debug)]
pub struct ProducerBuilder {
    client: Client,
    topic: String,
    batch_bytes: Option<usize>,
    in_flight_bytes: Option<usize>,
    linger: Duration,
    partition: Option<i32>,
    acks: proto::Acks,
    repeat: Repeat,
    who: Who,
    resume: bool,
    expected_offset: Option<i64>,
}

/// How the broker knows the producer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    /// By an id that nobody else has.
    Anyone,
    /// By a name that survives restarts.
    Named(String),
    /// Not at all.
    Nobody,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        Self {
            client,
            topic,
            batch_bytes: None,
            in_flight_bytes: None,
            linger: Duration::from_millis(5),
            partition: None,
            acks: proto::Acks::Unspecified,
            repeat: Repeat {
                unknown: false,
                within: Duration::from_secs(120),
            },
            who: Who::Anyone,
            resume: false,
            expected_offset: None,
        }
    }

    /// A name for a producer that outlives its process: 1 to 128 bytes, the same after a restart.
    /// Building it ends what an older process of the same name does, and its records are numbered on
    /// from [`Producer::last_sequence`]. Without a name repeats are safe within this process only.
    ///
    /// With a name and no [`partition`](Self::partition) each record travels in a request of its
    /// own, so that a restart can repeat exactly what is unsure.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.who = Who::Named(id.into());
        self
    }

    /// With an [`id`](Self::id): begins with the first record of which the broker cannot be sure
    /// that an earlier process was told of it. Send the same records from
    /// [`Producer::next_sequence`] on again; those that are there are not appended twice.
    #[must_use]
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// With `false` the broker does not remember what was sent, and a repeat may append twice. By
    /// default each record is appended once, whatever is lost on the way.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        match (idempotent, &self.who) {
            (false, _) => self.who = Who::Nobody,
            (true, Who::Nobody) => self.who = Who::Anyone,
            (true, _) => {}
        }
        self
    }

    /// Appends only if the first record gets this offset and each other one the next: as long as
    /// nobody else appends to the partition, which has to be named. Others fail as
    /// `OFFSET_MISMATCH`.
    #[must_use]
    pub fn expected_offset(mut self, offset: i64) -> Self {
        self.expected_offset = Some(offset);
        self
    }

    /// How large a request grows before it is sent, in bytes of encoded records: 256 KiB unless
    /// told, or 1 MiB while records are sorted by partition (see [`linger`](Self::linger)), and never more than the
    /// broker takes. A larger record travels alone.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = Some(bytes.max(1));
        self
    }

    /// How many bytes of records may be waiting for their answer before [`Producer::send`] waits:
    /// 16 MiB unless told, or, where records go to partitions by their keys, 32 KiB for each of these if that is more,
    /// up to 32 MiB.
    #[must_use]
    pub fn in_flight_bytes(mut self, bytes: usize) -> Self {
        self.in_flight_bytes = Some(bytes.max(1));
        self
    }

    /// How long a record may wait for others to share its request while earlier requests are
    /// unanswered: 5 ms unless told. When nothing is unanswered a record is sent at once. While
    /// [`in_flight_bytes`](Self::in_flight_bytes) are unanswered, records with keys for a topic of 32
    /// partitions or more are sorted by partition first, and may wait for 200 ms.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Appends to this partition. Without it the broker chooses: by key, and one partition for
    /// all records of a request that have none.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// When the broker answers; without it as the topic is set up.
    #[must_use]
    pub fn acks(mut self, acks: proto::Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Only for a producer that is not [`idempotent`](Self::idempotent): what becomes of a request
    /// that was sent and not answered, as after a lost connection. By default its records are
    /// reported as `OUTCOME_UNKNOWN`: they may or may not be appended. With `true` it is repeated,
    /// which may append its records twice. A request that was surely not appended is repeated in
    /// either case.
    #[must_use]
    pub fn retry_unknown(mut self, retry: bool) -> Self {
        self.repeat.unknown = retry;
        self
    }

    /// How long after its first record a batch may still be unanswered or repeated before it is
    /// given up: 2 minutes unless told. Pauses between attempts are at most half of it.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.repeat.within = timeout;
        self
    }

    /// Asks the broker for the topic and its limits, and starts the producer. Needs a Tokio
    /// runtime.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`, or what the connection said.
    pub async fn build(self) -> Result<Producer> {
        if self.expected_offset.is_some() && self.partition.is_none() {
            let why = "an expected offset needs a partition: each has offsets of its own";
            return Err(Error::local(Code::InvalidArgument, None, why));
        }
        let limits = self.client.cluster().await?.limits.unwrap_or_default();
        let (topic, _) = self.client.get_topic(&self.topic).await?;
        self.check_partition(topic.partition_count)?;
        let opened = self.open(positive(limits.producer_window)).await?;
        let one_by_one = matches!(self.who, Who::Named(_)) && self.partition.is_none();

        let tail = codec::request_tail(&self.topic, self.partition, self.acks);
        let id_bytes = opened.identity.as_ref().map_or(0, |who| who.id.len());
        let request_bytes = positive(limits.max_request_bytes).unwrap_or(REQUEST_BYTES);
        let run_bytes_max = request_bytes.saturating_sub(tail.len() + id_bytes + ENVELOPE_BYTES);
        let record_bytes = positive(limits.max_record_bytes).unwrap_or(RECORD_BYTES);
        let record_bytes = topic
            .max_record_bytes
            .and_then(positive)
            .map_or(record_bytes, |of_topic| of_topic.min(record_bytes));
        let batch_records = positive(limits.max_records_per_request)
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(RECORDS_PER_REQUEST);
        let bounds = Bounds {
            topic: self.topic,
            record_bytes_max: record_bytes,
            run_bytes_max,
            batch_bytes: self.batch_bytes.unwrap_or(BATCH_BYTES).min(run_bytes_max),
            spread_batch_bytes: self
                .batch_bytes
                .unwrap_or(SPREAD_BATCH_BYTES)
                .min(run_bytes_max),
            batch_records: if one_by_one { 1 } else { batch_records },
            linger: self.linger,
        };
        let routed_by_key = self.partition.is_none() && !one_by_one;
        let partition_count = match u32::try_from(topic.partition_count) {
            Ok(count) if routed_by_key => count,
            _ => 1,
        };
        let in_flight_bytes = self
            .in_flight_bytes
            .unwrap_or_else(|| in_flight_bytes(partition_count));
        let lanes = Lanes::new(partition_count);
        let queue = Queue::new(bounds, in_flight_bytes, opened.before, lanes);
        let queue = Arc::new(queue);
        let repeat = Repeat {
            unknown: self.repeat.unknown || opened.identity.is_some(),
            ..self.repeat
        };
        let request = RequestShape {
            tail,
            names_partition: self.partition.is_some(),
            identity: opened.identity,
            // The numbers of a resumed producer do not begin with its first record.
            expected_offset: self.expected_offset.map(|first| first - opened.before),
        };
        let driver = Driver::new(self.client, Arc::clone(&queue), request, repeat);
        Ok(Producer {
            last_sequence: opened.last_sequence,
            next_sequence: opened.before + 1,
            queue,
            driver: Some(tokio::spawn(driver.run())),
        })
    }
}

/// How much may be unanswered, unless told, of records for so many partitions.
fn in_flight_bytes(partition_count: u32) -> usize {
    let of_all = (partition_count as usize).saturating_mul(IN_FLIGHT_BYTES_OF_PARTITION);
    of_all.clamp(IN_FLIGHT_BYTES_MIN, IN_FLIGHT_BYTES_MAX)
}

/// A producer as the broker knows it when it begins.
#[derive(Debug, Default)]
struct Opened {
    identity: Option<Identity>,
    last_sequence: i64,
    /// How many records came before the first one.
    before: i64,
}

impl ProducerBuilder {
    /// Said now, since a broker says it of the first record only.
    fn check_partition(&self, count: i32) -> Result<()> {
        match self.partition {
            Some(partition) if !(0..count).contains(&partition) => {
                let topic = &self.topic;
                let why = format!(
                    "topic {topic:?} has no partition {partition}: it has {count}, numbered from 0"
                );
                let reason = Some(reason::PARTITION_NOT_FOUND);
                let error = Error::local(Code::NotFound, reason, why);
                Err(error
                    .with_metadata("topic", topic)
                    .with_metadata("partition", partition)
                    .with_metadata("partition-count", count))
            }
            _ => Ok(()),
        }
    }

    /// `window` is `None` where the broker is too old to remember anything.
    async fn open(&self, window: Option<usize>) -> Result<Opened> {
        let window = window.map(|window| window.min(UNANSWERED_REQUESTS));
        match (&self.who, window) {
            (Who::Named(id), Some(window)) => {
                let (epoch, last_sequence) = self.client.open_producer(&self.topic, id).await?;
                let before = match (self.resume, self.partition) {
                    (false, _) | (true, Some(_)) => last_sequence,
                    // Answers come in order, so that no more than a window was unanswered.
                    (true, None) => (last_sequence - window as i64).max(0),
                };
                let identity = Identity {
                    id: id.clone(),
                    epoch,
                    window,
                };
                Ok(Opened {
                    identity: Some(identity),
                    last_sequence,
                    before,
                })
            }
            (Who::Named(_), None) => Err(Error::local(
                Code::Unimplemented,
                None,
                "the broker is of a version that knows no producers by id",
            )),
            (Who::Anyone, Some(window)) => Ok(Opened {
                identity: Some(Identity {
                    id: Uuid::new_v4().to_string(),
                    epoch: 0,
                    window,
                }),
                ..Opened::default()
            }),
            (Who::Anyone, None) | (Who::Nobody, _) => Ok(Opened::default()),
        }
    }
}

/// Appends records to one topic, batched and pipelined; records of one partition keep the order
/// in which they were sent.
///
/// A producer that is dropped still sends what it was given, as long as the runtime lives;
/// [`Producer::close`] waits for it.
#[derive(Debug)]
pub struct Producer {
    last_sequence: i64,
    next_sequence: i64,
    queue: Arc<Queue>,
    driver: Option<JoinHandle<()>>,
}

impl Producer {
    /// Copies a record, given itself or by reference, and answers with a handle that resolves to its
    /// place in the log. Waits while too many bytes are unanswered. Nobody needs to await the handle: a failure is also
    /// told by [`Producer::flush`] and [`Producer::close`].
    ///
    /// # Errors
    /// `RECORD_TOO_LARGE` for a record that the broker would refuse. Nothing was sent then, and
    /// the producer goes on.
    pub async fn send(&self, record: impl Borrow<proto::Record>) -> Result<Delivery> {
        // Nearly always, and without a future that has to be set up.
        match self.push_now(record.borrow())? {
            Pushed::Yes(delivery) => Ok(delivery),
            not_yet => self.queue.push(Entry::new(record.borrow()), not_yet).await,
        }
    }

    fn push_now(&self, record: &proto::Record) -> Result<Pushed<Delivery>> {
        let entry = Entry::new(record);
        self.queue.bounds().check(&entry)?;
        self.queue.push_now(&entry, false)
    }

    /// Copies many records, in their order, and answers once all are taken: as [`Producer::send`] of one after the
    /// other, cheaper where they are small, and without handles. What becomes of them is told by
    /// [`Producer::flush`] and [`Producer::close`]. Waits while too many bytes are unanswered. When this is dropped
    /// while it waits, some of the first may have been taken.
    ///
    /// # Errors
    /// `RECORD_TOO_LARGE` for a record that the broker would refuse; its place among these stands in the error's
    /// metadata as `index`. Those before it were taken and will be sent, and those behind it were not.
    pub async fn send_all(&self, records: &[proto::Record]) -> Result<()> {
        let mut taken = 0;
        while taken < records.len() {
            let (added, outcome) = self.queue.push_front(&records[taken..]);
            taken += added;
            let waits = match outcome {
                Ok(Pushed::Yes(())) => continue,
                Ok(Pushed::NotYet) => Pushed::NotYet,
                Ok(Pushed::NoRoom) => Pushed::NoRoom,
                Err(error) => return Err(error.with_metadata("index", taken)),
            };
            self.queue.push(Entry::new(&records[taken]), waits).await?;
            taken += 1;
        }
        Ok(())
    }

    /// Sends what is waiting and waits until everything sent so far is answered.
    ///
    /// # Errors
    /// The first failure of any record since the last call of this method.
    pub async fn flush(&self) -> Result<()> {
        self.queue.flush().await
    }

    /// As [`Producer::flush`], and ends the producer.
    ///
    /// # Errors
    /// The first failure of any record since the last [`Producer::flush`].
    pub async fn close(mut self) -> Result<()> {
        let flushed = self.queue.flush().await;
        self.queue.close();
        if let Some(driver) = self.driver.take()
            && let Err(error) = driver.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        flushed
    }

    /// Ends the producer now, whatever is waiting or unanswered: what was sent is reported as
    /// `OUTCOME_UNKNOWN`, and what was not is not sent any more.
    pub async fn abandon(mut self) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
            // It was cancelled, or had ended already.
            let _ = driver.await;
        }
    }

    /// The first failure that no [`Producer::flush`] has told yet: cheap enough to look at
    /// before each record, for those who want to stop early.
    pub fn failure(&self) -> Option<Error> {
        self.queue.failure()
    }

    /// How many records were acknowledged, refused, or left unknown so far.
    pub fn totals(&self) -> ProducerTotals {
        self.queue.totals()
    }

    /// The number of the last record of this [`id`](ProducerBuilder::id) that the broker had seen when
    /// the producer was built: how many there were, unless some were left out. Without an id 0.
    pub fn last_sequence(&self) -> i64 {
        self.last_sequence
    }

    /// The number of the first record that is sent, from 1. With
    /// [`resume`](ProducerBuilder::resume) some up to [`Producer::last_sequence`] are sent again:
    /// all before this one were acknowledged to somebody.
    pub fn next_sequence(&self) -> i64 {
        self.next_sequence
    }

    /// The largest record that the topic takes, in encoded bytes.
    pub fn max_record_bytes(&self) -> usize {
        self.queue.bounds().record_bytes_max
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn positive(number: i32) -> Option<usize> {
    usize::try_from(number).ok().filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_left_unanswered_the_more_partitions_it_is_for() {
        assert_eq!(in_flight_bytes(1), 16 << 20);
        assert_eq!(in_flight_bytes(512), 16 << 20);
        assert_eq!(in_flight_bytes(1_000), 1_000 * (32 << 10));
        assert_eq!(in_flight_bytes(u32::MAX), 32 << 20);
    }
}
