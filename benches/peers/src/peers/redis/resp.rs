//! The little of Redis's protocol that streams need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};

use crate::duplex;
use crate::work::noise;

const BUFFER_BYTES: usize = 256 << 10;

/// Both halves of a connection.
pub(super) fn connect(port: u16) -> Result<(Reader, Writer)> {
    let stream = duplex::connect(port)?;
    let reading = stream.try_clone().context("cannot share a socket")?;
    let reader = Reader {
        stream: BufReader::with_capacity(BUFFER_BYTES, reading),
        line: Vec::new(),
        value: Vec::new(),
    };
    Ok((reader, Writer { stream }))
}

/// Commands.
pub(super) struct Writer {
    stream: TcpStream,
}

impl Writer {
    pub(super) fn send(&mut self, commands: &[u8]) -> Result<()> {
        self.stream
            .write_all(commands)
            .context("cannot send to Redis")
    }

    /// Adds an entry with one field.
    pub(super) fn xadd(key: &str, value_bytes: usize) -> Vec<u8> {
        command(&[b"XADD", key.as_bytes(), b"*", b"v", &noise(value_bytes)])
    }

    /// Reads entries from an id on.
    pub(super) fn xrange(key: &str, start: &[u8], count: usize) -> Vec<u8> {
        command(&[
            b"XRANGE",
            key.as_bytes(),
            start,
            b"+",
            b"COUNT",
            count.to_string().as_bytes(),
        ])
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Replies.
pub(super) struct Reader {
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
    value: Vec<u8>,
}

impl Reader {
    /// The reply to XADD.
    pub(super) fn id(&mut self) -> Result<&[u8]> {
        self.bulk()
    }

    /// The reply to XRANGE: hands out each value, and leaves in `next` where the one after the last begins.
    pub(super) fn entries(
        &mut self,
        next: &mut Vec<u8>,
        mut value: impl FnMut(&[u8]),
    ) -> Result<u64> {
        let count = self.length(b'*')?;
        for _ in 0..count {
            self.length(b'*')?;
            let id = self.bulk()?;
            next.clear();
            next.push(b'(');
            next.extend_from_slice(id);
            for _ in 0..self.length(b'*')? / 2 {
                self.bulk()?;
                value(self.bulk()?);
            }
        }
        Ok(count as u64)
    }

    fn bulk(&mut self) -> Result<&[u8]> {
        let len = self.length(b'$')?;
        self.value.resize(len + 2, 0);
        self.stream
            .read_exact(&mut self.value)
            .context("Redis has ended the connection")?;
        Ok(&self.value[..len])
    }

    /// The number in a line that begins with `kind`.
    fn length(&mut self, kind: u8) -> Result<usize> {
        self.line.clear();
        let read = self.stream.read_until(b'\n', &mut self.line);
        read.context("Redis has ended the connection")?;
        let line = self.line.trim_ascii_end();
        match line.split_first() {
            Some((first, digits)) if *first == kind => {
                let number = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| digits.parse().ok());
                number.context("a length is no number")
            }
            _ => bail!("Redis answered {:?}", String::from_utf8_lossy(line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_strings() {
        let range = Writer::xrange("k", b"(1-1", 10);
        assert_eq!(
            range,
            b"*6\r\n$6\r\nXRANGE\r\n$1\r\nk\r\n$4\r\n(1-1\r\n$1\r\n+\r\n$5\r\nCOUNT\r\n$2\r\n10\r\n"
        );
    }
}
