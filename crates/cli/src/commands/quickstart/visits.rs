//! What is produced: lines of a file, or a made-up day at six lemonade stands.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use flowstone_client::Record;
use tokio::fs::File;

use crate::lines::Lines;

/// Visits in the made-up day.
const VISITS: usize = 4_000;
/// Ten in the morning of a Saturday in June 2019, in Unix milliseconds.
const OPENING_MS: i64 = 1_560_592_800_000;
/// Of a file, at most so much is used: it is kept in memory to be compared with.
const LINES_MAX: usize = 200_000;
const BYTES_MAX: usize = 64 << 20;
const LINE_BYTES_MAX: usize = 512 << 10;

const STANDS: [&str; 6] = ["harbour", "park", "station", "beach", "market", "museum"];
const FLAVOURS: [(&str, u64); 5] = [
    ("classic", 250),
    ("mint", 300),
    ("ginger", 320),
    ("raspberry", 350),
    ("cucumber", 300),
];

/// A day of visits, the same every time: the key is the stand, the timestamp is when it was.
pub(super) fn made_up() -> Vec<Record> {
    let mut dice = Dice(0x0001_e30a_de57_a11d);
    let mut at_ms = OPENING_MS;
    (0..VISITS)
        .map(|number| {
            at_ms += 1_000 + dice.below(12_000) as i64;
            visit(number, at_ms, &mut dice)
        })
        .collect()
}

/// The visits after a day, while the broker is killed: they go on where the day ended.
pub(super) fn more(after: &[Record], count: usize) -> Vec<Record> {
    let mut dice = Dice(0x0005_ec0d_da7e_0001);
    let mut at_ms = after
        .last()
        .map_or(OPENING_MS, |record| record.timestamp_ms);
    (0..count)
        .map(|number| {
            at_ms += 1 + dice.below(2) as i64;
            visit(after.len() + number, at_ms, &mut dice)
        })
        .collect()
}

fn visit(number: usize, at_ms: i64, dice: &mut Dice) -> Record {
    let stand = STANDS[dice.below(STANDS.len() as u64) as usize];
    let (flavour, cents) = FLAVOURS[dice.below(FLAVOURS.len() as u64) as usize];
    let glasses = 1 + dice.below(4);
    let value = format!(
        "visit {number}: {glasses} {flavour} at the {stand}, {} cents",
        glasses * cents
    );
    Record {
        key: Some(Bytes::from_static(stand.as_bytes())),
        value: Some(value.into()),
        timestamp_ms: at_ms,
        ..Record::default()
    }
}

/// A record for each line of a file.
pub(super) async fn from_file(path: &Path) -> Result<Vec<Record>> {
    let name = path.display();
    let file = File::open(path)
        .await
        .with_context(|| format!("cannot open {name}"))?;
    let mut lines = Lines::new(file, LINE_BYTES_MAX);
    let mut records = Vec::new();
    let mut bytes = 0;
    while let Some(line) = lines
        .next()
        .await
        .with_context(|| format!("{name}, line {}", records.len() + 1))?
    {
        bytes += line.len();
        if records.len() == LINES_MAX || bytes > BYTES_MAX {
            break;
        }
        // A slice would keep the piece of the file that it was read in.
        records.push(Record {
            value: Some(Bytes::copy_from_slice(&line)),
            ..Record::default()
        });
    }
    if records.len() < 2 {
        bail!("{name} has fewer than two lines: there is no story in it");
    }
    Ok(records)
}

/// Marsaglia's xorshift: small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_the_same_every_time_and_in_order() {
        let day = made_up();
        assert_eq!(day, made_up());
        assert_eq!(day.len(), VISITS);
        assert!(
            day.windows(2)
                .all(|pair| pair[0].timestamp_ms < pair[1].timestamp_ms)
        );
        let evening = more(&day, 100);
        assert!(evening[0].timestamp_ms > day[VISITS - 1].timestamp_ms);
    }

    #[test]
    fn every_stand_is_visited() {
        let day = made_up();
        for stand in STANDS {
            assert!(
                day.iter()
                    .any(|visit| visit.key.as_deref() == Some(stand.as_bytes()))
            );
        }
    }
}
