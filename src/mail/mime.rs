//! The MIME fields of a header block, as far as cutting a message into parts needs them (RFC 2045, 2046).

/// Longest field value that is kept, bytes; what follows is ignored.
const VALUE_MAX: usize = 8 << 10;
/// Longest boundary that is followed, bytes (RFC 2046 allows 70).
pub const BOUNDARY_MAX: usize = 256;

/// What stands below a header block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Text, or anything that is not worth a piece of its own.
    Text,
    /// Parts between delimiter lines.
    Multipart(Vec<u8>),
    /// Another message, from its header block on.
    Message,
    /// Said to be base64; `text` when what it encodes is text.
    Base64 {
        /// The type is `text/*`.
        text: bool,
    },
    /// Data in another coding; `text` when it is text that was attached.
    Attachment {
        /// The type is `text/*`.
        text: bool,
    },
}

/// Collects the fields that matter out of a header block, line by line.
#[derive(Debug, Default)]
pub struct PartHeader {
    values: [Vec<u8>; 3],
    seen: [bool; 3],
    /// The field that a folded line goes on.
    open: Option<usize>,
}

const TYPE: usize = 0;
const ENCODING: usize = 1;
const DISPOSITION: usize = 2;
const FIELDS: [&[u8]; 3] = [b"content-type", b"content-transfer-encoding", b"content-disposition"];

impl PartHeader {
    /// Begins a new header block.
    pub fn clear(&mut self) {
        self.values.iter_mut().for_each(Vec::clear);
        self.seen = [false; 3];
        self.open = None;
    }

    /// Takes the next line; the first field of a name counts.
    #[inline]
    pub fn line(&mut self, line: &[u8]) {
        match line.first() {
            Some(b' ' | b'\t') => {
                if let Some(field) = self.open {
                    self.append(field, line);
                }
            }
            Some(b'c' | b'C') => self.begin_field(line),
            _ => self.open = None,
        }
    }

    fn begin_field(&mut self, line: &[u8]) {
        self.open = None;
        let Some(colon) = memchr::memchr(b':', line) else { return };
        let name = line[..colon].trim_ascii_end();
        let field = FIELDS.iter().position(|field| field.eq_ignore_ascii_case(name));
        if let Some(field) = field.filter(|&field| !self.seen[field]) {
            self.seen[field] = true;
            self.open = Some(field);
            self.append(field, &line[colon + 1..]);
        }
    }

    fn append(&mut self, field: usize, bytes: &[u8]) {
        let value = &mut self.values[field];
        let room = VALUE_MAX - value.len();
        value.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Says what stands below the header block.
    pub fn body(&self) -> Body {
        let media = token(&self.values[TYPE]);
        let encoding = token(&self.values[ENCODING]);
        let base64 = encoding.eq_ignore_ascii_case(b"base64");
        let text = media.is_empty() || starts_with(media, b"text/");
        if starts_with(media, b"multipart/") {
            return boundary(&self.values[TYPE]).map_or(Body::Text, Body::Multipart);
        }
        if base64 {
            return Body::Base64 { text };
        }
        if starts_with(media, b"message/") {
            let whole = matches!(media.len(), 14) && media.eq_ignore_ascii_case(b"message/rfc822");
            let quoted = encoding.eq_ignore_ascii_case(b"quoted-printable");
            return if whole && !quoted { Body::Message } else { Body::Text };
        }
        let attached = token(&self.values[DISPOSITION]).eq_ignore_ascii_case(b"attachment");
        let data = media.contains(&b'/') && !text;
        if data || attached { Body::Attachment { text } } else { Body::Text }
    }
}

fn starts_with(word: &[u8], prefix: &[u8]) -> bool {
    word.len() >= prefix.len() && word[..prefix.len()].eq_ignore_ascii_case(prefix)
}

/// The first word of a value.
fn token(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii_start();
    let end = value.iter().position(|byte| byte.is_ascii_whitespace() || matches!(byte, b';' | b'(' | b','));
    &value[..end.unwrap_or(value.len())]
}

/// The `boundary` parameter of a `Content-Type` value; `None` when it is missing, empty or too long.
fn boundary(value: &[u8]) -> Option<Vec<u8>> {
    let mut rest = &value[memchr::memchr(b';', value)?..];
    while let Some(after) = rest.strip_prefix(b";") {
        let after = after.trim_ascii_start();
        let name_end = after.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(after.len());
        let wanted = after[..name_end].trim_ascii().eq_ignore_ascii_case(b"boundary");
        let Some(argument) = after[name_end..].strip_prefix(b"=") else {
            rest = &after[name_end..];
            continue;
        };
        let (found, behind) = argument_value(argument.trim_ascii_start());
        if wanted {
            let length = found.trim_ascii_end().len();
            return (1..=BOUNDARY_MAX).contains(&length).then(|| found[..length].to_vec());
        }
        rest = behind;
    }
    None
}

/// One parameter value, quoted or bare, and what follows from the next `;` on.
fn argument_value(argument: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut found = Vec::new();
    let mut used = 0;
    if let Some(quoted) = argument.strip_prefix(b"\"") {
        used = 1;
        let mut escaped = false;
        for &byte in quoted {
            used += 1;
            match byte {
                _ if escaped => {
                    found.push(byte);
                    escaped = false;
                }
                b'\\' => escaped = true,
                b'"' => break,
                b'\r' | b'\n' => {}
                _ => found.push(byte),
            }
        }
    } else {
        // Bare values hold '=', '/' and ':' in real mail, though the grammar forbids it.
        let end = argument.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b';');
        found.extend_from_slice(&argument[..end.unwrap_or(argument.len())]);
    }
    let rest = &argument[used..];
    (found, memchr::memchr(b';', rest).map_or(&[], |at| &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(lines: &[&str]) -> Body {
        let mut header = PartHeader::default();
        lines.iter().for_each(|line| header.line(line.as_bytes()));
        header.body()
    }

    #[test]
    fn fields_say_what_follows() {
        assert_eq!(body(&[]), Body::Text);
        assert_eq!(body(&["Subject: x\n"]), Body::Text);
        assert_eq!(body(&["Content-Type: text/html;\n"]), Body::Text);
        assert_eq!(body(&["CONTENT-TYPE : application/pdf; name=x\n"]), Body::Attachment { text: false });
        assert_eq!(
            body(&["Content-Type: text/csv\n", "Content-Disposition: attachment; filename=a\n"]),
            Body::Attachment { text: true }
        );
        let base64 = "content-transfer-encoding:\n";
        assert_eq!(body(&["Content-Type: image/png\n", base64, " BASE64 \n"]), Body::Base64 { text: false });
        assert_eq!(body(&[base64, " base64\n"]), Body::Base64 { text: true });
        assert_eq!(body(&["Content-Type: message/rfc822\n"]), Body::Message);
        assert_eq!(body(&["Content-Type: message/delivery-status\n"]), Body::Text);
    }

    #[test]
    fn boundaries_in_every_dress() {
        let cases: [(&str, Option<&str>); 9] = [
            ("multipart/mixed; boundary=abc", Some("abc")),
            ("multipart/mixed; boundary=\"a b;c\"; x=y", Some("a b;c")),
            ("multipart/mixed; type=\"a;boundary=no\";\n\tBoundary = \"=_x\\\"y\"", Some("=_x\"y")),
            ("multipart/mixed; charset; boundary==_Part:1/2=\r\n", Some("=_Part:1/2=")),
            ("multipart/mixed; boundary=\"open", Some("open")),
            ("multipart/mixed; boundary=\"trailing  \"", Some("trailing")),
            ("multipart/mixed; boundary=\"\"", None),
            ("multipart/mixed", None),
            ("multipart/mixed; bound=x", None),
        ];
        for (value, expected) in cases {
            let expected = expected.map_or(Body::Text, |text| Body::Multipart(text.as_bytes().to_vec()));
            assert_eq!(body(&[&format!("Content-Type: {value}")]), expected, "{value}");
        }
        assert_eq!(body(&[&format!("Content-Type: multipart/x; boundary={}", "b".repeat(257))]), Body::Text);
    }
}
