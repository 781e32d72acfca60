//! The spellings of names in protos, and which types a file defines and uses.

use std::collections::BTreeSet;

use prost_types::{DescriptorProto, FileDescriptorProto};

pub(super) fn is_lower_snake(name: &str) -> bool {
    is_snake(name, |letter| letter.is_ascii_lowercase())
}

pub(super) fn is_upper_snake(name: &str) -> bool {
    is_snake(name, |letter| letter.is_ascii_uppercase())
}

fn is_snake(name: &str, letter: impl Fn(char) -> bool) -> bool {
    name.starts_with(&letter)
        && name
            .split('_')
            .all(|word| !word.is_empty() && word.chars().all(|c| letter(c) || c.is_ascii_digit()))
}

pub(super) fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
}

/// `v1`, `v2beta1`.
pub(super) fn is_version(word: &str) -> bool {
    let is_number = |digits: &str| digits.parse::<u32>().is_ok_and(|number| number > 0);
    word.strip_prefix('v').is_some_and(|rest| {
        let stage = ["alpha", "beta"]
            .iter()
            .find_map(|stage| rest.split_once(stage));
        stage.map_or(is_number(rest), |(major, minor)| {
            is_number(major) && is_number(minor)
        })
    })
}

/// `GroupState` as `GROUP_STATE`.
pub(super) fn upper_snake(pascal: &str) -> String {
    let mut out = String::new();
    for c in pascal.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

/// Full names of all messages and enums of a file.
pub(super) fn defined_in(file: &FileDescriptorProto) -> BTreeSet<String> {
    let package = format!(".{}", file.package());
    let mut out: BTreeSet<String> = file
        .enum_type
        .iter()
        .map(|one| format!("{package}.{}", one.name()))
        .collect();
    for message in &file.message_type {
        define(&package, message, &mut out);
    }
    out
}

fn define(scope: &str, message: &DescriptorProto, out: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", message.name());
    out.extend(
        message
            .enum_type
            .iter()
            .map(|one| format!("{name}.{}", one.name())),
    );
    for inner in &message.nested_type {
        define(&name, inner, out);
    }
    out.insert(name);
}

/// Full names of all messages and enums that a file's fields and calls name.
pub(super) fn used_in(file: &FileDescriptorProto) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for method in file.service.iter().flat_map(|service| &service.method) {
        out.extend([
            method.input_type().to_owned(),
            method.output_type().to_owned(),
        ]);
    }
    let mut messages: Vec<&DescriptorProto> = file.message_type.iter().collect();
    while let Some(message) = messages.pop() {
        out.extend(
            message
                .field
                .iter()
                .map(|field| field.type_name().to_owned()),
        );
        messages.extend(&message.nested_type);
    }
    out
}

#[test]
fn spellings_are_told_apart() {
    for (name, lower, upper, pascal) in [
        ("max_bytes", true, false, false),
        ("v1", true, false, false),
        ("MAX_BYTES", false, true, false),
        ("MaxBytes", false, false, true),
        ("maxBytes", false, false, false),
        ("max__bytes", false, false, false),
        ("_max", false, false, false),
        ("1max", false, false, false),
        ("Max_Bytes", false, false, false),
        ("", false, false, false),
    ] {
        let found = (is_lower_snake(name), is_upper_snake(name), is_pascal(name));
        assert_eq!(found, (lower, upper, pascal), "{name}");
    }
    assert_eq!(upper_snake("GroupState"), "GROUP_STATE");
    for (word, is) in [
        ("v1", true),
        ("v2beta1", true),
        ("v0", false),
        ("1", false),
        ("vx", false),
        ("v1beta", false),
    ] {
        assert_eq!(is_version(word), is, "{word}");
    }
}
