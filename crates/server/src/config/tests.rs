//! The file is read as it says, refuses what it does not know, and its pages are those in the repository.

use std::path::Path;

use super::*;

fn read(text: &str) -> Result<ServerConfig, ConfigError> {
    ServerConfig::from_toml(text, Path::new("flowstone.toml"))
}

fn refused(text: &str) -> String {
    read(text).expect_err("this file is wrong").to_string()
}

#[test]
fn the_defaults_are_valid_and_an_empty_file_gives_them() {
    ServerConfig::default()
        .validate()
        .expect("defaults fit together");
    assert_eq!(read("").expect("empty"), ServerConfig::default());
}

#[test]
fn the_default_file_names_every_setting_and_reads_back_as_the_defaults() {
    let text = ServerConfig::default_toml();
    assert_eq!(read(&text).expect("as written"), ServerConfig::default());

    let mut used = String::new();
    for line in text.lines() {
        let setting = line.strip_prefix("# ").filter(|rest| {
            rest.split_once(" = ").is_some_and(|(name, _)| {
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            })
        });
        used.push_str(setting.unwrap_or(line));
        used.push('\n');
    }
    for key in keys::KEYS {
        assert!(
            used.lines()
                .any(|line| line.starts_with(&format!("{} = ", key.name))),
            "{} is missing",
            key.path()
        );
    }
    assert_eq!(read(&used).expect("uncommented"), ServerConfig::default());
}

#[test]
fn every_number_is_read_into_a_place_of_its_own() {
    for key in keys::KEYS {
        let keys::Kind::Number {
            least,
            most,
            get,
            set,
        } = &key.kind
        else {
            continue;
        };
        for value in [*least, *most] {
            let mut config = ServerConfig::default();
            set(&mut config, value);
            assert_eq!(get(&config), value, "{}", key.path());
            let changed = keys::KEYS
                .iter()
                .filter(|other| {
                    other.toml_value(&config) != other.toml_value(&ServerConfig::default())
                })
                .map(keys::Key::path)
                .collect::<Vec<_>>();
            assert!(
                changed.is_empty() || changed == [key.path()],
                "{} also sets {changed:?}",
                key.path()
            );
        }
    }
}

#[test]
fn every_limit_of_the_broker_can_be_set() {
    // A new limit fails to compile here until it stands in the table.
    let Limits {
        max_record_bytes: _,
        max_request_bytes: _,
        max_records_per_request: _,
        default_response_bytes: _,
        max_response_bytes: _,
        max_produce_bytes_in_flight: _,
        max_topics: _,
        max_partitions_per_topic: _,
        max_partitions: _,
        min_segment_bytes: _,
        max_labels_per_topic: _,
        max_committed_offsets: _,
        max_cursors_per_commit: _,
        max_subscriptions: _,
        max_producer_sequences: _,
        max_opened_producers: _,
    } = Limits::default();
    let set = keys::KEYS.iter().filter(|key| key.section == "limits");
    assert_eq!(set.count(), 16);
}

#[test]
fn values_are_taken() {
    let config = read(
        "[server]\nlisten = \"0.0.0.0:9\"\nadvertised_endpoint = \"broker:9\"\n\
         [storage]\ndata_dir = \"/srv/flowstone\"\n\
         expected_cluster_id = \"67e55044-10b1-426f-9247-bb680e5fe0c8\"\n\
         [limits]\nmax_record_bytes = 0x1000\n[http2]\nkeepalive_interval_ms = 1_500\n",
    )
    .expect("valid");
    assert_eq!(config.listen.to_string(), "0.0.0.0:9");
    assert_eq!(config.advertised_endpoint.as_deref(), Some("broker:9"));
    assert_eq!(config.data_dir, Path::new("/srv/flowstone"));
    assert_eq!(
        config
            .expected_cluster_id
            .map(|id| id.to_string())
            .as_deref(),
        Some("67e55044-10b1-426f-9247-bb680e5fe0c8")
    );
    assert_eq!(config.limits.max_record_bytes, 4096);
    assert_eq!(config.http2.keepalive_interval_ms, 1_500);
}

#[test]
fn what_is_unknown_is_refused_with_what_is_known() {
    let message = refused("[server]\n\nlisten_on = \"127.0.0.1:1\"\n");
    assert!(message.contains("flowstone.toml:3"), "{message}");
    assert!(message.contains("server.listen_on"), "{message}");
    assert!(message.contains("advertised_endpoint"), "{message}");

    let message = refused("[sever]\nlisten = \"127.0.0.1:1\"\n");
    assert!(message.contains("sever"), "{message}");
    assert!(
        message.contains("server, storage, groups, producers, limits, http2"),
        "{message}"
    );

    let message = refused("listen = \"127.0.0.1:1\"\n");
    assert!(message.contains("listen"), "{message}");
}

#[test]
fn wrong_values_are_refused_with_what_would_be_right() {
    for (text, expected) in [
        ("[server]\nlisten = 7420", "address and port"),
        ("[server]\nlisten = \"localhost\"", "address and port"),
        ("[server]\nmax_connections = 0", "between 1 and"),
        ("[server]\nmax_connections = -1", "between 1 and"),
        ("[server]\nmax_connections = \"many\"", "between 1 and"),
        ("[server]\nmax_connections = 1.5", "between 1 and"),
        ("[storage]\nexpected_cluster_id = \"mine\"", "a UUID"),
        ("[storage]\ndata_dir = \"\"", "a path"),
        ("server = 1", "a table"),
        (
            "[limits]\nmax_record_bytes = 4_000_000",
            "limits.max_record_bytes",
        ),
        (
            "[limits]\nmax_request_bytes = 8_000_000",
            "limits.max_request_bytes",
        ),
        (
            "[limits]\nmax_partitions = 100",
            "limits.max_partitions_per_topic",
        ),
        (
            "[limits]\ndefault_response_bytes = 5_000_000",
            "limits.default_response_bytes",
        ),
    ] {
        let message = refused(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
    let message = refused("[server\n");
    assert!(message.contains("flowstone.toml"), "{message}");
}

#[test]
fn a_value_that_was_set_in_code_is_checked_too() {
    let config = ServerConfig {
        heartbeat_interval_ms: 0,
        ..ServerConfig::default()
    };
    let message = config.validate().expect_err("out of range").to_string();
    assert!(
        message.contains("server.heartbeat_interval_ms"),
        "{message}"
    );
}

/// `BLESS=1 cargo test -p flowstone-server config` writes the page anew.
#[test]
fn the_reference_page_is_the_one_in_docs() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let expected = ServerConfig::reference_markdown();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&page, &expected).expect("docs/config.md can be written");
    }
    let found = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        found == expected,
        "docs/config.md is not what the code says: run `BLESS=1 cargo test -p flowstone-server config`"
    );
}
