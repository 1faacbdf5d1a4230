//! What a mail server notes of a message inside an mbox: flags, keywords and UIDs in header fields, the time of arrival
//! in the `From ` line.

use jiff::civil;
use jiff::tz::{Offset, TimeZone};

/// Fields that belong to the mbox and not to the message.
const FIELDS: [&[u8]; 7] =
    [b"status", b"x-status", b"x-keywords", b"x-uid", b"x-imapbase", b"x-imap", b"content-length"];

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The date of a `From ` line, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromDate {
    /// The year.
    pub year: i16,
    /// 1 to 12.
    pub month: i8,
    /// 1 to 31; not every month has as many.
    pub day: i8,
    /// 0 to 23.
    pub hour: i8,
    /// 0 to 59.
    pub minute: i8,
    /// 0 to 59.
    pub second: i8,
    /// Seconds east of Greenwich; without it the time is that of the server's own zone.
    pub offset_s: Option<i32>,
}

impl FromDate {
    /// Unix seconds; `zone` is that of a date without one. `None` for a day that its month has not.
    pub fn seconds(&self, zone: &TimeZone) -> Option<i64> {
        let FromDate { year, month, day, hour, minute, second, offset_s } = *self;
        let moment = civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        let zone = match offset_s {
            Some(seconds) => Offset::from_seconds(seconds).ok()?.to_time_zone(),
            None => zone.clone(),
        };
        Some(zone.to_zoned_datetime(moment).ok()?.timestamp().as_second())
    }
}

/// What the header of a message in an mbox says of its state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MboxState {
    /// Letters out of [`super::letter::FLAGS`], sorted.
    pub flags: Vec<u8>,
    /// Names of keywords.
    pub keywords: Vec<Vec<u8>>,
    /// `X-UID`.
    pub uid: Option<u32>,
    /// UIDVALIDITY and the last UID that was given away, where the message says it of the whole mbox.
    pub base: Option<(u32, u32)>,
    /// No message, but where the server keeps its notes.
    pub is_internal: bool,
    /// No program has looked at it.
    pub is_new: bool,
}

/// Reads the date of a `From ` line: `From a@x Thu Aug 22 12:36:23 2002`, with a zone like `+0200` behind or without.
pub fn from_date(line: &[u8]) -> Option<FromDate> {
    let words: Vec<&[u8]> =
        line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()).collect();
    let month_at = |four: &[&[u8]]| MONTHS.iter().position(|month| *month == four[0]);
    let (at, month) = words.windows(4).enumerate().rev().find_map(|(at, four)| {
        let month = month_at(four)?;
        four[2].contains(&b':').then_some((at, month))
    })?;
    let mut time = words[at + 2].split(|&byte| byte == b':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next().flatten().unwrap_or(0));
    let rest = &words[at + 3..];
    let year = rest.iter().find_map(|word| number(word).filter(|_| word.len() == 4))?;
    let offset_s = rest.iter().find_map(|word| zone(word));
    let fits = (1..=9999).contains(&year) && hour < 24 && minute < 60 && second <= 60;
    let day = number(words[at + 1]).filter(|day| (1..=31).contains(day) && fits)?;
    Some(FromDate {
        year: year as i16,
        month: month as i8 + 1,
        day: day as i8,
        hour: hour as i8,
        minute: minute as i8,
        second: second.min(59) as i8,
        offset_s,
    })
}

fn number(digits: &[u8]) -> Option<u32> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

fn zone(word: &[u8]) -> Option<i32> {
    let (sign, digits) = match word.split_first()? {
        (b'+', digits) => (1, digits),
        (b'-', digits) => (-1, digits),
        _ => return None,
    };
    let value = number(digits).filter(|value| digits.len() == 4 && value / 100 <= 14 && value % 100 < 60)?;
    Some(sign * (value / 100 * 3600 + value % 100 * 60) as i32)
}

/// The lines of a header block, folded ones together; the empty line that ends it is the last.
fn fields(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    let mut ended = false;
    std::iter::from_fn(move || {
        if rest.is_empty() || ended {
            return None;
        }
        let mut end = line_end(rest, 0);
        ended = rest[..end].trim_ascii().is_empty();
        while !ended && end < rest.len() && matches!(rest[end], b' ' | b'\t') {
            end = line_end(rest, end);
        }
        let field;
        (field, rest) = rest.split_at(end);
        Some(field)
    })
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    memchr::memchr(b'\n', &bytes[from..]).map_or(bytes.len(), |at| from + at + 1)
}

/// Name in lower case, and value, of a field that belongs to the mbox.
fn own_field(field: &[u8]) -> Option<(&'static [u8], &[u8])> {
    let colon = memchr::memchr(b':', field)?;
    let name = field[..colon].trim_ascii();
    let known = FIELDS.into_iter().find(|known| known.eq_ignore_ascii_case(name))?;
    Some((known, field[colon + 1..].trim_ascii()))
}

impl MboxState {
    /// Reads the header block that a message begins with.
    pub fn read(head: &[u8]) -> MboxState {
        let mut state = MboxState { is_new: true, ..MboxState::default() };
        for (name, value) in fields(head).filter_map(own_field) {
            let mut words = value.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
            match name {
                b"status" => {
                    state.is_new = !value.contains(&b'O') && !value.contains(&b'R');
                    state.flags.extend(value.contains(&b'R').then_some(b'S'));
                }
                b"x-status" => {
                    let known = [(b'A', b'R'), (b'F', b'F'), (b'T', b'D'), (b'D', b'T')];
                    state
                        .flags
                        .extend(known.iter().filter(|(own, _)| value.contains(own)).map(|(_, flag)| flag));
                }
                b"x-keywords" => state.keywords.extend(words.map(<[u8]>::to_vec)),
                b"x-uid" => state.uid = words.next().and_then(number).filter(|&uid| uid > 0),
                b"x-imapbase" | b"x-imap" => {
                    let two = words.next().and_then(number).zip(words.next().and_then(number));
                    state.base = state.base.or(two);
                    state.is_internal |= name == b"x-imap";
                }
                _ => {}
            }
        }
        state.flags.sort_unstable();
        state.flags.dedup();
        state
    }
}

/// The envelope sender, where the header block tells it.
pub fn envelope_sender(head: &[u8]) -> Option<&[u8]> {
    let field = fields(head).find(|field| {
        let name = field.split(|&byte| byte == b':').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"return-path")
    })?;
    let sender = super::message_id::bare(&field[memchr::memchr(b':', field)? + 1..]);
    (!sender.is_empty()).then_some(sender)
}

/// The header block without the fields that belong to the mbox.
pub fn without_state(head: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(head.len());
    fields(head).filter(|field| own_field(field).is_none()).for_each(|field| kept.extend_from_slice(field));
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn from_lines_have_dates() {
        let date = |line: &str| {
            let found = from_date(line.as_bytes())?;
            let text = format!(
                "{}-{:02}-{:02} {:02}:{:02}:{:02}",
                found.year, found.month, found.day, found.hour, found.minute, found.second
            );
            Some((text, found.offset_s))
        };
        let at = |text: &str, offset| Some((text.to_owned(), offset));
        assert_eq!(date("From a@x.org Thu Aug 22 12:36:23 2002\n"), at("2002-08-22 12:36:23", None));
        assert_eq!(date("From a Sat Sep  7 00:15:03 2002 +0230"), at("2002-09-07 00:15:03", Some(9000)));
        assert_eq!(
            date("\nFrom May b Thu Aug 2 12:36 -0100 2002\r\n"),
            at("2002-08-02 12:36:00", Some(-3600))
        );
        assert_eq!(date("From a Sat Jul 14 23:00:00 CEST 2007"), at("2007-07-14 23:00:00", None));
        for wrong in [
            "From a",
            "From a Thu Aug 42 12:36:23 2002",
            "From a Thu Aug 2 25:00 2002",
            "From a Thu Aug 2 2:00",
        ] {
            assert_eq!(date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn states_are_read_and_taken_out() {
        let head = b"From: a\nX-IMAPbase: 1795512345 0000000012 work\n $Later\nX-UID: 7\nStatus: RO\nX-Status: AFTD\n\
            X-Keywords: work   $Later\nContent-Length: 5\nSubject: x\n folded\n\nbody\nX-UID: 9\n";
        let state = MboxState::read(head);
        assert_eq!(state.flags, b"DFRST");
        assert_eq!(state.keywords, [b"work".to_vec(), b"$Later".to_vec()]);
        assert_eq!((state.uid, state.base), (Some(7), Some((1_795_512_345, 12))));
        assert!(!state.is_internal && !state.is_new);
        assert_eq!(without_state(head), b"From: a\nSubject: x\n folded\n\n");
        assert!(MboxState::read(b"X-IMAP: 1 2\n\n").is_internal);
        assert!(MboxState::read(b"From: a\n\n").is_new);
        assert_eq!(envelope_sender(b"Return-Path: <a@x>\nFrom: b\n\n"), Some(&b"a@x"[..]));
        assert_eq!(envelope_sender(b"Return-Path: <>\nFrom: b\n\nReturn-Path: c"), None);
        assert_eq!(MboxState::read(b"X-UID: 0\nX-IMAPbase: 1\n").uid, None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200), known in 0usize..4) {
            let begin: &[u8] = [&b"Status: "[..], b"X-UID: ", b"From a Thu Aug 22 12:", b""][known];
            let bytes = [begin, &bytes].concat();
            MboxState::read(&bytes);
            from_date(&bytes);
            prop_assert!(without_state(&bytes).len() <= bytes.len());
        }
    }
}
