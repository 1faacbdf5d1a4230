//! Whole trees of real mail: `MAILARK_CORPORA=/mail cargo test --test it corpora -- --ignored`.

use std::path::PathBuf;

use crate::support::{TestEnv, is_root};
use crate::tree::{Ignore, assert_same};

#[test]
#[ignore = "needs MAILARK_CORPORA, a folder of trees of mail"]
fn whole_corpora_come_back_identical() {
    let corpora =
        std::env::var_os("MAILARK_CORPORA").map(PathBuf::from).expect("MAILARK_CORPORA names a folder");
    let mut trees: Vec<PathBuf> = std::fs::read_dir(&corpora)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    trees.sort();
    assert!(!trees.is_empty(), "{} holds no folder", corpora.display());
    for tree in trees {
        let env = TestEnv::with_repository();
        let report = env.backup(&tree);
        println!("{}: {} messages, {}", tree.display(), report["messages"], report["attachments"]);
        env.check();
        let restored = env.restore("latest", "restored");
        assert_same(&tree, &restored, Ignore { owners: !is_root(), ..Ignore::default() });
        let again = env.backup(&tree);
        assert_eq!(again["new_bytes"], 0, "{}: {again}", tree.display());
    }
}
