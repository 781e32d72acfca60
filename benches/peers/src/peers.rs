//! Everything that is measured, one file each.

mod disk;
mod flowstone;
mod flowstone_client;
mod flowstone_opaque;
mod iggy;
mod kafka;
mod nats;
mod opaque_session;
mod rabbitmq;
mod raw;
mod redis;

use crate::options::Options;
use crate::peer::Peer;

/// All of them, in the order of the result.
pub(crate) fn all(options: &Options) -> Vec<Box<dyn Peer>> {
    let flowstone = options.flowstone_binary();
    let installed = options.installed_dir();
    vec![
        Box::new(raw::Raw::of_nothing()),
        Box::new(raw::Raw::kept()),
        Box::new(flowstone_opaque::FlowstoneOpaque::new(flowstone.clone())),
        Box::new(flowstone_client::FlowstoneClient::new(flowstone)),
        Box::new(kafka::Kafka::new(installed.clone())),
        Box::new(nats::Nats::publishing_async(installed.clone())),
        Box::new(nats::Nats::publishing_fast(installed.clone())),
        Box::new(redis::Redis::new(installed.clone())),
        Box::new(rabbitmq::RabbitMq::by_protocol()),
        Box::new(rabbitmq::RabbitMq::by_rust_client()),
        Box::new(iggy::Iggy::new(options.iggy_server.clone(), installed)),
        Box::new(disk::Disk::large()),
        Box::new(disk::Disk::small()),
    ]
}
