//! Requests with a producer wait while their topic grows, and the growth waits for those under way:
//! a request and its repeat have to be routed by the same number of partitions.
//!
//! Those that wait are kept here, with the room that they were given, so that no caller that goes to
//! sleep can hold up the growth.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

/// What a request that waits does once the gate is open.
type Parked = Box<dyn FnOnce(Inside) + Send>;

/// The gate of one topic.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    emptied: Notify,
}

#[derive(Default)]
struct State {
    /// Requests under way.
    inside: usize,
    closed: bool,
    /// Those that wait, in the order in which they came.
    parked: VecDeque<Parked>,
}

/// A request that is under way, until all of its parts have their outcome.
pub(crate) struct Inside(Arc<Gate>);

/// The gate is closed; dropping it lets in those who wait, in their order.
pub(crate) struct Closed(Arc<Gate>);

impl Gate {
    /// Goes in at once, or as soon as the gate is open. `go` is called in the order of the calls.
    pub(crate) fn enter(self: &Arc<Self>, go: impl FnOnce(Inside) + Send + 'static) {
        let mut state = self.state();
        if state.closed {
            state.parked.push_back(Box::new(go));
            return;
        }
        state.inside += 1;
        drop(state);
        go(Inside(Arc::clone(self)));
    }

    /// Closes the gate and waits until nobody is inside. Only one at a time may ask for it.
    pub(crate) async fn close(self: &Arc<Self>) -> Closed {
        {
            let mut state = self.state();
            assert!(!state.closed, "changes of a topic come one after the other");
            state.closed = true;
        }
        let closed = Closed(Arc::clone(self));
        while self.state().inside > 0 {
            self.emptied.notified().await;
        }
        closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics with the state of a gate in hand")
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.inside -= 1;
        if state.inside == 0 {
            self.0.emptied.notify_one();
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        // Whoever comes meanwhile waits behind the others.
        loop {
            let next = {
                let mut state = self.0.state();
                let Some(next) = state.parked.pop_front() else {
                    state.closed = false;
                    return;
                };
                state.inside += 1;
                next
            };
            next(Inside(Arc::clone(&self.0)));
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Seen = Arc<Mutex<Vec<(u32, Inside)>>>;

    fn enter(gate: &Arc<Gate>, seen: &Seen, number: u32) {
        let seen = Arc::clone(seen);
        gate.enter(move |inside| seen.lock().unwrap().push((number, inside)));
    }

    fn numbers(seen: &Seen) -> Vec<u32> {
        seen.lock().unwrap().iter().map(|(n, _)| *n).collect()
    }

    #[test]
    fn a_change_waits_for_those_inside_and_those_who_come_wait_for_the_change() {
        let (gate, seen) = (Arc::new(Gate::default()), Seen::default());
        enter(&gate, &seen, 1);
        enter(&gate, &seen, 2);
        let mut context = Context::from_waker(Waker::noop());
        let mut closing = pin!(gate.close());
        assert!(closing.as_mut().poll(&mut context).is_pending());
        enter(&gate, &seen, 3);
        enter(&gate, &seen, 4);
        assert_eq!(numbers(&seen), [1, 2]);
        seen.lock().unwrap().remove(0);
        assert!(closing.as_mut().poll(&mut context).is_pending());
        seen.lock().unwrap().clear();
        let Poll::Ready(closed) = closing.poll(&mut context) else {
            panic!("nobody is inside");
        };
        assert_eq!(numbers(&seen), []);
        drop(closed);
        assert_eq!(numbers(&seen), [3, 4]);
        enter(&gate, &seen, 5);
        assert_eq!(numbers(&seen), [3, 4, 5]);
    }

    #[test]
    fn a_change_that_is_given_up_opens_the_gate_again() {
        let (gate, seen) = (Arc::new(Gate::default()), Seen::default());
        enter(&gate, &seen, 1);
        {
            let mut closing = pin!(gate.close());
            let mut context = Context::from_waker(Waker::noop());
            assert!(closing.as_mut().poll(&mut context).is_pending());
            enter(&gate, &seen, 2);
        }
        assert_eq!(numbers(&seen), [1, 2]);
    }
}
