//! `mailark mount` on a real /dev/fuse.

mod damage;
mod dovecot;
mod reading;
mod rights;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Output, TestEnv, finished, is_root, noise, signal, skipped, tool, wait_until};
use crate::tree::{Ignore, TreeFixture, assert_same, mail, message_name, set_mode};

/// A mount that stands; gone when dropped.
pub struct Mount {
    child: Option<Child>,
    pub place: PathBuf,
}

/// Why nothing can be mounted here, if that is so.
fn cannot() -> Option<&'static str> {
    if !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse");
    }
    let may = is_root() || tool("fusermount3", ["-V"]);
    (!may).then_some("only root, or fusermount3, may mount")
}

/// Is something mounted there?
fn is_mounted(place: &Path) -> bool {
    let mounts = fs::read("/proc/self/mounts").unwrap();
    let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    mounts.split(|&byte| byte == b'\n').any(|line| {
        line.split(|&byte| byte == b' ').nth(1).is_some_and(|at| at == place.as_os_str().as_bytes())
    })
}

impl Mount {
    /// Mounts the repository; `None`, said loudly, where that is impossible.
    #[track_caller]
    pub fn stand(name: &str, env: &TestEnv, more: &[&str]) -> Option<Mount> {
        if let Some(why) = cannot() {
            skipped(name, why);
            return None;
        }
        let number = (0..).find(|number| !env.path(&format!("mount-{number}")).exists()).unwrap();
        let place = env.folder(&format!("mount-{number}"));
        let mut command = env.command(["mount", "--json"]);
        command.arg(&place).args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut mount = Mount { child: Some(command.spawn().unwrap()), place };
        wait_until("it is mounted", || {
            let child = mount.child.as_mut().unwrap();
            is_mounted(&mount.place) || child.try_wait().unwrap().is_some()
        });
        if !is_mounted(&mount.place) {
            panic!("{}", finished(mount.child.take().unwrap()).both());
        }
        Some(mount)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn wait(mut self) -> Output {
        let output = finished(self.child.take().unwrap());
        assert!(!is_mounted(&self.place), "it hangs there still: {}", output.both());
        output
    }

    fn signal(self, number: Signal) -> Output {
        signal(self.child.as_ref().unwrap(), number);
        self.wait()
    }

    /// Ends it.
    pub fn end(self) -> Output {
        self.signal(Signal::TERM)
    }
}

/// What it said at its end.
fn said(output: &Output) -> Value {
    serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap()
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
            tool("umount", ["-l".as_ref(), self.place.as_os_str()]);
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Two users' mail below `/var/vmail/example.org`.
fn vmail(env: &TestEnv) -> TreeFixture {
    let tree = TreeFixture::new(env.path("vmail"));
    for user in ["alice", "bob"] {
        tree.maildir(&format!("example.org/{user}"), 0..30);
        tree.maildir(&format!("example.org/{user}/.Sent"), 20..40);
    }
    tree
}

fn back_up(env: &TestEnv, job: &str, logical: &str, source: &Path, code: i32) {
    crate::support::settle();
    env.mailark(["backup", "--job", job, "--as", logical, source.to_str().unwrap()]).expect(code);
}

#[test]
fn snapshots_stand_by_time_host_and_user() {
    let env = TestEnv::with_repository();
    let tree = vmail(&env);
    back_up(&env, "mail", "/var/vmail", &tree.root, 0);
    tree.file("example.org/carol/cur/1.M1P1.mx:2,", mail(77));
    tree.folder("example.org/carol/new");
    back_up(&env, "mail", "/var/vmail", &tree.root, 0);
    let etc = TreeFixture::new(env.path("etc"));
    etc.file("main.cf", b"inet_interfaces = all\n");
    back_up(&env, "config", "/etc/postfix", &etc.root, 0);
    let Some(mount) = Mount::stand("snapshots_stand_by_time_host_and_user", &env, &[]) else { return };
    assert_eq!(names(&mount.place), ["hosts", "snapshots", "users"]);
    let all = names(&mount.path("snapshots"));
    assert_eq!((all.len(), all.last().unwrap().as_str()), (4, "latest"));
    // The time of Berlin, in which the program runs here, without colons.
    assert!(all[..3].iter().all(|name| name.contains("+0") && !name.contains(':')), "{all:?}");
    let hosts = names(&mount.path("hosts"));
    let of_host = mount.path("hosts").join(&hosts[0]);
    assert_eq!((hosts.len(), names(&of_host)), (1, vec!["config".to_owned(), "mail".to_owned()]));
    let mails = names(&of_host.join("mail"));
    assert_eq!(mails.len(), 3);
    let ignore = Ignore { links: true, owners: !is_root(), ..Ignore::default() };
    assert_same(&tree.root, &of_host.join("mail/latest/var/vmail"), ignore);
    assert_same(&etc.root, &of_host.join("config/latest/etc/postfix"), ignore);
    assert_eq!(names(&mount.path("snapshots/latest")), ["etc"]);
    let users = names(&mount.path("users"));
    assert_eq!(users, ["alice@example.org", "bob@example.org", "carol@example.org"]);
    assert_eq!(names(&mount.path("users/alice@example.org")), mails);
    assert_eq!(names(&mount.path("users/carol@example.org")), [mails[1].as_str(), "latest"]);
    let of_alice = mount.path("users/alice@example.org/latest");
    assert_same(&tree.path("example.org/alice"), &of_alice.canonicalize().unwrap(), ignore);
    assert_eq!(fs::read_link(&of_alice).unwrap(), Path::new(&mails[1]));
    assert!(!mount.path("users/mallory@example.org").exists());
    assert!(!mount.path("snapshots/1999").exists());
    let output = mount.end().expect(0);
    assert_eq!(said(&output)["ended_by"], "signal");
    assert!(said(&output)["bytes_read"].as_u64().unwrap() > 10_000);
}

#[test]
fn one_snapshot_or_one_folder_of_it() {
    let env = TestEnv::with_repository();
    let tree = vmail(&env);
    back_up(&env, "mail", "/var/vmail", &tree.root, 0);
    let whole = ["latest"];
    let Some(mount) = Mount::stand("one_snapshot_or_one_folder_of_it", &env, &whole) else { return };
    assert_eq!(names(&mount.place), ["var"]);
    mount.end().expect(0);
    let alice = Mount::stand("", &env, &["latest:/var/vmail/example.org/alice"]).unwrap();
    let ignore = Ignore { links: true, owners: !is_root(), ..Ignore::default() };
    assert_same(&tree.path("example.org/alice"), &alice.place, ignore);
    alice.end().expect(0);
    let none = Mount::stand("", &env, &["--job", "other"]).unwrap();
    assert!(names(&none.path("snapshots")).is_empty() && names(&none.path("users")).is_empty());
    none.end().expect(0);
    let held = Mount::stand("", &env, &["--path", "/var/vmail/example.org"]).unwrap();
    assert_eq!(names(&held.path("snapshots")).len(), 2);
    held.end().expect(0);
    let place = env.folder("place");
    for only in ["latest:/var/nothing", "latest:/var/vmail/example.org/alice/dovecot-uidlist"] {
        let args = ["mount", place.to_str().unwrap(), only];
        assert!(env.mailark(args).expect(1).stderr.contains("hint: "));
    }
}

#[test]
fn only_an_empty_folder_is_mounted_on() {
    let env = TestEnv::with_repository();
    let full = env.folder("full");
    fs::write(full.join("something"), b"x").unwrap();
    for (place, what) in
        [("full", "is not empty"), ("key", "is no folder"), ("nowhere", "hint: make an empty")]
    {
        let place = env.path(place);
        env.mailark(["mount", place.to_str().unwrap()]).expect(1).naming(what).naming("hint: ");
    }
}

#[test]
fn it_ends_by_signals_and_by_unmounting() {
    let env = TestEnv::with_repository();
    let tree = vmail(&env);
    back_up(&env, "mail", "/var/vmail", &tree.root, 0);
    for number in [Signal::TERM, Signal::INT, Signal::HUP] {
        let Some(mount) = Mount::stand("it_ends_by_signals_and_by_unmounting", &env, &[]) else { return };
        names(&mount.path("snapshots/latest/var/vmail"));
        assert_eq!(said(&mount.signal(number).expect(0))["ended_by"], "signal");
    }
    let mount = Mount::stand("", &env, &[]).unwrap();
    let unmounted = is_root() && tool("umount", [mount.place.as_os_str()])
        || tool("fusermount3", ["-u".as_ref(), mount.place.as_os_str()]);
    assert!(unmounted);
    assert_eq!(said(&mount.wait().expect(0))["ended_by"], "unmount");
    // Whoever holds a file open keeps nobody from ending it.
    let mount = Mount::stand("", &env, &[]).unwrap();
    let held =
        fs::File::open(mount.path("snapshots/latest/var/vmail/example.org/alice/dovecot-uidlist")).unwrap();
    let place = mount.place.clone();
    let output = mount.end().expect(0);
    assert_eq!(said(&output)["in_use"], true, "{}", output.both());
    assert!(names(&place).is_empty());
    drop(held);
}

#[test]
fn new_snapshots_appear_and_suspect_ones_are_never_the_latest() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("mail"));
    tree.maildir("alice", 0..50);
    back_up(&env, "mail", "/var/mail", &tree.root, 0);
    let name = "new_snapshots_appear_and_suspect_ones_are_never_the_latest";
    let Some(mount) = Mount::stand(name, &env, &[]) else { return };
    let (list, latest) = (mount.path("snapshots"), mount.path("snapshots/latest"));
    let first = names(&list);
    assert_eq!(first.len(), 2);
    tree.file(format!("alice/cur/{}", message_name(60, "")), mail(60));
    back_up(&env, "mail", "/var/mail", &tree.root, 0);
    wait_until("the second snapshot appears", || names(&list).len() == 3);
    let second = names(&list)[1].clone();
    wait_until("it is the latest", || fs::read_link(&latest).unwrap() == Path::new(&second));
    assert_eq!(fs::read(latest.join("var/mail/alice/cur").join(message_name(60, ""))).unwrap(), mail(60));
    // Nearly all mail is gone: that is suspect.
    fs::remove_dir_all(tree.path("alice/cur")).unwrap();
    tree.folder("alice/cur");
    back_up(&env, "mail", "/var/mail", &tree.root, 4);
    wait_until("the third snapshot appears", || names(&list).len() == 4);
    assert_eq!(fs::read_link(&latest).unwrap(), Path::new(&second));
    assert_eq!(fs::read_link(mount.path("users/alice/latest")).unwrap(), Path::new(&second));
    // What is forgotten goes.
    let listed = env.mailark(["snapshots", "--json"]).expect(0).json();
    let oldest = listed[0]["id"].as_str().or(listed[0]["snapshot"].as_str()).unwrap_or_default().to_owned();
    env.mailark(["forget", &oldest]).expect(0);
    wait_until("the first snapshot goes", || names(&list).len() == 3);
    mount.end().expect(0);
}

#[test]
fn a_writer_key_mounts_nothing() {
    let env = TestEnv::with_repository();
    let key = env.path("writer");
    env.mailark(["key", "add", "--writer", "--host", "mx1", "--new-key-file", key.to_str().unwrap()])
        .expect(0);
    let place = env.folder("place");
    let mut command = env.command(["mount", place.to_str().unwrap()]);
    crate::support::run(command.env("MAILARK_KEY_FILE", &key)).expect(12);
}

/// Makes a file that only its owner may read.
fn private(tree: &TreeFixture, name: &str, mode: u32) -> PathBuf {
    let path = tree.file(name, noise(1, 100));
    set_mode(&path, mode);
    path
}
