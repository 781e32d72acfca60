//! Forgetting producers that were idle for long: the epochs of those that no partition remembers any
//! more, and how their requests were routed.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowstone_format::ProducerId;

use crate::Error;
use crate::core::Core;
use crate::metadata::ForgetProducers;
use crate::producers::{Closed, RoutedBefore};
use crate::topics::{Topic, TopicNow, admin};

/// So many are forgotten at a time.
const MAX_AT_ONCE: usize = 10_000;

/// Forgets what is idle in all topics.
pub(crate) async fn forget_idle(core: Arc<Core>) {
    for topic in core.topics.all() {
        if core.is_stopping() {
            return;
        }
        if let Err(error) = forget_of(&core, &topic).await {
            let topic = topic.name();
            tracing::debug!(topic, %error, "idle producers are not forgotten yet");
        }
    }
}

async fn forget_of(core: &Arc<Core>, topic: &Arc<Topic>) -> Result<(), Error> {
    if idle(core, topic).is_empty() {
        return Ok(());
    }
    let right = core.metadata.alone().await;
    if topic.is_deleted() {
        return Ok(());
    }
    // One that wakes up meanwhile would be forgotten in the middle of its work.
    let closed = topic.gate().close().await;
    let idle = idle(core, topic);
    let now = topic.now();
    let routed_before = Arc::new(now.routed_before.without(&idle));
    let opened = {
        let state = core.metadata.state();
        let of_topic = state.producers(topic.id());
        let is_opened = |id: &ProducerId| of_topic.is_some_and(|opened| opened.is_opened(*id));
        idle.into_iter().filter(is_opened).collect::<Vec<_>>()
    };
    if opened.is_empty() {
        forget(topic, &now, routed_before, &opened, closed);
        return Ok(());
    }
    let command = ForgetProducers {
        topic: topic.id().as_bytes().to_vec(),
        producers: opened.iter().map(|id| id.into_bytes().to_vec()).collect(),
    };
    let topic = Arc::clone(topic);
    admin::change(core, right, command, move |_| {
        forget(&topic, &now, routed_before, &opened, closed);
    })
    .await
}

/// Those that no partition remembers, and that were not opened lately.
fn idle(core: &Core, topic: &Topic) -> Vec<ProducerId> {
    let retention_ms = i64::try_from(core.config.producer_retention_ms).unwrap_or(i64::MAX);
    let until_ms = core
        .append_clock
        .least_ms(retention_ms)
        .saturating_sub(retention_ms);
    let now = topic.now();
    let mut idle: BTreeSet<ProducerId> = now.routed_before.producers().collect();
    {
        let state = core.metadata.state();
        if let Some(opened) = state.producers(topic.id()) {
            let lately: BTreeSet<_> = opened.opened_after(until_ms).collect();
            idle.extend(opened.opened_until(until_ms));
            idle.retain(|id| !lately.contains(id));
        }
    }
    for partition in &now.partitions {
        if idle.is_empty() {
            break;
        }
        // Where nothing can be appended nothing can be repeated.
        if partition.refusal().is_none()
            && let Some(log) = partition.log().as_ref()
        {
            idle.retain(|id| matches!(log.last_sequence(*id), Ok(None)));
        }
    }
    idle.into_iter().take(MAX_AT_ONCE).collect()
}

fn forget(
    topic: &Topic,
    now: &TopicNow,
    routed_before: Arc<RoutedBefore>,
    opened: &[ProducerId],
    closed: Closed,
) {
    topic.epochs().forget(opened);
    topic.replace(TopicNow {
        info: now.info.clone(),
        partitions: now.partitions.clone(),
        routed_before,
    });
    drop(closed);
}
