//! The commented default file and the reference page, both made from the table of settings.

use std::fmt::Write as _;

use super::ServerConfig;
use super::keys::{KEYS, Key, Kind, SECTIONS, grouped};

/// Columns of a comment line in the default file.
const WIDTH: usize = 96;

impl ServerConfig {
    /// A TOML file that names every setting with its default, commented out.
    pub fn default_toml() -> String {
        let defaults = Self::default();
        let mut out = String::from(
            "# Settings of flowstone, with their defaults. What is commented out, or missing, is the default.\n",
        );
        for (section, about) in SECTIONS {
            out.push('\n');
            comment(&mut out, about);
            let _ = writeln!(out, "[{section}]");
            for key in KEYS.iter().filter(|key| key.section == *section) {
                out.push('\n');
                comment(&mut out, key.doc);
                comment(&mut out, &takes(key));
                let _ = writeln!(out, "# {} = {}", key.name, key.toml_value(&defaults));
            }
        }
        out
    }

    /// The reference page, `docs/config.md`.
    pub fn reference_markdown() -> String {
        let defaults = Self::default();
        let mut out = String::from(
            "# Configuration\n\n\
             `flowstone serve --config FILE` reads a TOML file; `flowstone serve` alone takes the defaults \
             below. A key that is not listed here is refused. Units stand last in a name: `_ms` is \
             milliseconds, `_bytes` is bytes. Flags of the command line go before the file.\n\n\
             This page is made from the code; a test holds the two together.\n",
        );
        for (section, about) in SECTIONS {
            let _ = write!(out, "\n## `[{section}]`\n\n{about}\n\n");
            out.push_str("| key | default | what it does |\n|---|---|---|\n");
            for key in KEYS.iter().filter(|key| key.section == *section) {
                let default = match &key.kind {
                    Kind::Text {
                        default_text: Some(text),
                        ..
                    } => (*text).to_owned(),
                    _ => format!("`{}`", key.toml_value(&defaults)),
                };
                let _ = writeln!(
                    out,
                    "| `{}` | {default} | {} {} |",
                    key.name,
                    key.doc,
                    takes(key)
                );
            }
        }
        out
    }
}

/// What may stand there, as a sentence.
fn takes(key: &Key) -> String {
    match &key.kind {
        Kind::Number { least, most, .. } => {
            format!("From {} to {}.", grouped(*least), grouped(*most))
        }
        Kind::Text {
            what,
            default_text: None,
            ..
        } => format!("Takes {what}."),
        Kind::Text {
            what,
            default_text: Some(default),
            ..
        } => format!("Takes {what}; empty: {default}."),
    }
}

/// Writes text as comment lines, wrapped at words.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
