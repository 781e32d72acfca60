//! Stories in `tests/transcripts/producers`: a line is what happens, and behind the arrow what comes of
//! it. `BLESS=1` writes what comes of it now.

use std::fmt::Write;
use std::path::Path;

use super::*;

/// `name=value` among the words of a line.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number<T: std::str::FromStr>(line: &str, name: &str, otherwise: T) -> T {
    let Some(text) = value(line, name) else {
        return otherwise;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("{name} is a number in {line:?}"))
}

fn request(line: &str) -> Request {
    Request {
        epoch: number(line, "epoch", 0),
        sequence: number(line, "seq", 1),
        count: number(line, "count", 1),
        crc: number(line, "crc", 1),
        routing_count: number(line, "routed", 1),
        append_ms: number(line, "ms", 0),
        ..Request::new(value(line, "id").expect("a producer"), 1)
    }
}

fn told(answer: Result<Option<ProducerSequence>, LogError>, base: u64) -> String {
    match answer {
        Ok(None) => format!("new at {base}"),
        Ok(Some(known)) => format!("duplicate at {}", known.base_offset),
        Err(error) => error.to_string(),
    }
}

/// What comes of a line.
fn act(machine: &mut Machine, line: &str) -> String {
    let verb = line.split_whitespace().next().expect("a line has a word");
    match verb {
        "append" => {
            let request = request(line);
            let returns = machine.state.returns(request.id);
            let base = machine.next_offset;
            let answer = machine.append(&request);
            if returns && answer.is_ok() {
                // A log does that before it appends.
                machine.state.segment_began();
                return format!("a new segment, {}", told(answer, base));
            }
            told(answer, base)
        }
        "fill" => {
            let (from, to) = (number(line, "from", 1), number(line, "to", 1));
            let base = machine.next_offset;
            let mut answer = String::new();
            for sequence in from..=to {
                let request = Request {
                    sequence,
                    ..request(line)
                };
                let base = machine.next_offset;
                answer = told(machine.append(&request), base);
            }
            format!("from {base} on, the last is {answer}")
        }
        "expire" => {
            let gone = machine
                .state
                .expire(number(line, "now", 0), number(line, "retention", 0));
            format!("{gone} forgotten")
        }
        "last" => {
            let id = ProducerId::of(value(line, "id").expect("a producer"));
            let last = machine.state.last_sequence(id);
            last.map_or("none".to_owned(), |last| last.to_string())
        }
        "look" => {
            let request = request(line);
            match machine.state.entry(request.id, request.sequence) {
                Some(known) => format!(
                    "{} records at {}, routed among {}",
                    known.record_count, known.base_offset, known.routing_count
                ),
                None => "none".to_owned(),
            }
        }
        "lose" => {
            machine.state.lose_upto(number(line, "upto", 0));
            "noted".to_owned()
        }
        "limit" => {
            machine.state.budget.set_limit(number(line, "to", 0));
            "set".to_owned()
        }
        "restart" => {
            machine.restart();
            let producers = machine.state.producers.len();
            let sequences = machine.state.sequences().count();
            format!("{producers} producers with {sequences} sequences")
        }
        other => panic!("{other:?} is nothing that happens"),
    }
}

fn replay(story: &str) -> String {
    let mut machine = Machine::new(ProducerBudget::unlimited());
    let mut out = String::new();
    for line in story.lines() {
        let line = line
            .split_once(" ->")
            .map_or(line, |(line, _)| line)
            .trim_end();
        if line.is_empty() || line.starts_with('#') {
            writeln!(out, "{line}").unwrap();
        } else {
            writeln!(out, "{line} -> {}", act(&mut machine, line)).unwrap();
            machine.check_budget();
        }
    }
    out
}

#[test]
fn stories_end_as_they_are_told() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/producers");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let story = std::fs::read_to_string(&path).unwrap();
        let now = replay(&story);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &now).unwrap();
        } else {
            assert_eq!(now, story, "{}", path.display());
        }
        count += 1;
    }
    assert!(count >= 6, "only {count} stories");
}
