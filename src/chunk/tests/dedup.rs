//! The same content is the same blobs, wherever it stands.

use super::grammar::dbox_frame;
use super::{Hint, Store, check_identity, message_with, noise};
use crate::format::content::{BlobKind, Piece, Shape};

#[test]
fn attachments_are_the_same_in_every_line_width() {
    let document = noise(1, 3 << 20);
    let mut expected: Option<Vec<Vec<u8>>> = None;
    for (width, ending) in [(76, "\n"), (76, "\r\n"), (72, "\n"), (60, "\r\n"), (64, "\n"), (996, "\n")] {
        let (store, stats) = check_identity(Hint::Message, &message_with(&document, width, ending, "xyz"));
        assert_eq!((stats.attachments_decoded, stats.attachments_decoded_bytes), (1, 3 << 20));
        let blobs = store.blobs_of(BlobKind::Attachment);
        assert!(blobs.len() > 1 && blobs.concat() == document);
        assert_eq!(expected.get_or_insert_with(|| blobs.clone()), &blobs, "{width} {ending:?}");
    }
}

#[test]
fn the_text_is_the_same_under_another_boundary() {
    let document = noise(1, 5000);
    let (one, _) = check_identity(Hint::Message, &message_with(&document, 76, "\n", "one"));
    let (two, _) = check_identity(Hint::Message, &message_with(&document, 72, "\n", "another"));
    assert_eq!(one.blobs_of(BlobKind::Text), [b"See the plan.\n\n"]);
    assert_eq!(one.blobs_of(BlobKind::Text), two.blobs_of(BlobKind::Text));
    assert_eq!(one.sections[0].runs.len(), 5);
}

/// Head, text and attachment blobs of the sections that are messages.
fn message_blobs(store: &Store) -> Vec<Vec<Vec<u8>>> {
    let messages = store.sections.iter().filter(|section| section.shape == Shape::Message);
    messages
        .map(|section| {
            let ids = section.pieces.iter().flat_map(Piece::blobs);
            ids.map(|id| store.blobs[id].1.clone()).collect()
        })
        .collect()
}

#[test]
fn a_message_is_the_same_in_every_mailbox_format() {
    let plain = b"Return-Path: <a>\nReceived: x\nSubject: plain\n\ntext\n\nFrom here on\n".to_vec();
    let attached = message_with(&noise(9, 20_000), 76, "\n", "b");
    let alone: Vec<_> = [&plain, &attached]
        .map(|message| message_blobs(&check_identity(Hint::Message, message).0).remove(0))
        .into();
    assert_eq!(alone.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3]);

    let from = b"From a@example.org Thu Aug 22 12:36:23 2002\n";
    for last in [&b"\n"[..], b""] {
        let mbox = [&from[..], &plain, b"\n", from, &attached, last].concat();
        for hint in [Hint::Mbox, Hint::Detect] {
            let (store, stats) = check_identity(hint, &mbox);
            assert_eq!(message_blobs(&store), alone);
            assert_eq!(stats.messages, 2);
        }
    }
    let dbox =
        [b"2 M1e C5f3a2b1c\n", &dbox_frame(&plain, "R1\n")[..], &dbox_frame(&attached, "G2\nV1\n")].concat();
    for hint in [Hint::Dbox, Hint::Detect] {
        let (store, stats) = check_identity(hint, &dbox);
        assert_eq!(message_blobs(&store), alone);
        assert_eq!((stats.messages, store.sections.len()), (2, 5));
    }
    assert_eq!(message_blobs(&check_identity(Hint::Detect, &attached).0), alone[1..]);
}

#[test]
fn crlf_mboxes_too() {
    let message = b"Subject: x\r\n\r\nbody\r\n";
    let from = b"From a Thu Aug 22 12:36:23 2002\r\n";
    let (store, _) =
        check_identity(Hint::Mbox, &[&from[..], message, b"\r\n", from, message, b"\r\n"].concat());
    let expected = vec![b"Subject: x\r\n\r\n".to_vec(), b"body\r\n".to_vec()];
    assert_eq!(message_blobs(&store), [expected.clone(), expected]);
}

#[test]
fn raw_attachments_have_pieces_of_their_own() {
    let data: Vec<u8> = noise(3, 6000).into_iter().filter(|&byte| byte != b'\n').collect();
    let with = |boundary: &str| {
        let head =
            format!("Subject: x\nContent-Type: multipart/mixed; boundary={boundary}\n\n--{boundary}\n");
        let part = "Content-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\n";
        [head.as_bytes(), part.as_bytes(), &data, format!("\n--{boundary}--\n").as_bytes()].concat()
    };
    let (one, stats) = check_identity(Hint::Message, &with("one"));
    assert_eq!(stats.attachments_raw.not_base64, 1);
    assert_eq!(one.blobs_of(BlobKind::Attachment), [[&data[..], b"\n"].concat()]);
    let (two, _) = check_identity(Hint::Message, &with("other"));
    assert_eq!(one.blobs_of(BlobKind::Attachment), two.blobs_of(BlobKind::Attachment));
}

#[test]
fn an_appended_or_changed_uidlist_line_changes_few_blobs() {
    let line = |uid: usize| {
        format!(
            "{uid} :{}.M{}P7.mx1,S={},W=9\n",
            1_700_000_000 + uid * 37,
            uid * 7919 % 1_000_000,
            uid * 31 % 9000
        )
    };
    let lines: Vec<String> = (1..20_000).map(line).collect();
    let before = ["3 V1700000000 N20000 G0\n".to_owned(), lines.concat()].concat();
    let (store, _) = check_identity(Hint::State, before.as_bytes());
    let count = store.blobs.len();
    let mean = before.len() / count;
    assert!((6_000..11_000).contains(&mean), "{mean}");
    let mut changed = lines.clone();
    changed.remove(700);
    changed.push(line(20_000));
    let after = ["3 V1700000000 N20001 G0\n".to_owned(), changed.concat()].concat();
    let (other, _) = check_identity(Hint::State, after.as_bytes());
    let fresh = other.blobs.keys().filter(|id| !store.blobs.contains_key(id)).count();
    assert!(fresh <= 6, "{fresh} of {count}");
}
