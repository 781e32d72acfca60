//! What sources may say, crate by crate.

mod tokens;

use super::{files, none};
use tokens::{Token, tokens};

/// A source file of a crate, without its comments.
struct Source {
    path: String,
    tokens: Vec<Token>,
}

fn sources(folder: &str) -> Vec<Source> {
    let read = |(path, text): (String, String)| Source {
        tokens: tokens(&path, &text),
        path,
    };
    files(folder, "rs").into_iter().map(read).collect()
}

/// The sources of some crates that end up in the binary.
fn product_sources(crates: &[&str]) -> Vec<Source> {
    let mut all: Vec<Source> = crates
        .iter()
        .flat_map(|name| sources(&format!("crates/{name}/src")))
        .collect();
    all.retain(|source| !source.path.ends_with("/tests.rs") && !source.path.contains("/tests/"));
    all
}

/// Where one of the words stands, outside of comments, strings and test modules.
fn uses_of(words: &[&str], sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let hits = source
            .tokens
            .iter()
            .filter(|token| words.contains(&token.text.as_str()));
        found.extend(hits.map(|token| format!("{}:{}: {}", source.path, token.line, token.text)));
    }
    found
}

/// Where one of the modules of std is named: `std::fs`, or `fs` within `std::{...}`.
fn uses_of_std(modules: &[&str], sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let hits = tokens::std_modules(&source.tokens);
        let hits = hits.filter(|module| modules.contains(&module.text.as_str()));
        found.extend(
            hits.map(|module| format!("{}:{}: std::{}", source.path, module.line, module.text)),
        );
    }
    found
}

#[test]
fn every_module_opens_by_saying_what_it_is() {
    let all = ["crates", "tests", "benches"]
        .map(|folder| files(folder, "rs"))
        .concat();
    assert!(!all.is_empty());
    let silent = all.iter().filter(|(_, text)| !text.starts_with("//! "));
    none(
        silent.map(|(path, _)| path.clone()).collect(),
        "Begin each of these files with a `//!` line that says what it holds:",
    );
}

#[test]
fn only_the_disk_crate_is_unsafe() {
    let mut all = ["crates", "tests", "benches"]
        .map(sources)
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
    all.retain(|source| !source.path.starts_with("crates/disk/"));
    none(
        uses_of(&["unsafe"], &all),
        "Only flowstone-disk may be unsafe. Do it safely, or give flowstone-disk a safe function for it:",
    );
}

/// Murmur2 is defined over little-endian words of a key, and the varints of protobuf begin with their lowest bits; none of
/// these bytes are a layout of ours.
const NO_LAYOUT: [&str; 4] = [
    "crates/broker/src/route/murmur2.rs",
    "crates/client/src/producer/partitioner.rs",
    "crates/client/src/records/ending.rs",
    "crates/client/src/records/unread.rs",
];

#[test]
fn only_the_format_crate_knows_the_byte_layout() {
    let mut others = product_sources(&[
        "disk", "log", "broker", "grpc", "proto", "server", "client", "cli",
    ]);
    others.retain(|source| !NO_LAYOUT.contains(&source.path.as_str()));
    let conversions = [
        "from_le_bytes",
        "to_le_bytes",
        "from_ne_bytes",
        "to_ne_bytes",
        "crc32fast",
    ];
    none(
        uses_of(&conversions, &others),
        "Bytes on disk are written and read in flowstone-format only. Encode and decode there:",
    );
}

#[test]
fn the_format_crate_is_pure() {
    let format = product_sources(&["format"]);
    let mut found = uses_of(&["tokio", "async", "await"], &format);
    found.extend(uses_of_std(
        &["fs", "time", "net", "thread", "process", "env"],
        &format,
    ));
    none(
        found,
        "flowstone-format is functions of bytes. Files, time and async belong to the crates above:",
    );
}

#[test]
fn files_are_reached_through_the_disk_trait() {
    let found = uses_of_std(&["fs", "env", "net"], &product_sources(&["log", "broker"]));
    none(
        found,
        "A simulated disk must be able to stand in. Go through `Env::disk`:",
    );
}

#[test]
fn time_and_randomness_come_from_the_environment() {
    let ambient = [
        "SystemTime",
        "Instant",
        "RandomState",
        "getrandom",
        "fastrand",
        "rand",
        "new_v4",
        "now_v7",
    ];
    none(
        uses_of(&ambient, &product_sources(&["format", "log", "broker"])),
        "A simulation must be able to repeat itself. Use `Env::clock` and `Env::random`:",
    );
}
