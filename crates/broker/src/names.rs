//! What names may look like. Names are never part of a path: directories are named by ids.

use std::collections::BTreeMap;

use crate::Error;

const MAX_TOPIC_NAME_BYTES: usize = 249;
const MAX_GROUP_NAME_BYTES: usize = 249;
const MAX_MEMBER_NAME_BYTES: usize = 249;
const MAX_LABEL_KEY_BYTES: usize = 128;
const MAX_LABEL_VALUE_BYTES: usize = 1024;

/// Kafka's rule, so that every topic of a Kafka cluster can be made here under its name.
pub(crate) fn check_topic(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let right = (1..=MAX_TOPIC_NAME_BYTES).contains(&name.len())
        && name.bytes().all(allowed)
        && name != "."
        && name != "..";
    if right {
        return Ok(());
    }
    Err(invalid(
        "name",
        "a topic's name is 1 to 249 of the characters A-Z a-z 0-9 . _ - and neither \".\" nor \"..\"",
    ))
}

/// Groups may have any printable name.
pub(crate) fn check_group(name: &str) -> Result<(), Error> {
    let right =
        (1..=MAX_GROUP_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    if right {
        return Ok(());
    }
    Err(invalid(
        "group",
        "a group's name is 1 to 249 bytes without control characters",
    ))
}

/// As a group's name, or empty.
pub(crate) fn check_member(name: &str) -> Result<(), Error> {
    if name.len() <= MAX_MEMBER_NAME_BYTES && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(invalid(
        "member",
        "a member's name is at most 249 bytes without control characters",
    ))
}

/// Labels are few and short, since every description of a topic carries them.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>, most: u32) -> Result<(), Error> {
    if labels.len() > most as usize {
        return Err(invalid(
            "labels",
            format!("a topic has at most {most} labels"),
        ));
    }
    for (key, value) in labels {
        let right = (1..=MAX_LABEL_KEY_BYTES).contains(&key.len())
            && value.len() <= MAX_LABEL_VALUE_BYTES
            && !key.chars().any(char::is_control);
        if !right {
            return Err(invalid(
                "labels",
                format!(
                    "label {key:?}: a key is 1 to {MAX_LABEL_KEY_BYTES} bytes without control \
                     characters, a value at most {MAX_LABEL_VALUE_BYTES} bytes"
                ),
            ));
        }
    }
    Ok(())
}

/// The error of a field that holds what it may not.
pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::InvalidField {
        field: field.into(),
        detail: detail.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        let longest = "a".repeat(249);
        for name in ["a", "access.log", "A-Z_0.9", "...", "-", longest.as_str()] {
            assert_eq!(check_topic(name), Ok(()), "{name}");
        }
        let too_long = "a".repeat(250);
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "café",
            "a\0",
            too_long.as_str(),
        ] {
            assert!(check_topic(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn groups_have_printable_names_and_members_may_have_none() {
        assert_eq!(check_group("billing, 2nd try ☂"), Ok(()));
        assert_eq!(check_member(""), Ok(()));
        assert!(check_group("").is_err());
        assert!(check_group("a\nb").is_err());
        assert!(check_group(&"g".repeat(250)).is_err());
        assert!(check_member("\u{7f}").is_err());
    }

    #[test]
    fn labels_are_few_and_short() {
        let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert_eq!(check_labels(&labels("team", ""), 1), Ok(()));
        assert!(check_labels(&labels("team", ""), 0).is_err());
        assert!(check_labels(&labels("", "x"), 1).is_err());
        assert!(check_labels(&labels("k", &"v".repeat(1025)), 1).is_err());
    }
}
