//! Opening a partition: what counts, what is cut, and what is damage. The rules stand in `docs/durability.md`.

pub(crate) mod active;
pub(crate) mod closing;
pub(crate) mod files;
pub(crate) mod producers;
mod torn;

use std::ops::ControlFlow;
use std::sync::Arc;

use flowstone_format::{
    FloorSlot, Generation, HeaderError, Manifest, Offset, PartitionId, Position, SegmentEntry,
    SegmentState,
};

use crate::active::Active;
use crate::config::LogConfig;
use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};
use crate::producers::{ProducerBudget, ProducerState};
use crate::tail::Tail;
use crate::view::SegmentView;

/// What recovery found, and made of it.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) manifest: Manifest,
    pub(crate) active: Option<Active>,
    pub(crate) tail: Tail,
    pub(crate) damage: Option<Damage>,
    pub(crate) views: Vec<Arc<SegmentView>>,
    /// As of the last frame that counts.
    pub(crate) producers: ProducerState,
    /// The disk was too full to seal off a torn tail. What lies before it is durable and may be
    /// read; nothing may be appended before the seal is in the MANIFEST.
    pub(crate) unsealed: Option<LogError>,
}

impl Recovered {
    fn damaged(manifest: Manifest, views: Vec<Arc<SegmentView>>, damage: Damage) -> Self {
        tracing::error!(%damage, "a partition is damaged; it serves what lies below and takes nothing");
        Self {
            manifest,
            active: None,
            tail: Tail::new(damage.offset),
            damage: Some(damage),
            views,
            producers: ProducerState::default(),
            unsealed: None,
        }
    }
}

/// Recovers the partition in `dir`. Every step may be repeated after a crash.
pub(crate) fn recover(
    dir: &PartitionDir,
    partition: PartitionId,
    floor: Option<&FloorSlot>,
    config: &LogConfig,
    budget: &Arc<ProducerBudget>,
) -> Result<Recovered, LogError> {
    let names = dir.file_names()?;
    let path = dir.manifest_path();
    let Some(bytes) = dir.read_file(&path)? else {
        return without_manifest(dir, partition, floor, &names, budget);
    };
    let damage_at = |offset, detail| Damage {
        offset,
        path: path.clone(),
        position: Position::ZERO,
        detail,
    };
    let manifest = match Manifest::decode(&bytes) {
        Ok(manifest) if manifest.partition == partition => manifest,
        Ok(other) => {
            let detail = format!("the MANIFEST is of partition {}", other.partition);
            let damage = damage_at(Offset::ZERO, detail);
            return Ok(Recovered::damaged(
                empty_manifest(partition),
                vec![],
                damage,
            ));
        }
        Err(source @ (HeaderError::NewerVersion { .. } | HeaderError::UnknownFeatures { .. })) => {
            return Err(LogError::Header { path, source });
        }
        Err(error) => {
            let damage = damage_at(Offset::ZERO, error.to_string());
            return Ok(Recovered::damaged(
                empty_manifest(partition),
                vec![],
                damage,
            ));
        }
    };

    if let Some(detail) = files::proof_of_newer_manifest(dir, &manifest, floor, &names)? {
        let offset = manifest
            .segments
            .last()
            .map_or(manifest.log_start_offset, |last| last.base_offset);
        let views = sealed_views(dir, &manifest, config);
        return Ok(Recovered::damaged(
            manifest,
            views,
            damage_at(offset, detail),
        ));
    }
    if let Some(damage) = first_damage(dir, &manifest)? {
        let views = sealed_views(dir, &manifest, config);
        return Ok(Recovered::damaged(manifest, views, damage));
    }
    let manifest = match closing::recover(dir, manifest, floor, config)? {
        ControlFlow::Continue(manifest) => manifest,
        ControlFlow::Break(recovered) => return Ok(recovered),
    };
    let views = sealed_views(dir, &manifest, config);
    let listed = &manifest.segments;
    let last_number = listed.len().saturating_sub(1);
    let mut producers = producers::at_base(dir, partition, listed, last_number, budget)?;
    let recovered = match manifest.segments.last() {
        Some(entry) if entry.state == SegmentState::Active => {
            active::recover(dir, partition, manifest, floor, config, views, producers)?
        }
        last => {
            if last.is_some() {
                producers::walk(dir, &manifest.segments, last_number, &mut producers)?;
            }
            Recovered {
                tail: last.map_or(Tail::new(manifest.log_start_offset), Tail::after),
                manifest,
                active: None,
                damage: None,
                views,
                producers,
                unsealed: None,
            }
        }
    };
    if recovered.damage.is_none() {
        match files::clear_unlisted(dir, &recovered.manifest, &names) {
            // They are not read where they are either; the next open moves them.
            Err(error @ LogError::DiskFull { .. }) => {
                tracing::warn!(%error, "unlisted files wait for space to be moved aside");
            }
            cleared => cleared?,
        }
    }
    Ok(recovered)
}

/// The first sealed segment whose file is not what the MANIFEST lists. One that lies wholly below
/// the log start is told and takes nothing offline.
fn first_damage(dir: &PartitionDir, manifest: &Manifest) -> Result<Option<Damage>, LogError> {
    for entry in sealed(manifest) {
        match files::check_segment(dir, manifest.partition, entry)? {
            Some(damage) if entry.end_offset <= manifest.log_start_offset => {
                tracing::warn!(%damage, "damage below the log start, where nobody reads");
            }
            Some(damage) => return Ok(Some(damage)),
            None => {}
        }
    }
    Ok(None)
}

/// The MANIFEST of a partition that has never had one.
pub(crate) fn empty_manifest(partition: PartitionId) -> Manifest {
    Manifest {
        partition,
        generation: Generation::ZERO,
        log_start_offset: Offset::ZERO,
        segments: Vec::new(),
    }
}

/// No MANIFEST means empty only if nothing tells of records: no slot in FLOOR and no byte behind
/// the header of any segment file. Files without a record were made by a first append that a crash cut short.
fn without_manifest(
    dir: &PartitionDir,
    partition: PartitionId,
    floor: Option<&FloorSlot>,
    names: &[String],
    budget: &Arc<ProducerBudget>,
) -> Result<Recovered, LogError> {
    let manifest = empty_manifest(partition);
    let detail = match floor {
        Some(slot) => Some(format!(
            "the MANIFEST is missing, but FLOOR knows of records up to offset {}",
            slot.offset
        )),
        None => files::first_with_records(dir, names)?
            .map(|name| format!("the MANIFEST is missing, but {name} holds records")),
    };
    if let Some(detail) = detail {
        let damage = Damage {
            offset: Offset::ZERO,
            path: dir.manifest_path(),
            position: Position::ZERO,
            detail,
        };
        return Ok(Recovered::damaged(manifest, vec![], damage));
    }
    files::remove_bare(dir, names)?;
    Ok(Recovered {
        tail: Tail::new(Offset::ZERO),
        manifest,
        active: None,
        damage: None,
        views: vec![],
        producers: ProducerState::new(budget),
        unsealed: None,
    })
}

fn sealed(manifest: &Manifest) -> impl Iterator<Item = &SegmentEntry> {
    manifest
        .segments
        .iter()
        .filter(|entry| entry.state == SegmentState::Sealed)
}

fn sealed_views(
    dir: &PartitionDir,
    manifest: &Manifest,
    config: &LogConfig,
) -> Vec<Arc<SegmentView>> {
    sealed(manifest)
        .map(|entry| Arc::new(SegmentView::new(dir, entry, config)))
        .collect()
}
