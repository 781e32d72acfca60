//! What lies in the files of a broken image.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::Path;

use flowstone_tests::mounts::Mounted;
use flowstone_tests::server::command;

use crate::check::Places;
use crate::cut::{Cut, write_image};
use crate::recording::Recording;

const DUMPED_BYTES: u64 = 16 << 10;
const SECTOR_BYTES: u64 = 512;
/// As long as the header of a frame.
const SHOWN_BYTES: usize = 128;

impl Places<'_> {
    /// What lies in the files as the power cut left them, and what `log verify` says of it.
    pub(crate) fn evidence(
        &self,
        recording: &Recording,
        cut: &Cut,
        log: &str,
    ) -> Result<String, String> {
        let image = self.workspace.join("evidence");
        let directory = self.workspace.join("image-mounted");
        let (content, _) = cut.content(&recording.ops, recording.about.disk_bytes as usize);
        write_image(&image, &content).map_err(|error| error.to_string())?;
        let (_mounted, _) = Mounted::after_cut(&image, &directory, false)?;
        let output = command(self.binary)
            .args(["log", "verify"])
            .arg(directory.join("data"))
            .output();
        let output = output.map_err(|error| error.to_string())?;
        let mut told = format!("log verify answers {}:\n", output.status);
        told.push_str(&String::from_utf8_lossy(&output.stdout));
        told.push_str(&String::from_utf8_lossy(&output.stderr));
        let mut dumped = BTreeSet::new();
        for line in log
            .lines()
            .filter(|line| line.contains("damaged from offset"))
        {
            told.push_str(&format!("{line}\n"));
            let place = line
                .split_once(" on: ")
                .and_then(|(_, rest)| rest.split_once(" at byte "));
            let Some((path, rest)) = place else { continue };
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if let Ok(position) = digits.parse()
                && dumped.insert((path, position))
            {
                told.push_str(&dump(Path::new(path), position));
            }
        }
        Ok(told)
    }
}

/// The sectors of a file from before a position on, in short.
fn dump(path: &Path, position: u64) -> String {
    let Ok(file) = std::fs::File::open(path) else {
        return format!("{} cannot be opened\n", path.display());
    };
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    let mut told = format!(
        "{} of {len} bytes, from byte {position} on:\n",
        path.display()
    );
    let mut at = position / SECTOR_BYTES * SECTOR_BYTES;
    let end = len.min(at + DUMPED_BYTES);
    while at < end {
        let mut sector = vec![0; (len - at).min(SECTOR_BYTES) as usize];
        if let Err(error) = file.read_exact_at(&mut sector, at) {
            return format!("{told}  {at}: {error}\n");
        }
        let nonzero = sector.iter().filter(|byte| **byte != 0).count();
        let from = position.saturating_sub(at).min(sector.len() as u64) as usize;
        let shown: String = if nonzero == 0 {
            "zeros".to_owned()
        } else {
            let bytes = sector[from..].iter().take(SHOWN_BYTES);
            bytes.map(|byte| format!("{byte:02x}")).collect()
        };
        told.push_str(&format!(
            "  {}: {nonzero} bytes are not zero: {shown}\n",
            at + from as u64
        ));
        at += SECTOR_BYTES;
    }
    told
}
