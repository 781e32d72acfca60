//! Everything that the tables, the chart and the JSON are made of.

use serde::Serialize;

use crate::machine::Machine;
use crate::peer::{Offer, Peer};
use crate::sample::Samples;
use crate::work::Work;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Where and when.
    pub(crate) machine: Machine,
    /// How often each piece of work was done.
    pub(crate) runs: u32,
    /// What was asked for.
    pub(crate) works: Vec<Work>,
    /// Who took part.
    pub(crate) peers: Vec<Told>,
    /// Who was not there.
    pub(crate) skipped: Vec<Skipped>,
    /// What was measured.
    #[serde(flatten)]
    pub(crate) samples: Samples,
}

/// Who took part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Told {
    /// The name on the command line.
    pub(crate) name: String,
    /// The name in the result.
    pub(crate) title: String,
    /// What it does of the work that was asked for.
    pub(crate) offers: Vec<Offered>,
}

/// A piece of work and what a peer does of it: one of both is there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Offered {
    pub(crate) work: Work,
    /// What its acks mean.
    pub(crate) acks: Option<String>,
    /// Why it does not do it.
    pub(crate) not: Option<String>,
}

/// Who was not there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Skipped {
    /// The name in the result.
    pub(crate) title: String,
    /// What is missing and what brings it.
    pub(crate) missing: String,
}

impl Told {
    /// What is told of a peer.
    pub(crate) fn of(peer: &dyn Peer, works: &[Work]) -> Self {
        let offers = works.iter().map(|work| {
            let (acks, not) = match peer.offers(*work) {
                Offer::Acks(acks) => (Some(acks.to_owned()), None),
                Offer::Not(why) => (None, Some(why.to_owned())),
            };
            Offered {
                work: *work,
                acks,
                not,
            }
        });
        Self {
            name: peer.name().to_owned(),
            title: peer.title(),
            offers: offers.collect(),
        }
    }

    /// What its acks mean in this work; empty where it does not do it.
    pub(crate) fn acks(&self, work: Work) -> &str {
        let offer = self.offers.iter().find(|offer| offer.work == work);
        offer
            .and_then(|offer| offer.acks.as_deref())
            .unwrap_or_default()
    }

    /// The work that it does not do, under the reason.
    pub(crate) fn not_offered(&self) -> Vec<(&str, Vec<Work>)> {
        let mut reasons: Vec<(&str, Vec<Work>)> = Vec::new();
        for offer in &self.offers {
            let Some(why) = offer.not.as_deref() else {
                continue;
            };
            match reasons.iter_mut().find(|(reason, _)| *reason == why) {
                Some((_, works)) => works.push(offer.work),
                None => reasons.push((why, vec![offer.work])),
            }
        }
        reasons
    }
}

/// A report of two peers, of which one is four times as fast as the other.
#[cfg(test)]
pub(crate) fn example() -> Report {
    use std::path::Path;

    use crate::peer::Transferred;
    use crate::sample::Sample;

    let work = Work::Produce1k;
    let told = |name: &str| Told {
        name: name.to_owned(),
        title: format!("{name} by title"),
        offers: vec![Offered {
            work,
            acks: Some("page cache".to_owned()),
            not: None,
        }],
    };
    let mut samples = Samples::default();
    for (peer, seconds) in [("flowstone", 1.0), ("kafka", 4.0)] {
        let done = Transferred {
            records: 1_000_000,
            bytes: 1_000_000_000,
            seconds,
        };
        samples.add(Sample::of_transfer(peer, work, 1, &done, None));
    }
    Report {
        machine: Machine::this(Path::new("/")),
        runs: 1,
        works: vec![work],
        peers: vec![told("flowstone"), told("kafka")],
        skipped: vec![Skipped {
            title: "Some peer".to_owned(),
            missing: "bring it".to_owned(),
        }],
        samples,
    }
}
