//! Opening a data directory, and every reason not to.

use std::path::Path;

use flowstone_broker::{Error, OpenError, Uuid};
use flowstone_disk::{Disk, OpKind, OpenMode};

use crate::harness::{DATA_DIR, FIRST_PARTITION, Machine, partition_dir};

fn refused(machine: &Machine) -> OpenError {
    match machine.try_open() {
        Err(Error::Open(error)) => error,
        other => panic!("the directory should be refused, not {other:?}"),
    }
}

fn in_dir(name: &str) -> std::path::PathBuf {
    Path::new(DATA_DIR).join(name)
}

/// A directory with a topic and a record in it.
fn used() -> Machine {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 1);
    broker.put("visits", 0, "a");
    broker.shutdown();
    machine
}

#[test]
fn the_cluster_keeps_its_id() {
    let machine = Machine::new(1);
    let broker = machine.open();
    let id = broker.broker.cluster_id();
    assert!(!id.is_nil());
    broker.shutdown();
    assert_eq!(machine.open().broker.cluster_id(), id);
}

#[test]
fn a_directory_is_opened_once_at_a_time() {
    let machine = Machine::new(1);
    let broker = machine.open();
    let in_use = OpenError::DirectoryInUse {
        path: DATA_DIR.into(),
    };
    assert_eq!(refused(&machine), in_use);
    assert!(in_use.to_string().contains("stop it, or choose another"));
    broker.shutdown();
    machine.open();
}

#[test]
fn a_shut_down_broker_gives_the_directory_free_while_it_is_still_held() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.clone().shutdown();
    let other = machine.open();
    broker.shutdown();
    other.create("visits", 1);
}

#[test]
fn another_clusters_directory_is_refused() {
    let machine = used();
    let expected = Uuid::from_u128(7);
    let mut config = machine.config();
    config.expected_cluster_id = Some(expected);
    let error = machine.open_with(config.clone()).map(drop);
    assert!(matches!(
        error,
        Err(Error::Open(OpenError::WrongCluster { expected: wanted, .. })) if wanted == expected
    ));
    let fresh = Machine::new(2);
    config.on_fatal = fresh.config().on_fatal;
    assert_eq!(
        fresh.open_with(config).unwrap().broker.cluster_id(),
        expected
    );
}

#[test]
fn a_newer_format_is_refused_and_nothing_is_touched() {
    let machine = used();
    let identity = machine
        .disk
        .open(&in_dir("IDENTITY"), OpenMode::ReadWrite)
        .unwrap();
    let mut bytes = vec![0; usize::try_from(identity.len().unwrap()).unwrap()];
    identity.read_exact_at(&mut bytes, 0).unwrap();
    // The version stands behind the magic, the checksum at the end.
    bytes[4] = 2;
    let end = bytes.len() - 4;
    let (body, crc) = bytes.split_at_mut(end);
    crc.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    identity.write_all_at(&bytes, 0).unwrap();
    machine.disk.start_trace();
    assert!(
        matches!(refused(&machine), OpenError::NewerFormat { path, .. } if path == in_dir("IDENTITY"))
    );
    let changes = |kind| {
        !matches!(
            kind,
            OpKind::Open | OpKind::Read | OpKind::List | OpKind::Lock | OpKind::CreateDirAll
        )
    };
    let touched: Vec<_> = machine
        .disk
        .take_trace()
        .into_iter()
        .filter(|op| changes(op.kind))
        .collect();
    assert_eq!(touched, []);
}

#[test]
fn partitions_without_an_identity_are_not_taken_for_a_new_directory() {
    let machine = used();
    machine.disk.remove_file(&in_dir("IDENTITY")).unwrap();
    assert_eq!(
        refused(&machine),
        OpenError::IdentityMissing {
            path: in_dir("IDENTITY")
        }
    );
    assert!(
        machine
            .disk
            .open(&in_dir("IDENTITY"), OpenMode::Read)
            .is_err()
    );
}

#[test]
fn a_damaged_identity_is_told() {
    let machine = used();
    machine.flip(&in_dir("IDENTITY"), 20);
    assert!(matches!(
        refused(&machine),
        OpenError::IdentityDamaged { .. }
    ));
}

#[test]
fn a_missing_floor_is_made_anew_and_a_damaged_one_refused() {
    let machine = used();
    machine.disk.remove_file(&in_dir("FLOOR")).unwrap();
    let broker = machine.open();
    assert_eq!(broker.all("visits", 0), ["a"]);
    broker.shutdown();
    machine.flip(&in_dir("FLOOR"), 1);
    assert!(
        matches!(refused(&machine), OpenError::FloorDamaged { path, .. } if path == in_dir("FLOOR"))
    );
}

#[test]
fn a_damaged_metadata_log_refuses_the_open_and_names_the_place() {
    let machine = used();
    let segment = machine.path(0, ".segment");
    machine.flip(&segment, 4096 + 140);
    let OpenError::MetadataDamaged { path, detail } = refused(&machine) else {
        panic!("the metadata log is damaged");
    };
    assert_eq!(path, partition_dir(0));
    assert!(
        detail.contains(segment.file_name().unwrap().to_str().unwrap()),
        "{detail}"
    );
    machine.flip(&segment, 4096 + 140);
    assert_eq!(
        machine.open().all("visits", 0),
        ["a"],
        "it was left as it was"
    );
}

#[test]
fn metadata_that_does_not_know_a_partition_is_refused() {
    let machine = used();
    let unknown = partition_dir(FIRST_PARTITION + 5);
    machine.disk.create_dir_all(&unknown).unwrap();
    let OpenError::MetadataDamaged { detail, .. } = refused(&machine) else {
        panic!("the metadata log is too old");
    };
    assert!(detail.contains(unknown.to_str().unwrap()), "{detail}");
    assert!(machine.disk.list(&unknown).is_ok(), "nothing was removed");
}

#[test]
fn what_cannot_be_written_to_says_so() {
    for kind in [OpKind::CreateDirAll, OpKind::Lock] {
        let machine = Machine::new(1);
        machine
            .disk
            .fail_nth(kind, 1, std::io::ErrorKind::PermissionDenied);
        assert!(
            matches!(refused(&machine), OpenError::NotWritable { .. }),
            "{kind:?}"
        );
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let machine = Machine::new(1);
    let mut config = machine.config();
    config.default_segment_bytes = 4096;
    let error = machine.open_with(config).map(drop);
    assert!(matches!(
        error,
        Err(Error::Open(OpenError::InvalidConfig {
            field: "default_segment_bytes",
            ..
        }))
    ));
}

#[test]
fn a_first_open_that_was_cut_off_anywhere_can_be_repeated() {
    let whole = Machine::new(1);
    whole.open();
    for operations in 1..whole.disk.count_all() {
        let machine = Machine::new(operations);
        let left = std::sync::atomic::AtomicU64::new(operations);
        let disk = machine.disk.clone();
        machine.disk.set_hook(move |_| {
            if left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                disk.power_cut();
            }
            None
        });
        drop(machine.try_open());
        machine.disk.clear_faults();
        let broker = machine.try_open();
        let broker = broker.unwrap_or_else(|error| panic!("cut at {operations}: {error}"));
        broker.create("visits", 1);
    }
}
