//! The shapes that sections have.

use super::{Hint, SECRET, Splitter, Store, base64_lines, check_identity, message_with, noise, split_with};
use crate::base::limits;
use crate::format::content::{BlobKind, Piece, Run, Shape};

fn runs(store: &Store, section: usize) -> Vec<(u16, u64)> {
    store.sections[section].runs.iter().map(|Run { piece, length }| (*piece, *length)).collect()
}

#[test]
fn a_plain_message_is_head_and_text() {
    let (store, stats) = check_identity(Hint::Message, b"Subject: x\n\nhello\n\n--no boundary\n");
    assert_eq!(store.sections.len(), 1);
    assert_eq!(store.sections[0].shape, Shape::Message);
    assert_eq!(runs(&store, 0), [(0, 12), (1, 21)]);
    assert_eq!((stats.messages, stats.opaque), (1, 0));
    let (store, _) = check_identity(Hint::Message, b"Subject: no body\n");
    assert_eq!(runs(&store, 0), [(0, 17)]);
    assert!(check_identity(Hint::Message, b"").0.sections.is_empty());
}

#[test]
fn nested_messages_and_multiparts_are_followed() {
    let document = noise(2, 5000);
    let inner = String::from_utf8(message_with(&document, 76, "\n", "inner")).unwrap();
    let outer = format!(
        "Subject: fwd\nContent-Type: multipart/mixed; boundary=outer\n\n--outer\nContent-Type: text/plain\n\n\
         see below\n--outer\nContent-Type: message/rfc822\n\n{inner}\n--outer\n\
         Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n{}--outer--\nbye\n",
        String::from_utf8(base64_lines(&document, 60, "\n")).unwrap()
    );
    let (store, stats) = check_identity(Hint::Message, outer.as_bytes());
    assert_eq!(stats.attachments_decoded, 2);
    assert_eq!(store.blobs_of(BlobKind::Text), [b"see below\nSee the plan.\n\nbye\n"]);
    assert_eq!(store.blobs_of(BlobKind::Attachment), [document.clone(), document]);
}

#[test]
fn coded_and_broken_messages_are_opaque() {
    for start in [
        &b"\x1f\x8b\x08"[..],
        b"\x28\xb5\x2f\xfd",
        b"Dovecot-LZ4\x0d\x2a\x9b\xc5",
        b"BZh9",
        b"CRYPTED\x03\x07",
        b"\0\0no",
    ] {
        let (store, stats) = check_identity(Hint::Message, &[start, &noise(1, 3000)].concat());
        assert_eq!((stats.messages, stats.opaque), (0, 1));
        assert_eq!(store.sections[0].shape, Shape::Opaque);
        assert_eq!(store.blobs_of(BlobKind::Attachment).len(), 1);
    }
}

#[test]
fn a_thousand_parts_are_too_many() {
    let mut message = b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n".to_vec();
    let part = base64_lines(&noise(4, 4096), 76, "\n");
    for _ in 0..1200 {
        message.extend_from_slice(b"--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n");
        message.extend_from_slice(&part);
    }
    let (store, stats) = check_identity(Hint::Message, &message);
    assert_eq!(store.sections.len(), 1);
    assert_eq!(store.sections[0].runs.len(), limits::SECTION_RUNS_MAX);
    assert_eq!(stats.attachments_decoded + stats.attachments_raw.too_many_runs, 1200);
    assert_eq!(stats.attachments_decoded, 499);
}

#[test]
fn endless_headers_become_text() {
    let mut message = b"Subject: x\n".to_vec();
    message.extend_from_slice(&[b'y'; 3 << 20]);
    message.extend_from_slice(b"\nContent-Type: text/plain\n\nbody\n");
    let (store, _) = check_identity(Hint::Message, &message);
    assert_eq!(store.blobs_of(BlobKind::Head).concat().len(), limits::HEAD_BYTES_MAX);
    assert_eq!(store.sections[0].runs.len(), 2);
}

#[test]
fn large_messages_go_on_in_further_sections() {
    let document = noise(8, 100_000);
    let message = message_with(&document, 76, "\r\n", "b");
    let mut splitter = Splitter::with_span(SECRET, 30_000);
    let (mut store, stats) = split_with(&mut splitter, Hint::Message, message.chunks(1000));
    assert!(store.joined() == message);
    assert_eq!(stats.attachments_decoded_bytes, 100_000);
    let shapes: Vec<_> = store.sections.iter().map(|section| section.shape).collect();
    assert_eq!(shapes[0], Shape::Message);
    assert!(shapes.len() == 5 && shapes[1..].iter().all(|&shape| shape == Shape::Continued));
    assert!(
        store.sections[..4].iter().all(|s| matches!(s.pieces.last(), Some(Piece::Base64(l, _)) if l.closed))
    );
    assert_eq!(store.blobs_of(BlobKind::Attachment).concat(), document);
}

#[test]
fn files_are_cut_into_sections_of_64_blobs() {
    let (store, stats) = check_identity(Hint::Bytes, &noise(6, 90 << 20));
    assert!(store.sections.len() >= 2);
    assert!(
        store.sections[..store.sections.len() - 1]
            .iter()
            .all(|section| section.pieces[0].blobs().len() == 64)
    );
    assert_eq!(stats.bytes, 90 << 20);
    let (store, _) = check_identity(Hint::Detect, &noise(6, 1_000_000));
    assert_eq!(store.blobs_of(BlobKind::File).len(), 1);
    assert_eq!(store.sections[0].shape, Shape::Bytes);
}

#[test]
fn reasons_are_counted() {
    let raw = |body: Vec<u8>| {
        let head = b"Subject: x\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n";
        check_identity(Hint::Message, &[head, &body[..]].concat()).1
    };
    let good = || base64_lines(&noise(1, 6000), 76, "\n");
    let spoilt = |at: usize, byte: u8| {
        let mut lines = good();
        lines[at] = byte;
        raw(lines).attachments_raw
    };
    assert_eq!(raw(good()).attachments_decoded, 1);
    assert_eq!(spoilt(5, b'*').bad_characters, 1);
    assert_eq!(spoilt(100, b'\n').irregular_lines, 1);
    assert_eq!(spoilt(75, b'=').not_canonical, 1);
    assert_eq!(raw(base64_lines(&noise(1, 600), 76, "\n")).attachments_raw.small, 1);
    assert_eq!(raw([good(), b"\nlist footer\n".to_vec()].concat()).attachments_with_rest, 1);
    assert_eq!(raw(base64_lines(&noise(1, 200_000), 300_000, "\n")).attachments_raw.irregular_lines, 1);
}
