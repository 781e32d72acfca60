//! How records are printed: `-f` and `-J`.

use flowstone_proto::v1 as proto;
use flowstone_tests::{Broker, Stub};

/// Three records: text, bytes that are no text, and a tombstone with nothing.
async fn visits() -> Broker {
    let broker = Broker::start();
    broker
        .flowstone(["topic", "create", "visits", "-p", "3"])
        .run()
        .ok();
    let mut stub = Stub::connect(&broker.url()).await.unwrap();
    let header = |key: &str, value: &'static [u8]| proto::Header {
        key: key.to_owned(),
        value: value.into(),
    };
    let records = vec![
        proto::Record {
            key: Some("stand-7".into()),
            value: Some("two \"lemonades\"".into()),
            headers: vec![header("till", b"2"), header("till", b"3")],
            timestamp_ms: 1_431_857_103_000,
            ..proto::Record::default()
        },
        proto::Record {
            key: Some((&[0xff][..]).into()),
            value: Some((&[0x00, 0xfe][..]).into()),
            headers: vec![header("raw", &[0xff, 0xff])],
            timestamp_ms: 1_431_857_103_001,
            ..proto::Record::default()
        },
        proto::Record {
            timestamp_ms: 1_431_857_103_002,
            ..proto::Record::default()
        },
    ];
    let request = proto::ProduceRequest {
        topic: "visits".to_owned(),
        partition: Some(2),
        records,
        ..proto::ProduceRequest::default()
    };
    stub.log.produce(request).await.unwrap();
    broker
}

fn print(broker: &Broker, flags: &[&str]) -> Vec<u8> {
    let args = ["consume", "visits", "-e"].iter().chain(flags);
    broker.flowstone(args).run().ok().stdout
}

#[tokio::test]
async fn a_template_has_kcats_letters() {
    let broker = visits().await;
    let all = print(
        &broker,
        &["-f", "%t|%p|%o|%k|%K|%s|%S|%T|%h|%%|\\t|\\x41\\n"],
    );
    let mut expected = Vec::new();
    expected.extend_from_slice(
        b"visits|2|0|stand-7|7|two \"lemonades\"|15|1431857103000|till=2,till=3|%|\t|A\n",
    );
    expected.extend_from_slice(b"visits|2|1|\xff|1|\x00\xfe|2|1431857103001|raw=\xff\xff|%|\t|A\n");
    expected.extend_from_slice(b"visits|2|2||-1||-1|1431857103002||%|\t|A\n");
    assert_eq!(
        String::from_utf8_lossy(&all),
        String::from_utf8_lossy(&expected)
    );
    assert_eq!(all, expected);
    // Without a newline in the template there is none.
    assert_eq!(print(&broker, &["-f", "%o"]), b"012");
    assert_eq!(print(&broker, &["-o", "0:1"]), b"two \"lemonades\"\n");
}

#[tokio::test]
async fn json_is_an_object_a_line() {
    let broker = visits().await;
    let printed = print(&broker, &["-J"]);
    let objects: Vec<serde_json::Value> = printed
        .split_inclusive(|&byte| byte == b'\n')
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let expected = serde_json::json!([
        {
            "topic": "visits", "partition": 2, "offset": 0, "ts": 1_431_857_103_000_i64,
            "headers": ["till", "2", "till", "3"], "key": "stand-7", "payload": "two \"lemonades\""
        },
        {
            "topic": "visits", "partition": 2, "offset": 1, "ts": 1_431_857_103_001_i64,
            "headers": ["raw", {"base64": "//8="}], "key_base64": "/w==", "payload_base64": "AP4="
        },
        {
            "topic": "visits", "partition": 2, "offset": 2, "ts": 1_431_857_103_002_i64,
            "key": null, "payload": null
        },
    ]);
    assert_eq!(serde_json::Value::from(objects), expected);
}
