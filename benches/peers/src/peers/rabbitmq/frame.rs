//! Frames of the stream protocol: a length, a command, a version, and fields in big-endian order.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};

/// The commands that are used here.
pub(super) mod key {
    pub(in super::super) const DECLARE_PUBLISHER: u16 = 1;
    pub(in super::super) const PUBLISH: u16 = 2;
    pub(in super::super) const PUBLISH_CONFIRM: u16 = 3;
    pub(in super::super) const SUBSCRIBE: u16 = 7;
    pub(in super::super) const DELIVER: u16 = 8;
    pub(in super::super) const CREDIT: u16 = 9;
    pub(in super::super) const CREATE: u16 = 13;
    pub(in super::super) const PEER_PROPERTIES: u16 = 17;
    pub(in super::super) const SASL_HANDSHAKE: u16 = 18;
    pub(in super::super) const SASL_AUTHENTICATE: u16 = 19;
    pub(in super::super) const TUNE: u16 = 20;
    pub(in super::super) const OPEN: u16 = 21;
    pub(in super::super) const HEARTBEAT: u16 = 23;
    /// Set in the key of a response.
    pub(in super::super) const RESPONSE: u16 = 0x8000;
}

const VERSION: u16 = 1;
const BUFFER_BYTES: usize = 256 << 10;
/// No frame is larger: chunks are not bounded by what `Tune` says.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// A frame to send.
#[derive(Clone, Debug)]
pub(super) struct Frame(Vec<u8>);

impl Frame {
    pub(super) fn new(key: u16) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(key.to_be_bytes());
        bytes.extend(VERSION.to_be_bytes());
        Self(bytes)
    }

    pub(super) fn u8(mut self, number: u8) -> Self {
        self.0.push(number);
        self
    }

    pub(super) fn u16(mut self, number: u16) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn string(self, text: &str) -> Self {
        let len = u16::try_from(text.len()).expect("names are short");
        let mut frame = self.u16(len);
        frame.0.extend_from_slice(text.as_bytes());
        frame
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).expect("values are small");
        let mut frame = self.u32(len);
        frame.0.extend_from_slice(bytes);
        frame
    }

    /// Where the next field begins.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes to send, with the length in front.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len() - 4).expect("frames are small");
        self.0[..4].copy_from_slice(&len.to_be_bytes());
        self.0
    }
}

/// A received frame that is read from its beginning on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub(super) key: u16,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(frame: &'a [u8]) -> Result<Self> {
        let mut fields = Self {
            key: 0,
            rest: frame,
        };
        fields.key = fields.u16()?;
        fields.u16()?;
        Ok(fields)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .context("a frame is too short")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN]> {
        Ok(self
            .take(LEN)?
            .try_into()
            .expect("so many bytes were taken"))
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

/// Received frames.
pub(super) struct FrameReader {
    stream: BufReader<TcpStream>,
    frame: Vec<u8>,
}

impl FrameReader {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: BufReader::with_capacity(BUFFER_BYTES, stream),
            frame: Vec::new(),
        }
    }

    /// The next frame; it stands until the one after it.
    pub(super) fn next(&mut self) -> Result<Fields<'_>> {
        let mut len = [0; 4];
        self.stream
            .read_exact(&mut len)
            .context("RabbitMQ has ended the connection")?;
        let len = u32::from_be_bytes(len) as usize;
        if len > FRAME_BYTES_MAX {
            bail!("a frame has {len} bytes");
        }
        if self.frame.len() < len {
            self.frame.resize(len, 0);
        }
        let frame = &mut self.frame[..len];
        self.stream
            .read_exact(frame)
            .context("RabbitMQ has ended the connection")?;
        Fields::new(&self.frame[..len])
    }
}

/// Sends a frame.
pub(super) fn send(mut stream: &TcpStream, frame: &[u8]) -> Result<()> {
    stream.write_all(frame).context("cannot send to RabbitMQ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let sent = Frame::new(key::PUBLISH).u8(7).u32(9).bytes(b"abc").finish();
        assert_eq!(sent[..4], 16_u32.to_be_bytes());
        let mut fields = Fields::new(&sent[4..]).unwrap();
        assert_eq!(fields.key, key::PUBLISH);
        assert_eq!((fields.u8().unwrap(), fields.u32().unwrap()), (7, 9));
        assert_eq!(fields.u32().unwrap(), 3);
        assert_eq!(fields.take(3).unwrap(), b"abc");
        assert!(fields.u8().is_err());
    }
}
