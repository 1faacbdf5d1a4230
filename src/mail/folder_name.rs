//! Names of mail folders: as IMAP writes them (modified UTF-7, RFC 3501 section 5.1.3), and as people read them.

use base64_simd::{AsOut, STANDARD};

/// Puts an IMAP name into plain text; what is no modified UTF-7 is kept as it is, bytes that are no text are escaped.
pub fn decode(name: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some(at) = memchr::memchr(b'&', rest) {
        text.push_str(&String::from_utf8_lossy(&rest[..at]));
        let after = &rest[at + 1..];
        let shifted = memchr::memchr(b'-', after).and_then(|end| Some((decode_shifted(&after[..end])?, end)));
        match shifted {
            Some((part, end)) => {
                text.push_str(&part);
                rest = &after[end + 1..];
            }
            None => {
                text.push('&');
                rest = after;
            }
        }
    }
    text.push_str(&String::from_utf8_lossy(rest));
    text
}

/// The text between `&` and `-`.
fn decode_shifted(code: &[u8]) -> Option<String> {
    if code.is_empty() {
        return Some("&".to_owned());
    }
    let mut padded: Vec<u8> = code.iter().map(|&byte| if byte == b',' { b'/' } else { byte }).collect();
    while !padded.len().is_multiple_of(4) {
        padded.push(b'=');
    }
    let bytes = STANDARD.decode_to_vec(&padded).ok()?;
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    String::from_utf16(&units).ok()
}

/// Writes a folder's name as IMAP does.
pub fn encode(text: &str) -> Vec<u8> {
    let mut name = Vec::new();
    let mut wide: Vec<u8> = Vec::new();
    for letter in text.chars() {
        if (' '..='~').contains(&letter) {
            shift(&mut wide, &mut name);
            name.push(letter as u8);
            if letter == '&' {
                name.push(b'-');
            }
        } else {
            let mut units = [0; 2];
            wide.extend(letter.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    shift(&mut wide, &mut name);
    name
}

/// How the folders of a Maildir lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Maildir++: `.Archive.2024` beside `cur`.
    #[default]
    PlusPlus,
    /// `LAYOUT=fs`: `Archive/2024`.
    Fs,
}

/// Longest name of a folder, bytes.
const FOLDER_BYTES_MAX: usize = 255;

/// The names of the folders that lead from the root of a Maildir to a folder; none for the INBOX.
///
/// What a layout cannot name is written with `_`.
pub fn to_maildir(name: &str, layout: Layout) -> Vec<Vec<u8>> {
    if name == "INBOX" {
        return Vec::new();
    }
    let parts = name.split('/').filter(|part| !part.is_empty());
    match layout {
        Layout::PlusPlus => {
            let parts: Vec<Vec<u8>> = parts.map(|part| encode(&part.replace('.', "_"))).collect();
            let joined = if parts.is_empty() { b"_".to_vec() } else { parts.join(&b'.') };
            vec![[&b"."[..], &fitting(joined, name)].concat()]
        }
        Layout::Fs => {
            let parts = parts.map(|part| match part.strip_prefix('.') {
                Some(rest) => fitting(encode(&format!("_{rest}")), part),
                None if matches!(part, "cur" | "new" | "tmp") => encode(&format!("{part}_")),
                None => fitting(encode(part), part),
            });
            let parts: Vec<Vec<u8>> = parts.collect();
            if parts.is_empty() { vec![b"_".to_vec()] } else { parts }
        }
    }
}

/// A name that a file system takes: of one that is too long its letters, and a digest of all of it.
fn fitting(encoded: Vec<u8>, name: &str) -> Vec<u8> {
    if encoded.len() < FOLDER_BYTES_MAX {
        return encoded;
    }
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
    format!("{letters}-{}", &blake3::hash(name.as_bytes()).to_hex()[..16]).into_bytes()
}

fn shift(wide: &mut Vec<u8>, name: &mut Vec<u8>) {
    if wide.is_empty() {
        return;
    }
    let mut code = vec![0; STANDARD.encoded_length(wide.len())];
    let code = STANDARD.encode(wide, code.as_mut_slice().as_out());
    name.push(b'&');
    name.extend(
        code.iter().filter(|&&byte| byte != b'=').map(|&byte| if byte == b'/' { b',' } else { byte }),
    );
    name.push(b'-');
    wide.clear();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_name_gives_a_folder_of_its_own_that_a_disk_takes() {
        for layout in [Layout::PlusPlus, Layout::Fs] {
            for name in ["/", "//", ".", "..", &"ä".repeat(120), &["x".repeat(60).as_str(); 9].join("/")] {
                let parts = to_maildir(name, layout);
                assert!(!parts.is_empty(), "{name} is no INBOX");
                for part in parts {
                    assert!(
                        part.len() <= FOLDER_BYTES_MAX && part != b"." && part != b"..",
                        "{name}: {part:?}"
                    );
                }
            }
        }
        let long = |last: &str| to_maildir(&("ä".repeat(120) + last), Layout::PlusPlus);
        assert_ne!(long("a"), long("b"));
    }

    #[test]
    fn names_are_read_and_written() {
        for (name, text) in [
            (&b"INBOX"[..], "INBOX"),
            (b"Entw&APw-rfe", "Entwürfe"),
            (b"&U,BTFw-", "台北"),
            (b"A&-B", "A&B"),
            (b"&2D3cjA-", "\u{1f48c}"),
        ] {
            assert_eq!(decode(name), text);
            assert_eq!(encode(text), name);
        }
        for odd in [&b"a&b"[..], b"&AP-", b"&!!-x", b"&2D0-"] {
            assert_eq!(decode(odd), String::from_utf8_lossy(odd));
        }
    }

    #[test]
    fn folders_have_places() {
        let place = |name: &str, layout| {
            let names = to_maildir(name, layout);
            String::from_utf8(names.join(&b'/')).unwrap()
        };
        for (name, plus_plus, fs) in [
            ("INBOX", "", ""),
            ("Archive/2024", ".Archive.2024", "Archive/2024"),
            ("Entwürfe", ".Entw&APw-rfe", "Entw&APw-rfe"),
            ("a.b/../cur", ".a_b.__.cur", "a.b/_./cur_"),
            ("a//b", ".a.b", "a/b"),
        ] {
            assert_eq!(
                (place(name, Layout::PlusPlus), place(name, Layout::Fs)),
                (plus_plus.into(), fs.into())
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in "\\PC{0,40}") {
            prop_assert_eq!(decode(&encode(&text)), text);
        }

        #[test]
        fn any_bytes_have_an_answer(name in proptest::collection::vec(any::<u8>(), 0..60)) {
            decode(&name);
        }
    }
}
