//! What must hold of a life in which calls have failed.

use std::collections::BTreeSet;

use crate::life::Life;
use crate::trace::Call;

/// A process that has to end does so within this.
const EXIT_SECONDS: f64 = 1.0;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// No call of the data directory failed.
    Missed,
    /// It ended before it was ready, and said why.
    Refused,
    /// It served, but for some partitions in the end.
    Offline,
    /// It ended by itself.
    Ended,
    /// Calls were answered with an error, and all partitions went on.
    Failed,
    /// It served, and told of an error at the end.
    EndedBadly,
    /// No client noticed.
    Unnoticed,
}

impl Life {
    /// Holds what was answered against what failed.
    pub(crate) fn judge(
        &mut self,
        calls: &[Call],
        ended_at: Option<f64>,
        log: &str,
    ) -> (End, Option<f64>) {
        let hits: Vec<&Call> = calls.iter().filter(|call| call.is_injected).collect();
        if log.contains("panicked") {
            self.wrong(format!("it panicked: {log}"));
        }
        let tells = log.contains("Input/output error") || log.contains("os error 5");
        let Some(last) = hits.last() else {
            let failed = self.client.calls.iter().find(|call| call.failed.is_some());
            let is_well = failed.is_none() && self.refused.is_none() && self.ended_badly.is_none();
            if !is_well || self.ended_by_itself.is_some() {
                let failed = failed.cloned();
                self.wrong(format!(
                    "no call failed, and yet it went wrong: {failed:?}: {log}"
                ));
            }
            return (End::Missed, None);
        };
        self.judge_acks(&hits);
        self.judge_partitions(&hits);
        if let Some(why) = self.refused.clone() {
            // std keeps the reason to itself where it only wants to know whether a directory is there.
            let says = why.contains(" with exit status: ") && why.contains("error: ");
            if !says || why.contains("exit status: 0") || !(tells || hits[0].syscall == "statx") {
                self.wrong(format!("it does not say why it does not start: {why}"));
            }
            return (End::Refused, None);
        }
        if self.ended_by_itself.is_some() {
            let after = ended_at.map(|ended_at| ended_at - last.at);
            if after.is_none_or(|after| after > EXIT_SECONDS) || !tells {
                self.wrong(format!("it ended {after:?} s after the error: {log}"));
            }
            return (End::Ended, after);
        }
        if let Some(why) = self.ended_badly.clone() {
            if !tells {
                self.wrong(format!("it does not say why it ended: {why}"));
            }
            return (End::EndedBadly, None);
        }
        if !self.unusable.is_empty() {
            return (End::Offline, None);
        }
        match self.client.calls.iter().any(|call| call.failed.is_some()) {
            true => (End::Failed, None),
            false => (End::Unnoticed, None),
        }
    }

    /// Nothing is acknowledged on the account of a write or a sync that failed, nor anything after
    /// the failure of a sync.
    fn judge_acks(&mut self, hits: &[&Call]) {
        let mut wrong = Vec::new();
        for hit in hits
            .iter()
            .filter(|hit| hit.is_of(".segment") && hit.at > self.ready_at)
        {
            let is_sync = hit.syscall == "fdatasync";
            if !is_sync && hit.syscall != "pwrite64" {
                continue;
            }
            for call in self
                .client
                .calls
                .iter()
                .filter(|call| call.failed.is_none())
            {
                let meets = call.begun < hit.at && hit.at < call.ended;
                let of_this = call.what.starts_with("produce") && call.partition == hit.partition();
                // What was synced before may still be read until the process is gone.
                let is_promise = !call.what.starts_with("reading");
                if meets && of_this || is_sync && is_promise && call.begun > hit.at {
                    wrong.push(format!("{} was acknowledged after {hit:?}", call.what));
                }
            }
            let is_over = self.ended_by_itself.is_some() || hit.at > self.stopped_at;
            if is_sync && !is_over {
                wrong.push(format!("the process outlives {hit:?}"));
            }
        }
        self.client.wrong.extend(wrong);
    }

    /// Only the partitions that the errors were about are unusable.
    fn judge_partitions(&mut self, hits: &[&Call]) {
        let hit: BTreeSet<u64> = hits.iter().filter_map(|hit| hit.partition()).collect();
        // An error of no partition's file, such as that of a map, may be about any one.
        let elsewhere = hits.iter().filter(|hit| hit.partition().is_none()).count();
        let others: Vec<_> = self.unusable.difference(&hit).copied().collect();
        if self.ended_by_itself.is_none() && others.len() > elsewhere {
            let phase = self.phase;
            self.wrong(format!(
                "{phase:?}: partitions {others:?} do not serve either"
            ));
        }
    }
}
