//! Generates mail: well-formed, odd and broken, from a small grammar.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{base64_lines, noise};

pub fn ending() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just("\n"), 2 => Just("\r\n")]
}

fn boundary() -> impl Strategy<Value = String> {
    prop_oneof![Just("b".to_owned()), Just("=_b".to_owned()), Just("b--".to_owned()), "[a-z=_]{1,12}"]
}

/// Lines of base64 with, now and then, something wrong somewhere.
fn base64_body() -> impl Strategy<Value = Vec<u8>> {
    let width = prop_oneof![
        4 => Just(76usize),
        1 => Just(72),
        1 => Just(60),
        1 => Just(4),
        1 => Just(77),
        1 => Just(1000),
        1 => Just(30_000),
    ];
    let spoil = prop_oneof![
        6 => Just(b"".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"=".to_vec()),
        1 => Just(b"!".to_vec()),
        1 => Just(b"\n--b\n".to_vec()),
        1 => vec(any::<u8>(), 1..5)];
    let blank = prop_oneof![3 => Just(""), 1 => Just("\n"), 1 => Just("\r\n\r\n"), 1 => Just("\r")];
    (any::<u64>(), 0usize..14_000, width, ending(), spoil, any::<Index>(), any::<bool>(), blank).prop_map(
        |(seed, length, width, ending, spoil, place, insert, blank)| {
            let mut lines = base64_lines(&noise(seed, length), width, ending);
            let at = place.index(lines.len() + 1);
            let until = if insert { at } else { (at + spoil.len()).min(lines.len()) };
            lines.splice(at..until, spoil);
            [blank.as_bytes(), &lines].concat()
        },
    )
}

fn text_body() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        "[ -~]{0,40}".prop_map(String::into_bytes),
        Just(b"--".to_vec()),
        Just(b"--b".to_vec()),
        Just(b"--b--".to_vec()),
        Just(b"From here".to_vec()),
        Just(b"From a@example.org Thu Aug 22 12:36:23 2002".to_vec()),
        Just(b"".to_vec()),
        Just(vec![b'x'; 3000]),
        vec(any::<u8>(), 0..30)
    ];
    (vec(line, 0..12), ending()).prop_map(|(lines, ending)| lines.join(ending.as_bytes()))
}

fn leaf() -> impl Strategy<Value = Vec<u8>> {
    let media = prop_oneof![
        Just("Content-Type: application/pdf; name=x\n"),
        Just("Content-Type: text/html\n"),
        Just("content-type:\n image/png\n"),
        Just(""),
        Just("Content-Type: message/rfc822\n"),
        Just("broken line\n")
    ];
    let coding = prop_oneof![Just("Content-Transfer-Encoding: base64\n"), Just("")];
    let body = prop_oneof![
        2 => base64_body(),
        1 => text_body(),
        1 => (any::<u64>(), 4000usize..9000).prop_map(|(seed, length)| noise(seed, length)),
    ];
    let blank = prop_oneof![8 => Just("\n"), 1 => Just("")];
    (media, coding, blank, ending(), body).prop_map(|(media, coding, blank, ending, body)| {
        let head = format!("{media}{coding}{blank}").replace('\n', ending);
        [head.as_bytes(), &body].concat()
    })
}

fn multipart(part: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let close = prop_oneof![4 => Just("--"), 1 => Just("-"), 1 => Just("")];
    (boundary(), boundary(), vec(part, 0..5), ending(), close, text_body(), any::<bool>()).prop_map(
        |(boundary, other, parts, ending, close, around, quoted)| {
            let quote = if quoted { "\"" } else { "" };
            let head = format!("Content-Type: multipart/mixed; boundary={quote}{boundary}{quote}\n\n");
            let mut whole = head.replace('\n', ending).into_bytes();
            whole.extend_from_slice(&around);
            for (number, part) in parts.iter().enumerate() {
                let name = if number == 3 { &other } else { &boundary };
                whole.extend_from_slice(format!("{ending}--{name}{ending}").as_bytes());
                whole.extend_from_slice(part);
            }
            whole.extend_from_slice(format!("{ending}--{boundary}{close}{ending}").as_bytes());
            whole.extend_from_slice(&around);
            whole
        },
    )
}

/// A message, mostly well-formed.
pub fn message() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![leaf(), multipart(leaf()), multipart(prop_oneof![leaf(), multipart(leaf())])];
    let head = prop_oneof![
        4 => Just("Received: x\nFrom: a\nTo: b\nSubject: c\n"),
        1 => Just("From: a\n"),
        1 => Just("\x1f\u{8b}"),
        1 => Just("")];
    (head, ending(), body)
        .prop_map(|(head, ending, body)| [head.replace('\n', ending).as_bytes(), &body].concat())
}

/// An mbox.
pub fn mbox() -> impl Strategy<Value = Vec<u8>> {
    let from = prop_oneof![
        5 => Just("From a@example.org Thu Aug 22 12:36:23 2002\n"),
        1 => Just("From here on\n"),
        1 => Just("From a Thu Aug 22 12:36:23 2002 ")];
    let blank = prop_oneof![4 => Just("\n"), 1 => Just(""), 1 => Just("\n\n")];
    vec((from, message(), blank, ending()), 0..5).prop_map(|messages| {
        let mut whole = Vec::new();
        for (from, message, blank, ending) in messages {
            whole.extend_from_slice(from.replace('\n', ending).as_bytes());
            whole.extend_from_slice(&message);
            whole.extend_from_slice(blank.replace('\n', ending).as_bytes());
        }
        whole
    })
}

/// Frames a message as Dovecot does.
pub fn dbox_frame(message: &[u8], metadata: &str) -> Vec<u8> {
    let mut frame = format!("\x01\x02N          {:016X}\n", message.len()).into_bytes();
    frame.extend_from_slice(message);
    frame.extend_from_slice(format!("\n\x01\x03\n{metadata}\n").as_bytes());
    frame
}

/// An mdbox file, now and then broken.
pub fn dbox() -> impl Strategy<Value = Vec<u8>> {
    let metadata = prop_oneof![4 => Just("R5f3a2b1c\nGabc\n"), 1 => Just(""), 1 => Just("no end")];
    let spoil = prop_oneof![4 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (vec((message(), metadata), 0..4), spoil).prop_map(|(messages, spoil)| {
        let mut whole = b"2 M1e C5f3a2b1c\n".to_vec();
        for (message, metadata) in messages {
            whole.extend_from_slice(&dbox_frame(&message, metadata));
        }
        if let Some(place) = spoil {
            whole.truncate(place.index(whole.len() + 1));
        }
        whole
    })
}
