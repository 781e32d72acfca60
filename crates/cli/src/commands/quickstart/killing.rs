//! The broker is killed while records are written.

use anyhow::{Context, Result, bail};
use flowstone_client::{Appended, Delivery, Producer, Record};
use tokio::sync::oneshot;

use super::broker::Broker;

/// So many records have been acknowledged when the broker is killed, at least.
const ACKNOWLEDGED_BEFORE_KILL: usize = 1_000;

/// Sends records until the broker is killed or one fails. The handle of one of them goes to whoever
/// waits for it.
pub(super) async fn write_until_killed(
    producer: &Producer,
    records: &[Record],
    probe: oneshot::Sender<Delivery>,
    mut killed: oneshot::Receiver<()>,
) -> Result<Vec<(Record, Option<Delivery>)>> {
    let mut probe = Some(probe);
    let mut sent = Vec::new();
    for record in records {
        if producer.failure().is_some() {
            return Ok(sent);
        }
        // Nothing fails for a long time if the kill came while nothing was on its way.
        let delivery = tokio::select! {
            biased;
            _ = &mut killed => return Ok(sent),
            delivery = producer.send(record) => delivery,
        };
        let Ok(delivery) = delivery else {
            return Ok(sent);
        };
        let delivery = match probe.take_if(|_| sent.len() == ACKNOWLEDGED_BEFORE_KILL) {
            Some(probe) => {
                // Nobody waits any more only if the broker has failed, which is told there.
                let _ = probe.send(delivery);
                None
            }
            None => Some(delivery),
        };
        sent.push((record.clone(), delivery));
    }
    bail!("the broker was not killed before all records were written")
}

/// Kills the broker once the record is acknowledged, tells that, and answers with the record's place.
pub(super) async fn kill_once_acknowledged(
    broker: Broker,
    record: oneshot::Receiver<Delivery>,
    killed: oneshot::Sender<()>,
) -> Result<Appended> {
    let delivery = record.await.context("the writer stopped too early")?;
    let at = delivery.await?;
    broker.kill().await?;
    // The writer may have noticed by itself.
    let _ = killed.send(());
    Ok(at)
}
