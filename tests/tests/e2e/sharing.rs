//! Members of a group that share a topic, with the plain stubs: many of them at once, and one behind a
//! cable that is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flowstone_proto::v1 as proto;
use flowstone_tests::{Broker, Proxy, Stub};
use tokio::task::JoinHandle;

const TOPIC: &str = "visits";
const GROUP: &str = "crew";
/// A group of a hundred members and a thousand partitions settles within 2 s, as this prints. What it is
/// held against leaves room for a machine that has much else to do.
const SETTLED: Duration = Duration::from_secs(10);
/// A silent connection is closed within this, by default, and what a machine under load takes besides.
const SILENT: Duration = Duration::from_secs(20 + 10);
const WAIT: Duration = Duration::from_secs(60);

/// What each member may read now, by its number.
type Board = Arc<Mutex<BTreeMap<usize, BTreeSet<i32>>>>;

/// A member that reads and commits nothing. It leaves when it is aborted.
async fn join(stub: &Stub, number: usize, board: &Board) -> JoinHandle<()> {
    let request = proto::SubscribeRequest {
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        ..proto::SubscribeRequest::default()
    };
    let mut log = stub.log.clone();
    let mut stream = log.subscribe(request).await.unwrap().into_inner();
    let board = Arc::clone(board);
    tokio::spawn(async move {
        while let Ok(Some(response)) = stream.message().await {
            if let Some(assignment) = response.assignment {
                let partitions = assignment.partitions.iter().map(|it| it.partition);
                board.lock().unwrap().insert(number, partitions.collect());
            }
        }
    })
}

/// Waits until so many members are told of all partitions, each of one, as evenly as can be.
async fn settled(board: &Board, members: usize, partitions: usize) -> Duration {
    let begun = Instant::now();
    loop {
        {
            let board = board.lock().unwrap();
            let told: Vec<i32> = board.values().flatten().copied().collect();
            let each: BTreeSet<i32> = told.iter().copied().collect();
            let counts = board.values().map(BTreeSet::len);
            let even = counts.clone().max() <= Some(partitions.div_ceil(members))
                && counts.clone().min() >= Some(partitions / members);
            if board.len() == members
                && each.len() == partitions
                && told.len() == partitions
                && even
            {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < WAIT, "it does not settle: {board:?}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many partitions members have lost that are still there.
fn moved(before: &BTreeMap<usize, BTreeSet<i32>>, now: &BTreeMap<usize, BTreeSet<i32>>) -> usize {
    let both = before
        .iter()
        .filter_map(|(member, had)| Some((had, now.get(member)?)));
    both.map(|(had, has)| had.difference(has).count()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_members_and_a_thousand_partitions_settle_fast_and_none_moves_needlessly() {
    let broker = Broker::start();
    let create = ["topic", "create", TOPIC, "-p", "1000"];
    broker.flowstone(create).run().ok();
    let board = Board::default();
    let mut stubs = Vec::new();
    for _ in 0..10 {
        stubs.push(Stub::connect(&broker.url()).await.unwrap());
    }
    let begun = Instant::now();
    let mut members = Vec::new();
    for number in 0..100 {
        members.push(join(&stubs[number % 10], number, &board).await);
    }
    settled(&board, 100, 1_000).await;
    let took = begun.elapsed();
    println!("100 members joined and settled in {took:?}");
    assert!(took < SETTLED, "joining took {took:?}");

    // A connection with ten of them is cut: what they had goes to the others, and nothing else moves.
    let before = board.lock().unwrap().clone();
    {
        let mut board = board.lock().unwrap();
        for number in (3..100).step_by(10) {
            members[number].abort();
            board.remove(&number);
        }
    }
    drop(stubs.remove(3));
    let took = settled(&board, 90, 1_000).await;
    println!("10 members left, settled in {took:?}");
    assert!(took < SETTLED, "leaving took {took:?}");
    let now = board.lock().unwrap().clone();
    assert_eq!(moved(&before, &now), 0);

    // Ten come: each takes its share, and no more moves.
    let begun = Instant::now();
    for number in 100..110 {
        members.push(join(&stubs[0], number, &board).await);
    }
    settled(&board, 100, 1_000).await;
    let took = begun.elapsed();
    println!("10 members joined, settled in {took:?}");
    assert!(took < SETTLED, "joining took {took:?}");
    let after = board.lock().unwrap().clone();
    assert_eq!(moved(&now, &after), 100, "ten for each of the ten");
    for member in members {
        member.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_behind_a_cut_cable_had_is_with_others_in_time() {
    let broker = Broker::start();
    broker
        .flowstone(["topic", "create", TOPIC, "-p", "4"])
        .run()
        .ok();
    let proxy = Proxy::start().await;
    proxy.point_to(Some(broker.address()));
    let board = Board::default();
    let far = Stub::connect(&proxy.url()).await.unwrap();
    let near = Stub::connect(&broker.url()).await.unwrap();
    let far_member = join(&far, 0, &board).await;
    let near_member = join(&near, 1, &board).await;
    settled(&board, 2, 4).await;
    proxy.fall_silent();
    board.lock().unwrap().remove(&0);
    let took = settled(&board, 1, 4).await;
    println!("what was behind the cut cable moved after {took:?}");
    assert!(took < SILENT, "it took {took:?}");
    far_member.abort();
    near_member.abort();
}
