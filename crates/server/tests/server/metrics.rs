//! Metrics over the real listener: the format holds, the values move, and nobody gets more than
//! there is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use flowstone_disk::Env;
use flowstone_server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::{TestServer, config_in, to};

/// The whole answer to a request, as text.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = String::new();
    // A refusal may come before all was read.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n")
}

/// Every sample of a scrape, by its name with its labels.
async fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let answer = ask(address, &get("/metrics")).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n"), "{body}");
    let mut samples = BTreeMap::new();
    let mut types = BTreeMap::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(family) = comment.strip_prefix("TYPE ") {
                let (name, kind) = family.split_once(' ').expect("a name and a kind");
                assert_eq!(types.insert(name.to_owned(), kind.to_owned()), None);
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        let value = value.parse().expect("a number");
        assert_eq!(samples.insert(name.to_owned(), value), None, "{line}");
    }
    assert!(types.values().any(|kind| kind == "histogram"));
    samples
}

async fn start() -> (TestServer, SocketAddr) {
    let server = TestServer::start_with(|config| {
        config.metrics_listen = Some("127.0.0.1:0".parse().expect("an address"));
    })
    .await;
    let address = server.metrics_addr.expect("it was asked for");
    (server, address)
}

#[tokio::test]
async fn the_values_move_with_what_happens() {
    let (server, address) = start().await;
    let before = scrape(address).await;
    assert_eq!(before["flowstone_appended_records_total"], 0.0);
    assert_eq!(before["flowstone_topics"], 0.0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        before[&format!("flowstone_build_info{{version=\"{version}\"}}")],
        1.0
    );

    server.create_topic("visits", 2).await;
    server.append("visits", 0, &["a", "b", "c"]).await;
    server.append("visits", 1, &["d"]).await;
    assert_eq!(server.values("visits", 0).await, ["a", "b", "c"]);
    let refused = server.log().produce(to("nowhere", &["x"])).await;
    assert_eq!(refused.expect_err("refused").code(), Code::NotFound);

    let after = scrape(address).await;
    let expected = [
        ("flowstone_topics", 1.0),
        ("flowstone_partitions", 2.0),
        ("flowstone_offline_partitions", 0.0),
        ("flowstone_topic_partitions{topic=\"visits\"}", 2.0),
        ("flowstone_topic_segments{topic=\"visits\"}", 2.0),
        ("flowstone_appended_records_total", 4.0),
        ("flowstone_read_records_total", 3.0),
        ("flowstone_produce_requests_total{reason=\"OK\"}", 2.0),
        (
            "flowstone_produce_requests_total{reason=\"TOPIC_NOT_FOUND\"}",
            1.0,
        ),
        ("flowstone_group_requests_count", 2.0),
        ("flowstone_group_requests_bucket{le=\"+Inf\"}", 2.0),
        ("flowstone_group_requests_sum", 2.0),
    ];
    for (name, value) in expected {
        assert_eq!(after.get(name), Some(&value), "{name}");
    }
    // Two groups, and the topic's entry in the metadata log.
    assert_eq!(after["flowstone_sync_seconds_count"], 3.0);
    assert!(after["flowstone_sync_seconds_sum"] > 0.0);
    let classes = after
        .iter()
        .filter(|(name, _)| name.starts_with("flowstone_sync_seconds_bucket"));
    for (name, value) in classes {
        assert!(*value <= 3.0, "{name}: classes are added up once");
    }
    assert_eq!(after["flowstone_sync_seconds_bucket{le=\"+Inf\"}"], 3.0);
    assert!(after["flowstone_appended_bytes_total"] > 0.0);
    assert!(after["flowstone_topic_size_bytes{topic=\"visits\"}"] > 2.0 * 4096.0);
    assert!(after["flowstone_uptime_seconds"] > before["flowstone_uptime_seconds"]);
    assert!(!after.contains_key("flowstone_scrub_last_round_timestamp_seconds"));
    server.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "it has ended");
}

#[tokio::test]
async fn the_scrub_and_what_it_finds_are_counted() {
    let dir = std::sync::Arc::new(tempfile::tempdir().expect("a directory"));
    let server = TestServer::start_in(dir, Env::real(), |config| {
        config.metrics_listen = Some("127.0.0.1:0".parse().expect("an address"));
        config.scrub_interval_ms = 1_000;
    })
    .await;
    let address = server.metrics_addr.expect("it was asked for");
    let give_up_at = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let rounds = loop {
        let samples = scrape(address).await;
        let rounds = samples["flowstone_scrub_rounds_total"];
        if rounds > 0.0 {
            assert!(samples["flowstone_scrub_last_round_timestamp_seconds"] > 1.6e9);
            assert_eq!(samples["flowstone_scrub_corrupt_segments_total"], 0.0);
            break rounds;
        }
        assert!(
            std::time::Instant::now() < give_up_at,
            "nothing was scrubbed"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(rounds >= 1.0);
    server.stop().await;
}

#[tokio::test]
async fn only_metrics_are_there_and_only_to_be_read() {
    let (server, address) = start().await;
    for (request, status) in [
        (get("/"), "404"),
        (get("/metrics/x"), "404"),
        (get("/metrics?x=1"), "200"),
        (get("/metrics").replacen("GET", "HEAD", 1), "200"),
        (get("/metrics").replacen("GET", "POST", 1), "405"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (get(&format!("/metrics?{}", "x".repeat(100_000))), "4"),
    ] {
        let answer = ask(address, &request).await;
        let expected = format!("HTTP/1.1 {status}");
        let shown = &answer[..answer.len().min(80)];
        assert!(answer.starts_with(&expected), "{shown:?} is not {status}");
    }
    scrape(address).await;
    server.stop().await;
}

#[tokio::test]
async fn connections_are_bounded_and_idle_ones_do_not_hold_up_a_stop() {
    let (server, address) = start().await;
    let mut idle = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // Answered, so that it is known to be counted; and kept open.
        let request = "GET /no HTTP/1.1\r\nhost: broker\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("open");
        assert!(stream.read(&mut [0; 1024]).await.expect("answered") > 0);
        idle.push(stream);
    }
    assert_eq!(ask(address, &get("/metrics")).await, "", "closed at once");
    server.stop().await;
    drop(idle);
}

#[tokio::test]
async fn a_taken_port_for_metrics_is_named_with_its_flag() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut config = config_in(dir.path());
    config.metrics_listen = Some(taken.local_addr().expect("an address"));
    let data_dir = config.data_dir.clone();
    let message = match Server::start(config, Env::real()).await {
        Ok(_) => panic!("it must not start"),
        Err(error) => error.to_string(),
    };
    assert!(message.contains("--metrics-listen"), "{message}");
    assert!(message.contains("server.metrics_listen"), "{message}");
    assert!(!data_dir.exists());
}
