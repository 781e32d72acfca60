//! The binary under test.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where the workspace lies.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package lies in a folder of the workspace")
}

/// Names another binary to try.
pub(crate) const BINARY: &str = "FLOWSTONE_BIN";

/// The binary `flowstone`: the one that `FLOWSTONE_BIN` names, or one that is built once in a run with
/// the profile of the test or program that asks.
pub fn binary() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| std::env::var_os(BINARY).map_or_else(build, PathBuf::from))
}

/// Cargo says where it has put the executable; it does nothing when that is up to date.
fn build() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .current_dir(workspace_root())
        .args(["build", "--package", "flowstone", "--bin", "flowstone"])
        .args(["--message-format", "json"])
        .args(like_the_tests())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs, as it runs this test");
    assert!(
        output.status.success(),
        "cargo could not build flowstone: {}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "flowstone")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable that it has built")
}

/// Profile and target directory, as the path of this program tells: `TARGET/PROFILE/deps/TEST` or
/// `TARGET/PROFILE/PROGRAM`.
fn like_the_tests() -> Vec<OsString> {
    let own = std::env::current_exe().expect("a program knows where it lies");
    let folders = own.ancestors().skip(1);
    let mut folders = folders.skip_while(|folder| folder.ends_with("deps"));
    let (profile, target) = (folders.next(), folders.next());
    let profile = profile.and_then(Path::file_name);
    let (Some(profile), Some(target)) = (profile, target) else {
        return Vec::new();
    };
    let profile = if profile == "debug" {
        "dev".into()
    } else {
        profile.to_owned()
    };
    vec![
        "--profile".into(),
        profile,
        "--target-dir".into(),
        target.into(),
    ]
}
