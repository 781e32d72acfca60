//! The broker in process, without a server: opens a directory, writes a few records, reads them back.
//!
//! `cargo run -p flowstone-broker --example embedded -- my-data`

use flowstone_broker::{
    Broker, BrokerConfig, Delivery, Env, Error, ProduceRequest, Start, Stop, SubscribeRequest,
    TopicSpec,
};
use prost::Message;

/// A record; any protobuf library writes and reads the same bytes.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(bytes = "vec", optional, tag = "1")]
    key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    value: Option<Vec<u8>>,
    #[prost(int64, tag = "15")]
    offset: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Records {
    #[prost(message, repeated, tag = "1")]
    records: Vec<Record>,
}

fn main() -> Result<(), Error> {
    let dir = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "flowstone-data".to_owned());
    pollster::block_on(visit(&dir))
}

async fn visit(dir: &str) -> Result<(), Error> {
    let broker = Broker::open(BrokerConfig::new(dir), Env::real())?;
    match broker
        .create_topic(TopicSpec::new("visits", 4), false)
        .await
    {
        Ok(_) | Err(Error::TopicExists { .. }) => {}
        Err(error) => return Err(error),
    }
    let records = ["ada", "bob", "eve"].map(|who| Record {
        key: Some(who.into()),
        value: Some(format!("{who} buys a lemonade").into_bytes()),
        offset: 0,
    });
    let request = ProduceRequest {
        topic: "visits".to_owned(),
        records: Records {
            records: records.to_vec(),
        }
        .encode_to_vec()
        .into(),
        ..ProduceRequest::default()
    };
    // Once this returns, the records are synced to disk.
    for run in broker.produce(request).await?.runs {
        println!(
            "appended {} to partition {}",
            run.record_count, run.partition
        );
    }
    let everything = SubscribeRequest {
        topic: "visits".to_owned(),
        start: Start::Earliest,
        stop: Some(Stop::CurrentEnd),
        ..SubscribeRequest::default()
    };
    let mut subscription = broker.subscribe(everything).await?;
    while let Some(delivery) = subscription.next().await {
        if let Delivery::Records { cursor, chunks, .. } = delivery? {
            for record in Records::decode(&*chunks.concat())
                .expect("records decode")
                .records
            {
                let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
                println!(
                    "partition {}, offset {}: {value}",
                    cursor.partition, record.offset
                );
            }
        }
    }
    drop(subscription);
    broker.shutdown().await
}
