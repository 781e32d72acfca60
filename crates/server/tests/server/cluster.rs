//! ClusterService, health and reflection: what a client asks before anything else.

use flowstone_proto::v1;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1 as reflection, v1alpha as reflection_alpha};

use crate::harness::TestServer;

const SERVICES: [&str; 4] = [
    "flowstone.v1.LogService",
    "flowstone.v1.TopicService",
    "flowstone.v1.ClusterService",
    "flowstone.v1.GroupService",
];

#[tokio::test]
async fn the_cluster_tells_who_serves_and_every_limit() {
    let server = TestServer::start_with(|config| {
        config.limits.max_record_bytes = 12_345;
        config.heartbeat_interval_ms = 1_500;
    })
    .await;
    let ask = async || {
        let request = v1::GetClusterRequest {};
        let told = server.cluster().get_cluster(request).await.expect("told");
        told.into_inner()
    };
    let told = ask().await;
    assert_eq!(told.cluster_id, server.cluster_id);
    assert_eq!(told.version, env!("CARGO_PKG_VERSION"));
    assert!(told.features.is_empty());
    assert_eq!(told.brokers.len(), 1);
    assert_eq!(told.brokers[0].endpoint, server.local_addr.to_string());
    let limits = told.limits.expect("told");
    assert_eq!(limits.max_record_bytes, 12_345);
    assert_eq!(limits.max_request_bytes, 3 << 20);
    assert_eq!(limits.max_records_per_request, 65_536);
    assert!(limits.max_response_bytes < 4 << 20);
    let heartbeat = limits.heartbeat_interval.expect("told");
    assert_eq!((heartbeat.seconds, heartbeat.nanos), (1, 500_000_000));
    assert_eq!(limits.connection_timeout.expect("told").seconds, 20);

    let cluster_id = server.cluster_id.clone();
    let dir = server.stop().await;
    let server = TestServer::start_in(dir, flowstone_disk::Env::real(), |config| {
        config.advertised_endpoint = Some("broker.example.net:7420".to_owned());
    })
    .await;
    let request = v1::GetClusterRequest {};
    let told = server
        .cluster()
        .get_cluster(request)
        .await
        .expect("told")
        .into_inner();
    assert_eq!(told.cluster_id, cluster_id, "it stays over a restart");
    assert_eq!(told.brokers[0].endpoint, "broker.example.net:7420");
    server.stop().await;
}

#[tokio::test]
async fn health_is_told_as_a_whole_and_for_each_service() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel.clone());
    for service in SERVICES.into_iter().chain([""]) {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let told = health.check(request).await.expect("known").into_inner();
        assert_eq!(told.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest {
        service: "flowstone.v1.Nothing".to_owned(),
    };
    let status = health.check(unknown).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);

    let request = HealthCheckRequest {
        service: SERVICES[0].to_owned(),
    };
    let mut watch = health.watch(request).await.expect("known").into_inner();
    let now = watch.message().await.expect("told").expect("told");
    assert_eq!(now.status(), ServingStatus::Serving);
    let (_, served) = server.begin_stop();
    let then = watch.message().await.expect("told").expect("told");
    assert_eq!(then.status(), ServingStatus::NotServing);
    served
        .await
        .expect("no panic")
        .expect("a watch does not keep it");
}

#[tokio::test]
async fn reflection_lists_the_services_and_hands_out_their_files() {
    use reflection::server_reflection_request::MessageRequest;
    use reflection::server_reflection_response::MessageResponse;

    let server = TestServer::start().await;
    let ask = async |message: MessageRequest| {
        let request = reflection::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        reflection::server_reflection_client::ServerReflectionClient::new(server.channel.clone())
            .server_reflection_info(tokio_stream::once(request))
            .await
            .expect("answers")
            .into_inner()
            .message()
            .await
            .expect("answers")
            .expect("answers")
            .message_response
            .expect("answers")
    };
    let MessageResponse::ListServicesResponse(listed) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("asked for services");
    };
    let names: Vec<String> = listed
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
        assert!(
            names.iter().any(|name| name == service),
            "{service} of {names:?}"
        );
    }
    for file in [
        "flowstone/v1/log.proto",
        "flowstone/v1/record.proto",
        "google/protobuf/timestamp.proto",
        "google/protobuf/duration.proto",
        "google/protobuf/field_mask.proto",
    ] {
        let answer = ask(MessageRequest::FileByFilename(file.to_owned())).await;
        assert!(
            matches!(answer, MessageResponse::FileDescriptorResponse(_)),
            "{file}"
        );
    }

    let request = reflection_alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            reflection_alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut client = reflection_alpha::server_reflection_client::ServerReflectionClient::new(
        server.channel.clone(),
    );
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("answers")
        .into_inner();
    let answer = answers.message().await.expect("answers").expect("answers");
    let listed = format!("{answer:?}");
    assert!(listed.contains("flowstone.v1.LogService"), "{listed}");
    server.stop().await;
}
