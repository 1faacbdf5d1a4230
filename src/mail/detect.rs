//! What the first bytes of a file say: a message, a coded message, or neither.

/// Bytes at the start of a file that the tests here want to see.
pub const DETECT_BYTES: usize = 1024;

/// Longest field name that is taken for one, bytes.
const FIELD_NAME_MAX: usize = 128;

/// Magics of messages that a mail server has compressed or encrypted (Dovecot's zlib and mail_crypt).
const CODED: [&[u8]; 6] = [
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"Dovecot-LZ4\x0d\x2a\x9b\xc5",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"CRYPTED\x03\x07",
];

/// Fields that nearly every message has, in lower case; others may stand between them.
const KNOWN: [&[u8]; 10] = [
    b"received",
    b"return-path",
    b"delivered-to",
    b"message-id",
    b"date",
    b"from",
    b"to",
    b"subject",
    b"mime-version",
    b"x-original-to",
];

/// True when a message file begins with the magic of a compression or encryption.
pub fn is_coded(start: &[u8]) -> bool {
    CODED.iter().any(|magic| start.starts_with(magic))
}

/// The field name of a header line: printable bytes before a colon, blanks before the colon allowed.
pub fn field_name(line: &[u8]) -> Option<&[u8]> {
    let window = &line[..line.len().min(FIELD_NAME_MAX)];
    let name = window[..memchr::memchr(b':', window)?].trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

/// True when a file in a mail folder can be taken for a message: its first line is a header line, the `From `
/// line of an mbox that slipped in, or empty.
pub fn may_begin_message(start: &[u8]) -> bool {
    start.starts_with(b"\n")
        || start.starts_with(b"\r\n")
        || start.starts_with(b"From ")
        || start.starts_with(b">From ")
        || field_name(first_line(start)).is_some()
}

/// True when any file may be taken for a message: in its first kilobyte every complete line of the header
/// block is a header line or folded, and at least three different fields are ones that nearly every message
/// has.
pub fn looks_like_message(start: &[u8]) -> bool {
    let start = &start[..start.len().min(DETECT_BYTES)];
    let mut known = 0u32;
    for (number, line) in start.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let complete = line.ends_with(b"\n");
        if line.trim_ascii().is_empty() && complete {
            break;
        }
        if number > 0 && matches!(line[0], b' ' | b'\t') {
            continue;
        }
        match field_name(line) {
            Some(name) => {
                let which = KNOWN.iter().position(|field| field.eq_ignore_ascii_case(name));
                known |= which.map_or(0, |which| 1 << which);
            }
            None if complete => return false,
            None => break,
        }
    }
    known.count_ones() >= 3
}

fn first_line(start: &[u8]) -> &[u8] {
    &start[..memchr::memchr(b'\n', start).unwrap_or(start.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_from_other_files() {
        let message = b"Received: by mx\n\tid 1\nDate: today\nFrom: a\nX-Odd: 1\n\nno header: here\n";
        assert!(looks_like_message(message));
        assert!(!looks_like_message(b"From: a\nTo: b\n\nletter draft"));
        assert!(!looks_like_message(b"server:\n  port: 25\n"));
        assert!(!looks_like_message(b"Date: 1\nFrom: 2\nnot a field\nTo: 3\n\n"));
        assert!(!looks_like_message(b""));
        assert!(may_begin_message(b"Subject: x\n") && may_begin_message(b"\nbody"));
        assert!(!may_begin_message(b"\x00\x01:") && !may_begin_message(b"no colon\nTo: x\n"));
        assert!(is_coded(b"\x1f\x8b\x08rest") && !is_coded(b"\x1f"));
    }
}
