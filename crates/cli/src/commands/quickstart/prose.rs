//! The story as it stands on the screen.

use std::io::{self, Write};

use anyhow::Result;

/// Columns of a paragraph, without its margin.
const WIDTH: usize = 92;

/// Prints one step, a paragraph with a number.
pub(super) fn tell_step(number: u32, text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    for (place, line) in wrap(text, WIDTH).iter().enumerate() {
        if place == 0 {
            writeln!(out, "{number:>2}  {line}")?;
        } else {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(out.flush()?)
}

/// Breaks a paragraph into lines of at most `width` letters, where its words allow.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Prints a line of the story.
pub(super) fn tell(line: std::fmt::Arguments<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_break_between_words() {
        assert_eq!(wrap("a bb ccc dddd", 6), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrap("", 6), [""; 0]);
        assert_eq!(wrap("toolongword a", 6), ["toolongword", "a"]);
    }
}
