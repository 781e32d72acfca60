//! One request's part for one partition becomes a frame.

use std::ops::Range;

use crate::error::{RecordError, RecordErrorKind};
use crate::frame::{Codec, FRAME_HEADER_LEN, FrameHeader, FrameKind, MAX_PAYLOAD_LEN};
use crate::offset::{Offset, Position};
use crate::record::{RecordLimits, Records};
use crate::stored::{Counter, Stamp, put_stored};

/// The payload is summed up in pieces of this size, while they are in the cache.
const CRC_STEP_BYTES: usize = 16 << 10;

/// What a frame's header needs to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchMeta {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Epoch of the leader that appends.
    pub leader_epoch: u64,
    /// The frame's place in the partition's sequence of frames, from 1.
    pub entry_index: u64,
    /// Time of the append in Unix milliseconds; records without a timestamp get it.
    pub append_ms: i64,
    /// Hash of the producer's id; zero without one.
    pub producer_id: [u8; 16],
    /// The producer's sequence number.
    pub sequence: i64,
    /// The producer's epoch.
    pub producer_epoch: i32,
    /// How many partitions the topic had when the request was routed.
    pub routing_count: u32,
    /// CRC-32 of the runs as the client sent them; 0 without a producer.
    pub client_crc: u32,
}

/// Appends a frame to `out`: a hole of 128 bytes for the header, and the payload,
/// which is the records with the broker's fields put in. The header returned is
/// complete but for its local part; `FrameHeader::encode` fills the hole.
///
/// `runs` are the byte ranges of whole records in `request` that go to this
/// partition, in order, with at least one record among them. They were checked
/// before, so an error means that they were not, or that the payload would exceed
/// [`MAX_PAYLOAD_LEN`]; `out` is then as it was. The index in the error counts
/// over all runs.
pub fn build_batch(
    out: &mut Vec<u8>,
    request: &[u8],
    runs: &[Range<usize>],
    meta: &BatchMeta,
    limits: &RecordLimits,
) -> Result<FrameHeader, RecordError> {
    let begin = out.len();
    out.resize(begin + FRAME_HEADER_LEN, 0);
    match put_payload(out, request, runs, meta, limits) {
        Ok(payload) => Ok(header(meta, &payload)),
        Err(error) => {
            out.truncate(begin);
            Err(error)
        }
    }
}

struct Payload {
    len: u32,
    crc: u32,
    record_count: u32,
    max_timestamp_ms: i64,
}

fn put_payload(
    out: &mut Vec<u8>,
    request: &[u8],
    runs: &[Range<usize>],
    meta: &BatchMeta,
    limits: &RecordLimits,
) -> Result<Payload, RecordError> {
    let begin = out.len();
    let mut crc = crc32fast::Hasher::new();
    let mut summed = begin;
    let mut record_count = 0;
    let mut max_timestamp_ms = i64::MIN;
    let stamp = Stamp::new(meta.append_ms);
    let mut offset = Counter::new(meta.base_offset);
    for run in runs {
        let run = &request[run.clone()];
        out.reserve(run.len());
        for record in Records::continued(run, limits, record_count) {
            let (_, record) = record?;
            let timestamp_ms = put_stored(out, &record, &stamp, &offset);
            offset.step();
            max_timestamp_ms = max_timestamp_ms.max(timestamp_ms);
            if out.len() - begin > MAX_PAYLOAD_LEN as usize {
                let limit = MAX_PAYLOAD_LEN;
                return Err(RecordError {
                    index: record_count,
                    kind: RecordErrorKind::BatchTooLarge { limit },
                });
            }
            record_count += 1;
            if out.len() - summed >= CRC_STEP_BYTES {
                crc.update(&out[summed..]);
                summed = out.len();
            }
        }
    }
    assert!(record_count > 0, "a batch has at least one record");
    crc.update(&out[summed..]);
    Ok(Payload {
        len: (out.len() - begin) as u32,
        crc: crc.finalize(),
        record_count,
        max_timestamp_ms,
    })
}

fn header(meta: &BatchMeta, payload: &Payload) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Data,
        codec: Codec::None,
        transactional: false,
        header_len: FRAME_HEADER_LEN as u16,
        payload_len: payload.len,
        payload_crc: payload.crc,
        base_offset: meta.base_offset,
        offset_span: payload.record_count,
        record_count: payload.record_count,
        leader_epoch: meta.leader_epoch,
        entry_index: meta.entry_index,
        append_ms: meta.append_ms,
        max_timestamp_ms: payload.max_timestamp_ms,
        producer_id: meta.producer_id,
        sequence: meta.sequence,
        producer_epoch: meta.producer_epoch,
        routing_count: meta.routing_count,
        uncompressed_len: payload.len,
        client_crc: meta.client_crc,
        durable_upto: Position::ZERO,
        prev_header_crc: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::frame::FrameKind;

    const META: BatchMeta = BatchMeta {
        base_offset: Offset::new(10),
        leader_epoch: 1,
        entry_index: 2,
        append_ms: 1000,
        producer_id: [3; 16],
        sequence: 4,
        producer_epoch: 5,
        routing_count: 6,
        client_crc: 7,
    };

    #[test]
    fn the_header_tells_of_the_payload() {
        // Timestamps 2000, none and 500, with a foreign record between the runs.
        let request = [
            0x0A, 0x03, 0x20, 0xD0, 0x0F, 0x0A, 0x02, 0x12, 0x00, 0x0A, 0x00, 0x0A, 0x03, 0x20,
            0xF4, 0x03,
        ];
        let mut out = vec![0xEE; 3];
        let runs = [0..5, 9..16];
        let header = build_batch(&mut out, &request, &runs, &META, &RecordLimits::default());
        let header = header.unwrap();
        let expected = [
            0x0A, 0x05, 0x20, 0xD0, 0x0F, 0x78, 0x0A, 0x0A, 0x05, 0x20, 0xE8, 0x07, 0x78, 0x0B,
            0x0A, 0x05, 0x20, 0xF4, 0x03, 0x78, 0x0C,
        ];
        let payload = &out[3 + FRAME_HEADER_LEN..];
        assert_eq!(out[..3], [0xEE; 3]);
        assert_eq!(payload, expected);
        assert_eq!(header.check_payload(payload), Ok(()));
        assert_eq!(header.kind, FrameKind::Data);
        assert_eq!((header.record_count, header.offset_span), (3, 3));
        assert_eq!((header.append_ms, header.max_timestamp_ms), (1000, 2000));
        assert_eq!(header.next_offset(), Offset::new(13));
        assert_eq!(header.frame_len(), 128 + 21);
    }

    #[test]
    fn an_error_leaves_nothing_behind_and_counts_over_all_runs() {
        let request = [0x0A, 0x00, 0x0A, 0x00, 0x0A, 0x02, 0x38, 0x01];
        let mut out = vec![1, 2, 3];
        let runs = [0..4, 4..8];
        let error = build_batch(&mut out, &request, &runs, &META, &RecordLimits::default());
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), "record 2: field 7 is unknown");
        assert_eq!(out, [1, 2, 3]);

        let limits = RecordLimits {
            max_records: 1,
            ..RecordLimits::default()
        };
        let error = build_batch(&mut out, &request, &[0..2, 2..4], &META, &limits).unwrap_err();
        assert_eq!(error.kind, RecordErrorKind::TooMany { limit: 1 });
    }

    #[test]
    fn a_payload_has_at_most_its_limit_of_bytes() {
        // 8 records of 1 MiB each, less the 4 bytes of tag and length.
        let mut record = vec![0x12, 0xF8, 0xFF, 0x3F];
        record.resize((1 << 20) - 4, 0);
        let mut request = Vec::new();
        for _ in 0..8 {
            request.extend([0x0A, 0xFC, 0xFF, 0x3F]);
            request.extend(&record);
        }
        assert_eq!(request.len(), MAX_PAYLOAD_LEN as usize);
        let mut out = Vec::new();
        let whole = 0..request.len();
        let error = build_batch(
            &mut out,
            &request,
            from_ref(&whole),
            &META,
            &RecordLimits::default(),
        );
        let error = error.unwrap_err();
        assert_eq!(
            error.to_string(),
            "record 7: the batch exceeds 8388608 bytes as it is stored"
        );
        assert!(out.is_empty());
    }
}
