//! Replay of logs as crashes, newer versions and damage may leave them.

use prost::Message;

use super::StateMachine;
use super::entry::{Entry, EntryKind, SnapshotBegin, SnapshotEnd};
use super::replay::{Replay, ReplayError};

/// Adds up what it is told.
#[derive(Debug, Default)]
struct Sum(u64);

#[derive(Clone, Copy, PartialEq, Message)]
struct Add {
    #[prost(uint64, tag = "1")]
    number: u64,
}

/// [`Add`] as a newer version might have it.
#[derive(Clone, Copy, PartialEq, Message)]
struct AddTimes {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint64, tag = "2")]
    times: u64,
}

impl StateMachine for Sum {
    type Command = Add;
    type Snapshot = Add;

    fn apply(&mut self, command: &Add) -> Result<(), String> {
        self.0 = self.0.checked_add(command.number).ok_or("too much")?;
        Ok(())
    }

    fn snapshot(&self) -> Add {
        Add { number: self.0 }
    }

    fn restore(snapshot: Add) -> Result<Self, String> {
        Ok(Self(snapshot.number))
    }
}

fn entry(kind: EntryKind) -> Vec<u8> {
    Entry { kind: Some(kind) }.encode_to_vec()
}

fn add(number: u64) -> Vec<u8> {
    entry(EntryKind::Command(Add { number }.encode_to_vec()))
}

/// A snapshot of a sum, in pieces of one byte.
fn snapshot(sum: u64) -> Vec<Vec<u8>> {
    let bytes = Add { number: sum }.encode_to_vec();
    let total_bytes = bytes.len() as u64;
    let mut entries = vec![entry(EntryKind::Begin(SnapshotBegin { total_bytes }))];
    entries.extend(
        bytes
            .chunks(1)
            .map(|byte| entry(EntryKind::Chunk(byte.to_vec()))),
    );
    entries.push(entry(EntryKind::End(SnapshotEnd {})));
    entries
}

fn replay(values: &[Vec<u8>]) -> Result<u64, ReplayError> {
    let mut replay = Replay::<Sum>::new(4096);
    for (offset, value) in (0..).zip(values) {
        replay.take(offset, value)?;
    }
    Ok(replay.state.0)
}

fn is_newer(values: &[Vec<u8>]) -> bool {
    matches!(replay(values), Err(ReplayError::Newer { .. }))
}

fn is_damaged(values: &[Vec<u8>]) -> bool {
    matches!(replay(values), Err(ReplayError::Damaged { .. }))
}

#[test]
fn a_snapshot_stands_for_all_before_it_whether_that_is_gone_or_not() {
    let after = [add(4)];
    let whole = [&[add(1), add(2)][..], &snapshot(3), &after].concat();
    let trimmed = [&snapshot(3)[..], &after].concat();
    assert_eq!(replay(&whole), Ok(7));
    assert_eq!(replay(&trimmed), Ok(7));
}

#[test]
fn a_snapshot_that_a_crash_cut_off_counts_for_nothing() {
    let snapshot = snapshot(300);
    for kept in 0..snapshot.len() {
        let cut = [&[add(1), add(2)], &snapshot[..kept]].concat();
        assert_eq!(replay(&cut), Ok(3), "{kept} entries of the snapshot");
        let and_on = [&cut[..], &[add(4)]].concat();
        assert_eq!(replay(&and_on), Ok(7), "{kept} entries of the snapshot");
        let again = [&and_on[..], &self::snapshot(7), &[add(1)]].concat();
        assert_eq!(replay(&again), Ok(8), "{kept} entries of the snapshot");
    }
}

#[test]
fn what_a_newer_version_wrote_is_refused_as_such() {
    let times = AddTimes {
        number: 1,
        times: 3,
    };
    assert!(is_newer(&[entry(EntryKind::Command(
        times.encode_to_vec()
    ))]));
    // Field 9 of an entry, of length 0.
    assert!(is_newer(&[vec![0x4a, 0x00]]));
    let bytes = times.encode_to_vec();
    let total_bytes = bytes.len() as u64;
    assert!(is_newer(&[
        entry(EntryKind::Begin(SnapshotBegin { total_bytes })),
        entry(EntryKind::Chunk(bytes)),
        entry(EntryKind::End(SnapshotEnd {})),
    ]));
}

#[test]
fn what_cannot_be_is_damage() {
    let begin = |total_bytes| entry(EntryKind::Begin(SnapshotBegin { total_bytes }));
    let chunk = |bytes: &[u8]| entry(EntryKind::Chunk(bytes.to_vec()));
    let end = || entry(EntryKind::End(SnapshotEnd {}));
    assert!(is_damaged(&[Vec::new()]), "an empty entry");
    assert!(is_damaged(&[vec![0x0a, 0x7f]]), "an entry that is cut off");
    assert!(is_damaged(&[chunk(b"x")]), "a piece of nothing");
    assert!(is_damaged(&[end()]), "the end of nothing");
    assert!(
        is_damaged(&[begin(2), chunk(b"x"), end()]),
        "a piece too few"
    );
    assert!(is_damaged(&[begin(1), chunk(b"xx")]), "a piece too large");
    assert!(is_damaged(&[begin(u64::MAX)]), "more than memory holds");
    assert!(
        is_damaged(&[add(u64::MAX), add(1)]),
        "a command that cannot follow"
    );
}

#[test]
fn behind_lost_records_the_rest_is_taken_until_a_snapshot_stands_for_all() {
    let with_gap = |values: &[Vec<u8>], rest: &[Vec<u8>]| {
        let mut replay = Replay::<Sum>::new(4096);
        for (offset, value) in (0..).zip(values) {
            replay.take(offset, value).unwrap();
        }
        let from = values.len() as u64;
        replay.lose(from..from);
        assert_eq!(replay.loss, None, "nothing is lost");
        replay.lose(from..from + 3);
        for (offset, value) in (from + 3..).zip(rest) {
            replay.take(offset, value).unwrap();
        }
        let told = replay.loss.map(|loss| loss.to_string());
        (replay.state.0, told)
    };
    let lost = |text: &str| Some(text.to_owned());
    assert_eq!(with_gap(&[add(1)], &[add(4)]), (5, lost("1 to 4")));
    // A command that does not follow without the lost ones is left out.
    let (sum, told) = with_gap(&[add(2)], &[add(u64::MAX), add(3)]);
    assert_eq!(
        (sum, told),
        (5, lost("1 to 4; [4] do not follow without them"))
    );
    // Of a snapshot the beginning, the middle or the end may be lost.
    let snapshot = snapshot(300);
    for from in 0..snapshot.len() {
        let (sum, told) = with_gap(&[add(1)], &[&snapshot[from..], &[add(2)]].concat());
        let whole = from == 0;
        assert_eq!(
            (sum, told.is_none()),
            if whole { (302, true) } else { (3, false) }
        );
        let (sum, told) = with_gap(&[&[add(1)], &snapshot[..from]].concat(), &[add(2)]);
        assert_eq!((sum, told.is_some()), (3, true));
    }
}
