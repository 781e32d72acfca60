//! Which windows a request belongs to.

use anyhow::{Result, ensure};

/// Windows of one length, one every `slide` seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    length: i64,
    slide: i64,
}

impl Windows {
    /// Both in seconds.
    pub(crate) fn new(length: i64, slide: i64) -> Result<Self> {
        ensure!(
            slide > 0 && length >= slide,
            "a window is as long as the slide at least, and neither is 0"
        );
        Ok(Self { length, slide })
    }

    /// The beginnings, in Unix seconds, of the windows that a line of an access log belongs to; none for
    /// a line without a time.
    pub(crate) fn of_line(&self, line: &[u8]) -> impl Iterator<Item = i64> {
        let second = std::str::from_utf8(line).ok().and_then(second);
        second.into_iter().flat_map(|second| self.of(second))
    }

    fn of(&self, second: i64) -> impl Iterator<Item = i64> {
        let (length, slide) = (self.length, self.slide);
        let last = second.div_euclid(slide) * slide;
        (0..)
            .map(move |back| last - back * slide)
            .take_while(move |begin| second < begin + length)
    }
}

/// The time in brackets, in Unix seconds.
fn second(line: &str) -> Option<i64> {
    let (_, rest) = line.split_once('[')?;
    let (time, _) = rest.split_once(']')?;
    let time = jiff::Zoned::strptime("%d/%b/%Y:%H:%M:%S %z", time).ok()?;
    Some(time.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_in_every_window_that_holds_its_time() {
        let windows = Windows::new(600, 300).unwrap();
        assert_eq!(windows.of(900).collect::<Vec<_>>(), [900, 600]);
        assert_eq!(windows.of(1199).collect::<Vec<_>>(), [900, 600]);
        let line = b"- - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\"";
        let found: Vec<i64> = windows.of_line(line).collect();
        assert_eq!(found, [1_431_857_100, 1_431_856_800]);
        assert_eq!(windows.of_line(b"no time").count(), 0);
        assert!(Windows::new(10, 0).is_err() && Windows::new(10, 20).is_err());
    }
}
