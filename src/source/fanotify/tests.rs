use std::fs;
use std::fs::File;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;
use crate::source::file_system::FileSystem;

/// A folder on a disk, and a watcher of that; `None` where nobody may watch it, said loudly.
fn watched(name: &str) -> Option<(tempfile::TempDir, File, Watcher)> {
    let folder = tempfile::tempdir().unwrap();
    let open = File::open(folder.path()).unwrap();
    let path = folder.path().canonicalize().unwrap();
    match Watcher::new().and_then(|watcher| watcher.watch(&open, &path).map(|()| watcher)) {
        Ok(watcher) => Some((folder, open, watcher)),
        Err(error) => {
            eprintln!("SKIPPED: {name}: fanotify: {error}");
            None
        }
    }
}

/// Everything told so far of a folder and those below it: path and name. Others use the same disk.
fn told(watcher: &mut Watcher, open: &File, below: &Path) -> Vec<(String, String)> {
    let below = below.canonicalize().unwrap();
    let mut found = Vec::new();
    loop {
        let told = watcher.read().unwrap();
        if told.is_empty() {
            return found;
        }
        for told in told {
            let Told::Change(change) = told else { panic!("an overflow") };
            assert_eq!(change.file_system, FileSystem::of(open).id);
            let Ok(path) = change.folder.path(open.as_fd()) else { continue };
            let path = String::from_utf8_lossy(&path).into_owned();
            if let Ok(path) = Path::new(&path).strip_prefix(&below) {
                let name = String::from_utf8_lossy(&change.name).into_owned();
                found.push((path.display().to_string(), name));
            }
        }
    }
}

fn pair(path: &str, name: &str) -> (String, String) {
    (path.to_owned(), name.to_owned())
}

#[test]
fn one_mark_tells_of_every_folder() {
    let Some((folder, open, mut watcher)) = watched("one_mark_tells_of_every_folder") else { return };
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("a/b")).unwrap();
    assert_eq!(told(&mut watcher, &open, folder.path()), [pair("", "a"), pair("a", "b")]);
    fs::write(path("a/b/c"), "c").unwrap();
    assert_eq!(told(&mut watcher, &open, folder.path()), [pair("a/b", "c")], "created, written, closed");
    fs::rename(path("a"), path("z")).unwrap();
    assert_eq!(told(&mut watcher, &open, folder.path()), [pair("", "a"), pair("", "z")]);
    fs::set_permissions(path("z/b/c"), fs::metadata(path("z/b/c")).unwrap().permissions()).unwrap();
    fs::set_permissions(path("z"), fs::metadata(path("z")).unwrap().permissions()).unwrap();
    assert_eq!(told(&mut watcher, &open, folder.path()), [pair("z/b", "c"), pair("z", "")]);
    fs::read(path("z/b/c")).unwrap();
    fs::read_dir(path("z")).unwrap().count();
    assert_eq!(told(&mut watcher, &open, folder.path()), []);
    fs::remove_dir_all(path("z")).unwrap();
    // Of what happened in a folder that is gone only its parent knows.
    assert_eq!(told(&mut watcher, &open, folder.path()), [pair("", "z")]);

    let described = format!("/proc/self/fdinfo/{}", watcher.as_fd().as_raw_fd());
    let described = fs::read_to_string(described).unwrap();
    assert_eq!(described.matches("fanotify sdev:").count(), 1, "{described}");
    assert_eq!(described.matches("fanotify ino:").count(), 0, "{described}");
}

#[test]
fn a_full_queue_is_told() {
    if watched("a_full_queue_is_told").is_none() {
        return;
    }
    // The flood is for nobody else.
    let disk = tempfile::tempdir().unwrap();
    if mount("tmpfs", disk.path(), "tmpfs", MountFlags::empty(), None).is_err() {
        return eprintln!("SKIPPED: a_full_queue_is_told: mounting is not allowed here");
    }
    flood(disk.path());
    unmount(disk.path(), UnmountFlags::empty()).unwrap();
}

fn flood(disk: &Path) {
    let path = disk.canonicalize().unwrap();
    let open = File::open(disk).unwrap();
    let mut watcher = Watcher::new().unwrap();
    watcher.watch(&open, &path).unwrap();
    let limit = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap_or_default();
    let Ok(limit @ ..100_000) = limit.trim().parse::<u32>() else {
        return eprintln!("SKIPPED: a_full_queue_is_told: the system holds very many");
    };
    for number in 0..limit + 100 {
        File::create(disk.join(number.to_string())).unwrap();
    }
    let mut all = Vec::new();
    loop {
        let told = watcher.read().unwrap();
        if told.is_empty() {
            break;
        }
        all.extend(told);
    }
    assert!(all.contains(&Told::Overflow), "{} events", all.len());
}

#[test]
fn a_folder_that_is_gone_has_no_path() {
    let Some((folder, open, _watcher)) = watched("a_folder_that_is_gone_has_no_path") else { return };
    let path = folder.path().join("a");
    fs::create_dir(&path).unwrap();
    let handle = Handle::of(File::open(&path).unwrap().as_fd()).unwrap();
    let real = path.canonicalize().unwrap();
    assert_eq!(handle.path(open.as_fd()).unwrap(), real.as_os_str().as_bytes());
    fs::remove_dir(&path).unwrap();
    assert_eq!(handle.path(open.as_fd()), Err(Errno::STALE));
    let wrong = Handle::new(1, &[0xff; 8]).unwrap();
    assert_eq!(wrong.path(open.as_fd()), Err(Errno::STALE));
}

#[test]
fn what_has_no_handles_is_refused() {
    let Ok(watcher) = Watcher::new() else {
        return eprintln!("SKIPPED: what_has_no_handles_is_refused: no fanotify here");
    };
    let proc = File::open("/proc").unwrap();
    assert!(watcher.watch(&proc, Path::new("/proc")).is_err());
    let folder = tempfile::tempdir().unwrap();
    let open = File::open(folder.path()).unwrap();
    assert!(watcher.watch(&open, Path::new("/elsewhere")).is_err());
}
