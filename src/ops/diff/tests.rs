use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use super::*;
use crate::base::interrupt::Interrupt;
use crate::format::content::{Content, Piece, Run, Section, Shape};
use crate::format::page::{File, Node, Owner};
use crate::format::snapshot::Tree;
use crate::repo::tree::{PageCut, TreeBuilder};

type Pages = HashMap<BlobId, Vec<u8>>;

/// Files by their paths; a path that ends with a slash is an empty folder.
type Files<'a> = BTreeMap<&'a str, &'a str>;

fn id(bytes: &[u8]) -> BlobId {
    BlobId(*blake3::hash(bytes).as_bytes().first_chunk().unwrap())
}

fn entry(name: &str, node: Node) -> Entry {
    let owner = Arc::new(Owner::default());
    Entry {
        name: name.as_bytes().to_vec(),
        mode: 0o600,
        owner,
        mtime_s: 7,
        mtime_ns: 0,
        xattrs: Vec::new(),
        node,
    }
}

fn file(text: &str) -> Node {
    let pieces = vec![Piece::Plain(vec![id(text.as_bytes())])];
    let runs = vec![Run { piece: 0, length: text.len() as u64 }];
    let content = Content::Inline(vec![Section { shape: Shape::Message, pieces, runs }]);
    Node::File(File { size: text.len() as u64, content, sparse: false, link_group: None })
}

fn folder(files: &Files<'_>, pages: &mut Pages) -> Tree {
    let mut entries: BTreeMap<&str, Node> = BTreeMap::new();
    let mut below: BTreeMap<&str, Files<'_>> = BTreeMap::new();
    for (path, text) in files {
        match path.split_once('/') {
            None => drop(entries.insert(path, file(text))),
            Some((name, "")) => drop(below.entry(name).or_default()),
            Some((name, rest)) => drop(below.entry(name).or_default().insert(rest, text)),
        }
    }
    for (name, files) in below {
        entries.insert(name, Node::Folder(folder(&files, pages)));
    }
    let cut = PageCut::new([3; 32]);
    let mut builder = TreeBuilder::new(&cut);
    let mut store = |bytes: &[u8]| {
        pages.insert(id(bytes), bytes.to_vec());
        Ok::<_, Infallible>(id(bytes))
    };
    for (name, node) in entries {
        builder.push(entry(name, node), &mut store).unwrap();
    }
    builder.finish(&mut store).unwrap()
}

fn diff(left: &Files<'_>, right: &Files<'_>, comparable: bool) -> (Vec<String>, Summary) {
    let mut pages = Pages::new();
    let trees = [folder(left, &mut pages), folder(right, &mut pages)];
    let fetch = |id: &BlobId| pages.get(id).cloned().ok_or(RepoError::MissingBlob { id: *id });
    let [left, right] = trees.map(|tree| Side {
        base: b"/".to_vec(),
        tops: vec![(b"/v".to_vec(), entry("v", Node::Folder(tree)))],
        fetch: &fetch,
    });
    let mut lines = Vec::new();
    let mut tell = |change: Change| {
        let path = String::from_utf8(change.path).unwrap();
        lines.push(match change.kind {
            ChangeKind::Added => format!("+ {path}"),
            ChangeKind::Removed => format!("- {path}"),
            ChangeKind::Content => format!("M {path}"),
            ChangeKind::Metadata => format!("U {path}"),
            ChangeKind::Flags(to) => format!("F {path} {}", String::from_utf8(to).unwrap()),
            ChangeKind::Unreadable(_) => format!("? {path}"),
        });
        Ok::<_, RepoError>(())
    };
    let options = Options { metadata: true, comparable };
    let summary = run([&left, &right], options, &Interrupt::default(), &mut tell).unwrap();
    (lines, summary)
}

#[test]
fn equal_trees_have_no_differences() {
    let files = Files::from([("a/cur/1.M.x:2,S", "one"), ("b", "two"), ("empty/", "")]);
    for comparable in [true, false] {
        let (lines, summary) = diff(&files, &files, comparable);
        assert_eq!(lines, Vec::<String>::new());
        assert!(summary.is_empty());
    }
}

#[test]
fn files_and_folders_come_go_and_change() {
    let left = Files::from([("a/old", "1"), ("a/same", "2"), ("b", "three"), ("c/d/e", "4"), ("t", "x")]);
    let right = Files::from([("a/new", "1"), ("a/same", "2"), ("b", "3"), ("f/g", "5"), ("t/u", "x")]);
    let (lines, summary) = diff(&left, &right, true);
    let expected = [
        "+ /v/a/new",
        "- /v/a/old",
        "M /v/b",
        "- /v/c",
        "- /v/c/d",
        "- /v/c/d/e",
        "+ /v/f",
        "+ /v/f/g",
        "- /v/t",
        "+ /v/t",
        "+ /v/t/u",
    ];
    assert_eq!(lines, expected);
    assert_eq!((summary.added.files, summary.added.folders, summary.removed.folders), (3, 2, 2));
    assert_eq!((summary.removed.files, summary.content, summary.flags), (3, 1, 0));
}

#[test]
fn flags_and_moves_to_cur_are_one_line() {
    let left = Files::from([
        ("m/cur/1.M1.x:2,", "one"),
        ("m/cur/2.M2.x:2,S", "two"),
        ("m/cur/4.M4.x:2,", "gone"),
        ("m/cur/5.M5.x:2,", "before"),
        ("m/new/3.M3.x", "three"),
    ]);
    let right = Files::from([
        ("m/cur/1.M1.x:2,S", "one"),
        ("m/cur/2.M2.x:2,S", "two"),
        ("m/cur/3.M3.x:2,RS", "three"),
        ("m/cur/5.M5.x:2,S", "after it"),
        ("m/new/6.M6.x", "six"),
    ]);
    let expected = [
        "F /v/m/cur/1.M1.x:2, /v/m/cur/1.M1.x:2,S",
        "- /v/m/cur/4.M4.x:2,",
        "- /v/m/cur/5.M5.x:2,",
        "+ /v/m/cur/5.M5.x:2,S",
        "F /v/m/new/3.M3.x /v/m/cur/3.M3.x:2,RS",
        "+ /v/m/new/6.M6.x",
    ];
    for comparable in [true, false] {
        let (lines, summary) = diff(&left, &right, comparable);
        assert_eq!(lines, expected);
        assert_eq!((summary.flags, summary.added.messages, summary.removed.messages), (2, 2, 2));
    }
}

#[test]
fn twins_are_paired_one_to_one() {
    let left = Files::from([("m/cur/1.M1.x:2,", "one"), ("m/new/1.M1.x", "one")]);
    let right = Files::from([("m/cur/1.M1.x:2,S", "one"), ("m/new/", "")]);
    let (lines, summary) = diff(&left, &right, true);
    assert_eq!(lines.len(), 2);
    assert_eq!((summary.flags, summary.removed.files), (1, 1));
}

#[test]
fn a_new_mailbox_is_listed_whole() {
    let left = Files::from([("a/", "")]);
    let right = Files::from([("a/", ""), ("b/cur/1.M.x:2,S", "one"), ("b/new/", "")]);
    let (lines, summary) = diff(&left, &right, true);
    assert_eq!(lines, ["+ /v/b", "+ /v/b/cur", "+ /v/b/cur/1.M.x:2,S", "+ /v/b/new"]);
    assert_eq!((summary.added.files, summary.added.folders, summary.added.messages), (1, 3, 1));
}
