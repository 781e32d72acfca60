//! Memory that was not used for a while costs a virtual machine far more the first time than after that.
//!
//! What is freed goes back to the host within seconds, and each page of it has to be had anew. So it does not help to
//! touch memory once: the page cache is kept full, and what a measured program writes takes the place of what is there.

use std::fs::{self, File};
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::machine::{available_bytes, free_bytes};

const CHUNK_BYTES: usize = 1 << 20;
/// The system keeps a part of its memory free by itself.
const FREE_BYTES_MAX: u64 = 600 << 20;
/// Left to programs.
const SPARED_BYTES: u64 = 3 << 30;
/// A file that the page cache is filled with.
#[derive(Debug)]
pub(crate) struct Filler {
    file: File,
    bytes: u64,
}

impl Filler {
    /// Writes a file of so many bytes, or of as many as the page cache can hold.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn new(dir: &Path, bytes: u64) -> Result<Self> {
        let bytes = bytes.min(available_bytes().saturating_sub(SPARED_BYTES));
        let bytes = bytes - bytes % CHUNK_BYTES as u64;
        Ok(Self {
            file: write(&dir.join("filler"), bytes)?,
            bytes,
        })
    }

    /// Fills the memory that is free now.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        for at in (0..self.bytes).step_by(CHUNK_BYTES) {
            if free_bytes() < FREE_BYTES_MAX {
                break;
            }
            if !self.is_cached(at) {
                self.file
                    .read_exact_at(&mut chunk, at)
                    .context("cannot read what memory is filled with")?;
            }
        }
        Ok(())
    }

    fn is_cached(&self, at: u64) -> bool {
        let mut byte = [0];
        let into = &mut [IoSliceMut::new(&mut byte)];
        let read = preadv2(&self.file, into, at, ReadWriteFlags::NOWAIT);
        // Where the file system cannot tell, all of it is read.
        !matches!(read, Err(Errno::AGAIN | Errno::OPNOTSUPP))
    }
}

fn write(path: &Path, bytes: u64) -> Result<File> {
    let written = || format!("cannot write {}", path.display());
    let mut file = fs::OpenOptions::new();
    let file = file.read(true).write(true).create(true).truncate(true);
    let file = file.open(path).with_context(written)?;
    let chunk = vec![1; CHUNK_BYTES];
    for at in (0..bytes).step_by(CHUNK_BYTES) {
        file.write_all_at(&chunk, at).with_context(written)?;
    }
    file.sync_all().with_context(written)?;
    Ok(file)
}
