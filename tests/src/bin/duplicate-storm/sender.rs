//! Calls that are made again until they are answered, over connections that come and go.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::log_service_client::LogServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::TOPIC;
use crate::content::Who;

const CONNECTIONS: usize = 4;
/// A call that is not answered for so long is made again.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(15);

/// What all producers share.
#[derive(Debug)]
pub(crate) struct Sender {
    channels: Mutex<VecDeque<Channel>>,
    stopped: AtomicBool,
    calls: AtomicU64,
    duplicates: AtomicU64,
}

impl Sender {
    pub(crate) fn new(url: &str) -> Self {
        let channel = || {
            let endpoint = Endpoint::from_shared(url.to_owned()).expect("it is an address");
            endpoint.connect_lazy()
        };
        Self {
            channels: Mutex::new((0..CONNECTIONS).map(|_| channel()).collect()),
            stopped: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
        }
    }

    /// No request is begun any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    /// A stub, over one connection after the other.
    pub(crate) fn stub(&self) -> LogServiceClient<Channel> {
        let mut channels = self.channels.lock().expect("nothing panics with it");
        channels.rotate_left(1);
        LogServiceClient::new(channels[0].clone())
    }

    /// Takes note of an answer.
    pub(crate) fn answered(&self, response: &proto::ProduceResponse) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let duplicate = u64::from(response.duplicate);
        self.duplicates.fetch_add(duplicate, Ordering::Relaxed);
    }

    /// Where the records are.
    ///
    /// # Errors
    /// What says that the call must not be repeated.
    pub(crate) async fn produce(
        &self,
        request: proto::ProduceRequest,
    ) -> Result<Vec<proto::AppendedRun>, Status> {
        let response = self
            .until_answered(|mut stub| {
                let request = request.clone();
                async move { stub.produce(request).await }
            })
            .await?;
        self.answered(&response);
        Ok(response.runs)
    }

    /// The epoch of a producer, and how far it had come.
    pub(crate) async fn open(&self, who: &Who) -> (i32, i64) {
        let request = proto::OpenProducerRequest {
            topic: TOPIC.to_owned(),
            id: who.id(),
        };
        let opened = self
            .until_answered(|mut stub| {
                let request = request.clone();
                async move { stub.open_producer(request).await }
            })
            .await
            .unwrap_or_else(|status| panic!("{} cannot be opened: {status}", who.id()));
        (opened.epoch, opened.last_sequence)
    }

    async fn until_answered<T, F>(
        &self,
        mut call: impl FnMut(LogServiceClient<Channel>) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        loop {
            match tokio::time::timeout(PATIENCE, call(self.stub())).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) if !may_be_repeated(&status) => return Err(status),
                Ok(Err(_)) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// The reason that the broker gives, if it was the broker.
pub(crate) fn reason(status: &Status) -> Option<&str> {
    status.metadata().get("flowstone-reason")?.to_str().ok()
}

/// The rule of the protocol page.
pub(crate) fn may_be_repeated(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => true,
        Code::Unknown | Code::Internal | Code::Cancelled => reason(status).is_none(),
        _ => false,
    }
}
