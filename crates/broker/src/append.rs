//! The way of a request onto the disk: queued by partition, appended in groups that share a sync.

mod answer;
mod job;
mod run_queue;
mod sync;
mod unanswered;
mod worker;

pub(crate) use answer::ProduceAnswer;
pub(crate) use job::{AppendJob, Done, Fenced, Pipelined};
pub(crate) use run_queue::RunQueue;
pub(crate) use unanswered::Unanswered;
pub(crate) use worker::{run_worker, settled, work_once};
