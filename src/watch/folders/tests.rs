use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;
use crate::source::exclude::Excludes;
use crate::source::watch::Event;

struct Tree(tempfile::TempDir, Excludes);

impl Tree {
    fn new() -> Tree {
        let root = tempfile::tempdir().unwrap();
        for folder in ["user/cur", "user/new", "user/tmp", "user/.Sent/cur", "user/.Sent/new", "own"] {
            make(&root.path().join(folder));
        }
        Tree(root, Excludes::new(vec![b"*.lock".to_vec(), b"skipped/".to_vec()]).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn starts(&self, name: &str) -> Vec<Start> {
        vec![Start::new(&self.path(name), None).unwrap()]
    }

    fn what<'a>(&'a self, starts: &'a [Start], own: &'a [PathBuf], each: bool) -> What<'a> {
        What { starts, excludes: &self.1, own, one_file_system: false, limit: 100, each }
    }

    fn write(&self, name: &str) {
        fs::write(self.path(name), name).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }
}

fn make(path: &Path) {
    fs::create_dir_all(path).unwrap();
}

fn skipped(name: &str, why: &str) {
    eprintln!("SKIPPED: {name}: {why}");
}

/// Both ways to watch a folder, one by one first, as far as they are there.
fn ways(name: &str) -> Vec<bool> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let works = FileSystems::new().is_some_and(|mut whole| whole.watch(path.as_os_str().as_bytes()));
    if !works {
        skipped(name, "no file system may be watched as a whole here");
    }
    [true, false].into_iter().filter(|each| *each || works).collect()
}

fn watched(file_systems: usize, folders: usize, blind: u64) -> Watched {
    Watched { file_systems, folders, blind }
}

#[test]
fn everything_but_what_is_left_out_wakes() {
    for each in ways("everything_but_what_is_left_out_wakes") {
        let tree = Tree::new();
        make(&tree.path("skipped/deep"));
        let (starts, own) = (tree.starts(""), [tree.path("own")]);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        assert!(folders.sees_all());
        let all = if each { watched(0, 7, 0) } else { watched(1, 0, 0) };
        assert_eq!(folders.watched(), all, "neither tmp nor own");
        assert!(!folders.have_changed());
        for quiet in ["own/pack", "user/tmp/1", "user/uidlist.lock", "skipped/1", "skipped/deep/1"] {
            tree.write(quiet);
            assert!(!folders.have_changed(), "{quiet} {each}");
        }
        for loud in
            ["user/new/1", "user/.Sent/cur/2", "user/subscriptions", "user/subscriptions", "skipped.x"]
        {
            tree.write(loud);
            assert!(folders.have_changed(), "{loud} {each}");
        }
        tree.rename("user/new/1", "user/cur/1:2,S");
        assert!(folders.have_changed());
        let flags = tree.path("user/cur/1:2,S");
        fs::set_permissions(&flags, fs::metadata(&flags).unwrap().permissions()).unwrap();
        assert!(folders.have_changed());
        fs::read(&flags).unwrap();
        assert!(!folders.have_changed());
        fs::remove_file(flags).unwrap();
        assert!(folders.have_changed() && !folders.have_changed());
        make(&tree.path("user/skipped/deep"));
        assert_eq!(folders.have_changed(), each, "one by one nobody says that it is a folder");
    }
}

#[test]
fn new_folders_are_watched_with_what_is_in_them() {
    for each in ways("new_folders_are_watched_with_what_is_in_them") {
        let tree = Tree::new();
        let (starts, own) = (tree.starts(""), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        make(&tree.path("moved/deep/er"));
        assert!(folders.have_changed());
        tree.write("moved/deep/er/1");
        assert!(folders.have_changed() && !folders.is_out_of_date());
        tree.rename("moved", "elsewhere");
        assert!(folders.have_changed());
        assert_eq!(folders.is_out_of_date(), each, "a whole file system needs no new survey");
        if each {
            folders = Folders::survey(&what);
        }
        tree.write("elsewhere/deep/er/2");
        assert!(folders.have_changed());
    }
}

#[test]
fn what_moves_counts_by_where_it_is_then() {
    for each in ways("what_moves_counts_by_where_it_is_then") {
        let (tree, other) = (Tree::new(), Tree::new());
        let (starts, own) = (tree.starts("user"), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        make(&tree.path("beside/deep"));
        for quiet in ["beside/deep/1", "userland", "own/x"] {
            tree.write(quiet);
            assert!(!folders.have_changed(), "{quiet} {each}");
        }
        other.write("user/new/1");
        assert!(!folders.have_changed(), "another tree of the same disk");
        tree.rename("beside", "user/inside");
        assert!(folders.have_changed());
        tree.write("user/inside/deep/2");
        assert!(folders.have_changed(), "{each}");
        tree.rename("user/inside", "beside");
        assert!(folders.have_changed());
        if each {
            folders = Folders::survey(&what);
        }
        tree.write("beside/deep/3");
        assert!(!folders.have_changed(), "{each}");
        make(&tree.path("user/skipped/deep"));
        folders.have_changed();
        tree.write("user/skipped/deep/1");
        assert!(!folders.have_changed(), "{each}");
        tree.rename("user/skipped", "user/taken");
        assert!(folders.have_changed());
        tree.write("user/taken/deep/1");
        assert!(folders.have_changed(), "{each}");
    }
}

/// Makes folders in each other, so many that the system does not tell the path of the last one; gives that.
fn make_deep(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut folder = open(path, flags, Mode::empty()).unwrap();
    let name = "a".repeat(200);
    for _ in 0..30 {
        mkdirat(&folder, &name, Mode::RWXU).unwrap();
        folder = openat(&folder, &name, flags, Mode::empty()).unwrap();
    }
    folder
}

#[test]
fn paths_too_long_to_be_told_count_by_where_they_begin() {
    for each in ways("paths_too_long_to_be_told_count_by_where_they_begin").into_iter().filter(|each| !each) {
        let tree = Tree::new();
        let (inside, beside) = (make_deep(&tree.path("user/cur")), make_deep(&tree.path("own")));
        let (starts, own) = (tree.starts("user"), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        mkdirat(&beside, "x", Mode::RWXU).unwrap();
        assert!(!folders.have_changed() && !folders.is_out_of_date());
        mkdirat(&inside, "x", Mode::RWXU).unwrap();
        assert!(folders.have_changed() && !folders.is_out_of_date());
    }
}

#[test]
fn a_folder_becomes_a_maildir() {
    for each in ways("a_folder_becomes_a_maildir").into_iter().filter(|each| !each) {
        let tree = Tree::new();
        let (starts, own) = (tree.starts(""), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        make(&tree.path("late/tmp"));
        for _ in 0..2 {
            tree.write("late/tmp/1");
            assert!(folders.have_changed());
        }
        make(&tree.path("late/cur"));
        make(&tree.path("late/new"));
        assert!(folders.have_changed());
        tree.write("late/tmp/2");
        assert!(!folders.have_changed());
        fs::remove_dir(tree.path("late/cur")).unwrap();
        assert!(folders.have_changed());
        tree.write("late/tmp/3");
        assert!(folders.have_changed());
    }
}

#[test]
fn a_start_behind_links_is_watched_where_it_leads() {
    for each in ways("a_start_behind_links_is_watched_where_it_leads") {
        let tree = Tree::new();
        make(&tree.path("real/mail"));
        symlink("real", tree.path("link")).unwrap();
        symlink("mail", tree.path("real/last")).unwrap();
        for name in ["link/mail", "link/last", "real/../real/mail"] {
            let (starts, own) = (tree.starts(name), []);
            let what = tree.what(&starts, &own, each);
            let mut folders = Folders::survey(&what);
            tree.write("user/beside");
            assert!(!folders.have_changed(), "{name} {each}");
            tree.write("real/mail/1");
            assert!(folders.have_changed(), "{name} {each}");
        }
        // Excludes mean the path as the user wrote it.
        make(&tree.path("real/mail/x"));
        let (starts, own) = (tree.starts("link/mail"), []);
        let left_out = ["link/mail/x", "link/mail/y"].map(|name| tree.path(name));
        let excludes = Excludes::new(left_out.iter().map(|path| path.as_os_str().as_bytes())).unwrap();
        let what = What { excludes: &excludes, ..tree.what(&starts, &own, each) };
        let mut folders = Folders::survey(&what);
        for quiet in ["real/mail/x/1", "real/mail/y"] {
            tree.write(quiet);
            assert!(!folders.have_changed(), "{quiet} {each}");
        }
    }
}

#[test]
fn a_start_that_goes_and_comes_back_is_told() {
    for each in ways("a_start_that_goes_and_comes_back_is_told") {
        let tree = Tree::new();
        let (starts, own) = (tree.starts("user"), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        tree.rename("user", "away");
        assert!(folders.have_changed() && folders.is_out_of_date(), "{each}");
        let mut folders = Folders::survey(&what);
        assert!(folders.sees_all() && !folders.is_out_of_date(), "{each}");
        tree.write("away/new/1");
        assert!(!folders.have_changed(), "{each}");
        tree.rename("away", "user");
        assert!(folders.have_changed() && folders.is_out_of_date(), "{each}");
        let mut folders = Folders::survey(&what);
        fs::remove_dir_all(tree.path("user")).unwrap();
        assert!(folders.have_changed() && folders.is_out_of_date(), "{each}");
    }
}

#[test]
fn what_is_over_the_limit_is_counted() {
    let tree = Tree::new();
    let (starts, own) = (tree.starts(""), []);
    let what = What { limit: 3, ..tree.what(&starts, &own, true) };
    let folders = Folders::survey(&what);
    assert_eq!(folders.watched(), watched(0, 3, 5));
    assert!(!folders.sees_all());
}

#[test]
fn a_file_system_has_no_limit_and_no_survey() {
    for each in ways("a_file_system_has_no_limit_and_no_survey").into_iter().filter(|each| !each) {
        let tree = Tree::new();
        for number in 0..2_000 {
            make(&tree.path(&format!("user/{}/{number}", number % 40)));
        }
        let (starts, own) = (tree.starts(""), []);
        let what = What { limit: 1, ..tree.what(&starts, &own, each) };
        let mut folders = Folders::survey(&what);
        assert_eq!(folders.watched(), watched(1, 0, 0));
        assert!(folders.sees_all() && !folders.have_changed());
        for number in [0, 1_999] {
            tree.write(&format!("user/{}/{number}/1", number % 40));
            assert!(folders.have_changed(), "{number}");
        }
    }
}

#[test]
fn after_an_overflow_nothing_is_known() {
    let tree = Tree::new();
    let (starts, own) = (tree.starts(""), []);
    let what = tree.what(&starts, &own, true);
    let mut folders = Folders::survey(&what);
    assert!(folders.each.counts_as_change(&folders.scope, Event::Overflow) && folders.is_out_of_date());
}

#[test]
fn an_overflow_of_a_file_system_is_a_change_wherever_it_came_from() {
    let name = "an_overflow_of_a_file_system_is_a_change_wherever_it_came_from";
    let limit = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap_or_default();
    let Ok(limit @ ..100_000) = limit.trim().parse::<u32>() else {
        return skipped(name, "the system holds very many events");
    };
    for each in ways(name).into_iter().filter(|each| !each) {
        let tree = Tree::new();
        // The flood is for nobody else.
        let Some(_disk) = Mounted::new("tmpfs", tree.path("disk")) else {
            return skipped(name, "mounting is not allowed here");
        };
        make(&tree.path("disk/mail"));
        let (starts, own) = (tree.starts("disk/mail"), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        for number in 0..limit + 100 {
            tree.write(&format!("disk/{number}"));
        }
        // One that nobody tells of.
        tree.write("disk/mail/1");
        assert!(folders.have_changed() && !folders.have_changed());
        tree.write("disk/mail/2");
        assert!(folders.have_changed());
        tree.write("disk/again");
        assert!(!folders.have_changed());
    }
}

#[test]
fn of_a_lone_file_only_its_own_changes_count() {
    for each in ways("of_a_lone_file_only_its_own_changes_count") {
        let tree = Tree::new();
        tree.write("user/mbox");
        let (starts, own) = (tree.starts("user/mbox"), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        for quiet in ["user/other", "user/new/1", "user/mbox.lock"] {
            tree.write(quiet);
            assert!(!folders.have_changed(), "{quiet} {each}");
        }
        tree.write("user/mbox");
        assert!(folders.have_changed());
        let starts = tree.starts("not/there");
        let what = tree.what(&starts, &own, each);
        let folders = Folders::survey(&what);
        assert!(!folders.sees_all() && !folders.is_out_of_date());
        make(&tree.path("not/there"));
        assert!(folders.is_out_of_date());
        assert!(Folders::survey(&what).sees_all());
    }
}

/// A file system mounted for a test.
struct Mounted(PathBuf);

impl Mounted {
    fn new(kind: &str, path: PathBuf) -> Option<Mounted> {
        make(&path);
        mount(kind, &path, kind, MountFlags::empty(), None).ok().map(|()| Mounted(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// Does a watcher see a change of this file, and none of its lock?
#[track_caller]
fn sees(folders: &mut Folders<'_>, tree: &Tree, name: &str) {
    folders.have_changed();
    tree.write(&format!("{name}.lock"));
    assert!(!folders.have_changed(), "{name}.lock");
    tree.write(name);
    assert!(folders.have_changed(), "{name}");
}

#[test]
fn what_is_mounted_below_is_watched_as_far_as_it_can_be() {
    let name = "what_is_mounted_below_is_watched_as_far_as_it_can_be";
    for each in ways(name) {
        let tree = Tree::new();
        // It has no handles; below it there is one that has.
        let Some(_plain) = Mounted::new("ramfs", tree.path("user/plain")) else {
            return skipped(name, "mounting is not allowed here");
        };
        let _inner = Mounted::new("tmpfs", tree.path("user/plain/a/inner")).unwrap();
        make(&tree.path("user/plain/a/inner/b"));
        let _left_out = Mounted::new("tmpfs", tree.path("skipped/x")).unwrap();
        let _own = Mounted::new("tmpfs", tree.path("own/x")).unwrap();
        let (starts, own) = (tree.starts(""), [tree.path("own")]);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        // Of the plain one both folders; that the third is mounted upon counts as well.
        let all = if each { watched(0, 11, 0) } else { watched(2, 2, 0) };
        assert_eq!(folders.watched(), all);
        for name in ["user/new/1", "user/plain/1", "user/plain/a/1", "user/plain/a/inner/b/1"] {
            sees(&mut folders, &tree, name);
        }
        make(&tree.path("user/plain/late"));
        sees(&mut folders, &tree, "user/plain/late/1");
        for quiet in ["skipped/x/1", "own/x/1"] {
            tree.write(quiet);
            assert!(!folders.have_changed(), "{quiet} {each}");
        }
        let what = What { one_file_system: true, ..tree.what(&starts, &own, each) };
        let mut folders = Folders::survey(&what);
        tree.write("user/plain/a/inner/b/1");
        tree.write("user/plain/a/1");
        assert!(!folders.have_changed(), "{each}");
        sees(&mut folders, &tree, "user/new/1");
    }
}

#[test]
fn of_mounts_in_each_other_no_folder_counts_twice() {
    let name = "of_mounts_in_each_other_no_folder_counts_twice";
    for each in ways(name).into_iter().filter(|each| !each) {
        let tree = Tree::new();
        let Some(_plain) = Mounted::new("ramfs", tree.path("user/plain")) else {
            return skipped(name, "mounting is not allowed here");
        };
        let _inner = Mounted::new("ramfs", tree.path("user/plain/inner")).unwrap();
        let (starts, own) = (tree.starts(""), []);
        let what = What { limit: 1, ..tree.what(&starts, &own, each) };
        assert_eq!(Folders::survey(&what).watched(), watched(1, 1, 1));
    }
}

#[test]
fn a_mount_that_comes_or_goes_is_a_change() {
    let name = "a_mount_that_comes_or_goes_is_a_change";
    for each in ways(name) {
        let tree = Tree::new();
        let (starts, own) = (tree.starts(""), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        make(&tree.path("late"));
        assert!(folders.have_changed());
        let Some(late) = Mounted::new("tmpfs", tree.path("late")) else {
            return skipped(name, "mounting is not allowed here");
        };
        assert!(folders.have_changed() && folders.is_out_of_date(), "{each}");
        let mut folders = Folders::survey(&what);
        assert!(!folders.have_changed());
        sees(&mut folders, &tree, "late/1");
        drop(late);
        assert!(folders.have_changed() && folders.is_out_of_date(), "{each}");
        // Nothing of ours.
        let mut folders = Folders::survey(&what);
        let other = tempfile::tempdir().unwrap();
        let _other = Mounted::new("tmpfs", other.path().join("x")).unwrap();
        assert!(!folders.have_changed() && !folders.is_out_of_date(), "{each}");
        sees(&mut folders, &tree, "late/1");
    }
}

#[test]
fn one_folder_reached_by_two_paths_counts_by_both() {
    let name = "one_folder_reached_by_two_paths_counts_by_both";
    for each in ways(name) {
        let tree = Tree::new();
        make(&tree.path("outside/deep"));
        make(&tree.path("user/bound"));
        let bound = tree.path("user/bound");
        if mount(tree.path("outside"), &bound, "", MountFlags::BIND, None).is_err() {
            return skipped(name, "mounting is not allowed here");
        }
        let bound = Mounted(bound);
        let (starts, own) = (tree.starts("user"), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        tree.write("outside/deep/1");
        assert!(folders.have_changed(), "{each}");
        sees(&mut folders, &tree, "user/bound/deep/2");
        tree.write("own/1");
        assert!(!folders.have_changed(), "{each}");
        drop(folders);
        drop(bound);
    }
}

#[test]
fn a_watched_file_system_can_be_unmounted() {
    let name = "a_watched_file_system_can_be_unmounted";
    for each in ways(name) {
        let tree = Tree::new();
        let Some(disk) = Mounted::new("tmpfs", tree.path("disk")) else {
            return skipped(name, "mounting is not allowed here");
        };
        make(&tree.path("disk/mail"));
        let (starts, own) = (tree.starts("disk/mail"), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        sees(&mut folders, &tree, "disk/mail/1");
        unmount(&disk.0, UnmountFlags::empty()).unwrap();
        assert!(folders.have_changed() && folders.is_out_of_date(), "{each}");
        // As when the disk comes back.
        mount("tmpfs", &disk.0, "tmpfs", MountFlags::empty(), None).unwrap();
        make(&tree.path("disk/mail"));
        let mut folders = Folders::survey(&what);
        sees(&mut folders, &tree, "disk/mail/1");
    }
}

#[test]
fn a_disk_that_is_away_for_a_moment_is_watched_again() {
    let name = "a_disk_that_is_away_for_a_moment_is_watched_again";
    let run = |program: &str, args: &[&OsStr]| {
        std::process::Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    for each in ways(name).into_iter().filter(|each| !each) {
        let tree = Tree::new();
        let (image, disk) = (tree.path("image"), tree.path("disk"));
        make(&disk);
        fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
        let (image, path) = (image.as_os_str(), disk.as_os_str());
        let args = ["-t", "ext4", "-o", "loop"].map(OsStr::new);
        let args = [&args[..], &[image, path]].concat();
        if !run("mkfs.ext4", &["-q".as_ref(), image]) || !run("mount", &args) {
            return skipped(name, "no ext4 in a file may be made and mounted here");
        }
        let _mounted = Mounted(disk.clone());
        let (starts, own) = (tree.starts("disk"), []);
        let what = tree.what(&starts, &own, each);
        let mut folders = Folders::survey(&what);
        sees(&mut folders, &tree, "disk/1");
        // The same device under the same number, by now as unknown to the kernel as at the beginning.
        unmount(&disk, UnmountFlags::empty()).unwrap();
        assert!(run("mount", &args));
        let differs = folders.have_changed();
        assert_eq!(folders.is_out_of_date(), differs);
        if !differs {
            sees(&mut folders, &tree, "disk/1");
        }
    }
}
