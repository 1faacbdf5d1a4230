//! File names in a Maildir: `base` then, in `cur`, `:2,` and flags (`;2,` or `!2,` where a colon cannot
//! stand).

/// The parts of a Maildir file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaildirName<'a> {
    /// What identifies the message: everything before the flags, `S=` and `W=` included.
    pub base: &'a [u8],
    /// The flag letters; `None` when the name has no flag part.
    pub flags: Option<&'a [u8]>,
    /// `S=`: the size of the file, bytes.
    pub size: Option<u64>,
    /// `W=`: the size with CRLF line endings, bytes.
    pub wire_size: Option<u64>,
}

/// Bytes of `:2,`.
const FLAGS_MARK_BYTES: usize = 3;

/// Takes a file name apart; total, any bytes give an answer.
pub fn parse(name: &[u8]) -> MaildirName<'_> {
    let base = base(name);
    let flags = name.get(base.len() + FLAGS_MARK_BYTES..);
    MaildirName { base, flags, size: number_after(base, b"S="), wire_size: number_after(base, b"W=") }
}

/// The base name: `parse(name).base`.
pub fn base(name: &[u8]) -> &[u8] {
    let mut marks = memchr::memchr3_iter(b':', b';', b'!', name);
    let cut = marks.find(|&at| name[at + 1..].starts_with(b"2,"));
    &name[..cut.unwrap_or(name.len())]
}

/// True for a name that a mail program would give to a message: it begins with seconds and a dot, or has
/// flags.
pub fn is_message_name(name: &[u8]) -> bool {
    let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
    parse(name).flags.is_some() || (digits > 0 && name.get(digits) == Some(&b'.'))
}

fn number_after(base: &[u8], key: &[u8]) -> Option<u64> {
    let field = base.split(|&byte| byte == b',').skip(1).find_map(|field| field.strip_prefix(key))?;
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_come_apart() {
        let name = parse(b"1700503780.M740895P9388.mx1,S=1203,W=1232:2,FS");
        assert_eq!(name.base, b"1700503780.M740895P9388.mx1,S=1203,W=1232");
        assert_eq!(name.flags, Some(&b"FS"[..]));
        assert_eq!((name.size, name.wire_size), (Some(1203), Some(1232)));
        for separated in [&b"a.b.c;2,S"[..], b"a.b.c!2,S", b"a.b.c:2,S"] {
            assert_eq!((parse(separated).base, parse(separated).flags), (&b"a.b.c"[..], Some(&b"S"[..])));
        }
        assert_eq!(parse(b"a:1,x").flags, None);
        assert_eq!(parse(b"1.b.c,S=99999999999999999999,W=").size, None);
        assert_eq!(parse(b"S=5").size, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_name(name in proptest::collection::vec(any::<u8>(), 0..300)) {
            let parsed = parse(&name);
            prop_assert!(name.starts_with(parsed.base));
            let flags = parsed.flags.map_or(0, |flags| flags.len() + 3);
            prop_assert_eq!(parsed.base.len() + flags, name.len());
            is_message_name(&name);
        }
    }
}
