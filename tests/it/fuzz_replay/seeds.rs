//! The inputs that fuzzing begins with: the examples of the format document, and one small file of each sort.
//!
//! `cargo test --test it make_corpora -- --ignored` writes them anew.

use std::fs;
use std::sync::Arc;

use mailark::base::id::{BlobId, DomainId, HostId, ObjectHash};
use mailark::compress::{self, Effort};
use mailark::format::content::{BlobKind, Content, ContentPage};
use mailark::format::letters::{Head, LetterWriter};
use mailark::format::page::{Entry, Fence, File, Node, Owner, Page};
use mailark::format::parity::ParityHead;
use mailark::format::record::{Record, Replacement, SnapshotName};
use mailark::format::snapshot::{Totals, Tree};

use super::corpus;
use crate::format::document::{bytes as example, text};
use crate::library::entry;
use crate::tree::{mail, mail_with_attachment, uidlist};

fn stretches(head: &[u8], pages: &[Vec<u8>]) -> Vec<u8> {
    let stretch = |page: &Vec<u8>| [&(page.len() as u16).to_be_bytes()[..], page].concat();
    [head.to_vec(), pages.iter().flat_map(stretch).collect()].concat()
}

fn records() -> Vec<(&'static str, Record)> {
    let (host, domain, hash) = (HostId([1; 16]), DomainId([2; 16]), ObjectHash([3; 32]));
    let name = SnapshotName { host, sequence: 300, hash };
    let replaced = vec![
        Replacement { old: name, new: Some(name), received: -5 },
        Replacement { old: name, new: None, received: 1 << 60 },
    ];
    let word = || "word".to_owned();
    vec![
        ("registered", Record::HostRegistered { host, name: word(), domain, verifying_key: [4; 32] }),
        ("revoked", Record::HostRevoked { host, last_sequence: 70_000 }),
        ("forget", Record::Forget { snapshots: vec![name, name], rule: word() }),
        (
            "hold",
            Record::Hold {
                hold: 1,
                snapshots: vec![name],
                users: vec![word()],
                reason: word(),
                released: false,
            },
        ),
        ("rewrite", Record::Rewrite { verb: "purge".to_owned(), replaced }),
        ("condemn", Record::Condemn { packs: vec![hash; 2] }),
        ("doom", Record::Doom { condemned: hash, packs: vec![hash] }),
        ("ended", Record::PruneEnded { condemned: hash, spared: Vec::new() }),
        ("result", Record::Result { verb: "check".to_owned(), ok: true, text: word() }),
        ("tombstone", Record::Tombstone { domain, scopes: vec![[5; 16]], contents: vec![[6; 16]; 2] }),
    ]
}

/// One entry of each kind.
fn leaf() -> Page {
    let tree = Tree { root: Some(BlobId([1; 16])), levels: 1, totals: Totals::default() };
    let file = |link_group| File { size: 0, content: Content::EMPTY, sparse: true, link_group };
    let paged = Content::Paged { root: BlobId([2; 16]), levels: 1, messages: 3 };
    let nodes = [
        Node::File(file(Some(7))),
        Node::File(File { size: 1 << 40, content: paged, sparse: false, link_group: None }),
        Node::Folder(tree),
        Node::Symlink(b"../target".to_vec()),
        Node::Fifo,
        Node::Socket,
        Node::CharDevice(1, 3),
        Node::BlockDevice(8, 300),
    ];
    let named = |(number, node): (usize, Node)| Entry {
        xattrs: (0..number % 2).map(|_| (b"user.x".to_vec(), b"value".to_vec())).collect(),
        owner: Arc::new(Owner { uid: number as u32 / 3, ..Owner::default() }),
        mtime_ns: number as u32 * 999,
        ..entry(format!("name {number}").as_bytes(), node)
    };
    Page::Leaf(nodes.into_iter().enumerate().map(named).collect())
}

fn fence(pages: &[(u8, &[u8])]) -> Vec<u8> {
    let fence = |(page, first): &(u8, &[u8])| Fence {
        first: first.to_vec(),
        page: BlobId([*page; 16]),
        totals: Totals::default(),
    };
    Page::Fence(pages.iter().map(fence).collect()).encode()
}

fn small_leaf(names: &[&[u8]]) -> Vec<u8> {
    Page::Leaf(names.iter().map(|name| entry(name, Node::Fifo)).collect()).encode()
}

fn decoders() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let plain = mail(3).repeat(9);
    let zstd = compress::compress(BlobKind::Text, &plain, Effort::Usual).unwrap().unwrap();
    let content = |name: &str, ids: Vec<u8>| [vec![(ids.len() / 16) as u8], ids, example(name)].concat();
    let parity = ParityHead {
        pack: ObjectHash([1; 32]),
        pack_bytes: 10_000,
        shard_bytes: 4_096,
        data: vec![[2; 16]; 3],
        recovery: vec![[3; 16]; 1],
    };
    let mut all = vec![
        ("checkpoint", "example", example("checkpoint")),
        ("compressed", "text", [&(plain.len() as u32).to_be_bytes()[1..], &zstd].concat()),
        ("config", "example", example("config-clear")),
        ("content", "inline", content("content", example("content-ids"))),
        ("content", "paged", content("content-paged", vec![9; 16])),
        ("content_page", "leaf", example("content-page")),
        ("content_page", "fence", example("content-fence")),
        ("delta", "example", example("delta-sealed")),
        ("envelope", "example", example("pack-envelope")),
        ("key_set", "full", example("full-key-set")),
        ("key_set", "writer", example("writer-key-set")),
        ("pack_list", "example", example("delta-clear")),
        ("page", "leaf", example("page")),
        ("page", "fence", example("page-fence")),
        ("page", "kinds", leaf().encode()),
        ("parity", "head", parity.encode()),
        ("record", "head", example("record-clear")),
        ("recovery_code", "example", text("recovery-code").into_bytes()),
        ("segment_table", "example", example("segment-table")),
        ("slot", "example", example("slot-clear")[8..].to_vec()),
        ("snapshot", "example", example("snapshot")),
        ("trailer", "example", [608u64.to_be_bytes().to_vec(), example("trailer")].concat()),
    ];
    for name in ["config-object", "delta-object", "snapshot-object", "record-object"] {
        all.push(("object", name, example(name)));
    }
    all.extend(records().into_iter().map(|(name, record)| ("record", name, record.encode())));
    all
}

fn walks() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let top = ContentPage::Fence(vec![(BlobId([1; 16]), 141), (BlobId([1; 16]), 141)]).encode();
    let leaves = [small_leaf(&[b"a", b"b"]), small_leaf(&[b"b", b"c"]), small_leaf(&[b"d", b"e"])];
    let [one, other, last] = leaves;
    vec![
        ("content_walk", "leaf", stretches(&[0], &[example("content-page")])),
        ("content_walk", "fence", stretches(&[1], &[top, example("content-page")])),
        ("tree_walk", "leaves", stretches(&[0, 0], &[one.clone(), other.clone()])),
        ("tree_walk", "fence", {
            let pages = [fence(&[(2, b"a"), (4, b"d")]), fence(&[(3, b"b"), (4, b"d")]), one, other, last];
            stretches(&[1, 1], &pages)
        }),
        ("tree_walk", "itself", stretches(&[2, 3], &[fence(&[(0, b"a")]), fence(&[(1, b"a"), (0, b"b")])])),
    ]
}

fn mail_files() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let message = mail_with_attachment(1, 6_000);
    let mbox = [&b"From a@example.org Thu Aug 22 12:36:23 2002\n"[..], &mail(1), b"\n"].concat().repeat(2);
    let frame = [
        format!("2 M1e C5f3a2b1c\n\x01\x02N          {:016X}\n", mail(2).len()).into_bytes(),
        mail(2),
        b"\n\x01\x03\nR5f3a2b1c\nGabc\n\n".to_vec(),
    ]
    .concat();
    let header = b"\x00Content-Type: multipart/mixed;\n\tboundary=\"=_a b\"; charset=x\nContent-Disposition: attachment\n\
                   content-transfer-encoding: BASE64\nX: y\n";
    let encoded = "From: =?utf-8?q?J=C3=B6rg?= <j@x.org>, g: a@b;\nDate: Thu, 12 Mar 2026 14:02:11 +0100\nTo: \"a\" <a@b>\n\
                   Subject: =?iso-8859-1?b?R3L832U=?=\n =?gb2312?q?=BA=CF?=\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\
                   Content-Disposition: attachment; filename*0*=utf-8''a%20; filename*1=b.pdf\n\nx\n--b--\n".as_bytes();
    // Two pieces, three runs, two blobs.
    let join = [
        &[2, 0, 2, 0, 1, 2, 1, 0, 0, 76][..],
        &[3, 0, 4, 1, 5, 0, 2],
        &[0, 5][..],
        b"hello",
        &[0, 4],
        b"wide",
    ]
    .concat();
    let split = |hint: u8, step: u16, file: &[u8]| [&[hint][..], &step.to_be_bytes(), file].concat();
    let (one, bytes) = crate::giving_back::site::letter("INBOX", "17.M1P1.mx,S=9", "Subject: a");
    let mut stream = LetterWriter::new(Vec::new(), &Head::default()).unwrap();
    for whole in [true, false] {
        let mut sink = stream.letter(&one).unwrap();
        std::io::Write::write_all(&mut sink, &bytes).unwrap();
        if whole { sink.finish().unwrap() } else { sink.give_up("gone").unwrap() }
    }
    vec![
        ("letters", "two", stream.finish().unwrap()),
        ("dbox", "file", frame.clone()),
        ("dbox", "metadata", b"\n\x01\x03\nR5f\nG12\n\nrest".to_vec()),
        ("detect", "message", mail(1)),
        ("detect", "coded", b"\x1f\x8b\x08\x00rest".to_vec()),
        ("heading", "encoded", encoded.to_vec()),
        ("heading", "message", message.clone()),
        ("join_hostile", "pieces", join),
        ("mail_state", "uidlist", uidlist(5)),
        ("mail_state", "keywords", b"0 $Forwarded\n1 NonJunk\n".to_vec()),
        ("mail_state", "path", b"/var/vmail/example.org/al/Maildir/.Entw&APw-rfe/cur".to_vec()),
        ("maildir_name", "cur", b"1700503780.M740895P9388.mx1,S=1203,W=1232:2,FS".to_vec()),
        ("maildir_name", "dbox", b"u.17".to_vec()),
        ("mbox", "two", mbox.clone()),
        ("mime", "header", header.to_vec()),
        ("split_join", "message", split(2, 100, &message)),
        ("split_join", "detected", split(0, 7, &message[..2_000])),
        ("split_join", "mbox", split(3, 64, &mbox)),
        ("split_join", "dbox", split(4, 33, &frame)),
        ("split_join", "state", split(5, 500, &uidlist(30))),
    ]
}

#[test]
#[ignore = "makes the corpora anew"]
fn make_corpora() {
    for (target, name, bytes) in decoders().into_iter().chain(walks()).chain(mail_files()) {
        fs::create_dir_all(corpus(target)).unwrap();
        fs::write(corpus(target).join(name), bytes).unwrap();
    }
}

/// A change of the stored form changes the seeds too, or the fuzzer begins with what no decoder takes.
#[test]
fn seeds_are_of_the_form_of_today() {
    for (target, name, bytes) in decoders().into_iter().chain(walks()).chain(mail_files()) {
        let kept = fs::read(corpus(target).join(name)).unwrap();
        // Another version of zstd may compress otherwise.
        let same = kept == bytes || target == "compressed";
        assert!(same, "fuzz/corpus/{target}/{name} is not what `make_corpora` would write");
    }
}
