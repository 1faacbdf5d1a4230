//! Walks over real trees.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, mkfifoat, mknodat, openat};

use super::dir::Listed;
use super::exclude::Excludes;
use super::extents::Extent;
use super::meta::{Kind, Meta};
use super::problem::{Problem, What};
use super::shape::Shape;
use super::start::Start;
use super::walk::{Event, FolderState, Options, Walk};
use super::{SourceError, walk};

const NAMED_CHILD: &str = "MAILARK_TEST_TREE";

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn walk(path: &Path, options: Options) -> Walk {
    Walk::open(&Start::new(path, None).unwrap(), Arc::new(options)).unwrap()
}

/// All folders of a walk, checking the protocol: every directory entry has its pair, in order.
fn collect(walk: Walk) -> Vec<walk::Folder> {
    let mut folders: Vec<walk::Folder> = Vec::new();
    let mut awaited: Vec<Vec<Box<[u8]>>> = Vec::new();
    for event in walk {
        match event {
            Event::Enter(mut folder) => {
                if let Some(names) = awaited.last_mut() {
                    assert_eq!(&*names.pop().expect("an entry of kind directory"), folder.name());
                }
                assert!(folder.entries.is_sorted_by(|a, b| a.name < b.name));
                let below = folder.entries.iter().filter(|listed| listed.kind == Kind::Directory);
                let mut names: Vec<_> = below.map(|listed| listed.name.clone()).collect();
                folder.shape.put_in_order(&mut names, |name| name);
                awaited.push(names.into_iter().rev().collect());
                folder.dir = None;
                folders.push(*folder);
            }
            Event::Leave => assert!(awaited.pop().expect("entered before").is_empty()),
        }
    }
    assert!(awaited.is_empty());
    folders
}

fn problems(folders: &[walk::Folder]) -> Vec<&Problem> {
    folders.iter().flat_map(|folder| &folder.problems).collect()
}

fn shown(folders: &[walk::Folder]) -> Vec<String> {
    let names = |folder: &walk::Folder| {
        let entries =
            folder.entries.iter().map(move |listed| super::problem::join(&folder.path, &listed.name));
        entries.map(|path| String::from_utf8_lossy(&path).into_owned()).collect::<Vec<_>>()
    };
    folders.iter().flat_map(names).collect()
}

fn entry<'a>(folder: &'a walk::Folder, name: &[u8]) -> &'a Listed {
    folder.entries.iter().find(|listed| &*listed.name == name).expect("listed")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes `depth` folders named `name` in each other, paths longer than the system takes among them.
fn nest(root: &Path, name: &str, depth: usize) {
    let mut dir = openat(CWD, root, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&dir, name, Mode::RWXU).unwrap();
        dir = openat(&dir, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let file = openat(&dir, "deep", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
}

#[test]
fn entries_stay_small() {
    assert!(size_of::<Listed>() <= 160, "{}", size_of::<Listed>());
}

#[test]
fn every_kind_of_entry_is_listed() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    fs::write(root.join(OsStr::from_bytes(b"\xff\xfe\n")), b"bytes").unwrap();
    fs::create_dir_all(root.join("b/empty")).unwrap();
    symlink(OsStr::from_bytes(b"nowhere/\xff"), root.join("dangling")).unwrap();
    mkfifoat(CWD, root.join("fifo"), Mode::RUSR).unwrap();
    fs::hard_link(root.join(OsStr::from_bytes(b"\xff\xfe\n")), root.join("twin")).unwrap();
    fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o3751)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    if is_root() {
        mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3))
            .unwrap();
    }
    let folders = collect(walk(root, Options::default()));
    assert_eq!(problems(&folders), Vec::<&Problem>::new());
    assert_eq!(folders.iter().map(|f| f.path.as_slice()).collect::<Vec<_>>(), [&b""[..], b"b", b"b/empty"]);
    let top = &folders[0];
    assert_eq!(entry(top, b"\xff\xfe\n").meta.size, 5);
    assert_eq!(entry(top, b"twin").meta.nlink, 2);
    assert_eq!(entry(top, b"twin").meta.key(), entry(top, b"\xff\xfe\n").meta.key());
    assert_eq!(entry(top, b"dangling").kind, Kind::Symlink(b"nowhere/\xff".as_slice().into()));
    assert_eq!(entry(top, b"fifo").kind, Kind::Fifo);
    assert_eq!(entry(top, b"socket").kind, Kind::Socket);
    assert_eq!(folders[1].meta.mode, 0o3751);
    if is_root() {
        assert_eq!(entry(top, b"null").kind, Kind::CharDevice { major: 1, minor: 3 });
    }
    assert!(entry(top, b"twin").meta.birth.is_some_and(|birth| birth > 0) || !cfg!(target_os = "linux"));
}

#[test]
fn deep_and_long_trees_are_walked_with_few_descriptors() {
    let tree = tempfile::tempdir().unwrap();
    nest(tree.path(), &"n".repeat(100), 1500);
    fs::create_dir(tree.path().join("z")).unwrap();
    let mut most = 0;
    let mut deepest = 0;
    let mut entered = 0;
    for event in walk(tree.path(), Options::default()) {
        let Event::Enter(folder) = event else { continue };
        assert_eq!(folder.state, FolderState::Read, "{:?}", folder.problems);
        entered += 1;
        deepest = deepest.max(folder.path.len());
        if entered % 300 == 0 {
            most = most.max(fs::read_dir("/proc/self/fd").unwrap().count());
        }
        if let Some(listed) = folder.entries.first().filter(|listed| &*listed.name == b"deep") {
            let mut bytes = Vec::new();
            let file = folder.dir.as_ref().unwrap().open_file(listed).unwrap();
            assert_eq!(file.read_into(&mut bytes).unwrap(), None);
            assert_eq!(bytes, b"deep");
        }
    }
    assert_eq!((entered, deepest), (1502, 1500 * 101 - 1));
    // Other tests run at the same time and have files open too.
    assert!(most < 400, "{most} descriptors");
}

#[test]
fn too_deep_is_told_and_the_rest_goes_on() {
    let tree = tempfile::tempdir().unwrap();
    nest(tree.path(), "d", 2100);
    fs::create_dir(tree.path().join("z")).unwrap();
    let folders = collect(walk(tree.path(), Options::default()));
    assert_eq!(problems(&folders).len(), 1);
    assert_eq!(problems(&folders)[0].what, What::Unsupported);
    assert_eq!(folders.last().unwrap().path, b"z");
}

#[test]
fn a_branch_that_is_moved_away_is_told() {
    let tree = tempfile::tempdir().unwrap();
    nest(tree.path(), "d", 100);
    let side = tree.path().join("d/d/side");
    fs::create_dir(&side).unwrap();
    let mut walk = walk(tree.path(), Options::default());
    while !matches!(walk.next(), Some(Event::Enter(folder)) if folder.entries.iter().any(|l| &*l.name == b"deep"))
    {
    }
    // Far above, no longer open: on the way back neither `..` nor the path lead to it.
    let elsewhere = tempfile::tempdir_in(tree.path().parent().unwrap()).unwrap();
    fs::rename(tree.path().join("d/d/d"), elsewhere.path().join("d")).unwrap();
    fs::rename(tree.path().join("d/d"), elsewhere.path().join("e")).unwrap();
    fs::create_dir(tree.path().join("d/d")).unwrap();
    let rest: Vec<_> =
        walk.filter_map(|event| if let Event::Enter(folder) = event { Some(folder) } else { None }).collect();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].path, b"d/d/side");
    assert_eq!((rest[0].state, rest[0].problems[0].what), (FolderState::Unreadable, What::Changed));
}

#[test]
fn what_changes_after_the_listing_is_told_apart() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    for name in ["gone", "fifo", "link", "replaced", "grown"] {
        fs::write(root.join(name), name).unwrap();
    }
    fs::create_dir(root.join("folder")).unwrap();
    fs::create_dir(root.join("lost")).unwrap();
    let mut walk = walk(root, Options::default());
    let Some(Event::Enter(top)) = walk.next() else { panic!("the start comes first") };
    let dir = top.dir.as_ref().unwrap();
    for name in ["gone", "fifo", "link"] {
        fs::remove_file(root.join(name)).unwrap();
    }
    mkfifoat(CWD, root.join("fifo"), Mode::RWXU).unwrap();
    symlink("grown", root.join("link")).unwrap();
    fs::write(root.join("new"), "other").unwrap();
    fs::rename(root.join("new"), root.join("replaced")).unwrap();
    fs::OpenOptions::new().append(true).open(root.join("grown")).unwrap().write_at(b"more", 0).unwrap();
    let what = |name: &[u8]| dir.open_file(entry(&top, name)).unwrap_err().what;
    assert_eq!(what(b"gone"), What::Vanished);
    assert_eq!(what(b"fifo"), What::Changed);
    assert_eq!(what(b"link"), What::Changed);
    let file = dir.open_file(entry(&top, b"replaced")).unwrap();
    let mut text = String::new();
    file.reader().read_to_string(&mut text).unwrap();
    assert_eq!((file.replaced, file.meta.size, text.as_str()), (true, 5, "other"));
    assert_eq!(file.changed_since(5).unwrap(), None);
    let file = dir.open_file(entry(&top, b"grown")).unwrap();
    let mut bytes = Vec::new();
    assert_eq!(file.read_into(&mut bytes).unwrap().map(|c| (c.expected, c.got)), Some((5, 9)));
    fs::remove_dir(root.join("lost")).unwrap();
    fs::remove_dir(root.join("folder")).unwrap();
    symlink("/", root.join("folder")).unwrap();
    let rest =
        walk.filter_map(|event| if let Event::Enter(folder) = event { Some(folder.state) } else { None });
    assert_eq!(rest.collect::<Vec<_>>(), [FolderState::Vanished, FolderState::Vanished]);
}

#[test]
fn start_paths_of_other_kinds() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path().canonicalize().unwrap();
    fs::create_dir(root.join("real")).unwrap();
    fs::write(root.join("real/file"), "text").unwrap();
    fs::write(root.join("real/other"), "text").unwrap();
    symlink("real", root.join("link")).unwrap();
    let open = |path: PathBuf, logical: Option<&[u8]>| {
        Walk::open(&Start::new(&path, logical).unwrap(), Arc::default()).unwrap()
    };

    let single = open(root.join("real/file"), Some(b"/etc/renamed"));
    assert_eq!(single.logical(), b"/etc");
    for event in single {
        let Event::Enter(folder) = event else { continue };
        assert_eq!((folder.state, folder.entries.len()), (FolderState::Partial, 1));
        assert_eq!(&*folder.entries[0].name, b"renamed");
        let mut bytes = Vec::new();
        folder.dir.unwrap().open_file(&folder.entries[0]).unwrap().read_into(&mut bytes).unwrap();
        assert_eq!(bytes, b"text");
    }
    let link = collect(open(root.join("link"), None));
    assert_eq!(link[0].entries[0].kind, Kind::Symlink(b"real".as_slice().into()));
    let followed = open(root.join("link/"), None);
    assert!(followed.logical().ends_with(b"/link"));
    assert_eq!(shown(&collect(followed)), ["file", "other"]);

    let missing = Walk::open(&Start::new(&root.join("none"), None).unwrap(), Arc::default());
    assert!(matches!(missing, Err(SourceError::Start { .. })));
    let as_root = Walk::open(&Start::new(&root.join("real/file"), Some(b"/")).unwrap(), Arc::default());
    assert!(matches!(as_root, Err(SourceError::Logical { .. })));
}

#[test]
fn the_backup_and_patterns_are_left_out() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    fs::create_dir_all(root.join("a/repo/packs")).unwrap();
    fs::create_dir_all(root.join("a/tmp")).unwrap();
    fs::write(root.join("a/tmp.txt"), "").unwrap();
    fs::write(root.join("a/core"), "").unwrap();
    symlink(root.join("a/repo"), root.join("repo-link")).unwrap();
    let own = vec![root.join("repo-link"), PathBuf::from("/nonexistent/cache")];
    let excludes = Excludes::new(["tmp/", "core"]).unwrap();
    let folders = collect(walk(
        root,
        Options { one_file_system: true, excludes, own: own.clone(), ..Options::default() },
    ));
    assert_eq!(shown(&folders), ["a", "repo-link", "a/tmp.txt"]);
    assert_eq!(folders[1].left_out, 3);
    let start = Start::new(&root.join("a/repo"), None).unwrap();
    let refused = Walk::open(&start, Arc::new(Options { own, ..Options::default() }));
    assert!(matches!(refused, Err(SourceError::Own { .. })));
}

#[test]
fn other_file_systems_are_empty_folders() {
    let excludes = Excludes::new(["/*", "!/proc"]).unwrap();
    let folders =
        collect(walk(Path::new("/"), Options { one_file_system: true, excludes, ..Options::default() }));
    assert_eq!(folders.len(), 2);
    assert_eq!((&*folders[1].path, folders[1].state), (&b"proc"[..], FolderState::MountPoint));
    assert!(folders[1].entries.is_empty() && folders[1].problems.is_empty());
}

#[test]
fn attributes_acls_and_holes_are_read() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    fs::create_dir(root.join("d")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"x", 1 << 20).unwrap();
    fs::write(root.join("f"), "text").unwrap();
    let set = rustix::fs::setxattr(root.join("f"), "user.note", b"v\0\xff", rustix::fs::XattrFlags::empty());
    if set.is_err() {
        eprintln!("SKIPPED: no user attributes on this file system");
        return;
    }
    let acl = Command::new("setfacl").args(["-m", "u:5000:rx,d:u:5000:rwx"]).arg(root.join("d")).status();
    let folders = collect(walk(root, Options::default()));
    match acl {
        Ok(status) if status.success() => {
            let names: Vec<&[u8]> = folders[1].meta.xattrs.iter().map(|(name, _)| name.as_slice()).collect();
            assert_eq!(names, [&b"system.posix_acl_access"[..], b"system.posix_acl_default"]);
        }
        _ => eprintln!("SKIPPED: no setfacl here"),
    }
    let Some(Event::Enter(top)) = walk(root, Options::default()).next() else { panic!("the start") };
    let dir = top.dir.as_ref().unwrap();
    let file = dir.open_file(entry(&top, b"f")).unwrap();
    assert_eq!(file.xattrs().unwrap().list, [(b"user.note".to_vec(), b"v\0\xff".to_vec())]);
    assert_eq!(dir.xattrs_of(b"f").unwrap(), file.xattrs().unwrap());
    let sparse = entry(&top, b"sparse");
    assert!(sparse.meta.maybe_sparse());
    let first = dir.open_file(sparse).unwrap().extents().next().unwrap().unwrap();
    assert_eq!(first, Extent::Hole { offset: 0, len: 1 << 20 });
}

#[test]
fn large_folders_are_listed_whole() {
    let tree = tempfile::tempdir().unwrap();
    let files = if cfg!(debug_assertions) { 4_000 } else { 50_000 };
    for number in 0..files {
        File::create(tree.path().join(format!("17{number:08}.M{number}P1.host:2,S"))).unwrap();
    }
    let started = crate::base::clock::stopwatch();
    let folders = collect(walk(tree.path(), Options::default()));
    println!("{files} entries listed in {:?}", started.elapsed());
    assert_eq!(folders[0].entries.len(), files);
}

/// Runs a test that is otherwise ignored as a user who may read little, on a tree that root has made.
#[test]
fn what_may_not_be_read_is_told() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::create_dir(root.join("open")).unwrap();
    fs::write(root.join("open/readable"), "text").unwrap();
    fs::write(root.join("secret"), "text").unwrap();
    for name in ["closed", "secret"] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    if !is_root() {
        return check_closed_tree(root);
    }
    // The build may lie where only root can read.
    let copy = root.join("test-binary");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let status = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["--ignored", "--exact", "source::tests::as_another_user"])
        .env(NAMED_CHILD, root)
        .status();
    match status {
        Ok(status) => assert!(status.success()),
        Err(error) => eprintln!("SKIPPED: setpriv: {error}"),
    }
}

#[test]
#[ignore = "run by what_may_not_be_read_is_told"]
fn as_another_user() {
    if let Some(root) = std::env::var_os(NAMED_CHILD) {
        check_closed_tree(Path::new(&root));
    }
}

fn check_closed_tree(root: &Path) {
    let mut states = Vec::new();
    for event in walk(root, Options::default()) {
        let Event::Enter(folder) = event else { continue };
        states.push((folder.path.clone(), folder.state));
        for problem in &folder.problems {
            assert_eq!(problem.what, What::Unreadable);
            assert!(problem.is_loss() && path_of(&problem.path).starts_with(root), "{problem}");
        }
        if let Some(secret) = folder.entries.iter().find(|listed| &*listed.name == b"secret") {
            let dir = folder.dir.as_ref().unwrap();
            assert_eq!(dir.open_file(secret).unwrap_err().what, What::Unreadable);
        }
        if let Some(readable) = folder.entries.iter().find(|listed| &*listed.name == b"readable") {
            let meta: &Meta = &folder.dir.as_ref().unwrap().open_file(readable).unwrap().meta;
            assert_eq!(meta.size, 4);
        }
    }
    let read = FolderState::Read;
    let wanted =
        [(b"".to_vec(), read), (b"closed".to_vec(), FolderState::Unreadable), (b"open".to_vec(), read)];
    assert_eq!(states, wanted);
}

#[test]
fn mail_folders_are_known_and_walked_from_new_to_cur() {
    let tree = tempfile::tempdir().unwrap();
    for folder in ["alice/cur", "alice/new", "alice/tmp/odd", "alice/.Sent/cur", "alice/.Sent/new", "control"]
    {
        fs::create_dir_all(tree.path().join(folder)).unwrap();
    }
    for file in
        ["alice/tmp/1.a.mx", "alice/dovecot.index.cache", "control/dovecot-uidlist", "control/my.lock"]
    {
        fs::write(tree.path().join(file), "x").unwrap();
    }
    let folders = collect(walk(tree.path(), Options::default()));
    let shapes: Vec<(&str, Shape)> =
        folders.iter().map(|folder| (str::from_utf8(&folder.path).unwrap(), folder.shape)).collect();
    let expected = [
        ("", Shape::Plain),
        ("alice", Shape::Maildir),
        ("alice/.Sent", Shape::Maildir),
        ("alice/.Sent/new", Shape::Messages),
        ("alice/.Sent/cur", Shape::Messages),
        ("alice/new", Shape::Messages),
        ("alice/cur", Shape::Messages),
        ("alice/tmp", Shape::Unfinished),
        ("alice/tmp/odd", Shape::Plain),
        ("control", Shape::Control),
    ];
    assert_eq!(shapes, expected);
    let left_out: Vec<(u64, usize)> =
        folders.iter().map(|folder| (folder.needless.total(), folder.entries.len())).collect();
    assert_eq!((left_out[1], left_out[7], left_out[9]), ((1, 4), (1, 1), (0, 2)));
    let all = collect(walk(tree.path(), Options { all_files: true, ..Options::default() }));
    assert_eq!((all[1].needless.total(), all[1].entries.len(), all[7].entries.len()), (0, 5, 2));
    // A pattern that leaves `cur` out makes no other folder of it.
    let excludes = Excludes::new(["cur/"]).unwrap();
    let without = collect(walk(tree.path(), Options { excludes, ..Options::default() }));
    assert_eq!(without[1].shape, Shape::Maildir);
}
