//! A small ext4 on a loop device, and a file of somebody else that takes its space.

use std::path::{Path, PathBuf};

use flowstone_disk::{Disk, OpenMode, RealDisk};
use flowstone_tests::mounts::{Mounted, make_ext4, must};

const VOLUME_BYTES: u64 = 96 << 20;
const BLOCK_BYTES: u64 = 4096;

/// The volume. Dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct Volume {
    directory: PathBuf,
    _mounted: Mounted,
}

impl Volume {
    /// Makes it in a file of `workspace` and mounts it there.
    pub(crate) fn make(workspace: &Path) -> Result<Self, String> {
        let (image, directory) = (workspace.join("volume.img"), workspace.join("volume"));
        let told = |error: std::io::Error| format!("{}: {error}", image.display());
        make_ext4(&image, VOLUME_BYTES, BLOCK_BYTES as u32).map_err(told)?;
        // All of it is for everybody.
        must("tune2fs", ["-m".as_ref(), "0".as_ref(), image.as_os_str()]);
        std::fs::create_dir_all(&directory).map_err(told)?;
        Ok(Self {
            _mounted: Mounted::image(&image, &directory)?,
            directory,
        })
    }

    /// Where the broker's data lies.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Whether the broker's reserve stands.
    pub(crate) fn has_reserve(&self) -> bool {
        self.data_dir().join("RESERVE").exists()
    }

    /// How many bytes are free.
    pub(crate) fn free_bytes(&self) -> u64 {
        RealDisk
            .free_bytes(&self.directory)
            .expect("the volume is mounted")
    }

    /// Somebody else takes all but so many bytes, or all there are.
    pub(crate) fn take_all_but(&self, left: u64) {
        let path = self.foreign();
        let mode = if path.exists() {
            OpenMode::ReadWrite
        } else {
            OpenMode::CreateNew
        };
        // A volume without a block for the name has no space to take either.
        let Ok(file) = RealDisk.open(&path, mode) else {
            return;
        };
        let mut step = whole_blocks(self.free_bytes().saturating_sub(left));
        while step >= BLOCK_BYTES {
            let end = file.len().expect("the file is open");
            match file.reserve(end, step) {
                Ok(()) if left > 0 => return,
                Ok(()) => {}
                Err(_) => step = whole_blocks(step / 2),
            }
        }
    }

    /// Somebody else gives back all that was taken.
    pub(crate) fn give_back(&self) {
        let _ = std::fs::remove_file(self.foreign());
    }

    fn foreign(&self) -> PathBuf {
        self.directory.join("foreign")
    }
}

fn whole_blocks(bytes: u64) -> u64 {
    bytes / BLOCK_BYTES * BLOCK_BYTES
}
