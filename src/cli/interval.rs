//! Stretches of time as people write them: `2026-03`, `2026-03-01..2026-04-01`, `7d`. Half-open, in a zone that is told.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

use super::output::in_zone;
use crate::base::interval::Interval;

/// What can be written, for help texts.
pub const FORMS: &str = "2026, 2026-03, 2026-03-15, 2026-03-15T14:00, A..B, A.., ..B (B itself not), 7d, 12h";

/// One moment or stretch: where it begins and where what it names ends.
struct Named {
    from: Timestamp,
    to: Timestamp,
}

/// Understands a stretch of time; without an offset, dates are those of `zone`. `now` is what `7d` counts from.
pub fn parse(text: &str, zone: &TimeZone, now: Timestamp) -> Result<Interval, String> {
    let text = text.trim();
    let wrong = || format!("'{text}' is no time: {FORMS}");
    let seconds = |moment: Timestamp| Some(moment.as_second());
    if let Some((from, to)) = text.split_once("..") {
        let side = |text: &str| -> Result<Option<i64>, String> {
            if text.trim().is_empty() {
                return Ok(None);
            }
            let named = named(text.trim(), zone, now).ok_or_else(wrong)?;
            Ok(seconds(named.from))
        };
        let interval = Interval { from: side(from)?, to: side(to)? };
        return match (interval.from, interval.to) {
            (None, None) => Err(wrong()),
            (Some(from), Some(to)) if from >= to => Err(format!("'{text}' ends before it begins")),
            _ => Ok(interval),
        };
    }
    if let Some(span) = ago(text) {
        let from = now.checked_sub(span).map_err(|_| wrong())?;
        return Ok(Interval { from: seconds(from), to: None });
    }
    let named = named(text, zone, now).ok_or_else(wrong)?;
    Ok(Interval { from: seconds(named.from), to: seconds(named.to) })
}

/// `7d`, `12h`, `2w`: so long ago.
fn ago(text: &str) -> Option<Span> {
    let unit = text.chars().next_back().filter(char::is_ascii_lowercase)?;
    let number: i64 = text[..text.len() - 1].parse().ok().filter(|number| (0..100_000).contains(number))?;
    Some(match unit {
        'm' => number.minutes(),
        'h' => number.hours(),
        'd' => (number * 24).hours(),
        'w' => (number * 24 * 7).hours(),
        _ => return None,
    })
}

fn named(text: &str, zone: &TimeZone, now: Timestamp) -> Option<Named> {
    let at = |moment: DateTime| zone.to_timestamp(moment).ok();
    let days = |first: Date, behind: Date| {
        Some(Named {
            from: at(first.to_datetime(Default::default()))?,
            to: at(behind.to_datetime(Default::default()))?,
        })
    };
    let today = now.to_zoned_datetime(zone.clone()).date();
    match text {
        "now" => return Some(Named { from: now, to: now }),
        "today" => return days(today, today.tomorrow().ok()?),
        "yesterday" => return days(today.yesterday().ok()?, today),
        _ => {}
    }
    if let Some(span) = ago(text) {
        let from = now.checked_sub(span).ok()?;
        return Some(Named { from, to: from });
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    match text.len() {
        4 if digits => {
            let first = Date::new(text.parse().ok()?, 1, 1).ok()?;
            days(first, first.checked_add(1.year()).ok()?)
        }
        7 if digits => {
            let first = Date::new(text.get(..4)?.parse().ok()?, text.get(5..)?.parse().ok()?, 1).ok()?;
            days(first, first.checked_add(1.month()).ok()?)
        }
        8 | 10 if digits => {
            let day: Date = text.parse().ok()?;
            days(day, day.tomorrow().ok()?)
        }
        // ISO 8601 has shorter dates too, which are as often a mistake.
        _ if digits => None,
        _ => {
            // With an offset it is a moment by itself.
            if let Ok(moment) = text.parse::<Timestamp>() {
                return Some(Named { from: moment, to: moment.checked_add(1.second()).ok()? });
            }
            let moment: DateTime = text.parse().ok()?;
            let length = if text.matches(':').count() > 1 { 1.second() } else { 1.minute() };
            Some(Named { from: at(moment)?, to: at(moment.checked_add(length).ok()?)? })
        }
    }
}

/// Says what was understood, with offsets.
pub fn sentence(interval: &Interval, zone: &TimeZone) -> String {
    let moment = |second: i64| in_zone(i128::from(second) * 1_000_000_000, "%Y-%m-%d %H:%M:%S %:z", zone);
    match (interval.from, interval.to) {
        (Some(from), Some(to)) => format!("from {} up to, and not including, {}", moment(from), moment(to)),
        (Some(from), None) => format!("from {} on", moment(from)),
        (None, Some(to)) => format!("before {}", moment(to)),
        (None, None) => "at any time".to_owned(),
    }
}

/// The zone that somebody named, or the system's.
pub fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        None => Ok(TimeZone::system()),
        Some(name) => {
            TimeZone::get(name).map_err(|_| format!("no time zone '{name}'; one is Europe/Berlin, or UTC"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now = "2026-03-29T10:00:00Z".parse().unwrap();
        match parse(text, &zone, now) {
            Ok(interval) => sentence(&interval, &zone),
            Err(error) => error,
        }
    }

    #[test]
    fn times_are_understood_as_people_mean_them() {
        for (text, expected) in [
            (
                "2026-03",
                "from 2026-03-01 00:00:00 +01:00 up to, and not including, 2026-04-01 00:00:00 +02:00",
            ),
            (
                "2026-03-29",
                "from 2026-03-29 00:00:00 +01:00 up to, and not including, 2026-03-30 00:00:00 +02:00",
            ),
            ("2025", "from 2025-01-01 00:00:00 +01:00 up to, and not including, 2026-01-01 00:00:00 +01:00"),
            (
                "2026-03-01..2026-03-03",
                "from 2026-03-01 00:00:00 +01:00 up to, and not including, 2026-03-03 00:00:00 +01:00",
            ),
            ("2026-03-01..", "from 2026-03-01 00:00:00 +01:00 on"),
            (
                "20260301",
                "from 2026-03-01 00:00:00 +01:00 up to, and not including, 2026-03-02 00:00:00 +01:00",
            ),
            ("..2026", "before 2026-01-01 00:00:00 +01:00"),
            ("7d", "from 2026-03-22 11:00:00 +01:00 on"),
            (
                "2d..1d",
                "from 2026-03-27 11:00:00 +01:00 up to, and not including, 2026-03-28 11:00:00 +01:00",
            ),
            (
                "yesterday",
                "from 2026-03-28 00:00:00 +01:00 up to, and not including, 2026-03-29 00:00:00 +01:00",
            ),
            (
                "2026-03-01T14:00Z",
                "from 2026-03-01 15:00:00 +01:00 up to, and not including, 2026-03-01 15:00:01 +01:00",
            ),
            (
                "2026-03-01T14:30",
                "from 2026-03-01 14:30:00 +01:00 up to, and not including, 2026-03-01 14:31:00 +01:00",
            ),
            (
                "2026-03-01 14:30..now",
                "from 2026-03-01 14:30:00 +01:00 up to, and not including, 2026-03-29 12:00:00 +02:00",
            ),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
        for wrong in ["", "..", "2026-13", "2026-02-30", "soon", "7x", "March", "-5d", "9999999d"] {
            assert!(told(wrong).contains("is no time"), "{wrong}: {}", told(wrong));
        }
        assert_eq!(told("2026-03-03..2026-03-01"), "'2026-03-03..2026-03-01' ends before it begins");
        assert!(zone(Some("Nowhere")).is_err() && zone(Some("UTC")).is_ok());
    }
}
