//! How a record is printed: a template with kcat's letters.

use std::io::{self, Write};
use std::str::FromStr;

use flowstone_client::RecordRef;

/// A parsed template, such as `%o %k: %s\n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    KeyLength,
    Value,
    ValueLength,
    Timestamp,
    Headers,
}

/// The letters of a template, for the help.
pub(crate) const LETTERS: &str = "  %t topic      %p partition   %o offset
  %k key        %s value       %K %S their lengths (-1: there is none)
  %T timestamp in milliseconds since 1970
  %h headers as name=value,name=value
  %% \\n \\r \\t \\\\ and \\xHH, a byte in hexadecimal digits";

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['%', '\\']) {
            literal.extend_from_slice(&rest.as_bytes()[..at]);
            if rest.as_bytes()[at] == b'\\' {
                let (byte, used) = escape(&rest[at..])?;
                literal.push(byte);
                rest = &rest[at + used..];
                continue;
            }
            let mut letters = rest[at + 1..].chars();
            let letter = letters
                .next()
                .ok_or("a % at the end; write %% for a percent sign")?;
            rest = letters.as_str();
            if letter == '%' {
                literal.push(b'%');
                continue;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece(letter)?);
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }
}

fn piece(letter: char) -> Result<Piece, String> {
    Ok(match letter {
        't' => Piece::Topic,
        'p' => Piece::Partition,
        'o' => Piece::Offset,
        'k' => Piece::Key,
        'K' => Piece::KeyLength,
        's' => Piece::Value,
        'S' => Piece::ValueLength,
        'T' => Piece::Timestamp,
        'h' => Piece::Headers,
        other => {
            return Err(format!(
                "%{other} is unknown; there are %t %p %o %k %s %T %h %K %S and %%"
            ));
        }
    })
}

/// The byte that an escape at the beginning of `text` stands for, and how long the escape is.
fn escape(text: &str) -> Result<(u8, usize), String> {
    let byte = match text.as_bytes().get(1) {
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'\\') => b'\\',
        Some(b'x') => {
            let digits = text.get(2..4).filter(|digits| !digits.starts_with('+'));
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            return byte
                .map(|byte| (byte, 4))
                .ok_or_else(|| "\\x takes two hexadecimal digits, as in \\x1f".to_owned());
        }
        _ => {
            return Err(format!(
                "the escape {:?} is unknown; there are \\n \\r \\t \\\\ and \\xHH",
                text.chars().take(2).collect::<String>()
            ));
        }
    };
    Ok((byte, 2))
}

/// Text with the escapes of a template, for delimiters.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (byte, used) = escape(&rest[at..])?;
        bytes.push(byte);
        rest = &rest[at + used..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

impl Template {
    /// Prints one record.
    pub(crate) fn write(
        &self,
        out: &mut impl Write,
        topic: &str,
        partition: i32,
        record: &RecordRef<'_>,
    ) -> io::Result<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.write_all(bytes)?,
                Piece::Topic => out.write_all(topic.as_bytes())?,
                Piece::Partition => write!(out, "{partition}")?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Key => out.write_all(record.key.unwrap_or_default())?,
                Piece::KeyLength => write_length(out, record.key)?,
                Piece::Value => out.write_all(record.value.unwrap_or_default())?,
                Piece::ValueLength => write_length(out, record.value)?,
                Piece::Timestamp => write!(out, "{}", record.timestamp_ms)?,
                Piece::Headers => write_headers(out, record)?,
            }
        }
        Ok(())
    }
}

fn write_length(out: &mut impl Write, bytes: Option<&[u8]>) -> io::Result<()> {
    match bytes {
        Some(bytes) => write!(out, "{}", bytes.len()),
        None => out.write_all(b"-1"),
    }
}

fn write_headers(out: &mut impl Write, record: &RecordRef<'_>) -> io::Result<()> {
    for (number, header) in record.headers.into_iter().enumerate() {
        if number > 0 {
            out.write_all(b",")?;
        }
        out.write_all(header.key.as_bytes())?;
        out.write_all(b"=")?;
        out.write_all(header.value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
