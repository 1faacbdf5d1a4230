use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::base::clock;

fn open(path: &Path) -> OpenDir {
    let file = fs::File::open(path).unwrap();
    OpenDir::from_fd(file.into(), path.as_os_str().as_encoded_bytes().to_vec()).unwrap()
}

fn folder(above: &TempDir, name: &str) -> (std::path::PathBuf, OpenDir) {
    let path = above.path().join(name);
    fs::create_dir(&path).unwrap();
    let dir = open(&path);
    (path, dir)
}

fn came(token: Token, name: &str) -> Event {
    Event::Came { token, name: name.as_bytes().into(), cookie: None }
}

fn went(token: Token, name: &str) -> Event {
    Event::Went { token, name: name.as_bytes().into(), cookie: None }
}

#[test]
fn tells_in_order_what_happened_before_the_call() {
    let above = tempfile::tempdir().unwrap();
    let ((a, dir_a), (b, dir_b)) = (folder(&above, "a"), folder(&above, "b"));
    fs::write(a.join("before"), "").unwrap();
    let mut watcher = Watcher::new(10).unwrap();
    assert!(watcher.watch(&dir_a, 7).unwrap());
    assert!(watcher.watch(&dir_b, 8).unwrap());
    assert_eq!(watcher.count(), 2);
    fs::write(a.join("1"), "").unwrap();
    fs::hard_link(a.join("1"), b.join("2")).unwrap();
    fs::rename(a.join("before"), b.join("before")).unwrap();
    fs::rename(b.join("2"), b.join("2:2,S")).unwrap();
    fs::remove_file(a.join("1")).unwrap();
    let events = watcher.drain();
    let cookie = |event: &Event| match event {
        Event::Came { cookie, .. } | Event::Went { cookie, .. } => *cookie,
        _ => None,
    };
    assert_eq!(events.len(), 7, "{events:?}");
    assert_eq!(events[..2], [came(7, "1"), came(8, "2")]);
    assert_eq!(events[6], went(7, "1"));
    for (from, to, (token, old), new) in [(2, 3, (7, "before"), "before"), (4, 5, (8, "2"), "2:2,S")] {
        let cookie = cookie(&events[from]);
        assert!(cookie.is_some());
        assert_eq!(events[from], Event::Went { token, name: old.as_bytes().into(), cookie });
        assert_eq!(events[to], Event::Came { token: 8, name: new.as_bytes().into(), cookie });
    }
    assert_eq!(watcher.drain(), []);
}

#[test]
fn content_and_reading_are_not_told() {
    let above = tempfile::tempdir().unwrap();
    let (a, dir) = folder(&above, "a");
    fs::write(a.join("1"), "").unwrap();
    let mut watcher = Watcher::new(1).unwrap();
    watcher.watch(&dir, 1).unwrap();
    fs::write(a.join("1"), "more").unwrap();
    assert_eq!(fs::read(a.join("1")).unwrap(), b"more");
    assert_eq!(fs::read_dir(&a).unwrap().count(), 1);
    assert_eq!(watcher.drain(), []);
}

#[test]
fn the_open_folder_is_watched_and_not_what_took_its_path() {
    let above = tempfile::tempdir().unwrap();
    let (a, dir) = folder(&above, "a");
    let moved = above.path().join("moved");
    fs::rename(&a, &moved).unwrap();
    fs::create_dir(&a).unwrap();
    let mut watcher = Watcher::new(1).unwrap();
    watcher.watch(&dir, 1).unwrap();
    fs::write(a.join("wrong"), "").unwrap();
    fs::write(moved.join("right"), "").unwrap();
    assert_eq!(watcher.drain(), [came(1, "right")]);
}

#[test]
fn a_folder_that_goes_is_told_and_its_watch_is_free_again() {
    let above = tempfile::tempdir().unwrap();
    let ((a, dir_a), (_, dir_b)) = (folder(&above, "a"), folder(&above, "b"));
    let mut watcher = Watcher::new(1).unwrap();
    assert!(watcher.watch(&dir_a, 1).unwrap());
    assert!(!watcher.watch(&dir_b, 2).unwrap(), "the limit");
    fs::rename(&a, above.path().join("c")).unwrap();
    assert_eq!(watcher.drain(), [Event::FolderGone { token: 1 }]);
    // The kernel speaks of a deleted folder once nobody has it open.
    drop(dir_a);
    fs::remove_dir(above.path().join("c")).unwrap();
    assert_eq!(watcher.drain(), [Event::FolderGone { token: 1 }]);
    assert_eq!(watcher.count(), 0);
    assert!(watcher.watch(&dir_b, 2).unwrap());
}

#[test]
fn a_folder_with_two_tokens_is_told_for_both() {
    let above = tempfile::tempdir().unwrap();
    let (a, dir) = folder(&above, "a");
    let mut watcher = Watcher::new(2).unwrap();
    assert!(watcher.watch(&dir, 1).unwrap() && watcher.watch(&open(&a), 2).unwrap());
    assert_eq!(watcher.count(), 1);
    fs::write(a.join("x"), "").unwrap();
    assert_eq!(watcher.drain(), [came(1, "x"), came(2, "x")]);
}

#[test]
fn a_lone_file_is_refused() {
    let above = tempfile::tempdir().unwrap();
    fs::write(above.path().join("x"), "").unwrap();
    let file = open(&above.path().join("x"));
    assert_eq!(Watcher::new(1).unwrap().watch(&file, 1), Err(Errno::NOTDIR));
}

#[test]
fn what_does_not_fit_into_memory_is_an_overflow_where_it_was_lost() {
    let above = tempfile::tempdir().unwrap();
    let (a, dir) = folder(&above, "a");
    let mut watcher = Watcher::without_thread(1, 3 * EVENT_BYTES).unwrap();
    watcher.watch(&dir, 1).unwrap();
    (0..9).for_each(|number| fs::write(a.join(number.to_string()), "").unwrap());
    assert_eq!(watcher.drain(), [came(1, "0"), came(1, "1"), came(1, "2"), Event::Overflow]);
    fs::write(a.join("after"), "").unwrap();
    assert_eq!(watcher.drain(), [came(1, "after")]);
}

#[test]
fn a_folder_that_goes_after_an_overflow_still_frees_its_watch() {
    let above = tempfile::tempdir().unwrap();
    let (a, dir) = folder(&above, "a");
    let mut watcher = Watcher::without_thread(1, EVENT_BYTES).unwrap();
    watcher.watch(&dir, 1).unwrap();
    (0..3).for_each(|number| fs::write(a.join(number.to_string()), "").unwrap());
    drop(dir);
    fs::remove_dir_all(&a).unwrap();
    assert_eq!(watcher.drain(), [came(1, "0"), Event::Overflow]);
    assert_eq!(watcher.count(), 0);
}

/// Makes more events than the kernel's queue holds.
fn flood(folder: &Path) -> u64 {
    let most = number_of("/proc/sys/fs/inotify/max_queued_events").unwrap_or(KERNEL_QUEUE_EVENTS);
    let pairs = most / 2 + 500;
    for number in 0..pairs {
        let path = folder.join((number % 100).to_string());
        fs::write(&path, "").unwrap();
        fs::remove_file(path).unwrap();
    }
    pairs * 2
}

#[test]
fn what_the_kernel_forgot_is_an_overflow() {
    let above = tempfile::tempdir().unwrap();
    let (a, dir) = folder(&above, "a");
    let mut watcher = Watcher::without_thread(1, usize::MAX).unwrap();
    watcher.watch(&dir, 1).unwrap();
    let made = flood(&a);
    let events = watcher.drain();
    assert_eq!(events.last(), Some(&Event::Overflow));
    assert!((events.len() as u64) < made);
    fs::write(a.join("after"), "").unwrap();
    assert_eq!(watcher.drain(), [came(1, "after")]);
}

#[test]
fn the_thread_empties_the_kernels_queue() {
    let above = tempfile::tempdir().unwrap();
    let (a, dir) = folder(&above, "a");
    let mut watcher = Watcher::new(1).unwrap();
    watcher.watch(&dir, 1).unwrap();
    let begun = clock::stopwatch();
    fs::write(a.join("x"), "").unwrap();
    while watcher.shared.lock().raw.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody reads the queue");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(watcher.drain(), [came(1, "x")]);
}

#[test]
fn the_system_says_its_limit() {
    assert!(system_limit().is_some_and(|limit| limit > 0));
    assert_eq!(number_of("/proc/version"), None);
}

#[test]
fn an_attentive_watcher_is_told_of_writing_in_place() {
    let above = tempfile::tempdir().unwrap();
    let (path, dir) = folder(&above, "a");
    fs::write(path.join("mbox"), "one").unwrap();
    let mut plain = Watcher::new(1).unwrap();
    let mut attentive = Watcher::attentive(1).unwrap();
    assert!(plain.watch(&dir, 1).unwrap() && attentive.watch(&dir, 1).unwrap());
    fs::write(path.join("mbox"), "one, two").unwrap();
    let told = attentive.drain();
    assert!(!told.is_empty() && told.iter().all(|event| *event == came(1, "mbox")), "{told:?}");
    assert_eq!(plain.drain(), []);
}
