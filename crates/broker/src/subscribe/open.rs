//! Starting a subscription: everything in the request is checked, and its positions are resolved.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use crate::core::Core;
use crate::fetch::response_bytes;
use crate::groups::Join;
use crate::listeners::{Listener, News};
use crate::names::{check_group, check_member, invalid};
use crate::partition::Partition;
use crate::resolve::{check_range, no_group, resolve, resolve_stop};
use crate::subscribe::{Member, Reading, SubscribeRequest, Subscription};
use crate::topics::{Topic, TopicNow};
use crate::{Broker, Cursor, Error, GroupConfig, Start, Stop};

pub(crate) async fn open(
    broker: &Broker,
    request: SubscribeRequest,
) -> Result<Subscription, Error> {
    let core = broker.core();
    core.check_alive()?;
    core.check_accepting()?;
    let limits = &core.config.limits;
    let place = Arc::clone(&core.subscriptions)
        .try_acquire_owned()
        .map_err(|_| Error::LimitExceeded {
            limit: "max_subscriptions",
            value: u64::from(limits.max_subscriptions),
        })?;
    let topic = core.topics.get(&request.topic)?;
    let listener = Arc::new(Listener::default());
    let listening = topic.listeners().add(&listener, News::Topic);
    check_fields(&request)?;
    let in_group = request.group.is_some();
    let (place, member, readings) = match &request.group {
        Some(group) => {
            let member = join(core, &topic, group, &request, place)?;
            (None, Some(member), Vec::new())
        }
        None => (
            Some(place),
            None,
            begin(core, &topic, &request, &listener).await?,
        ),
    };
    Ok(Subscription {
        broker: broker.clone(),
        topic,
        listener,
        _listening: listening,
        readings,
        without_room: Vec::new(),
        follows_new: !in_group
            && request.partitions.is_empty()
            && matches!(request.stop, None | Some(Stop::Count(_))),
        max_batch_bytes: response_bytes(limits, request.max_batch_bytes),
        remaining: match request.stop {
            Some(Stop::Count(count)) => Some(count),
            _ => None,
        },
        has_stop: request.stop.is_some() || !request.stop_before.is_empty(),
        member,
        pending: None,
        failure: None,
        ended: false,
        _place: place,
    })
}

/// Finds out what a reader without a group reads.
async fn begin(
    core: &Arc<Core>,
    topic: &Topic,
    request: &SubscribeRequest,
    listener: &Arc<Listener>,
) -> Result<Vec<Reading>, Error> {
    let chosen = choose(topic, &topic.now(), &request.partitions)?;
    let resume = offsets("resume_from", topic, &chosen, &request.resume_from)?;
    let stops = offsets("stop_before", topic, &chosen, &request.stop_before)?;
    let (start, stop) = (request.start.clone(), request.stop.clone());
    let listener = Arc::clone(listener);
    core.pool
        .run(move || {
            let begin = |partition: Arc<Partition>| {
                let number = partition.index();
                let asked = resume.get(&number).copied();
                let stop = match stops.get(&number) {
                    Some(&offset) => Some(Stop::Offset(offset)),
                    None => stop.clone(),
                };
                begin_at(partition, &start, asked, stop.as_ref(), &listener)
            };
            chosen.into_iter().map(begin).collect()
        })
        .await?
}

/// Finds out where one partition starts and stops. A damaged one starts all the same: what is wrong
/// with it is told in the stream, and the others go on. Blocks.
fn begin_at(
    partition: Arc<Partition>,
    start: &Start,
    asked: Option<u64>,
    stop: Option<&Stop>,
    listener: &Arc<Listener>,
) -> Result<Reading, Error> {
    let found = || {
        let next = match asked {
            Some(offset) => offset,
            None => resolve(start, &partition, None)?,
        };
        check_range(&partition, next)?;
        let stop = match stop {
            Some(stop) => resolve_stop(stop, &partition)?,
            None => None,
        };
        Ok((next, stop))
    };
    match found() {
        Ok((next, stop)) => Ok(Reading::new(partition, next, stop, listener)),
        Err(error @ Error::CorruptSegment { .. }) => {
            Ok(Reading::broken(partition, error, listener))
        }
        Err(error) => Err(error),
    }
}

fn check_fields(request: &SubscribeRequest) -> Result<(), Error> {
    let Some(group) = &request.group else {
        if request.start == Start::Committed {
            return Err(no_group());
        }
        if !request.member.is_empty() {
            return Err(invalid("member", "it means nothing without a group"));
        }
        let refused = [
            (
                "processing_timeout",
                request.processing_timeout_ms.is_some(),
            ),
            (
                "max_uncommitted_records",
                request.max_uncommitted_records != 0,
            ),
        ];
        if let Some((field, _)) = refused.iter().find(|(_, set)| *set) {
            return Err(invalid(*field, "it means nothing without a group"));
        }
        return Ok(());
    };
    check_group(group)?;
    check_member(&request.member)?;
    let range = GroupConfig::PROCESSING_TIMEOUT_MS;
    if let Some(timeout_ms) = request.processing_timeout_ms
        && !range.contains(&timeout_ms)
    {
        let detail = format!(
            "{timeout_ms} ms are not between {} ms and {} ms",
            range.start(),
            range.end()
        );
        return Err(invalid("processing_timeout", detail));
    }
    let refused = [
        ("partitions", !request.partitions.is_empty()),
        ("stop", request.stop.is_some()),
        ("resume_from", !request.resume_from.is_empty()),
        ("stop_before", !request.stop_before.is_empty()),
    ];
    match refused.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(invalid(
            *field,
            "not with a group: it assigns the partitions, starts where it has committed, and never \
             stops",
        )),
        None => Ok(()),
    }
}

/// The partitions to read.
fn choose(topic: &Topic, now: &TopicNow, numbers: &[u32]) -> Result<Vec<Arc<Partition>>, Error> {
    if numbers.is_empty() {
        return Ok(now.partitions.clone());
    }
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        let detail = format!("partition {} stands there twice", pair[0]);
        return Err(invalid("partitions", detail));
    }
    let find = |number: u32| {
        let found = now.partitions.get(number as usize).cloned();
        found.ok_or_else(|| topic.no_partition(number, now))
    };
    sorted.into_iter().map(find).collect()
}

/// The offsets of cursors, by partition.
fn offsets(
    field: &str,
    topic: &Topic,
    chosen: &[Arc<Partition>],
    cursors: &[Cursor],
) -> Result<BTreeMap<u32, u64>, Error> {
    let mut offsets = BTreeMap::new();
    for (index, cursor) in cursors.iter().enumerate() {
        let field = |name: &str| format!("{field}[{index}].{name}");
        if cursor.topic != topic.name() {
            let detail = format!("it is {:?}, but {:?} is read", cursor.topic, topic.name());
            return Err(invalid(field("topic"), detail));
        }
        topic.check_id(cursor.topic_id)?;
        let number = cursor.partition;
        if chosen
            .binary_search_by_key(&number, |partition| partition.index())
            .is_err()
        {
            let detail = format!("partition {number} is not among those that are read");
            return Err(invalid(field("partition"), detail));
        }
        if offsets.insert(number, cursor.offset).is_some() {
            let detail = format!("partition {number} stands there twice");
            return Err(invalid(field("partition"), detail));
        }
    }
    Ok(offsets)
}

/// Joins the group.
fn join(
    core: &Arc<Core>,
    topic: &Arc<Topic>,
    group: &str,
    request: &SubscribeRequest,
    place: OwnedSemaphorePermit,
) -> Result<Member, Error> {
    let now = topic.now();
    {
        // A group that cannot commit must not read: it would do so for ever.
        let state = core.offsets.log()?.state();
        if let Start::Offset(offset) = request.start {
            let uncommitted = now.partitions.iter().filter(|partition| {
                state
                    .committed(group, topic.id(), partition.index())
                    .is_none()
            });
            for partition in uncommitted {
                if let Err(error @ Error::OffsetBeyondEnd { .. }) = check_range(partition, offset) {
                    return Err(error);
                }
            }
        }
    }
    let default_ms = core.config.groups.processing_timeout_ms;
    let join = Join {
        group,
        topic,
        member: &request.member,
        peer: &request.peer,
        session: Uuid::from_bytes(core.env.random.uuid_bytes()),
        processing_timeout_ms: request.processing_timeout_ms.unwrap_or(default_ms),
        max_uncommitted_records: u64::from(request.max_uncommitted_records),
    };
    let ends = now.partitions.iter().map(|it| it.high_watermark());
    let (ends, start) = (ends.collect(), request.start.clone());
    core.offsets.idle().touch(group);
    let membership = core.groups.join(&join, place);
    Ok(Member::new(membership, core, topic, start, ends))
}
