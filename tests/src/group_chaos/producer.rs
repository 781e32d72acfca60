//! A producer that goes on whatever happens to the broker.

use std::time::Duration;

use flowstone_proto::v1 as proto;

use super::{PARTITIONS, PATIENCE, Phase, Stage, TOPIC};
use crate::Dice;

/// Produces a few records at a time until the chaos is over. What was not acknowledged may be there.
pub(super) async fn produce(stage: Stage, number: u64, dice: Dice) {
    let mut made = 0_u64;
    while stage.is(Phase::Chaos) {
        let Some(mut stub) = stage.connect().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        while stage.is(Phase::Chaos) {
            let partition = dice.pick(0..PARTITIONS as u64) as i32;
            let values: Vec<Vec<u8>> = (0..dice.pick(1..8))
                .map(|_| {
                    made += 1;
                    format!("{number}-{made}").into_bytes()
                })
                .collect();
            let records = values.iter().map(|value| proto::Record {
                value: Some(value.clone().into()),
                ..proto::Record::default()
            });
            let request = proto::ProduceRequest {
                records: records.collect(),
                topic: TOPIC.to_owned(),
                partition: Some(partition),
                ..proto::ProduceRequest::default()
            };
            match tokio::time::timeout(PATIENCE, stub.log.produce(request)).await {
                Ok(Ok(response)) => {
                    let run = &response.get_ref().runs[0];
                    let mut ledger = stage.ledger.lock();
                    for (offset, value) in (run.base_offset..).zip(&values) {
                        ledger.acknowledged(partition, offset, value);
                    }
                }
                Ok(Err(_)) | Err(_) => break,
            }
            tokio::time::sleep(Duration::from_millis(dice.pick(1..12))).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
