//! The raw streams of `benches/peers` have the HTTP/2 settings of Flowstone: what differs would be a difference between
//! settings, not between servers. They are a crate of their own that knows none of these, so the sources are compared.

use crate::workspace_root;

const CLIENT: &str = "crates/client/src/client.rs";
const SERVER: &str = "crates/server/src/config.rs";
const WINDOWS: &str = "crates/server/src/windows.rs";
const RAW_CLIENT: &str = "benches/peers/src/opaque/client.rs";
const RAW_SERVER: &str = "benches/peers/src/opaque/server.rs";

/// The number behind the only place where this stands in a file: digits, perhaps shifted.
fn number(file: &str, before: &str) -> u64 {
    let source = std::fs::read_to_string(workspace_root().join(file)).unwrap();
    let mut places = source.split(before).skip(1);
    let (Some(place), None) = (places.next(), places.next()) else {
        panic!("{file} has not one `{before}`");
    };
    let end = place.find([',', ';']).unwrap();
    let digits = |text: &str| text.trim().replace('_', "").parse::<u64>().unwrap();
    match place[..end].split_once("<<") {
        Some((number, bits)) => digits(number) << digits(bits),
        None => digits(&place[..end]),
    }
}

#[test]
fn the_raw_client_has_the_settings_of_the_client() {
    for name in [
        "STREAM_WINDOW_BYTES",
        "CONNECTION_WINDOW_BYTES",
        "FRAME_BYTES_MAX",
    ] {
        let constant = format!("const {name}: u32 = ");
        let (raw, ours) = (number(RAW_CLIENT, &constant), number(CLIENT, &constant));
        assert_eq!(raw, ours, "{name} of {RAW_CLIENT} and of {CLIENT}");
    }
}

#[test]
fn the_raw_server_has_the_settings_of_the_server() {
    let raw = |name: &str| number(RAW_SERVER, &format!("const {name}: u32 = "));
    // Where it is set, not where it is declared.
    let ours = |name: &str| number(SERVER, &format!("\n            {name}: "));
    let of_first = ours("total_window_bytes") / number(WINDOWS, "const PARTS: u32 = ");
    assert_eq!(raw("CONNECTION_WINDOW_BYTES"), of_first);
    assert_eq!(raw("STREAM_WINDOW_BYTES"), of_first / 2);
    assert_eq!(raw("FRAME_BYTES_MAX"), ours("max_frame_bytes"));
    assert_eq!(raw("STREAMS_MAX"), ours("max_concurrent_streams"));
}
