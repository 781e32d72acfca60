//! Directories that a later version has written to: refused as far as they are newer, and left byte by
//! byte as they were.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use flowstone_broker::{Broker, BrokerConfig, Env, Error, OpenError};
use pollster::block_on;

use crate::golden::{copy, golden, open, record, request};

const METADATA: &str = "partitions/0000000000";
const OFFSETS: &str = "partitions/0000000001";
const VISITS_0: &str = "partitions/0000000016";

/// Where the fields stand that every structure but the frame begins with.
const VERSION_AT: usize = 4;
const FEATURES_AT: usize = 8;

/// What a later version might leave in the first bytes of a file.
#[derive(Clone, Copy, Debug)]
enum Newer {
    Version(u8),
    Feature(usize),
}

const ALL: [Newer; 7] = [
    Newer::Version(2),
    Newer::Version(255),
    Newer::Feature(0),
    Newer::Feature(7),
    Newer::Feature(8),
    Newer::Feature(32),
    Newer::Feature(63),
];

/// Puts it into the structure of `len` bytes that the file begins with, checksum and all.
fn plant(path: &Path, newer: Newer, len: usize) {
    let mut bytes = fs::read(path).unwrap();
    match newer {
        Newer::Version(version) => bytes[VERSION_AT] = version,
        Newer::Feature(bit) => bytes[FEATURES_AT + bit / 8] |= 1 << (bit % 8),
    }
    let crc = crc32fast::hash(&bytes[..len - 4]);
    bytes[len - 4..len].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

/// How long the structure is that a file begins with.
fn structure_len(path: &Path) -> usize {
    let name = path.file_name().unwrap().to_str().unwrap();
    let len = match name {
        "FLOOR" => flowstone_format::FLOOR_HEADER_LEN,
        _ if name.ends_with(".segment") => flowstone_format::SEGMENT_HEADER_LEN,
        _ => fs::metadata(path).unwrap().len(),
    };
    usize::try_from(len).unwrap()
}

/// All files below a directory with what they hold.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = files(dir).into_keys().collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "segment"));
    paths
}

#[test]
fn a_newer_directory_is_refused_and_nothing_is_touched() {
    for newer in ALL {
        let original = golden("v1");
        let mut victims = vec![
            original.join("IDENTITY"),
            original.join("FLOOR"),
            original.join(METADATA).join("MANIFEST"),
            original.join(OFFSETS).join("MANIFEST"),
        ];
        victims.extend(segments(&original.join(METADATA)));
        victims.extend(segments(&original.join(OFFSETS)));
        for victim in victims {
            let temp = tempfile::tempdir().unwrap();
            copy(&original, temp.path());
            let path = temp.path().join(victim.strip_prefix(&original).unwrap());
            plant(&path, newer, structure_len(&path));
            let before = files(temp.path());
            match Broker::open(BrokerConfig::new(temp.path()), Env::real()) {
                Err(Error::Open(error @ OpenError::NewerFormat { .. })) => {
                    let told = error.to_string();
                    assert!(told.contains("newer version"), "{told}");
                    assert!(told.contains("nothing was changed"), "{told}");
                }
                other => panic!("{newer:?} in {} gave {other:?}", path.display()),
            }
            assert!(
                files(temp.path()) == before,
                "{newer:?} in {}: a file was changed",
                path.display()
            );
        }
    }
}

#[test]
fn a_newer_partition_is_offline_and_left_as_it_is_while_the_others_serve() {
    for newer in ALL {
        let original = golden("v1");
        let mut victims = segments(&original.join(VISITS_0));
        victims.push(original.join(VISITS_0).join("MANIFEST"));
        for victim in victims {
            let temp = tempfile::tempdir().unwrap();
            copy(&original, temp.path());
            let path = temp.path().join(victim.strip_prefix(&original).unwrap());
            plant(&path, newer, structure_len(&path));
            let partition_dir = temp.path().join(VISITS_0);
            let before = files(&partition_dir);

            let broker = open(temp.path());
            let (_, partitions) = broker.describe_topic("visits").unwrap();
            assert!(
                partitions[0].offline_reason.is_some() && partitions[1].offline_reason.is_none()
            );
            let put = |partition| {
                let records = vec![record(1, None, "and on")];
                block_on(broker.produce(request("visits", Some(partition), records)))
            };
            let error = put(0).unwrap_err().to_string();
            let reason = match newer {
                Newer::Version(_) => "version",
                Newer::Feature(_) => "feature",
            };
            assert!(error.contains(reason), "{newer:?}: {error}");
            put(1).unwrap();
            block_on(broker.shutdown()).unwrap();
            assert!(
                files(&partition_dir) == before,
                "{newer:?} in {}: a file was changed",
                path.display()
            );
        }
    }
}
