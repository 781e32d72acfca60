//! ClusterService: who serves, and every limit that a client can run into.

use flowstone_broker::PRODUCER_WINDOW;
use flowstone_proto::v1;
use tonic::{Request, Response, Status};
use v1::cluster_service_server::ClusterService;

use super::Services;
use crate::fields::{duration, number};

#[tonic::async_trait]
impl ClusterService for Services {
    async fn get_cluster(
        &self,
        _: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        let config = &self.config;
        let limits = v1::Limits {
            max_record_bytes: number(config.limits.max_record_bytes),
            max_request_bytes: number(config.limits.max_request_bytes),
            max_records_per_request: number(config.limits.max_records_per_request),
            max_response_bytes: number(config.limits.max_response_bytes),
            heartbeat_interval: Some(duration(config.heartbeat_interval_ms)),
            connection_timeout: Some(duration(
                config.http2.keepalive_interval_ms + config.http2.keepalive_timeout_ms,
            )),
            processing_timeout: Some(duration(config.groups.processing_timeout_ms)),
            revoke_timeout: Some(duration(config.groups.revoke_timeout_ms)),
            member_reconnect_timeout: Some(duration(config.groups.member_reconnect_timeout_ms)),
            producer_window: number(PRODUCER_WINDOW),
            producer_retention: Some(duration(config.producer_retention_ms)),
        };
        Ok(Response::new(v1::GetClusterResponse {
            cluster_id: self.broker.cluster_id().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            brokers: vec![v1::Broker {
                id: 0,
                endpoint: self.endpoint.clone(),
            }],
            limits: Some(limits),
            features: Vec::new(),
        }))
    }
}
