//! A file of the real disk.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

use super::map::RealMap;
use crate::{File, Map};

#[derive(Debug)]
pub(super) struct RealFile {
    file: fs::File,
}

impl RealFile {
    pub(super) fn new(file: fs::File) -> Self {
        RealFile { file }
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, buf, at)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        for (piece, at) in pieces(buf, at) {
            // pwrite in a loop: std goes on after short writes and interruptions.
            FileExt::write_all_at(&self.file, piece, at)?;
        }
        Ok(())
    }

    fn reserve(&self, at: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match retry_on_intr(|| fallocate(&self.file, FallocateFlags::empty(), at, len)) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => fill_with_zeros(&self.file, at, len),
            // A quota that is used up calls for the same answer as a full disk, so callers see one
            // kind.
            Err(Errno::DQUOT) => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the disk quota is used up",
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(retry_on_intr(|| fallocate(&self.file, flags, at, len))?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn map(&self, capacity: u64) -> io::Result<Arc<dyn Map>> {
        Ok(Arc::new(RealMap::new(&self.file, capacity)?))
    }
}

/// How far one write goes at most: the system takes memory for what it is handed in one piece where it can, up to the 2 MiB
/// of a huge page. Free memory that lies together in such pieces is what a virtual machine gives back to its host
/// (free page reporting, `mm/page_reporting.c` of Linux), and each page of it that is used again costs several times
/// what it takes to write it. Of smaller pieces there is more: see `docs/performance.md`.
const PIECE_BYTES: u64 = 256 << 10;

/// A write in pieces that end where a multiple of [`PIECE_BYTES`] does, each with its place in the file.
fn pieces(mut buf: &[u8], mut at: u64) -> impl Iterator<Item = (&[u8], u64)> {
    std::iter::from_fn(move || {
        let room = PIECE_BYTES - at % PIECE_BYTES;
        let len = usize::try_from(room).map_or(buf.len(), |room| room.min(buf.len()));
        let (piece, rest) = buf.split_at(len);
        let begin = at;
        buf = rest;
        at += len as u64;
        (len > 0).then_some((piece, begin))
    })
}

/// What reservation is on file systems without fallocate: zeros written from the file's end on.
/// Holes before it stay holes.
fn fill_with_zeros(file: &fs::File, at: u64, len: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let end = at.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
    let mut at = file.metadata()?.len();
    while at < end {
        let step = ZEROS
            .len()
            .min(usize::try_from(end - at).unwrap_or(usize::MAX));
        FileExt::write_all_at(file, &ZEROS[..step], at)?;
        at += step as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_cut_where_a_multiple_of_a_piece_ends() {
        let piece = PIECE_BYTES as usize;
        let bytes: Vec<u8> = (0..2 * piece + 100).map(|it| (it % 251) as u8).collect();
        let cut = |len: usize, at: u64| {
            let cut = pieces(&bytes[..len], at).map(|(piece, at)| (at, piece.len()));
            cut.collect::<Vec<_>>()
        };
        assert_eq!(cut(0, 5), []);
        assert_eq!(cut(100, 5), [(5, 100)]);
        assert_eq!(cut(piece, 0), [(0, piece)]);
        let end = PIECE_BYTES;
        assert_eq!(cut(10, end - 10), [(end - 10, 10)]);
        assert_eq!(
            cut(2 * piece + 20, end - 10),
            [
                (end - 10, 10),
                (end, piece),
                (2 * end, piece),
                (3 * end, 10)
            ]
        );

        let file = RealFile::new(tempfile::tempfile().unwrap());
        file.write_all_at(&bytes, end - 30).unwrap();
        let mut read = vec![0; bytes.len()];
        file.read_exact_at(&mut read, end - 30).unwrap();
        assert_eq!(read, bytes);
    }

    #[test]
    fn filling_with_zeros_extends_and_leaves_what_was_there() {
        let file = tempfile::tempfile().unwrap();
        FileExt::write_all_at(&file, b"here", 0).unwrap();
        fill_with_zeros(&file, 0, 200_000).unwrap();
        fill_with_zeros(&file, 0, 100).unwrap();
        let mut bytes = vec![1; 200_000];
        FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 200_000);
        assert_eq!(&bytes[..4], b"here");
        assert!(bytes[4..].iter().all(|byte| *byte == 0));
    }
}
