//! A start that fails says what to do and leaves everything as it was.

use std::path::Path;

use flowstone_disk::Env;
use flowstone_server::{Server, ServerConfig, StartError};

use crate::harness::{TestServer, config_in};

async fn refused(config: ServerConfig) -> String {
    match Server::start(config, Env::real()).await {
        Ok(_) => panic!("it must not start"),
        Err(error) => error.to_string(),
    }
}

/// All files and what they hold. FLOOR aside, which a running server writes when it finds the time.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("FLOOR") {
                found.push((
                    path.display().to_string(),
                    std::fs::read(&path).expect("readable"),
                ));
            }
        }
    }
    found.sort();
    found
}

/// CRC-32 (IEEE), bit by bit, for the one checksum that a test must forge.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[tokio::test]
async fn a_taken_port_is_named_before_anything_is_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address");
    let config = ServerConfig {
        listen,
        ..config_in(dir.path())
    };
    let message = refused(config.clone()).await;
    assert!(message.contains(&listen.to_string()), "{message}");
    assert!(message.contains("--listen"), "{message}");
    assert!(!config.data_dir.exists());

    let config = ServerConfig {
        listen: "203.0.113.1:7420"
            .parse()
            .expect("an address of nobody here"),
        ..config
    };
    let message = refused(config.clone()).await;
    assert!(message.contains("203.0.113.1:7420"), "{message}");
    assert!(!config.data_dir.exists());
}

#[tokio::test]
async fn a_directory_in_use_is_left_to_its_user() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["a"]).await;
    let config = config_in(server.dir.path());
    let data_dir = config.data_dir.display().to_string();
    let before = contents(server.dir.path());
    let message = refused(config).await;
    assert!(message.contains(&data_dir), "{message}");
    assert!(message.contains("another process"), "{message}");
    assert_eq!(contents(server.dir.path()), before);
    server.append("visits", 0, &["b"]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "no directory").expect("writable");
    let config = ServerConfig {
        data_dir: file.join("data"),
        ..config_in(dir.path())
    };
    let message = refused(config).await;
    assert!(message.contains(&file.display().to_string()), "{message}");
    assert_eq!(std::fs::read(&file).expect("still there"), b"no directory");
}

#[tokio::test]
async fn a_newer_format_is_refused_untouched() {
    let server = TestServer::start().await;
    let dir = server.stop().await;
    let config = config_in(dir.path());
    let identity = config.data_dir.join("IDENTITY");
    let mut bytes = std::fs::read(&identity).expect("readable");
    let (body, crc) = bytes
        .split_last_chunk_mut()
        .expect("it ends with its checksum");
    assert_eq!(crc32(body).to_le_bytes(), *crc);
    // The version, after the magic.
    body[4] += 1;
    *crc = crc32(body).to_le_bytes();
    std::fs::write(&identity, bytes).expect("writable");
    let before = contents(dir.path());
    let message = refused(config).await;
    assert!(message.contains("newer"), "{message}");
    assert_eq!(contents(dir.path()), before);
}

#[tokio::test]
async fn the_wrong_volume_is_refused() {
    let server = TestServer::start().await;
    let cluster_id = server.cluster_id.clone();
    let dir = server.stop().await;
    let config = ServerConfig {
        expected_cluster_id: Some(uuid::Uuid::from_u128(7)),
        ..config_in(dir.path())
    };
    let message = refused(config).await;
    assert!(message.contains(&cluster_id), "{message}");
}

#[tokio::test]
async fn a_configuration_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config_in(dir.path());
    config.limits.max_record_bytes = config.limits.max_request_bytes + 1;
    match Server::start(config.clone(), Env::real()).await {
        Err(StartError::Config(error)) => {
            assert!(
                error.to_string().contains("limits.max_record_bytes"),
                "{error}"
            );
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(!config.data_dir.exists());
}
