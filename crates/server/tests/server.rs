//! The server as its clients see it: every call and every refusal, over a real connection.

#[path = "../../../fuzz/src/wire.rs"]
mod fuzz_wire;

#[path = "server/any_bytes.rs"]
mod any_bytes;
#[path = "server/cluster.rs"]
mod cluster;
#[path = "server/connections.rs"]
mod connections;
#[path = "server/fetch.rs"]
mod fetch;
#[path = "server/gated_disk.rs"]
mod gated_disk;
#[path = "server/groups.rs"]
mod groups;
#[path = "server/harness.rs"]
mod harness;
#[path = "server/metrics.rs"]
mod metrics;
#[path = "server/produce.rs"]
mod produce;
#[path = "server/produce_stream.rs"]
mod produce_stream;
#[path = "server/producers.rs"]
mod producers;
#[path = "server/refusals.rs"]
mod refusals;
#[path = "server/start.rs"]
mod start;
#[path = "server/stop.rs"]
mod stop;
#[path = "server/subscribe.rs"]
mod subscribe;
#[path = "server/topics.rs"]
mod topics;
