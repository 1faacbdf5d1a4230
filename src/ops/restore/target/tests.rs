//! Trees copied through a walk into a target, and what must not get out of a target.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags, mkdirat, mkfifoat, mknodat, openat,
};
use tempfile::{TempDir, tempdir};

use super::beneath::Beneath;
use super::{
    Attributes, Folder, Linked, Made, Options, Overwrite, Owners, Target, TargetError, TargetState,
    check_name, inspect,
};
use crate::base::clock;
use crate::source::extents::Extent;
use crate::source::meta::{FileKey, Kind, Meta};
use crate::source::names::Accounts;
use crate::source::start::Start;
use crate::source::walk::{Event, Walk};

const CHILD_TARGET: &str = "MAILARK_TEST_TARGET";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn all() -> Options {
    Options { system: true, ..Options::default() }
}

fn overwriting(overwrite: Overwrite) -> Options {
    Options { overwrite, ..Options::default() }
}

fn attributes(meta: &Meta) -> Attributes {
    let Meta { mode, uid, gid, mtime_s, mtime_ns, ref xattrs, .. } = *meta;
    Attributes { mode, uid, gid, mtime_s, mtime_ns, xattrs: xattrs.clone() }
}

fn plain(mode: u32) -> Attributes {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Attributes { mode, uid, gid, mtime_s: 1_000_000_000, mtime_ns: 5, xattrs: Vec::new() }
}

fn write(target: &Target, folder: &Folder, name: &[u8], text: &[u8]) -> Result<bool, TargetError> {
    let Some(mut file) = target.create_file(folder, name, text.len() as u64, &plain(0o640))? else {
        return Ok(false);
    };
    file.write(text)?;
    file.finish(&plain(0o640))?;
    Ok(true)
}

/// Copies a tree as backup and restore together do, without a repository between.
fn copy(from: &Path, target: &Target) {
    let walk = Walk::open(&Start::new(from, None).unwrap(), Arc::default()).unwrap();
    let mut above: Vec<Folder> = Vec::new();
    let mut first_names: HashMap<FileKey, (Folder, Box<[u8]>)> = HashMap::new();
    for event in walk {
        let Event::Enter(source) = event else {
            above.pop();
            continue;
        };
        assert!(source.problems.is_empty(), "{:?}", source.problems);
        let folder = match above.last() {
            None => {
                target.set_later(target.root(), &attributes(&source.meta));
                target.root().clone()
            }
            Some(parent) => {
                target.make_folder(parent, source.name(), Some(&attributes(&source.meta))).unwrap()
            }
        };
        let dir = source.dir.as_ref().unwrap();
        for listed in source.entries.iter().filter(|listed| listed.kind != Kind::Directory) {
            let mut meta = listed.meta.clone();
            if listed.kind != Kind::File {
                meta.xattrs = dir.xattrs_of(&listed.name).unwrap().list;
                target.make_node(&folder, &listed.name, &listed.kind, &attributes(&meta)).unwrap();
                continue;
            }
            if let Some((folder_of_first, first)) = first_names.get(&meta.key()) {
                assert_eq!(
                    target.link(&folder, &listed.name, (folder_of_first, first)).unwrap(),
                    Linked::Done
                );
                continue;
            }
            let file = dir.open_file(listed).unwrap();
            meta.xattrs = file.xattrs().unwrap().list;
            let mut writer =
                target.create_file(&folder, &listed.name, meta.size, &attributes(&meta)).unwrap().unwrap();
            for extent in file.extents() {
                match extent.unwrap() {
                    Extent::Hole { len, .. } => writer.zeros(len).unwrap(),
                    Extent::Data { offset, len } => {
                        let mut bytes = Vec::new();
                        file.read_at(offset, len as usize, &mut bytes).unwrap();
                        writer.write(&bytes).unwrap();
                    }
                }
            }
            writer.finish(&attributes(&meta)).unwrap();
            first_names.insert(meta.key(), (folder.clone(), listed.name.clone()));
        }
        above.push(folder);
    }
    let (_, errors) = target.finish();
    assert!(errors.is_empty(), "{errors:?}");
}

/// All that a tree holds, one line an entry.
fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut groups: HashMap<FileKey, usize> = HashMap::new();
    for event in Walk::open(&Start::new(root, None).unwrap(), Arc::default()).unwrap() {
        let Event::Enter(folder) = event else { continue };
        lines.push(format!("{:?}/ {:?}", folder.path, attributes(&folder.meta)));
        let dir = folder.dir.as_ref().unwrap();
        for listed in folder.entries.iter().filter(|listed| listed.kind != Kind::Directory) {
            let mut meta = listed.meta.clone();
            let mut bytes = Vec::new();
            match listed.kind {
                Kind::File => {
                    let file = dir.open_file(listed).unwrap();
                    meta.xattrs = file.xattrs().unwrap().list;
                    file.read_into(&mut bytes).unwrap();
                }
                _ => meta.xattrs = dir.xattrs_of(&listed.name).unwrap().list,
            }
            let next = groups.len();
            let group = *groups.entry(meta.key()).or_insert(next);
            let content = blake3::hash(&bytes);
            let (name, kind, attributes) = (&listed.name, &listed.kind, attributes(&meta));
            lines.push(format!("{name:?} {kind:?} {attributes:?} {group} {} {content}", meta.size));
        }
    }
    lines
}

fn date(path: &Path, nanoseconds: i64) {
    let time = Timespec { tv_sec: 1_234_567_890, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A tree with everything in it that this user may make.
fn full_tree() -> TempDir {
    let tree = tempdir().unwrap();
    let root = tree.path();
    fs::create_dir_all(root.join("folder/empty")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"\xff\xfe odd\n")), b"odd").unwrap();
    fs::write(root.join("zero"), b"").unwrap();
    fs::write(root.join("folder/first"), b"linked").unwrap();
    fs::hard_link(root.join("folder/first"), root.join("second")).unwrap();
    symlink(OsStr::from_bytes(b"nowhere/\xfe"), root.join("dangling")).unwrap();
    mkfifoat(CWD, root.join("fifo"), Mode::RWXU).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"middle", 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    fs::write(root.join("noted"), b"text").unwrap();
    rustix::fs::setxattr(root.join("noted"), "user.note", b"v\0\xff", XattrFlags::empty()).ok();
    rustix::fs::setxattr(root.join("folder"), "user.note", b"", XattrFlags::empty()).ok();
    let acl =
        |what: &str, path: &str| Command::new("setfacl").args(["-m", what]).arg(root.join(path)).status();
    acl("u:5000:rw,g:6000:r", "noted").ok();
    acl("u:5000:rwx,d:u:5000:rwx", "folder").ok();
    fs::set_permissions(root.join("noted"), fs::Permissions::from_mode(0o400)).unwrap();
    if is_root() {
        mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3))
            .unwrap();
        std::os::unix::fs::lchown(root.join("dangling"), Some(5000), Some(5001)).unwrap();
        std::os::unix::fs::chown(root.join("zero"), Some(5000), Some(5001)).unwrap();
        std::os::unix::fs::chown(root.join("folder/empty"), Some(5000), Some(5001)).unwrap();
        rustix::fs::setxattr(root.join("zero"), "trusted.t", b"1", XattrFlags::empty()).ok();
        rustix::fs::lsetxattr(root.join("dangling"), "trusted.t", b"1", XattrFlags::empty()).ok();
    }
    fs::set_permissions(root.join("zero"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(root.join("folder/empty"), fs::Permissions::from_mode(0o3551)).unwrap();
    for (place, name) in
        ["zero", "noted", "dangling", "fifo", "sparse", "folder/empty", "folder"].iter().enumerate()
    {
        date(&root.join(name), 123_456_789 + place as i64);
    }
    tree
}

#[test]
fn all_that_a_tree_holds_comes_back() {
    let tree = full_tree();
    let wanted = describe(tree.path());
    for by_steps in [false, true] {
        let into = tempdir().unwrap();
        let path = into.path().join("made/on/the/way");
        let mut target = Target::open(&path, all()).unwrap();
        if by_steps {
            target.beneath = Beneath::without_openat2();
        }
        copy(tree.path(), &target);
        target.sync().unwrap();
        assert_eq!(describe(&path), wanted);
        assert!(fs::metadata(path.join("sparse")).unwrap().blocks() * 512 < 1 << 20);
        let summary = target.summary();
        assert_eq!((summary.kept, summary.xattrs_refused, summary.owners_refused), (0, 0, 0), "{summary:?}");
    }
}

#[test]
fn overwriting_gives_the_same_tree() {
    let tree = full_tree();
    let into = tempdir().unwrap();
    for overwrite in [Overwrite::Never, Overwrite::Always] {
        copy(tree.path(), &Target::open(into.path(), Options { overwrite, ..all() }).unwrap());
    }
    assert_eq!(describe(into.path()), describe(tree.path()));
    let leftover = fs::read_dir(into.path())
        .unwrap()
        .any(|e| e.unwrap().file_name().as_bytes().starts_with(b".mailark"));
    assert!(!leftover);
}

#[test]
fn deep_trees_are_written_with_few_descriptors() {
    let into = tempdir().unwrap();
    let target = Target::open(into.path(), Options::default()).unwrap();
    let name = [b'n'; 200];
    let mut folders = vec![target.root().clone()];
    for _ in 0..1500 {
        let folder = target.make_folder(folders.last().unwrap(), &name, Some(&plain(0o500))).unwrap();
        folders.push(folder);
    }
    // Back up and down again: most of them were closed meanwhile.
    for folder in folders.iter().rev().step_by(100).chain(folders.iter().step_by(90)) {
        if let Some(file) = target.create_file(folder, b"file", 0, &plain(0o600)).unwrap() {
            file.finish(&plain(0o600)).unwrap();
        }
    }
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < 600);
    let (_, errors) = target.finish();
    assert!(errors.is_empty(), "{errors:?}");
    let depth = Walk::open(&Start::new(into.path(), None).unwrap(), Arc::default()).unwrap();
    let modes: Vec<u32> = depth
        .filter_map(|e| if let Event::Enter(f) = e { Some(f.meta.mode) } else { None })
        .skip(1)
        .collect();
    assert_eq!(modes, vec![0o500; 1500]);
    let top = Target::open(into.path(), Options::default()).unwrap();
    assert_eq!(top.remove_extras(top.root(), |_| false).unwrap(), 1500 + 31);
}

#[test]
fn names_lead_nowhere_else() {
    let into = tempdir().unwrap();
    let target = Target::open(&into.path().join("t"), overwriting(Overwrite::Always)).unwrap();
    let long = [b'x'; 256];
    for name in [&b""[..], b".", b"..", b"a/b", b"/etc/x", b"a\0b", &long] {
        assert!(check_name(name).is_err());
        let root = target.root();
        assert!(matches!(target.create_file(root, name, 0, &plain(0o600)), Err(TargetError::Name { .. })));
        assert!(matches!(target.make_folder(root, name, None), Err(TargetError::Name { .. })));
        assert!(matches!(
            target.make_node(root, name, &Kind::Fifo, &plain(0o600)),
            Err(TargetError::Name { .. })
        ));
        assert!(matches!(target.link(root, name, (root, b"a")), Err(TargetError::Name { .. })));
        assert!(matches!(target.link(root, b"a", (root, name)), Err(TargetError::Name { .. })));
    }
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
    assert!(Beneath::default().open(CWD, b"../x", OFlags::RDONLY, Mode::empty()).is_err());
    assert!(Beneath::without_openat2().open(CWD, b"a/../x", OFlags::RDONLY, Mode::empty()).is_err());
}

#[test]
fn links_in_the_way_are_never_followed() {
    for by_steps in [false, true] {
        for overwrite in [Overwrite::Never, Overwrite::IfChanged, Overwrite::Always] {
            let (into, outside) = (tempdir().unwrap(), tempdir().unwrap());
            fs::write(outside.path().join("victim"), "safe").unwrap();
            let mut target = Target::open(into.path(), overwriting(overwrite)).unwrap();
            if by_steps {
                target.beneath = Beneath::without_openat2();
            }
            let root = target.root().clone();
            symlink(outside.path().join("victim"), into.path().join("file")).unwrap();
            symlink(outside.path().join("made"), into.path().join("dangling")).unwrap();
            symlink(outside.path(), into.path().join("folder")).unwrap();
            let written = overwrite != Overwrite::Never;
            assert_eq!(write(&target, &root, b"file", b"evil").unwrap(), written);
            assert_eq!(write(&target, &root, b"dangling", b"evil").unwrap(), written);
            match target.make_folder(&root, b"folder", Some(&plain(0o755))) {
                Ok(folder) => assert!(written && write(&target, &folder, b"new", b"evil").unwrap()),
                Err(error) => assert!(!written && matches!(error, TargetError::InTheWay { .. }), "{error}"),
            }
            target.finish();
            assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"safe");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        }
    }
}

#[test]
fn links_planted_during_the_restore_catch_nothing() {
    let (into, outside) = (tempdir().unwrap(), tempdir().unwrap());
    let target = Target::open(into.path(), overwriting(Overwrite::Always)).unwrap();
    let folder = target.make_folder(target.root(), b"a", Some(&plain(0o755))).unwrap();
    let below = target.make_folder(&folder, b"b", Some(&plain(0o755))).unwrap();
    let mut file = target.create_file(&below, b"file", 4, &plain(0o666)).unwrap().unwrap();
    fs::rename(into.path().join("a"), into.path().join("moved")).unwrap();
    symlink(outside.path(), into.path().join("a")).unwrap();
    fs::create_dir(outside.path().join("b")).unwrap();
    file.write(b"text").unwrap();
    file.finish(&plain(0o666)).unwrap();
    assert_eq!(fs::read(into.path().join("moved/b/file")).unwrap(), b"text");
    // As if the restore had closed its folders meanwhile.
    for number in 0..600 {
        target.make_folder(target.root(), format!("f{number}").as_bytes(), None).unwrap();
    }
    let refused = write(&target, &below, b"late", b"evil").unwrap_err();
    assert!(matches!(refused, TargetError::Io { .. } | TargetError::Moved { .. }), "{refused}");
    fs::remove_file(into.path().join("a")).unwrap();
    fs::create_dir_all(into.path().join("a/b")).unwrap();
    let refused = write(&target, &below, b"late", b"evil").unwrap_err();
    assert!(matches!(refused, TargetError::Moved { .. }), "{refused}");
    assert_eq!(fs::read_dir(outside.path().join("b")).unwrap().count(), 0);
}

#[test]
fn overwrite_rules() {
    let into = tempdir().unwrap();
    let path = into.path().join("file");
    let put = |overwrite, text: &[u8]| {
        let target = Target::open(into.path(), overwriting(overwrite)).unwrap();
        let written = write(&target, target.root(), b"file", text).unwrap();
        (written, fs::read(&path).unwrap(), target.summary().kept)
    };
    assert_eq!(put(Overwrite::Never, b"one"), (true, b"one".to_vec(), 0));
    assert_eq!(put(Overwrite::Never, b"two"), (false, b"one".to_vec(), 1));
    assert_eq!(put(Overwrite::IfChanged, b"two"), (false, b"one".to_vec(), 1));
    assert_eq!(put(Overwrite::IfChanged, b"longer"), (true, b"longer".to_vec(), 0));
    date(&path, 1);
    assert_eq!(put(Overwrite::IfChanged, b"LONGER"), (true, b"LONGER".to_vec(), 0));
    assert_eq!(put(Overwrite::Always, b"always"), (true, b"always".to_vec(), 0));
    fs::create_dir(into.path().join("kept")).unwrap();
    fs::set_permissions(into.path().join("kept"), fs::Permissions::from_mode(0o711)).unwrap();
    for (overwrite, mode) in [(Overwrite::Never, 0o711), (Overwrite::IfChanged, 0o750)] {
        let target = Target::open(into.path(), overwriting(overwrite)).unwrap();
        target.make_folder(target.root(), b"kept", Some(&plain(0o750))).unwrap();
        target.finish();
        assert_eq!(fs::metadata(into.path().join("kept")).unwrap().mode() & 0o7777, mode);
    }
    let target = Target::open(into.path(), overwriting(Overwrite::Always)).unwrap();
    assert!(matches!(write(&target, target.root(), b"kept", b""), Err(TargetError::InTheWay { .. })));
    let taken = target.make_folder(target.root(), b"file", None).unwrap();
    assert!(taken.is_new() && path.is_dir());
}

#[test]
fn an_unfinished_file_is_removed() {
    let into = tempdir().unwrap();
    let target = Target::open(into.path(), overwriting(Overwrite::Always)).unwrap();
    fs::write(into.path().join("old"), "old").unwrap();
    for name in [&b"new"[..], b"old"] {
        let mut file = target.create_file(target.root(), name, 10, &plain(0o600)).unwrap().unwrap();
        file.write(b"half").unwrap();
    }
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
    assert_eq!(fs::read(into.path().join("old")).unwrap(), b"old");
}

#[test]
fn zeros_become_holes() {
    let into = tempdir().unwrap();
    let target = Target::open(into.path(), Options { sparse: true, ..Options::default() }).unwrap();
    let mut bytes = vec![0; 1 << 20];
    bytes[5000] = 1;
    bytes[700_000] = 1;
    for (name, cut) in [("aligned", 4096), ("odd", 1003), ("whole", 1 << 20)] {
        let mut file =
            target.create_file(target.root(), name.as_bytes(), 1 << 20, &plain(0o600)).unwrap().unwrap();
        bytes.chunks(cut).for_each(|part| file.write(part).unwrap());
        file.finish(&plain(0o600)).unwrap();
        assert!(fs::read(into.path().join(name)).unwrap() == bytes, "{name}");
    }
    assert!(fs::metadata(into.path().join("whole")).unwrap().blocks() * 512 <= 64 << 10);
    let file = target.create_file(target.root(), b"parts", 10, &plain(0o600)).unwrap().unwrap();
    file.write_at(5, b"world").unwrap();
    file.write_at(0, b"hello").unwrap();
    file.finish(&plain(0o600)).unwrap();
    assert_eq!(fs::read(into.path().join("parts")).unwrap(), b"helloworld");
}

#[test]
fn without_system_nothing_privileged_comes_back() {
    let into = tempdir().unwrap();
    let target = Target::open(into.path(), Options::default()).unwrap();
    let root = target.root();
    let mut wanted = plain(0o6755);
    wanted.xattrs =
        vec![(b"trusted.x".to_vec(), b"1".to_vec()), (b"security.capability".to_vec(), vec![0; 20])];
    target.create_file(root, b"file", 0, &wanted).unwrap().unwrap().finish(&wanted).unwrap();
    let device = Kind::BlockDevice { major: 8, minor: 0 };
    assert_eq!(target.make_node(root, b"disk", &device, &wanted).unwrap(), Made::LeftOut);
    assert_eq!(target.make_node(root, b"socket", &Kind::Socket, &wanted).unwrap(), Made::LeftOut);
    assert_eq!(fs::metadata(into.path().join("file")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
    let summary = target.summary();
    assert_eq!((summary.modes_reduced, summary.xattrs_left_out), (1, 2));
    assert_eq!((summary.devices_left_out, summary.sockets_left_out), (1, 1));
    // Values that mean something special to the system are only values.
    let odd = Attributes { uid: u32::MAX, mtime_ns: u32::MAX, ..plain(0o600) };
    target.create_file(root, b"odd", 0, &odd).unwrap().unwrap().finish(&odd).unwrap();
    assert_eq!(fs::metadata(into.path().join("odd")).unwrap().mtime_nsec(), 999_999_999);
    assert_eq!(target.summary().owners_refused, 1);
}

#[test]
fn acls_of_the_target_are_not_inherited() {
    let into = tempdir().unwrap();
    let acl = Command::new("setfacl").args(["-m", "d:u:5000:rwx"]).arg(into.path()).status();
    if !acl.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no ACLs here");
        return;
    }
    let target = Target::open(into.path(), Options::default()).unwrap();
    write(&target, target.root(), b"file", b"").unwrap();
    let folder = target.make_folder(target.root(), b"folder", Some(&plain(0o750))).unwrap();
    write(&target, &folder, b"file", b"").unwrap();
    target.finish();
    for (path, mode) in [("file", 0o640), ("folder", 0o750), ("folder/file", 0o640)] {
        let path = into.path().join(path);
        assert_eq!(rustix::fs::llistxattr_query(&path).unwrap(), 0, "{path:?}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{path:?}");
    }
}

#[test]
fn extra_entries_go_and_links_out_stay_whole() {
    let (into, outside) = (tempdir().unwrap(), tempdir().unwrap());
    fs::write(outside.path().join("safe"), "").unwrap();
    fs::create_dir_all(into.path().join("a/old/er")).unwrap();
    fs::write(into.path().join("a/old/er/file"), "").unwrap();
    symlink(outside.path(), into.path().join("a/old/link")).unwrap();
    symlink(outside.path(), into.path().join("a/link")).unwrap();
    fs::write(into.path().join("a/kept"), "").unwrap();
    fs::write(into.path().join("beside"), "").unwrap();
    let target = Target::open(into.path(), Options::default()).unwrap();
    let folder = target.make_folder(target.root(), b"a", None).unwrap();
    assert_eq!(target.remove_extras(&folder, |name| name == b"kept").unwrap(), 5);
    assert_eq!(fs::read_dir(into.path().join("a")).unwrap().count(), 1);
    assert!(outside.path().join("safe").exists() && into.path().join("beside").exists());
}

#[test]
fn a_target_is_looked_at_first() {
    let into = tempdir().unwrap();
    let path = into.path();
    assert_eq!(inspect(&path.join("none")).unwrap(), TargetState::Absent);
    assert_eq!(inspect(path).unwrap(), TargetState::Empty);
    fs::write(path.join("file"), "").unwrap();
    assert_eq!(inspect(path).unwrap(), TargetState::NotEmpty);
    assert_eq!(inspect(&path.join("file")).unwrap(), TargetState::NotEmpty);
    for name in ["u/Maildir/cur", "u/Maildir/new", "u/Maildir/tmp"] {
        fs::create_dir_all(path.join(name)).unwrap();
        date(&path.join(name), 0);
    }
    assert_eq!(inspect(path).unwrap(), TargetState::NotEmpty);
    fs::write(path.join("u/Maildir/cur/1"), "").unwrap();
    assert_eq!(inspect(path).unwrap(), TargetState::LiveMaildir(b"u/Maildir".to_vec()));
    date(&path.join("u/Maildir/cur"), 0);
    fs::write(path.join("u/Maildir/dovecot-uidlist"), "").unwrap();
    assert_eq!(inspect(&path.join("u/Maildir")).unwrap(), TargetState::LiveMaildir(Vec::new()));
    symlink(path.join("u"), path.join("link")).unwrap();
    assert_eq!(inspect(&path.join("link")).unwrap(), TargetState::LiveMaildir(b"Maildir".to_vec()));
}

#[test]
fn owners_go_by_name_where_it_is_known() {
    let accounts = || Accounts::parse(b"vmail:x:150:8\n", b"mail:x:8:\n");
    let owners = Owners::new(accounts(), false);
    assert_eq!((owners.uid(5000, Some(b"vmail")), owners.gid(12, Some(b"mail"))), (150, 8));
    assert_eq!((owners.uid(5000, Some(b"other")), owners.gid(12, None)), (5000, 12));
    assert_eq!(Owners::new(accounts(), true).uid(5000, Some(b"vmail")), 5000);
}

#[test]
fn many_small_files_from_several_threads() {
    let into = tempdir().unwrap();
    let target = Target::open(into.path(), Options::default()).unwrap();
    let files = if cfg!(debug_assertions) { 2_000 } else { 50_000 };
    let folders: Vec<Folder> = (0..400)
        .map(|n| target.make_folder(target.root(), format!("f{n}").as_bytes(), Some(&plain(0o700))).unwrap())
        .collect();
    let started = clock::stopwatch();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (target, folders) = (&target, &folders);
            scope.spawn(move || {
                for number in (thread..files).step_by(4) {
                    let name = format!("17{number:08}.M{number}P1.host:2,S");
                    let folder = &folders[number * folders.len() / files];
                    let mut file =
                        target.create_file(folder, name.as_bytes(), 3000, &plain(0o600)).unwrap().unwrap();
                    file.write(&[b'x'; 3000]).unwrap();
                    file.finish(&plain(0o600)).unwrap();
                }
            });
        }
    });
    println!("{files} files made in {:?}", started.elapsed());
    let (_, errors) = target.finish();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(fs::read_dir(into.path().join("f7")).unwrap().count(), files / 400);
}

/// A user who may not give files away still gets the files, and is told once.
#[test]
fn owners_that_may_not_be_set_are_counted() {
    let into = tempdir().unwrap();
    fs::set_permissions(into.path(), fs::Permissions::from_mode(0o777)).unwrap();
    if !is_root() {
        return check_refused_owners(into.path());
    }
    let copy = into.path().join("test-binary");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let status = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["--ignored", "--exact", "ops::restore::target::tests::as_another_user"])
        .env(CHILD_TARGET, into.path())
        .status();
    match status {
        Ok(status) => assert!(status.success()),
        Err(error) => eprintln!("SKIPPED: setpriv: {error}"),
    }
}

#[test]
#[ignore = "run by owners_that_may_not_be_set_are_counted"]
fn as_another_user() {
    if let Some(root) = std::env::var_os(CHILD_TARGET) {
        check_refused_owners(Path::new(&root));
    }
}

fn check_refused_owners(path: &Path) {
    fs::create_dir(path.join("t")).unwrap();
    fs::create_dir(path.join("t/closed")).unwrap();
    fs::set_permissions(path.join("t/closed"), fs::Permissions::from_mode(0o500)).unwrap();
    let target = Target::open(&path.join("t"), Options { overwrite: Overwrite::IfChanged, ..all() }).unwrap();
    let folder = target.make_folder(target.root(), b"closed", Some(&plain(0o500))).unwrap();
    let mut wanted = plain(0o4400);
    wanted.uid = 0;
    wanted.xattrs = vec![(b"user.note".to_vec(), b"1".to_vec())];
    for name in [&b"one"[..], b"two"] {
        target.create_file(&folder, name, 0, &wanted).unwrap().unwrap().finish(&wanted).unwrap();
    }
    target.make_node(&folder, b"link", &Kind::Symlink(b"x".as_slice().into()), &wanted).unwrap();
    let (summary, errors) = target.finish();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!((summary.owners_refused, summary.modes_reduced), (3, 2), "{summary:?}");
    assert_eq!(fs::metadata(path.join("t/closed/one")).unwrap().mode() & 0o7777, 0o400);
    assert_eq!(fs::metadata(path.join("t/closed")).unwrap().mode() & 0o7777, 0o500);
    let dir = openat(CWD, path.join("t/closed"), OFlags::DIRECTORY, Mode::empty()).unwrap();
    assert!(mkdirat(&dir, "more", Mode::RWXU).is_err());
}
