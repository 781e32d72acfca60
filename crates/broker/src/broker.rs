//! The broker: everything a caller can ask of it.

use uuid::Uuid;

use crate::{
    AppendedRun, BrokerConfig, Cursor, Env, Error, FetchRequest, Fetched, GroupInfo, Limits,
    PartitionInfo, PartitionOffsets, PendingProduce, Permit, Pipeline, ProduceRequest, Start,
    SubscribeRequest, Subscription, TopicChange, TopicInfo, TopicSpec,
};

/// An open data directory. Clones are the same broker; it stops when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Broker {
    limits: Limits,
}

const NOT_YET: Error = Error::Unimplemented { what: "this call" };

#[expect(unused_variables, reason = "the bodies are thin")]
impl Broker {
    /// Opens a data directory, made if it is missing, and recovers what it holds.
    pub fn open(config: BrokerConfig, env: Env) -> Result<Broker, Error> {
        Err(NOT_YET)
    }

    /// What clients may ask for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The id that was given to the data directory's cluster when it was made.
    pub fn cluster_id(&self) -> Uuid {
        Uuid::nil()
    }

    /// Makes a topic; with `validate_only` it only says whether it could, and what it would be.
    pub async fn create_topic(
        &self,
        spec: TopicSpec,
        validate_only: bool,
    ) -> Result<TopicInfo, Error> {
        Err(NOT_YET)
    }

    /// A topic and its partitions.
    pub fn describe_topic(&self, name: &str) -> Result<(TopicInfo, Vec<PartitionInfo>), Error> {
        Err(NOT_YET)
    }

    /// Topics by name: at most `limit` of those that begin with `prefix` and come after `after`.
    pub fn list_topics(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        Vec::new()
    }

    /// Changes how a topic is set up.
    pub async fn update_topic(&self, name: &str, change: TopicChange) -> Result<TopicInfo, Error> {
        Err(NOT_YET)
    }

    /// Deletes a topic and its records. Committed offsets of it are forgotten.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        Err(NOT_YET)
    }

    /// Removes the records before an offset, durably. Returns the log start offset then.
    pub async fn trim_partition(
        &self,
        topic: &str,
        partition: u32,
        before: u64,
    ) -> Result<u64, Error> {
        Err(NOT_YET)
    }

    /// Waits for room for a request with this many bytes of records.
    pub async fn admit(&self, bytes: usize) -> Result<Permit, Error> {
        Err(NOT_YET)
    }

    /// Checks and routes the records and queues them, in the order of the calls. An error here means
    /// that nothing was appended.
    pub fn submit(&self, request: ProduceRequest, permit: Permit) -> Result<PendingProduce, Error> {
        Err(NOT_YET)
    }

    /// As [`submit`](Self::submit), for requests of which none may be appended after one that failed.
    pub fn submit_pipelined(
        &self,
        pipeline: &Pipeline,
        request: ProduceRequest,
        permit: Permit,
    ) -> Result<PendingProduce, Error> {
        Err(NOT_YET)
    }

    /// [`admit`](Self::admit) and [`submit`](Self::submit) together, and the answer.
    pub async fn produce(&self, request: ProduceRequest) -> Result<Vec<AppendedRun>, Error> {
        Err(NOT_YET)
    }

    /// Reads one partition once. Does not wait for records to come.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Fetched, Error> {
        Err(NOT_YET)
    }

    /// Resolves when the partition can be read beyond `from`, when the topic does not exist (any
    /// more), and when the broker stops.
    pub async fn wait_for_data(&self, topic: &str, partition: u32, from: u64) {}

    /// What `at` stands for in each of the partitions (empty: all), and the topic's id.
    pub async fn list_offsets(
        &self,
        topic: &str,
        at: &Start,
        partitions: &[u32],
        group: Option<&str>,
    ) -> Result<(Uuid, Vec<PartitionOffsets>), Error> {
        Err(NOT_YET)
    }

    /// Starts to read a topic.
    pub async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, Error> {
        Err(NOT_YET)
    }

    /// Stores how far a group has read, durably. Returns the cursors whose session has ended, which
    /// were not stored; the others were.
    pub async fn commit_offsets(
        &self,
        cursors: Vec<Cursor>,
        released: Vec<Cursor>,
    ) -> Result<Vec<Cursor>, Error> {
        Err(NOT_YET)
    }

    /// Groups by name, without their offsets: at most `limit` of those that come after `after`.
    pub fn list_groups(&self, after: Option<&str>, limit: usize) -> Vec<GroupInfo> {
        Vec::new()
    }

    /// A group, its members and its offsets.
    pub async fn describe_group(&self, name: &str) -> Result<GroupInfo, Error> {
        Err(NOT_YET)
    }

    /// From now on new produce calls and changes fail as [`Error::ShuttingDown`], and subscriptions
    /// end so. What was submitted goes on.
    pub fn stop_accepting(&self) {}

    /// Stops: drains what was submitted, syncs, stops the threads, and gives the data directory free.
    pub async fn shutdown(&self) -> Result<(), Error> {
        Err(NOT_YET)
    }

    /// Does queued work on the calling thread when the broker has no append threads. True if anything
    /// was done.
    pub fn run_pending(&self) -> bool {
        false
    }

    /// Applies the retention of all topics now, on the calling thread. True if anything was removed.
    pub fn run_retention(&self) -> bool {
        false
    }
}
