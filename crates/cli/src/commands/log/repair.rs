//! `flowstone log repair`: brings a damaged partition back, and says first what that costs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use flowstone_broker::{Env, Offline};
use flowstone_disk::{Disk, RealDisk};
use flowstone_log::repair::{self, Repair};
use serde::Serialize;

use crate::args::Switch;
use crate::commands::log::view::{DamageView, SnapshotView, label};
use crate::commands::log::{hold, hold_for_change, no_data_directory};
use crate::exit::Failure;
use crate::output::{OutputFormat, print_json};
use crate::units::{show_many, show_size};

const METADATA_WARNING: &str = "\
warning: this is the log of metadata. Topics that were made, changed or deleted in what is lost are as if
that had not been; the files of topics that are not known any more are moved to `aside` in the data
directory when the broker starts.";
const OFFSETS_WARNING: &str = "\
warning: this is the log of committed offsets. Groups whose commits are lost read again from earlier ones.";

/// Bring a damaged partition back: what is lost becomes a gap that readers skip
///
/// The broker must not be running. Every record that can still be read is kept, also behind the damage,
/// and so are the damaged files. Shows what would be done; only --execute does it. `log verify` says
/// which partition is damaged.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone log repair flowstone-data --topic visits --partition 3
  flowstone log repair flowstone-data --topic visits --partition 3 --accept-loss
  flowstone log repair flowstone-data --topic visits --partition 3 --accept-loss --execute
  flowstone log repair flowstone-data --id 0 --accept-loss")]
pub(crate) struct RepairArgs {
    /// The data directory
    dir: PathBuf,

    /// The topic
    #[arg(
        short,
        long,
        env = "FLOWSTONE_TOPIC",
        requires = "partition",
        required_unless_present = "id"
    )]
    topic: Option<String>,

    /// The partition of the topic
    #[arg(short, long, env = "FLOWSTONE_PARTITION", requires = "topic")]
    partition: Option<u32>,

    /// The partition by its id, as `log verify` prints it; the only way to name the broker's own logs
    #[arg(long, env = "FLOWSTONE_ID", conflicts_with_all = ["topic", "partition"])]
    id: Option<u64>,

    /// Agree to the loss of the records that cannot be read any more
    #[arg(long, env = "FLOWSTONE_ACCEPT_LOSS", value_parser = Switch::new())]
    accept_loss: bool,

    /// Do it; otherwise nothing is changed
    #[arg(long, env = "FLOWSTONE_EXECUTE", requires = "accept_loss", value_parser = Switch::new())]
    execute: bool,
}

/// What is told of a repair.
#[derive(Debug, Serialize)]
struct View {
    partition: u64,
    topic: Option<String>,
    topic_partition: Option<u32>,
    damages: Vec<DamageView>,
    /// Producer snapshots that are written anew.
    producer_snapshots: Vec<SnapshotView>,
    /// Why the MANIFEST is made anew, if it is.
    manifest_rebuilt: Option<String>,
    log_start_offset: u64,
    /// The next offset to be assigned.
    end_offset: u64,
    lost_offsets: u64,
    kept_records: u64,
    kept_bytes: u64,
    segments: Vec<SegmentView>,
    /// Files that are moved aside.
    aside: Vec<String>,
    /// Whether it was done.
    executed: bool,
}

#[derive(Debug, Serialize)]
struct SegmentView {
    /// None where no file is left of these offsets.
    file: Option<String>,
    /// It stays in use up to here; none: it is moved aside.
    sealed_at: Option<Sealed>,
    copied_records: u64,
    copied_bytes: u64,
    lost: Vec<Lost>,
}

#[derive(Debug, Serialize)]
struct Sealed {
    offset: u64,
    position: u64,
}

/// Offsets whose records are lost.
#[derive(Debug, Serialize)]
struct Lost {
    from: u64,
    /// The first one that is not.
    to: u64,
}

pub(super) fn run(args: &RepairArgs, output: OutputFormat) -> Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let data_dir = &args.dir;
    let ids = flowstone_log::inspect::partitions(&disk, data_dir)
        .map_err(|error| no_data_directory(data_dir, error))?;
    let _held = if args.execute {
        Some(hold_for_change(&*disk, data_dir)?)
    } else {
        hold(&*disk, data_dir)?
    };
    let offline = Offline::read(&disk, data_dir);
    let known = offline.partitions.keys().copied();
    let id = match (&args.topic, args.partition, args.id) {
        (Some(topic), Some(number), _) => offline.find(topic, number).ok_or_else(|| {
            let what = format!(
                "{} has no partition {number} of topic {topic:?}",
                data_dir.display()
            );
            Failure::NotFound(with_doubts(what, &offline))
        })?,
        (_, _, Some(wanted)) => ids
            .into_iter()
            .chain(known)
            .find(|id| id.get() == wanted)
            .ok_or_else(|| {
                Failure::NotFound(format!(
                    "{} has no partition with id {wanted}",
                    data_dir.display()
                ))
            })?,
        _ => bail!(Failure::Usage(
            "name a partition, by --topic and --partition or by --id".into()
        )),
    };
    let make_plan = || {
        repair::plan(&disk, data_dir, id, offline.committed(id))
            .with_context(|| format!("cannot plan the repair of partition {id}"))
    };
    let plan = make_plan()?;
    let mut view = View::new(&plan, &offline);
    let name = view.name();
    if plan.is_sound() {
        if output == OutputFormat::Json {
            print_json(&view)?;
        }
        eprintln!("{name} is sound: there is nothing to repair");
        return Ok(());
    }
    for doubt in &offline.doubts {
        eprintln!("warning: {doubt}; what groups have committed may be more than is known");
    }
    match id.get() {
        0 => eprintln!("{METADATA_WARNING}"),
        1 => eprintln!("{OFFSETS_WARNING}"),
        _ => {}
    }
    let mut manifest_copy = None;
    if args.execute {
        manifest_copy = plan
            .execute(&Env::real())
            .with_context(|| format!("{name} could not be repaired; run this again"))?;
        view.executed = true;
    }
    match output {
        OutputFormat::Json => print_json(&view)?,
        OutputFormat::Table => view.print(&plan, manifest_copy.as_deref())?,
    }
    let loss = match view.lost_offsets {
        0 => "no record".to_owned(),
        count => show_many(count, "offset"),
    };
    if !args.accept_loss {
        bail!(Failure::Damaged(format!(
            "{name} is damaged, and nothing was changed: to repair it loses {loss}. Restore it from \
             a backup, or repeat this with --accept-loss"
        )));
    }
    if !args.execute {
        eprintln!(
            "nothing was changed: repeat this with --execute to repair {name}, which loses {loss}"
        );
        return Ok(());
    }
    let again = make_plan()?;
    if let Some(damage) = again.damages.first() {
        bail!(Failure::Damaged(format!(
            "{name} is still damaged: {damage}"
        )));
    }
    if let Some(fault) = again.snapshots.first() {
        bail!(Failure::Damaged(format!(
            "{name} is still damaged: {}",
            SnapshotView::new(fault)
        )));
    }
    eprintln!("{name} is repaired and sound; it has lost {loss}");
    Ok(())
}

fn with_doubts(what: String, offline: &Offline) -> String {
    match offline.doubts.first() {
        None => what,
        Some(doubt) => format!(
            "{what} that is known, but {doubt}: name it by its id, as `flowstone log verify` prints it"
        ),
    }
}

impl View {
    fn new(plan: &Repair, offline: &Offline) -> Self {
        let own = offline.partitions.get(&plan.partition);
        let segments = plan.segments.iter().map(|segment| SegmentView {
            file: segment.path.as_deref().map(show_path),
            sealed_at: segment.sealed_at.map(|(offset, position)| Sealed {
                offset: offset.get(),
                position: position.get(),
            }),
            copied_records: segment.copied_records,
            copied_bytes: segment.copied_bytes,
            lost: segment
                .lost
                .iter()
                .map(|lost| Lost {
                    from: lost.start.get(),
                    to: lost.end.get(),
                })
                .collect(),
        });
        Self {
            partition: plan.partition.get(),
            topic: own.map(|own| own.topic.clone()),
            topic_partition: own.filter(|own| !own.internal).map(|own| own.number),
            damages: plan.damages.iter().map(DamageView::new).collect(),
            producer_snapshots: plan.snapshots.iter().map(SnapshotView::new).collect(),
            manifest_rebuilt: plan.manifest_rebuilt.clone(),
            log_start_offset: plan.log_start_offset.get(),
            end_offset: plan.end_offset.get(),
            lost_offsets: plan.lost_offsets(),
            kept_records: plan.kept_records,
            kept_bytes: plan.kept_bytes,
            segments: segments.collect(),
            aside: plan.aside.iter().map(|path| show_path(path)).collect(),
            executed: false,
        }
    }

    fn name(&self) -> String {
        format!(
            "partition {}{}",
            self.partition,
            label(self.topic.as_deref(), self.topic_partition)
        )
    }

    fn print(&self, plan: &Repair, manifest_copy: Option<&Path>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.name())?;
        for damage in &self.damages {
            writeln!(out, "  {damage}")?;
        }
        for snapshot in &self.producer_snapshots {
            writeln!(out, "  {snapshot}")?;
        }
        if let Some(why) = &self.manifest_rebuilt {
            writeln!(
                out,
                "  the MANIFEST is made anew from the segments ({why}): records that were trimmed may show again"
            )?;
        }
        for segment in &self.segments {
            let file = segment.file.as_deref().unwrap_or("(no file is left)");
            writeln!(out, "  {file}")?;
            match (&segment.sealed_at, &segment.file) {
                (Some(at), _) => writeln!(
                    out,
                    "    stays in use up to offset {} (byte {}), and is kept behind that as it is",
                    at.offset, at.position
                )?,
                (None, Some(_)) => writeln!(out, "    is not used any more, and is kept aside")?,
                (None, None) => {}
            }
            if segment.copied_records > 0 {
                writeln!(
                    out,
                    "    {} ({}) from behind the damage go to a new segment",
                    show_many(segment.copied_records, "record"),
                    show_size(segment.copied_bytes)
                )?;
            }
            for lost in &segment.lost {
                writeln!(out, "    LOST: offsets {} to {}", lost.from, lost.to - 1)?;
            }
        }
        for path in &plan.aside {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            writeln!(out, "  kept aside: {}/aside/{name}", plan.path.display())?;
        }
        if let Some(path) = manifest_copy {
            writeln!(out, "  kept aside: {}", path.display())?;
        }
        writeln!(
            out,
            "  kept: {} ({}); lost: {}; offsets {} to {}",
            show_many(self.kept_records, "record"),
            show_size(self.kept_bytes),
            show_many(self.lost_offsets, "offset"),
            self.log_start_offset,
            self.end_offset
        )
    }
}

fn show_path(path: &Path) -> String {
    path.display().to_string()
}
