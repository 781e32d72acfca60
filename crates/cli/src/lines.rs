//! Input as lines, read in large pieces; each line is a slice of the piece that it came in.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const PIECE_BYTES: usize = 256 << 10;

/// Why the next line could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// The line is longer than allowed; the rest of the input was not read.
    #[error("the line is longer than {limit} bytes, the largest record allowed")]
    TooLong { limit: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Splits what it reads at newlines. A newline is no part of its line, a carriage return is; a
/// last line needs no newline.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    buffer: BytesMut,
    /// How far `buffer` is known to hold no newline.
    searched: usize,
    limit: usize,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `limit` bytes.
    pub(crate) fn new(input: R, limit: usize) -> Self {
        Self {
            input,
            buffer: BytesMut::new(),
            searched: 0,
            limit,
            ended: false,
        }
    }

    /// The next line; none at the end of the input. Nothing is lost when this is cancelled.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            if let Some(line) = self.buffered()? {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            self.buffer.reserve(PIECE_BYTES);
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                self.ended = true;
            }
        }
    }

    /// The next line if it has been read already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Bytes>, LineError> {
        let unsearched = &self.buffer[self.searched..];
        let newline = memchr::memchr(b'\n', unsearched).map(|at| self.searched + at);
        let len = newline.unwrap_or(self.buffer.len());
        if len > self.limit {
            return Err(LineError::TooLong { limit: self.limit });
        }
        let last = self.ended && !self.buffer.is_empty();
        if newline.is_none() && !last {
            self.searched = self.buffer.len();
            return Ok(None);
        }
        let mut line = self.buffer.split_to(len + usize::from(newline.is_some()));
        line.truncate(len);
        self.searched = 0;
        Ok(Some(line.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], limit: usize) -> Result<Vec<Bytes>, LineError> {
        let mut lines = Lines::new(input, limit);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await? {
            all.push(line);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn newlines_go_and_everything_else_stays() {
        assert_eq!(lines(b"", 9).await.unwrap(), [""; 0]);
        assert_eq!(lines(b"\n", 9).await.unwrap(), [""]);
        assert_eq!(lines(b"a\n\nb\r\n", 9).await.unwrap(), ["a", "", "b\r"]);
        assert_eq!(lines(b"a\nlast", 9).await.unwrap(), ["a", "last"]);
        assert_eq!(lines(b"\xff\x00\n", 9).await.unwrap(), [&b"\xff\x00"[..]]);
    }

    #[tokio::test]
    async fn lines_may_be_longer_than_a_piece() {
        let long = vec![b'x'; 3 * PIECE_BYTES + 1];
        let mut input = long.clone();
        input.extend_from_slice(b"\nshort\n");
        let all = lines(&input, long.len()).await.unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0], long);
        assert_eq!(all[1], "short");
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_refused_with_or_without_its_end() {
        assert!(lines(b"12345\n", 5).await.is_ok());
        for input in [&b"123456\n"[..], b"123456"] {
            let error = lines(input, 5).await.unwrap_err();
            assert!(matches!(error, LineError::TooLong { limit: 5 }), "{error}");
        }
    }
}
