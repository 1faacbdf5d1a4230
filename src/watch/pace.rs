//! When the next run is due: pure, by moments that the caller reads off a clock.

use std::time::{Duration, Instant};

/// All is looked at this long after the last run, although nothing seems to have changed: what is written into an
/// open file, and by other hosts, nobody tells.
const RESCAN: Duration = Duration::from_secs(300);
/// Rescans of folders that cannot be watched take at most one part in so many of the time.
const RESCAN_SHARE: u32 = 10;
/// Pause after the first of several failed runs; each next one is twice as long,
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// How long another run of the job is waited for before the next try.
const BUSY: Duration = Duration::from_secs(10);

/// How long a change waits for its run.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A run begins when nothing has changed for this long,
    pub settle: Duration,
    /// but not later than this after the first change.
    pub max_age: Duration,
}

/// Decides when to run.
#[derive(Debug)]
pub(super) struct Pace {
    times: Times,
    /// The first and the last change that no run has seen.
    changed: Option<(Instant, Instant)>,
    /// End and length of the last run; `None` before the first.
    ran: Option<(Instant, Duration)>,
    begun: Instant,
    failures: u32,
    /// The last run came to nothing: when to try once more.
    again: Option<Instant>,
}

impl Pace {
    /// The first run is due at once.
    pub(super) fn new(times: Times, now: Instant) -> Pace {
        Pace { times, changed: None, ran: None, begun: now, failures: 0, again: None }
    }

    /// Something changed.
    pub(super) fn changed(&mut self, now: Instant) {
        self.changed = Some((self.changed.map_or(now, |(first, _)| first), now));
    }

    /// A run begins, which sees every change so far.
    pub(super) fn begins(&mut self, now: Instant) {
        (self.begun, self.changed, self.again) = (now, None, None);
    }

    /// It did what it should.
    pub(super) fn ended(&mut self, now: Instant) {
        self.ran = Some((now, now.duration_since(self.begun)));
        self.failures = 0;
    }

    /// It failed: once more after a pause, however quiet it is. Gives the pause.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        let first = PAUSE_FIRST.min(self.times.settle);
        let pause = first.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.again = now.checked_add(pause);
        pause
    }

    /// Another run of the job was on: once more when that may be over.
    pub(super) fn was_busy(&mut self, now: Instant) {
        self.again = now.checked_add(BUSY.min(self.times.settle));
    }

    /// How long to wait for the next run; `sees_all` unless there are folders that cannot be watched.
    pub(super) fn wait(&self, now: Instant, sees_all: bool) -> Duration {
        if let Some(again) = self.again {
            return again.saturating_duration_since(now);
        }
        let Times { settle, max_age } = self.times;
        let left = |since: Instant, time: Duration| time.saturating_sub(now.duration_since(since));
        let rescan = self.ran.map(|(ended, took)| {
            let blind = settle.max(took.saturating_mul(RESCAN_SHARE));
            left(ended, if sees_all { RESCAN.max(settle) } else { blind })
        });
        let change = self.changed.map(|(first, last)| left(last, settle).min(left(first, max_age)));
        [rescan, change].into_iter().flatten().min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace(settle: u64, max_age: u64) -> (Pace, Instant) {
        let start = clock::stopwatch();
        let mut pace = Pace::new(Times { settle: s(settle), max_age: s(max_age) }, start);
        assert_eq!(pace.wait(start, true), s(0), "what changed before the start is due at once");
        pace.begins(start);
        pace.ended(start + s(1));
        (pace, start + s(1))
    }

    #[test]
    fn a_burst_is_one_run_and_a_stream_waits_no_longer_than_it_may() {
        let (mut pace, at) = pace(60, 150);
        assert_eq!(pace.wait(at, true), RESCAN);
        for second in 0..3 {
            pace.changed(at + s(second));
        }
        assert_eq!(pace.wait(at + s(2), true), s(60));
        for second in (10..140).step_by(10) {
            pace.changed(at + s(second));
            assert!(pace.wait(at + s(second), true) > s(0));
        }
        assert_eq!(pace.wait(at + s(130), true), s(20), "150 s after the first");
        assert_eq!(pace.wait(at + s(151), true), s(0));
    }

    #[test]
    fn with_one_time_for_both_no_change_waits_longer() {
        let (mut pace, at) = pace(60, 60);
        for second in 0..60 {
            pace.changed(at + s(second));
            assert_eq!(pace.wait(at + s(second), true), s(60 - second));
        }
    }

    #[test]
    fn what_changes_during_a_run_is_for_the_next() {
        let (mut pace, at) = pace(60, 60);
        pace.changed(at);
        pace.begins(at + s(60));
        pace.changed(at + s(61));
        pace.ended(at + s(70));
        assert_eq!(pace.wait(at + s(70), true), s(51));
    }

    #[test]
    fn what_cannot_be_watched_is_looked_at_as_often_as_it_may_cost() {
        let (mut pace, at) = pace(60, 60);
        assert_eq!(pace.wait(at, false), s(60));
        pace.begins(at);
        pace.ended(at + s(20));
        assert_eq!(pace.wait(at + s(20), false), s(200), "a tenth of the time");
        assert_eq!(pace.wait(at + s(20), true), RESCAN);
    }

    #[test]
    fn failures_pause_longer_and_longer_and_forget_nothing() {
        let (mut pace, at) = pace(60, 60);
        let mut now = at;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            pace.begins(now);
            pace.changed(now);
            pauses.push(pace.failed(now));
            assert_eq!(pace.wait(now, true), *pauses.last().unwrap());
            now += pauses[pauses.len() - 1];
            assert_eq!(pace.wait(now, true), s(0));
        }
        assert_eq!(pauses[..4], [s(5), s(10), s(20), s(40)]);
        assert!(pauses[8..].iter().all(|pause| *pause == PAUSE_MAX));
        pace.begins(now);
        pace.ended(now);
        assert_eq!(pace.wait(now, true), RESCAN);
    }

    #[test]
    fn another_run_is_waited_for() {
        let (mut pace, at) = pace(60, 60);
        pace.begins(at);
        pace.was_busy(at);
        assert_eq!(pace.wait(at, true), BUSY);
        pace.changed(at + s(1));
        assert_eq!(pace.wait(at + BUSY, true), s(0));
        pace.begins(at + BUSY);
        pace.ended(at + BUSY);
        assert_eq!(pace.wait(at + BUSY, true), RESCAN);
    }
}
