//! Little-endian fields at fixed places, and what all checksummed structures share.
//!
//! Each structure but the frame begins with the same 16 bytes (magic, version,
//! reserved, features) and ends with the CRC-32 of all before. Later versions
//! keep both, so that the checksum can be trusted before the version is read and
//! damage is never taken for a newer version.

use std::slice::ChunksExact;

use crate::error::HeaderError;

/// A field's place in a structure on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name, in capitals; `docs/format.md` has it in small letters.
    pub name: &'static str,
    /// Where it begins, in bytes from the beginning of its structure.
    pub at: usize,
    /// How long it is, in bytes.
    pub len: usize,
}

/// Declares the fields of a structure, and `ALL` of them in order.
macro_rules! fields {
    ($($name:ident $at:literal $len:literal),* $(,)?) => {
        $(pub(super) const $name: crate::layout::Field =
            crate::layout::Field::new(stringify!($name), $at, $len);)*
        pub(super) const ALL: &[crate::layout::Field] = &[$($name),*];
    };
}
pub(crate) use fields;

impl Field {
    pub(crate) const fn new(name: &'static str, at: usize, len: usize) -> Self {
        Self { name, at, len }
    }

    /// The field's bytes. Panics when `bytes` or `N` do not fit: lengths are
    /// checked before fields are taken.
    fn array<const N: usize>(self, bytes: &[u8]) -> [u8; N] {
        bytes[self.at..self.at + self.len]
            .try_into()
            .expect("a field is read with its own length")
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.at..self.at + self.len]
    }

    pub(crate) fn u8(self, bytes: &[u8]) -> u8 {
        let [byte] = self.array(bytes);
        byte
    }

    pub(crate) fn u16(self, bytes: &[u8]) -> u16 {
        u16::from_le_bytes(self.array(bytes))
    }

    pub(crate) fn u32(self, bytes: &[u8]) -> u32 {
        u32::from_le_bytes(self.array(bytes))
    }

    pub(crate) fn i32(self, bytes: &[u8]) -> i32 {
        i32::from_le_bytes(self.array(bytes))
    }

    pub(crate) fn u64(self, bytes: &[u8]) -> u64 {
        u64::from_le_bytes(self.array(bytes))
    }

    pub(crate) fn i64(self, bytes: &[u8]) -> i64 {
        i64::from_le_bytes(self.array(bytes))
    }

    pub(crate) fn bytes16(self, bytes: &[u8]) -> [u8; 16] {
        self.array(bytes)
    }

    /// Writes the field. Panics when `value` has another length.
    pub(crate) fn put<const N: usize>(self, out: &mut [u8], value: [u8; N]) {
        out[self.at..self.at + self.len].copy_from_slice(&value);
    }

    pub(crate) fn is_zero(self, bytes: &[u8]) -> bool {
        // Without a way out in the middle it becomes a few wide instructions.
        let set = self.bytes(bytes).iter().fold(0, |all, &byte| all | byte);
        set == 0
    }
}

/// The 16 bytes that all structures but the frame begin with.
const HEAD_LEN: usize = 16;
const MAGIC: Field = Field::new("MAGIC", 0, 4);
const VERSION: Field = Field::new("VERSION", 4, 2);
const RESERVED: Field = Field::new("RESERVED_A", 6, 2);
const FEATURES: Field = Field::new("FEATURES", 8, 8);

pub(crate) const CRC_LEN: usize = 4;

/// What a kind of structure is called and how it begins.
pub(crate) struct Kind {
    pub(crate) what: &'static str,
    pub(crate) magic: [u8; 4],
    pub(crate) version: u16,
}

impl Kind {
    pub(crate) fn put_head(&self, out: &mut [u8]) {
        MAGIC.put(out, self.magic);
        VERSION.put(out, self.version.to_le_bytes());
    }

    /// Checks magic, checksum, version and features of a whole structure. A newer
    /// version may be longer, so the length is the caller's to check afterwards.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), HeaderError> {
        let what = self.what;
        let magic = bytes.len().min(self.magic.len());
        if bytes[..magic] != self.magic[..magic] {
            return Err(HeaderError::BadMagic { what });
        }
        self.need(bytes, HEAD_LEN + CRC_LEN)?;
        if stored_crc(bytes) != crc_of(bytes) {
            return Err(HeaderError::BadCrc { what });
        }
        let found = VERSION.u16(bytes);
        if found > self.version {
            let known = self.version;
            return Err(HeaderError::NewerVersion { what, found, known });
        }
        if found == 0 {
            return Err(self.invalid("version 0"));
        }
        let bits = FEATURES.u64(bytes);
        if bits != 0 {
            return Err(HeaderError::UnknownFeatures { what, bits });
        }
        self.reserved(bytes, RESERVED)
    }

    /// `check`, and that the structure is exactly `len` bytes long.
    pub(crate) fn check_whole(&self, bytes: &[u8], len: usize) -> Result<(), HeaderError> {
        match self.check(bytes) {
            Err(HeaderError::BadCrc { .. }) if bytes.len() < len => {}
            other => other?,
        }
        self.need(bytes, len)?;
        if bytes.len() > len {
            return Err(self.invalid(format!("{} bytes instead of {len}", bytes.len())));
        }
        Ok(())
    }

    /// The entries of `len` bytes in `tail`, which is all between header and end of
    /// the structure. Their number is held against the bytes that are there.
    pub(crate) fn entries<'a>(
        &self,
        tail: &'a [u8],
        count: u32,
        len: usize,
    ) -> Result<ChunksExact<'a, u8>, HeaderError> {
        let entries = &tail[..tail.len() - CRC_LEN];
        if entries.len() as u64 != u64::from(count) * len as u64 {
            let have = entries.len();
            return Err(self.invalid(format!("{have} bytes for {count} entries of {len}")));
        }
        Ok(entries.chunks_exact(len))
    }

    pub(crate) fn need(&self, bytes: &[u8], need: usize) -> Result<(), HeaderError> {
        let (what, len) = (self.what, bytes.len());
        if len < need {
            return Err(HeaderError::Truncated { what, len, need });
        }
        Ok(())
    }

    /// Space kept for later versions is zero in this one.
    pub(crate) fn reserved(&self, bytes: &[u8], field: Field) -> Result<(), HeaderError> {
        if field.is_zero(bytes) {
            return Ok(());
        }
        Err(self.invalid(format!("reserved bytes at {} are not zero", field.at)))
    }

    pub(crate) fn invalid(&self, detail: impl Into<String>) -> HeaderError {
        HeaderError::Invalid {
            what: self.what,
            detail: detail.into(),
        }
    }
}

/// Writes the checksum of all before into the last four bytes.
pub(crate) fn seal(out: &mut [u8]) {
    let crc = crc_of(out);
    let end = out.len() - CRC_LEN;
    out[end..].copy_from_slice(&crc.to_le_bytes());
}

/// The checksum in the last four bytes.
pub(crate) fn stored_crc(bytes: &[u8]) -> u32 {
    Field::new("CRC", bytes.len() - CRC_LEN, CRC_LEN).u32(bytes)
}

fn crc_of(bytes: &[u8]) -> u32 {
    crc32fast::hash(&bytes[..bytes.len() - CRC_LEN])
}
