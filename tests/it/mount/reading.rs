//! Much at once, and little out of much.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;

use super::{Mount, back_up, said};
use crate::support::{TestEnv, dice, files_below, noise};
use crate::tree::{LONG_AGO, TreeFixture, mail, mail_with_attachment, message_name, set_mtime};

#[test]
fn a_hundred_thousand_messages_are_listed_without_reading_any() {
    const MESSAGES: u64 = 100_000;
    let env = TestEnv::with_repository();
    let cur = env.folder("mail/cur");
    env.folder("mail/new");
    for number in 0..MESSAGES {
        fs::write(cur.join(message_name(number, "S")), &noise(number, 8)[..(number % 8) as usize]).unwrap();
    }
    back_up(&env, "mail", "/mail", &env.path("mail"), 0);
    let name = "a_hundred_thousand_messages_are_listed_without_reading_any";
    let Some(mount) = Mount::stand(name, &env, &[]) else { return };
    let mut seen = vec![false; MESSAGES as usize];
    for entry in fs::read_dir(mount.path("snapshots/latest/mail/cur")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let number: u64 = name[..10].parse::<i64>().unwrap().abs_diff(LONG_AGO);
        assert_eq!(entry.metadata().unwrap().len(), number % 8);
        assert!(!std::mem::replace(&mut seen[number as usize], true), "{name} twice");
    }
    assert!(seen.into_iter().all(|seen| seen));
    // From somewhere in the middle, and from the beginning again.
    let folder = File::open(mount.path("snapshots/latest/mail/cur")).unwrap();
    let mut dir = rustix::fs::Dir::read_from(&folder).unwrap();
    let all = dir.by_ref().count();
    dir.rewind();
    assert_eq!((dir.by_ref().count(), all), (MESSAGES as usize + 2, MESSAGES as usize + 2));
    assert_eq!(said(&mount.end().expect(0))["bytes_read"], 0);
}

#[test]
fn many_read_at_once() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("mail"));
    for folder in ["a", "b", "c"] {
        tree.maildir(folder, 0..150);
    }
    tree.file("large", noise(3, 3 << 20));
    back_up(&env, "mail", "/mail", &tree.root, 0);
    let Some(mount) = Mount::stand("many_read_at_once", &env, &[]) else { return };
    let root = mount.path("snapshots/latest/mail");
    let files = files_below(&tree.root);
    std::thread::scope(|scope| {
        for reader in 0..8u64 {
            let (files, root, tree) = (&files, &root, &tree);
            scope.spawn(move || {
                for step in 0..files.len() {
                    // Some in order, as a backup would, some at random.
                    let at = if reader % 2 == 0 {
                        step
                    } else {
                        dice(reader << 32 | step as u64, files.len() as u64) as usize
                    };
                    let shown = root.join(files[at].strip_prefix(&tree.root).unwrap());
                    assert!(fs::read(&shown).unwrap() == fs::read(&files[at]).unwrap(), "{shown:?}");
                }
            });
        }
    });
    mount.end().expect(0);
}

#[test]
fn large_files_are_read_anywhere() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("large"));
    let mut mbox = Vec::new();
    for number in 0..4_000 {
        mbox.extend_from_slice(b"From bob@example.org Mon Nov 23 10:00:00 2026\n");
        mbox.extend(if number % 50 == 0 { mail_with_attachment(number, 20_000) } else { mail(number) });
        mbox.push(b'\n');
    }
    tree.file("mbox", &mbox);
    tree.file("cur/1700000000.M1P1.mx:2,", mail_with_attachment(9, 5 << 20));
    tree.file("binary", noise(4, 7 << 20));
    // Two gigabytes, nearly all of it a hole.
    let path = tree.path("disk.img");
    let file = File::create(&path).unwrap();
    file.set_len(2 << 30).unwrap();
    for at in [0, 1 << 30, (2 << 30) - 5_000] {
        file.write_all_at(&noise(at, 5_000), at).unwrap();
    }
    drop(file);
    set_mtime(&path, LONG_AGO, 0);
    back_up(&env, "large", "/large", &tree.root, 0);
    let Some(mount) = Mount::stand("large_files_are_read_anywhere", &env, &[]) else { return };
    for name in ["mbox", "cur/1700000000.M1P1.mx:2,", "binary", "disk.img"] {
        let source = File::open(tree.path(name)).unwrap();
        let shown = File::open(mount.path("snapshots/latest/large").join(name)).unwrap();
        let length = source.metadata().unwrap().len();
        assert_eq!(shown.metadata().unwrap().len(), length);
        // Nothing is read but what is asked for.
        rustix::fs::fadvise(&shown, 0, None, rustix::fs::Advice::Random).unwrap();
        let mut places: Vec<u64> = (0..60).map(|n| dice(n, length)).collect();
        places.extend([0, length - 1, length - 4_000, length, length + 10]);
        if name == "disk.img" {
            places.extend([(1 << 30) - 100, (1 << 30) + 4_900]);
        }
        for at in places {
            let (mut one, mut other) = (vec![0; 70_000], vec![0; 70_000]);
            let (got, due) = (read_at(&shown, &mut one, at), read_at(&source, &mut other, at));
            assert!(got == due && one == other, "{name} at {at}: {got} bytes of {due}");
        }
    }
    let whole = |path: std::path::PathBuf| {
        let mut bytes = Vec::new();
        File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    assert!(whole(mount.path("snapshots/latest/large/mbox")) == mbox);
    let read = said(&mount.end().expect(0))["bytes_read"].as_u64().unwrap();
    assert!(read < 200 << 20, "{read} bytes were read for a few");
}

/// Reads until the end of the file, or until `bytes` is full.
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> usize {
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], at + got as u64).unwrap() {
            0 => break,
            more => got += more,
        }
    }
    got
}
