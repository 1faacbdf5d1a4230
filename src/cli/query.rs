//! The options by which people say which messages they mean.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::failure::{Failure, Kind};
use super::interval;
use crate::base::clock;
use crate::base::interval::Interval;
use crate::index::catalogue::Query;
use crate::mail::message_id;

/// Flags by the names that people know; the letter is that of Maildir.
const FLAGS: [(&str, u8); 8] = [
    ("seen", b'S'),
    ("read", b'S'),
    ("answered", b'R'),
    ("flagged", b'F'),
    ("draft", b'D'),
    ("deleted", b'T'),
    ("forwarded", b'P'),
    ("passed", b'P'),
];

/// Which messages.
#[derive(Debug, Clone, Default, Args)]
pub struct QueryArgs {
    /// Words in senders, receivers, subject or attachment names; each may be the beginning of a word
    #[arg(value_name = "WORD")]
    pub words: Vec<String>,
    /// Mail of this user; without a domain, of any domain
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// In this folder: INBOX, Archive/2024
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<String>,
    /// Words or an address of the sender
    #[arg(long, value_name = "WORDS")]
    pub from: Option<String>,
    /// Words or an address of those who received it, copies included
    #[arg(long, value_name = "WORDS")]
    pub to: Option<String>,
    /// Words of the subject
    #[arg(long, value_name = "WORDS")]
    pub subject: Option<String>,
    /// Words of an attachment's name
    #[arg(long, value_name = "WORDS")]
    pub attachment: Option<String>,
    /// The message with this Message-ID
    #[arg(long, value_name = "ID")]
    pub message_id: Option<String>,
    /// The message with this id, as 'find' shows it
    #[arg(long, value_name = "ID", value_parser = content_digits)]
    pub id: Option<String>,
    /// Arrived then: 2026-03, 2026-03-01..2026-03-15 (the 15th not), 7d
    #[arg(long, value_name = "WHEN")]
    pub received: Option<String>,
    /// Sent then, by the clock of the sender
    #[arg(long, value_name = "WHEN")]
    pub sent: Option<String>,
    /// Read times in this zone, such as Europe/Berlin [default: the system's]
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// At least this large: 500k, 2M
    #[arg(long, value_name = "SIZE", value_parser = bytes_of)]
    pub larger: Option<u64>,
    /// At most this large
    #[arg(long, value_name = "SIZE", value_parser = bytes_of)]
    pub smaller: Option<u64>,
    /// With this flag: seen, answered, flagged, draft, deleted, forwarded; `no-seen` for without; repeat for more
    #[arg(long = "flag", value_name = "FLAG", value_parser = flag)]
    pub flags: Vec<Flag>,
    /// With this keyword
    #[arg(long, value_name = "NAME")]
    pub keyword: Option<String>,
    /// With this UID
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,
}

/// A flag that a message must have, or must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    letter: u8,
    wanted: bool,
}

fn flag(text: &str) -> Result<Flag, String> {
    let (name, wanted) = text.strip_prefix("no-").map_or((text, true), |name| (name, false));
    let found = FLAGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let letter = found.map(|(_, letter)| *letter).ok_or_else(|| {
        format!(
            "'{text}' is no flag: seen, answered, flagged, draft, deleted, forwarded, or no-seen and so on"
        )
    })?;
    Ok(Flag { letter, wanted })
}

fn content_digits(text: &str) -> Result<String, String> {
    let fits = (4..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("'{text}' is no message id: 4 to 32 hex digits"))
    }
}

/// A size as people write it: `500`, `500k`, `2M`, `1G`.
pub fn bytes_of(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no size like 500k or 2M");
    let digits = text.trim_end_matches(['B', 'b']).trim_end_matches(['i']);
    let (digits, unit) = match digits.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&digits[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&digits[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&digits[..at], 1 << 30),
        _ => (digits, 1),
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

/// The names of Maildir flags for people.
pub fn flag_names(letters: &[u8]) -> Vec<&'static str> {
    let name = |letter: &u8| FLAGS.iter().find(|(_, known)| known == letter).map(|(name, _)| *name);
    letters.iter().filter_map(name).collect()
}

/// Moment from which `7d` counts back.
pub fn now() -> Timestamp {
    Timestamp::from_nanosecond(clock::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl QueryArgs {
    /// The zone that was named, or the system's.
    pub fn time_zone(&self) -> Result<TimeZone, Failure> {
        interval::zone(self.zone.as_deref()).map_err(|text| Failure::new(Kind::Usage, text))
    }

    /// Understands a stretch of time in the zone of these options.
    pub fn interval(&self, text: Option<&str>) -> Result<Interval, Failure> {
        let Some(text) = text else { return Ok(Interval::default()) };
        interval::parse(text, &self.time_zone()?, now()).map_err(|text| Failure::new(Kind::Usage, text))
    }

    /// What is asked for.
    pub fn to_query(&self) -> Result<Query, Failure> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let letters = |wanted: bool| {
            self.flags.iter().filter(|flag| flag.wanted == wanted).map(|flag| flag.letter).collect()
        };
        let id = self.message_id.as_ref();
        let id = id.map(|id| String::from_utf8_lossy(message_id::bare(id.as_bytes())).into_owned());
        Ok(Query {
            words: self.words.join(" "),
            sender: text(&self.from),
            receivers: text(&self.to),
            subject: text(&self.subject),
            attachment: text(&self.attachment),
            message_id: id,
            content: self.id.clone(),
            user: self.user.clone(),
            folder: self.folder.clone(),
            arrived: self.interval(self.received.as_deref())?,
            sent: self.interval(self.sent.as_deref())?,
            size_min: self.larger,
            size_max: self.smaller,
            with_flags: letters(true),
            without_flags: letters(false),
            keyword: self.keyword.clone(),
            uid: self.uid,
            ..Query::default()
        })
    }

    /// What was understood of the times that were asked for, one sentence each.
    pub fn times(&self, query: &Query) -> Result<Vec<String>, Failure> {
        let zone = self.time_zone()?;
        let told = [("received", &query.arrived), ("sent", &query.sent), ("gone", &query.gone)];
        let told = told.into_iter().filter(|(_, interval)| !interval.is_open());
        Ok(told.map(|(what, interval)| format!("{what} {}", interval::sentence(interval, &zone))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_flags_are_understood() {
        assert_eq!(
            (bytes_of("500"), bytes_of("500k"), bytes_of("2MiB")),
            (Ok(500), Ok(512_000), Ok(2 << 20))
        );
        for wrong in ["", "k", "2T", "-1", "99999999999999999999"] {
            assert!(bytes_of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(flag("Seen"), Ok(Flag { letter: b'S', wanted: true }));
        assert_eq!(flag("no-flagged"), Ok(Flag { letter: b'F', wanted: false }));
        assert!(flag("unseen").is_err() && flag("no-").is_err());
        assert_eq!(flag_names(b"FS"), ["flagged", "seen"]);
        assert!(
            content_digits("3F2a").is_ok()
                && content_digits("3f").is_err()
                && content_digits("xyzw").is_err()
        );
    }
}
