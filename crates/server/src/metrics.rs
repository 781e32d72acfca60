//! The metrics of a server, as Prometheus and OpenMetrics know them, on a listener of their own.

mod endpoint;
mod families;
mod page;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use flowstone_broker::{Broker, Metrics};

pub(crate) use endpoint::serve;

/// How produce requests have ended: `OK`, or the reason of the failure.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(Mutex<BTreeMap<&'static str, u64>>);

impl Outcomes {
    pub(crate) const OK: &'static str = "OK";

    pub(crate) fn add(&self, reason: &'static str) {
        let mut counts = self.0.lock().expect("nothing panics with counts in hand");
        *counts.entry(reason).or_default() += 1;
    }

    fn get(&self) -> BTreeMap<&'static str, u64> {
        self.0
            .lock()
            .expect("nothing panics with counts in hand")
            .clone()
    }
}

/// Where the numbers come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) broker: Broker,
    pub(crate) outcomes: Arc<Outcomes>,
    pub(crate) started: Instant,
}

/// All numbers, as they were at one look.
#[derive(Debug)]
struct Look {
    broker: Metrics,
    produce_requests: BTreeMap<&'static str, u64>,
    uptime_seconds: f64,
}

impl Source {
    fn look(&self) -> Look {
        Look {
            broker: self.broker.metrics(),
            produce_requests: self.outcomes.get(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
        }
    }

    /// The answer to a scrape. Looks at every partition.
    fn text(&self) -> String {
        page::text(self.look())
    }
}
