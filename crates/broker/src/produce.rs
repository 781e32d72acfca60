//! Appending: what a request holds, and what it is answered with.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::Error;

/// Records to append to a topic.
#[derive(Clone, Debug, Default)]
pub struct ProduceRequest {
    /// The topic.
    pub topic: String,
    /// The partition. `None`: by key; records without a key of one request go to one partition.
    pub partition: Option<u32>,
    /// When to answer. `None`: as the topic is set up.
    pub acks: Option<Acks>,
    /// A run of `0A len Record`, as the client sent it.
    pub records: Bytes,
}

/// When a produce call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acks {
    /// After the records are synced to disk.
    Durable,
    /// After the records are handed to the operating system, which are synced soon after. A power
    /// cut may give their offsets to other records.
    Written,
}

/// Consecutive records of the request that got consecutive offsets of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedRun {
    /// The partition.
    pub partition: u32,
    /// The offset of the first of them.
    pub base_offset: u64,
    /// How many there are.
    pub record_count: u32,
}

/// Room for the bytes of one request, given back once they are appended.
#[derive(Debug)]
pub struct Permit {
    _room: Option<OwnedSemaphorePermit>,
}

/// Requests of one client that are appended in order or not at all: after the first that fails,
/// none that was submitted later is appended any more.
#[derive(Debug, Default)]
pub struct Pipeline {}

/// The answer to a submitted request. The request goes on also when this is dropped.
#[derive(Debug)]
pub struct PendingProduce {
    answer: oneshot::Receiver<Result<Vec<AppendedRun>, Error>>,
}

impl Future for PendingProduce {
    type Output = Result<Vec<AppendedRun>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| {
                Err(Error::OutcomeUnknown {
                    detail: "the broker stopped before it answered".to_owned(),
                })
            })
        })
    }
}
