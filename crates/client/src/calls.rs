//! The calls that ask once and get one answer.

use std::collections::BTreeMap;
use std::time::Duration;

use flowstone_proto::v1 as proto;
use prost_types::FieldMask;
use tonic::Code;

use crate::{Client, Error, Result, Start, reason};

const PAGE_SIZE: i32 = 1000;

impl Client {
    /// Who serves, which version, and every limit that a client can run into.
    ///
    /// # Errors
    /// As every call: what the broker or the connection said.
    pub async fn cluster(&self) -> Result<proto::GetClusterResponse> {
        self.call(|client| async move {
            client
                .cluster_service()
                .get_cluster(proto::GetClusterRequest {})
                .await
        })
        .await
    }

    /// Creates a topic; with `validate_only` only says whether it could.
    ///
    /// # Errors
    /// `TOPIC_EXISTS`, `INVALID_FIELD`, `LIMIT_EXCEEDED`, or what the connection said.
    pub async fn create_topic(
        &self,
        topic: proto::Topic,
        validate_only: bool,
    ) -> Result<proto::Topic> {
        let request = proto::CreateTopicRequest {
            topic: Some(topic),
            validate_only,
        };
        let response = self
            .call(|client| {
                let request = request.clone();
                async move { client.topics().create_topic(request).await }
            })
            .await?;
        response
            .topic
            .ok_or_else(|| incomplete("CreateTopic", "topic"))
    }

    /// A topic's settings and the state of its partitions.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, or what the connection said.
    pub async fn get_topic(&self, name: &str) -> Result<(proto::Topic, Vec<proto::PartitionInfo>)> {
        let response = self
            .call(|client| {
                let topic = name.to_owned();
                async move {
                    let request = proto::GetTopicRequest { topic };
                    client.topics().get_topic(request).await
                }
            })
            .await?;
        let topic = response
            .topic
            .ok_or_else(|| incomplete("GetTopic", "topic"))?;
        Ok((topic, response.partitions))
    }

    /// Whether one of these partitions (none named: all) is offline after damage, as the error that
    /// reading on in it would meet. What such a partition tells as its end is where the damage
    /// begins, so that reading to the end looks whole and is not.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, or what the connection said.
    pub async fn find_damage(&self, topic: &str, partitions: &[i32]) -> Result<Option<Error>> {
        let (_, infos) = self.get_topic(topic).await?;
        let damaged = infos.iter().find(|info| {
            info.offline && (partitions.is_empty() || partitions.contains(&info.partition))
        });
        Ok(damaged.map(|info| {
            let partition = info.partition;
            let end = info.high_watermark;
            Error::local(
                Code::DataLoss,
                Some(reason::CORRUPT_SEGMENT),
                format!(
                    "partition {partition} of topic {topic:?} is offline after damage: what lies \
                     before offset {end} can be read, what follows cannot; see the broker's log and \
                     run `flowstone log verify` on its data directory"
                ),
            )
            .with_metadata("topic", topic)
            .with_metadata("partition", partition)
            .with_metadata("offset", end)
        }))
    }

    /// All topics whose names begin with `prefix`, by name.
    ///
    /// # Errors
    /// As every call: what the broker or the connection said.
    pub async fn list_topics(&self, prefix: &str) -> Result<Vec<proto::Topic>> {
        let mut topics = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListTopicsRequest {
                page_size: PAGE_SIZE,
                page_token,
                prefix: prefix.to_owned(),
            };
            let page = self
                .call(|client| {
                    let request = request.clone();
                    async move { client.topics().list_topics(request).await }
                })
                .await?;
            topics.extend(page.topics);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(topics);
            }
        }
    }

    /// Changes the fields of a topic that `paths` names, such as `retention` or
    /// `partition_count`; a named field that is absent goes back to its default.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `INVALID_FIELD`, or what the connection said.
    pub async fn update_topic(&self, topic: proto::Topic, paths: &[&str]) -> Result<proto::Topic> {
        let request = proto::UpdateTopicRequest {
            topic: Some(topic),
            update_mask: Some(FieldMask {
                paths: paths.iter().map(ToString::to_string).collect(),
            }),
        };
        let response = self
            .call(|client| {
                let request = request.clone();
                async move { client.topics().update_topic(request).await }
            })
            .await?;
        response
            .topic
            .ok_or_else(|| incomplete("UpdateTopic", "topic"))
    }

    /// Deletes a topic with all its records and the offsets committed for it.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, or what the connection said.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        self.call(|client| {
            let topic = name.to_owned();
            async move {
                let request = proto::DeleteTopicRequest { topic };
                client.topics().delete_topic(request).await
            }
        })
        .await?;
        Ok(())
    }

    /// Drops the records of one partition before an offset and answers with the new log start
    /// offset.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`, `OFFSET_BEYOND_END`, or what the connection said.
    pub async fn trim_partition(&self, topic: &str, partition: i32, before: i64) -> Result<i64> {
        let response = self
            .call(|client| {
                let request = proto::TrimPartitionRequest {
                    topic: topic.to_owned(),
                    partition,
                    before_offset: before,
                };
                async move { client.topics().trim_partition(request).await }
            })
            .await?;
        Ok(response.log_start_offset)
    }

    /// All groups, without their offsets.
    ///
    /// # Errors
    /// As every call: what the broker or the connection said.
    pub async fn list_groups(&self) -> Result<Vec<proto::Group>> {
        let mut groups = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListGroupsRequest {
                page_size: PAGE_SIZE,
                page_token,
            };
            let page = self
                .call(|client| {
                    let request = request.clone();
                    async move { client.groups().list_groups(request).await }
                })
                .await?;
            groups.extend(page.groups);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(groups);
            }
        }
    }

    /// Members, committed offsets and lag of a group.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`, or what the connection said.
    pub async fn get_group(&self, name: &str) -> Result<proto::Group> {
        let response = self
            .call(|client| {
                let group = name.to_owned();
                async move {
                    let request = proto::GetGroupRequest { group };
                    client.groups().get_group(request).await
                }
            })
            .await?;
        response
            .group
            .ok_or_else(|| incomplete("GetGroup", "group"))
    }

    /// The offset of a position in each of `partitions` (none named: all). `group` is needed for
    /// [`Start::Committed`] only.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`, or what the connection said.
    pub async fn list_offsets(
        &self,
        topic: &str,
        at: Start,
        partitions: &[i32],
        group: Option<&str>,
    ) -> Result<proto::ListOffsetsResponse> {
        let request = proto::ListOffsetsRequest {
            topic: topic.to_owned(),
            at: Some(at.into()),
            partitions: partitions.to_vec(),
            group: group.unwrap_or_default().to_owned(),
        };
        self.call(|client| {
            let request = request.clone();
            async move { client.log().list_offsets(request).await }
        })
        .await
    }

    /// Reads one partition once.
    ///
    /// # Errors
    /// `OFFSET_TRIMMED`, `OFFSET_BEYOND_END`, `TOPIC_RECREATED`, or what the connection said.
    pub async fn fetch(&self, request: proto::FetchRequest) -> Result<proto::FetchResponse> {
        let wait = request
            .max_wait
            .and_then(|wait| Duration::try_from(wait).ok())
            .unwrap_or_default();
        self.call_within(self.call_timeout().saturating_add(wait), |client| {
            let request = request.clone();
            async move { client.log().fetch(request).await }
        })
        .await
    }

    /// Opens a producer of a topic: older processes of this id are refused from now on. Answers its
    /// epoch and the highest sequence that the broker has seen. [`Client::producer`] with an id does
    /// it by itself.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `CORRUPT_SEGMENT` while a partition is offline, or what the connection
    /// said.
    pub async fn open_producer(&self, topic: &str, id: &str) -> Result<(i32, i64)> {
        let request = proto::OpenProducerRequest {
            topic: topic.to_owned(),
            id: id.to_owned(),
        };
        let opened = self
            .call(|client| {
                let request = request.clone();
                async move { client.log().open_producer(request).await }
            })
            .await?;
        Ok((opened.epoch, opened.last_sequence))
    }

    /// Stores how far a group has read, durably. The response names the cursors that were not
    /// stored since another member holds their partitions now.
    ///
    /// # Errors
    /// `STALE_SESSION` when none was stored, `GROUP_ACTIVE` for a cursor without a session, or
    /// what the connection said.
    pub async fn commit(
        &self,
        cursors: Vec<proto::Cursor>,
    ) -> Result<proto::CommitOffsetsResponse> {
        self.commit_or_release(cursors, Vec::new()).await
    }

    /// Gives the partitions of these cursors up without a commit: their next owner starts at the
    /// committed offset. Of use while they are being revoked.
    ///
    /// # Errors
    /// As [`Client::commit`].
    pub async fn release(
        &self,
        cursors: Vec<proto::Cursor>,
    ) -> Result<proto::CommitOffsetsResponse> {
        self.commit_or_release(Vec::new(), cursors).await
    }

    async fn commit_or_release(
        &self,
        cursors: Vec<proto::Cursor>,
        released: Vec<proto::Cursor>,
    ) -> Result<proto::CommitOffsetsResponse> {
        let request = proto::CommitOffsetsRequest { cursors, released };
        self.call(|client| {
            let request = request.clone();
            async move { client.log().commit_offsets(request).await }
        })
        .await
    }
}

fn incomplete(call: &str, field: &str) -> Error {
    Error::local(
        Code::Internal,
        None,
        format!("the broker answered {call} without `{field}`"),
    )
}

/// The cursors of a response of `ListOffsets`, as `resume_from` and `stop_before` take them.
pub(crate) fn cursors(topic: &str, offsets: &proto::ListOffsetsResponse) -> Vec<proto::Cursor> {
    offsets
        .partitions
        .iter()
        .map(|at| proto::Cursor {
            topic: topic.to_owned(),
            topic_id: offsets.topic_id.clone(),
            partition: at.partition,
            offset: at.offset,
            ..proto::Cursor::default()
        })
        .collect()
}

/// Where each partition stands, by number.
pub(crate) type Offsets = BTreeMap<i32, i64>;
