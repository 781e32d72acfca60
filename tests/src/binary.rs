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

/// The binary `flowstone`, built once in a run with the profile of the tests.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(build)
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

/// Profile and target directory, as the path of this test tells: `TARGET/PROFILE/deps/TEST`.
fn like_the_tests() -> Vec<OsString> {
    let test = std::env::current_exe().expect("a test knows where it lies");
    let mut above = test.ancestors().skip(1);
    let (deps, profile, target) = (above.next(), above.next(), above.next());
    let name = |path: Option<&Path>| path.and_then(Path::file_name).map(OsString::from);
    let (Some("deps"), Some(profile), Some(target)) = (
        name(deps).as_deref().and_then(|name| name.to_str()),
        name(profile),
        target,
    ) else {
        return Vec::new();
    };
    let profile = if profile == "debug" {
        OsString::from("dev")
    } else {
        profile
    };
    vec![
        "--profile".into(),
        profile,
        "--target-dir".into(),
        target.into(),
    ]
}
