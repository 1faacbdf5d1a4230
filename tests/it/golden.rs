//! Repositories that earlier versions of the program made are read for ever.
//!
//! `cargo test --test it -- --ignored make_golden` makes the one of this version anew; once a format is released,
//! its fixture is never made again.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{TestEnv, copy_folder, files_below, noise, write_private};
use crate::tree::{Ignore, TreeFixture, describe, mail, mail_with_attachment, message_name, uidlist};

/// Every fixture: a folder `NAME` with `repository` and `key`, and `NAME.tree`, the files that went in.
const GOLDEN: [&str; 1] = ["golden-0.10"];

/// Folders beside them that are no repositories.
const OTHERS: [&str; 0] = [];

/// Most bytes of one fixture.
const BYTES_MAX: u64 = 100 << 10;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn bytes_below(folder: &Path) -> u64 {
    files_below(folder).iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn golden_repositories_are_read() {
    for name in GOLDEN {
        let mut env = TestEnv::new();
        env.repository = env.path("golden");
        // A copy, so that no test can touch the fixture.
        copy_folder(&fixtures().join(name).join("repository"), &env.repository);
        write_private(&env.key_file, &fs::read(fixtures().join(name).join("key")).unwrap());
        env.check();
        let listed = env.mailark(["snapshots", "--json"]).expect(0).json();
        assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
        assert_eq!(listed[1]["messages"], 9);
        let restored = env.restore("latest", "restored");
        let (wanted, found) = (contents(&fixtures().join(format!("{name}.tree"))), contents(&restored));
        assert_eq!(wanted.len(), found.len());
        assert!(wanted == found, "{name} restores other bytes");
        let source = TreeFixture::new(env.path("vmail"));
        fill(&source);
        let again = env.backup_with(&source.root, &["--host", "golden"]).expect(0).json();
        assert_eq!(again["parent"], listed[1]["id"], "the old snapshot serves as parent");
        let ignore = Ignore { owners: true, ..Ignore::default() };
        crate::tree::assert_described(&times_of_files(&source.root), &times_of_files(&restored), ignore);
    }
}

/// Path and bytes of every file. A checkout keeps no times, so they are not looked at here.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files_below(folder).into_iter();
    files.map(|path| (path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

fn times_of_files(folder: &Path) -> std::collections::BTreeMap<Vec<u8>, crate::tree::Node> {
    let mut all = describe(folder);
    all.retain(|name, _| folder.join(std::ffi::OsStr::from_bytes(name)).is_file());
    all
}

use std::os::unix::ffi::OsStrExt;

#[test]
fn every_fixture_is_listed_and_small() {
    for entry in fs::read_dir(fixtures()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let listed = GOLDEN.contains(&name.trim_end_matches(".tree")) || OTHERS.contains(&name.as_str());
        assert!(listed, "tests/fixtures/{name} is read by no test");
        assert!(bytes_below(&entry.path()) < BYTES_MAX, "tests/fixtures/{name} is too large");
    }
}

/// The tree of the golden repository: what the format knows, in little.
fn fill(tree: &TreeFixture) {
    for number in 0..6 {
        tree.file(format!("alice/cur/{}", message_name(number, "S")), mail(number));
    }
    tree.file(format!("alice/new/{}", message_name(6, "")), mail_with_attachment(6, 6_000));
    let mbox: Vec<u8> = (7..9)
        .flat_map(|n| [b"From bob Mon Nov 23 10:00:00 2026\n".to_vec(), mail(n), b"\n".to_vec()].concat())
        .collect();
    tree.file("mbox", mbox);
    tree.file("alice/dovecot-uidlist", uidlist(30));
    tree.file("notes.bin", noise(9, 3_000));
    for path in files_below(&tree.root) {
        crate::tree::set_mode(&path, 0o644);
    }
}

#[test]
#[ignore = "makes the fixture anew"]
fn make_golden() {
    let target = fixtures().join("golden-0.10");
    let kept = fixtures().join("golden-0.10.tree");
    for old in [&target, &kept] {
        if old.exists() {
            fs::remove_dir_all(old).unwrap();
        }
    }
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.file("notes.bin", b"an older version");
    env.backup_with(&tree.root, &["--host", "golden"]).expect(0);
    fs::remove_dir_all(&tree.root).unwrap();
    let tree = TreeFixture::new(env.path("vmail"));
    fill(&tree);
    env.backup_with(&tree.root, &["--host", "golden", "--tag", "golden"]).expect(0);
    copy_folder(&env.repository, &target.join("repository"));
    fs::write(target.join("key"), fs::read(&env.key_file).unwrap()).unwrap();
    copy_folder(&tree.root, &kept);
    assert!(bytes_below(&target) < BYTES_MAX);
}
