//! TopicService: topics, how they are set up, and how they stand.

use std::collections::BTreeMap;

use flowstone_broker::{Error, Overflow, PartitionInfo, TopicChange, TopicInfo, TopicSpec};
use flowstone_proto::v1;
use tonic::{Request, Response, Status};
use v1::topic_service_server::TopicService;

use super::{Services, told};
use crate::fields::{self, count, duration, duration_ms, invalid, number, positive, timestamp};
use crate::page::Page;

#[cfg(test)]
mod tests;

#[tonic::async_trait]
impl TopicService for Services {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        let request = request.into_inner();
        let spec = given(request.topic).and_then(spec).map_err(told)?;
        let info = self
            .broker
            .create_topic(spec, request.validate_only)
            .await
            .map_err(told)?;
        Ok(Response::new(v1::CreateTopicResponse {
            topic: Some(topic(info)),
        }))
    }

    async fn get_topic(
        &self,
        request: Request<v1::GetTopicRequest>,
    ) -> Result<Response<v1::GetTopicResponse>, Status> {
        let name = request.into_inner().topic;
        let (info, partitions) = self.broker.describe_topic(&name).map_err(told)?;
        Ok(Response::new(v1::GetTopicResponse {
            topic: Some(topic(info)),
            partitions: partitions.into_iter().map(partition).collect(),
        }))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let request = request.into_inner();
        let listed = format!("ListTopics {}", request.prefix);
        let page = Page::new(listed, request.page_size, &request.page_token).map_err(told)?;
        let mut found =
            self.broker
                .list_topics(&request.prefix, page.after.as_deref(), page.limit());
        let next_page_token = page.cut(&mut found, |info| &info.spec.name);
        Ok(Response::new(v1::ListTopicsResponse {
            topics: found.into_iter().map(topic).collect(),
            next_page_token,
        }))
    }

    async fn update_topic(
        &self,
        request: Request<v1::UpdateTopicRequest>,
    ) -> Result<Response<v1::UpdateTopicResponse>, Status> {
        let request = request.into_inner();
        let topic_wanted = given(request.topic).map_err(told)?;
        let name = topic_wanted.name.clone();
        let paths = request.update_mask.unwrap_or_default().paths;
        let change = change(topic_wanted, &paths).map_err(told)?;
        let info = self
            .broker
            .update_topic(&name, change)
            .await
            .map_err(told)?;
        Ok(Response::new(v1::UpdateTopicResponse {
            topic: Some(topic(info)),
        }))
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let name = request.into_inner().topic;
        self.broker.delete_topic(&name).await.map_err(told)?;
        Ok(Response::new(v1::DeleteTopicResponse {}))
    }

    async fn trim_partition(
        &self,
        request: Request<v1::TrimPartitionRequest>,
    ) -> Result<Response<v1::TrimPartitionResponse>, Status> {
        let request = request.into_inner();
        let partition = count("partition", request.partition).map_err(told)?;
        let before = count("before_offset", request.before_offset).map_err(told)?;
        let log_start_offset = self
            .broker
            .trim_partition(&request.topic, partition, before)
            .await
            .map_err(told)?;
        Ok(Response::new(v1::TrimPartitionResponse {
            log_start_offset: number(log_start_offset),
        }))
    }
}

fn given(topic: Option<v1::Topic>) -> Result<v1::Topic, Error> {
    topic.ok_or_else(|| invalid("topic", "it is missing"))
}

/// How a new topic is set up. Output fields are ignored, as <https://google.aip.dev/203> has it.
fn spec(topic: v1::Topic) -> Result<TopicSpec, Error> {
    Ok(TopicSpec {
        partition_count: count("topic.partition_count", topic.partition_count)?,
        retention_ms: retention_ms(&topic)?,
        retention_bytes: retention_bytes(&topic)?,
        segment_bytes: segment_bytes(&topic)?,
        max_record_bytes: max_record_bytes(&topic)?,
        default_acks: fields::acks("topic.default_acks", topic.default_acks)?,
        overflow: overflow(topic.overflow)?,
        labels: topic.labels.into_iter().collect(),
        name: topic.name,
    })
}

/// What to change: the fields of the mask, those that are set where there is no mask, or all for `*`
/// (<https://google.aip.dev/134>).
fn change(topic: v1::Topic, paths: &[String]) -> Result<TopicChange, Error> {
    let mut change = TopicChange::default();
    if paths.is_empty() {
        for (path, is_set) in [
            ("partition_count", topic.partition_count != 0),
            ("retention", topic.retention.is_some()),
            ("retention_bytes", topic.retention_bytes.is_some()),
            ("segment_bytes", topic.segment_bytes.is_some()),
            ("max_record_bytes", topic.max_record_bytes.is_some()),
            ("default_acks", topic.default_acks != 0),
            ("overflow", topic.overflow != 0),
            ("labels", !topic.labels.is_empty()),
        ] {
            if is_set {
                put(&mut change, &topic, path)?;
            }
        }
    }
    for path in paths {
        if path == "*" {
            for path in CHANGEABLE {
                // A count of 0 is none, and a topic always has partitions.
                if path != "partition_count" || topic.partition_count != 0 {
                    put(&mut change, &topic, path)?;
                }
            }
        } else {
            put(&mut change, &topic, path)?;
        }
    }
    Ok(change)
}

const CHANGEABLE: [&str; 8] = [
    "partition_count",
    "retention",
    "retention_bytes",
    "segment_bytes",
    "max_record_bytes",
    "default_acks",
    "overflow",
    "labels",
];

fn put(change: &mut TopicChange, topic: &v1::Topic, path: &str) -> Result<(), Error> {
    match path {
        "partition_count" => {
            change.partition_count = Some(positive(
                "topic.partition_count",
                topic.partition_count,
                "of the mask to keep it",
            )?);
        }
        "retention" => change.retention_ms = Some(retention_ms(topic)?),
        "retention_bytes" => change.retention_bytes = Some(retention_bytes(topic)?),
        "segment_bytes" => change.segment_bytes = Some(segment_bytes(topic)?),
        "max_record_bytes" => change.max_record_bytes = Some(max_record_bytes(topic)?),
        "default_acks" => {
            change.default_acks = Some(fields::acks("topic.default_acks", topic.default_acks)?);
        }
        "overflow" => change.overflow = Some(overflow(topic.overflow)?),
        "labels" => {
            change.labels = Some(topic.labels.clone().into_iter().collect::<BTreeMap<_, _>>());
        }
        "name" | "create_time" | "id" => {
            return Err(invalid("update_mask", format!("{path} cannot be changed")));
        }
        unknown => {
            let known = CHANGEABLE.join(", ");
            return Err(invalid(
                "update_mask",
                format!(
                    "{unknown:?} is no field that can be changed: there are {known}, and * for all"
                ),
            ));
        }
    }
    Ok(())
}

fn retention_ms(topic: &v1::Topic) -> Result<Option<i64>, Error> {
    let Some(retention) = &topic.retention else {
        return Ok(None);
    };
    match i64::try_from(duration_ms("topic.retention", retention)?) {
        Ok(0) => Err(invalid(
            "topic.retention",
            "it is 0; leave it out to keep records for ever",
        )),
        Ok(ms) => Ok(Some(ms)),
        Err(_) => Err(invalid("topic.retention", "the duration is too long")),
    }
}

fn retention_bytes(topic: &v1::Topic) -> Result<Option<u64>, Error> {
    let read = |bytes| positive("topic.retention_bytes", bytes, "for no limit");
    topic.retention_bytes.map(read).transpose()
}

fn segment_bytes(topic: &v1::Topic) -> Result<Option<u64>, Error> {
    let read = |bytes| positive("topic.segment_bytes", bytes, "for the broker's default");
    topic.segment_bytes.map(read).transpose()
}

fn max_record_bytes(topic: &v1::Topic) -> Result<Option<u32>, Error> {
    let read = |bytes| positive("topic.max_record_bytes", bytes, "for the broker's default");
    topic.max_record_bytes.map(read).transpose()
}

fn overflow(overflow: i32) -> Result<Overflow, Error> {
    match v1::Overflow::try_from(overflow) {
        Ok(v1::Overflow::Unspecified | v1::Overflow::Trim) => Ok(Overflow::Trim),
        Ok(v1::Overflow::Reject) => Ok(Overflow::Reject),
        Err(_) => Err(invalid(
            "topic.overflow",
            format!("{overflow} is none of OVERFLOW_TRIM and OVERFLOW_REJECT"),
        )),
    }
}

fn topic(info: TopicInfo) -> v1::Topic {
    let TopicInfo {
        spec,
        id,
        created_ms,
    } = info;
    v1::Topic {
        partition_count: number(spec.partition_count),
        retention: spec
            .retention_ms
            .map(|ms| duration(ms.try_into().expect("retention is not negative"))),
        retention_bytes: spec.retention_bytes.map(number),
        segment_bytes: spec.segment_bytes.map(number),
        max_record_bytes: spec.max_record_bytes.map(number),
        default_acks: fields::acks_number(spec.default_acks),
        overflow: match spec.overflow {
            Overflow::Trim => v1::Overflow::Unspecified.into(),
            Overflow::Reject => v1::Overflow::Reject.into(),
        },
        labels: spec.labels.into_iter().collect(),
        create_time: Some(timestamp(created_ms)),
        id: id.to_string(),
        name: spec.name,
    }
}

fn partition(info: PartitionInfo) -> v1::PartitionInfo {
    v1::PartitionInfo {
        partition: number(info.partition),
        log_start_offset: number(info.log_start_offset),
        high_watermark: number(info.high_watermark),
        size_bytes: number(info.size_bytes),
        segment_count: number(info.segment_count),
        offline: info.offline_reason.is_some(),
        offline_reason: info.offline_reason.unwrap_or_default(),
    }
}
