//! What runs while a broker is killed or stopped: producers of three kinds, and a reader that commits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flowstone_client::{Client, Delivery, reason};
use flowstone_proto::v1 as proto;
use flowstone_tests::history::{Call, SharedHistory};
use flowstone_tests::{Dice, History, Proxy, Stub};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// The group that reads along.
pub(crate) const GROUP: &str = "followers";
/// Requests of one stream that are under way.
const IN_FLIGHT: usize = 16;
const RECORDS_PER_REQUEST: u64 = 20;
const SHUTTING_DOWN: &str = "SHUTTING_DOWN";

/// The topic, its history, and how many records were acknowledged.
#[derive(Clone)]
pub(crate) struct Work {
    topic: &'static str,
    history: SharedHistory,
    acknowledged: watch::Sender<u64>,
}

impl Work {
    pub(crate) fn new(topic: &'static str) -> Self {
        Self {
            topic,
            history: SharedHistory::new(),
            acknowledged: watch::Sender::new(0),
        }
    }

    pub(crate) fn shared(&self) -> &SharedHistory {
        &self.history
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }

    /// Returns once so many more records are acknowledged than now.
    pub(crate) async fn acknowledged_beyond(&self, more: u64) {
        let mut acknowledged = self.acknowledged.subscribe();
        let target = *acknowledged.borrow() + more;
        let reached = acknowledged.wait_for(|count| *count >= target).await;
        reached.expect("the sender lives in this value");
    }

    /// Records that the next request carries, told to the history.
    fn invoke(&self, maker: &mut Maker, count: u64) -> (Vec<proto::Record>, Vec<Call>) {
        let records: Vec<_> = (0..count).map(|_| maker.record()).collect();
        let mut history = self.history();
        let calls = records
            .iter()
            .map(|record| history.invoke(maker.producer, record))
            .collect();
        (records, calls)
    }

    /// The answer to a request of these records.
    fn acknowledge(&self, calls: &[Call], response: &proto::ProduceResponse) {
        let places = response.runs.iter().flat_map(|run| {
            let offsets = run.base_offset..run.base_offset + i64::from(run.record_count);
            offsets.map(|offset| (run.partition, offset))
        });
        let places: Vec<_> = places.collect();
        assert_eq!(places.len(), calls.len(), "an answer places each record");
        let mut history = self.history();
        for (&call, (partition, offset)) in calls.iter().zip(places) {
            history.acknowledged(call, partition, offset);
        }
        drop(history);
        self.acknowledged
            .send_modify(|count| *count += calls.len() as u64);
    }

    /// A call of these records failed since the broker ends.
    fn fail(&self, calls: &[Call], status: &Status) {
        assert!(is_the_end(status), "{status}");
        if is_shutting_down(status) {
            self.refuse(calls.to_vec());
        }
    }

    fn refuse(&self, calls: Vec<Call>) {
        let mut history = self.history();
        for call in calls {
            history.refused(call);
        }
    }
}

/// Makes records, no two alike.
pub(crate) struct Maker {
    producer: u32,
    made: u64,
    dice: Dice,
}

impl Maker {
    pub(crate) fn new(producer: u32, dice: &Dice) -> Self {
        Self {
            producer,
            made: 0,
            dice: dice.fork(),
        }
    }

    pub(crate) fn producer(&self) -> u32 {
        self.producer
    }

    /// Keys, headers, times and sizes of all kinds.
    fn record(&mut self) -> proto::Record {
        let dice = &self.dice;
        self.made += 1;
        let mut value = format!("{}-{}-", self.producer, self.made).into_bytes();
        let filler = if dice.once_in(50) { 8_000 } else { 300 };
        value.extend(dice.bytes(dice.pick(0..filler) as usize));
        let mut record = proto::Record {
            value: Some(value.into()),
            ..proto::Record::default()
        };
        if !dice.once_in(8) {
            record.key = Some(format!("key-{}", dice.pick(0..64)).into());
        }
        if dice.once_in(8) {
            record.timestamp_ms = dice.pick(1..1_000_000_000_000) as i64;
        }
        for number in 0..dice.pick(0..3) {
            record.headers.push(proto::Header {
                key: format!("h{number}"),
                value: dice.bytes(dice.pick(0..9) as usize).into(),
            });
        }
        record
    }
}

/// Whether a broker that ends may be the reason of a failure. All others would be a defect: there is
/// nothing to refuse.
fn is_the_end(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
    )
}

/// What a broker says that takes no more: nothing of the request was appended.
fn is_shutting_down(status: &Status) -> bool {
    has_reason(status, SHUTTING_DOWN)
}

fn is_stale(status: &Status) -> bool {
    has_reason(status, "STALE_SESSION")
}

fn has_reason(status: &Status, reason: &str) -> bool {
    let told = status.metadata().get("flowstone-reason");
    told.is_some_and(|told| told == reason)
}

/// Produces one request after the other, over all partitions, until the broker is gone.
pub(crate) async fn unary(work: &Work, mut stub: Stub, mut maker: Maker) -> Maker {
    loop {
        let count = maker.dice.pick(1..RECORDS_PER_REQUEST);
        let (records, calls) = work.invoke(&mut maker, count);
        let request = proto::ProduceRequest {
            records,
            topic: work.topic.to_owned(),
            ..proto::ProduceRequest::default()
        };
        match stub.log.produce(request).await {
            Ok(response) => work.acknowledge(&calls, response.get_ref()),
            Err(status) => {
                work.fail(&calls, &status);
                return maker;
            }
        }
    }
}

/// Produces to one partition over a stream, many requests in flight, until the broker is gone.
pub(crate) async fn stream(work: &Work, mut stub: Stub, partition: i32, mut maker: Maker) -> Maker {
    let (requests, receiver) = mpsc::channel(IN_FLIGHT);
    let mut requests = Some(requests);
    let mut waiting = VecDeque::new();
    send(work, &mut maker, partition, &mut requests, &mut waiting).await;
    let mut answers = match stub.log.produce_stream(ReceiverStream::new(receiver)).await {
        Ok(response) => response.into_inner(),
        Err(status) => {
            work.fail(&waiting.make_contiguous().concat(), &status);
            return maker;
        }
    };
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                if let Some(error) = answer.error {
                    assert_eq!(error.reason, SHUTTING_DOWN, "there is nothing to refuse");
                    // Nor is anything appended that was sent behind it.
                    work.refuse(waiting.make_contiguous().concat());
                    return maker;
                }
                let calls: Vec<Call> = waiting.pop_front().expect("an answer has its request");
                work.acknowledge(&calls, &answer.produce.expect("it is no error"));
            }
            Ok(None) => panic!("a stream does not end before its requests do"),
            Err(status) => {
                // All that were begun have been answered before.
                work.fail(&waiting.make_contiguous().concat(), &status);
                return maker;
            }
        }
        send(work, &mut maker, partition, &mut requests, &mut waiting).await;
    }
}

/// Sends as many requests as may be in flight; once the broker takes no more, none.
async fn send(
    work: &Work,
    maker: &mut Maker,
    partition: i32,
    requests: &mut Option<mpsc::Sender<proto::ProduceStreamRequest>>,
    waiting: &mut VecDeque<Vec<Call>>,
) {
    while waiting.len() < IN_FLIGHT
        && let Some(sender) = requests
    {
        let count = maker.dice.pick(1..RECORDS_PER_REQUEST);
        let (records, calls) = work.invoke(maker, count);
        waiting.push_back(calls);
        let produce = proto::ProduceRequest {
            records,
            topic: work.topic.to_owned(),
            partition: Some(partition),
            ..proto::ProduceRequest::default()
        };
        let request = proto::ProduceStreamRequest {
            produce: Some(produce),
        };
        if sender.send(request).await.is_err() {
            *requests = None;
        }
    }
}

/// A producer of the client crate that lives on while brokers come and go.
pub(crate) struct Endless {
    stop: Arc<AtomicBool>,
    producing: JoinHandle<()>,
    answers: JoinHandle<()>,
}

impl Endless {
    pub(crate) async fn start(work: &Work, proxy: &Proxy, mut maker: Maker) -> Self {
        let client = Client::connect(proxy.url()).unwrap();
        let producer = client
            .producer(work.topic)
            .batch_bytes(4 << 10)
            .in_flight_bytes(32 << 10)
            .linger(Duration::from_millis(1))
            .build()
            .await
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (sent, deliveries) = mpsc::unbounded_channel();
        let answers = tokio::spawn(answers(work.clone(), deliveries));
        let work = work.clone();
        let producing = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let (mut records, calls) = work.invoke(&mut maker, 1);
                let record = records.pop().expect("one was made");
                let delivery = producer.send(record).await.expect("it is not too large");
                sent.send((calls[0], delivery)).expect("somebody listens");
            }
            // Failures were told by the deliveries.
            let _ = producer.close().await;
        });
        Self {
            stop,
            producing,
            answers,
        }
    }

    /// Produces no more, and waits until all records are answered.
    pub(crate) async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.producing.await.unwrap();
        self.answers.await.unwrap();
    }
}

/// Tells the history what became of each record.
async fn answers(work: Work, mut deliveries: mpsc::UnboundedReceiver<(Call, Delivery)>) {
    while let Some((call, delivery)) = deliveries.recv().await {
        match delivery.await {
            Ok(at) => {
                work.history().acknowledged(call, at.partition, at.offset);
                work.acknowledged.send_modify(|count| *count += 1);
            }
            Err(error) if error.is(reason::OUTCOME_UNKNOWN) => {}
            Err(error) => panic!("a record was given up: {error}"),
        }
    }
}

/// Reads along as a member of a group and commits each batch, until the broker is gone.
pub(crate) async fn follow(work: Work, mut stub: Stub) {
    let committed = committed(&stub).await;
    let request = proto::SubscribeRequest {
        topic: work.topic.to_owned(),
        group: GROUP.to_owned(),
        ..proto::SubscribeRequest::default()
    };
    let mut stream = match stub.log.subscribe(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => {
            assert!(is_the_end(&status), "{status}");
            return;
        }
    };
    let mut next: BTreeMap<i32, i64> = committed;
    loop {
        let response = match stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return,
            Err(status) => {
                assert!(is_the_end(&status), "{status}");
                return;
            }
        };
        assert_eq!(response.error, None, "every partition is sound");
        let Some(cursor) = response.cursor.filter(|_| !response.records.is_empty()) else {
            continue;
        };
        let partition = cursor.partition;
        let from = next.insert(partition, cursor.offset).unwrap_or(0);
        work.history().read(partition, from, &response.records);
        let offset = cursor.offset;
        let commit = proto::CommitOffsetsRequest {
            cursors: vec![cursor],
            released: Vec::new(),
        };
        match stub.log.commit_offsets(commit).await {
            Ok(response) => {
                assert_eq!(response.get_ref().stale, [], "nobody else reads");
                work.history().committed(GROUP, partition, offset);
            }
            // The stream was the membership: once the broker has ended it, a commit comes too late.
            Err(status) if is_stale(&status) => {
                let ended = loop {
                    match stream.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("a stream of a group does not end well"),
                        Err(ended) => break ended,
                    }
                };
                assert!(is_the_end(&ended), "{status}, and the stream: {ended}");
                return;
            }
            Err(status) => {
                assert!(is_the_end(&status), "{status}");
                return;
            }
        }
    }
}

/// What the group has committed, by partition.
pub(crate) async fn committed(stub: &Stub) -> BTreeMap<i32, i64> {
    let request = proto::GetGroupRequest {
        group: GROUP.to_owned(),
    };
    match stub.groups.clone().get_group(request).await {
        Ok(response) => {
            let group = response.into_inner().group.expect("the answer has a group");
            let offsets = group.offsets.iter();
            offsets
                .map(|offset| (offset.partition, offset.committed_offset))
                .collect()
        }
        Err(status) => {
            assert!(
                status.code() == Code::NotFound || is_the_end(&status),
                "{status}"
            );
            BTreeMap::new()
        }
    }
}
