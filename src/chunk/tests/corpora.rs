//! Real mail through the splitter and back: `MAILARK_CORPORA=/mail cargo test --lib real_mail -- --ignored`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{SECRET, SplitStats, Splitter, Store};
use crate::chunk::hint_for;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

fn name(path: Option<&Path>) -> &[u8] {
    path.and_then(Path::file_name).map_or(b"", |name| name.as_encoded_bytes())
}

#[test]
#[ignore = "needs MAILARK_CORPORA, a folder of mail"]
fn real_mail_comes_back_unchanged() {
    let folder = std::env::var_os("MAILARK_CORPORA").expect("MAILARK_CORPORA names a folder of mail");
    let mut found = Vec::new();
    files(Path::new(&folder), &mut found);
    assert!(!found.is_empty(), "no files below MAILARK_CORPORA");
    let mut splitter = Splitter::new(SECRET);
    let (mut total, mut runs, mut sections) = (SplitStats::default(), 0, 0);
    let mut splitting = Duration::ZERO;
    for path in &found {
        let bytes = std::fs::read(path).unwrap();
        let mut store = Store::default();
        let began = Instant::now();
        splitter.begin(hint_for(name(Some(path)), name(path.parent())));
        splitter.push(&bytes, &mut store).unwrap();
        total += splitter.finish(&mut store).unwrap();
        splitting += began.elapsed();
        assert!(store.joined() == bytes, "{}", path.display());
        sections += store.sections.len();
        runs += store.sections.iter().map(|section| section.runs.len()).sum::<usize>();
    }
    eprintln!(
        "{} files, {sections} sections, {runs} runs, {splitting:?} (with test sink): {total:#?}",
        found.len()
    );
}
