//! Telling those who wait for records that there may be some: each hears of what it reads, and of nothing else. So
//! neither a commit nor a wake-up costs more where a topic has more partitions, or other readers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// What somebody hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The topic has other partitions or settings, or it or the broker ends.
    Topic,
    /// There may be more to read in this partition, or nothing more ever.
    Partition(u32),
}

/// One who waits, and what it was told and has not looked at.
#[derive(Debug, Default)]
pub(crate) struct Listener(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    topic: bool,
    /// Each once, in the order in which they were told.
    partitions: VecDeque<u32>,
    waker: Option<Waker>,
}

impl Listener {
    /// Whether the topic has to be looked at.
    pub(crate) fn take_topic(&self) -> bool {
        std::mem::take(&mut self.told().topic)
    }

    /// The partition to look at next. Whoever takes it calls [`Listening::begin_look`] before it looks.
    pub(crate) fn take_partition(&self) -> Option<u32> {
        self.told().partitions.pop_front()
    }

    /// Ready when the topic has to be looked at, or, if so wanted, a partition.
    pub(crate) fn poll(&self, context: &mut Context<'_>, partitions_too: bool) -> Poll<()> {
        let mut told = self.told();
        if told.topic || partitions_too && !told.partitions.is_empty() {
            return Poll::Ready(());
        }
        match &mut told.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Returns when there is anything to look at.
    pub(crate) async fn heard(&self) {
        poll_fn(|context| self.poll(context, true)).await;
    }

    /// Answers with whom to wake.
    fn tell(&self, news: News) -> Option<Waker> {
        let mut told = self.told();
        match news {
            News::Topic => told.topic = true,
            News::Partition(number) => told.partitions.push_back(number),
        }
        told.waker.take()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().expect(NO_PANIC)
    }
}

/// What one listener hears of one thing.
#[derive(Debug)]
struct Ear {
    listener: Arc<Listener>,
    news: News,
    /// Of a partition: whether it was told and nobody has begun to look, so that it need not be told again.
    told: AtomicBool,
}

impl Ear {
    /// What was stored before is seen by a look that begins after this, or by the one that this asks for. Answers
    /// with whom to wake.
    fn tell(&self) -> Option<Waker> {
        let known = match self.news {
            // The listener itself keeps whether it was told of it.
            News::Topic => false,
            News::Partition(_) => self.told.swap(true, Ordering::AcqRel),
        };
        if known {
            return None;
        }
        self.listener.tell(self.news)
    }
}

/// All who listen to one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners(Arc<Mutex<Vec<Arc<Ear>>>>);

impl Listeners {
    /// Lets a listener hear of it from now on.
    pub(crate) fn add(&self, listener: &Arc<Listener>, news: News) -> Listening {
        let ear = Arc::new(Ear {
            listener: Arc::clone(listener),
            news,
            told: AtomicBool::new(false),
        });
        self.ears().push(Arc::clone(&ear));
        Listening {
            listeners: self.clone(),
            ear,
        }
    }

    /// Tells all of them.
    pub(crate) fn tell(&self) {
        let wakers: Vec<_> = self.ears().iter().filter_map(|ear| ear.tell()).collect();
        // Whoever is woken may be somebody who goes.
        wakers.into_iter().for_each(Waker::wake);
    }

    fn ears(&self) -> MutexGuard<'_, Vec<Arc<Ear>>> {
        self.0.lock().expect(NO_PANIC)
    }
}

/// A listener's place among those who listen. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Listening {
    listeners: Listeners,
    ear: Arc<Ear>,
}

impl Listening {
    /// Tells the listener itself, as if there were news.
    pub(crate) fn tell_itself(&self) {
        if let Some(waker) = self.ear.tell() {
            waker.wake();
        }
    }

    /// What comes from now on is told again.
    pub(crate) fn begin_look(&self) {
        self.ear.told.swap(false, Ordering::AcqRel);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut ears = self.listeners.ears();
        if let Some(at) = ears.iter().position(|ear| Arc::ptr_eq(ear, &self.ear)) {
            ears.swap_remove(at);
        }
    }
}

const NO_PANIC: &str = "nothing panics with listeners in hand";

#[cfg(test)]
mod tests;
