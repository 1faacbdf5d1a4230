//! Everything a tree holds goes into a snapshot and comes back.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::mount::Mount;
use crate::support::{TestEnv, is_root, noise, skipped, tool};
use crate::tree::{
    Ignore, LONG_AGO, TreeFixture, assert_same, mail, mail_with_attachment, message_name, set_mode,
    set_mtime, set_xattr, uidlist,
};

/// Backs a tree up, checks, restores it and compares.
#[track_caller]
fn assert_comes_back(env: &TestEnv, source: &Path) {
    let report = env.backup(source);
    assert_eq!(report["problem_count"], 0, "{report}");
    env.check();
    let restored = env.restore("latest", "restored");
    let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
    assert_same(source, &restored, ignore);
    // A mount shows the same, and links nothing.
    if let Some(mount) = Mount::stand("assert_comes_back", env, &[]) {
        assert_same(source, &mount.path("snapshots/latest/data"), Ignore { links: true, ..ignore });
        mount.end().expect(0);
    }
}

#[test]
fn mail_in_all_its_forms() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice/Maildir", 0..60);
    tree.maildir("alice/Maildir/.Sent", 55..70);
    let crlf = |bytes: Vec<u8>| {
        bytes.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>().join(&b"\r\n"[..])
    };
    tree.file("crlf/cur/1.M1P1.mx:2,", crlf(mail_with_attachment(3, 30_000)));
    let large = mail_with_attachment(4, 3 << 20);
    tree.file("large/cur/1.M2P1.mx:2,", &large);
    tree.file("cut/cur/1.M3P1.mx:2,", &large[..large.len() - 17_777]);
    let broken: Vec<u8> = large.iter().map(|&b| if b == b'Q' { 0 } else { b }).collect();
    tree.file("broken/cur/1.M4P1.mx:2,", broken);
    tree.file("empty/cur/1.M5P1.mx:2,", b"");
    tree.file("zipped/cur/1.M6P1.mx:2,", [&b"\x1f\x8b\x08\0"[..], &noise(1, 5_000)].concat());
    let mbox: Vec<u8> = (0..300)
        .flat_map(|n| {
            [b"From bob@example.org Mon Nov 23 10:00:00 2026\n".to_vec(), mail(n), b"\n".to_vec()].concat()
        })
        .collect();
    tree.file("mbox", &mbox);
    tree.file("mbox-cut", &mbox[..mbox.len() - 100]);
    tree.file("dbox-Mails/u.1", dbox(&mail(1)));
    tree.file("storage/m.1", [dbox(&mail(2)), dbox(&mail_with_attachment(5, 20_000))].concat());
    tree.file("storage/m.2", noise(5, 4_000));
    tree.file("dovecot-uidlist", uidlist(20_000));
    tree.file("binary", noise(6, 6 << 20));
    assert_comes_back(&env, &tree.root);
}

/// A file of Dovecot's dbox: a file header, and one message between its magics.
fn dbox(message: &[u8]) -> Vec<u8> {
    let mut bytes = b"2 M1e C65f0f6e1\n".to_vec();
    bytes.extend_from_slice(b"\x01\x02N ");
    bytes.extend_from_slice(format!("          {:016x}\n", message.len()).as_bytes());
    bytes.extend_from_slice(message);
    bytes.extend_from_slice(b"\n\x01\x03\nR65f0f6e1\nG0123456789abcdef0123456789abcdef\n\n");
    bytes
}

#[test]
fn odd_names_and_deep_folders() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("odd"));
    let odd: [&[u8]; 9] = [
        b"\xff\xfe",
        b"new\nline",
        b"\x1b[31m",
        b" ",
        b"-rf",
        b"a\\b",
        b"*?[x]",
        "Entwürfe".as_bytes(),
        b"\x01",
    ];
    for name in odd {
        tree.file(OsStr::from_bytes(name), name);
        let folder = OsString::from_vec([b"folder-".as_slice(), name].concat());
        tree.file(Path::new(&folder).join(OsStr::from_bytes(name)), mail(1));
    }
    tree.file("n".repeat(255), b"a long name");
    tree.file(OsStr::from_bytes(&[0xe4; 255]), b"another");
    let deep = (0..180).map(|n| format!("level{n}")).collect::<Vec<_>>().join("/");
    tree.file(format!("{deep}/bottom"), b"deep down");
    tree.folder("empty/er/est");
    assert_comes_back(&env, &tree.root);
    let listed = env.mailark(["snapshots", "--json"]).expect(0).json();
    assert_eq!(listed[0]["parts"][0]["path"], "/data");
}

#[test]
fn modes_owners_and_times() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("modes"));
    for mode in [0o000, 0o400, 0o644, 0o755, 0o1777, 0o2755, 0o4755, 0o6711] {
        if mode & 0o400 == 0 && !is_root() {
            continue;
        }
        let path = tree.file(format!("mode-{mode:o}"), b"x");
        set_mode(&path, mode);
        let folder = tree.folder(format!("folder-{mode:o}"));
        set_mode(&folder, mode | 0o500);
    }
    for (name, seconds, nanos) in [
        ("future", 4_000_000_000, 999_999_999),
        ("epoch", 0, 0),
        ("before", -1_234, 500_000_001),
        ("odd", LONG_AGO, 123_456_789),
    ] {
        set_mtime(&tree.file(name, b"x"), seconds, nanos);
        set_mtime(&tree.folder(format!("folder-{name}")), seconds, nanos);
    }
    if is_root() {
        for (name, owner) in [("nobody", 65_534), ("far", 3_000_000_000u32)] {
            let path = tree.file(format!("of-{name}"), b"x");
            std::os::unix::fs::lchown(&path, Some(owner), Some(owner - 1)).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", tree.path("link-of-5")).unwrap();
        std::os::unix::fs::lchown(tree.path("link-of-5"), Some(5), Some(6)).unwrap();
        let suid = tree.file("suid-of-8", b"#!/bin/true\n");
        std::os::unix::fs::chown(&suid, Some(8), Some(8)).unwrap();
        set_mode(&suid, 0o4755);
    } else {
        skipped("modes_owners_and_times", "owners: only root can give files away");
    }
    assert_comes_back(&env, &tree.root);
}

#[test]
fn setuid_and_devices_want_system() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("suid"));
    set_mode(&tree.file("suid", b"x"), 0o4755);
    let has_device =
        is_root() && tool("mknod", [tree.path("null").as_os_str(), "c".as_ref(), "1".as_ref(), "3".as_ref()]);
    env.backup(&tree.root);
    let to = env.path("plain");
    let args: [&OsStr; 5] =
        ["restore".as_ref(), "latest".as_ref(), "--to".as_ref(), to.as_ref(), "--json".as_ref()];
    let report = env.mailark(args).expect(0).json();
    assert_eq!(to.join("data/suid").metadata().unwrap().mode() & 0o7777, 0o755);
    assert!(!to.join("data/null").exists());
    assert_eq!(report["devices_left_out"], u64::from(has_device));
}

#[test]
fn links_pipes_and_devices() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("special"));
    let one = tree.file("one", noise(1, 100_000));
    fs::hard_link(&one, tree.path("two")).unwrap();
    tree.folder("sub");
    fs::hard_link(&one, tree.path("sub/three")).unwrap();
    tree.file("twin", noise(1, 100_000));
    let empty = tree.file("empty", b"");
    fs::hard_link(&empty, tree.path("empty-too")).unwrap();
    for (name, target) in
        [("dangling", "no/such/file"), ("up", "../.."), ("absolute", "/etc/passwd"), ("self", "self")]
    {
        std::os::unix::fs::symlink(target, tree.path(name)).unwrap();
        set_mtime(&tree.path(name), LONG_AGO, 42);
    }
    std::os::unix::fs::symlink(OsStr::from_bytes(b"\xff\n"), tree.path("bytes")).unwrap();
    std::os::unix::fs::symlink("t".repeat(4_095), tree.path("long")).unwrap();
    assert!(tool("mkfifo", [tree.path("pipe")]));
    if is_root() {
        for (name, kind, major, minor) in
            [("null", "c", "1", "3"), ("loop", "b", "7", "200"), ("big", "c", "400", "70000")]
        {
            let path = tree.path(name);
            if !tool("mknod", [path.as_os_str(), kind.as_ref(), major.as_ref(), minor.as_ref()]) {
                skipped("links_pipes_and_devices", "devices: mknod is not allowed here");
            }
        }
    } else {
        skipped("links_pipes_and_devices", "devices: only root can make them");
    }
    assert_comes_back(&env, &tree.root);
}

#[test]
fn holes_stay_holes() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("sparse"));
    let path = tree.path("disk.img");
    let file = File::create(&path).unwrap();
    file.set_len(1 << 30).unwrap();
    for (at, seed) in [(0, 1), (123_456_789, 2), (900 << 20, 3)] {
        file.write_all_at(&noise(seed, 100_000), at).unwrap();
    }
    drop(file);
    set_mtime(&path, LONG_AGO, 0);
    let all_hole = File::create(tree.path("hole")).unwrap();
    all_hole.set_len(777_777).unwrap();
    assert_comes_back(&env, &tree.root);
    let restored = env.path("restored/data/disk.img").metadata().unwrap();
    assert!(restored.blocks() * 512 < 4 << 20, "{} blocks", restored.blocks());
    let report = env.backup(&tree.root);
    assert_eq!(report["new_bytes"].as_u64().map(|bytes| bytes < 100_000), Some(true), "{report}");
}

#[test]
fn attributes_and_acls() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("attributes"));
    let file = tree.file("file", b"x");
    let folder = tree.folder("folder");
    if !set_xattr(&file, "user.mailark", b"value") {
        return skipped("attributes_and_acls", "the file system knows no user attributes");
    }
    set_xattr(&file, "user.empty", b"");
    set_xattr(&file, "user.bytes", b"\0\xff\n");
    set_xattr(&folder, "user.folder", &noise(1, 2_000));
    let acl = |path: &Path, entry: &str| tool("setfacl", ["-m".as_ref(), entry.as_ref(), path.as_os_str()]);
    if !(acl(&file, "u:1234:rw,g:77:r") && acl(&folder, "u:1234:rwx") && acl(&folder, "d:u:1234:rx")) {
        skipped("attributes_and_acls", "ACLs: setfacl is missing or the file system refuses");
    }
    set_mtime(&file, LONG_AGO, 5);
    assert_comes_back(&env, &tree.root);
}

#[test]
fn a_single_file_a_link_and_the_sample_mailbox() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("few"));
    let file = tree.file("one-file", mail(1));
    assert_comes_back(&env, &file);
    std::os::unix::fs::symlink("few/one-file", env.path("link")).unwrap();
    let by_link = |name: &str| {
        let args = ["backup", "--job", "link", "--as", "/by-link"].map(OsString::from);
        env.mailark(args.into_iter().chain([env.path(name).into()]))
    };
    by_link("link").expect(0);
    env.mailark(["restore", "latest", "--job", "link", "--to", "by-link"]).expect(0);
    assert_eq!(fs::read_link(env.path("by-link/by-link")).unwrap(), Path::new("few/one-file"));
    // A link to a folder would save no mail at all, night after night: it must be meant.
    std::os::unix::fs::symlink("few", env.path("folder-link")).unwrap();
    by_link("folder-link").expect(1).naming("symbolic link to a folder");
    by_link("folder-link/").expect(0);
    env.mailark(["restore", "latest", "--job", "link", "--to", "by-folder"]).expect(0);
    assert_same(&tree.root, &env.path("by-folder/by-link"), Ignore { owners: true, ..Ignore::default() });
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/vmail");
    env.mailark(["backup", "--job", "sample", "--as", "/var/vmail", sample.to_str().unwrap()]).expect(0);
    env.mailark(["restore", "latest", "--job", "sample", "--to", "sample"]).expect(0);
    assert_same(&sample, &env.path("sample/var/vmail"), Ignore { owners: true, ..Ignore::default() });
}

#[test]
fn a_folder_of_many_messages() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("many"));
    for number in 0..6_000 {
        tree.file(format!("cur/{}", message_name(number, "S")), mail(number % 900));
    }
    assert_comes_back(&env, &tree.root);
}
