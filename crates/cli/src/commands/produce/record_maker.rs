//! Lines to records.

use anyhow::Result;
use bytes::Bytes;
use flowstone_client::{Header, Record};

use crate::exit::Failure;
use crate::format::unescape;

/// Makes a record of a line.
pub(super) struct RecordMaker {
    delimiter: Option<Vec<u8>>,
    key: Option<Bytes>,
    headers: Vec<Header>,
}

impl RecordMaker {
    /// With the delimiter as it was written, escapes and all.
    pub(super) fn new(
        delimiter_text: Option<&str>,
        key: Option<&str>,
        headers: &[(String, String)],
    ) -> Result<Self> {
        Ok(Self {
            delimiter: delimiter_text.map(delimiter).transpose()?,
            key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
            headers: headers
                .iter()
                .map(|(name, value)| Header {
                    key: name.clone(),
                    value: Bytes::copy_from_slice(value.as_bytes()),
                })
                .collect(),
        })
    }

    pub(super) fn record(&self, line: Bytes) -> Record {
        let (key, value) = match self.split(&line) {
            Some((key_end, value_start)) => {
                (Some(line.slice(..key_end)), line.slice(value_start..))
            }
            None => (self.key.clone(), line),
        };
        Record {
            key,
            value: Some(value),
            headers: self.headers.clone(),
            ..Record::default()
        }
    }

    /// Where the key ends and the value begins.
    fn split(&self, line: &[u8]) -> Option<(usize, usize)> {
        let delimiter = self.delimiter.as_ref()?;
        let at = memchr::memmem::find(line, delimiter)?;
        Some((at, at + delimiter.len()))
    }
}

fn delimiter(text: &str) -> Result<Vec<u8>> {
    let delimiter =
        unescape(text).map_err(|error| Failure::Usage(format!("--key-delimiter: {error}")))?;
    if delimiter.is_empty() {
        return Err(Failure::Usage("--key-delimiter is empty".to_owned()).into());
    }
    Ok(delimiter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maker(delimiter: Option<&str>, key: Option<&str>) -> RecordMaker {
        RecordMaker::new(delimiter, key, &[]).unwrap()
    }

    #[track_caller]
    fn parts(maker: &RecordMaker, line: &'static str) -> (Option<Bytes>, Option<Bytes>) {
        let record = maker.record(Bytes::from_static(line.as_bytes()));
        (record.key, record.value)
    }

    #[test]
    fn a_line_is_split_at_the_first_delimiter() {
        let maker = maker(Some(":"), None);
        assert_eq!(
            parts(&maker, "a:b:c"),
            (Some("a".into()), Some("b:c".into()))
        );
        assert_eq!(parts(&maker, ":b"), (Some("".into()), Some("b".into())));
        assert_eq!(parts(&maker, "a:"), (Some("a".into()), Some("".into())));
        assert_eq!(parts(&maker, "none"), (None, Some("none".into())));
    }

    #[test]
    fn delimiters_may_be_longer_and_escaped() {
        let maker = maker(Some("\\t=>"), None);
        assert_eq!(
            parts(&maker, "a\t=>b"),
            (Some("a".into()), Some("b".into()))
        );
        assert!(delimiter("").is_err());
        assert!(delimiter("\\q").is_err());
    }

    #[test]
    fn a_key_for_all_leaves_the_line_whole() {
        let maker = maker(None, Some("k"));
        assert_eq!(parts(&maker, "a:b"), (Some("k".into()), Some("a:b".into())));
    }
}
