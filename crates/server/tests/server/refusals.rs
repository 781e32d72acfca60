//! What the transport refuses before any service sees it is told with a reason too.

use flowstone_proto::v1;
use flowstone_proto::v1::queue_service_client::QueueServiceClient;
use tonic::Code;

use crate::harness::{TestServer, assert_refused};

#[tokio::test]
async fn what_is_not_there_is_unimplemented_with_a_reason() {
    let server = TestServer::start().await;
    let status = QueueServiceClient::new(server.channel.clone())
        .lease(v1::LeaseRequest::default())
        .await
        .expect_err("not yet");
    assert_refused(&status, Code::Unimplemented, "UNIMPLEMENTED", &[]);
    assert!(status.message().contains("queues"), "{}", status.message());
    let status = QueueServiceClient::new(server.channel.clone())
        .work(tokio_stream::once(v1::WorkRequest::default()))
        .await
        .expect_err("not yet");
    assert_refused(&status, Code::Unimplemented, "UNIMPLEMENTED", &[]);
    for path in [
        "/flowstone.v1.LogService/Consume",
        "/flowstone.v2.LogService/Produce",
        "/x",
    ] {
        let status = server.call_raw(path, "").await.expect_err("no such method");
        assert_refused(&status, Code::Unimplemented, "UNIMPLEMENTED", &[]);
        assert!(status.message().contains(path), "{}", status.message());
    }
    server.stop().await;
}

#[tokio::test]
async fn messages_that_cannot_be_decoded_are_never_internal() {
    let server = TestServer::start().await;
    let bad_utf8 = &b"\x0A\x02\xC3\x28"[..];
    for (path, field) in [
        ("/flowstone.v1.TopicService/GetTopic", "topic"),
        ("/flowstone.v1.TopicService/DeleteTopic", "topic"),
        ("/flowstone.v1.GroupService/GetGroup", "group"),
        ("/flowstone.v1.LogService/Fetch", "topic"),
        ("/flowstone.v1.LogService/Subscribe", "topic"),
    ] {
        let status = server.call_raw(path, bad_utf8).await.expect_err("no text");
        assert_refused(
            &status,
            Code::InvalidArgument,
            "INVALID_FIELD",
            &[("field", field)],
        );
    }
    let nested = &b"\x0A\x04\x0A\x02\xC3\x28"[..];
    let status = server
        .call_raw("/flowstone.v1.TopicService/CreateTopic", nested)
        .await
        .expect_err("no text");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "topic.name")],
    );
    server.stop().await;
}

#[tokio::test]
async fn messages_of_any_size_are_refused_with_the_limit() {
    let server = TestServer::start().await;
    let huge = vec![0x0A; 20 << 20];
    for path in [
        "/flowstone.v1.TopicService/GetTopic",
        "/flowstone.v1.LogService/Produce",
    ] {
        let status = server
            .call_raw(path, huge.clone())
            .await
            .expect_err("far too large");
        assert_refused(
            &status,
            Code::InvalidArgument,
            "INVALID_FIELD",
            &[("field", "records"), ("limit", "3145728")],
        );
    }
    server.stop().await;
}
