//! Where the disk is spoiled, and what the broker has to make of it.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use flowstone_tests::{Process, Server, Stub};
use tonic::{Code, Status};

use crate::rig::{PARTITIONS, Rig};

/// The partition that is spoiled.
const SPOILED: i32 = 0;
/// Amid the frames of a segment.
const PAGE: usize = 6;
const SIGBUS: i32 = 7;
/// How long a broker is held between the moment when pages were brought in and that when they are used.
const HELD: Duration = Duration::from_millis(1_500);
const WAIT: Duration = Duration::from_secs(20);

/// What is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    SealedSegment,
    /// After the broker has looked at it at its start.
    SealedSegmentHeaderLater,
    SealedSegmentHeader,
    SealedSegmentInUse,
    Index,
    ActiveSegment,
    ActiveSegmentHeader,
    Manifest,
    Floor,
    Identity,
    Metadata,
}

/// What has to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// All is served.
    Nothing,
    /// Reading there is DATA_LOSS, all else is served.
    DataLoss,
    /// The partition is offline from the start on, all others serve.
    Offline,
    /// The broker does not start, and says why.
    Refusal,
}

impl Spot {
    pub(crate) const ALL: [Self; 11] = [
        Self::SealedSegment,
        Self::SealedSegmentHeader,
        Self::SealedSegmentHeaderLater,
        Self::SealedSegmentInUse,
        Self::Index,
        Self::ActiveSegment,
        Self::ActiveSegmentHeader,
        Self::Manifest,
        Self::Floor,
        Self::Identity,
        Self::Metadata,
    ];

    fn expected(self) -> Expected {
        match self {
            Self::Index => Expected::Nothing,
            Self::SealedSegment | Self::SealedSegmentHeaderLater | Self::SealedSegmentInUse => {
                Expected::DataLoss
            }
            Self::SealedSegmentHeader
            | Self::ActiveSegment
            | Self::ActiveSegmentHeader
            | Self::Manifest => Expected::Offline,
            Self::Floor | Self::Identity | Self::Metadata => Expected::Refusal,
        }
    }

    fn place(self, rig: &Rig) -> Result<(std::path::PathBuf, usize), String> {
        let folder = Rig::folder(SPOILED);
        let none = || format!("{self:?}: there is no such file");
        let segments = rig.files(&folder, ".segment")?;
        let sealed = || segments.first().cloned().ok_or_else(none);
        let active = || segments.last().cloned().ok_or_else(none);
        Ok(match self {
            Self::SealedSegment | Self::SealedSegmentInUse => (sealed()?, PAGE),
            Self::SealedSegmentHeader | Self::SealedSegmentHeaderLater => (sealed()?, 0),
            Self::Index => {
                let indexes = rig.files(&folder, ".index")?;
                (indexes.first().cloned().ok_or_else(none)?, 0)
            }
            Self::ActiveSegment => (active()?, PAGE),
            Self::ActiveSegmentHeader => (active()?, 0),
            Self::Manifest => (rig.file(&folder).join("MANIFEST"), 0),
            Self::Floor => (rig.file("FLOOR"), 0),
            Self::Identity => (rig.file("IDENTITY"), 0),
            Self::Metadata => {
                let segments = rig.files("partitions/0000000000", ".segment")?;
                (segments.last().cloned().ok_or_else(none)?, 1)
            }
        })
    }

    /// Spoils it, looks at what a broker makes of it, mends it, and looks whether all is as before.
    /// Tells what came of it in a few words.
    pub(crate) async fn try_out(self, rig: &mut Rig) -> Result<String, String> {
        let (file, page) = self.place(rig)?;
        let before = rig.snapshot(&Rig::folder(SPOILED))?;
        let mut told = String::new();
        if self == Self::SealedSegmentInUse {
            told = in_use(rig, &file, page).await?;
        } else if self != Self::SealedSegmentHeaderLater {
            rig.spoil(&file, page)?;
        }
        rig.remount()?;
        let found = self.look(rig, &file, page).await?;
        rig.remount()?;
        if rig.disk.mend() == 0 {
            return Err("nobody has read the bad spot".to_owned());
        }
        rig.remount()?;
        if self.expected() != Expected::Nothing && rig.snapshot(&Rig::folder(SPOILED))? != before {
            return Err("the files of the partition are not as they were".to_owned());
        }
        let server = rig.start()?;
        let stub = server.stub().await?;
        all_serve(rig, &stub, 0..PARTITIONS).await?;
        server.terminate()?;
        Ok(format!("{told}{found}; mended, all was served again"))
    }

    async fn look(self, rig: &mut Rig, file: &Path, page: usize) -> Result<String, String> {
        if self.expected() == Expected::Refusal {
            return match rig.start() {
                Ok(_) => Err("the broker starts".to_owned()),
                Err(why) if why.contains("exit status: ") && why.contains("error: ") => {
                    let said = why.lines().find(|line| line.starts_with("error: "));
                    Ok(format!("it does not start: {}", said.unwrap_or_default()))
                }
                Err(why) => Err(format!("it does not say why it does not start: {why}")),
            };
        }
        let mut server = rig.start()?;
        let stub = server.stub().await?;
        if self == Self::SealedSegmentHeaderLater {
            spoil_in_use(rig, file, page)?;
        }
        let offline = rig.is_offline(&stub, SPOILED).await?;
        let read = rig.read(&stub, SPOILED).await;
        let offline = [offline, rig.is_offline(&stub, SPOILED).await?];
        let found = match (self.expected(), offline, &read) {
            (Expected::Nothing, [false, false], Ok(())) => "served all the same",
            (Expected::DataLoss, [false, true], Err(status)) if is_data_loss(status) => {
                "DATA_LOSS at the spot, and offline from there on"
            }
            (Expected::Offline, [true, true], Err(status)) if is_data_loss(status) => {
                "offline from the start on"
            }
            _ => {
                let log = server.log();
                return Err(format!("offline: {offline:?}, read: {read:?}: {log}"));
            }
        };
        all_serve(rig, &stub, SPOILED + 1..PARTITIONS).await?;
        if !server.process().is_running() {
            return Err(format!("the process has ended: {}", server.log()));
        }
        server.terminate()?;
        Ok(format!("{found}, {} others serve", PARTITIONS - 1))
    }
}

fn is_data_loss(status: &Status) -> bool {
    let reason = status.metadata().get("flowstone-reason");
    status.code() == Code::DataLoss && reason.is_some_and(|reason| reason == "CORRUPT_SEGMENT")
}

async fn all_serve(
    rig: &mut Rig,
    stub: &Stub,
    partitions: std::ops::Range<i32>,
) -> Result<(), String> {
    for partition in partitions {
        let told = |status: Status| format!("partition {partition} is not served: {status}");
        rig.read(stub, partition).await.map_err(told)?;
        // What is compared afterwards must not change.
        if partition != SPOILED {
            rig.produce(stub, partition).await.map_err(told)?;
        }
    }
    match rig.violations().as_slice() {
        [] => Ok(()),
        violations => Err(violations.join("; ")),
    }
}

/// What the case of a page that goes bad between the moment when it was brought in and that when it is
/// used needs.
pub(crate) fn can_hold() -> bool {
    let tried = Command::new("strace")
        .args(["-o", "/dev/null", "-e", "trace=madvise"])
        .args(["-e", "inject=madvise:delay_exit=1:when=1", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// Holds a broker when it has brought in the pages of a segment, and lets one of them go bad and out of
/// memory. The broker has to end; the next one meets a cold page.
async fn in_use(rig: &mut Rig, file: &Path, page: usize) -> Result<String, String> {
    rig.remount()?;
    let mut server: Server = rig.start()?;
    let mut command = Command::new("strace");
    let inject = format!("inject=madvise:delay_exit={}", HELD.as_micros());
    command.args([
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=madvise",
        "-e",
        &inject,
        "-p",
    ]);
    command.arg(server.process().pid().to_string());
    let mut tracer = Process::spawn("strace", &mut command, None);
    let attached = tracer.stderr().wait_for(WAIT, |printed| {
        String::from_utf8_lossy(printed)
            .contains(" attached")
            .then_some(())
    });
    attached.ok_or_else(|| format!("strace does not attach: {}", tracer.printed()))?;
    let stub = server.stub().await?;
    let from = flowstone_proto::v1::start_position::Position::Offset(0);
    let reader = tokio::spawn(async move { stub.fetch(crate::rig::TOPIC, SPOILED, from, 0).await });
    // Until the pages are there, and well before the broker goes on.
    tokio::time::sleep(HELD / 3).await;
    spoil_in_use(rig, file, page)?;
    let answer = reader.await.map_err(|error| error.to_string())?;
    if !server.process().closes_its_outputs(WAIT) {
        return Err(format!("it lives on, and answered {answer:?}"));
    }
    let status = server.process().wait(WAIT);
    tracer.wait(WAIT);
    if status.signal() != Some(SIGBUS) || answer.is_ok() {
        return Err(format!("it ended with {status}, and answered {answer:?}"));
    }
    Ok("SIGBUS ended the process once; the next one: ".to_owned())
}

/// Spoils a page that may be in memory.
fn spoil_in_use(rig: &Rig, file: &Path, page: usize) -> Result<(), String> {
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    rig.spoil(file, page)?;
    rig.drop_page(file, &bytes, page)
        .map_err(|error| format!("the page cannot be dropped: {error}"))
}
