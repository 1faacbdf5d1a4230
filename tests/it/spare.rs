//! The spare file: with zero bytes free, the few small objects that give space back can still be written.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use mailark::base::id::{HostId, ObjectHash, SlotId};
use mailark::format::record::Record;
use mailark::repo::{records, snapshots};
use mailark::store::fault::{Fault, FaultSwitch, FaultyDisk, Method, Plan};
use mailark::store::{LocalStore, Place, Storage, StoreErrorKind};

use crate::library::open;
use crate::support::{SmallDisk, TestEnv, noise, skipped};
use crate::tree::TreeFixture;

const SPARE_BYTES: u64 = 1 << 20;

fn spare_bytes(repository: &Path) -> Option<u64> {
    fs::metadata(repository.join("tmp/spare")).ok().map(|found| found.len())
}

fn record(number: u64) -> (Place, Vec<u8>) {
    let bytes = noise(number, 300);
    (Place::Record(number, ObjectHash(*blake3::hash(&bytes).as_bytes())), bytes)
}

#[test]
fn a_full_disk_takes_small_objects_at_the_price_of_the_spare_file() {
    let env = TestEnv::new();
    let switch = Arc::new(FaultSwitch::default());
    let disk = Arc::new(FaultyDisk::new(Arc::clone(&switch)));
    let store = LocalStore::with_disk(&env.repository, disk);
    store.prepare().unwrap();
    assert_eq!(spare_bytes(&env.repository), Some(SPARE_BYTES));
    assert!(store.temporary().unwrap().is_empty(), "it is no rubbish");
    let full = |method, spared| Plan { fault: Fault::Full, method: Some(method), spared, lasting: false };
    let mut next = 0;
    for method in [Method::CreateFile, Method::Write, Method::Sync, Method::Rename] {
        next += 1;
        let (place, bytes) = record(next);
        switch.arm(full(method, 0));
        store.create(&place, &bytes).unwrap();
        assert_eq!(switch.disarm(), Some(method));
        assert_eq!(store.read(&place, 1 << 16).unwrap(), bytes);
        // There was room again: it was made anew by the same call.
        assert_eq!(spare_bytes(&env.repository), Some(SPARE_BYTES), "{method:?}");
    }
    // Packs and key slots have to wait for room.
    switch.arm(full(Method::Write, 0));
    let mut pack = store.create_pack(&HostId([1; 16])).unwrap();
    assert_eq!(pack.write(b"frame").unwrap_err().kind, StoreErrorKind::Full);
    drop(pack);
    switch.arm(full(Method::Write, 0));
    let refused = store.create(&Place::KeySlot(SlotId([1; 8])), b"slot").unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Full);
    switch.disarm();
    assert_eq!(spare_bytes(&env.repository), Some(SPARE_BYTES));
    // A store that stays full says so.
    switch.arm(Plan { lasting: true, ..full(Method::Write, 0) });
    let (place, bytes) = record(9);
    assert_eq!(store.create(&place, &bytes).unwrap_err().kind, StoreErrorKind::Full);
    assert!(switch.disarm().is_some());
    assert_eq!(spare_bytes(&env.repository), None);
    assert_eq!(fs::read_dir(env.repository.join("tmp")).unwrap().count(), 0, "nothing is left behind");
    store.create(&place, &bytes).unwrap();
    assert_eq!(spare_bytes(&env.repository), Some(SPARE_BYTES));
    // What a killed process left of it is made whole.
    fs::write(env.repository.join("tmp/spare"), b"half").unwrap();
    let (place, bytes) = record(10);
    LocalStore::new(&env.repository).create(&place, &bytes).unwrap();
    assert_eq!(spare_bytes(&env.repository), Some(SPARE_BYTES));
}

/// Writes into a file until not one byte more fits.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
}

#[test]
fn a_prune_works_with_zero_bytes_free() {
    let mut env = TestEnv::new();
    let Some(disk) = SmallDisk::mount(env.path("disk"), "120m") else {
        return skipped("a_prune_works_with_zero_bytes_free", "mounting a tmpfs is not allowed here");
    };
    env.repository = disk.0.join("repository");
    env.mailark(["init", "--no-recovery-code"]).expect(0);
    let large = TreeFixture::new(env.path("large"));
    large.file("noise", noise(1, 24 << 20));
    env.mailark(["backup", "--job", "large", "large"]).expect(0);
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..30);
    env.backup(&tree.root);
    let repository = open(&env.repository, &env.key_file).unwrap();
    let listed = snapshots::list(&repository).unwrap();
    let of_large = listed.snapshots.iter().find(|info| info.snapshot.job == "large").unwrap();
    let forget = Record::Forget { snapshots: vec![of_large.name()], rule: "test".to_owned() };
    records::write(&repository, &forget).unwrap();
    let filler = disk.0.join("filler");
    let available = || LocalStore::new(&env.repository).available_bytes().unwrap();
    // Without the file there is no way out.
    let spare = env.repository.join("tmp/spare");
    fs::remove_file(&spare).unwrap();
    fill(&filler);
    assert_eq!(available(), 0);
    env.mailark(["prune", "--now"]).expect(1).naming("space");
    env.check();
    // With it, there is.
    fs::remove_file(&filler).unwrap();
    let result = Record::Result { verb: "test".to_owned(), ok: true, text: String::new() };
    records::write(&open(&env.repository, &env.key_file).unwrap(), &result).unwrap();
    assert_eq!(spare_bytes(&env.repository), Some(SPARE_BYTES));
    fill(&filler);
    assert_eq!(available(), 0);
    let pruned = env.mailark(["prune", "--now"]);
    assert!(pruned.code == 0 || pruned.code == 3, "{}", pruned.both());
    assert!(available() > 20 << 20, "{} bytes are free", available());
    fs::remove_file(&filler).unwrap();
    env.check();
    env.restore("latest", "restored");
}
