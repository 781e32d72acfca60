//! A broker on an ext4 whose disk can be spoiled place by place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::start_position::{Anchor, Position};
use flowstone_tests::mounts::{Mounted, make_ext4};
use flowstone_tests::recorder::{FILE, Recorder};
use flowstone_tests::server::{command, serve_args};
use flowstone_tests::{Dice, History, Server, Stub};
use tonic::{Code, Status};

pub(crate) const TOPIC: &str = "spots";
pub(crate) const PARTITIONS: i32 = 3;
/// The directories of its partitions are numbered from here on.
const FIRST_ID: u64 = 16;
const DISK_BYTES: u64 = 64 << 20;
pub(crate) const PAGE_BYTES: usize = 4096;
const SEGMENT_BYTES: i64 = 65_536;
/// Four of them fill a segment.
const VALUE_BYTES: usize = 14_000;
const RECORDS: u32 = 10;
const CALL_LIMIT: Duration = Duration::from_secs(20);
const CONFIG: &str = "[limits]\nmin_segment_bytes = 65_536\nmax_record_bytes = 16_384\n\
                      max_request_bytes = 32_768\nmax_records_per_request = 64\n\
                      [storage]\ndefault_segment_bytes = 1_048_576\n";

/// The disk, the broker on it, and what was produced.
pub(crate) struct Rig {
    binary: PathBuf,
    workspace: PathBuf,
    pub(crate) disk: Recorder,
    mounted: Option<Mounted>,
    history: History,
    made: u32,
    // The last to go.
    _session: fuser::BackgroundSession,
}

impl Rig {
    /// A topic with sealed segments and an active one in each partition. No broker runs.
    pub(crate) async fn new(binary: &Path, workspace: &Path) -> Result<Self, String> {
        let told = |error: io::Error| format!("the disk cannot be made: {error}");
        std::fs::write(workspace.join("flowstone.toml"), CONFIG).map_err(told)?;
        let fresh = workspace.join("fresh");
        make_ext4(&fresh, DISK_BYTES, PAGE_BYTES as u32).map_err(told)?;
        let disk = Recorder::new(std::fs::read(&fresh).map_err(told)?);
        disk.direct();
        std::fs::remove_file(&fresh).map_err(told)?;
        for folder in ["below", "mounted"] {
            std::fs::create_dir_all(workspace.join(folder)).map_err(told)?;
        }
        let session = disk.mount(&workspace.join("below")).map_err(told)?;
        let mut rig = Self {
            binary: binary.to_path_buf(),
            workspace: workspace.to_path_buf(),
            disk,
            mounted: None,
            history: History::new(),
            made: 0,
            _session: session,
        };
        rig.remount()?;
        let server = rig.start()?;
        let stub = server.stub().await?;
        let topic = proto::Topic {
            name: TOPIC.to_owned(),
            partition_count: PARTITIONS,
            segment_bytes: Some(SEGMENT_BYTES),
            ..proto::Topic::default()
        };
        let request = proto::CreateTopicRequest {
            topic: Some(topic),
            validate_only: false,
        };
        let created = within(stub.topics.clone().create_topic(request)).await;
        created.map_err(|status| status.to_string())?;
        for partition in 0..PARTITIONS {
            for _ in 0..RECORDS {
                let produced = rig.produce(&stub, partition).await;
                produced.map_err(|status| status.to_string())?;
            }
        }
        server.terminate()?;
        // All is on the disk from here on.
        rig.remount()?;
        Ok(rig)
    }

    fn data(&self) -> PathBuf {
        self.workspace.join("mounted/data")
    }

    /// Forgets all that is in memory of the disk.
    pub(crate) fn remount(&mut self) -> Result<(), String> {
        drop(self.mounted.take());
        let image = self.workspace.join("below").join(FILE);
        self.mounted = Some(Mounted::image(&image, &self.workspace.join("mounted"))?);
        Ok(())
    }

    pub(crate) fn start(&self) -> Result<Server, String> {
        let mut command = command(&self.binary);
        let config = self.workspace.join("flowstone.toml");
        command.args(serve_args(&config, &self.data()));
        Server::start(&mut command)
    }

    /// A partition of the topic, as a folder of the data directory.
    pub(crate) fn folder(partition: i32) -> String {
        format!("partitions/{:010}", FIRST_ID + partition as u64)
    }

    /// The files of a folder whose names end so, sorted: the segments of a partition, oldest first.
    pub(crate) fn files(&self, folder: &str, end: &str) -> Result<Vec<PathBuf>, String> {
        let folder = self.data().join(folder);
        let told = |error: io::Error| format!("{}: {error}", folder.display());
        let mut files = Vec::new();
        for file in std::fs::read_dir(&folder).map_err(told)? {
            let path = file.map_err(told)?.path();
            if path.to_string_lossy().ends_with(end) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// A file of the data directory.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.data().join(path)
    }

    /// Makes one page of a file unreadable. Only what is not in memory notices.
    pub(crate) fn spoil(&self, file: &Path, page: usize) -> Result<(), String> {
        let told = |error: io::Error| format!("{}: {error}", file.display());
        let mut bytes = std::fs::read(file).map_err(told)?;
        // What follows the end of a file in its last block is zero.
        bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
        let page = &bytes[page * PAGE_BYTES..][..PAGE_BYTES];
        let at = self.disk.find(page);
        let at = at.ok_or_else(|| format!("{} is not on the disk", file.display()))?;
        self.disk.spoil(at, PAGE_BYTES);
        Ok(())
    }

    /// Drops one page of a file from memory, also where it is mapped, by writing it past the memory,
    /// unchanged.
    pub(crate) fn drop_page(&self, file: &Path, bytes: &[u8], page: usize) -> io::Result<()> {
        const O_DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;
        let mut options = File::options();
        let file = options.write(true).custom_flags(O_DIRECT).open(file)?;
        let mut buffer = vec![0; 2 * PAGE_BYTES];
        let aligned = buffer.as_ptr().align_offset(PAGE_BYTES);
        let piece = &mut buffer[aligned..aligned + PAGE_BYTES];
        piece.copy_from_slice(&bytes[page * PAGE_BYTES..][..PAGE_BYTES]);
        file.write_all_at(piece, (page * PAGE_BYTES) as u64)
    }

    /// All files of a folder as they are.
    pub(crate) fn snapshot(&self, folder: &str) -> Result<BTreeMap<PathBuf, Vec<u8>>, String> {
        let files = self.files(folder, "")?.into_iter();
        let files = files.filter(|path| path.is_file()).map(|path| {
            let bytes = std::fs::read(&path);
            bytes
                .map(|bytes| (path.clone(), bytes))
                .map_err(|error| format!("{}: {error}", path.display()))
        });
        files.collect()
    }

    /// Produces a record, durably.
    pub(crate) async fn produce(&mut self, stub: &Stub, partition: i32) -> Result<(), Status> {
        self.made += 1;
        let mut value = format!("{}-", self.made).into_bytes();
        value.extend(Dice::new(u64::from(self.made)).bytes(VALUE_BYTES));
        let record = proto::Record {
            value: Some(value.into()),
            ..proto::Record::default()
        };
        let call = self.history.invoke(0, &record);
        let request = proto::ProduceRequest {
            records: vec![record],
            topic: TOPIC.to_owned(),
            partition: Some(partition),
            ..proto::ProduceRequest::default()
        };
        let response = within(stub.log.clone().produce(request)).await?;
        let runs = &response.get_ref().runs;
        let offset = runs.first().map_or(-1, |run| run.base_offset);
        self.history.acknowledged(call, partition, offset);
        Ok(())
    }

    /// Reads a whole partition.
    pub(crate) async fn read(&mut self, stub: &Stub, partition: i32) -> Result<(), Status> {
        let earliest = Position::Anchor(Anchor::Earliest.into());
        let read = within(stub.read_from(TOPIC, partition, earliest)).await?;
        self.history.read_whole(partition, read.end, &read.records);
        Ok(())
    }

    /// Whether a partition says that it is offline.
    pub(crate) async fn is_offline(&self, stub: &Stub, partition: i32) -> Result<bool, String> {
        let request = proto::GetTopicRequest {
            topic: TOPIC.to_owned(),
        };
        let info = within(stub.topics.clone().get_topic(request)).await;
        let info = info.map_err(|status| status.to_string())?.into_inner();
        let found = info
            .partitions
            .iter()
            .find(|info| info.partition == partition);
        Ok(found.is_none_or(|info| info.offline))
    }

    /// What the history has against it.
    pub(crate) fn violations(&self) -> Vec<String> {
        let violations = self.history.violations().iter();
        violations.map(ToString::to_string).collect()
    }
}

/// An answer in time.
async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = tokio::time::timeout(CALL_LIMIT, call).await;
    answer.unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "no answer came")))
}
