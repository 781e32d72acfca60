//! A connection to RabbitMQ's streams: makes them, publishes to them, and walks them.

use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

use super::frame::{Fields, Frame, FrameReader, key, send};
use crate::duplex::{self, Requests, pipeline};
use crate::work::{Bound, REQUESTS_IN_FLIGHT, noise};

const RESPONSE_OK: u16 = 1;
const OFFSET_FIRST: u16 = 1;
/// A publisher without a name: nobody looks for duplicates.
const NAMELESS: &str = "";
const PUBLISHER: u8 = 1;
const SUBSCRIPTION: u8 = 1;
/// Chunks that the broker may send before it is told to go on.
const CREDIT: u16 = 64;
/// The magic number and version that a chunk begins with, and the type of those that hold messages.
const CHUNK_MAGIC: u8 = 0x50;
const CHUNK_OF_MESSAGES: u8 = 0;
/// What of a chunk's header nobody needs here: its time, epoch, first offset and checksum.
const CHUNK_UNREAD: usize = 28;

/// A connection that is authenticated.
pub(super) struct Connection {
    stream: TcpStream,
    reader: FrameReader,
    correlation: u32,
}

/// What is published.
pub(super) struct SendMany {
    pub(super) stream: String,
    pub(super) value_bytes: usize,
    pub(super) records_per_frame: usize,
    pub(super) bound: Bound,
}

impl Connection {
    /// Connects as the guest that every broker lets in from loopback.
    pub(super) fn open(port: u16) -> Result<Self> {
        let stream = duplex::connect(port)?;
        let reader = FrameReader::new(stream.try_clone().context("cannot share a socket")?);
        let mut connection = Self {
            stream,
            reader,
            correlation: 0,
        };
        connection.ask(key::PEER_PROPERTIES, |frame| frame.u32(0))?;
        connection.ask(key::SASL_HANDSHAKE, |frame| frame)?;
        connection.ask(key::SASL_AUTHENTICATE, |frame| {
            frame.string("PLAIN").bytes(b"\0guest\0guest")
        })?;
        connection.tune()?;
        connection.ask(key::OPEN, |frame| frame.string("/"))?;
        Ok(connection)
    }

    /// Takes what the broker suggests, without heartbeats.
    fn tune(&mut self) -> Result<()> {
        let mut suggested = self.reader.next()?;
        ensure!(
            suggested.key == key::TUNE,
            "expected Tune, and got {}",
            suggested.key
        );
        let frame_bytes_max = suggested.u32()?;
        let tune = Frame::new(key::TUNE).u32(frame_bytes_max).u32(0);
        send(&self.stream, &tune.finish())
    }

    /// Sends a request and waits for its response.
    fn ask(&mut self, key: u16, fields: impl FnOnce(Frame) -> Frame) -> Result<()> {
        self.correlation += 1;
        let frame = fields(Frame::new(key).u32(self.correlation));
        send(&self.stream, &frame.finish())?;
        loop {
            let mut answer = self.reader.next()?;
            if answer.key == key | key::RESPONSE {
                answer.u32()?;
                let code = answer.u16()?;
                ensure!(
                    code == RESPONSE_OK,
                    "RabbitMQ answered command {key} with code {code}"
                );
                return Ok(());
            }
        }
    }

    /// Makes a stream.
    pub(super) fn create(&mut self, name: &str) -> Result<()> {
        self.ask(key::CREATE, |frame| frame.string(name).u32(0))
            .with_context(|| format!("cannot create stream {name}"))
    }

    /// Publishes until the bound is reached and all is confirmed. Answers with how many records it were.
    pub(super) fn send_many(mut self, what: &SendMany) -> Result<u64> {
        self.ask(key::DECLARE_PUBLISHER, |frame| {
            frame.u8(PUBLISHER).string(NAMELESS).string(&what.stream)
        })?;
        let records = what.records_per_frame as u64;
        let values = records * what.value_bytes as u64;
        let requests = Requests {
            most: what.bound.bytes.div_ceil(values).max(1),
            time: what.bound.time,
            in_flight: REQUESTS_IN_FLIGHT,
        };
        let mut batch = Batch::new(what.records_per_frame, what.value_bytes);
        let Self {
            stream, mut reader, ..
        } = self;
        let mut confirmed: u64 = 0;
        let mut awaited: u64 = 0;
        let frames = pipeline(
            requests,
            || send(&stream, batch.next()),
            || {
                awaited += records;
                while confirmed < awaited {
                    confirmed += confirms(reader.next()?)?;
                }
                Ok(())
            },
        )?;
        Ok(frames * records)
    }

    /// Reads so many records from the first one on. Answers with how many they were, and their bytes.
    pub(super) fn walk(mut self, name: &str, wanted: u64) -> Result<(u64, u64)> {
        self.ask(key::SUBSCRIBE, |frame| {
            frame
                .u8(SUBSCRIPTION)
                .string(name)
                .u16(OFFSET_FIRST)
                .u16(CREDIT)
                .u32(0)
        })?;
        let (mut records, mut bytes) = (0, 0);
        let mut spent = 0;
        while records < wanted {
            let frame = self.reader.next()?;
            match frame.key {
                key::DELIVER => {}
                key::HEARTBEAT => continue,
                other => bail!("RabbitMQ sends command {other} instead of a chunk"),
            }
            let (chunk_records, chunk_bytes) = walk_chunk(frame)?;
            records += chunk_records;
            bytes += chunk_bytes;
            spent += 1;
            if spent == CREDIT / 2 {
                let credit = Frame::new(key::CREDIT).u8(SUBSCRIPTION).u16(spent);
                send(&self.stream, &credit.finish())?;
                spent = 0;
            }
        }
        Ok((records, bytes))
    }
}

/// A frame that publishes the same values over and over, under new numbers.
struct Batch {
    frame: Vec<u8>,
    /// Where the numbers stand.
    numbers: Vec<usize>,
    next: u64,
}

impl Batch {
    fn new(records: usize, value_bytes: usize) -> Self {
        let value = noise(value_bytes);
        let count = u32::try_from(records).expect("a frame has few records");
        let mut frame = Frame::new(key::PUBLISH).u8(PUBLISHER).u32(count);
        let mut numbers = Vec::with_capacity(records);
        for _ in 0..records {
            numbers.push(frame.len());
            frame = frame.u64(0).bytes(&value);
        }
        Self {
            frame: frame.finish(),
            numbers,
            next: 0,
        }
    }

    fn next(&mut self) -> &[u8] {
        for at in &self.numbers {
            self.frame[*at..at + 8].copy_from_slice(&self.next.to_be_bytes());
            self.next += 1;
        }
        &self.frame
    }
}

/// How many records this frame confirms.
fn confirms(mut frame: Fields<'_>) -> Result<u64> {
    match frame.key {
        key::PUBLISH_CONFIRM => {
            frame.u8()?;
            Ok(frame.u32()?.into())
        }
        key::HEARTBEAT => Ok(0),
        other => bail!("RabbitMQ sends command {other} instead of a confirm"),
    }
}

/// Walks the messages of a chunk; answers with how many there are, and their bytes.
fn walk_chunk(mut frame: Fields<'_>) -> Result<(u64, u64)> {
    frame.u8()?;
    let (magic, kind) = (frame.u8()?, frame.u8()?);
    ensure!(magic == CHUNK_MAGIC, "a chunk begins with {magic:#x}");
    let entries = frame.u16()?;
    frame.u32()?;
    frame.take(CHUNK_UNREAD)?;
    let data_bytes = frame.u32()?;
    let (_trailer, _reserved) = (frame.u32()?, frame.u32()?);
    if kind != CHUNK_OF_MESSAGES {
        return Ok((0, 0));
    }
    ensure!(
        data_bytes > 0 || entries == 0,
        "a chunk of {entries} messages is empty"
    );
    let mut bytes = 0;
    for _ in 0..entries {
        // The highest bit would tell of a batch, which is not published here.
        let len = frame.u32()?;
        ensure!(len < 1 << 31, "a chunk holds batches");
        bytes += frame.take(len as usize)?.len() as u64;
    }
    Ok((entries.into(), bytes))
}
