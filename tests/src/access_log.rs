//! An access log: the real one where it lies beside the repository, one of the same shape where not.

use std::fs;
use std::path::PathBuf;

use crate::{Dice, workspace_root};

const LINES: usize = 10_000;
const KEYS: usize = 1_753;
/// 17 May 2015, 10:00 UTC, in seconds since 1970.
const FIRST_SECOND: i64 = 1_431_856_800;

/// The lines of an access log. The key of each stands before its first space.
pub fn access_log() -> String {
    let shared = std::env::var_os("FLOWSTONE_SHARED").map_or_else(
        || workspace_root().join("../shared/data/access.log"),
        PathBuf::from,
    );
    match fs::read_to_string(&shared) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("made-up lines instead of {}: {error}", shared.display());
            made_up()
        }
    }
}

/// The time of a line, in milliseconds since 1970.
///
/// # Panics
/// When the line is of no access log.
pub fn time_ms(line: &str) -> i64 {
    let time = line
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    let (time, _) = time.expect("a line has its time in brackets");
    let time = jiff::Zoned::strptime("%d/%b/%Y:%H:%M:%S %z", time).expect("it is a time");
    time.timestamp().as_millisecond()
}

/// Lines as a web server writes them: a few clients ask for most, every client asks once at least, and
/// the times of neighbours are a little out of order. The same at every run.
fn made_up() -> String {
    const PATHS: [&str; 5] = [
        "/",
        "/favicon.ico",
        "/lemonade/menu.html",
        "/images/stand.png",
        "/robots.txt",
    ];
    const AGENTS: [&str; 3] = [
        "Mozilla/5.0 (X11; Linux x86_64; rv:25.0)",
        "-",
        "UniversalFeedParser/4.2",
    ];
    let dice = Dice::new(2015);
    let pick = |upto: usize| dice.pick(0..upto as u64) as usize;
    let mut log = String::new();
    for number in 0..LINES {
        let client = match number % 5 {
            0 if number / 5 < KEYS => number / 5,
            _ => pick(1 + pick(KEYS)),
        };
        let second = FIRST_SECOND + number as i64 * 26 + pick(60) as i64;
        let time = jiff::Timestamp::from_second(second).expect("it is in range");
        log += &format!(
            "10.{}.{}.{} - - [{}] \"GET {}?visit={} HTTP/1.1\" {} {} \"-\" \"{}\"\n",
            client % 7,
            client / 256,
            client % 256,
            time.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            PATHS[pick(PATHS.len())],
            pick(1_000),
            [200, 200, 200, 304, 404][pick(5)],
            pick(100_000),
            AGENTS[pick(AGENTS.len())],
        );
    }
    log
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_made_up_log_has_the_shape_of_the_real_one() {
        let log = made_up();
        let keys: BTreeSet<&str> = log
            .lines()
            .map(|line| line.split(' ').next().unwrap_or_default())
            .collect();
        assert_eq!((log.lines().count(), keys.len()), (LINES, KEYS));
        assert_eq!(log, made_up());
        assert!(
            log.lines()
                .all(|line| time_ms(line) >= FIRST_SECOND * 1_000)
        );
        let times: Vec<i64> = log.lines().map(time_ms).collect();
        assert!(!times.is_sorted(), "neighbours are out of order");
    }
}
