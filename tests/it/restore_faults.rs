//! Every call by which a restore changes its target fails once, or is the last one before the program is killed: no
//! file is taken for whole that is not, and the same command brings the rest.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::is_long;
use crate::support::{Output, TestEnv, files_below, noise, run, skipped};
use crate::tree::{TreeFixture, mail};

/// Calls that change a target.
const CALLS: [&str; 16] = [
    "write",
    "pwrite64",
    "mkdirat",
    "openat2",
    "renameat",
    "renameat2",
    "linkat",
    "symlinkat",
    "mknodat",
    "unlinkat",
    "fchmod",
    "fchmodat",
    "fchown",
    "utimensat",
    "fsetxattr",
    "syncfs",
];

/// Calls of one kind that are struck in the short form, in each thread.
const STRUCK_MAX: u64 = 5;

struct Bench {
    env: TestEnv,
    tree: TreeFixture,
    target: PathBuf,
    log: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Option<Bench> {
        let env = TestEnv::with_repository();
        if !run(Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"])).stderr.is_empty() {
            skipped(name, "strace is not there, or may not trace");
            return None;
        }
        let tree = TreeFixture::new(env.path("vmail"));
        tree.maildir("alice", 0..6);
        tree.file("deep/er/and/deeper/mail", mail(50));
        tree.file("files/large", noise(1, 300_000));
        tree.file("files/twin", noise(2, 5_000));
        fs::hard_link(tree.path("files/twin"), tree.path("files/other-twin")).unwrap();
        symlink("large", tree.path("files/link")).unwrap();
        env.backup(&tree.root);
        let (target, log) = (env.path("target"), env.path("trace"));
        Some(Bench { env, tree, target, log })
    }

    fn args(&self) -> [&str; 5] {
        ["restore", "latest", "--no-cache", "--to", self.target.to_str().unwrap()]
    }

    /// Restores while `inject` befalls the n-th call of a kind; true when it did.
    fn strike(&self, call: &str, inject: &str, number: u64) -> (bool, Output) {
        let _ = fs::remove_dir_all(&self.target);
        let mut command = Command::new("strace");
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{inject}:when={number}"));
        command.args(["-f", "-qq", "-e", &trace, "-e", &inject, "-o", self.log.to_str().unwrap()]);
        let output =
            run(self.env.surround(&mut command).arg(env!("CARGO_BIN_EXE_mailark")).args(self.args()));
        let log = fs::read(&self.log).unwrap();
        let log = String::from_utf8_lossy(&log);
        (log.contains("INJECTED") || log.contains("SIGKILL"), output)
    }

    /// Every file and link, with its bytes.
    fn held(&self, root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let bytes = |path: &Path| match fs::read_link(path) {
            Ok(to) => to.into_os_string().into_encoded_bytes(),
            Err(_) => fs::read(path).unwrap(),
        };
        let files = files_below(root).into_iter();
        files.map(|path| (path.strip_prefix(root).unwrap().to_owned(), bytes(&path))).collect()
    }

    fn is_complete(&self) -> bool {
        self.held(&self.target.join("data")) == self.held(&self.tree.root)
    }

    /// All names and bytes are there. Modes and times that a fault kept back are another matter: see RELIABILITY.md.
    fn assert_complete(&self, what: &str) {
        assert!(self.is_complete(), "{what}: something else is there");
        assert!(!self.target.join(".mailark-restore").exists(), "{what}: the note is still there");
    }

    /// What has the size and the time of a file has its bytes: the next run lets it stay.
    fn assert_nothing_false(&self, what: &str) {
        let key = |path: &Path| path.symlink_metadata().map(|meta| (meta.len(), meta.modified().unwrap()));
        for path in files_below(&self.target.join("data")) {
            let own = self.tree.root.join(path.strip_prefix(self.target.join("data")).unwrap());
            if own.is_file() && !path.is_symlink() && key(&path).unwrap() == key(&own).unwrap() {
                assert!(fs::read(&path).unwrap() == fs::read(&own).unwrap(), "{what}: {}", path.display());
            }
        }
    }

    /// Strikes every call; `afterwards` sees what came of it.
    fn every_call(&self, inject: &str, afterwards: &dyn Fn(&str, Output)) -> u64 {
        let mut struck = 0;
        for call in CALLS {
            for number in 1.. {
                let what = format!("{inject} at {call} {number}");
                let (befell, output) = self.strike(call, inject, number);
                if !befell {
                    break;
                }
                struck += 1;
                self.assert_nothing_false(&what);
                afterwards(&what, output);
                if number >= STRUCK_MAX && !is_long() {
                    break;
                }
            }
        }
        println!("{inject}: {struck} calls");
        struck
    }
}

#[test]
fn after_a_kill_at_any_call_the_same_command_goes_on() {
    let Some(bench) = Bench::new("after_a_kill_at_any_call_the_same_command_goes_on") else { return };
    let struck = bench.every_call("signal=SIGKILL", &|what, output| {
        assert_ne!(output.code, 0, "{what}");
        let was_complete = bench.is_complete() && !bench.target.join(".mailark-restore").exists();
        let again = bench.env.mailark(bench.args());
        assert!(again.code == 0 || was_complete, "{what}: {}", again.both());
        bench.assert_complete(what);
    });
    assert!(struck > 20, "only {struck}");
}

#[test]
fn on_a_full_target_the_same_command_goes_on() {
    let Some(bench) = Bench::new("on_a_full_target_the_same_command_goes_on") else { return };
    let struck = bench.every_call("error=ENOSPC", &|what, output| {
        assert!([0, 1, 3].contains(&output.code), "{what}: {}", output.both());
        if output.code != 0 {
            let again = bench.env.mailark(bench.args());
            assert!(again.code == 0, "{what}: {}\nthen {}", output.both(), again.both());
        }
        bench.assert_complete(what);
    });
    assert!(struck > 20, "only {struck}");
}

#[test]
fn what_a_bad_target_did_not_take_is_told_and_brought_later() {
    let Some(bench) = Bench::new("what_a_bad_target_did_not_take_is_told_and_brought_later") else { return };
    let struck = bench.every_call("error=EIO", &|what, output| {
        assert!([0, 1, 3].contains(&output.code), "{what}: {}", output.both());
        if output.code != 0 {
            assert!(output.stderr.contains("nput/output"), "{what}: {}", output.both());
            let more = ["--overwrite", "if-changed", "--force"];
            let again = bench.env.mailark(bench.args().iter().chain(&more));
            assert!(again.code == 0, "{what}: {}\nthen {}", output.both(), again.both());
        }
        bench.assert_complete(what);
    });
    assert!(struck > 20, "only {struck}");
}
