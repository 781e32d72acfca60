//! A service with plain gRPC stubs and nothing else: a Python program whose message classes come from
//! what reflection serves.

use std::process::Command;
use std::time::Duration;

use flowstone_tests::{Broker, Process};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_plain_python_stub_produces_and_consumes() {
    let Some(python) = std::env::var_os("FLOWSTONE_PYTHON") else {
        println!(
            "skipped: FLOWSTONE_PYTHON names no interpreter with grpcio, grpcio-reflection and protobuf"
        );
        return;
    };
    let broker = Broker::start();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/python/plain_stub.py");
    let mut command = Command::new(python);
    command.arg(program).arg(broker.address());
    let mut process = Process::spawn("plain_stub.py", &mut command, None);
    let status = process.wait(LIMIT);
    assert!(status.success(), "{status}\n{}", process.printed());
    print!("{}", process.stdout().text());
}
