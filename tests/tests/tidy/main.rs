//! The rules of the house: which crate may know what, and how sources and protos look.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod ceiling;
mod edges;
mod protos;
mod sources;

use std::path::{Path, PathBuf};

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every file with that extension under a folder, sorted, with its path from the workspace root. What a build
/// has left there is not looked at.
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let root = workspace_root();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let name = path
                    .strip_prefix(&root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Fails with all that was found, a line each, under what to do about it.
#[track_caller]
fn none(faults: Vec<String>, advice: &str) {
    assert!(faults.is_empty(), "{advice}\n  {}\n", faults.join("\n  "));
}
