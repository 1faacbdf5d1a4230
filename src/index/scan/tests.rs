use super::*;

fn owner(job: &str) -> Owner {
    let (repository, host, domain) = (RepositoryId([1; 16]), HostId([2; 16]), DomainId([3; 16]));
    Owner { repository, host, domain, job: job.to_owned() }
}

fn binding(n: u8) -> Binding {
    Binding { snapshot: ObjectHash([n; 32]), rules: [4; 16], ended: 5 }
}

fn state(n: u8) -> FolderState {
    let stamp = Stamp { inode: n.into(), birth: Some(2), mtime: 3, ctime: 4, mode: 5, uid: 6, gid: 7 };
    FolderState { file_system: 8, stamp: Some(stamp), root: Some(BlobId([n; 16])), day: 9 }
}

fn trace(inode: u64) -> Trace {
    Trace { inode, birth: 1_000 + inode as i64, ctime: 2_000 }
}

fn page(n: u8, inodes: &[u64]) -> (BlobId, Option<Vec<Trace>>) {
    (BlobId([n; 16]), Some(inodes.iter().copied().map(trace).collect()))
}

#[test]
fn what_was_committed_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let key = FolderKey::of(b"/var/vmail/alice/cur");
    let cache = ScanCache::open(dir.path(), &owner("mail")).unwrap();
    assert_eq!(cache.binding(), None);
    let mut draft = cache.draft().unwrap();
    draft.put(&key, &state(1), &[page(1, &[10, 11]), page(2, &[12, 0])]).unwrap();
    // Nothing counts before the commit.
    assert_eq!(cache.folder(&key).unwrap(), None);
    draft.commit(&binding(1)).unwrap();
    let cache = ScanCache::open(dir.path(), &owner("mail")).unwrap();
    assert_eq!(cache.binding(), Some(&binding(1)));
    assert_eq!(cache.folder(&key).unwrap(), Some(state(1)));
    let traces = cache.traces(&key).unwrap();
    assert_eq!(traces.of_page(&BlobId([1; 16]), 2), Some(vec![trace(10), trace(11)]));
    assert_eq!(traces.of_page(&BlobId([1; 16]), 3), None);
    assert_eq!(traces.of_page(&BlobId([3; 16]), 2), None);
    let spot = Spot { page: BlobId([1; 16]), position: 1, trace: trace(11) };
    assert_eq!(cache.spots(11).unwrap(), [spot]);
    assert!(cache.spots(0).unwrap().is_empty() && cache.spots(13).unwrap().is_empty());
}

#[test]
fn a_page_without_traces_keeps_those_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let key = FolderKey::of(b"/var/vmail/alice/cur");
    let cache = ScanCache::open(dir.path(), &owner("mail")).unwrap();
    let mut draft = cache.draft().unwrap();
    draft.put(&key, &state(1), &[page(1, &[10, 11]), page(2, &[12])]).unwrap();
    draft.commit(&binding(1)).unwrap();
    let cache = ScanCache::open(dir.path(), &owner("mail")).unwrap();
    let mut draft = cache.draft().unwrap();
    // One is as it was, one is new, one is gone; of the last nothing was known.
    draft.put(&key, &state(2), &[(BlobId([1; 16]), None), page(3, &[13]), (BlobId([4; 16]), None)]).unwrap();
    draft.commit(&binding(2)).unwrap();
    let cache = ScanCache::open(dir.path(), &owner("mail")).unwrap();
    let traces = cache.traces(&key).unwrap();
    let of_page = |n: u8, entries| traces.of_page(&BlobId([n; 16]), entries);
    assert_eq!(of_page(1, 2), Some(vec![trace(10), trace(11)]));
    assert_eq!(of_page(3, 1), Some(vec![trace(13)]));
    assert_eq!((of_page(2, 1), of_page(4, 1)), (None, None));
    assert!(cache.spots(12).unwrap().is_empty() && cache.spots(10).unwrap().len() == 1);
}

#[test]
fn another_job_has_another_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ScanCache::open(dir.path(), &owner("mail")).unwrap();
    cache.draft().unwrap().commit(&binding(1)).unwrap();
    assert!(ScanCache::open(dir.path(), &owner("other")).unwrap().binding().is_none());
    // Even where it lies in the other's place.
    let files: Vec<PathBuf> =
        std::fs::read_dir(dir.path().join(owner("").repository.to_string()).join("scan"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|suffix| suffix == "db"))
            .collect();
    drop(cache);
    let mine = ScanCache::open(dir.path(), &owner("mail")).unwrap().path.clone();
    let other = files.iter().find(|path| **path != mine).unwrap();
    mine_without_journal(&mine);
    std::fs::copy(&mine, other).unwrap();
    assert!(ScanCache::open(dir.path(), &owner("other")).unwrap().binding().is_none());
}

/// Moves what the journal holds into the file itself.
fn mine_without_journal(path: &Path) {
    let connection = DATABASE.connect(path).unwrap();
    connection.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(())).unwrap();
}

#[test]
fn changes_replace_what_they_touch_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [&b"/a"[..], b"/b", b"/c"].map(FolderKey::of);
    let open = || ScanCache::open(dir.path(), &owner("mail")).unwrap();
    let mut draft = open().draft().unwrap();
    for (n, key) in (1..).zip(&keys) {
        let base = u64::from(n) * 10;
        draft.put(key, &state(n), &[page(n, &[base, base + 1]), page(n + 100, &[base + 2])]).unwrap();
    }
    draft.commit(&binding(1)).unwrap();
    // The first stays, the second changes a page, the third goes.
    let mut draft = open().draft().unwrap();
    draft.keep(&keys[0]);
    draft.put_contents(&keys[0], &[(BlobId([1; 16]), vec![1]), (BlobId([2; 16]), vec![2])]).unwrap();
    draft.put_contents(&keys[0], &[(BlobId([2; 16]), vec![2]), (BlobId([3; 16]), vec![3])]).unwrap();
    draft.put(&keys[1], &state(50), &[page(2, &[20, 21]), page(102, &[22, 23])]).unwrap();
    draft.commit(&binding(2)).unwrap();
    let cache = open();
    assert_eq!(cache.folder(&keys[0]).unwrap(), Some(state(1)));
    assert_eq!(cache.folder(&keys[1]).unwrap(), Some(state(50)));
    assert_eq!(cache.folder(&keys[2]).unwrap(), None);
    assert_eq!(cache.traces(&keys[1]).unwrap().of_page(&BlobId([102; 16]), 2).unwrap()[1], trace(23));
    let found: Vec<u64> = (0..50).filter(|inode| !cache.spots(*inode).unwrap().is_empty()).collect();
    assert_eq!(found, [10, 11, 12, 20, 21, 22, 23]);
    let places: i64 =
        cache.connection.query_row("SELECT count(*) FROM places", [], |row| row.get(0)).unwrap();
    assert_eq!(places, 7);
    let contents = cache.contents(&keys[0]).unwrap();
    assert_eq!(contents, HashMap::from([(BlobId([2; 16]), vec![2]), (BlobId([3; 16]), vec![3])]));
    assert!(cache.contents(&keys[1]).unwrap().is_empty());
    // A draft that is given up changes nothing.
    let mut draft = cache.draft().unwrap();
    draft.put(&keys[0], &state(77), &[]).unwrap();
    drop(draft);
    assert_eq!(open().folder(&keys[0]).unwrap(), Some(state(1)));
}

#[test]
fn damage_is_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    let keys: Vec<FolderKey> = (0..40).map(|n| FolderKey::of(format!("/{n}").as_bytes())).collect();
    let cache = ScanCache::open(dir.path(), &owner("mail")).unwrap();
    let mut draft = cache.draft().unwrap();
    for (n, key) in keys.iter().enumerate() {
        draft.put(key, &state(n as u8), &[page(n as u8, &[n as u64 * 2 + 1, n as u64 * 2 + 2])]).unwrap();
    }
    draft.commit(&binding(1)).unwrap();
    let path = cache.path.clone();
    drop(cache);
    mine_without_journal(&path);
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(61) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        let Ok(cache) = ScanCache::open(dir.path(), &owner("mail")) else { continue };
        assert!(cache.binding().is_none_or(|found| *found == binding(1)), "{at}");
        for (n, key) in keys.iter().enumerate() {
            let found = cache.folder(key).ok().flatten();
            assert!(found.is_none_or(|found| found == state(n as u8)), "{at}");
            let traces = cache.traces(key).unwrap_or_default().of_page(&BlobId([n as u8; 16]), 2);
            assert!(
                traces.is_none_or(|found| Some(found) == page(0, &[n as u64 * 2 + 1, n as u64 * 2 + 2]).1),
                "{at}"
            );
            for spot in cache.spots(n as u64 * 2 + 2).unwrap_or_default() {
                assert_eq!((spot.page, spot.position), (BlobId([n as u8; 16]), 1), "{at}");
            }
        }
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let _ = ScanCache::open(dir.path(), &owner("mail"));
    std::fs::write(&path, b"not a database").unwrap();
    assert!(ScanCache::open(dir.path(), &owner("mail")).unwrap().binding().is_none());
}
