//! `flowstone quickstart`: the whole story ends well and leaves nothing behind.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use flowstone_tests::{Run, flowstone};

fn quickstart(temporary: &Path, args: &[&str]) -> Run {
    let args = ["quickstart"].iter().chain(args);
    flowstone(args).env("TMPDIR", temporary).run()
}

/// What lies in the directory, and which processes were told of it.
fn left_behind(directory: &Path) -> (Vec<OsString>, Vec<String>) {
    let files = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    let name = directory.to_str().unwrap();
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|words| String::from_utf8_lossy(&words).replace('\0', " "))
        .filter(|words| words.contains(name))
        .collect();
    (files, processes)
}

#[test]
fn the_story_ends_well_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let told = quickstart(temporary.path(), &[]).ok();
    let checked = told
        .lines()
        .iter()
        .filter(|line| line.contains('✓'))
        .count();
    assert!(
        checked >= 5,
        "it tells what it has checked:\n{}",
        told.text()
    );
    assert_eq!(left_behind(temporary.path()), (vec![], vec![]));
}

#[test]
fn the_story_can_be_told_with_the_lines_of_a_file() {
    let temporary = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("visits.txt");
    let lines: String = (0..500)
        .map(|n| format!("visit {n}, two lemonades\n"))
        .collect();
    fs::write(&file, lines).unwrap();
    let told = quickstart(temporary.path(), &[file.to_str().unwrap()]).ok();
    assert!(told.text().contains('✓'), "{}", told.text());
    assert_eq!(left_behind(temporary.path()), (vec![], vec![]));
}

#[test]
fn a_file_that_is_not_there_is_told_by_its_name() {
    let temporary = tempfile::tempdir().unwrap();
    quickstart(temporary.path(), &["/no/such/visits.txt"]).fails(3, &["/no/such/visits.txt"]);
    assert_eq!(left_behind(temporary.path()), (vec![], vec![]));
}
