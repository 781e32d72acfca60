//! What connections are offered, and how many there may be.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{TestServer, to};

/// HTTP/2's numbers for what is looked at: <https://www.rfc-editor.org/rfc/rfc9113#section-6.5.2>.
const SETTINGS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

/// A connection, the window for one call and the largest frame that the server tells it.
async fn offered(server: &TestServer) -> (TcpStream, u32, u32) {
    let mut stream = TcpStream::connect(server.local_addr)
        .await
        .expect("it accepts");
    let empty_settings = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &empty_settings[..]].concat();
    stream.write_all(&hello).await.expect("it reads");
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("its settings");
    assert_eq!(head[3], SETTINGS);
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).await.expect("all of them");
    let value = |wanted: u16| {
        let mut found = settings.chunks(6).filter_map(|setting| {
            let (id, value) = setting.split_at(2);
            (id == wanted.to_be_bytes()).then(|| u32::from_be_bytes(value.try_into().expect("4")))
        });
        found.next().expect("it is told")
    };
    let (window, frame) = (value(INITIAL_WINDOW_SIZE), value(MAX_FRAME_SIZE));
    (stream, window, frame)
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_the_others_go_on() {
    let server = TestServer::start_with(|config| config.max_connections = 1).await;
    let mut second = TcpStream::connect(server.local_addr)
        .await
        .expect("the system accepts it");
    let read = second.read(&mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "closed: {read:?}");
    server.create_topic("visits", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn many_connections_get_less_each_and_all_again_when_the_others_are_closed() {
    let server = TestServer::start_with(|config| config.http2.total_window_bytes = 8 << 20).await;
    let (first, window, frame) = offered(&server).await;
    assert!((200 << 10..=256 << 10).contains(&window), "{window}");
    assert_eq!(frame, window, "no frame is larger than the window");
    let mut open = vec![first];
    for _ in 0..200 {
        open.push(offered(&server).await.0);
    }
    let (last, window, frame) = offered(&server).await;
    assert_eq!((window, frame), (64 << 10, 64 << 10));
    drop((open, last));
    // When the server has seen them closed is told by nothing else.
    let again = async { while offered(&server).await.1 < 200 << 10 {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), again)
        .await
        .expect("what they had is given back");
    server.stop().await;
}

#[tokio::test]
async fn a_message_of_many_windows_comes_through_the_least() {
    let server = TestServer::start_with(|config| config.http2.total_window_bytes = 64 << 10).await;
    server.create_topic("visits", 1).await;
    let value = "v".repeat(900 << 10);
    let produced = server
        .log()
        .produce(to("visits", &[&value, &value]))
        .await
        .expect("it is taken")
        .into_inner();
    assert_eq!(produced.runs[0].record_count, 2);
    server.stop().await;
}
