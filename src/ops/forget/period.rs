//! Lengths of time as people keep backups: `1y2m3d4h`, counted by the calendar.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::base::clock::UnixNanos;

/// Most of one unit.
const COUNT_MAX: u32 = 9_999;

/// Years, months, days and hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    counts: [u32; 4],
}

const UNITS: [char; 4] = ['y', 'm', 'd', 'h'];

/// A text that is no period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no length of time: numbers up to {COUNT_MAX} with y, m, d or h behind them, such as 1y6m or 14d"
)]
pub struct PeriodError(String);

impl Period {
    /// So many hours.
    pub fn hours(hours: u16) -> Period {
        Period { counts: [0, 0, 0, u32::from(hours).min(COUNT_MAX)] }
    }

    /// The moment that lies this long before `at`, by the calendar of a time zone.
    pub fn before(&self, at: UnixNanos, zone: &TimeZone) -> UnixNanos {
        let [years, months, days, hours] = self.counts;
        let span = Span::new().years(years).months(months).days(days).hours(hours);
        let there = timestamp(at).to_zoned_datetime(zone.clone()).checked_sub(span);
        there.map_or(UnixNanos::MIN, |there| there.timestamp().as_nanosecond())
    }
}

/// The same moment for the calendar, which ends in the year 9999.
pub(super) fn timestamp(at: UnixNanos) -> Timestamp {
    let end = if at < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_nanosecond(at).unwrap_or(end)
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Period, PeriodError> {
        let wrong = || PeriodError(text.to_owned());
        if text == "0" {
            return Ok(Period::default());
        }
        let mut counts = [None; 4];
        let mut rest = text;
        while let Some(end) = rest.find(|letter: char| !letter.is_ascii_digit()) {
            let letter = rest[end..].chars().next().ok_or_else(wrong)?;
            let unit = UNITS.iter().position(|&known| known == letter).ok_or_else(wrong)?;
            let count = rest[..end].parse().ok().filter(|count| *count <= COUNT_MAX).ok_or_else(wrong)?;
            if counts[unit].replace(count).is_some() {
                return Err(wrong());
            }
            rest = &rest[end + letter.len_utf8()..];
        }
        if !rest.is_empty() || counts == [None; 4] {
            return Err(wrong());
        }
        Ok(Period { counts: counts.map(Option::unwrap_or_default) })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.counts == [0; 4] {
            return f.write_str("0");
        }
        let mut units = self.counts.iter().zip(UNITS).filter(|(count, _)| **count > 0);
        units.try_for_each(|(count, unit)| write!(f, "{count}{unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_and_written() {
        for text in ["1y2m3d4h", "14d", "24h", "9999y", "0"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        assert_eq!("0d".parse::<Period>(), Ok(Period::default()));
        assert_eq!("3d1y".parse::<Period>().unwrap().to_string(), "1y3d");
        for wrong in ["", "1", "d", "1d2", "1x", "1d1d", "-1d", "10000d", "99999999999d", "1 d", "1d ", "1ä"]
        {
            assert!(wrong.parse::<Period>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_calendar_decides_how_long_a_month_is() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_nanosecond();
        let before = |period: &str, text| period.parse::<Period>().unwrap().before(at(text), &zone);
        assert_eq!(before("1m", "2026-03-31T12:00:00+02:00"), at("2026-02-28T12:00:00+01:00"));
        // A day is as long as the clocks on the wall make it, an hour is an hour.
        assert_eq!(before("1d", "2026-03-29T12:00:00+02:00"), at("2026-03-28T12:00:00+01:00"));
        assert_eq!(before("24h", "2026-03-29T12:00:00+02:00"), at("2026-03-28T11:00:00+01:00"));
    }

    #[test]
    fn no_period_leaves_the_calendar() {
        let zone = TimeZone::UTC;
        let year_1 = -62_000_000_000 * 1_000_000_000;
        assert_eq!("9999y9999m".parse::<Period>().unwrap().before(year_1, &zone), UnixNanos::MIN);
        Period::hours(24).before(UnixNanos::MAX, &zone);
        Period::hours(24).before(UnixNanos::MIN, &zone);
    }
}
