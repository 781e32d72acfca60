//! Ports that are taken, and data directories that are in use, newer, damaged, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use flowstone_format::{FLOOR_HEADER_LEN, FLOOR_NAME, IDENTITY_LEN, IDENTITY_NAME, PARTITIONS_DIR};
use flowstone_tests::{Broker, Run, flowstone};

use super::{TOPIC, assert_nothing_is_lost, with_visits};

/// Where the version stands in every file, and the features, as `docs/format.md` says.
const VERSION_AT: usize = 4;
const FEATURES_AT: usize = 8;

fn serve(data_dir: &Path) -> Run {
    let dir = data_dir.to_str().unwrap();
    flowstone(["serve", "--listen", "127.0.0.1:0", "--data-dir", dir]).run()
}

fn verify(broker: &Broker) -> Run {
    let dir = broker.data_dir();
    flowstone(["log", "verify", dir.to_str().unwrap()]).run()
}

/// Every file below a directory.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    found
}

/// Every file below a directory, and the checksum of what is in it.
fn contents(directory: &Path) -> BTreeMap<PathBuf, u32> {
    let paths = files(directory).into_iter();
    paths
        .map(|path| {
            let checksum = crc32fast::hash(&fs::read(&path).unwrap());
            (path, checksum)
        })
        .collect()
}

/// Changes the first `len` bytes of a file, whose last four are the CRC-32 of the others.
fn forge(path: &Path, len: usize, change: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(path).unwrap();
    let header = &mut bytes[..len];
    change(header);
    let crc = crc32fast::hash(&header[..len - 4]);
    header[len - 4..].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_directory_in_use_is_refused_and_goes_on_being_used() {
    let broker = with_visits();
    let dir = broker.data_dir();
    // The broker itself writes this one at times of its own.
    let but_for_floor = || {
        let mut contents = contents(&dir);
        contents.remove(&dir.join(FLOOR_NAME));
        contents
    };
    let before = but_for_floor();
    serve(&dir).fails(
        1,
        &[
            dir.to_str().unwrap(),
            "in use by another process",
            "another data directory",
        ],
    );
    assert_eq!(but_for_floor(), before);
    assert_nothing_is_lost(&broker);
    broker
        .flowstone(["produce", TOPIC, "-p", "1"])
        .stdin("still here\n")
        .run()
        .ok();
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let broker = with_visits();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let dir = data.to_str().unwrap();
    let serve = ["serve", "--listen", broker.address(), "--data-dir", dir];
    flowstone(serve)
        .run()
        .fails(1, &[broker.address(), "taken", "--listen"]);
    assert!(!data.exists(), "nothing was made");
    assert_nothing_is_lost(&broker);
}

#[test]
fn a_directory_that_cannot_be_written_to_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    for path in [
        file.join("data"),
        file.clone(),
        PathBuf::from("/proc/flowstone/data"),
    ] {
        serve(&path).fails(1, &[path.to_str().unwrap(), "another data directory"]);
    }
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
}

#[test]
fn a_directory_of_a_newer_format_is_refused_and_left_alone() {
    let mut broker = with_visits();
    assert!(broker.terminate().status.success());
    let dir = broker.data_dir();
    let (identity, floor) = (dir.join(IDENTITY_NAME), dir.join(FLOOR_NAME));
    type Change = fn(&mut [u8]);
    let newer_version: Change = |header| header[VERSION_AT] += 1;
    let new_feature: Change = |header| header[FEATURES_AT] |= 1;
    let cases: [(&Path, usize, Change); 4] = [
        (&identity, IDENTITY_LEN, newer_version),
        (&identity, IDENTITY_LEN, new_feature),
        (&floor, FLOOR_HEADER_LEN as usize, newer_version),
        (&floor, FLOOR_HEADER_LEN as usize, new_feature),
    ];
    for (path, len, change) in cases {
        let original = fs::read(path).unwrap();
        forge(path, len, change);
        let before = contents(&dir);
        let told = [
            path.to_str().unwrap(),
            "newer version",
            "nothing was changed",
        ];
        serve(&dir).fails(1, &told);
        assert_eq!(contents(&dir), before, "{}", path.display());
        fs::write(path, original).unwrap();
    }
    broker.restart();
    assert_nothing_is_lost(&broker);
}

#[test]
fn a_directory_without_its_identity_or_with_a_damaged_one_is_refused() {
    let mut broker = with_visits();
    assert!(broker.terminate().status.success());
    let dir = broker.data_dir();
    let identity = dir.join(IDENTITY_NAME);
    let name = identity.to_str().unwrap();
    let original = fs::read(&identity).unwrap();

    fs::remove_file(&identity).unwrap();
    let before = contents(&dir);
    serve(&dir).fails(5, &[name, "missing", "backup"]);
    assert_eq!(contents(&dir), before, "something was changed");

    for at in [0, 20, IDENTITY_LEN - 1] {
        let mut damaged = original.clone();
        damaged[at] ^= 1;
        fs::write(&identity, &damaged).unwrap();
        serve(&dir).fails(5, &[name, "damaged", "backup"]);
    }
    fs::write(&identity, &original).unwrap();
    broker.restart();
    assert_nothing_is_lost(&broker);
}

/// The segment file that holds a text, and where.
fn segment_with(dir: &Path, text: &[u8]) -> (PathBuf, usize) {
    let paths = files(&dir.join(PARTITIONS_DIR)).into_iter();
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "segment"))
        .find_map(|path| {
            let bytes = fs::read(&path).unwrap();
            let at = bytes
                .windows(text.len())
                .position(|window| window == text)?;
            Some((path, at))
        })
        .unwrap_or_else(|| panic!("no segment holds {text:?}"))
}

#[test]
fn damage_is_told_where_it_is_and_costs_nothing_else() {
    let mut broker = with_visits();
    // A second batch in partition 1, which is to be damaged; the first one stays sound.
    let produce = ["produce", TOPIC, "-p", "1"];
    broker.flowstone(produce).stdin("1:10\n").run().ok();
    assert!(broker.terminate().status.success());
    verify(&broker).ok();

    let dir = broker.data_dir();
    let (segment, at) = segment_with(&dir, b"1:10");
    let sound = fs::read(&segment).unwrap();
    let mut damaged = sound.clone();
    damaged[at] ^= 0x20;
    fs::write(&segment, &damaged).unwrap();
    let before = contents(&dir);
    let file = segment.file_name().unwrap().to_str().unwrap();
    let told = verify(&broker).fails(5, &[dir.to_str().unwrap(), "damaged in 1 place"]);
    for fact in [file, "damaged from offset 10 on", "byte"] {
        assert!(
            told.text().contains(fact),
            "{fact:?} is missing: {}",
            told.text()
        );
    }
    let json = ["log", "verify", dir.to_str().unwrap(), "--output", "json"];
    let json = flowstone(json).run().fails(5, &[]).json();
    let damages: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one["damages"].as_array().unwrap())
        .collect();
    assert_eq!(damages.len(), 1);
    assert_eq!(damages[0]["offset"], 10);
    assert_eq!(contents(&dir), before, "verify reads only");

    // The rest is served, what lies below the damage as well; the damage is never served.
    broker.restart();
    let read = |flags: &[&str]| {
        let consume = ["consume", TOPIC].iter().chain(flags);
        broker.flowstone(consume).run()
    };
    assert_eq!(read(&["-p", "0", "-e"]).ok().lines().len(), 10);
    assert_eq!(read(&["-p", "1", "-o", "0:10"]).ok().lines().len(), 10);
    let rest = read(&["-p", "1", "-o", "0:11"])
        .fails(5, &["partition 1", "damaged at offset 10", "log verify"]);
    assert_eq!(rest.lines().len(), 10);
    let produce = |partition: &str| {
        let produce = ["produce", TOPIC, "-p", partition];
        broker.flowstone(produce).stdin("more\n").run()
    };
    produce("1").fails(5, &["damaged at offset 10"]);
    produce("0").ok();
    let described = broker.flowstone(["topic", "describe", TOPIC]).run().ok();
    assert!(described.text().contains("offline"), "{}", described.text());

    // Once the medium is as it was, so is the log.
    assert!(broker.terminate().status.success());
    assert!(
        fs::read(&segment).unwrap() == damaged,
        "the damaged file was touched"
    );
    fs::write(&segment, &sound).unwrap();
    verify(&broker).ok();
    broker.restart();
    let all = broker
        .flowstone(["consume", TOPIC, "-p", "1", "-e"])
        .run()
        .ok();
    assert_eq!(all.lines().len(), 11);
    broker
        .flowstone(["produce", TOPIC, "-p", "1"])
        .stdin("1:11\n")
        .run()
        .ok();
}

#[test]
fn a_running_broker_and_a_directory_of_something_else_are_not_verified() {
    let broker = with_visits();
    let running = verify(&broker);
    assert_ne!(running.code, Some(0));
    assert_ne!(
        running.code,
        Some(5),
        "it is not damage: {}",
        running.stderr
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = elsewhere.path().to_str().unwrap();
    let run = flowstone(["log", "verify", dir]).run();
    assert_ne!(run.code, Some(0));
    assert!(
        run.stderr.contains("is no data directory"),
        "{}",
        run.stderr
    );
}
