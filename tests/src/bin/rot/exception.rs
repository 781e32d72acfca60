//! The one thing that may be lost without a word, judged apart from the code that decides it: zeros in
//! the last groups, above all that FLOOR or the frames behind can prove. `docs/durability.md`, "What is
//! not covered".

use std::ops::Range;

use crate::damage::Damage;
use crate::subject::Subject;

const HEADER_BYTES: u64 = 128;
const SECTOR_BYTES: u64 = 512;

/// Whether the loss of all from `offset` on is the documented exception; otherwise why not.
pub(crate) fn check(subject: &Subject, damage: &Damage, offset: u64) -> Result<(), String> {
    if subject.has_floor {
        return Err("FLOOR knew better".to_owned());
    }
    let whole = &subject.target_bytes;
    let own = subject
        .frames
        .iter()
        .filter_map(|frame| Some((frame, frame.bytes.clone()?)));
    let header = |bytes: &Range<u64>| bytes.start..bytes.start + HEADER_BYTES;
    let proven = own
        .clone()
        .filter(|(_, bytes)| !damage.touches(whole, &header(bytes)))
        .map(|(frame, _)| frame.durable_upto)
        .max()
        .unwrap_or(0);
    let first = own.clone().find(|(frame, _)| frame.offsets.start == offset);
    let (_, bytes) = first.ok_or("it does not end between two frames")?;
    if bytes.start < proven {
        return Err(format!("a header that is left proves {proven} bytes"));
    }
    let reach = if damage.touches(whole, &header(&bytes)) {
        header(&bytes)
    } else {
        bytes
    };
    if looks_unwritten(&damage.image(whole), &reach) {
        Ok(())
    } else {
        Err("none of its sectors is zero".to_owned())
    }
}

/// Whether a sector holds none of these bytes but zeros, or all from one of them to the file's end
/// is zero.
fn looks_unwritten(image: &[u8], bytes: &Range<u64>) -> bool {
    let is_zero = |range: Range<u64>| {
        range
            .filter_map(|at| image.get(usize::try_from(at).ok()?))
            .all(|&byte| byte == 0)
    };
    let sectors = bytes.start / SECTOR_BYTES..bytes.end.div_ceil(SECTOR_BYTES);
    let mut own = sectors.map(|sector| {
        let from = (sector * SECTOR_BYTES).max(bytes.start);
        from..((sector + 1) * SECTOR_BYTES).min(bytes.end)
    });
    own.any(is_zero) || is_zero(bytes.end - 1..image.len() as u64)
}
