//! The gRPC services, and what they share.

mod cluster;
mod group;
mod log;
mod produce;
mod produce_stream;
mod subscribe;
mod topic;

use std::sync::Arc;

use flowstone_broker::{Broker, Error};
use flowstone_proto::v1::cluster_service_server::ClusterServiceServer;
use flowstone_proto::v1::group_service_server::GroupServiceServer;
use flowstone_proto::v1::topic_service_server::TopicServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;

use crate::config::ServerConfig;
use crate::metrics::Outcomes;
use crate::status;
use log::LogService;

/// The names of our services, as health and reflection tell them.
pub(crate) const SERVICE_NAMES: [&str; 4] = [
    "flowstone.v1.LogService",
    "flowstone.v1.TopicService",
    "flowstone.v1.ClusterService",
    "flowstone.v1.GroupService",
];

/// What every service works on. Clones are cheap.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) broker: Broker,
    pub(crate) config: Arc<ServerConfig>,
    /// Where clients reach this broker.
    pub(crate) endpoint: String,
    /// How produce requests end.
    pub(crate) outcomes: Arc<Outcomes>,
    /// Cancelled when the server stops: streams end.
    pub(crate) stopping: CancellationToken,
}

impl Services {
    /// All services of ours, to be mounted.
    pub(crate) fn routes(&self) -> Routes {
        let max_message_bytes = self.max_message_bytes();
        Routes::new(
            TopicServiceServer::new(self.clone()).max_decoding_message_size(max_message_bytes),
        )
        .add_service(LogService::new(self.clone(), max_message_bytes))
        .add_service(
            ClusterServiceServer::new(self.clone()).max_decoding_message_size(max_message_bytes),
        )
        .add_service(
            GroupServiceServer::new(self.clone()).max_decoding_message_size(max_message_bytes),
        )
    }

    /// Where tonic stops reading a message. Well above what a request may have, so that a request that is
    /// too large is nearly always refused with how large it was.
    fn max_message_bytes(&self) -> usize {
        2 * self.config.limits.max_request_bytes as usize + (64 << 10)
    }
}

/// The status of an error of the broker.
fn told(error: Error) -> Status {
    status::of(&error)
}
