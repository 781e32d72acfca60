//! What counts as torn, sector by sector.

use std::path::Path;
use std::sync::Arc;

use flowstone_disk::{Disk, OpenMode, SimDisk};
use flowstone_format::Offset;

use super::*;

fn file(bytes: &[u8]) -> Arc<dyn File> {
    let disk = SimDisk::new(1);
    let file = disk.open(Path::new("/f"), OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn torn(bytes: &[u8], at: u64, own_len: u64) -> bool {
    let file = file(bytes);
    let last = last_nonzero(&*file, at)
        .unwrap()
        .expect("something is there");
    is_torn(&*file, at, own_len, last).unwrap()
}

#[test]
fn a_frame_with_a_zero_sector_is_torn() {
    // 300..2000 is the frame; its own bytes of sector 512..1024 were not written.
    let mut bytes = vec![7; 4096];
    bytes[512..1024].fill(0);
    assert!(torn(&bytes, 300, 1700));
}

#[test]
fn the_first_and_last_partial_sectors_count_too() {
    let mut bytes = vec![7; 4096];
    bytes[300..512].fill(0);
    assert!(torn(&bytes, 300, 1700));
    let mut bytes = vec![7; 4096];
    bytes[1536..2000].fill(0);
    assert!(torn(&bytes, 300, 1700), "only the frame's own bytes count");
}

#[test]
fn a_frame_whose_sectors_all_hold_something_is_rot() {
    assert!(!torn(&[7; 4096], 300, 1700));
    let mut bytes = vec![7; 4096];
    bytes[513..1024].fill(0);
    assert!(!torn(&bytes, 300, 1700), "one byte of the sector is there");
}

#[test]
fn zeros_from_inside_the_frame_to_the_end_are_torn() {
    let mut bytes = vec![7; 4096];
    bytes[1999..].fill(0);
    assert!(torn(&bytes, 300, 1700), "the frame's last byte is missing");
    bytes[1999] = 7;
    assert!(
        !torn(&bytes, 300, 1700),
        "the frame is there to its last byte"
    );
}

#[test]
fn what_lies_past_the_end_of_the_file_counts_as_zero() {
    assert!(torn(&[7; 1000], 300, 1700));
}

#[test]
fn the_last_byte_that_is_not_zero_is_found_over_chunk_borders() {
    let len = usize::try_from(CHUNK_BYTES).unwrap() * 2 + 10;
    for place in [0, 9, 10, len / 2, len - 1] {
        let mut bytes = vec![0; len];
        bytes[place] = 1;
        assert_eq!(last_nonzero(&*file(&bytes), 0).unwrap(), Some(place as u64));
    }
    assert_eq!(last_nonzero(&*file(&vec![0; len]), 0).unwrap(), None);
    assert_eq!(last_nonzero(&*file(&[1, 0, 0]), 1).unwrap(), None);
}

#[test]
fn a_header_behind_is_found_wherever_it_lies_over_chunk_borders() {
    const SALT: u64 = 5;
    const FROM: u64 = 77;
    let len = FROM + CHUNK_BYTES + 1_000;
    let header_len = flowstone_format::FRAME_HEADER_LEN as u64;
    let border = FROM + CHUNK_BYTES;
    let around = [0, 1, 3, 4, 60, header_len - 1, header_len].map(|before| border - before);
    let others = [FROM, FROM + 1, border + 1, border + 300, len - header_len];
    for place in around.into_iter().chain(others) {
        let mut header = FrameHeader::gap(Offset::ZERO..Offset::new(1), 1, 1, 0);
        let durable_upto = Position::new(place - 10);
        header.durable_upto = durable_upto;
        let mut bytes = vec![0; index(len)];
        let at = index(place);
        header.encode(SALT, Position::new(place), &mut bytes[at..]);
        let file = file(&bytes);
        let found = |from| durable_upto_behind(&*file, from, SALT).unwrap();
        assert_eq!(found(FROM), Some(durable_upto), "at {place}");
        assert_eq!(found(place + 1), None, "none lies behind {place}");
    }
}
