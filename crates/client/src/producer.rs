//! A producer: records are batched into requests, and requests are pipelined over one stream.

mod batch;
mod codec;
mod driver;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use flowstone_proto::v1 as proto;
use prost::Message;
use tokio::task::JoinHandle;
use tonic::Code;

pub use batch::{Appended, Delivery};
use driver::{Driver, Repeat, RequestShape};
pub use queue::ProducerTotals;
use queue::{Bounds, Queue};

use crate::{Client, Error, Result, reason};

/// What a broker is taken to allow when it does not say.
const RECORD_BYTES: usize = 1 << 20;
const REQUEST_BYTES: usize = 3 << 20;
const RECORDS_PER_REQUEST: u32 = 65_536;
/// Room in a request for its envelope, beside the records and the fields after them.
const ENVELOPE_BYTES: usize = 16;

/// Describes a producer; [`ProducerBuilder::build`] starts it.
#[derive(Clone, Debug)]
pub struct ProducerBuilder {
    client: Client,
    topic: String,
    batch_bytes: usize,
    in_flight_bytes: usize,
    linger: Duration,
    partition: Option<i32>,
    acks: proto::Acks,
    repeat: Repeat,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        Self {
            client,
            topic,
            batch_bytes: 256 << 10,
            in_flight_bytes: 16 << 20,
            linger: Duration::from_millis(5),
            partition: None,
            acks: proto::Acks::Unspecified,
            repeat: Repeat {
                unknown: false,
                within: Duration::from_secs(120),
            },
        }
    }

    /// How large a request grows before it is sent, in bytes of encoded records: 256 KiB unless
    /// told, and never more than the broker takes. A larger record travels alone.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes.max(1);
        self
    }

    /// How many bytes of records may be waiting for their answer before [`Producer::send`] waits:
    /// 16 MiB unless told.
    #[must_use]
    pub fn in_flight_bytes(mut self, bytes: usize) -> Self {
        self.in_flight_bytes = bytes.max(1);
        self
    }

    /// How long a record may wait for others to share its request while earlier requests are
    /// unanswered: 5 ms unless told. When nothing is unanswered a record is sent at once.
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

    /// What becomes of a request that was sent and not answered, as after a lost connection. By
    /// default its records are reported as `OUTCOME_UNKNOWN`: they may or may not be appended.
    /// With `true` it is repeated, which may append its records twice. A request that was surely
    /// not appended is repeated in either case.
    #[must_use]
    pub fn retry_unknown(mut self, retry: bool) -> Self {
        self.repeat.unknown = retry;
        self
    }

    /// How long after its first record a batch may still be unanswered or repeated before it is
    /// given up: 2 minutes unless told.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.repeat.within = timeout;
        self
    }

    /// Asks the broker for the topic and its limits, and starts the producer. Needs a Tokio
    /// runtime.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, or what the connection said.
    pub async fn build(self) -> Result<Producer> {
        let limits = self.client.cluster().await?.limits.unwrap_or_default();
        let (topic, _) = self.client.get_topic(&self.topic).await?;

        let tail = codec::request_tail(&self.topic, self.partition, self.acks);
        let request_bytes = positive(limits.max_request_bytes).unwrap_or(REQUEST_BYTES);
        let run_bytes_max = request_bytes.saturating_sub(tail.len() + ENVELOPE_BYTES);
        let record_bytes = positive(limits.max_record_bytes).unwrap_or(RECORD_BYTES);
        let record_bytes = topic
            .max_record_bytes
            .and_then(positive)
            .map_or(record_bytes, |of_topic| of_topic.min(record_bytes));
        let bounds = Bounds {
            record_bytes_max: record_bytes,
            run_bytes_max,
            batch_bytes: self.batch_bytes.min(run_bytes_max),
            batch_records: positive(limits.max_records_per_request)
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(RECORDS_PER_REQUEST),
            linger: self.linger,
        };
        let queue = Arc::new(Queue::new(bounds, self.in_flight_bytes));
        let request = RequestShape {
            tail,
            names_partition: self.partition.is_some(),
        };
        let driver = Driver::new(self.client, Arc::clone(&queue), request, self.repeat);
        Ok(Producer {
            topic: self.topic,
            queue,
            driver: Some(tokio::spawn(driver.run())),
        })
    }
}

/// Appends records to one topic, batched and pipelined; records of one partition keep the order
/// in which they were sent.
///
/// A producer that is dropped still sends what it was given, as long as the runtime lives;
/// [`Producer::close`] waits for it.
#[derive(Debug)]
pub struct Producer {
    topic: String,
    queue: Arc<Queue>,
    driver: Option<JoinHandle<()>>,
}

impl Producer {
    /// Takes a record and answers with a handle that resolves to its place in the log. Waits
    /// while too many bytes are unanswered. Nobody needs to await the handle: a failure is also
    /// told by [`Producer::flush`] and [`Producer::close`].
    ///
    /// # Errors
    /// `RECORD_TOO_LARGE` for a record that the broker would refuse. Nothing was sent then, and
    /// the producer goes on.
    pub async fn send(&self, record: proto::Record) -> Result<Delivery> {
        let body_bytes = record.encoded_len();
        let entry_bytes = codec::entry_len(body_bytes);
        let bounds = self.queue.bounds();
        if body_bytes > bounds.record_bytes_max || entry_bytes > bounds.run_bytes_max {
            let limit = bounds.record_bytes_max.min(bounds.run_bytes_max);
            return Err(self.too_large(body_bytes, limit));
        }
        let permits = self.queue.reserve(entry_bytes).await?;
        self.queue.push(&record, entry_bytes, permits)
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

    /// The largest record that the topic takes, in encoded bytes.
    pub fn max_record_bytes(&self) -> usize {
        self.queue.bounds().record_bytes_max
    }

    fn too_large(&self, bytes: usize, limit: usize) -> Error {
        let topic = &self.topic;
        Error::local(
            Code::InvalidArgument,
            Some(reason::RECORD_TOO_LARGE),
            format!("the record has {bytes} bytes; topic {topic} takes records of at most {limit}"),
        )
        .with_metadata("limit", limit)
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
