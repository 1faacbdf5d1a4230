//! mbox: messages one after the other, each after a `From ` line, with a blank line before it.

use jiff::tz::TimeZone;

use super::mbox_state;

/// Longest `From ` line that is recognised, bytes with its line ending.
pub const FROM_LINE_MAX: usize = 512;

const DAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// True for a line (with or without its ending) that separates messages: `From `, anything, then a date as
/// ctime writes it (`Thu Aug 22 12:36:23`), so that a sentence that begins with "From" does not cut a
/// message.
pub fn is_from_line(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"From ") else { return false };
    if line.len() > FROM_LINE_MAX {
        return false;
    }
    let words: Vec<&[u8]> = rest
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        .filter(|word| !word.is_empty())
        .collect();
    words.windows(4).any(|four| {
        DAYS.contains(&four[0])
            && MONTHS.contains(&four[1])
            && four[2].len() <= 2
            && four[2].iter().all(u8::is_ascii_digit)
            && is_time(four[3])
    })
}

/// When a `From ` line says that its message arrived, unix seconds. Without a zone it is taken for UTC.
pub fn arrival(line: &[u8]) -> Option<i64> {
    is_from_line(line).then(|| mbox_state::from_date(line))??.seconds(&TimeZone::UTC)
}

/// `h:mm`, `hh:mm` or `hh:mm:ss`.
fn is_time(word: &[u8]) -> bool {
    let fields: Vec<&[u8]> = word.split(|&byte| byte == b':').collect();
    matches!(fields.len(), 2 | 3)
        && fields.iter().all(|field| matches!(field.len(), 1 | 2) && field.iter().all(u8::is_ascii_digit))
}

/// Where the blank line begins that ends just before `at`, the place of a line feed; `None` when the bytes
/// before `at` are no end of a line.
///
/// `data[at]` is the line feed of the blank line; a CR before it belongs to it.
pub fn blank_line_start(data: &[u8], at: usize) -> Option<usize> {
    match &data[..at] {
        [.., b'\n'] => Some(at),
        [.., b'\n', b'\r'] => Some(at - 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dated_lines_separate() {
        for good in [
            &b"From a@example.org Thu Aug 22 12:36:23 2002\n"[..],
            b"From MAILER-DAEMON  Thu Aug  2 12:36 2002\r\n",
            b"From \"a b\"@example.org Sat Sep  7 00:15:03 2002 +0200",
            b"From - Tue Jan 10 08:00:00 2023\n",
        ] {
            assert!(is_from_line(good));
        }
        for bad in [
            &b"From here on Thu we walk\n"[..],
            b"From: a@example.org Thu Aug 22 12:36:23 2002\n",
            b"From a@example.org\n",
            b"from a Thu Aug 22 12:36:23 2002\n",
            b"From a Thu Aug 22 noon 2002\n",
        ] {
            assert!(!is_from_line(bad));
        }
    }

    #[test]
    fn from_lines_tell_when() {
        for (line, seconds) in [
            (&b"From a@example.org Thu Aug 22 12:36:23 2002\n"[..], 1_030_019_783),
            (b"From a Sat Sep  7 00:15:03 2002 +0200", 1_031_350_503),
            (b"From - Tue Jan 10 08:00 2023\n", 1_673_337_600),
            (b"From a Thu Aug 22 12:36:23 CEST 2002", 1_030_019_783),
        ] {
            assert_eq!(arrival(line), Some(seconds), "{}", String::from_utf8_lossy(line));
        }
        for bad in [
            &b"From a Thu Aug 99 12:36:23 2002"[..],
            b"From a Thu Aug 22 12:36:23",
            b"From a Thu Aug 22 77:36 2002",
        ] {
            assert_eq!(arrival(bad), None);
        }
    }

    #[test]
    fn blank_lines_are_found_from_behind() {
        assert_eq!(blank_line_start(b"a\n\n", 2), Some(2));
        assert_eq!(blank_line_start(b"a\r\n\r\n", 4), Some(3));
        assert_eq!(blank_line_start(b"a\n", 1), None);
        assert_eq!(blank_line_start(b"\n", 0), None);
    }
}
