//! The measurement: one after the other, then again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use flowstone_benches::touch;

use crate::options::Options;
use crate::peer::{Offer, Peer, Place, Probe, Session, Transferred};
use crate::procfs::Watch;
use crate::sample::{Sample, Samples};
use crate::work::{Bound, Durability, Load, PACED_PER_SECOND, Unit, Work};

/// A warm-up stops after so many bytes, too.
const WARM_UP_BYTES: u64 = 256 << 20;

/// Does all the work with all the peers, and tells on standard error how it goes. A peer that fails is
/// told of in what comes back, and does not keep the others from their work.
///
/// # Errors
/// When nothing can be written in the directory.
pub(crate) fn run(options: &Options, peers: &[Box<dyn Peer>], dir: &Path) -> Result<Samples> {
    let mut samples = Samples::default();
    for unit in Work::units(&options.works()) {
        for run in 1..=options.runs {
            for peer in in_turn(peers.len(), run).map(|place| &peers[place]) {
                let works = offered(peer.as_ref(), &unit);
                if works.is_empty() {
                    continue;
                }
                let place = tempfile::Builder::new()
                    .prefix(peer.name())
                    .tempdir_in(dir)
                    .with_context(|| format!("cannot make a directory in {}", dir.display()))?;
                let mut turn = Turn {
                    options,
                    peer: peer.as_ref(),
                    run,
                    samples: &mut samples,
                };
                let place = Place::new(place.path());
                if let Err(error) = turn.take(&place, unit.durability, &works) {
                    eprintln!("  {} FAILED: {error:#}", peer.name());
                    samples.failed(peer.name(), &works, format!("{error:#}"));
                }
            }
        }
    }
    Ok(samples)
}

/// Places in the list of peers, each once, in an order that differs from run to run and is the same every time: what one
/// leaves behind, as freed memory or a busy disk, meets whoever comes next.
fn in_turn(count: usize, run: u32) -> impl Iterator<Item = usize> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by_cached_key(|place| {
        let mut hasher = DefaultHasher::new();
        (run, place).hash(&mut hasher);
        hasher.finish()
    });
    places.into_iter()
}

/// What of the unit this peer does.
fn offered(peer: &dyn Peer, unit: &Unit) -> Vec<Work> {
    let does = |work: &Work| matches!(peer.offers(*work), Offer::Acks(_));
    unit.works.iter().copied().filter(does).collect()
}

/// One server, from its start to its end.
struct Turn<'a> {
    options: &'a Options,
    peer: &'a dyn Peer,
    run: u32,
    samples: &'a mut Samples,
}

impl Turn<'_> {
    fn take(&mut self, place: &Place, durability: Durability, works: &[Work]) -> Result<()> {
        let mut session = self.peer.start(place, durability)?;
        let outcome = self.work(session.as_mut(), works);
        if let (Err(_), Some(server)) = (&outcome, session.server()) {
            eprintln!("  its server's last words: {}", server.end_of_log());
        }
        outcome
    }

    fn work(&mut self, session: &mut dyn Session, works: &[Work]) -> Result<()> {
        let first = works.first().context("there is work")?;
        self.warm_up(session, *first)?;
        let mut produced = None;
        for work in works {
            match work {
                Work::Latency | Work::Paced => self.latency(session, *work)?,
                Work::Replay1k | Work::Replay100 => {
                    let (load, produced) = match produced.take() {
                        Some(produced) => produced,
                        None => self.produce_unseen(session, *work)?,
                    };
                    let watch = session.server().map(|server| server.watch());
                    let replayed = session.replay(&load, &produced)?;
                    self.note(*work, &replayed, watch);
                }
                _ => {
                    let load = self.load("measured", *work, self.options.bound());
                    touch(self.options.touch);
                    let watch = session.server().map(|server| server.watch());
                    let done = session.produce(&load)?;
                    self.note(*work, &done, watch);
                    produced = Some((load, done));
                }
            }
        }
        Ok(())
    }

    fn load(&self, topic: &str, work: Work, bound: Bound) -> Load {
        Load {
            topic: topic.to_owned(),
            value_bytes: work.value_bytes(),
            producers: work.producers(),
            durability: work.durability(),
            bound,
        }
    }

    /// Code that was run before, and connections, files and memory that were used before.
    fn warm_up(&self, session: &mut dyn Session, work: Work) -> Result<()> {
        if self.options.warm_up == 0.0 {
            return Ok(());
        }
        let time = Duration::from_secs_f64(self.options.warm_up);
        if work.is_latency() {
            let probe = Probe {
                per_second: None,
                time,
                ..self.probe("warm", work)
            };
            return session
                .latency(&probe)
                .map(drop)
                .context("the warm-up has failed");
        }
        let bytes = WARM_UP_BYTES.min(self.options.bytes);
        let load = self.load("warm", work, Bound { bytes, time });
        let produced = session.produce(&load).context("the warm-up has failed")?;
        if self.options.works().iter().any(|work| work.is_replay())
            && work.durability() == Durability::Written
            && work.producers() == 1
        {
            session
                .replay(&load, &produced)
                .context("the warm-up has failed")?;
        }
        Ok(())
    }

    /// For a replay whose produce is not asked for.
    fn produce_unseen(&self, session: &mut dyn Session, work: Work) -> Result<(Load, Transferred)> {
        let load = self.load("measured", work, self.options.bound());
        let produced = session.produce(&load)?;
        Ok((load, produced))
    }

    fn probe(&self, topic: &str, work: Work) -> Probe {
        Probe {
            topic: topic.to_owned(),
            value_bytes: work.value_bytes(),
            per_second: (work == Work::Paced).then_some(PACED_PER_SECOND),
            time: self.options.probe_time(),
        }
    }

    fn latency(&mut self, session: &mut dyn Session, work: Work) -> Result<()> {
        let probe = self.probe(&format!("measured-{}", work.name()), work);
        let percentiles = session.latency(&probe)?.percentiles();
        eprintln!(
            "  {:<12} run {} {:<18} p50 {:>8.0} µs  p99 {:>8.0} µs  ({} appends)",
            work.name(),
            self.run,
            self.peer.name(),
            percentiles.p50_us,
            percentiles.p99_us,
            percentiles.count,
        );
        self.samples.add(Sample::of_latency(
            self.peer.name(),
            work,
            self.run,
            percentiles,
        ));
        Ok(())
    }

    fn note(&mut self, work: Work, done: &Transferred, watch: Option<Watch>) {
        let cost = watch.as_ref().map(Watch::cost);
        let sample = Sample::of_transfer(self.peer.name(), work, self.run, done, cost);
        eprintln!(
            "  {:<12} run {} {:<18} {:>7.0} MB/s  server {:>6} s/GB  ({:.0} MB in {:.2} s)",
            work.name(),
            self.run,
            self.peer.name(),
            sample.mb_per_second.unwrap_or_default(),
            sample
                .server_cpu_s_per_gb
                .map_or("-".to_owned(), |cpu| format!("{cpu:.2}")),
            done.bytes as f64 / 1e6,
            done.seconds,
        );
        self.samples.add(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_once_and_not_always_behind_the_same_one() {
        let order = |run| in_turn(12, run).collect::<Vec<_>>();
        let mut sorted = order(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..12).collect::<Vec<_>>());
        let before = |run, who| {
            let order = order(run);
            let place = order.iter().position(|it| *it == who).unwrap();
            place.checked_sub(1).map(|place| order[place])
        };
        for who in 0..12 {
            let different = (1..=3).map(|run| before(run, who));
            let different: std::collections::HashSet<_> = different.collect();
            assert!(different.len() > 1, "{who} comes behind {different:?}");
        }
    }
}
