//! What a message says of itself in its headers, decoded as far as anybody can: for searching and for people.
//!
//! Reads the `head` of a message: its header block and the delimiter and header lines of its parts, nothing else.
//! Encoded words (RFC 2047), parameters (RFC 2231), raw 8-bit text and broken headers all give something; nothing
//! here fails. Every text is bounded, whatever a sender wrote.

use std::borrow::Cow;

use mail_parser::{Address, HeaderName, Message, MessageParser, MimeHeaders};

use super::message_id;

/// Bytes of a head that are looked at; what stands behind is no header that anybody wrote by hand.
const HEAD_BYTES_MAX: usize = 256 << 10;
/// Bytes of a line that are looked at in a head that is larger.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Longest text of one field, bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Most attachment names of a message.
const ATTACHMENTS_MAX: usize = 100;

/// The fields of a message that people look for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heading {
    /// The sender's clock, unix seconds; `None` where there is no date or no valid one.
    pub date: Option<i64>,
    /// Senders, `Name <address>` joined with commas.
    pub from: String,
    /// Receivers.
    pub to: String,
    /// Receivers of copies, hidden ones too where they are written.
    pub cc: String,
    /// The subject.
    pub subject: String,
    /// The id without angle brackets; empty without one.
    pub message_id: String,
    /// Names of its attachments, one a line.
    pub attachments: String,
}

/// Reads headings; making one is not free, using it is.
pub struct HeadingReader {
    parser: MessageParser,
}

impl Default for HeadingReader {
    fn default() -> Self {
        let parser = MessageParser::new()
            .with_mime_headers()
            .header_date(HeaderName::Date)
            .header_text(HeaderName::Subject)
            .header_address(HeaderName::From)
            .header_address(HeaderName::To)
            .header_address(HeaderName::Cc)
            .header_address(HeaderName::Bcc)
            .default_header_ignore();
        HeadingReader { parser }
    }
}

impl HeadingReader {
    /// Reads the head of a message, which is a message whose parts are empty.
    pub fn read(&self, head: &[u8]) -> Heading {
        self.read_whole(&bounded(head))
    }

    /// Reads a whole message, in time and memory of its size.
    pub fn read_whole(&self, head: &[u8]) -> Heading {
        let mut heading = Heading::default();
        if let Some(id) = message_id::find(head) {
            heading.message_id = bound(&String::from_utf8_lossy(&id)).to_owned();
        }
        let text = readable(head);
        let Some(message) = self.parser.parse(text.as_ref()) else { return heading };
        heading.date = message.date().filter(|date| date.is_valid()).map(mail_parser::DateTime::to_timestamp);
        heading.from = addresses(message.from());
        heading.to = addresses(message.to());
        heading.cc = addresses(message.cc());
        let hidden = addresses(message.bcc());
        if !hidden.is_empty() {
            heading.cc = bound(&[heading.cc, hidden].join(", ")).trim_start_matches(", ").to_owned();
        }
        heading.subject = one_line(message.subject().unwrap_or_default());
        heading.attachments = attachments(&message);
        heading
    }
}

/// As much of a head as is looked at: of a large one the beginnings of its lines, so that no line hides the next.
fn bounded(head: &[u8]) -> Cow<'_, [u8]> {
    if head.len() <= HEAD_BYTES_MAX {
        return Cow::Borrowed(head);
    }
    let mut kept = Vec::with_capacity(HEAD_BYTES_MAX);
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        let end = line.len().min(LINE_BYTES_MAX);
        if kept.len() + end > HEAD_BYTES_MAX {
            break;
        }
        kept.extend_from_slice(&line[..end]);
        if end < line.len() {
            kept.push(b'\n');
        }
    }
    Cow::Owned(kept)
}

fn bound(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Folds, tabs and other control characters become one blank each.
fn one_line(text: &str) -> String {
    let text = bound(text);
    let mut line = String::with_capacity(text.len());
    add_line(text, &mut line);
    line
}

/// The same, behind what is there; false when nothing was added.
fn add_line(text: &str, line: &mut String) -> bool {
    let begin = line.len();
    for word in bound(text).split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty()) {
        if line.len() > begin {
            line.push(' ');
        }
        line.push_str(word);
    }
    line.len() > begin
}

/// Lines that are no UTF-8 are read in the charset that the message names, else as Windows-1252, as programs that
/// write raw bytes mean it.
fn readable(head: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(head).is_ok() {
        return Cow::Borrowed(head);
    }
    let charset = named_charset(head).unwrap_or(encoding_rs::WINDOWS_1252);
    let mut text = Vec::with_capacity(head.len() * 2);
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        match std::str::from_utf8(line) {
            Ok(_) => text.extend_from_slice(line),
            Err(_) => text.extend_from_slice(charset.decode_without_bom_handling(line).0.as_bytes()),
        }
    }
    Cow::Owned(text)
}

/// The charset of the first `charset=` in a head.
fn named_charset(head: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    const KEY: &[u8] = b"charset=";
    let at = head.windows(KEY.len()).position(|window| window.eq_ignore_ascii_case(KEY))?;
    let value = head[at + KEY.len()..].strip_prefix(b"\"").unwrap_or(&head[at + KEY.len()..]);
    let end = value.iter().position(|byte| matches!(byte, b'"' | b';' | b'\r' | b'\n' | b' '));
    let charset = encoding_rs::Encoding::for_label(&value[..end.unwrap_or(value.len()).min(64)])?;
    (charset != encoding_rs::UTF_8).then_some(charset)
}

fn addresses(list: Option<&Address<'_>>) -> String {
    let mut text = String::new();
    for address in list.into_iter().flat_map(Address::iter) {
        if text.len() >= TEXT_BYTES_MAX {
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        let has_name = add_line(address.name().unwrap_or_default(), &mut text);
        let named = text.len();
        if has_name {
            text.push_str(" <");
        }
        if !add_line(address.address().unwrap_or_default(), &mut text) {
            text.truncate(named);
        } else if has_name {
            text.push('>');
        }
    }
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

fn attachments(message: &Message<'_>) -> String {
    let names = message.parts.iter().filter_map(MimeHeaders::attachment_name);
    let names = names.map(one_line).filter(|name| !name.is_empty()).take(ATTACHMENTS_MAX);
    bound(&names.collect::<Vec<_>>().join("\n")).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(head: &[u8]) -> Heading {
        HeadingReader::default().read(head)
    }

    #[test]
    fn fields_are_decoded() {
        let heading = read(
            b"Received: by mx\nDate: Thu, 12 Mar 2026 14:02:11 +0100\nFrom: =?utf-8?q?J=C3=B6rg_B=C3=A4r?= <jb@x.org>\n\
              To: a@x.org, \"Lee, Bo\" <b@y.org>\nCc: list:c@z.org, d@z.org;\nSubject: =?iso-2022-jp?B?GyRCN0BMcxsoQg==?=\n \
              (signed)\nMessage-ID: <1@x>\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\n--b\n\
              Content-Type: application/pdf\nContent-Disposition: attachment; filename*=utf-8''Vertrag%20%C3%9C.pdf\n\n--b\n\
              Content-Type: image/png; name=\"=?utf-8?B?6KGo?=.png\"\n\n--b--\n",
        );
        assert_eq!(heading.date, Some(1_773_320_531));
        assert_eq!(heading.from, "Jörg Bär <jb@x.org>");
        assert_eq!(heading.to, "a@x.org, Lee, Bo <b@y.org>");
        assert_eq!(heading.cc, "c@z.org, d@z.org");
        assert_eq!(heading.subject, "契約 (signed)");
        assert_eq!(heading.message_id, "1@x");
        assert_eq!(heading.attachments, "Vertrag Ü.pdf\n表.png");
    }

    #[test]
    fn raw_bytes_are_read_as_they_were_meant() {
        assert_eq!(read(b"Subject: Gr\xfc\xdfe\n\n").subject, "Grüße");
        assert_eq!(read("Subject: Grüße\n\n".as_bytes()).subject, "Grüße");
        let chinese = b"Subject: \xba\xcf\xcd\xac\nContent-Type: text/plain; charset=\"gb2312\"\n\n";
        assert_eq!(read(chinese).subject, "合同");
        let both = [b"From: \xe9 <a@x>\nSubject: ", "契約\n\n".as_bytes()].concat();
        assert_eq!((read(&both).from.as_str(), read(&both).subject.as_str()), ("é <a@x>", "契約"));
    }

    #[test]
    fn broken_heads_give_what_they_have() {
        assert_eq!(read(b""), Heading::default());
        assert_eq!(read(b"no header at all"), Heading::default());
        assert_eq!(read(b"Subject: x\x1b[2Jy\r\nDate: never\r\n").subject, "x [2Jy");
        assert_eq!(read(b"Date: 32 Foo 99999 99:99:99 +9999\n\n").date, None);
        assert_eq!(read(b"Subject: =?utf-8?q?=FF=FE?= =?no-such?b?!!?=\n\n").date, None);
        let hidden =
            [&b"Subject: "[..], &b"x".repeat(1 << 20), b"\nFrom: b@x\nMessage-ID: <1@x>\n\n"].concat();
        assert_eq!((read(&hidden).from.as_str(), read(&hidden).message_id.as_str()), ("b@x", "1@x"));
        let long = [b"To: ".to_vec(), b"somebody@example.org, ".repeat(100_000)].concat();
        assert!(read(&long).to.len() <= TEXT_BYTES_MAX);
        let deep =
            [&b"Subject: deep\n"[..], &b"Content-Type: multipart/mixed; boundary=b\n\n--b\n".repeat(5_000)]
                .concat();
        assert_eq!(read(&deep).subject, "deep");
        let parts = [
            &b"Content-Type: multipart/mixed; boundary=b\n\n"[..],
            &b"--b\nContent-Disposition: attachment; filename=a\n\n".repeat(5_000),
        ];
        assert_eq!(read(&parts.concat()).attachments.lines().count(), ATTACHMENTS_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400), known in 0usize..6) {
            let begin: &[u8] = [&b""[..], b"Subject: ", b"From: ", b"Date: ", b"Content-Type: ", b"To: g: "][known];
            let heading = read(&[begin, &bytes].concat());
            prop_assert!(!heading.subject.contains(char::is_control));
        }
    }
}
