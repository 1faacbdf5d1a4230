//! A message as somebody reads it: its headings, its text, its attachments.

use mail_parser::{HeaderName, MessageParser, MimeHeaders, PartType};

use super::heading::{Heading, HeadingReader};

/// Most attachments that are told apart.
const ATTACHMENTS_MAX: usize = 1_000;
/// Longest file name that an attachment is given, bytes.
const NAME_BYTES_MAX: usize = 200;

/// A message taken apart for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its headings.
    pub heading: Heading,
    /// Its text; that of HTML where there is no other.
    pub text: String,
    /// Its attachments, in order.
    pub attachments: Vec<Attachment>,
    /// Attachments behind those.
    pub more: usize,
}

/// An attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// A plain file name: no folder, no control character, never hidden, never empty.
    pub name: String,
    /// Its media type, such as `image/png`.
    pub media_type: String,
    /// Its bytes, decoded.
    pub content: Vec<u8>,
}

/// Reads a whole message; any bytes give something.
pub fn read(message: &[u8]) -> Reading {
    let heading = HeadingReader::default().read_whole(message);
    let parser = MessageParser::new().with_mime_headers().header_text(HeaderName::Subject);
    let Some(parsed) = parser.parse(message) else {
        return Reading { heading, text: String::new(), attachments: Vec::new(), more: 0 };
    };
    let bodies: Vec<String> = (0..parsed.text_body_count())
        .filter_map(|number| Some(parsed.body_text(number)?.into_owned()))
        .collect();
    let attachments = parsed.attachments().take(ATTACHMENTS_MAX).enumerate();
    let attachments = attachments.map(|(number, part)| {
        let media_type = part.content_type().map_or_else(
            || "application/octet-stream".to_owned(),
            |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream")),
        );
        let content = match &part.body {
            // A message in a message is kept as it is.
            PartType::Message(inner) => inner.raw_message().to_vec(),
            _ => part.contents().to_vec(),
        };
        let is_message = matches!(part.body, PartType::Message(_));
        let name = file_name(part.attachment_name().unwrap_or_default(), number + 1, is_message);
        Attachment { name, media_type, content }
    });
    let more = parsed.attachment_count().saturating_sub(ATTACHMENTS_MAX);
    Reading { heading, text: bodies.join("\n"), attachments: attachments.collect(), more }
}

/// A file name that does nothing but name a file.
fn file_name(given: &str, number: usize, is_message: bool) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last.chars().filter(|letter| !letter.is_control()).collect();
    let plain = plain.trim().trim_start_matches('.').trim();
    let end = if is_message { ".eml" } else { "" };
    if plain.is_empty() {
        return format!("attachment-{number}{end}");
    }
    plain[..plain.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_read() {
        let reading = read(
            b"From: a@b\nSubject: two\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\
              Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe\n--b\n\
              Content-Type: application/pdf; name=\"../../etc/passwd\"\nContent-Disposition: attachment\n\
              Content-Transfer-Encoding: base64\n\naGVsbG8=\n--b\nContent-Type: message/rfc822\n\nSubject: inner\n\nbody\n--b--\n",
        );
        assert_eq!((reading.text.trim(), reading.heading.subject.as_str()), ("Grüße", "two"));
        let names: Vec<_> =
            reading.attachments.iter().map(|one| (one.name.as_str(), one.content.len())).collect();
        assert_eq!(names, [("passwd", 5), ("attachment-2.eml", 20)]);
        assert_eq!(reading.attachments[0].media_type, "application/pdf");
        let html = read(b"Content-Type: text/html\n\n<p>Hello <b>you</b></p><script>x</script>");
        assert!(html.text.contains("Hello you"), "{}", html.text);
    }

    #[test]
    fn names_of_attachments_name_files() {
        for (given, name) in [
            ("..", "attachment-1"),
            (".bashrc", "bashrc"),
            ("a\u{0}b\nc", "abc"),
            ("C:\\x\\y.doc", "y.doc"),
            ("/etc/", "attachment-1"),
            ("", "attachment-1"),
        ] {
            assert_eq!(file_name(given, 1, false), name, "{given:?}");
        }
        assert_eq!(file_name(&"ä".repeat(300), 1, false).len(), NAME_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let begin = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n";
            for message in [&bytes[..], &[&begin[..], &bytes].concat()] {
                let reading = read(message);
                prop_assert!(reading.attachments.iter().all(|one| !one.name.contains('/') && !one.name.is_empty()));
            }
        }
    }
}
