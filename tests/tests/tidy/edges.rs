//! Which crate may depend on which. An edge that is missing here is a wall.

use std::collections::BTreeSet;

use cargo_metadata::MetadataCommand;

use super::{none, workspace_root};

/// Every crate under `crates/` with the ones it may name, lowest first. Dependencies point downward
/// only.
const EDGES: [(&str, &[&str]); 9] = [
    ("flowstone-format", &[]),
    ("flowstone-disk", &[]),
    ("flowstone-log", &["flowstone-format", "flowstone-disk"]),
    (
        "flowstone-broker",
        &["flowstone-format", "flowstone-disk", "flowstone-log"],
    ),
    ("flowstone-grpc", &[]),
    ("flowstone-proto", &[]),
    (
        "flowstone-server",
        &[
            "flowstone-broker",
            "flowstone-disk",
            "flowstone-grpc",
            "flowstone-proto",
        ],
    ),
    ("flowstone-client", &["flowstone-grpc", "flowstone-proto"]),
    (
        "flowstone",
        &[
            "flowstone-broker",
            "flowstone-client",
            "flowstone-disk",
            "flowstone-log",
            "flowstone-server",
        ],
    ),
];

/// Members that may depend on anything: they are what looks at the whole.
const ABOVE_ALL: [&str; 3] = ["flowstone-tests", "flowstone-benches", "flowstone-examples"];

#[test]
fn crates_depend_downward_only() {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace_root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .unwrap();
    let members = metadata.workspace_packages();
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let known: BTreeSet<&str> = EDGES
        .iter()
        .map(|(name, _)| *name)
        .chain(ABOVE_ALL)
        .collect();
    assert_eq!(
        names,
        known,
        "list every member of the workspace in {}",
        file!()
    );

    let mut faults = Vec::new();
    for member in members {
        let Some((name, allowed)) = EDGES.iter().find(|(name, _)| *name == member.name.as_str())
        else {
            continue;
        };
        // A dev-dependency counts as well: a crate's tests must not know more than the crate.
        for dependency in &member.dependencies {
            let of_ours = names.contains(dependency.name.as_str());
            if of_ours && !allowed.contains(&dependency.name.as_str()) {
                faults.push(format!(
                    "{name} depends on {} ({})",
                    dependency.name, dependency.kind
                ));
            }
        }
    }
    none(
        faults,
        "These edges are not in the table. Move the code to the crate that may know both, or the test to `tests/`:",
    );
}
