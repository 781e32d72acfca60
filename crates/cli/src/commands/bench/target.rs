//! The topic that is measured: one that exists, or one that is made for it and deleted in the end.

use anyhow::{Context, Result};
use flowstone_client::{Acks, Client, Topic};

/// A topic and what its acks mean.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) topic: String,
    pub(super) partitions: i32,
    /// What a produce call without acks of its own gets.
    default_acks: Acks,
    temporary: bool,
}

impl Target {
    /// The topic of this name, or a new one.
    pub(super) async fn find_or_make(
        client: &Client,
        topic: Option<&str>,
        partitions: i32,
    ) -> Result<Self> {
        let temporary = topic.is_none();
        let topic = match topic {
            Some(name) => client.get_topic(name).await?.0,
            None => {
                let topic = Topic {
                    name: format!("bench-{}", std::process::id()),
                    partition_count: partitions,
                    ..Topic::default()
                };
                let made = client.create_topic(topic, false).await;
                made.context("cannot make a topic for the measurement")?
            }
        };
        Ok(Self {
            partitions: topic.partition_count,
            default_acks: topic.default_acks(),
            topic: topic.name,
            temporary,
        })
    }

    /// What an ack means, for requests that ask for these.
    pub(super) fn durability(&self, asked: Acks) -> &'static str {
        let acks = match asked {
            Acks::Unspecified => self.default_acks,
            asked => asked,
        };
        match acks {
            Acks::Unspecified | Acks::Durable => "durable (acked after fdatasync)",
            Acks::Written => "written (acked from the page cache)",
        }
    }

    /// Deletes it if it was made for the measurement, whose outcome is what counts.
    pub(super) async fn finish<T>(self, client: &Client, outcome: Result<T>) -> Result<T> {
        if self.temporary {
            let deleted = client.delete_topic(&self.topic).await;
            if let Err(error) = deleted {
                eprintln!("topic {} is still there: {error}", self.topic);
            }
        }
        outcome
    }
}
