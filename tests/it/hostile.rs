//! Repositories written by somebody who holds a key and means harm: errors, bounded memory, nothing outside.

use std::os::unix::fs::symlink;
use std::process::Command;

use mailark::base::id::BlobId;
use mailark::format::content::{BlobKind, Content, ContentPage, Piece, Run, Section, Shape};
use mailark::format::pack::Compression;
use mailark::format::page::{Fence, File, Node, Page};
use mailark::format::snapshot::Totals;
use mailark::repo::deltas;
use mailark::repo::packer::PlainSegment;

use crate::library::{Forger, entry, tree};
use crate::support::{Output, PROGRAM, TestEnv, files_below, run, tool};
use crate::tree::{Ignore, assert_described, describe};

/// Address space that a command on a hostile repository may take, KiB.
const MEMORY_KIB: u64 = 1_500_000;

fn forger() -> (TestEnv, Forger) {
    let env = TestEnv::with_repository();
    let forger = Forger::new(&env, "forger");
    (env, forger)
}

/// Runs with little memory and little time.
fn confined(env: &TestEnv, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {MEMORY_KIB}; exec timeout -s KILL 30 \"$@\"");
    let output = run(env.surround(&mut command).args(["-c", &script, "sh", PROGRAM]).args(args));
    assert!(!output.stderr.contains("panicked"), "{}", output.both());
    assert!(!output.stderr.contains("memory allocation"), "{}", output.both());
    assert!(output.code < 100, "{}", output.both());
    output
}

/// Check must find something; restore must end, with an error or with what is harmless, and stay in its target.
#[track_caller]
fn assert_refused(env: &TestEnv) -> Output {
    let check = confined(env, &["check", "--read-data"]);
    assert_eq!(check.code, 1, "{}", check.both());
    let output = confined(env, &["restore", "latest", "--to", "jail/target"]);
    assert!(matches!(output.code, 1 | 3), "{}", output.both());
    assert!(files_below(&env.path("jail")).iter().all(|path| path.starts_with(env.path("jail/target"))));
    output
}

fn leaf(forger: &Forger, node: Node) -> BlobId {
    forger.blob(BlobKind::Tree, &Page::Leaf(vec![entry(b"entry", node)]).encode())
}

fn file(size: u64, sections: Vec<Section>) -> Node {
    Node::File(File { size, content: Content::Inline(sections), sparse: false, link_group: None })
}

fn section(pieces: Vec<Piece>, runs: Vec<Run>) -> Section {
    Section { shape: Shape::Bytes, pieces, runs }
}

#[test]
fn decompression_bombs() {
    for claimed in [1_000u32, 8 << 20] {
        let (env, forger) = forger();
        let bomb = zstd::bulk::compress(&vec![0; 400 << 20], 19).unwrap();
        let id = BlobId([1; 16]);
        forger.segment(PlainSegment {
            kind: BlobKind::File,
            compression: Compression::Zstd,
            stored: bomb,
            lengths: vec![claimed],
            ids: vec![id],
        });
        let length = u64::from(claimed);
        let piece = section(vec![Piece::Plain(vec![id])], vec![Run { piece: 0, length }]);
        let root = leaf(&forger, file(length, vec![piece]));
        forger.commit("bomb", tree(root, 0));
        assert_refused(&env);
    }
}

#[test]
fn a_segment_that_claims_too_much_spoils_its_delta_only() {
    let (env, forger) = forger();
    let root = leaf(&forger, Node::Fifo);
    forger.commit("good", tree(root, 0));
    let forger = Forger::new(&env, "forger");
    forger.blob(BlobKind::File, b"small");
    let mut packs = forger.packs();
    let contents = &mut packs[0].contents;
    contents.table.segments[0].lengths = vec![u32::MAX; 5];
    contents.ids = vec![BlobId([1; 16]); 5];
    deltas::write(&forger.repository, &forger.writer, 2, &packs).unwrap();
    let check = confined(&env, &["check"]);
    assert!(check.code == 1 && check.stderr.contains("index/"), "{}", check.both());
    confined(&env, &["restore", "latest", "--job", "good", "--to", "good"]).expect(0);
}

#[test]
fn names_that_climb_out() {
    for name in [&b".."[..], b".", b"", b"a/b", b"/etc", b"a\0b", &[b'n'; 256]] {
        let (env, forger) = forger();
        let target = file(1, vec![section(vec![Piece::Zeros(1)], vec![Run { piece: 0, length: 1 }])]);
        let root = forger.blob(BlobKind::Tree, &Page::Leaf(vec![entry(name, target)]).encode());
        forger.commit("names", tree(root, 0));
        assert_refused(&env);
    }
}

#[test]
fn a_link_and_then_a_way_through_it() {
    let (env, forger) = forger();
    let outside = env.folder("outside");
    let inner = leaf(&forger, Node::Fifo);
    let link = Node::Symlink(outside.to_str().unwrap().into());
    // Names of a page ascend, so the pages of one folder are asked to name the link twice.
    let first = forger.blob(BlobKind::Tree, &Page::Leaf(vec![entry(b"a", link)]).encode());
    let second =
        forger.blob(BlobKind::Tree, &Page::Leaf(vec![entry(b"a", Node::Folder(tree(inner, 0)))]).encode());
    let fence = |first: &[u8], page| Fence { first: first.to_vec(), page, totals: Totals::default() };
    let root =
        forger.blob(BlobKind::Tree, &Page::Fence(vec![fence(b"a", first), fence(b"b", second)]).encode());
    forger.commit("links", tree(root, 1));
    let before = describe(&outside);
    let output = confined(&env, &["restore", "latest", "--to", "target"]);
    assert!(matches!(output.code, 1 | 3), "{}", output.both());
    // Two parts may name one path: the link of the first must not lead the second astray.
    symlink(&outside, env.folder("target2").join("entry")).unwrap();
    let forger = Forger::new(&env, "forger");
    let folder = leaf(&forger, Node::Folder(tree(inner, 0)));
    forger.commit("through", tree(folder, 0));
    let args = ["restore", "latest", "--job", "through", "--to", "target2", "--overwrite", "always"];
    let output = confined(&env, &args);
    assert!(matches!(output.code, 0 | 1 | 3), "{}", output.both());
    assert_described(&before, &describe(&outside), Ignore::default());
}

#[test]
fn pages_that_repeat_without_end() {
    let (env, forger) = forger();
    let mut page = leaf(&forger, Node::Fifo);
    for _ in 0..12 {
        let fences = (0..4_000u32).map(|n| Fence {
            first: n.to_be_bytes().map(|b| b | 1).to_vec(),
            page,
            totals: Totals::default(),
        });
        let mut fences: Vec<Fence> = fences.collect();
        fences.sort_by(|a, b| a.first.cmp(&b.first));
        fences.dedup_by(|a, b| a.first == b.first);
        page = forger.blob(BlobKind::Tree, &Page::Fence(fences).encode());
    }
    forger.commit("repeat", tree(page, 12));
    let output = confined(&env, &["restore", "latest", "--to", "jail/target"]);
    assert!(matches!(output.code, 1 | 3), "{}", output.both());
    confined(&env, &["check"]);
}

#[test]
fn contents_that_repeat_without_end() {
    let one = || section(vec![Piece::Zeros(1)], vec![Run { piece: 0, length: 1 }]);
    for (leaf_sections, promise) in [(Vec::new(), 0), (Vec::new(), 1), (vec![one()], 0), (vec![one()], 1)] {
        let (env, forger) = forger();
        let mut page = forger.blob(BlobKind::Tree, &ContentPage::Leaf(leaf_sections).encode());
        for _ in 0..12 {
            page = forger.blob(BlobKind::Tree, &ContentPage::Fence(vec![(page, promise); 4_000]).encode());
        }
        let content = Content::Paged { root: page, levels: 12, messages: 1 };
        let node = Node::File(File { size: 5, content, sparse: false, link_group: None });
        let root = leaf(&forger, node);
        forger.commit("repeat", tree(root, 0));
        assert_refused(&env);
        confined(&env, &["dump", "latest", "/entry"]);
        confined(&env, &["purge", "--message-id", "<x@y>", "--dry-run"]);
        confined(&env, &["repair", "snapshots", "--dry-run"]);
    }
}

#[test]
fn fences_over_other_bytes_or_names_than_they_say() {
    let one = || section(vec![Piece::Zeros(1)], vec![Run { piece: 0, length: 1 }]);
    // As many bytes as the file has, in another order than promised.
    let (env, forger) = forger();
    let [short, long] = [vec![one()], vec![one(), one()]]
        .map(|sections| forger.blob(BlobKind::Tree, &ContentPage::Leaf(sections).encode()));
    let root = forger.blob(BlobKind::Tree, &ContentPage::Fence(vec![(long, 1), (short, 2)]).encode());
    let content = Content::Paged { root, levels: 1, messages: 0 };
    let node = Node::File(File { size: 3, content, sparse: false, link_group: None });
    let root = leaf(&forger, node);
    forger.commit("bytes", tree(root, 0));
    assert_refused(&env);
    // A page that begins before its fence says.
    let (env, forger) = self::forger();
    let first = leaf(&forger, Node::Fifo);
    let fence = Fence { first: b"f".to_vec(), page: first, totals: Totals::default() };
    let root = forger.blob(BlobKind::Tree, &Page::Fence(vec![fence]).encode());
    forger.commit("names", tree(root, 1));
    assert_refused(&env);
}

#[test]
fn pages_of_the_wrong_level_kind_or_none_at_all() {
    let page = |forger: &Forger| leaf(forger, Node::Fifo);
    let fence = |forger: &Forger| {
        let fence = Fence { first: b"entry".to_vec(), page: page(forger), totals: Totals::default() };
        forger.blob(BlobKind::Tree, &Page::Fence(vec![fence]).encode())
    };
    type Case<'a> = dyn Fn(&Forger) -> (BlobId, u8) + 'a;
    let cases: [&Case<'_>; 6] = [
        &|forger| (page(forger), 3),
        &|forger| (fence(forger), 0),
        &|forger| (fence(forger), 2),
        &|_| (BlobId([9; 16]), 0),
        &|forger| (forger.blob(BlobKind::Tree, b"no page"), 0),
        // A message that looks like a listing is no listing.
        &|forger| (forger.blob(BlobKind::File, &Page::Leaf(vec![entry(b"x", Node::Fifo)]).encode()), 0),
    ];
    for case in cases {
        let (env, forger) = forger();
        let (root, levels) = case(&forger);
        forger.commit("levels", tree(root, levels));
        assert_refused(&env);
    }
}

#[test]
fn folders_without_end() {
    let (env, forger) = forger();
    let mut root = leaf(&forger, Node::Fifo);
    for _ in 0..3_000 {
        root = leaf(&forger, Node::Folder(tree(root, 0)));
    }
    forger.commit("deep", tree(root, 0));
    let output = confined(&env, &["restore", "latest", "--to", "jail/target"]);
    assert!(matches!(output.code, 1 | 3), "{}", output.both());
    confined(&env, &["check"]);
    // The standard library's recursive removal is no match for such depths.
    assert!(tool("rm", ["-rf".as_ref(), env.path("jail").as_os_str()]));
}

#[test]
fn huge_and_false_lengths() {
    let cases: [&dyn Fn(&Forger) -> Node; 7] = [
        &|_| {
            file(
                u64::MAX,
                vec![section(vec![Piece::Zeros(u64::MAX)], vec![Run { piece: 0, length: u64::MAX }])],
            )
        },
        &|_| {
            file(1 << 62, vec![section(vec![Piece::Zeros(1 << 62)], vec![Run { piece: 0, length: 1 << 62 }])])
        },
        &|forger| {
            let id = forger.blob(BlobKind::File, b"four");
            file(
                1 << 40,
                vec![section(vec![Piece::Plain(vec![id])], vec![Run { piece: 0, length: 1 << 40 }])],
            )
        },
        &|forger| {
            let id = forger.blob(BlobKind::File, b"four");
            file(2, vec![section(vec![Piece::Plain(vec![id])], vec![Run { piece: 0, length: 2 }])])
        },
        &|forger| {
            let id = forger.blob(BlobKind::File, b"four");
            file(9, vec![section(vec![Piece::Plain(vec![id])], vec![Run { piece: 0, length: 4 }])])
        },
        &|forger| {
            let root =
                forger.blob(BlobKind::Tree, &ContentPage::Fence(vec![(BlobId([3; 16]), u64::MAX)]).encode());
            let content = Content::Paged { root, levels: 12, messages: u64::MAX };
            Node::File(File { size: u64::MAX, content, sparse: true, link_group: Some(1) })
        },
        &|_| {
            // A hole longer than its run, and more behind it.
            let hole = || section(vec![Piece::Zeros(1 << 62)], vec![Run { piece: 0, length: 1 }]);
            file(2, vec![hole(), hole()])
        },
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let (env, forger) = forger();
        let node = case(&forger);
        let root = leaf(&forger, node);
        forger.commit("lengths", tree(root, 0));
        let output = confined(&env, &["restore", "latest", "--to", "target"]);
        if number == 1 && output.code == 0 {
            // A hole of 4 EiB: some file systems take it, and it costs nothing.
            continue;
        }
        assert!(matches!(output.code, 1 | 3), "case {number}: {}", output.both());
        assert!(
            files_below(&env.path("target")).iter().all(|path| path.ends_with(".mailark-restore")),
            "case {number}"
        );
        confined(&env, &["check", "--read-data"]);
    }
}
