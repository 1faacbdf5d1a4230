//! Damaged packs: errors for what they hold, and for nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Mount, back_up, names, said};
use crate::support::{TestEnv, files_below, wait_until};
use crate::tree::TreeFixture;

fn packs(env: &TestEnv) -> BTreeSet<PathBuf> {
    files_below(&env.repository.join("packs")).into_iter().collect()
}

/// Every file of a shown tree: read right, or an input/output error. Gives the names of the latter.
fn failing(shown: &Path, source: &Path) -> Vec<PathBuf> {
    let mut failing = Vec::new();
    for file in files_below(source) {
        let name = file.strip_prefix(source).unwrap();
        match fs::read(shown.join(name)) {
            Ok(bytes) => assert!(bytes == fs::read(&file).unwrap(), "wrong bytes in {name:?}"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{name:?}");
                failing.push(name.to_owned());
            }
        }
    }
    failing
}

#[test]
fn a_damaged_pack_fails_its_own_files_only() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("mail"));
    tree.maildir("one", 1_000..1_060);
    back_up(&env, "mail", "/mail", &tree.root, 0);
    let before = packs(&env);
    tree.maildir("two", 2_000..2_060);
    back_up(&env, "mail", "/mail", &tree.root, 0);
    let new: Vec<PathBuf> = packs(&env).difference(&before).cloned().collect();
    let [pack] = new.as_slice() else { panic!("{new:?}") };
    let bytes = fs::read(pack).unwrap();
    let name = "a_damaged_pack_fails_its_own_files_only";
    // Where what lies is not known: each place in turn, until one hits mail and nothing but mail.
    let mut told = false;
    for part in 1..12 {
        let mut damaged = bytes.clone();
        damaged[bytes.len() * part / 12] ^= 1;
        fs::write(pack, &damaged).unwrap();
        let Some(mount) = Mount::stand(name, &env, &[]) else { return };
        let root = mount.path("snapshots/latest/mail");
        if fs::read_dir(root.join("two/cur")).is_ok_and(|mut list| list.all(|entry| entry.is_ok())) {
            let failed = failing(&root, &tree.root);
            assert!(failed.iter().all(|name| name.starts_with("two")), "{failed:?}");
            // Again, from the beginning of each: nothing is told twice.
            assert_eq!(failing(&root, &tree.root), failed);
            let output = mount.end();
            assert_eq!(output.code, if failed.is_empty() { 0 } else { 3 }, "{}", output.both());
            let pack_name = pack.file_name().unwrap().to_str().unwrap();
            for file in &failed {
                let shown = format!("/mail/{}: ", file.display());
                let lines: Vec<&str> = output.stderr.lines().filter(|line| line.contains(&shown)).collect();
                assert!(lines.len() == 1 && lines[0].contains(pack_name), "{shown} in {}", output.both());
            }
            told |= !failed.is_empty();
            assert_eq!(said(&output)["problem_count"], failed.len());
        }
    }
    assert!(told, "no damage hit a message");
}

#[test]
fn a_missing_page_fails_its_folder_only() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("mail"));
    tree.maildir("one", 1_000..1_060);
    back_up(&env, "mail", "/mail", &tree.root, 0);
    let before = packs(&env);
    tree.maildir("two", 2_000..2_060);
    back_up(&env, "mail", "/mail", &tree.root, 0);
    let new: Vec<PathBuf> = packs(&env).difference(&before).cloned().collect();
    new.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let Some(mount) = Mount::stand("a_missing_page_fails_its_folder_only", &env, &[]) else { return };
    let lists = names(&mount.path("snapshots"));
    let (first, second) = (mount.path("snapshots").join(&lists[0]), mount.path("snapshots").join(&lists[1]));
    assert!(fs::read_dir(second.join("mail")).and_then(|mut list| list.next().transpose()).is_err_and(is_io));
    assert!(failing(&first.join("mail/one"), &tree.path("one")).is_empty());
    let output = mount.end().expect(3);
    assert!(output.stderr.contains("packs/"), "{}", output.both());
}

fn is_io(error: io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

#[test]
fn a_dead_mount_is_told_from_a_folder() {
    let env = TestEnv::with_repository();
    let Some(mut mount) = Mount::stand("a_dead_mount_is_told_from_a_folder", &env, &[]) else { return };
    let mut child = mount.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let place = mount.place.clone();
    wait_until("the mount is dead", || fs::read_dir(&place).is_err());
    let args = ["mount", place.to_str().unwrap()];
    env.mailark(args).expect(1).naming("whose program has ended").naming("fusermount3 -u");
    assert!(crate::support::tool("umount", ["-l", place.to_str().unwrap()]));
}
