//! Repositories on disks that are full, or may not be written.

use std::fs;
use std::process::Command;

use crate::support::{SmallDisk, TestEnv, copy_program, is_root, noise, run, skipped, tool};
use crate::tree::{Ignore, TreeFixture, assert_same};

fn on_a_small_disk(name: &str, size: &str) -> Option<(TestEnv, SmallDisk)> {
    let mut env = TestEnv::new();
    let Some(disk) = SmallDisk::mount(env.path("disk"), size) else {
        skipped(name, "mounting a tmpfs is not allowed here");
        return None;
    };
    env.repository = disk.0.join("repository");
    env.mailark(["init", "--no-recovery-code"]).expect(0);
    Some((env, disk))
}

#[test]
fn a_full_repository_refuses_and_stays_whole() {
    let Some((env, disk)) = on_a_small_disk("a_full_repository_refuses_and_stays_whole", "110m") else {
        return;
    };
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..30);
    env.backup(&tree.root);
    let whole = env.path("whole");
    assert!(tool("cp", ["-a".as_ref(), tree.root.as_os_str(), whole.as_os_str()]));
    (0..90).for_each(|n| drop(tree.file(format!("files/{n}"), noise(n, 1 << 20))));
    let output = env.backup_with(&tree.root, &[]).expect(1);
    assert!(output.stderr.contains("reserve") || output.stderr.contains("space"), "{}", output.both());
    env.check();
    let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
    assert_same(&whole, &env.restore("latest", "older"), ignore);
    assert_eq!(env.mailark(["snapshots", "--json"]).expect(0).json().as_array().unwrap().len(), 1);
    // With room again, the next run takes what the failed one stored.
    assert!(tool("mount", ["-o".as_ref(), "remount,size=400m".as_ref(), disk.0.as_os_str()]));
    let report = env.backup(&tree.root);
    assert!(report["new_bytes"].as_u64() < Some(80 << 20), "{report}");
    assert_same(&tree.root, &env.restore("latest", "newer"), ignore);
    env.check();
}

#[test]
fn a_disk_that_fills_up_during_a_write() {
    let Some((env, disk)) = on_a_small_disk("a_disk_that_fills_up_during_a_write", "110m") else { return };
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..30);
    env.backup(&tree.root);
    let data = env.path("noise");
    fs::write(&data, noise(1, 12 << 20)).unwrap();
    let filler = disk.0.join("filler");
    // The pack is open when the disk fills up to the last byte.
    let script = format!(
        "cat {0}; sleep 0.3; cat /dev/zero > {1} 2>/dev/null; cat {0} {0}x",
        data.display(),
        filler.display()
    );
    fs::write(env.path("noisex"), noise(2, 12 << 20)).unwrap();
    let args = ["backup", "--job", "dump", "--stdin-from-command", "--", "sh", "-c", &script];
    let output = env.mailark(args).expect(1);
    assert!(output.stderr.contains("space"), "{}", output.both());
    fs::remove_file(&filler).unwrap();
    env.check();
    assert_eq!(env.mailark(["snapshots", "--json"]).expect(0).json().as_array().unwrap().len(), 1);
    env.backup(&tree.root);
    env.restore("latest", "restored");
}

#[test]
fn a_repository_that_may_not_be_written_can_be_read() {
    let name = "a_repository_that_may_not_be_written_can_be_read";
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    if !is_root() || !tool("setpriv", nobody.iter().chain(&["true"])) {
        return skipped(name, "needs root and setpriv");
    }
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..10);
    env.backup(&tree.root);
    assert!(tool("chmod", ["-R".as_ref(), "a+rX".as_ref(), env.repository.as_os_str()]));
    assert!(tool(
        "chown",
        ["-R".as_ref(), "65534".as_ref(), env.path("home").as_os_str(), env.key_file.as_os_str()]
    ));
    std::os::unix::fs::chown(env.folder("target"), Some(65_534), None).unwrap();
    let program = env.path("mailark");
    copy_program(&program);
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        run(env.surround(&mut command).args(nobody).arg(&program).args(args))
    };
    as_nobody(&["snapshots"]).expect(0);
    as_nobody(&["check", "--read-data"]).expect(0);
    as_nobody(&["restore", "latest", "--to", "target/new"]).expect(0);
    assert_same(&tree.root, &env.path("target/new/data"), Ignore { owners: true, ..Ignore::default() });
    tree.file("new-file", b"new");
    let before = env.objects("");
    let output = as_nobody(&["backup", "--job", "data", "--as", "/data", "vmail"]).expect(1);
    assert!(output.stderr.contains("denied") || output.stderr.contains("ermission"), "{}", output.both());
    assert_eq!(env.objects(""), before);
    // Without a cache or a state folder, reading works as well.
    as_nobody(&["snapshots", "--no-cache"]).expect(0);
}
