//! Members of a group by the Rust client: told what they have and lose, and back by themselves.

use std::time::Duration;

use flowstone_client::{Batch, Client, Error, Event, Record, Subscription, Topic, reason};
use flowstone_tests::{Broker, Proxy};

const WAIT: Duration = Duration::from_secs(30);

/// A topic of two partitions with ten records in each.
async fn start() -> Broker {
    let broker = Broker::start();
    let client = broker.client();
    let topic = Topic {
        name: "visits".to_owned(),
        partition_count: 2,
        ..Topic::default()
    };
    client.create_topic(topic, false).await.unwrap();
    for partition in 0..2 {
        let producer = client.producer("visits").partition(partition);
        let producer = producer.build().await.unwrap();
        for n in 0..10 {
            let record = Record {
                value: Some(format!("visit {n}").into()),
                ..Record::default()
            };
            producer.send(record).await.unwrap();
        }
        producer.close().await.unwrap();
    }
    broker
}

async fn next(visits: &mut Subscription) -> Result<Event, Error> {
    let event = tokio::time::timeout(WAIT, visits.next()).await;
    event.expect("something happens").expect("it goes on")
}

/// What the member has and what it has lost, when it is told next; records in between are left.
async fn assigned(visits: &mut Subscription) -> (Vec<i32>, Vec<i32>) {
    loop {
        if let Event::Assignment(told) = next(visits).await.unwrap() {
            let numbers = |of: &[flowstone_client::TopicPartition]| {
                let mut numbers: Vec<i32> = of.iter().map(|of| of.partition).collect();
                numbers.sort_unstable();
                numbers
            };
            return (numbers(&told.partitions), numbers(&told.lost));
        }
    }
}

async fn batch(visits: &mut Subscription) -> Batch {
    loop {
        if let Event::Records(batch) = next(visits).await.unwrap() {
            return batch;
        }
    }
}

#[tokio::test]
async fn a_member_comes_back_under_its_name_after_the_broker_and_reads_again_what_it_lost() {
    let mut broker = start().await;
    let proxy = Proxy::start().await;
    proxy.point_to(Some(broker.address()));
    let client = Client::connect(proxy.url()).unwrap();
    let visits = client.subscribe("visits").group("billing").member("till-1");
    let mut visits = visits.open().await.unwrap();
    assert_eq!(assigned(&mut visits).await, (vec![0, 1], vec![]));
    let committed = batch(&mut visits).await;
    visits.processed(committed.cursor.clone());
    assert_eq!(visits.commit().await.unwrap().stale, []);
    let lost = batch(&mut visits).await;
    assert_ne!(lost.partition(), committed.partition());
    visits.processed(lost.cursor.clone());

    proxy.point_to(None);
    broker.kill9();
    assert_eq!(assigned(&mut visits).await, (vec![], vec![0, 1]));
    assert!(!visits.has_uncommitted());
    broker.restart();
    proxy.point_to(Some(broker.address()));
    assert_eq!(assigned(&mut visits).await, (vec![0, 1], vec![]));
    let again = batch(&mut visits).await;
    assert_eq!(again.partition(), lost.partition());
    assert_eq!(
        again.records, lost.records,
        "it comes again, the other does not"
    );
    let group = broker.client().get_group("billing").await.unwrap();
    assert_eq!(group.members[0].member, "till-1");
    assert_ne!(again.cursor.session, lost.cursor.session);
    // A cursor of before is of no use any more, and the new one is.
    let stale = broker.client().commit(vec![lost.cursor]).await;
    assert!(stale.unwrap_err().is(reason::STALE_SESSION));
    visits.processed(again.cursor);
    assert_eq!(visits.commit().await.unwrap().stale, []);
}

#[tokio::test]
async fn a_member_that_is_too_slow_is_told_and_another_goes_on() {
    let broker = start().await;
    let client = broker.client();
    let slow = client.subscribe("visits").group("billing");
    let slow = slow.processing_timeout(Duration::from_millis(200));
    let mut slow = slow.open().await.unwrap();
    batch(&mut slow).await;
    let told = loop {
        if let Err(told) = next(&mut slow).await {
            break told;
        }
    };
    assert!(told.is(reason::MEMBER_TIMED_OUT), "{told}");
    assert!(slow.next().await.is_none(), "it is over");
    let other = client.subscribe("visits").group("billing");
    let mut other = other.open().await.unwrap();
    assert_eq!(assigned(&mut other).await, (vec![0, 1], vec![]));
    assert_eq!(
        batch(&mut other)
            .await
            .records
            .iter()
            .next()
            .unwrap()
            .offset,
        0
    );
}

#[tokio::test]
async fn a_partition_goes_to_another_member_once_it_is_committed() {
    let broker = start().await;
    let client = broker.client();
    let member = client.subscribe("visits").group("billing");
    let mut first = member.clone().open().await.unwrap();
    assert_eq!(assigned(&mut first).await, (vec![0, 1], vec![]));
    for _ in 0..2 {
        let batch = batch(&mut first).await;
        first.processed(batch.cursor);
    }
    let mut second = member.open().await.unwrap();
    // The first is asked to give one up, and has it until it has committed.
    let revoking = loop {
        if let Event::Assignment(told) = next(&mut first).await.unwrap() {
            break told.revoking;
        }
    };
    assert_eq!(revoking.len(), 1);
    assert_eq!(first.commit().await.unwrap().stale, []);
    let (kept, lost) = assigned(&mut first).await;
    assert_eq!((kept.len(), &lost), (1, &vec![revoking[0].partition]));
    let (mut gained, _) = assigned(&mut second).await;
    while gained.is_empty() {
        (gained, _) = assigned(&mut second).await;
    }
    assert_eq!(gained, lost);
    drop(first);
    let (all, _) = assigned(&mut second).await;
    assert_eq!(all, [0, 1], "who leaves leaves all");
}
