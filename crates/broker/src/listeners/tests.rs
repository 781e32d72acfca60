//! Who is told, how often, and that nothing is missed.

use std::sync::atomic::AtomicUsize;
use std::sync::{Barrier, mpsc};
use std::task::Wake;
use std::thread;
use std::time::Duration;

use super::*;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn poll(self: &Arc<Self>, listener: &Listener, partitions_too: bool) -> bool {
        let waker = Arc::clone(self).into();
        let mut context = Context::from_waker(&waker);
        listener.poll(&mut context, partitions_too).is_ready()
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_partition_that_is_told_twice_is_looked_at_once_until_a_look_begins() {
    let (listener, partition) = (Arc::default(), Listeners::default());
    let listening = partition.add(&listener, News::Partition(7));
    partition.tell();
    partition.tell();
    assert_eq!(listener.take_partition(), Some(7));
    assert_eq!(listener.take_partition(), None);
    // Taken, but the look has not begun: what comes now will be seen by it.
    partition.tell();
    assert_eq!(listener.take_partition(), None);
    listening.begin_look();
    partition.tell();
    assert_eq!(listener.take_partition(), Some(7));
}

#[test]
fn who_waits_is_woken_once_by_what_it_listens_to_and_by_nothing_else() {
    let (listener, wakes) = (Arc::default(), Arc::new(Wakes::default()));
    let (topic, mine, other) = (
        Listeners::default(),
        Listeners::default(),
        Listeners::default(),
    );
    let _topic = topic.add(&listener, News::Topic);
    let _mine = mine.add(&listener, News::Partition(0));
    assert!(!wakes.poll(&listener, true));
    other.tell();
    assert_eq!(wakes.count(), 0);
    mine.tell();
    mine.tell();
    topic.tell();
    assert_eq!(wakes.count(), 1, "it has not waited again");
    assert!(wakes.poll(&listener, true));
    assert!(listener.take_topic() && !listener.take_topic());
    assert!(!wakes.poll(&listener, false), "partitions can wait");
    assert!(wakes.poll(&listener, true));
}

#[test]
fn a_topic_is_told_each_time_it_was_looked_at_before() {
    let (listener, wakes) = (Arc::default(), Arc::new(Wakes::default()));
    let topic = Listeners::default();
    let _topic = topic.add(&listener, News::Topic);
    for count in 1..=3 {
        assert!(!wakes.poll(&listener, true));
        topic.tell();
        assert_eq!(wakes.count(), count);
        assert!(listener.take_topic());
    }
}

#[test]
fn who_has_gone_is_told_nothing_and_those_beside_it_are() {
    let partition = Listeners::default();
    let listeners: Vec<Arc<Listener>> = (0..3).map(|_| Arc::default()).collect();
    let mut listening: Vec<_> = listeners
        .iter()
        .map(|listener| partition.add(listener, News::Partition(1)))
        .collect();
    drop(listening.remove(1));
    partition.tell();
    let told: Vec<_> = listeners.iter().map(|it| it.take_partition()).collect();
    assert_eq!(told, [Some(1), None, Some(1)]);
    drop(listening);
    assert!(partition.ears().is_empty());
}

/// What is stored before it is told must be seen, however the threads meet.
#[test]
fn nothing_is_missed_between_a_look_and_a_wait() {
    const COUNT: usize = 200_000;
    const LONG: Duration = Duration::from_secs(30);
    let (listener, partition) = (Arc::<Listener>::default(), Listeners::default());
    let stored = Arc::new(AtomicUsize::new(0));
    let listening = partition.add(&listener, News::Partition(0));
    let (sender, all_seen) = mpsc::channel();
    let (looked_at, both) = (Arc::clone(&stored), Arc::new(Barrier::new(2)));
    let begun = Arc::clone(&both);
    thread::spawn(move || {
        begun.wait();
        while looked_at.load(Ordering::Acquire) < COUNT {
            pollster::block_on(listener.heard());
            assert_eq!(listener.take_partition(), Some(0));
            listening.begin_look();
        }
        sender.send(())
    });
    both.wait();
    for number in 1..=COUNT {
        stored.store(number, Ordering::Release);
        partition.tell();
    }
    let seen = all_seen.recv_timeout(LONG);
    seen.expect("the last one is waited for, and was told");
}
