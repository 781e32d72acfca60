//! Repairs a damaged partition and checks what is left: nothing but the frames that were damaged may
//! be lost.

use std::ops::Range;
use std::path::Path;

use flowstone_disk::{Env, ManualClock, SimDisk};
use flowstone_format::Offset;
use flowstone_log::{Floor, Log, ReadLimit, repair};

use crate::damage::Damage;
use crate::subject::{DATA_DIR, PARTITION, Subject, dir};

/// Repairs the partition on a disk of this subject that was damaged, and reads it. An error tells
/// what must not be.
pub(crate) fn check(
    subject: &Subject,
    disk: &SimDisk,
    damage: &Damage,
    seed: u64,
) -> Result<(), String> {
    let clock = ManualClock::new(1_800_000_000_000);
    let env = Env::simulated(disk, &clock, seed);
    let data_dir = Path::new(DATA_DIR);
    // A damaged FLOOR keeps the broker from starting; it is no partition's.
    let Ok((floor, _)) = Floor::open(&env.disk, data_dir) else {
        return Ok(());
    };
    let plan = || repair::plan(&env.disk, data_dir, PARTITION, Offset::ZERO);
    let planned = plan().map_err(|error| format!("no plan: {error}"))?;
    let was_sound = planned.is_sound();
    if !was_sound {
        planned
            .execute(&env)
            .map_err(|error| format!("it fails: {error}"))?;
        let again = plan().map_err(|error| format!("no second plan: {error}"))?;
        if let Some(left) = again.damages.first() {
            return Err(format!("there is still damage: {left}"));
        }
    }
    let lost: Vec<Range<u64>> = planned
        .segments
        .iter()
        .flat_map(|segment| &segment.lost)
        .map(|offsets| offsets.start.get()..offsets.end.get())
        .collect();
    let slot = floor.get(PARTITION).map_err(|error| error.to_string())?;
    let log = Log::open(&env, &dir(), PARTITION, slot, subject.config)
        .map_err(|error| format!("it does not open: {error}"))?;
    if let Some(damage) = log.damage() {
        return Err(format!("it is damaged: {damage}"));
    }
    let is_lost = |offsets: &Range<u64>| {
        let within = |lost: &Range<u64>| lost.start < offsets.end && offsets.start < lost.end;
        lost.iter().any(within) || offsets.start >= log.log_end_offset().get()
    };
    let reader = log.reader();
    for frame in &subject.frames {
        let touched = frame
            .bytes
            .as_ref()
            .is_some_and(|bytes| damage.touches(&subject.target_bytes, bytes));
        let offsets = frame.offsets.clone();
        if is_lost(&offsets) {
            // A sound partition may still end in a torn tail, which the verdict has judged.
            if touched || was_sound || !subject.has_floor {
                continue;
            }
            return Err(format!("{offsets:?} is lost, and was not damaged"));
        }
        let limit = ReadLimit {
            max_bytes: usize::MAX,
            max_records: u32::try_from(offsets.end - offsets.start).expect("it is small"),
            before: None,
        };
        let batch = reader
            .read(Offset::new(offsets.start), &limit)
            .map_err(|error| format!("{offsets:?} cannot be read: {error}"))?;
        if batch.chunks.concat() != subject.stored(offsets.clone()) {
            return Err(format!("{offsets:?} is not what was written"));
        }
    }
    let end = log.log_end_offset().get();
    if subject.has_floor && end != subject.end() {
        return Err(format!("the log goes on at {end}"));
    }
    Ok(())
}
