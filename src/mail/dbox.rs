//! Dovecot's sdbox (`u.N`) and mdbox (`m.N`) files.
//!
//! ```text
//! 2 M1e C5f3a2b1c LF                    version, size of a message header (hex), creation time (hex)
//! 01 02 'N' ' ' 8 bytes ' ' 16 hex LF   message header, 0x1e bytes: type, an old uid (spaces), message size
//! message
//! LF 01 03 LF  key value LF ...  LF     metadata, ended by an empty line
//! ```
//! In mdbox the next message header follows. A message header may be larger; its last byte is LF.

/// Longest file header line, bytes.
pub const FILE_HEADER_MAX: usize = 128;
/// Longest metadata block that is recognised, bytes.
pub const METADATA_MAX: usize = 64 << 10;
/// What a metadata block begins with.
pub const METADATA_MAGIC: &[u8] = b"\n\x01\x03\n";

const MESSAGE_MAGIC: &[u8] = b"\x01\x02";
/// Magic, type, space, old uid, space, size, LF.
const MESSAGE_HEADER_MIN: usize = 2 + 1 + 1 + 8 + 1 + 16 + 1;
const MESSAGE_HEADER_MAX: usize = 256;
const SIZE_AT: usize = 13;

/// Reads the file header line (without its LF) and returns the size of a message header, bytes.
pub fn file_header(line: &[u8]) -> Option<usize> {
    let mut words = line.split(|&byte| byte == b' ');
    let version = words.next()?;
    if version.is_empty() || version.len() > 4 || !version.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = words.find_map(|word| word.strip_prefix(b"M"))?;
    let size = usize::try_from(hex(size)?).ok()?;
    (MESSAGE_HEADER_MIN..=MESSAGE_HEADER_MAX).contains(&size).then_some(size)
}

/// Reads a message header of the size that the file header gave, and returns the size of the message, bytes.
pub fn message_header(header: &[u8]) -> Option<u64> {
    let kind = *header.get(2)?;
    let well_formed = header.starts_with(MESSAGE_MAGIC)
        && matches!(kind, b'N' | b'E')
        && header.get(3) == Some(&b' ')
        && header.get(12) == Some(&b' ')
        && header.last() == Some(&b'\n');
    if !well_formed { None } else { hex(header.get(SIZE_AT..SIZE_AT + 16)?) }
}

/// Bytes of the metadata block at the start of `data`, its empty line included; `None` when it does not end
/// within `data`.
pub fn metadata_length(data: &[u8]) -> Option<usize> {
    let lines = data.strip_prefix(METADATA_MAGIC)?;
    if lines.first() == Some(&b'\n') {
        return Some(METADATA_MAGIC.len() + 1);
    }
    Some(METADATA_MAGIC.len() + memchr::memmem::find(lines, b"\n\n")? + 2)
}

/// What the metadata of a message tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata<'a> {
    /// When it arrived, unix seconds.
    pub received: Option<i64>,
    /// What Dovecot tells it by.
    pub guid: Option<&'a [u8]>,
    /// The mailbox that it was first saved in.
    pub mailbox: Option<&'a [u8]>,
}

/// Reads the metadata that a frame behind a message begins with.
pub fn metadata(frame: &[u8]) -> Metadata<'_> {
    let mut found = Metadata::default();
    let Some(lines) = frame.strip_prefix(METADATA_MAGIC) else { return found };
    for line in lines.split(|&byte| byte == b'\n').take_while(|line| !line.is_empty()) {
        match (line[0], &line[1..]) {
            (b'R', value) => found.received = hex(value).and_then(|time| time.try_into().ok()),
            (b'G', value) => found.guid = Some(value).filter(|guid| !guid.is_empty()),
            (b'B', value) => found.mailbox = Some(value).filter(|mailbox| !mailbox.is_empty()),
            _ => {}
        }
    }
    found
}

fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits
        .iter()
        .try_fold(0u64, |value, &digit| Some(value << 4 | u64::from(char::from(digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        assert_eq!(file_header(b"2 M1e C5f3a2b1c"), Some(30));
        assert_eq!(file_header(b"1 A0 M1e C5f3a2b1c"), Some(30));
        for wrong in [&b"2 M1d C0"[..], b"2 Mffff C0", b"2 C0", b"", b"x M1e", b"2 M"] {
            assert_eq!(file_header(wrong), None);
        }
        assert_eq!(message_header(b"\x01\x02N          00000000000004D2\n"), Some(1234));
        assert_eq!(message_header(b"\x01\x02N 12345678 00000000000004d2\n"), Some(1234));
        assert_eq!(message_header(b"\x01\x02X          00000000000004D2\n"), None);
        assert_eq!(message_header(b"\x01\x02N          000000000000 4D2\n"), None);
        assert_eq!(message_header(b"\x01\x02N"), None);
    }

    #[test]
    fn metadata_tell_of_their_message() {
        let found = metadata(b"\n\x01\x03\nGaa01\nR5f3a2b1c\nV12\nBINBOX\n\n\x01\x02N");
        assert_eq!((found.received, found.guid), (Some(0x5f3a_2b1c), Some(&b"aa01"[..])));
        assert_eq!(found.mailbox, Some(&b"INBOX"[..]));
        assert_eq!(metadata(b"\nR5\n"), Metadata::default());
        assert_eq!(metadata(b"\n\x01\x03\nRx\nG"), Metadata::default());
    }

    #[test]
    fn metadata_ends_at_its_empty_line() {
        assert_eq!(metadata_length(b"\n\x01\x03\n\nrest"), Some(5));
        assert_eq!(metadata_length(b"\n\x01\x03\nR5f\nG12\n\nrest"), Some(13));
        assert_eq!(metadata_length(b"\n\x01\x03\nR5f\n"), None);
        assert_eq!(metadata_length(b"R5f\n\n"), None);
    }
}
