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
    /// What its acks mean, or why it does not do the work.
    pub(crate) offers: Vec<(Work, std::result::Result<String, String>)>,
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
        let offers = works.iter().map(|work| match peer.offers(*work) {
            Offer::Acks(acks) => (*work, Ok(acks.to_owned())),
            Offer::Not(why) => (*work, Err(why.to_owned())),
        });
        Self {
            name: peer.name().to_owned(),
            title: peer.title(),
            offers: offers.collect(),
        }
    }

    /// What its acks mean in this work; empty where it does not do it.
    pub(crate) fn acks(&self, work: Work) -> &str {
        let offer = self.offers.iter().find(|(offered, _)| *offered == work);
        offer
            .and_then(|(_, acks)| acks.as_deref().ok())
            .unwrap_or_default()
    }

    /// The work that it does not do, under the reason.
    pub(crate) fn not_offered(&self, works: &[Work]) -> Vec<(&str, Vec<Work>)> {
        let mut reasons: Vec<(&str, Vec<Work>)> = Vec::new();
        for (work, offer) in &self.offers {
            let (Err(why), true) = (offer, works.contains(work)) else {
                continue;
            };
            match reasons.iter_mut().find(|(reason, _)| reason == why) {
                Some((_, of_reason)) => of_reason.push(*work),
                None => reasons.push((why, vec![*work])),
            }
        }
        reasons
    }
}
