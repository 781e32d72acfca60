//! Plants known bugs one at a time in a copy of the tree and shows which test catches each.
//!
//! `cargo run -p flowstone-tests --bin planted-bugs [NAME…]`: all of them, or those named. The copy is a
//! checkout of HEAD under `target/`, so that what is not committed is not tried. Exits 1 if a bug
//! survives, or cannot be planted any more because the code has changed.

mod bugs;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use bugs::{BUGS, Bug};

/// How long the build or the tests may take with one bug.
const TEST_SECONDS_MAX: u32 = 600;
/// What `timeout` exits with when it had to end the command.
const TIMED_OUT: i32 = 124;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(name) = wanted
        .iter()
        .find(|name| BUGS.iter().all(|bug| bug.name != **name))
    {
        eprintln!("no bug is called {name}; these are known:");
        for bug in BUGS {
            eprintln!("  {}", bug.name);
        }
        return Ok(ExitCode::from(2));
    }
    let copy = Checkout::make(flowstone_tests::workspace_root())?;
    let mut survivors = 0;
    let chosen = BUGS
        .iter()
        .filter(|bug| wanted.is_empty() || wanted.iter().any(|w| w == bug.name));
    for bug in chosen {
        let started = Instant::now();
        let outcome = copy.try_out(bug)?;
        let seconds = started.elapsed().as_secs();
        match outcome {
            Outcome::Caught(by) => println!("caught    {:<28} {seconds:>4} s  {by}", bug.name),
            Outcome::Survived => {
                survivors += 1;
                println!("SURVIVED  {:<28} {seconds:>4} s", bug.name);
            }
            Outcome::DoesNotBuild(error) => {
                survivors += 1;
                println!("NOT TRIED {:<28} it does not build: {error}", bug.name);
            }
        }
    }
    println!("{survivors} survived");
    Ok(if survivors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

enum Outcome {
    /// With the first tests that failed.
    Caught(String),
    Survived,
    DoesNotBuild(String),
}

/// A checkout of HEAD that is removed again at the end.
struct Checkout {
    root: PathBuf,
    path: PathBuf,
}

impl Checkout {
    fn make(root: &Path) -> Result<Self, Box<dyn Error>> {
        let path = root.join("target/planted-bugs/tree");
        let copy = Self {
            root: root.to_path_buf(),
            path,
        };
        copy.remove();
        let place = copy.path.to_str().ok_or("the path is not UTF-8")?;
        run(Command::new("git")
            .current_dir(root)
            .args(["worktree", "add", "--quiet", "--detach", place, "HEAD"]))?;
        Ok(copy)
    }

    fn remove(&self) {
        // There may be none, or one that an earlier run left.
        let _ = std::fs::remove_dir_all(&self.path);
        let _ = Command::new("git")
            .current_dir(&self.root)
            .args(["worktree", "prune"])
            .status();
    }

    fn try_out(&self, bug: &Bug) -> Result<Outcome, Box<dyn Error>> {
        let file = self.path.join(bug.file);
        let sound = std::fs::read_to_string(&file)?;
        if sound.matches(bug.from).count() != 1 {
            return Err(format!(
                "{}: {} does not have its place exactly once",
                bug.name, bug.file
            )
            .into());
        }
        std::fs::write(&file, sound.replace(bug.from, bug.to))?;
        let outcome = self.test(bug);
        std::fs::write(&file, sound)?;
        outcome
    }

    fn test(&self, bug: &Bug) -> Result<Outcome, Box<dyn Error>> {
        let build = self.cargo(&["test", "--no-run", "--quiet"], bug)?;
        if !build.0.success() {
            let error = build
                .1
                .lines()
                .find(|line| line.starts_with("error"))
                .unwrap_or("?");
            return Ok(Outcome::DoesNotBuild(error.to_owned()));
        }
        let (status, output) = self.cargo(&["test", "--no-fail-fast"], bug)?;
        if status.success() {
            return Ok(Outcome::Survived);
        }
        if status.code() == Some(TIMED_OUT) {
            return Ok(Outcome::Caught(format!(
                "the tests were not over after {TEST_SECONDS_MAX} s"
            )));
        }
        let mut failed: Vec<_> = output
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... FAILED"))
            .map(|(name, _)| name)
            .collect();
        let count = failed.len();
        failed.truncate(2);
        let more = if count > 2 {
            format!(" and {} more", count - 2)
        } else {
            String::new()
        };
        Ok(Outcome::Caught(format!("{}{more}", failed.join(", "))))
    }

    fn cargo(&self, args: &[&str], bug: &Bug) -> Result<(ExitStatus, String), Box<dyn Error>> {
        // A bug may make a test run for ever; `timeout` ends it with all that it has started.
        let output = Command::new("timeout")
            .arg(TEST_SECONDS_MAX.to_string())
            .arg(env!("CARGO"))
            .current_dir(&self.path)
            .args(args)
            .args(bug.packages.iter().flat_map(|package| ["-p", package]))
            .env(
                "CARGO_TARGET_DIR",
                self.root.join("target/planted-bugs/target"),
            )
            .env("CARGO_TERM_COLOR", "never")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status, String::from_utf8_lossy(&text).into_owned()))
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        self.remove();
    }
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} failed").into())
    }
}
