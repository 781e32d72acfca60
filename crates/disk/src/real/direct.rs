//! A file of the real disk that is read past the page cache.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::file::RealFile;
use crate::{File, Map};

/// What O_DIRECT wants places, lengths and memory to be multiples of; enough for disks of any
/// sector size in use.
const BLOCK_BYTES: usize = 4096;

/// Reads come from the medium. Where the file system cannot do that they come through the page
/// cache.
#[derive(Debug)]
pub(super) struct DirectFile {
    /// `None` where the file system refuses O_DIRECT when the file is opened, as some in memory do.
    direct: Option<fs::File>,
    plain: RealFile,
}

impl DirectFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let plain = RealFile::new(fs::File::open(path)?);
        let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open(2)");
        let opened = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path);
        let direct = match opened {
            Ok(file) => Some(file),
            Err(error) if is_refused(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { direct, plain })
    }
}

fn is_refused(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::OPNOTSUPP)
    )
}

/// Fills `buf` from whole blocks.
fn read_blocks(file: &fs::File, buf: &mut [u8], at: u64) -> io::Result<()> {
    let skip = usize::try_from(at % BLOCK_BYTES as u64).expect("less than a block");
    let wanted = skip + buf.len();
    let len = wanted.next_multiple_of(BLOCK_BYTES);
    let mut space = vec![0; len + BLOCK_BYTES];
    let aligned = space.as_ptr().align_offset(BLOCK_BYTES);
    let blocks = &mut space[aligned..aligned + len];
    let first = at - skip as u64;
    let mut done = 0;
    while done < wanted {
        match file.read_at(&mut blocks[done..], first + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                done += read;
                // A read that ends within a block has come to the end of the file.
                if done < wanted && !done.is_multiple_of(BLOCK_BYTES) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buf.copy_from_slice(&blocks[skip..wanted]);
    Ok(())
}

impl File for DirectFile {
    fn len(&self) -> io::Result<u64> {
        self.plain.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let Some(direct) = &self.direct else {
            return self.plain.read_exact_at(buf, at);
        };
        match read_blocks(direct, buf, at) {
            // Some file systems take the flag and refuse the reads.
            Err(error) if is_refused(&error) => self.plain.read_exact_at(buf, at),
            read => read,
        }
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.plain.write_all_at(buf, at)
    }

    fn reserve(&self, at: u64, len: u64) -> io::Result<()> {
        self.plain.reserve(at, len)
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.plain.punch(at, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plain.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.plain.sync_all()
    }

    fn map(&self, capacity: u64) -> io::Result<Arc<dyn Map>> {
        self.plain.map(capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any place and any length, as the page cache has them.
    fn reads_like_a_plain_file(directory: &Path) -> DirectFile {
        let path = directory.join("file");
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES + 100)
            .map(|n| (n % 251) as u8)
            .collect();
        fs::write(&path, &bytes).unwrap();
        let file = DirectFile::open(&path).unwrap();
        for at in [0, 1, 511, 512, 4095, 4096, 4097, 8192, 12_000] {
            for len in [0, 1, 511, 512, 4096, 4097, 8191] {
                let mut buf = vec![0xee; len];
                let read = file.read_exact_at(&mut buf, at as u64);
                match bytes.get(at..at + len) {
                    Some(there) => {
                        read.unwrap();
                        assert_eq!(buf, there, "{len} bytes at {at}");
                    }
                    None => assert_eq!(
                        read.unwrap_err().kind(),
                        io::ErrorKind::UnexpectedEof,
                        "{len} bytes at {at}"
                    ),
                }
            }
        }
        file
    }

    #[test]
    fn whole_and_broken_blocks_are_read() {
        // The build directory lies on a disk; the system's directory for temporary files need not.
        let target = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = reads_like_a_plain_file(target.path());
        if let Some(direct) = &file.direct {
            let mut odd = [0; 3];
            let refused = direct.read_at(&mut odd, 1);
            assert!(refused.is_err(), "the flag is set, or it would be read");
        }
    }

    #[test]
    fn a_file_system_in_memory_is_read_too() {
        let shm = Path::new("/dev/shm");
        if shm.is_dir() {
            reads_like_a_plain_file(tempfile::tempdir_in(shm).unwrap().path());
        }
    }

    #[test]
    fn it_takes_no_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"bytes").unwrap();
        let file = DirectFile::open(&path).unwrap();
        assert!(file.write_all_at(b"x", 0).is_err());
    }
}
