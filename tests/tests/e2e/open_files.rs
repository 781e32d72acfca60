//! A broker that has as many files open as it may: typed errors, and everything works again without a
//! restart once there are more.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::start_position::{Anchor, Position};
use flowstone_tests::server::without_settings;
use flowstone_tests::{Broker, Process, Stub, binary};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

const TOPIC: &str = "files";
const CONFIG: &str = "[limits]\nmin_segment_bytes = 65_536\nmax_record_bytes = 16_384\n\
                      max_request_bytes = 32_768\nmax_records_per_request = 64\n\
                      [storage]\ndefault_segment_bytes = 1_048_576\n";
const WAIT: Duration = Duration::from_secs(30);

/// Sets how many files a process may have open, and returns how many that were.
fn limit(pid: u32, files: u64) -> u64 {
    let pid = Pid::from_raw(pid as i32);
    let before = rustix::process::getrlimit(Resource::Nofile);
    let new = Rlimit {
        current: Some(files),
        maximum: before.maximum,
    };
    let before = prlimit(pid, Resource::Nofile, new).expect("it is our own child");
    before.current.unwrap_or(u64::MAX)
}

/// The lowest number that its next open file would get.
fn next_file(pid: u32) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open: BTreeSet<u64> = open
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    (0..).find(|number| !open.contains(number)).unwrap()
}

/// Processor time of a process, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
    fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap()
}

async fn put(stub: &Stub, partition: i32, bytes: usize) -> Result<i64, Status> {
    let record = proto::Record {
        value: Some(vec![b'x'; bytes].into()),
        ..proto::Record::default()
    };
    let request = proto::ProduceRequest {
        records: vec![record],
        topic: TOPIC.to_owned(),
        partition: Some(partition),
        ..proto::ProduceRequest::default()
    };
    let response = stub.log.clone().produce(request).await?.into_inner();
    Ok(response.runs[0].base_offset)
}

#[track_caller]
fn assert_out_of_files<T: std::fmt::Debug>(result: Result<T, Status>) {
    let status = result.expect_err("it needs one more open file");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let told = |key| {
        status
            .metadata()
            .get(key)
            .and_then(|value| value.to_str().ok())
    };
    assert_eq!(told("flowstone-reason"), Some("LIMIT_EXCEEDED"));
    assert_eq!(told("flowstone-limit"), Some("open_files"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_one_more_open_file_is_refused_until_there_is_one() {
    let mut broker = Broker::with_config(CONFIG);
    let create = ["topic", "create", TOPIC, "-p", "3", "--segment-bytes"];
    broker.flowstone(create.iter().chain(&["65536"])).run().ok();
    let before = Stub::connect(&broker.url()).await.unwrap();
    for offset in 0..20 {
        assert_eq!(put(&before, 0, 8_000).await.unwrap(), offset);
    }
    // Nothing is mapped yet after a restart.
    broker.terminate();
    broker.restart();
    let stub = Stub::connect(&broker.url()).await.unwrap();
    assert_eq!(put(&stub, 2, 10).await.unwrap(), 0);
    let pid = broker.process().pid();
    let most = limit(pid, next_file(pid));

    let earliest = Position::Anchor(Anchor::Earliest.into());
    assert_out_of_files(stub.fetch(TOPIC, 0, earliest, 0).await);
    assert_out_of_files(put(&stub, 1, 10).await);
    assert_eq!(put(&stub, 2, 10).await.unwrap(), 1, "its file is open");
    let mut taken = 20;
    let rolled = loop {
        match put(&stub, 0, 8_000).await {
            Ok(offset) => taken = offset + 1,
            Err(status) => break Err::<(), _>(status),
        }
        assert!(taken < 40, "the segment never rolls");
    };
    assert_out_of_files(rolled);
    let topic = proto::Topic {
        name: "more".to_owned(),
        partition_count: 1,
        ..proto::Topic::default()
    };
    let request = proto::CreateTopicRequest {
        topic: Some(topic),
        validate_only: false,
    };
    assert_out_of_files(stub.topics.clone().create_topic(request.clone()).await);

    // Somebody knocks; the broker neither spins nor writes its log full.
    let (url, logged) = (broker.url(), broker.log().len());
    let knocks = tokio::spawn(async move { Stub::connect(&url).await });
    let used = ticks(pid);
    sleep(Duration::from_secs(1)).await;
    let used = ticks(pid) - used;
    assert!(used < 50, "{used} of 100 ticks are used up by waiting");
    let log = broker.log();
    assert!(log.len() - logged < 2_000, "{log}");

    limit(pid, most);
    let later = timeout(WAIT, knocks).await.unwrap().unwrap().unwrap();
    assert_eq!(put(&later, 0, 8_000).await.unwrap(), taken);
    assert_eq!(put(&later, 1, 10).await.unwrap(), 0);
    let read = later.read_partition(TOPIC, 0).await.unwrap();
    assert_eq!(read.records.len() as i64, taken + 1);
    stub.topics.clone().create_topic(request).await.unwrap();
    broker.kill9();
    broker.restart();
    let again = Stub::connect(&broker.url()).await.unwrap();
    let read = again.read_partition(TOPIC, 0).await.unwrap();
    assert_eq!(read.records.len() as i64, taken + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_leave_files_for_the_data() {
    let mut broker = Broker::with_config(CONFIG);
    let create = ["topic", "create", TOPIC, "-p", "3"];
    broker.flowstone(create).run().ok();
    let stub = Stub::connect(&broker.url()).await.unwrap();
    let pid = broker.process().pid();
    let most = limit(pid, 2 * next_file(pid));
    let mut held = Vec::new();
    for _ in 0..4 * next_file(pid) {
        held.push(
            tokio::net::TcpStream::connect(broker.address())
                .await
                .unwrap(),
        );
    }
    for partition in 0..3 {
        assert_eq!(put(&stub, partition, 10).await.unwrap(), 0);
    }
    drop(held);
    limit(pid, most);
    let later = Stub::connect(&broker.url()).await.unwrap();
    assert_eq!(put(&later, 0, 10).await.unwrap(), 1);
}

#[test]
fn a_start_with_too_few_open_files_says_what_to_raise() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut told = 0;
    for files in (4..=60).step_by(4) {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n $0; exec \"$@\"", &files.to_string()]);
        command
            .arg(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        without_settings(command.arg(&data));
        let mut process = Process::spawn("flowstone serve", &mut command, None);
        let ready = process.stderr().wait_for(WAIT, |bytes| {
            String::from_utf8_lossy(bytes)
                .contains("flowstone is ready on")
                .then_some(())
        });
        if ready.is_some() {
            process.terminate();
            assert!(process.wait(WAIT).success());
            break;
        }
        let status = process.wait(WAIT);
        let printed = process.stderr().text();
        assert!(!status.success(), "with {files}: {printed}");
        assert!(!printed.contains("panicked"), "with {files}: {printed}");
        assert!(printed.contains("LimitNOFILE"), "with {files}: {printed}");
        told += 1;
    }
    assert!(told > 0, "so few files are enough");
}
