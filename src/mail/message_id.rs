//! The Message-ID of a message: what people name a message by.

use super::detect;

/// Longest id that is read, bytes; a longer one is no id that anybody wrote on purpose.
const ID_BYTES_MAX: usize = 998;

/// Takes away blanks and the angle brackets around an id; what stands behind them is no part of it.
pub fn bare(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    let inner = match memchr::memchr(b'<', text) {
        Some(open) => &text[open + 1..],
        None => text,
    };
    let end = memchr::memchr(b'>', inner).unwrap_or(inner.len());
    inner[..end].trim_ascii()
}

/// The Message-ID in the first header block of a message, without blanks and angle brackets.
///
/// The first field of the name counts; `None` without one, or when it is empty.
pub fn find(head: &[u8]) -> Option<Vec<u8>> {
    let mut value: Option<Vec<u8>> = None;
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        match &mut value {
            Some(value) if folded => {
                value.extend_from_slice(&line[..line.len().min(ID_BYTES_MAX)]);
                if value.len() > 2 * ID_BYTES_MAX {
                    break;
                }
            }
            Some(_) => break,
            None if line.trim_ascii().is_empty() => break,
            None if folded => {}
            None => {
                let is_wanted = |name: &[u8]| name.eq_ignore_ascii_case(b"message-id");
                if detect::field_name(line).is_some_and(is_wanted) {
                    let colon = memchr::memchr(b':', line)?;
                    value = Some(line[colon + 1..].to_vec());
                }
            }
        }
    }
    // A folded id is one word: the fold is no part of it.
    let value: Vec<u8> = value?.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let id = bare(&value);
    (!id.is_empty() && id.len() <= ID_BYTES_MAX).then(|| id.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_found_in_any_dress() {
        for head in [
            &b"From: a\nMessage-ID: <1@x>\nTo: b\n\n"[..],
            b"message-id:<1@x>\r\n\r\n",
            b"Message-Id :\n\t<1@x>\n\n",
            b"MESSAGE-ID: 1@x\n",
            b"From b Thu Aug 22 12:36:23 2002\nMessage-ID: <1@x> (added)\n\n",
            b"Subject: a\n Message-ID: <2@x>\nMessage-ID: <1@x>\nMessage-ID: <3@x>\n\n",
            b"Message-ID: <1@x>",
        ] {
            assert_eq!(find(head).as_deref(), Some(&b"1@x"[..]), "{}", String::from_utf8_lossy(head));
        }
        for head in [
            &b"From: a\n\nMessage-ID: <1@x>\n"[..],
            b"Message-ID:\n\n",
            b"Message-ID: <>\n",
            b"X-Message-ID: <1@x>\n",
            b"",
        ] {
            assert_eq!(find(head), None, "{}", String::from_utf8_lossy(head));
        }
        assert_eq!(find(b"Message-ID: <A@x>\n").as_deref(), Some(&b"A@x"[..]), "case is kept");
        assert_eq!((bare(b" <1@x> "), bare(b"1@x"), bare(b"<1@x")), (&b"1@x"[..], &b"1@x"[..], &b"1@x"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(head in proptest::collection::vec(any::<u8>(), 0..300)) {
            find(&head);
        }
    }
}
