//! The one place that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, in nanoseconds since 1970-01-01T00:00:00Z.
pub type UnixNanos = i128;

/// Returns the wall clock.
pub fn now() -> UnixNanos {
    of(SystemTime::now())
}

/// The same for a time that the system gave.
pub fn of(time: SystemTime) -> UnixNanos {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as UnixNanos,
        Err(before) => -(before.duration().as_nanos() as UnixNanos),
    }
}

/// The same as the system takes it; a moment that it cannot hold becomes 1970.
pub fn system_time(at: UnixNanos) -> SystemTime {
    let far = Duration::from_nanos(at.unsigned_abs().try_into().unwrap_or_default());
    let moment = if at < 0 { UNIX_EPOCH.checked_sub(far) } else { UNIX_EPOCH.checked_add(far) };
    moment.unwrap_or(UNIX_EPOCH)
}

/// Returns the wall clock in whole seconds.
pub fn now_seconds() -> i64 {
    now().div_euclid(1_000_000_000) as i64
}

/// Which start of the machine this is; empty where the system does not tell.
pub fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().chars().take(64).collect()
}

/// Starts a stopwatch that no clock change disturbs.
pub fn stopwatch() -> Instant {
    Instant::now()
}
