//! The fixed keys and structures that all examples are made of.

use std::sync::Arc;

use mailark::base::id::{BlobId, DomainId, HostId, RepositoryId};
use mailark::crypto::blob_id::BlobNamer;
use mailark::format::content::{Base64Lines, BlobKind, Content, Piece, Run, Section, Shape};
use mailark::format::keyset::{EpochSecret, FullKeys, RootSecret, WriterKeys};
use mailark::format::page::{Entry, File, Node, Owner, Page};
use mailark::format::snapshot::{Part, PartType, ScanKind, Snapshot, Totals, Tree};

use super::document;

pub const REPOSITORY: RepositoryId = RepositoryId([0x33; 16]);
pub const HOST: HostId = HostId([0x44; 16]);
pub const DOMAIN: DomainId = DomainId([0x55; 16]);
pub const SALT: [u8; 32] = [0x66; 32];
pub const MTIME: i64 = 1_702_054_054;

pub fn full() -> FullKeys {
    FullKeys::new(REPOSITORY, RootSecret::new([0x11; 32]), vec![EpochSecret::new([0x22; 32])]).unwrap()
}

pub fn writer() -> WriterKeys {
    full().writer(HOST, DOMAIN)
}

/// Draws 66 66 ..., then 77 77 ..., and so on.
pub fn counted() -> impl FnMut(&mut [u8]) {
    let mut next = 0x66;
    move |bytes| {
        bytes.fill(next);
        next += 0x11;
    }
}

pub fn name(kind: BlobKind, plain: &[u8]) -> BlobId {
    BlobNamer::new(&writer().id_key, &writer().host).name(kind, plain)
}

/// Head, text and attachment of the example message.
pub fn pieces() -> [(BlobKind, Vec<u8>); 3] {
    let message = document::text("message");
    let lines: Vec<&str> = message.split_inclusive('\n').collect();
    let head = [&lines[..5], &lines[6..9], &lines[11..]].concat().concat();
    let attachment = (0..10).collect();
    [
        (BlobKind::Head, head.into_bytes()),
        (BlobKind::Text, lines[5].as_bytes().to_vec()),
        (BlobKind::Attachment, attachment),
    ]
}

pub fn section() -> Section {
    let [head, text, attachment] = pieces().map(|(kind, plain)| vec![name(kind, &plain)]);
    let message = document::text("message");
    let lines: Vec<u64> = message.split_inclusive('\n').map(|line| line.len() as u64).collect();
    let run = |piece: u16, lines: &[u64]| Run { piece, length: lines.iter().sum() };
    Section {
        shape: Shape::Message,
        pieces: vec![
            Piece::Plain(head),
            Piece::Plain(text),
            Piece::Base64(Base64Lines { width: 8, crlf: false, closed: true }, attachment),
        ],
        runs: vec![
            run(0, &lines[..5]),
            run(1, &lines[5..6]),
            run(0, &lines[6..9]),
            run(2, &lines[9..11]),
            run(0, &lines[11..]),
        ],
    }
}

pub fn page() -> Page {
    let message = document::text("message");
    let (size, lines) = (message.len(), message.lines().count());
    let vmail = || b"vmail".to_vec();
    let owner = Arc::new(Owner { uid: 5000, gid: 5000, user: vmail(), group: vmail() });
    let content = Content::Inline(vec![section()]);
    let file = File { size: size as u64, content, sparse: false, link_group: None };
    let empty = Tree { root: None, levels: 0, totals: Totals::default() };
    let entry = |name: String, mode, mtime_s, node| Entry {
        name: name.into_bytes(),
        mode,
        owner: Arc::clone(&owner),
        mtime_s,
        mtime_ns: 0,
        xattrs: Vec::new(),
        node,
    };
    Page::Leaf(vec![
        entry(format!("{MTIME}.M1P2.mx,S={size},W={}:2,S", size + lines), 0o600, MTIME, Node::File(file)),
        entry("Drafts".to_owned(), 0o700, MTIME + 6, Node::Folder(empty)),
    ])
}

pub fn totals() -> Totals {
    Totals { files: 1, folders: 1, bytes: document::text("message").len() as u64, messages: 1, newest: MTIME }
}

pub fn snapshot() -> Snapshot {
    let root = Some(name(BlobKind::Tree, &page().encode()));
    let tree = Tree { root, levels: 0, totals: totals() };
    Snapshot {
        host_name: "mx1".to_owned(),
        job: "mail".to_owned(),
        previous: None,
        previous_sequence: 0,
        started: 1_702_054_100_000_000_000,
        ended: 1_702_054_101_000_000_000,
        parts: vec![Part { part_type: PartType::Mail, path: b"/".to_vec(), tree, problems: 0 }],
        tags: vec!["nightly".to_owned()],
        scan: ScanKind::Full,
        suspect: None,
        replaces: None,
        problem_count: 0,
        problems: Vec::new(),
        vanished: 0,
        program: "mailark 0.9.0".to_owned(),
    }
}
