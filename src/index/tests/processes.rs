//! Several processes at one index; each is an [`Index`] of its own here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

#[test]
fn readers_never_fail_while_two_writers_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Index::open(dir.path(), &REPOSITORY).unwrap();
    let deltas: BTreeSet<u64> = (0..80).collect();
    let is_done = AtomicBool::new(false);
    let read = || {
        let mut held = open();
        while !is_done.load(Ordering::Relaxed) {
            for index in [&held, &open()] {
                let applied = index.deltas().unwrap();
                for &delta in deltas.iter().filter(|&&delta| applied.contains(&delta_hash(delta))) {
                    for (id, ..) in SMALL.packs(delta).iter().flat_map(|pack| &pack.blobs) {
                        assert!(index.contains(&SMALL.domain(delta), id).unwrap());
                        let places = index.lookup(&SMALL.domain(delta), id).unwrap();
                        assert!(index.pack(places[0].pack).is_ok());
                    }
                }
            }
            held = open();
        }
    };
    let write = |mut index: Index, order: Vec<u64>| {
        order.iter().for_each(|&delta| SMALL.apply(&mut index, delta).unwrap());
    };
    thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        let forth = scope.spawn(|| write(open(), deltas.iter().copied().collect()));
        let back = scope.spawn(|| write(open(), deltas.iter().rev().copied().collect()));
        let ends = [forth.join(), back.join()];
        is_done.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    SMALL.check(&open(), &deltas).unwrap();
}

#[test]
fn a_process_sees_what_another_forgot() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Index::open(dir.path(), &REPOSITORY).unwrap();
    (0..10).for_each(|delta| SMALL.apply(&mut first, delta).unwrap());
    let second = Index::open(dir.path(), &REPOSITORY).unwrap();
    let (pack, ..) = second.packs().unwrap()[0];
    first.retain(&HashSet::from([delta_hash(7)])).unwrap();
    assert_eq!(second.deltas().unwrap(), HashSet::from([delta_hash(7)]));
    assert!(matches!(second.pack(pack), Err(IndexError::UnknownPack(_))));
    SMALL.check(&second, &BTreeSet::from([7])).unwrap();
}

#[test]
fn an_index_that_started_over_meanwhile_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Index::open(dir.path(), &REPOSITORY).unwrap();
    SMALL.apply(&mut first, 3).unwrap();
    let second = Index::open(dir.path(), &REPOSITORY).unwrap();
    let mut first = first.start_over().unwrap();
    assert!(first.deltas().unwrap().is_empty());
    SMALL.apply(&mut first, 5).unwrap();
    let second = second.start_over().unwrap();
    SMALL.check(&second, &BTreeSet::from([5])).unwrap();
    Index::wipe(dir.path(), &REPOSITORY).unwrap();
    assert!(Index::open(dir.path(), &REPOSITORY).unwrap().deltas().unwrap().is_empty());
}
