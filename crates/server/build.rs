//! Generates the server side of LogService over the message types of `wire.rs`, so that records are never
//! decoded. The other services are those of `flowstone-proto`.

use tonic_build::manual::{Builder, Method, MethodBuilder, Service};

/// A call with messages as `flowstone-proto` has them, unless a type of `wire.rs` is named.
fn method(name: &str, route: &str, input: &str, output: &str) -> MethodBuilder {
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type(input)
        .output_type(output)
        .codec_path("crate::codec::WireCodec")
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let plain = |name: &str, route: &str| {
        method(
            name,
            route,
            &format!("flowstone_proto::v1::{route}Request"),
            &format!("flowstone_proto::v1::{route}Response"),
        )
        .build()
    };
    let log_service = Service::builder()
        .name("LogService")
        .package("flowstone.v1")
        .comment("Append and read, with records as bytes.")
        .method(
            method(
                "produce",
                "Produce",
                "crate::wire::ProduceRequest",
                "flowstone_proto::v1::ProduceResponse",
            )
            .build(),
        )
        .method(
            method(
                "produce_stream",
                "ProduceStream",
                "crate::wire::ReceivedInStream",
                "flowstone_proto::v1::ProduceStreamResponse",
            )
            .client_streaming()
            .server_streaming()
            .build(),
        )
        .method(
            method(
                "fetch",
                "Fetch",
                "flowstone_proto::v1::FetchRequest",
                "crate::wire::FetchResponse",
            )
            .build(),
        )
        .method(
            method(
                "subscribe",
                "Subscribe",
                "flowstone_proto::v1::SubscribeRequest",
                "crate::wire::SubscribeResponse",
            )
            .server_streaming()
            .build(),
        )
        .method(plain("open_producer", "OpenProducer"))
        .method(plain("commit_offsets", "CommitOffsets"))
        .method(plain("list_offsets", "ListOffsets"))
        .build();
    Builder::new().build_client(false).compile(&[log_service]);
}
