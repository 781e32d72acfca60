//! What was measured, and the medians of it.

use serde::Serialize;

use crate::latency::Percentiles;
use crate::peer::Transferred;
use crate::procfs::Cost;
use crate::work::Work;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// The peer's name.
    pub(crate) peer: String,
    /// What was done.
    pub(crate) work: Work,
    /// The turn, from 1.
    pub(crate) run: u32,
    /// A million bytes of values a second.
    pub(crate) mb_per_second: Option<f64>,
    /// CPU time of the server for a billion bytes of values.
    pub(crate) server_cpu_s_per_gb: Option<f64>,
    /// The most memory of the server that was seen, without mapped files.
    pub(crate) server_anonymous_mib: Option<f64>,
    /// Bytes of values.
    pub(crate) bytes: Option<u64>,
    /// How long it took.
    pub(crate) seconds: Option<f64>,
    /// Times to an ack.
    pub(crate) latency: Option<Percentiles>,
}

impl Sample {
    /// Of a produce or a replay.
    pub(crate) fn of_transfer(
        peer: &str,
        work: Work,
        run: u32,
        done: &Transferred,
        cost: Option<Cost>,
    ) -> Self {
        let gigabytes = done.bytes as f64 / 1e9;
        Self {
            peer: peer.to_owned(),
            work,
            run,
            mb_per_second: Some(gigabytes * 1e3 / done.seconds),
            server_cpu_s_per_gb: cost.map(|cost| cost.cpu_seconds / gigabytes),
            server_anonymous_mib: cost
                .map(|cost| cost.anonymous_bytes_max as f64 / f64::from(1 << 20)),
            bytes: Some(done.bytes),
            seconds: Some(done.seconds),
            latency: None,
        }
    }

    /// Of appends whose acks were waited for.
    pub(crate) fn of_latency(peer: &str, work: Work, run: u32, latency: Percentiles) -> Self {
        Self {
            peer: peer.to_owned(),
            work,
            run,
            mb_per_second: None,
            server_cpu_s_per_gb: None,
            server_anonymous_mib: None,
            bytes: None,
            seconds: None,
            latency: Some(latency),
        }
    }
}

/// Work that a peer should have done and has not.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    /// The peer's name.
    pub(crate) peer: String,
    /// What it was to do.
    pub(crate) works: Vec<Work>,
    /// What went wrong.
    pub(crate) error: String,
}

/// All that was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Samples {
    /// In the order of time.
    pub(crate) samples: Vec<Sample>,
    /// What went wrong.
    pub(crate) failures: Vec<Failure>,
}

/// The median of a few numbers; of an even count the mean of the two in the middle.
pub(crate) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let upper = numbers.get(numbers.len() / 2)?;
    let lower = numbers.get((numbers.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

impl Samples {
    /// Adds a measurement.
    pub(crate) fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Adds a failure.
    pub(crate) fn failed(&mut self, peer: &str, works: &[Work], error: String) {
        self.failures.push(Failure {
            peer: peer.to_owned(),
            works: works.to_vec(),
            error,
        });
    }

    /// What was measured of this work with this peer.
    pub(crate) fn of(&self, peer: &str, work: Work) -> impl Iterator<Item = &Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.peer == peer && sample.work == work)
    }

    /// The numbers of one kind that there are.
    pub(crate) fn numbers(
        &self,
        peer: &str,
        work: Work,
        number: fn(&Sample) -> Option<f64>,
    ) -> Vec<f64> {
        self.of(peer, work).filter_map(number).collect()
    }

    /// The median of one kind of number.
    pub(crate) fn median(
        &self,
        peer: &str,
        work: Work,
        number: fn(&Sample) -> Option<f64>,
    ) -> Option<f64> {
        median(self.numbers(peer, work, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn figures_are_of_values() {
        let done = Transferred {
            records: 1_000_000,
            bytes: 1_000_000_000,
            seconds: 2.0,
        };
        let cost = Cost {
            cpu_seconds: 3.0,
            anonymous_bytes_max: 5 << 20,
        };
        let sample = Sample::of_transfer("a", Work::Produce1k, 1, &done, Some(cost));
        assert_eq!(sample.mb_per_second, Some(500.0));
        assert_eq!(sample.server_cpu_s_per_gb, Some(3.0));
        assert_eq!(sample.server_anonymous_mib, Some(5.0));
    }
}
