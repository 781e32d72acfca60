//! How many files and maps the process may have open.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit on open files to the most that the system lets this process have, and returns
/// it; `u64::MAX` for no limit. Each partition that is written to has a file open, and the limit
/// that shells give, 1,024 on most systems, is soon too low for that.
///
/// # Errors
/// When the system refuses.
pub fn raise_open_files_limit() -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(limit.current.unwrap_or(u64::MAX))
}

/// How many files this process may have open now; `u64::MAX` for no limit.
pub fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many maps this process may have, its own program and memory among them; what Linux has by
/// default where that cannot be read.
pub fn maps_limit() -> u64 {
    let told = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    told.and_then(|told| told.trim().parse().ok())
        .unwrap_or(65_530)
}

/// Whether an operation failed since the process, or the whole system, has as many files open as it
/// may. Nothing is wrong with the file then, and the same works again once others are closed.
pub fn is_out_of_open_files(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let raised = raise_open_files_limit().unwrap();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(now.current.unwrap_or(u64::MAX), raised);
    }
}
