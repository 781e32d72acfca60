//! Starts the broker on what a power cut has left, and holds what it serves against the story.

use std::collections::BTreeMap;
use std::path::Path;

use flowstone_proto::v1 as proto;
use flowstone_tests::mounts::Mounted;
use flowstone_tests::{Dice, Server, Stub};
use tonic::{Code, Status};

use crate::cut::{Cut, Taken, write_image};
use crate::expected::{Topic, expected};
use crate::load::{GROUP, commit, within};
use crate::recording::{Recording, serve};
use crate::story::Id;

/// Producers from here on come after the power cut.
const LATER: u32 = 1_000_000;
const MORE: u32 = 3;

/// What came of one image.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) taken: Taken,
    /// Who has replayed the journal, and how that went.
    pub(crate) replay: String,
    /// Torn tails that the broker has sealed off.
    pub(crate) torn: usize,
    /// Records that had to be there and are.
    pub(crate) records: usize,
    pub(crate) violations: Vec<String>,
    /// What lies in the files, when a partition is offline.
    pub(crate) evidence: String,
}

/// Where things lie.
pub(crate) struct Places<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) workspace: &'a Path,
}

impl Places<'_> {
    /// Makes the image of a cut and tries it out. It stays in the file `image` of the workspace as
    /// the broker has left it.
    pub(crate) async fn try_out(&self, recording: &Recording, cut: &Cut, seed: u64) -> Outcome {
        let mut outcome = Outcome::default();
        let mut topics = expected(&recording.about, cut.point as u64);
        let image = self.workspace.join("image");
        let mut log = String::new();
        if let Err(error) = self.lay_out(recording, cut, &image, &mut outcome) {
            outcome.violations.push(error);
            return outcome;
        }
        let tried = self
            .serve(recording, &image, &mut topics, &mut outcome, &mut log, seed)
            .await;
        if let Err(error) = tried {
            outcome.violations.push(error);
        }
        for (name, topic) in &topics {
            let counts = topic.history.counts();
            outcome.records += counts.acknowledged;
            let broken = topic.history.violations().iter();
            outcome
                .violations
                .extend(broken.map(|violation| format!("{name}: {violation}")));
        }
        if !outcome.violations.is_empty() {
            outcome.evidence = self
                .evidence(recording, cut, &log)
                .unwrap_or_else(|error| error);
        }
        outcome
    }

    fn lay_out(
        &self,
        recording: &Recording,
        cut: &Cut,
        image: &Path,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let (content, taken) = cut.content(&recording.ops, recording.about.disk_bytes as usize);
        outcome.taken = taken;
        write_image(image, &content).map_err(|error| format!("{}: {error}", image.display()))?;
        Ok(())
    }

    async fn serve(
        &self,
        recording: &Recording,
        image: &Path,
        topics: &mut BTreeMap<String, Topic>,
        outcome: &mut Outcome,
        log: &mut String,
        seed: u64,
    ) -> Result<(), String> {
        let directory = self.workspace.join("image-mounted");
        std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let (_mounted, replay) = Mounted::after_cut(image, &directory, Dice::new(seed).once_in(2))?;
        outcome.replay = replay;
        let server = Server::start(&mut serve(self.binary, self.workspace, &directory)?)
            .inspect_err(|error| log.push_str(error))?;
        outcome.torn = server.log().matches("a torn tail is sealed off").count();
        let stub = server.stub().await?;
        let first = self.read(recording, &stub, topics, outcome).await;
        log.push_str(&server.log());
        first?;
        produce_more(recording.about.seed, &stub, topics, outcome).await?;
        if Dice::new(!seed).once_in(2) {
            server.kill9()?;
        } else {
            server.terminate()?;
        }
        let server = Server::start(&mut serve(self.binary, self.workspace, &directory)?)?;
        let stub = server.stub().await?;
        let again = self.read(recording, &stub, topics, outcome).await;
        log.push_str(&server.log());
        again?;
        server.terminate()
    }

    /// Reads everything.
    async fn read(
        &self,
        recording: &Recording,
        stub: &Stub,
        topics: &mut BTreeMap<String, Topic>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let mut ends = BTreeMap::new();
        for (name, topic) in topics.iter_mut() {
            let request = proto::GetTopicRequest {
                topic: name.clone(),
            };
            let info = match within(stub.topics.clone().get_topic(request)).await {
                Ok(response) => response.into_inner(),
                Err(status) if status.code() == Code::NotFound => {
                    if topic.created && !topic.deleting {
                        outcome
                            .violations
                            .push(format!("{name} was created, and is not there"));
                    }
                    continue;
                }
                Err(status) => return Err(format!("{name}: {status}")),
            };
            if topic.deleted || !topic.creating {
                outcome
                    .violations
                    .push(format!("{name} is there, and should not be"));
            }
            if info.partitions.len() != topic.partitions as usize {
                outcome
                    .violations
                    .push(format!("{name} has {} partitions", info.partitions.len()));
            }
            for partition in &info.partitions {
                let number = partition.partition;
                if partition.offline {
                    outcome
                        .violations
                        .push(format!("{name}: partition {number} is offline"));
                    continue;
                }
                match within(stub.read_partition(name, number)).await {
                    Ok(read) => {
                        ends.insert((name.clone(), number), read.end);
                        let wrong = topic.read_whole(
                            recording.about.seed,
                            number,
                            partition.log_start_offset,
                            read.end,
                            read.records,
                        );
                        outcome
                            .violations
                            .extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
                    }
                    Err(status) => outcome
                        .violations
                        .push(format!("{name}: partition {number}: {status}")),
                }
            }
        }
        for (topic, partition, offset) in committed(stub)
            .await
            .map_err(|status| format!("{GROUP}: {status}"))?
        {
            if let Some(of) = topics.get_mut(&topic) {
                of.history.committed(GROUP, partition, offset);
            }
            if ends
                .get(&(topic.clone(), partition))
                .is_some_and(|end| offset > *end)
            {
                outcome.violations.push(format!(
                    "{topic}: {offset} of partition {partition} is committed, behind its end"
                ));
            }
            ends.remove(&(topic, partition));
        }
        // What is left has no commit.
        for (topic, partition) in ends.into_keys() {
            if topics[&topic].committed.contains_key(&partition) {
                outcome.violations.push(format!(
                    "{topic}: the commit of partition {partition} is gone"
                ));
            }
        }
        Ok(())
    }
}

/// Produces and commits on what was found.
async fn produce_more(
    seed: u64,
    stub: &Stub,
    topics: &mut BTreeMap<String, Topic>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let mut producer = LATER;
    for (name, topic) in topics
        .iter_mut()
        .filter(|(_, topic)| topic.created && !topic.deleting)
    {
        for partition in 0..topic.partitions {
            producer += 1;
            let ids = (0..MORE).map(|number| Id { producer, number });
            let records: Vec<_> = ids.map(|id| id.record(seed)).collect();
            for record in &records {
                let call = topic.history.invoke(producer, record);
                let request = proto::ProduceRequest {
                    records: vec![record.clone()],
                    topic: name.clone(),
                    partition: Some(partition),
                    acks: proto::Acks::Durable.into(),
                    ..proto::ProduceRequest::default()
                };
                match within(stub.log.clone().produce(request)).await {
                    Ok(response) => {
                        let offset = response
                            .get_ref()
                            .runs
                            .first()
                            .map_or(-1, |run| run.base_offset);
                        topic.history.acknowledged(call, partition, offset);
                        if within(
                            stub.log
                                .clone()
                                .commit_offsets(commit(name, partition, offset)),
                        )
                        .await
                        .is_ok()
                        {
                            topic.history.committed(GROUP, partition, offset);
                            topic.committed.insert(partition, offset);
                        } else {
                            outcome
                                .violations
                                .push(format!("{name}: partition {partition}: no commit is taken"));
                        }
                    }
                    Err(status) => {
                        outcome.violations.push(format!(
                            "{name}: partition {partition} takes nothing: {status}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

async fn committed(stub: &Stub) -> Result<Vec<(String, i32, i64)>, Status> {
    let request = proto::GetGroupRequest {
        group: GROUP.to_owned(),
    };
    match within(stub.groups.clone().get_group(request)).await {
        Ok(response) => {
            let offsets = response.into_inner().group.unwrap_or_default().offsets;
            let offsets = offsets.into_iter();
            Ok(offsets
                .filter_map(|offset| {
                    Some((offset.topic, offset.partition, offset.committed_offset?))
                })
                .collect())
        }
        Err(status) if status.code() == Code::NotFound => Ok(Vec::new()),
        Err(status) => Err(status),
    }
}
