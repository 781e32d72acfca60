//! The broker: everything a caller can ask of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use uuid::Uuid;

use crate::core::Core;
use crate::running::Running;
use crate::topics::admin;
use crate::{
    BrokerConfig, Committed, Cursor, Env, Error, FetchRequest, Fetched, GroupInfo, Limits, Metrics,
    OpenedProducer, PartitionInfo, PartitionOffsets, PendingProduce, Permit, Pipeline,
    ProduceRequest, Produced, ResetOffsets, ResetTo, Start, SubscribeRequest, Subscription,
    TopicChange, TopicInfo, TopicSpec, fetch, group, metrics, offsets, open, produce, producers,
    resolve, retention, scrub, subscribe,
};

/// An open data directory. Clones are the same broker; it stops when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Broker {
    running: Arc<Running>,
}

impl Broker {
    /// Opens a data directory, made if it is missing, and recovers what it holds. A partition that
    /// cannot be opened is offline; the broker opens without it.
    ///
    /// # Errors
    /// [`Error::Open`], with what to do about it. The directory was left as it was.
    pub fn open(config: BrokerConfig, env: Env) -> Result<Broker, Error> {
        let core = Arc::new(open::open(config, env)?);
        let running = Running::start(core).map_err(|error| Error::Internal {
            detail: format!("cannot start a thread: {error}"),
        })?;
        Ok(Self {
            running: Arc::new(running),
        })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        self.running.core()
    }

    /// What clients may ask for.
    pub fn limits(&self) -> &Limits {
        &self.core().config.limits
    }

    /// The id that was given to the data directory's cluster when it was made.
    pub fn cluster_id(&self) -> Uuid {
        self.core().identity.cluster_id
    }

    /// Makes a topic; with `validate_only` it only says whether it could, and what it would be.
    ///
    /// # Errors
    /// [`Error::InvalidField`], [`Error::TopicExists`], [`Error::LimitExceeded`], and what any
    /// change of metadata can fail with: [`Error::DiskFull`], [`Error::ShuttingDown`],
    /// [`Error::OutcomeUnknown`].
    pub async fn create_topic(
        &self,
        spec: TopicSpec,
        validate_only: bool,
    ) -> Result<TopicInfo, Error> {
        admin::create(self.core(), spec, validate_only).await
    }

    /// A topic and its partitions.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`].
    pub fn describe_topic(&self, name: &str) -> Result<(TopicInfo, Vec<PartitionInfo>), Error> {
        let now = self.core().topics.get(name)?.now();
        let partitions = now.partitions.iter().map(|partition| partition.info());
        Ok((now.info.clone(), partitions.collect()))
    }

    /// Topics by name: at most `limit` of those that begin with `prefix` and come after `after`.
    pub fn list_topics(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        let topics = self.core().topics.list(prefix, after, limit);
        topics
            .iter()
            .map(|topic| topic.now().info.clone())
            .collect()
    }

    /// Changes how a topic is set up.
    ///
    /// # Errors
    /// As [`create_topic`](Self::create_topic), and [`Error::TopicNotFound`].
    pub async fn update_topic(&self, name: &str, change: TopicChange) -> Result<TopicInfo, Error> {
        admin::update(self.core(), name, change).await
    }

    /// Deletes a topic and its records. Committed offsets of it are forgotten.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], and those of any change of metadata.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        admin::delete(self.core(), name).await
    }

    /// Removes the records before an offset, durably. Returns the log start offset then, which an
    /// offset below it does not change.
    ///
    /// # Errors
    /// [`Error::OffsetBeyondEnd`] for an offset behind the high watermark.
    pub async fn trim_partition(
        &self,
        topic: &str,
        partition: u32,
        before: u64,
    ) -> Result<u64, Error> {
        admin::trim(self.core(), topic, partition, before).await
    }

    /// Waits for room for a request with this many bytes of records.
    ///
    /// # Errors
    /// [`Error::ShuttingDown`].
    pub async fn admit(&self, bytes: usize) -> Result<Permit, Error> {
        produce::admit(self.core(), bytes).await
    }

    /// Checks and routes the records and queues them, in the order of the calls. Within a partition
    /// all of them are appended or none; over several, any part may be there after an error.
    ///
    /// # Errors
    /// Nothing was appended: [`Error::TopicNotFound`], [`Error::PartitionNotFound`],
    /// [`Error::MalformedRecord`], [`Error::RecordTooLarge`], [`Error::InvalidField`],
    /// [`Error::CorruptSegment`], [`Error::ShuttingDown`]. The answer may further be
    /// [`Error::DiskFull`] or [`Error::OutcomeUnknown`]; with a producer or an expected offset also
    /// [`Error::StaleProducer`], [`Error::SequenceReused`], [`Error::SequenceTooOld`],
    /// [`Error::OffsetMismatch`], [`Error::ProducersUnknown`] or [`Error::LimitExceeded`]. While a
    /// topic grows, requests with a producer wait, and all of these may come as the answer.
    pub fn submit(&self, request: ProduceRequest, permit: Permit) -> Result<PendingProduce, Error> {
        produce::submit(self.core(), request, permit, None)
    }

    /// As [`submit`](Self::submit), for requests of which none may be appended after one that failed.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and [`Error::OutcomeUnknown`] after a request that failed.
    pub fn submit_pipelined(
        &self,
        pipeline: &Pipeline,
        request: ProduceRequest,
        permit: Permit,
    ) -> Result<PendingProduce, Error> {
        let place = pipeline.place();
        let submitted = produce::submit(self.core(), request, permit, Some(place.clone()));
        if submitted.is_err() {
            place.break_off();
        }
        submitted
    }

    /// [`admit`](Self::admit) and [`submit`](Self::submit) together, and the answer.
    ///
    /// # Errors
    /// As these.
    pub async fn produce(&self, request: ProduceRequest) -> Result<Produced, Error> {
        let permit = self.admit(request.records.len()).await?;
        self.submit(request, permit)?.await
    }

    /// Opens a producer of a topic: raises its epoch durably, refuses older ones on all partitions
    /// from then on, and tells how far it had come.
    ///
    /// # Errors
    /// [`Error::InvalidField`], [`Error::TopicNotFound`], [`Error::LimitExceeded`]; where a
    /// partition cannot tell how far the producer had come [`Error::CorruptSegment`] or
    /// [`Error::ProducersUnknown`]; and those of any change of metadata.
    pub async fn open_producer(&self, topic: &str, id: &str) -> Result<OpenedProducer, Error> {
        producers::open(self.core(), topic, id).await
    }

    /// Reads one partition once. Does not wait for records to come.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], [`Error::PartitionNotFound`], [`Error::TopicRecreated`],
    /// [`Error::OffsetTrimmed`], [`Error::OffsetBeyondEnd`], [`Error::CorruptSegment`].
    pub async fn fetch(&self, request: FetchRequest) -> Result<Fetched, Error> {
        fetch::fetch(self.core(), request).await
    }

    /// Resolves when the partition can be read beyond `from`, when the topic does not exist (any
    /// more), and when the broker stops.
    pub async fn wait_for_data(&self, topic: &str, partition: u32, from: u64) {
        fetch::wait_for_data(self.core(), topic, partition, from).await;
    }

    /// What `at` stands for in each of the partitions (empty: all), and the topic's id.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub async fn list_offsets(
        &self,
        topic: &str,
        at: &Start,
        partitions: &[u32],
        group: Option<&str>,
    ) -> Result<(Uuid, Vec<PartitionOffsets>), Error> {
        resolve::list_offsets(self.core(), topic, at, partitions, group).await
    }

    /// Starts to read a topic.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch), and [`Error::GroupActive`], [`Error::InvalidField`],
    /// [`Error::LimitExceeded`], [`Error::ShuttingDown`]. What is wrong with one partition of
    /// several is told in the stream.
    pub async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, Error> {
        subscribe::open(self, request).await
    }

    /// Stores how far a group has read, durably, and gives up what is released. Says which cursors
    /// were stale and are not stored, and what the members have to give up.
    ///
    /// # Errors
    /// Nothing was stored: [`Error::StaleSession`] if all of them have ended, [`Error::GroupActive`],
    /// [`Error::TopicNotFound`], [`Error::PartitionNotFound`], [`Error::TopicRecreated`],
    /// [`Error::InvalidField`], [`Error::LimitExceeded`].
    pub async fn commit_offsets(
        &self,
        cursors: Vec<Cursor>,
        released: Vec<Cursor>,
    ) -> Result<Committed, Error> {
        offsets::commit(self.core(), cursors, released).await
    }

    /// Groups by name, without their offsets: at most `limit` of those that come after `after`.
    pub fn list_groups(&self, after: Option<&str>, limit: usize) -> Vec<GroupInfo> {
        group::list(self.core(), after, limit)
    }

    /// A group, its members and its offsets.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`].
    pub async fn describe_group(&self, name: &str) -> Result<GroupInfo, Error> {
        group::describe(self.core(), name).await
    }

    /// Sets how far a group has read one topic, durably; with `validate_only` it only says from where to
    /// where.
    ///
    /// # Errors
    /// Nothing was changed: [`Error::GroupActive`] while the group has members and `force` is not set,
    /// [`Error::TopicNotFound`], [`Error::PartitionNotFound`], [`Error::GroupNotFound`] if the group to
    /// copy from or to shift has committed nothing, [`Error::InvalidField`] also for an offset that a
    /// partition does not have, [`Error::LimitExceeded`], [`Error::CorruptSegment`],
    /// [`Error::ShuttingDown`].
    pub async fn reset_offsets(&self, request: ResetOffsets) -> Result<ResetTo, Error> {
        group::reset(self.core(), request).await
    }

    /// Forgets, durably, all that a group has committed.
    ///
    /// # Errors
    /// Nothing was changed: [`Error::GroupNotFound`], [`Error::GroupActive`] while it has members,
    /// [`Error::ShuttingDown`].
    pub async fn delete_group(&self, name: &str) -> Result<(), Error> {
        group::delete(self.core(), name).await
    }

    /// What was counted since the broker was opened, and how it stands now. Looks at every
    /// partition, without waiting for any.
    pub fn metrics(&self) -> Metrics {
        metrics::look(self.core())
    }

    /// From now on new produce calls and changes fail as [`Error::ShuttingDown`], and subscriptions
    /// end so. What was submitted goes on, and offsets may still be committed.
    pub fn stop_accepting(&self) {
        self.core().stop_accepting();
    }

    /// Stops: drains what was submitted, syncs, stops the threads, and gives the data directory free.
    /// May be called again.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if a sync has failed, now or before.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.running.shutdown().await
    }

    /// Does queued work on the calling thread when the broker has no append threads. True if anything
    /// was done.
    pub fn run_pending(&self) -> bool {
        self.running.run_pending()
    }

    /// Applies the retention of all topics now, on the calling thread, and looks for groups that have
    /// been idle for too long, which are then forgotten in their turn. True if any records were removed.
    pub fn run_retention(&self) -> bool {
        offsets::expire(self.core());
        retention::apply(self.core())
    }

    /// Reads all sealed segments from the medium now, on the calling thread and as fast as it can,
    /// and takes what is damaged offline. True if a damaged segment was found, also if it was known.
    pub fn run_scrub(&self) -> bool {
        let before = self.core().counters.scrub_damages.get();
        // Broken off only when the broker is dead.
        let _ = scrub::round(self.core(), 0, |_| ControlFlow::Continue(()));
        self.core().counters.scrub_damages.get() > before
    }
}
