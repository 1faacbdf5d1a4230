//! The formats of mail: nothing here fails on odd input, and nothing found lies outside of it.

use mailark::mail::heading::HeadingReader;
use mailark::mail::keywords::Keywords;
use mailark::mail::mime::{self, Body, PartHeader};
use mailark::mail::templates;
use mailark::mail::uidlist::Uidlist;
use mailark::mail::{
    dbox as dbox_file, detect as detection, folder_name, hint, maildir, mbox as mbox_file, reading,
};

use super::Input;

/// Any bytes are a name, and its parts make up the name again.
pub fn maildir_name(name: &[u8]) {
    let parsed = maildir::parse(name);
    match parsed.flags {
        Some(flags) => {
            assert!(name.starts_with(parsed.base) && name.ends_with(flags));
            assert_eq!(parsed.base.len() + 3 + flags.len(), name.len());
        }
        None => assert_eq!(parsed.base, name),
    }
    assert_eq!(maildir::base(name), parsed.base);
    for parent in [&b"cur"[..], b"new", b"storage"] {
        hint::hint_for(name, parent);
    }
}

/// Whatever a sender wrote, it becomes lines of text, and attachments get plain names.
pub fn heading(bytes: &[u8]) {
    let heading = HeadingReader::default().read(bytes);
    for text in [&heading.from, &heading.to, &heading.cc, &heading.subject] {
        assert!(text.len() <= 16 << 10 && !text.contains(char::is_control));
    }
    let reading = reading::read(bytes);
    for attachment in &reading.attachments {
        let name = &attachment.name;
        assert!(
            !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']) && name.len() <= 255
        );
    }
}

/// What a mail server writes beside its messages.
pub fn mail_state(bytes: &[u8]) {
    if let Some(list) = Uidlist::parse(bytes) {
        assert!(list.lines().all(|line| line.uid > 0 && !line.name.contains(&b'\n')));
        assert!(list.next_uid() > 0);
    }
    let keywords = Keywords::parse(bytes);
    assert_eq!(Keywords::parse(&keywords.encode()), keywords);
    folder_name::decode(bytes);
    assert!(!templates::folder_name(bytes).is_empty());
    templates::Users::default().mailbox(bytes, b"");
}

pub fn mbox(bytes: &[u8]) {
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if mbox_file::is_from_line(line) {
            assert!(line.starts_with(b"From ") && line.len() <= mbox_file::FROM_LINE_MAX);
            if let Some(blank) = mbox_file::blank_line_start(bytes, at) {
                assert!(blank <= at && at - blank <= 1);
            }
        }
        at += line.len();
    }
}

pub fn dbox(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n').take(8) {
        if let Some(size) = dbox_file::file_header(line) {
            assert!((30..=256).contains(&size));
            dbox_file::message_header(bytes.get(line.len() + 1..).unwrap_or_default());
        }
    }
    dbox_file::message_header(bytes);
    if let Some(length) = dbox_file::metadata_length(bytes) {
        assert!(
            length <= bytes.len()
                && bytes[..length].ends_with(b"\n\n") | bytes[..length].ends_with(b"\x03\n\n")
        );
    }
}

pub fn detect(bytes: &[u8]) {
    let looks = detection::looks_like_message(bytes);
    // Only the beginning counts, so that a file is the same thing whatever follows.
    let start = &bytes[..bytes.len().min(detection::DETECT_BYTES)];
    assert_eq!(looks, detection::looks_like_message(start));
    detection::may_begin_message(bytes);
    // Both may be true: a field name can begin like bzip2. Such a message is stored as it stands.
    detection::is_coded(bytes);
    if let Some(name) = detection::field_name(bytes) {
        assert!(bytes.starts_with(name) && !name.is_empty());
    }
}

/// A header block in lines; how the block is sliced into calls is given by its lines alone.
pub fn mime(bytes: &[u8]) {
    let mut header = PartHeader::default();
    let mut input = Input(bytes);
    if input.byte() % 2 == 1 {
        header.line(b"Content-Type: multipart/mixed;\n");
    }
    for line in input.0.split_inclusive(|byte| *byte == b'\n') {
        header.line(line);
    }
    let body = header.body();
    if let Body::Multipart(boundary) = &body {
        assert!((1..=mime::BOUNDARY_MAX).contains(&boundary.len()));
    }
    assert_eq!(header.body(), body);
    header.clear();
    assert_eq!(header.body(), PartHeader::default().body());
}
