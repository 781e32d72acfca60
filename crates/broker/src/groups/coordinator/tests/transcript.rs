//! Transcripts: text files with what happens to a group and what it decides. A line with `>` is an event,
//! those below it what comes of it. `BLESS=1` writes what comes anew.
//!
//! ```text
//! > new 4                        a group and a topic of four partitions
//! > 5s join a name=till max=10 timeout=60s
//! > 5s begin a 0 at 7            reading of a partition starts at an offset
//! > 6s deliver a 0 7..9
//! > 6s room a 0
//! > 6s commit a 0 9              a commit sets out for the disk
//! > 6s stored a 0 9              it is there; or `failed a 0`
//! > 7s release a 0
//! > 7s gone a                    its stream has ended
//! > 9s tick
//! > 9s grow 8
//! > 9s freeze                    and `thaw`
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use uuid::Uuid;

use super::super::{
    Assignment, Coordinator, Decision, Ended, HandOut, Holding, Joining, Time, Times,
};

#[test]
fn transcripts_hold() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/groups/coordinator/transcripts");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("there are transcripts") {
        let path = entry.expect("it can be listed").path();
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let played = play(&text);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &played).expect("it can be written");
        } else {
            assert_eq!(text, played, "{}: BLESS=1 writes it anew", path.display());
        }
        count += 1;
    }
    assert!(count > 5, "only {count} transcripts were found");
}

/// The transcript with what comes of its events as it is now.
fn play(text: &str) -> String {
    let mut stage = Stage::default();
    let mut out = String::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(out, "{line}").expect("a String takes any text");
        } else if let Some(event) = line.strip_prefix("> ") {
            writeln!(out, "{line}").expect("a String takes any text");
            out.push_str(&stage.event(event));
        }
    }
    out
}

#[derive(Default)]
struct Stage {
    machine: Option<Coordinator>,
    sessions: Vec<String>,
    /// The number of the holding that a session was told of last.
    told: BTreeMap<(String, u32), u64>,
    due: Option<Time>,
}

impl Stage {
    fn event(&mut self, event: &str) -> String {
        let mut words = event.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("too short: {event}"));
        let first = word();
        if first == "new" {
            let times = Times {
                revoke: Duration::from_secs(30),
                reconnect: Duration::from_secs(10),
            };
            let count = word().parse().expect("a number of partitions");
            self.machine = Some(Coordinator::new(times, count, false, 1));
            return String::new();
        }
        let now = time(first);
        let verb = word();
        let mut out = String::new();
        let machine = self.machine.as_mut().expect("the first event is `new`");
        match verb {
            "tick" => machine.tick(now),
            "freeze" => machine.freeze(),
            "thaw" => machine.thaw(now),
            "grow" => machine.grow(now, word().parse().expect("a number of partitions")),
            "join" => {
                let label = word().to_owned();
                self.sessions.push(label.clone());
                let session = self.session(&label);
                let joining = joining(session, words);
                self.machine().join(now, joining);
            }
            "gone" => {
                let session = self.session(word());
                self.machine().stream_ended(now, session, true);
            }
            verb => {
                let label = word();
                let partition = word().parse().expect("a partition");
                let said = self.holding_event(now, verb, label, partition, words);
                writeln!(out, "{label}: {said}").expect("a String takes any text");
            }
        }
        self.decisions(&mut out);
        out
    }

    fn holding_event<'a>(
        &mut self,
        now: Time,
        verb: &str,
        label: &str,
        partition: u32,
        mut words: impl Iterator<Item = &'a str>,
    ) -> String {
        let number = self.told.get(&(label.to_owned(), partition));
        let holding = Holding {
            session: self.session(label),
            number: number.copied().unwrap_or(0),
            partition,
        };
        let mut offset = || -> u64 { words.next().expect("an offset").parse().expect("an offset") };
        let machine = self.machine.as_mut().expect("the first event is `new`");
        match verb {
            "begin" => {
                assert_eq!(words.next(), Some("at"));
                let offset = words.next().expect("an offset").parse().expect("an offset");
                match machine.started(holding, offset) {
                    true => "begins".to_owned(),
                    false => "may not".to_owned(),
                }
            }
            "deliver" => {
                let range = words.next().expect("offsets from and to");
                let (from, end) = range.split_once("..").expect("offsets from and to");
                let (from, end) = (from.parse().expect("from"), end.parse().expect("to"));
                let what = HandOut {
                    from,
                    end,
                    records: end - from,
                };
                match machine.deliver(now, holding, what) {
                    true => "handed out".to_owned(),
                    false => "not handed out".to_owned(),
                }
            }
            "room" => match machine.room(holding) {
                None => "may not read".to_owned(),
                Some(u64::MAX) => "no limit".to_owned(),
                Some(room) => format!("room for {room}"),
            },
            "commit" => {
                offset();
                machine.called(now, holding.session);
                match machine.commit_begin(holding) {
                    true => "on its way".to_owned(),
                    false => "stale".to_owned(),
                }
            }
            "stored" => {
                machine.commit_end(now, holding, Some(offset()));
                "stored".to_owned()
            }
            "failed" => {
                machine.commit_end(now, holding, None);
                "failed".to_owned()
            }
            "release" => {
                machine.called(now, holding.session);
                match machine.release(now, holding) {
                    true => "released".to_owned(),
                    false => "stale".to_owned(),
                }
            }
            other => panic!("unknown event {other}"),
        }
    }

    /// What was decided, as the sessions are told it.
    fn decisions(&mut self, out: &mut String) {
        let decisions = self.machine().take_decisions();
        for label in self.sessions.clone() {
            let session = self.session(&label);
            let ended = decisions.iter().find_map(|decision| match decision {
                Decision::End(of, why) if *of == session => Some(*why),
                _ => None,
            });
            if let Some(why) = ended {
                writeln!(out, "{label}: is over, {}", ending(why))
                    .expect("a String takes any text");
                continue;
            }
            if !decisions.contains(&Decision::Wake(session)) {
                continue;
            }
            let line = match self.machine().take_assignment(session) {
                None => "may look again".to_owned(),
                Some(assignment) => {
                    for assigned in &assignment.partitions {
                        let key = (label.clone(), assigned.partition);
                        self.told.insert(key, assigned.number);
                    }
                    told(&assignment)
                }
            };
            writeln!(out, "{label}: {line}").expect("a String takes any text");
        }
        let due = self.machine().next_deadline();
        if due != self.due {
            match due {
                Some(due) => writeln!(out, "due at {}s", due.as_secs_f64()),
                None => writeln!(out, "nothing is due"),
            }
            .expect("a String takes any text");
            self.due = due;
        }
    }

    fn machine(&mut self) -> &mut Coordinator {
        self.machine.as_mut().expect("the first event is `new`")
    }

    fn session(&self, label: &str) -> Uuid {
        let place = self.sessions.iter().position(|it| it == label);
        Uuid::from_u128(place.expect("it has joined") as u128)
    }
}

fn joining<'a>(session: Uuid, words: impl Iterator<Item = &'a str>) -> Joining {
    let mut joining = Joining {
        name: String::new(),
        peer: String::new(),
        session,
        processing_timeout: Duration::from_secs(300),
        max_uncommitted_records: 0,
    };
    for word in words {
        match word.split_once('=') {
            Some(("name", name)) => joining.name = name.to_owned(),
            Some(("max", max)) => joining.max_uncommitted_records = max.parse().expect("a number"),
            Some(("timeout", text)) => joining.processing_timeout = time(text),
            _ => panic!("unknown: {word}"),
        }
    }
    joining
}

fn time(text: &str) -> Time {
    let seconds = text.strip_suffix('s').expect("a time in seconds");
    Time::from_secs_f64(seconds.parse().expect("a time in seconds"))
}

fn ending(why: Ended) -> String {
    match why {
        Ended::Replaced => "replaced".to_owned(),
        Ended::TimedOut(ms) => format!("timed out after {ms} ms"),
        Ended::Put => "put out".to_owned(),
        Ended::Away => "stayed away".to_owned(),
    }
}

fn told(assignment: &Assignment) -> String {
    let list = |numbers: &[u32]| {
        let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
        numbers.join(" ")
    };
    let reads = assignment.partitions.iter().map(|it| match it.grown {
        true => format!("{} (new)", it.partition),
        false => it.partition.to_string(),
    });
    let reads: Vec<_> = reads.collect();
    let mut line = match reads.is_empty() {
        true => "reads nothing".to_owned(),
        false => format!("reads {}", reads.join(" ")),
    };
    if !assignment.revoking.is_empty() {
        line += &format!(", gives up {}", list(&assignment.revoking));
    }
    if !assignment.lost.is_empty() {
        line += &format!(", has lost {}", list(&assignment.lost));
    }
    line
}
