//! Where a run is: a bar on a terminal, a line a minute in a log, nothing where nobody asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{Manner, complain, count, duration, size};
use crate::base::bytes;
use crate::base::clock;
use crate::base::progress::{Counters, Progress};

const REDRAW_EVERY: Duration = Duration::from_millis(200);
const BAR_WIDTH: usize = 12;
const LOG_EVERY: Duration = Duration::from_secs(60);
/// How much the latest reading counts in the shown rate: about the last three seconds matter.
const RATE_WEIGHT: f64 = 0.07;

/// Shows the counters of one run until [`Meter::finish`], or until it is dropped.
pub struct Meter {
    shared: Arc<Shared>,
    painter: Option<JoinHandle<()>>,
}

struct Shared {
    verb: &'static str,
    counters: Counters,
    problems: AtomicU64,
    bar: Option<ProgressBar>,
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Meter {
    /// Starts showing a run of `verb` ("backup").
    pub fn start(verb: &'static str, manner: &Manner) -> Self {
        let silent = manner.quiet || manner.json;
        let bar = (!silent && manner.stderr_terminal).then(new_bar);
        let logs = !silent && bar.is_none() && (manner.stdout_terminal || manner.verbose > 0);
        let shared = Arc::new(Shared {
            verb,
            counters: Counters::default(),
            problems: AtomicU64::new(0),
            bar,
            stopped: Mutex::new(false),
            wake: Condvar::new(),
        });
        let painter = (shared.bar.is_some() || logs).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.paint())
        });
        Meter { shared, painter }
    }

    /// How many problems were told so far.
    pub fn problem_count(&self) -> u64 {
        self.shared.problems.load(Ordering::Relaxed)
    }

    /// Removes the bar; call before the summary is printed.
    pub fn finish(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        *self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.wake.notify_all();
        if let Some(painter) = self.painter.take() {
            // A painter that panicked spoils no result.
            drop(painter.join());
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Progress for Meter {
    fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    fn problem(&self, line: &str) {
        self.shared.problems.fetch_add(1, Ordering::Relaxed);
        let text = format!("problem: {}\n", bytes::display(line.as_bytes()));
        match &self.shared.bar {
            Some(bar) => bar.suspend(|| complain(&text)),
            None => complain(&text),
        }
    }
}

impl Shared {
    fn paint(&self) {
        let every = if self.bar.is_some() { REDRAW_EVERY } else { LOG_EVERY };
        let mut rate = Rate::start(clock::stopwatch());
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let waited = self.wake.wait_timeout_while(stopped, every, |stopped| !*stopped);
            stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
            if *stopped {
                break;
            }
            let reading = Reading::of(&self.counters);
            rate.advance(reading.bytes, clock::stopwatch());
            let text = reading.text(rate.bytes_per_second, rate.elapsed());
            match &self.bar {
                // Everything in one message: each setter of a bar draws for itself, half of the news at a time.
                Some(bar) => bar.set_message(format!("{}{text}", reading.bar())),
                None => complain(&format!("{}: {text}\n", self.verb)),
            }
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar() -> ProgressBar {
    // Drawn by the painter alone, so indicatif's own limit need not be lower than ours.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    bar.set_style(ProgressStyle::with_template("{wide_msg}").expect("the template is a constant"));
    bar
}

/// One look at the counters.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    items: u64,
    bytes: u64,
    items_total: u64,
    bytes_total: u64,
}

impl Reading {
    fn of(counters: &Counters) -> Self {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Reading {
            items: load(&counters.items),
            bytes: load(&counters.bytes),
            items_total: load(&counters.items_total),
            bytes_total: load(&counters.bytes_total),
        }
    }

    /// The end of the bar: bytes where they are known, else items; 0 while neither is.
    fn scale(&self) -> u64 {
        if self.bytes_total > 0 { self.bytes_total } else { self.items_total }
    }

    /// `[=====>    ]  `, as wide at every place; nothing while the end is unknown.
    fn bar(&self) -> String {
        let (place, scale) = match self.scale() {
            0 => return String::new(),
            scale if self.bytes_total > 0 => (self.bytes.min(scale), scale),
            scale => (self.items.min(scale), scale),
        };
        let full = (place as f64 / scale as f64 * BAR_WIDTH as f64) as usize;
        let line: String = (0..BAR_WIDTH)
            .map(|column| match column.cmp(&full) {
                std::cmp::Ordering::Less => '=',
                std::cmp::Ordering::Equal => '>',
                std::cmp::Ordering::Greater => ' ',
            })
            .collect();
        format!("[{line}]  ")
    }

    fn text(&self, bytes_per_second: f64, elapsed: Duration) -> String {
        // One "of" is enough for a line of 80 columns.
        let items = match self.items_total {
            total if total > 0 && self.bytes_total == 0 => {
                format!("{} of {}", count(self.items), count(total))
            }
            _ => count(self.items),
        };
        let done = match self.bytes_total {
            0 => size(self.bytes),
            total => format!("{} of {}", size(self.bytes), size(total)),
        };
        let mut text = format!("{items} files, {done}, {}/s", size(bytes_per_second as u64));
        let left = self.bytes_total.saturating_sub(self.bytes);
        if left > 0 && bytes_per_second >= 1.0 {
            let seconds = (left as f64 / bytes_per_second).round() as u64;
            text.push_str(&format!(", {} left", duration(Duration::from_secs(seconds))));
        } else {
            text.push_str(&format!(", {}", duration(elapsed)));
        }
        text
    }
}

/// Bytes a second, smoothed.
struct Rate {
    started: Instant,
    last: Instant,
    last_bytes: u64,
    bytes_per_second: f64,
}

impl Rate {
    fn start(now: Instant) -> Self {
        Rate { started: now, last: now, last_bytes: 0, bytes_per_second: 0.0 }
    }

    fn elapsed(&self) -> Duration {
        self.last - self.started
    }

    fn advance(&mut self, bytes: u64, now: Instant) {
        let seconds = (now - self.last).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let current = bytes.saturating_sub(self.last_bytes) as f64 / seconds;
        // The first reading stands alone; a minute between readings needs no memory of the one before.
        let weight = if self.last == self.started || seconds > 10.0 { 1.0 } else { RATE_WEIGHT };
        self.bytes_per_second += (current - self.bytes_per_second) * weight;
        self.last = now;
        self.last_bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_says_how_far_and_how_long() {
        let reading = Reading { items: 1200, bytes: 50 << 20, items_total: 4000, bytes_total: 150 << 20 };
        assert_eq!(
            reading.text(10.0 * 1024.0 * 1024.0, Duration::from_secs(5)),
            "1,200 files, 50.0 MiB of 150.0 MiB, 10.0 MiB/s, 10.0 s left"
        );
        let unknown = Reading { items: 3, bytes: 10, ..Reading::default() };
        assert_eq!(unknown.text(0.0, Duration::from_secs(75)), "3 files, 10 B, 0 B/s, 1 min 15 s");
        assert_eq!(unknown.bar(), "");
        assert_eq!(reading.bar(), "[====>       ]  ");
        let grown = Reading { bytes: 20, bytes_total: 10, ..Reading::default() };
        assert_eq!(grown.bar(), "[============]  ", "a file that grew does not overrun the bar");
    }

    #[test]
    fn the_rate_follows_and_is_smooth() {
        let start = clock::stopwatch();
        let mut rate = Rate::start(start);
        rate.advance(1000, start + Duration::from_secs(1));
        assert_eq!(rate.bytes_per_second, 1000.0);
        rate.advance(1000, start + Duration::from_secs(2));
        assert!((900.0..1000.0).contains(&rate.bytes_per_second), "one stall does not bring it down");
        rate.advance(1000, start + Duration::from_secs(2));
        assert!(rate.bytes_per_second.is_finite(), "no time passed");
    }

    #[test]
    fn a_silent_meter_counts_problems_and_stops() {
        let meter = Meter::start("backup", &Manner { quiet: true, ..Manner::default() });
        assert!(meter.painter.is_none() && meter.shared.bar.is_none());
        meter.counters().add(1, 2);
        assert_eq!(meter.problem_count(), 0);
        meter.finish();
        let logging = Meter::start("backup", &Manner { verbose: 1, ..Manner::default() });
        assert!(logging.painter.is_some());
        logging.finish();
    }
}
