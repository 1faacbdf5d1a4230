//! Writing a message into an mbox: its `From ` line, what a mail server notes of it, and its lines, quoted where they
//! would be taken for the next message (mboxrd: `From ` and `>From ` get one `>` more).

use super::letter::Letter;
use super::mbox_state;

/// A header block that is longer is passed on as it is.
const HEADER_BYTES_MAX: usize = 1 << 20;
/// So many `>` at the beginning of a line are looked behind.
const QUOTES_MAX: usize = 4_096;

/// Writes one message.
pub struct MboxWriter {
    /// What stands before the message, until its header block is whole.
    header: Option<Vec<u8>>,
    notes: Vec<u8>,
    /// The beginning of a line that may have to be quoted.
    begin: Vec<u8>,
    at_line_start: bool,
    /// Bytes of the last line ending, 0 within a line.
    ended: bool,
}

/// The `From ` line of a message that arrived at `arrived_s`, unix seconds; `sender` is its envelope sender.
pub fn from_line(sender: &[u8], arrived_s: i64) -> Vec<u8> {
    let plain = !sender.is_empty() && sender.iter().all(u8::is_ascii_graphic);
    let sender = if plain { sender } else { b"MAILER-DAEMON" };
    let at = jiff::Timestamp::from_second(arrived_s).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let date =
        at.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y +0000").to_string();
    [b"From ", sender, b" ", date.as_bytes(), b"\n"].concat()
}

/// The header fields that say what a mail server knows of a message.
///
/// `first` gives UIDVALIDITY, the last UID given away and all keywords of the mbox: they stand in its first message.
pub fn notes(letter: &Letter, first: Option<(u32, u32, &[Vec<u8>])>) -> Vec<u8> {
    let mut notes = Vec::new();
    if let Some((validity, last, keywords)) = first {
        notes.extend_from_slice(format!("X-IMAPbase: {validity} {last:010}").as_bytes());
        keywords.iter().for_each(|name| notes.extend_from_slice(&[b" ", name.as_slice()].concat()));
        notes.push(b'\n');
    }
    if let Some((_, uid)) = letter.uid {
        notes.extend_from_slice(format!("X-UID: {uid}\n").as_bytes());
    }
    let has = |flag: u8| letter.flags.contains(&flag);
    let status = match (has(b'S'), letter.unseen_by_any) {
        (true, _) => &b"Status: RO\n"[..],
        (false, true) => b"",
        (false, false) => b"Status: O\n",
    };
    notes.extend_from_slice(status);
    let known = [(b'R', b'A'), (b'F', b'F'), (b'D', b'T'), (b'T', b'D')];
    let words: Vec<u8> = known.iter().filter(|(flag, _)| has(*flag)).map(|(_, own)| *own).collect();
    if !words.is_empty() {
        notes.extend_from_slice(&[b"X-Status: ", words.as_slice(), b"\n"].concat());
    }
    let names: Vec<&[u8]> = letter.keywords.iter().flatten().map(Vec::as_slice).collect();
    if !names.is_empty() {
        notes.extend_from_slice(&[b"X-Keywords: ", names.join(&b' ').as_slice(), b"\n"].concat());
    }
    notes
}

impl MboxWriter {
    /// Begins a message; `notes` are put at the end of its header.
    pub fn new(notes: Vec<u8>) -> MboxWriter {
        MboxWriter { header: Some(Vec::new()), notes, begin: Vec::new(), at_line_start: true, ended: true }
    }

    /// Takes the next bytes of the message and appends to `out` what is to be written.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(header) = &mut self.header else { return self.body(bytes, out) };
        header.extend_from_slice(bytes);
        if let Some(end) = header_end(header) {
            let whole = self.header.take().unwrap_or_default();
            self.begin_body(&whole, end, out);
        } else if header.len() > HEADER_BYTES_MAX {
            let whole = self.header.take().unwrap_or_default();
            self.body(&whole, out);
        }
    }

    fn begin_body(&mut self, whole: &[u8], end: usize, out: &mut Vec<u8>) {
        let fields = mbox_state::without_state(&whole[..end]);
        self.body(&fields, out);
        if !self.ended {
            self.body(b"\n", out);
        }
        let notes = std::mem::take(&mut self.notes);
        // CRLF files stay CRLF files.
        let crlf = whole[..end].ends_with(b"\r\n");
        match crlf {
            true => notes.split_inclusive(|&byte| byte == b'\n').for_each(|line| {
                self.body(line.strip_suffix(b"\n").unwrap_or(line), out);
                self.body(b"\r\n", out);
            }),
            false => self.body(&notes, out),
        }
        self.body(&whole[end..], out);
    }

    fn body(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if !self.at_line_start {
                let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
                out.extend_from_slice(&bytes[..end]);
                self.at_line_start = bytes[end - 1] == b'\n';
                self.ended = self.at_line_start;
                bytes = &bytes[end..];
                continue;
            }
            self.begin.push(bytes[0]);
            bytes = &bytes[1..];
            let quotes = self.begin.iter().take_while(|&&byte| byte == b'>').count();
            let word = &self.begin[quotes..];
            if word == b"From " {
                out.push(b'>');
            } else if b"From ".starts_with(word) && quotes < QUOTES_MAX {
                continue;
            }
            self.release(out);
        }
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.begin);
        if let Some(last) = self.begin.last() {
            self.at_line_start = *last == b'\n';
            self.ended = self.at_line_start;
        }
        self.begin.clear();
    }

    /// Ends the message with its blank line.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if let Some(header) = self.header.take() {
            // A message without a body, or without an end of its header.
            let end = header.len();
            self.begin_body(&header, end, out);
        }
        self.release(out);
        out.extend_from_slice(if self.ended { b"\n" } else { b"\n\n" });
    }
}

/// Where the header block ends: before its empty line.
fn header_end(header: &[u8]) -> Option<usize> {
    if header.starts_with(b"\n") || header.starts_with(b"\r\n") {
        return Some(0);
    }
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\n', &header[from..]) {
        let next = from + at + 1;
        match header.get(next..) {
            Some([b'\n', ..] | [b'\r', b'\n', ..]) => return Some(next),
            _ => from = next,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::mbox::is_from_line;

    fn letter() -> Letter {
        Letter {
            user: "a".into(),
            folder: "INBOX".into(),
            base: Vec::new(),
            flags: b"FRS".to_vec(),
            keywords: vec![Some(b"work".to_vec()), None],
            unseen_by_any: false,
            arrived_s: 1_030_019_783,
            arrived_ns: 0,
            size: 0,
            guid: None,
            uid: Some((7, 12)),
        }
    }

    fn written(message: &[u8], step: usize, notes: &[u8]) -> String {
        let (mut writer, mut out) = (MboxWriter::new(notes.to_vec()), Vec::new());
        message.chunks(step).for_each(|bytes| writer.push(bytes, &mut out));
        writer.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn from_lines_are_from_lines() {
        let line = from_line(b"a@x.org", 1_030_019_783);
        assert_eq!(line, b"From a@x.org Thu Aug 22 12:36:23 2002 +0000\n");
        assert!(
            is_from_line(&line)
                && is_from_line(&from_line(b"a b", -1))
                && is_from_line(&from_line(b"", i64::MAX))
        );
    }

    #[test]
    fn messages_carry_their_state_and_cut_nothing() {
        let notes = notes(&letter(), Some((7, 30, &[b"work".to_vec()])));
        assert_eq!(
            String::from_utf8_lossy(&notes),
            "X-IMAPbase: 7 0000000030 work\nX-UID: 12\nStatus: RO\nX-Status: AF\nX-Keywords: work\n"
        );
        let message = b"From: b\nStatus: X\nSubject: c\n\nhello\nFrom here\n>From there\nFromage\n>>x\n>From";
        for step in [1, 3, 1000] {
            assert_eq!(
                written(message, step, b"Status: RO\n"),
                "From: b\nSubject: c\nStatus: RO\n\nhello\n>From here\n>>From there\nFromage\n>>x\n>From\n\n"
            );
        }
        assert_eq!(written(b"A: b\r\n\r\nx\r\n", 2, b"Status: O\n"), "A: b\r\nStatus: O\r\n\r\nx\r\n\n");
        assert_eq!(written(b"A: b", 2, b"Status: O\n"), "A: b\nStatus: O\n\n");
        assert_eq!(written(b"\nbody\n", 2, b"Status: O\n"), "Status: O\n\nbody\n\n");
        assert_eq!(written(b"", 1, b""), "\n");
    }

    proptest! {
        #[test]
        fn quoting_is_undone_by_taking_one_away(
            lines in proptest::collection::vec("(>{0,3}From |>{0,2}Fro|From|x)[a-z ]{0,5}", 0..12), step in 1usize..20,
        ) {
            let message = format!("A: b\n\n{}", lines.join("\n"));
            let text = written(message.as_bytes(), step, b"");
            let back: Vec<&str> = text.split('\n').map(|line| {
                let quotes = line.len() - line.trim_start_matches('>').len();
                if quotes > 0 && line[quotes..].starts_with("From ") { &line[1..] } else { line }
            }).collect();
            prop_assert!(text.split('\n').skip(1).all(|line| !line.starts_with("From ")));
            let back = back.join("\n");
            prop_assert!(back.trim_end_matches('\n') == message.trim_end_matches('\n'));
        }
    }
}
