//! One member, over many lives: it joins, reads, processes, commits, and ends in all kinds of ways.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flowstone_proto::v1 as proto;
use tonic::{Code, Status, Streaming};

use super::ledger::Holding;
use super::{GROUP, PATIENCE, Phase, Stage, TOPIC};
use crate::{Dice, Stub};

/// A member.
pub(super) struct Member {
    stage: Stage,
    number: u64,
    dice: Dice,
}

/// How a life goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Commits all along and leaves with everything committed.
    Good,
    /// Its connection is cut.
    Cut,
    /// Takes a pause now and then that is longer than it may take, and tries to commit after it.
    Pauses,
    /// Releases what it is to give up.
    Releases,
}

/// What one stream has shown.
#[derive(Debug, Default)]
struct Life {
    /// Which broker the stream is of.
    broker: u64,
    /// By partition: the cursor and the offsets that are not committed.
    held: BTreeMap<i32, Held>,
    /// Partitions that are to be given up.
    revoking: Vec<i32>,
}

#[derive(Debug)]
struct Held {
    holding: Holding,
    cursor: proto::Cursor,
    from: i64,
}

impl Member {
    pub(super) fn new(stage: Stage, number: u64, dice: Dice) -> Self {
        Self {
            stage,
            number,
            dice,
        }
    }

    /// Lives until all is over.
    pub(super) async fn live(self) {
        while !self.stage.is(Phase::Over) {
            // Often fewer are there than partitions, so that some have two, of which one moves later.
            let most = match self.stage.is(Phase::Chaos) && self.dice.once_in(2) {
                true => 3_000,
                false => 200,
            };
            let pause = self.dice.pick(0..most);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let Some(stub) = self.stage.connect().await else {
                continue;
            };
            self.one_life(stub).await;
        }
    }

    fn style(&self) -> Style {
        if !self.stage.is(Phase::Chaos) {
            return Style::Good;
        }
        match self.dice.pick(0..10) {
            0..4 => Style::Good,
            4..6 => Style::Cut,
            6..8 => Style::Pauses,
            _ => Style::Releases,
        }
    }

    fn request(&self) -> proto::SubscribeRequest {
        let named = self.number.is_multiple_of(2);
        // Sometimes it takes another's name.
        let of = if self.dice.once_in(12) {
            0
        } else {
            self.number
        };
        proto::SubscribeRequest {
            topic: TOPIC.to_owned(),
            group: GROUP.to_owned(),
            member: if named {
                format!("m{of}")
            } else {
                String::new()
            },
            max_batch_bytes: 1 + self.dice.pick(0..400) as i32,
            max_uncommitted_records: if self.dice.once_in(2) { 20 } else { 0 },
            ..proto::SubscribeRequest::default()
        }
    }

    async fn one_life(&self, mut stub: Stub) {
        let style = self.style();
        let until = Instant::now() + Duration::from_millis(self.dice.pick(300..4_000));
        let broker = self.stage.ledger.lock().life();
        let opening = tokio::time::timeout(PATIENCE, stub.log.subscribe(self.request())).await;
        let mut stream = match opening {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return self.ended(&status),
            Err(_) => return,
        };
        {
            let mut ledger = self.stage.ledger.lock();
            if ledger.life() != broker {
                // Nobody knows of which one it is.
                return;
            }
            ledger.count(|counts| &mut counts.lives);
        }
        let mut life = Life {
            broker,
            ..Life::default()
        };
        loop {
            let over = match self.stage.is(Phase::Chaos) {
                true => Instant::now() >= until,
                false => self.stage.is(Phase::Over),
            };
            if over {
                break;
            }
            let next = tokio::time::timeout(Duration::from_millis(100), stream.message()).await;
            match next {
                Ok(Ok(Some(response))) => self.take(&mut life, response),
                Ok(Ok(None)) => panic!("a stream of a group does not end well"),
                Ok(Err(status)) => return self.ended(&status),
                Err(_) => {}
            }
            if style == Style::Pauses && self.dice.once_in(40) && self.stage.is(Phase::Chaos) {
                self.stage.ledger.lock().count(|counts| &mut counts.pauses);
                let ms = self.dice.pick(500..3_500);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            let due = match life.revoking.is_empty() {
                true => self.dice.once_in(10),
                false => self.dice.once_in(3),
            };
            if due && !self.commit(&mut life, &mut stub, style).await {
                return;
            }
        }
        if style == Style::Cut {
            self.stage.ledger.lock().count(|counts| &mut counts.cut);
            cut(stream, stub);
            return;
        }
        self.commit(&mut life, &mut stub, style).await;
    }

    /// Takes what has come.
    fn take(&self, life: &mut Life, response: proto::SubscribeResponse) {
        assert_eq!(response.error, None, "every partition is sound");
        let mut ledger = self.stage.ledger.lock();
        if let Some(assignment) = response.assignment {
            for lost in &assignment.lost {
                ledger.count(|counts| &mut counts.lost);
                // To keep what cannot be committed would be a member's mistake. Some do, and try.
                if self.dice.once_in(2) {
                    life.held.remove(&lost.partition);
                }
            }
            life.revoking = assignment.revoking.iter().map(|it| it.partition).collect();
            for partition in &life.revoking {
                if let Some(held) = life.held.get(partition) {
                    ledger.revoked(&held.holding);
                }
            }
            return;
        }
        let Some(cursor) = response.cursor.filter(|_| !response.records.is_empty()) else {
            return;
        };
        let holding = Holding::of(&cursor, life.broker);
        let records = response.records.into_iter();
        let records: Vec<(i64, Vec<u8>)> = records
            .map(|it| (it.offset, it.value.unwrap_or_default().to_vec()))
            .collect();
        ledger.delivered(&holding, &records);
        let from = records[0].0;
        match life.held.get_mut(&cursor.partition) {
            Some(held) if held.holding == holding => held.cursor = cursor,
            _ => {
                let held = Held {
                    holding,
                    from,
                    cursor,
                };
                life.held.insert(held.cursor.partition, held);
            }
        }
    }

    /// Processes and commits all that is held. False when the broker is gone.
    async fn commit(&self, life: &mut Life, stub: &mut Stub, style: Style) -> bool {
        let held = std::mem::take(&mut life.held);
        let revoking = std::mem::take(&mut life.revoking);
        let mut request = proto::CommitOffsetsRequest::default();
        let mut commits = Vec::new();
        {
            let mut ledger = self.stage.ledger.lock();
            for (partition, held) in held {
                if style == Style::Releases && revoking.contains(&partition) {
                    ledger.count(|counts| &mut counts.released);
                    request.released.push(held.cursor);
                    continue;
                }
                ledger.processed(&held.holding, held.from, held.cursor.offset);
                commits.push(ledger.committing(&held.holding, held.cursor.offset));
                request.cursors.push(held.cursor);
            }
        }
        if request.cursors.is_empty() && request.released.is_empty() {
            return true;
        }
        let sent = request.cursors.clone();
        let answer = tokio::time::timeout(PATIENCE, stub.log.commit_offsets(request)).await;
        let mut ledger = self.stage.ledger.lock();
        let stale = match answer {
            Ok(Ok(response)) => response.into_inner().stale,
            Ok(Err(status)) if reason(&status) == "STALE_SESSION" => sent.clone(),
            Ok(Err(_)) | Err(_) => {
                ledger.count(|counts| &mut counts.unknown);
                return false;
            }
        };
        for (cursor, commit) in sent.iter().zip(&commits) {
            if stale.contains(cursor) {
                ledger.count(|counts| &mut counts.stale);
            } else {
                ledger.stored(commit);
            }
        }
        true
    }

    /// Why the stream is over.
    fn ended(&self, status: &Status) {
        let mut ledger = self.stage.ledger.lock();
        match (status.code(), reason(status)) {
            (Code::Aborted, "MEMBER_TIMED_OUT") => ledger.count(|counts| &mut counts.timed_out),
            (Code::Aborted, "MEMBER_REPLACED") => ledger.count(|counts| &mut counts.replaced),
            (Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal, _) => {}
            _ => panic!("a stream ended with {status}"),
        }
    }
}

/// Closes the connection with everything on it.
fn cut(stream: Streaming<proto::SubscribeResponse>, stub: Stub) {
    drop(stub);
    drop(stream);
}

fn reason(status: &Status) -> &str {
    let reason = status.metadata().get("flowstone-reason");
    reason.and_then(|it| it.to_str().ok()).unwrap_or("")
}
