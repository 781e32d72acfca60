//! Plants known bugs one at a time in a copy of the tree and shows which test catches each.
//!
//! `cargo run -p flowstone-tests --bin planted-bugs [--rig crash-points] [NAME…]`: all of them, or those
//! named. The copy is a checkout of HEAD under `target/`, so that what is not committed is not tried.
//! With `--rig crash-points` a slice of that program has to catch them, in place of the tests of their
//! packages. Exits 1 if a bug survives, or cannot be planted any more because the code has changed.

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

/// What has to catch the bugs that only machines that crash show, and all with `--rig crash-points`.
const EXPLORER: &str = "crash-points";
const EXPLORER_POINTS: &str = "30000";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    let by_explorer = wanted.starts_with(&["--rig".to_owned(), EXPLORER.to_owned()]);
    if by_explorer {
        wanted.drain(..2);
    }
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
        let outcome = copy.try_out(bug, by_explorer)?;
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

impl Outcome {
    fn does_not_build(output: &str) -> Self {
        let error = output.lines().find(|line| line.starts_with("error"));
        Self::DoesNotBuild(error.unwrap_or("?").to_owned())
    }
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

    fn try_out(&self, bug: &Bug, by_explorer: bool) -> Result<Outcome, Box<dyn Error>> {
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
        let outcome = if by_explorer || bug.packages.is_empty() {
            self.explore()
        } else {
            self.test(bug)
        };
        std::fs::write(&file, sound)?;
        outcome
    }

    fn test(&self, bug: &Bug) -> Result<Outcome, Box<dyn Error>> {
        let build = self.cargo(&["test", "--no-run", "--quiet"], bug.packages, &[])?;
        if !build.0.success() {
            return Ok(Outcome::does_not_build(&build.1));
        }
        let (status, output) = self.cargo(&["test", "--no-fail-fast"], bug.packages, &[])?;
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

    /// Lets the explorer look for a crash that shows the bug.
    fn explore(&self) -> Result<Outcome, Box<dyn Error>> {
        let packages = &["flowstone-tests"];
        let args = |command| [command, "--release", "--quiet", "--bin", EXPLORER];
        let build = self.cargo(&args("build"), packages, &[])?;
        if !build.0.success() {
            return Ok(Outcome::does_not_build(&build.1));
        }
        let points = ["--", "--points", EXPLORER_POINTS];
        let (status, output) = self.cargo(&args("run"), packages, &points)?;
        if status.success() {
            return Ok(Outcome::Survived);
        }
        let mut lines = output.lines();
        let wrong = lines
            .by_ref()
            .skip_while(|line| !line.starts_with("VIOLATION"))
            .nth(1);
        let points = lines.find(|line| line.contains("crash points in"));
        let points = points
            .and_then(|line| line.split(' ').next())
            .unwrap_or("?");
        let wrong = wrong.map_or("it ended badly", str::trim);
        Ok(Outcome::Caught(format!(
            "{EXPLORER}, {points} points: {wrong}"
        )))
    }

    fn cargo(
        &self,
        args: &[&str],
        packages: &[&str],
        last: &[&str],
    ) -> Result<(ExitStatus, String), Box<dyn Error>> {
        // A bug may make a test run for ever; `timeout` ends it with all that it has started.
        let output = Command::new("timeout")
            .arg(TEST_SECONDS_MAX.to_string())
            .arg(env!("CARGO"))
            .current_dir(&self.path)
            .args(args)
            .args(packages.iter().flat_map(|package| ["-p", package]))
            .args(last)
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
