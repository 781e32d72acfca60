//! Producers whose requests can be repeated: their epochs, how their requests are routed, and how
//! one is opened.

mod epochs;
mod forget;
mod gate;
mod open;
mod routing;

use flowstone_format::ProducerId;
use flowstone_log::ProducerBatch;

use crate::Error;
use crate::names::invalid;
use crate::route::murmur2;

pub(crate) use epochs::Epochs;
pub(crate) use forget::forget_idle;
pub(crate) use gate::{Closed, Gate, Inside};
pub(crate) use open::open;
pub(crate) use routing::RoutedBefore;

/// The most bytes of a producer's id.
const MAX_ID_BYTES: usize = 128;

/// How many sequences of a producer each partition remembers: the highest.
pub const PRODUCER_WINDOW: u32 = flowstone_format::PRODUCER_WINDOW as u32;

/// Makes a request safe to repeat: (topic, id, sequence) is appended once, whatever the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    /// 1 to 128 bytes: a UUID, or a name that survives restarts.
    pub id: String,
    /// From [`Broker::open_producer`](crate::Broker::open_producer); 0: never opened.
    pub epoch: i32,
    /// From 1, rising from request to request, and the same for a repeat.
    pub sequence: i64,
}

/// A producer that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedProducer {
    /// What its requests carry from now on; older epochs are refused.
    pub epoch: i32,
    /// The highest sequence of which any partition holds records, 0 for none. Perhaps not all of
    /// its records are there: repeat it.
    pub last_sequence: i64,
}

impl Producer {
    /// Checks the fields, and what the log is to be told.
    pub(crate) fn checked(&self) -> Result<ProducerBatch, Error> {
        let id = checked_id("producer.id", &self.id)?;
        if self.epoch < 0 {
            return Err(invalid(
                "producer.epoch",
                "it is negative; use the one that OpenProducer told, or 0",
            ));
        }
        if self.sequence < 1 {
            return Err(invalid(
                "producer.sequence",
                "sequences begin at 1 and rise from request to request",
            ));
        }
        Ok(ProducerBatch {
            id,
            epoch: self.epoch,
            sequence: self.sequence,
        })
    }
}

/// What a producer of this name is known by.
fn checked_id(field: &str, id: &str) -> Result<ProducerId, Error> {
    if !(1..=MAX_ID_BYTES).contains(&id.len()) {
        let detail = format!("it has {} bytes; 1 to {MAX_ID_BYTES} are allowed", id.len());
        return Err(invalid(field, detail));
    }
    Ok(ProducerId::of(id))
}

/// The partition of the records without a key of a request: a repeat goes where the first try went.
pub(crate) fn keyless_partition(batch: &ProducerBatch, routing_count: u32) -> u32 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&batch.id.into_bytes());
    bytes[16..].copy_from_slice(&batch.sequence.to_be_bytes());
    (murmur2(&bytes) & 0x7fff_ffff) % routing_count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer() -> Producer {
        Producer {
            id: "till-4".to_owned(),
            epoch: 0,
            sequence: 1,
        }
    }

    #[test]
    fn fields_out_of_range_are_refused_by_name() {
        assert!(producer().checked().is_ok());
        let mut longest = producer();
        longest.id = "x".repeat(128);
        assert!(longest.checked().is_ok());
        let refused = |change: fn(&mut Producer)| {
            let mut producer = producer();
            change(&mut producer);
            match producer.checked() {
                Err(Error::InvalidField { field, .. }) => field,
                other => panic!("it should be refused, not {other:?}"),
            }
        };
        assert_eq!(refused(|p| p.id.clear()), "producer.id");
        assert_eq!(refused(|p| p.id = "x".repeat(129)), "producer.id");
        assert_eq!(refused(|p| p.epoch = -1), "producer.epoch");
        assert_eq!(refused(|p| p.sequence = 0), "producer.sequence");
    }

    #[test]
    fn keyless_requests_go_where_the_page_says_and_spread() {
        let batch = |sequence| ProducerBatch {
            sequence,
            ..producer().checked().unwrap()
        };
        let mut seen = [0; 8];
        for sequence in 1..=8_000 {
            seen[keyless_partition(&batch(sequence), 8) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 800), "{seen:?}");
    }
}
