//! Asking before something is lost.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks, and takes nothing but yes for yes.
pub(crate) fn confirmed(question: &str) -> Result<bool> {
    eprint!("{question} Type yes: ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(answer.trim() == "yes")
}
