//! The protos hold the names of buf's STANDARD rules and one layout, so that every language's stubs
//! come out as expected.

mod layout;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use flowstone_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use super::{files, none};
use names::{is_lower_snake, is_pascal, is_upper_snake, is_version, upper_snake};

/// Ours first, then those of Google that ours import.
fn descriptors() -> (Vec<FileDescriptorProto>, Vec<FileDescriptorProto>) {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    set.file
        .into_iter()
        .partition(|file| file.package().starts_with("flowstone"))
}

#[test]
fn every_proto_is_compiled() {
    let on_disk: BTreeSet<String> = files("proto", "proto")
        .into_iter()
        .map(|(path, _)| path.strip_prefix("proto/").unwrap().to_owned())
        .collect();
    let compiled: BTreeSet<String> = descriptors()
        .0
        .iter()
        .map(|file| file.name().to_owned())
        .collect();
    assert_eq!(
        on_disk, compiled,
        "list every file under proto/ in crates/proto/build.rs"
    );
}

#[test]
fn protos_are_laid_out_alike() {
    let mut faults = Vec::new();
    for (path, text) in files("proto", "proto") {
        faults.extend(
            layout::faults(&text)
                .into_iter()
                .map(|(line, fault)| format!("{path}:{line}: {fault}")),
        );
    }
    none(faults, "Lay these lines out as the others are:");
}

#[test]
fn protos_hold_the_standard_rules() {
    let (ours, theirs) = descriptors();
    let mut faults = Faults::default();
    for file in &ours {
        faults.file(file);
        for message in &file.message_type {
            faults.message(file.name(), message);
        }
        for one in &file.enum_type {
            faults.enumeration(file.name(), one);
        }
    }
    faults.services(&ours);
    faults.options(&ours);
    faults.imports(&ours, &theirs);
    none(
        faults.0,
        "Rename these, before anybody has generated code from them:",
    );
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.0.push(fault());
        }
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        let (name, package) = (file.name(), file.package());
        let (folder, base) = name.rsplit_once('/').unwrap_or(("", name));
        let version = package.rsplit('.').next().unwrap_or_default();
        self.check(is_lower_snake(base.trim_end_matches(".proto")), || {
            format!("{name}: file names are lower_snake_case")
        });
        self.check(package.split('.').all(is_lower_snake), || {
            format!("{name}: package {package} is not lower_snake_case")
        });
        self.check(is_version(version), || {
            format!("{name}: package {package} does not end in a version such as v1")
        });
        self.check(folder == package.replace('.', "/"), || {
            format!("{name}: does not lie in the folder of {package}")
        });
        self.check(file.syntax() == "proto3", || {
            format!("{name}: is not proto3")
        });
        self.check(file.public_dependency.is_empty(), || {
            format!("{name}: imports publicly")
        });
    }

    fn message(&mut self, place: &str, message: &DescriptorProto) {
        let place = format!("{place}: {}", message.name());
        self.check(is_pascal(message.name()), || {
            format!("{place}: messages are PascalCase")
        });
        for field in &message.field {
            self.check(is_lower_snake(field.name()), || {
                format!("{place}.{}: fields are lower_snake_case", field.name())
            });
        }
        for oneof in message
            .oneof_decl
            .iter()
            .filter(|oneof| !oneof.name().starts_with('_'))
        {
            self.check(is_lower_snake(oneof.name()), || {
                format!("{place}.{}: oneofs are lower_snake_case", oneof.name())
            });
        }
        for inner in &message.nested_type {
            self.message(&place, inner);
        }
        for inner in &message.enum_type {
            self.enumeration(&place, inner);
        }
    }

    fn enumeration(&mut self, place: &str, one: &EnumDescriptorProto) {
        let (name, prefix) = (one.name(), format!("{}_", upper_snake(one.name())));
        self.check(is_pascal(name), || {
            format!("{place}: {name}: enums are PascalCase")
        });
        self.check(
            !one.options
                .as_ref()
                .is_some_and(|options| options.allow_alias()),
            || format!("{place}: {name}: allows aliases"),
        );
        let zero = one.value.first().filter(|value| value.number() == 0);
        self.check(
            zero.is_some_and(|value| value.name() == format!("{prefix}UNSPECIFIED")),
            || format!("{place}: {name}: the first value is {prefix}UNSPECIFIED = 0"),
        );
        for value in &one.value {
            let value = value.name();
            self.check(is_upper_snake(value) && value.starts_with(&prefix), || {
                format!("{place}: {name}: {value} does not begin with {prefix}, or is not UPPER_SNAKE_CASE")
            });
        }
    }

    /// Every call has a request and a response of its own, so that either can grow alone.
    fn services(&mut self, files: &[FileDescriptorProto]) {
        let mut used: BTreeMap<String, String> = BTreeMap::new();
        for (file, service) in files
            .iter()
            .flat_map(|file| file.service.iter().map(move |service| (file, service)))
        {
            let place = format!("{}: {}", file.name(), service.name());
            self.check(
                is_pascal(service.name()) && service.name().ends_with("Service"),
                || format!("{place}: services are PascalCase and end in Service"),
            );
            for method in &service.method {
                let call = format!("{place}.{}", method.name());
                self.check(is_pascal(method.name()), || {
                    format!("{call}: calls are PascalCase")
                });
                for (message, ending) in [
                    (method.input_type(), "Request"),
                    (method.output_type(), "Response"),
                ] {
                    let wanted = format!(".{}.{}{ending}", file.package(), method.name());
                    self.check(message == wanted, || {
                        format!("{call}: uses {message} and not {wanted}")
                    });
                    let other = used.insert(message.to_owned(), call.clone());
                    self.check(other.is_none(), || {
                        format!(
                            "{call}: shares {message} with {}",
                            other.unwrap_or_default()
                        )
                    });
                }
            }
        }
    }

    fn options(&mut self, files: &[FileDescriptorProto]) {
        let first = files.first().unwrap();
        for file in files {
            let same = file.package() == first.package() && file.options == first.options;
            self.check(same, || {
                format!(
                    "{}: package or file options differ from {}",
                    file.name(),
                    first.name()
                )
            });
        }
    }

    fn imports(&mut self, ours: &[FileDescriptorProto], theirs: &[FileDescriptorProto]) {
        let defined: BTreeMap<&str, BTreeSet<String>> = ours
            .iter()
            .chain(theirs)
            .map(|file| (file.name(), names::defined_in(file)))
            .collect();
        for file in ours {
            let used = names::used_in(file);
            for import in &file.dependency {
                self.check(!defined[import.as_str()].is_disjoint(&used), || {
                    format!("{}: imports {import} and uses nothing of it", file.name())
                });
            }
        }
    }
}

#[test]
fn every_broken_rule_is_told() {
    use prost_types::{
        EnumOptions, EnumValueDescriptorProto, FieldDescriptorProto, FileOptions,
        MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto,
    };
    let name = |name: &str| Some(name.to_owned());
    let field = FieldDescriptorProto {
        name: name("maxBytes"),
        ..Default::default()
    };
    let oneof = OneofDescriptorProto {
        name: name("Or"),
        ..Default::default()
    };
    let value = |value: &str, number| EnumValueDescriptorProto {
        name: name(value),
        number: Some(number),
        ..Default::default()
    };
    let state = EnumDescriptorProto {
        name: name("state"),
        value: vec![value("STATE_NONE", 0), value("ON", 1)],
        options: Some(EnumOptions {
            allow_alias: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    };
    let message = DescriptorProto {
        name: name("get_it"),
        field: vec![field],
        oneof_decl: vec![oneof],
        enum_type: vec![state],
        ..Default::default()
    };
    let method = |call: &str| MethodDescriptorProto {
        name: name(call),
        input_type: name(".flow.Stone.GetRequest"),
        output_type: name(".flow.Stone.GetIt"),
        ..Default::default()
    };
    let service = ServiceDescriptorProto {
        name: name("Getter"),
        method: vec![method("Get"), method("put")],
        ..Default::default()
    };
    let bad = FileDescriptorProto {
        name: name("flow/Bad.proto"),
        package: name("flow.Stone"),
        dependency: vec!["flow/good.proto".to_owned()],
        public_dependency: vec![0],
        message_type: vec![message.clone()],
        service: vec![service],
        options: Some(FileOptions::default()),
        ..Default::default()
    };
    let good = FileDescriptorProto {
        name: name("flow/good.proto"),
        package: name("flow"),
        message_type: vec![DescriptorProto {
            name: name("Unused"),
            ..Default::default()
        }],
        ..Default::default()
    };

    let mut faults = Faults::default();
    faults.file(&bad);
    faults.message("bad", &message);
    faults.services(std::slice::from_ref(&bad));
    faults.options(&[good.clone(), bad.clone()]);
    faults.imports(&[bad], &[good]);
    let expected = [
        "file names are lower_snake_case",
        "package flow.Stone is not lower_snake_case",
        "package flow.Stone does not end in a version",
        "does not lie in the folder of flow.Stone",
        "is not proto3",
        "imports publicly",
        "get_it: messages are PascalCase",
        "get_it.maxBytes: fields are lower_snake_case",
        "get_it.Or: oneofs are lower_snake_case",
        "state: enums are PascalCase",
        "state: allows aliases",
        "the first value is STATE_UNSPECIFIED = 0",
        "ON does not begin with STATE_",
        "Getter: services are PascalCase and end in Service",
        "Get: uses .flow.Stone.GetIt and not .flow.Stone.GetResponse",
        "put: calls are PascalCase",
        "put: shares .flow.Stone.GetRequest with",
        "package or file options differ",
        "imports flow/good.proto and uses nothing of it",
    ];
    for part in expected {
        assert!(
            faults.0.iter().any(|fault| fault.contains(part)),
            "{part} is not among {:#?}",
            faults.0
        );
    }
}
