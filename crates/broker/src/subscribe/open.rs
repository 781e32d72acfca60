//! Starting a subscription: everything in the request is checked, and its positions are resolved.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::Core;
use crate::fetch::response_bytes;
use crate::members::Membership;
use crate::names::{check_group, check_member, invalid};
use crate::partition::Partition;
use crate::resolve::{check_range, no_group, resolve, resolve_stop};
use crate::subscribe::{Reading, SubscribeRequest, Subscription};
use crate::topics::{Topic, TopicNow};
use crate::{Broker, Cursor, Error, Start, Stop};

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
    let watch = topic.watch();
    let now = topic.now();
    check_fields(&request)?;
    let chosen = choose(&topic, &now, &request.partitions)?;
    let resume = offsets("resume_from", &topic, &chosen, &request.resume_from)?;
    let stops = offsets("stop_before", &topic, &chosen, &request.stop_before)?;
    let membership = join(core, &topic, &request)?;
    let committed = committed(core, &topic, &chosen, request.group.as_deref())?;

    let in_group = membership.is_some();
    let (start, stop) = (request.start, request.stop.clone());
    let readings = core
        .pool
        .run(move || {
            let begin = |(partition, committed): (Arc<Partition>, Option<u64>)| {
                let number = partition.index();
                let asked = resume.get(&number).copied().or(committed);
                let stop = match stops.get(&number) {
                    Some(&offset) => Some(Stop::Offset(offset)),
                    None => stop.clone(),
                };
                begin_at(partition, &start, asked, stop.as_ref(), in_group)
            };
            chosen.into_iter().zip(committed).map(begin).collect()
        })
        .await?;
    let readings: Result<Vec<Reading>, Error> = readings;
    Ok(Subscription {
        broker: broker.clone(),
        topic,
        watch,
        readings: readings?,
        turn: 0,
        follows_new: request.partitions.is_empty()
            && matches!(request.stop, None | Some(Stop::Count(_))),
        max_batch_bytes: response_bytes(limits, request.max_batch_bytes),
        remaining: match request.stop {
            Some(Stop::Count(count)) => Some(count),
            _ => None,
        },
        has_stop: request.stop.is_some() || !request.stop_before.is_empty(),
        membership,
        announce: in_group,
        pending: None,
        failure: None,
        ended: false,
        _place: place,
    })
}

/// Finds out where one partition starts and stops. A damaged one starts all the same: what is wrong
/// with it is told in the stream, and the others go on. Blocks.
fn begin_at(
    partition: Arc<Partition>,
    start: &Start,
    asked: Option<u64>,
    stop: Option<&Stop>,
    in_group: bool,
) -> Result<Reading, Error> {
    let found = || {
        let next = match asked {
            Some(offset) => offset,
            None => resolve(start, &partition, None)?,
        };
        // A group's member reads on at the log start if its place was trimmed; any other reader
        // has asked for what is not there.
        match check_range(&partition, next) {
            Err(Error::OffsetTrimmed { .. }) if in_group => {}
            checked => checked?,
        }
        let stop = match stop {
            Some(stop) => resolve_stop(stop, &partition)?,
            None => None,
        };
        Ok((next, stop))
    };
    match found() {
        Ok((next, stop)) => Ok(Reading::new(partition, next, stop)),
        Err(error @ Error::CorruptSegment { .. }) => Ok(Reading::broken(partition, error)),
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
        return Ok(());
    };
    check_group(group)?;
    check_member(&request.member)?;
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

fn join(
    core: &Core,
    topic: &Arc<Topic>,
    request: &SubscribeRequest,
) -> Result<Option<Membership>, Error> {
    let Some(group) = &request.group else {
        return Ok(None);
    };
    // A group that cannot commit must not read: it would do so for ever.
    core.offsets.log()?;
    core.members
        .join(
            &*core.env.random,
            group,
            topic,
            &request.member,
            &request.peer,
        )
        .map(Some)
}

/// What the group has committed of each partition.
fn committed(
    core: &Core,
    topic: &Topic,
    chosen: &[Arc<Partition>],
    group: Option<&str>,
) -> Result<Vec<Option<u64>>, Error> {
    let Some(group) = group else {
        return Ok(vec![None; chosen.len()]);
    };
    let state = core.offsets.log()?.state();
    let of = |partition: &Arc<Partition>| state.committed(group, topic.id(), partition.index());
    Ok(chosen.iter().map(of).collect())
}
