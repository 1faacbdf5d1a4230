//! Any order of changes and questions gives what a map gives; reads are as few as promised.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Apply(u64),
    Retain(u64),
    Set(u8, Vec<u8>),
    Reopen,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u64..40).prop_map(Step::Apply),
        1 => any::<u64>().prop_map(Step::Retain),
        1 => (0u8..3, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(key, value)| Step::Set(key, value)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Settle),
    ]
}

fn run_steps(steps: &[Step], mut index: Index, reopen: impl Fn(Index) -> Index) {
    let mut deltas = BTreeSet::new();
    let mut facts = HashMap::new();
    for step in steps {
        match step {
            Step::Apply(delta) => {
                SMALL.apply(&mut index, *delta).unwrap();
                deltas.insert(*delta);
            }
            Step::Retain(mask) => {
                deltas.retain(|delta| mask >> delta & 1 == 1);
                let listed = deltas.iter().map(|&delta| delta_hash(delta)).collect();
                index.retain(&listed).unwrap();
            }
            Step::Set(key, value) => {
                index.set(&key.to_string(), value).unwrap();
                facts.insert(key.to_string(), value.clone());
            }
            Step::Reopen => index = reopen(index),
            Step::Settle => index.settle().unwrap(),
        }
    }
    SMALL.check(&index, &deltas).unwrap();
    for key in ["0", "1", "2", "3"] {
        assert_eq!(index.get(key).unwrap(), facts.get(key).cloned());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn behaves_as_a_map_does(steps in prop::collection::vec(step(), 0..60)) {
        let dir = tempfile::tempdir().unwrap();
        let open = || Index::open(dir.path(), &REPOSITORY).unwrap();
        run_steps(&steps, open(), |index| { drop(index); open() });
        run_steps(&steps, Index::in_memory(&REPOSITORY), |index| index);
    }
}

#[test]
fn new_ids_are_answered_from_memory_and_known_ones_with_one_read() {
    let world = World { blobs_per_pack: 4_000, blob_pool: u64::MAX };
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path(), &REPOSITORY).unwrap();
    for delta in 0..30 {
        world.apply(&mut index, delta).unwrap();
    }
    drop(index);
    let index = Index::open(dir.path(), &REPOSITORY).unwrap();
    let runs = index.stats().run_count;
    let domain = &world.domain(1);
    for number in 0..100_000 {
        assert!(!index.contains(domain, &BlobId(digest("new", number)[..16].try_into().unwrap())).unwrap());
    }
    let strangers = index.stats().page_reads;
    assert!(strangers <= 100_000 * runs * 16 / 65_536 * 2, "{strangers} reads, {runs} runs");
    assert!(index.stats().filter_bytes * 8 <= index.blob_count() * 19);
    let known: Vec<BlobId> = world.packs(3).iter().flat_map(|pack| pack.blobs.clone()).map(|b| b.0).collect();
    assert!(known.iter().all(|id| index.contains(&world.domain(3), id).unwrap()));
    let reads = index.stats().page_reads - strangers;
    assert!(reads <= known.len() as u64 * 11 / 10, "{reads} reads for {} ids", known.len());
}

#[test]
fn crowded_ids_are_found_in_a_few_reads() {
    let mut index = Index::in_memory(&REPOSITORY);
    let crowded = |number: u32| {
        let mut id = [9; 16];
        id[12..].copy_from_slice(&number.to_be_bytes());
        BlobId(id)
    };
    let info = PackInfo { hash: ObjectHash([1; 32]), size: 1, table: Vec::new() };
    let blobs = (0..50_000).map(|number| (crowded(number * 2), 1, 1)).collect();
    index.apply(&DOMAINS[0], &delta_hash(0), &[DeltaPack { info, blobs }]).unwrap();
    for number in [0, 1, 49_998, 99_998, 99_999] {
        assert_eq!(index.contains(&DOMAINS[0], &crowded(number)).unwrap(), number % 2 == 0);
    }
    assert!(index.stats().page_reads < 5 * 18);
}

#[test]
fn files_are_the_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path(), &REPOSITORY).unwrap();
    SMALL.apply(&mut index, 3).unwrap();
    let mut folders = vec![dir.path().join(REPOSITORY.to_string())];
    let mut file_count = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
            file_count += 1;
        }
    }
    assert!(file_count >= 5, "lock, current, database, journal, run");
}

#[test]
fn a_large_delta_becomes_several_runs_and_levels_merge() {
    let world = World { blobs_per_pack: 6_000, blob_pool: u64::MAX };
    let mut index = Index::in_memory(&REPOSITORY);
    let mut locations = 0;
    for delta in (0..40).filter(|delta| world.domain(*delta) == DOMAINS[0]) {
        world.apply(&mut index, delta).unwrap();
        locations += world.packs(delta).len() as u64 * 6_000;
    }
    index.settle().unwrap();
    assert_eq!(index.blob_count(), locations);
    assert!(index.stats().run_count <= 14, "{:?}", index.stats());
    for pack in world.packs(7) {
        for (id, segment, position) in pack.blobs {
            let found = index.lookup(&world.domain(7), &id).unwrap();
            assert!(found.iter().any(|at| (at.segment, at.position) == (segment, position)));
        }
    }
}
