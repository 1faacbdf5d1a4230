//! `dovecot-uidlist`: which UID each message of a Maildir has.
//!
//! Version 3: a header `3 V<uidvalidity> N<next uid> G<mailbox guid>`, then lines `<uid> [G<guid>] [W<size>] :<name>`.
//! Version 1: a header `1 <uidvalidity> <next uid>`, then `<uid> <name>`. Dovecot appends lines in place and keeps
//! those of expunged messages for a while; of two lines with one name the last counts. A line without its line feed is
//! not finished and counts as none.

use super::maildir;

/// The header of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header<'a> {
    /// Which numbering the UIDs belong to.
    pub validity: u32,
    /// The next UID as the header says it; the real one is [`Uidlist::next_uid`].
    pub next: u32,
    /// The GUID of the mailbox, hex digits.
    pub guid: Option<&'a [u8]>,
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The message's UID, at least 1.
    pub uid: u32,
    /// Its GUID where that is not the base name.
    pub guid: Option<&'a [u8]>,
    /// Its file name when the line was written; only the base is to be trusted.
    pub name: &'a [u8],
    /// The fields between the UID and the name, as they are.
    pub fields: &'a [u8],
}

impl<'a> Line<'a> {
    /// The base name.
    pub fn base(&self) -> &'a [u8] {
        maildir::base(self.name)
    }

    /// What Dovecot tells the message by, across folders and copies.
    pub fn message_guid(&self) -> &'a [u8] {
        self.guid.unwrap_or_else(|| self.base())
    }
}

/// A list, taken apart on the way.
#[derive(Debug, Clone, Copy)]
pub struct Uidlist<'a> {
    /// Its first line.
    pub header: Header<'a>,
    version: u8,
    lines: &'a [u8],
}

impl<'a> Uidlist<'a> {
    /// Reads the header; `None` for bytes that are no list.
    pub fn parse(bytes: &'a [u8]) -> Option<Uidlist<'a>> {
        let end = memchr::memchr(b'\n', bytes)?;
        let mut words = words(&bytes[..end]);
        let lines = &bytes[end + 1..];
        match words.next()? {
            b"3" => {
                let mut header = Header::default();
                for word in words {
                    match word.split_first()? {
                        (b'V', digits) => header.validity = number(digits)?,
                        (b'N', digits) => header.next = number(digits)?,
                        (b'G', guid) => header.guid = Some(guid),
                        _ => {}
                    }
                }
                Some(Uidlist { header, version: 3, lines })
            }
            b"1" => {
                let (validity, next) = (number(words.next()?)?, number(words.next()?)?);
                Some(Uidlist { header: Header { validity, next, guid: None }, version: 1, lines })
            }
            _ => None,
        }
    }

    /// The finished lines in order; what is no line is passed over.
    pub fn lines(&self) -> impl Iterator<Item = Line<'a>> + use<'a> {
        self.numbered_lines().map(|(_, line)| line)
    }

    /// The same, each with the place where it begins behind the header.
    fn numbered_lines(&self) -> impl Iterator<Item = (usize, Line<'a>)> + use<'a> {
        let version = self.version;
        let finished = memchr::memrchr(b'\n', self.lines).map_or(&b""[..], |end| &self.lines[..=end]);
        let mut at = 0;
        finished.split(|&byte| byte == b'\n').filter_map(move |line| {
            let begin = at;
            at += line.len() + 1;
            parse_line(line, version).map(|line| (begin, line))
        })
    }

    /// The UID that the next message gets: the header's, or one above the highest line.
    pub fn next_uid(&self) -> u32 {
        self.header.next.max(self.highest_uid().saturating_add(1)).max(1)
    }

    /// The highest UID of a message; 0 without any.
    pub fn highest_uid(&self) -> u32 {
        self.lines().map(|line| line.uid).max().unwrap_or_default()
    }
}

/// A list that finds messages by their base names; 16 bytes a line beside the list itself.
#[derive(Debug, Clone)]
pub struct UidMap {
    bytes: Vec<u8>,
    /// Of each line where it begins, and where its base name begins and ends; sorted by base name, then as they stand.
    places: Vec<[u32; 3]>,
}

impl UidMap {
    /// Takes a list; `None` for bytes that are no list, or more than 4 GiB.
    pub fn new(bytes: Vec<u8>) -> Option<UidMap> {
        u32::try_from(bytes.len()).ok()?;
        let list = Uidlist::parse(&bytes)?;
        let start = |part: &[u8]| (part.as_ptr() as usize - bytes.as_ptr() as usize) as u32;
        let mut places: Vec<[u32; 3]> = Vec::new();
        for (at, line) in list.numbered_lines() {
            let base = line.base();
            let begin = start(base);
            places.push([at as u32 + start(list.lines), begin, begin + base.len() as u32]);
        }
        let base = |place: &[u32; 3]| &bytes[place[1] as usize..place[2] as usize];
        places.sort_by(|a, b| base(a).cmp(base(b)));
        Some(UidMap { bytes, places })
    }

    /// The list itself.
    pub fn list(&self) -> Uidlist<'_> {
        Uidlist::parse(&self.bytes).expect("it was parsed before")
    }

    /// The last line of a message.
    pub fn find(&self, base: &[u8]) -> Option<Line<'_>> {
        let own = |place: &[u32; 3]| &self.bytes[place[1] as usize..place[2] as usize];
        let after = self.places.partition_point(|place| own(place) <= base);
        let place = after.checked_sub(1).map(|at| &self.places[at]).filter(|place| own(place) == base)?;
        let line = &self.bytes[place[0] as usize..];
        let line = &line[..memchr::memchr(b'\n', line)?];
        parse_line(line, self.list().version)
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b' ' || byte == b'\r').filter(|word| !word.is_empty())
}

fn number(digits: &[u8]) -> Option<u32> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all_digits.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

fn parse_line(line: &[u8], version: u8) -> Option<Line<'_>> {
    let space = memchr::memchr(b' ', line)?;
    let uid = number(&line[..space]).filter(|&uid| uid > 0)?;
    let rest = &line[space + 1..];
    if version == 1 {
        return (!rest.is_empty()).then_some(Line { uid, guid: None, name: rest, fields: b"" });
    }
    // Fields hold no colon, names may.
    let colon = memchr::memchr(b':', rest)?;
    let (fields, name) = (rest[..colon].trim_ascii(), &rest[colon + 1..]);
    let guid = words(fields).find_map(|field| field.strip_prefix(b"G"));
    (!name.is_empty()).then_some(Line { uid, guid, name, fields })
}

/// A list of version 3 to be written, line by line.
#[derive(Debug, Clone)]
pub struct UidlistWriter {
    bytes: Vec<u8>,
}

impl UidlistWriter {
    /// Begins a list.
    pub fn new(header: &Header<'_>) -> UidlistWriter {
        let mut bytes = format!("3 V{} N{}", header.validity, header.next).into_bytes();
        if let Some(guid) = header.guid {
            bytes.extend_from_slice(b" G");
            bytes.extend_from_slice(guid);
        }
        bytes.push(b'\n');
        UidlistWriter { bytes }
    }

    /// Adds a message; UIDs must ascend.
    pub fn push(&mut self, line: &Line<'_>) {
        self.bytes.extend_from_slice(line.uid.to_string().as_bytes());
        if !line.fields.is_empty() {
            self.bytes.push(b' ');
            self.bytes.extend_from_slice(line.fields);
        }
        self.bytes.extend_from_slice(b" :");
        self.bytes.extend_from_slice(line.name);
        self.bytes.push(b'\n');
    }

    /// The bytes of the list.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &[u8] = b"3 V1795512345 N9 G3f2a00aa\n1 W120 :1.M1.mx,S=5:2,S\n4 G99aa W7 :2.M2.mx\n7 :1.M1.mx,S=5:2,\nrubbish\n12 :half";

    #[test]
    fn lists_come_apart() {
        let list = Uidlist::parse(LIST).unwrap();
        assert_eq!((list.header.validity, list.header.next), (1_795_512_345, 9));
        assert_eq!(list.header.guid, Some(&b"3f2a00aa"[..]));
        let lines: Vec<_> = list.lines().map(|line| (line.uid, line.base(), line.message_guid())).collect();
        let first = &b"1.M1.mx,S=5"[..];
        assert_eq!(lines, [(1, first, first), (4, b"2.M2.mx", b"99aa"), (7, first, first)]);
        // The unfinished line does not count.
        assert_eq!(list.next_uid(), 9);
        assert_eq!(Uidlist::parse(b"3 V1 N2\n7 :a\n").unwrap().next_uid(), 8);
        let old = Uidlist::parse(b"1 77 5\n3 1.M1.mx:2,S\n").unwrap();
        assert_eq!((old.header.validity, old.next_uid()), (77, 5));
        assert_eq!(old.lines().next().unwrap().base(), b"1.M1.mx");
        for bad in [&b""[..], b"3 V1 N2", b"2 a\n", b"3 Vx\n", b"1 1\n"] {
            assert!(Uidlist::parse(bad).is_none());
        }
    }

    #[test]
    fn messages_are_found_by_their_names() {
        let map = UidMap::new(LIST.to_vec()).unwrap();
        let uid = |base: &[u8]| map.find(base).map(|line| (line.uid, line.guid));
        assert_eq!(uid(b"1.M1.mx,S=5"), Some((7, None)));
        assert_eq!(uid(b"2.M2.mx"), Some((4, Some(&b"99aa"[..]))));
        assert_eq!((uid(b"half"), uid(b""), uid(b"1"), uid(b"z")), (None, None, None, None));
        assert_eq!(map.list().next_uid(), 9);
        assert!(UidMap::new(b"x".to_vec()).is_none());
    }

    #[test]
    fn what_is_written_is_read() {
        let list = Uidlist::parse(LIST).unwrap();
        let mut writer = UidlistWriter::new(&list.header);
        list.lines().for_each(|line| writer.push(&line));
        let bytes = writer.finish();
        let again = Uidlist::parse(&bytes).unwrap();
        assert_eq!(again.header, list.header);
        assert!(again.lines().eq(list.lines()));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let known = [&LIST[..cut.min(LIST.len())], &bytes].concat();
            for bytes in [&bytes, &known] {
                if let Some(list) = Uidlist::parse(bytes) {
                    prop_assert!(list.lines().all(|line| line.uid > 0 && !line.name.contains(&b'\n')));
                    list.next_uid();
                    let map = UidMap::new(bytes.clone()).unwrap();
                    for line in list.lines() {
                        let last = list.lines().filter(|other| other.base() == line.base()).last();
                        prop_assert_eq!(map.find(line.base()), last);
                    }
                }
            }
        }
    }
}
