//! `backup --follow`: what comes is saved soon, what does not change leaves nothing behind, and it thins out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, RwLock};

use mailark::format::snapshot::{FOLLOW_TAG, Totals, Tree};
use mailark::index::Index;
use mailark::repo::txn::Transaction;
use rustix::process::Signal;
use serde_json::Value;

use crate::forget::receive;
use crate::library::{open, snapshot};
use crate::support::{Output, PROGRAM, SmallDisk, TestEnv, noise, settle, signal, skipped, tool, wait_until};
use crate::tree::{mail, message_name};

/// A mailbox, and the program that follows it.
struct Followed {
    env: TestEnv,
    vmail: PathBuf,
    child: Ended,
    /// Where its output goes, one file for each start.
    starts: u32,
    more: Vec<&'static str>,
}

impl Followed {
    fn inside(env: TestEnv, settle: &'static str, more: &[&'static str]) -> Followed {
        let vmail = env.folder("vmail");
        for folder in ["cur", "new", "tmp", ".Sent/cur", ".Sent/new", ".Sent/tmp"] {
            env.folder(&format!("vmail/user/{folder}"));
        }
        fs::write(vmail.join("user/subscriptions"), "INBOX\n").unwrap();
        let more = [&["--settle", settle][..], more].concat();
        let child = start(&env, &vmail, &more, 0);
        Followed { env, vmail, child, starts: 0, more }
    }

    /// The same, with its first snapshot made.
    fn at_rest(settle: &'static str, more: &[&'static str]) -> Followed {
        Followed::at_rest_inside(TestEnv::with_repository(), settle, more)
    }

    fn at_rest_inside(env: TestEnv, settle: &'static str, more: &[&'static str]) -> Followed {
        let followed = Followed::inside(env, settle, more);
        followed.wait_for(1);
        followed.wait_for_runs(1);
        followed
    }

    fn start_again(&mut self) {
        self.starts += 1;
        self.child = start(&self.env, &self.vmail, &self.more, self.starts);
    }

    fn output(&self, which: &str) -> String {
        fs::read_to_string(self.env.path(&format!("follow-{}.{which}", self.starts))).unwrap()
    }

    /// What it said about each run since it was started last.
    fn runs(&self) -> Vec<Value> {
        let text = self.output("out");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn snapshots(&self) -> usize {
        self.env.objects("snapshots").len()
    }

    #[track_caller]
    fn wait_for(&self, snapshots: usize) {
        wait_until(&format!("{snapshots} snapshots"), || self.snapshots() >= snapshots);
    }

    #[track_caller]
    fn wait_for_runs(&self, runs: usize) {
        wait_until(&format!("{runs} runs"), || self.runs().len() >= runs);
    }

    /// Delivers a message as a mail server does.
    fn deliver(&self, folder: &str, number: u64) {
        let name = message_name(number, "");
        let name = name.split(':').next().unwrap();
        let (tmp, new) = (self.vmail.join("user/tmp").join(name), self.vmail.join(folder).join(name));
        fs::write(&tmp, mail(number)).unwrap();
        fs::rename(tmp, new).unwrap();
    }

    /// File systems and folders that the kernel watches for it.
    fn watched(&self) -> (usize, usize) {
        let about = format!("/proc/{}/fdinfo", self.child.0.id());
        let lists = fs::read_dir(about).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()));
        let lists: String = lists.map(Result::unwrap_or_default).collect();
        (lists.matches("fanotify sdev:").count(), lists.matches("inotify wd:").count())
    }

    /// Messages in the last snapshot.
    fn messages(&self) -> u64 {
        let listed = self.env.mailark(["snapshots", "--json"]).expect(0).json();
        listed.as_array().unwrap().last().unwrap()["messages"].as_u64().unwrap()
    }

    /// Goes on after a flood of events: mail in a folder is found, and then told of once more. Ends.
    #[track_caller]
    fn hears_again_in(self, folder: &str) {
        self.deliver(folder, 1);
        signal(&self.child.0, Signal::CONT);
        wait_until("the message", || self.messages() == 1);
        self.deliver(folder, 2);
        wait_until("the second message, by an event", || self.messages() == 2);
        self.end();
    }

    #[track_caller]
    fn end(mut self) -> TestEnv {
        signal(&self.child.0, Signal::TERM);
        let status = self.child.0.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.output("err"));
        assert!(!self.output("err").contains("panicked"), "{}", self.output("err"));
        std::mem::replace(&mut self.env, TestEnv::new())
    }
}

/// A program that ends with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Ended already, where the test came so far.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(env: &TestEnv, vmail: &Path, more: &[&str], number: u32) -> Ended {
    start_as(env.command([""; 0]), env, vmail, more, number)
}

fn start_as(mut command: Command, env: &TestEnv, vmail: &Path, more: &[&str], number: u32) -> Ended {
    let out = |which: &str| File::create(env.path(&format!("follow-{number}.{which}"))).unwrap();
    command.args(["backup", "--follow", "--json", "--job", "mail", "--as", "/data"]);
    Ended(command.args(more).arg(vmail).stdout(out("out")).stderr(out("err")).spawn().unwrap())
}

fn objects(env: &TestEnv) -> Vec<PathBuf> {
    env.objects("").into_iter().map(|(path, _)| path).collect()
}

#[test]
fn what_comes_is_saved_when_it_has_settled() {
    let followed = Followed::at_rest("1s", &[]);
    followed.deliver("user/new", 1);
    followed.wait_for(2);
    // Into a folder that is new, and then in place.
    for folder in ["cur", "new", "tmp"] {
        followed.env.folder(&format!("vmail/user/.New/{folder}"));
    }
    followed.deliver("user/.New/new", 2);
    followed.wait_for(3);
    wait_until("both messages", || followed.messages() == 2);
    let letter = [b"From a@b Mon Nov 23 10:00:00 2026\n", &mail(3)[..], b"\n"].concat();
    fs::write(followed.vmail.join("mbox"), letter).unwrap();
    wait_until("the message in the mbox", || followed.messages() == 3);
    let vmail = followed.vmail.clone();
    let env = followed.end();
    let restored = env.restore("latest", "back");
    crate::tree::assert_same(&vmail, &restored, crate::tree::Ignore { owners: true, ..Default::default() });
    env.check();

    let listed = env.mailark(["snapshots", "--json"]).expect(0).json();
    let listed = listed.as_array().unwrap();
    assert!(listed.iter().all(|info| info["tags"] == serde_json::json!([FOLLOW_TAG])), "{listed:?}");
    let all = env.mailark(["snapshots", "--all"]).expect(0).stdout;
    assert_eq!(all.lines().count(), listed.len() + 1, "{all}");
    let short = env.mailark(["snapshots"]).expect(0).stdout;
    assert!(short.lines().count() < all.lines().count(), "{short}");
    assert!(short.contains(" snapshots of --follow from "), "{short}");
}

#[test]
fn a_burst_is_one_snapshot_of_few_objects() {
    let followed = Followed::at_rest("3s", &[]);
    let before = objects(&followed.env);
    for number in 0..50 {
        followed.deliver(if number % 2 == 0 { "user/new" } else { "user/.Sent/new" }, number);
    }
    followed.wait_for(2);
    followed.wait_for_runs(2);
    assert_eq!((followed.snapshots(), followed.messages()), (2, 50));
    let added = objects(&followed.env).into_iter().filter(|path| !before.contains(path));
    let added: Vec<PathBuf> = added.collect();
    assert_eq!(added.len(), 3, "a pack, a delta, a snapshot: {added:?}");
    followed.end();
}

#[test]
fn where_nothing_changed_nothing_is_added() {
    let followed = Followed::at_rest("1s", &[]);
    let before = objects(&followed.env);
    let file = followed.vmail.join("user/subscriptions");
    for round in 2..5 {
        // Told by an event, and nothing that a snapshot holds.
        fs::set_permissions(&file, fs::metadata(&file).unwrap().permissions()).unwrap();
        followed.wait_for_runs(round);
    }
    let runs = followed.runs();
    assert!(runs[1..].iter().all(|run| run["unchanged"] == true && run["snapshot"].is_null()), "{runs:?}");
    assert_eq!(objects(&followed.env), before);
    followed.end();
}

#[test]
fn a_rescan_of_the_same_adds_no_object() {
    // With one folder watched, all is looked at again and again.
    let followed = Followed::at_rest("1s", &["--watch-each", "--watch-limit", "1"]);
    let before = objects(&followed.env);
    followed.wait_for_runs(4);
    assert_eq!(objects(&followed.env), before);
    assert!(followed.runs()[1..].iter().all(|run| run["unchanged"] == true));
    followed.end().check();
}

#[test]
fn what_cannot_be_watched_is_found_all_the_same() {
    let followed = Followed::at_rest("1s", &["--watch-each", "--watch-limit", "1"]);
    followed.deliver("user/.Sent/new", 1);
    followed.wait_for(2);
    followed.deliver("user/new", 2);
    wait_until("both messages", || followed.messages() == 2);
    followed.end();
}

#[test]
fn a_lost_flood_of_events_loses_nothing() {
    let followed = Followed::at_rest("1s", &["--watch-each"]);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap_or_default();
    let Ok(limit @ ..200_000) = limit.trim().parse::<usize>() else {
        return skipped("a lost flood of events", "the system holds very many");
    };
    signal(&followed.child.0, Signal::STOP);
    let (a, b) = (followed.vmail.join("user/cur/a"), followed.vmail.join("user/cur/b"));
    fs::write(&a, "").unwrap();
    for _ in 0..limit / 4 + 10 {
        fs::rename(&a, &b).unwrap();
        fs::rename(&b, &a).unwrap();
    }
    fs::remove_file(&a).unwrap();
    // Nobody is told of this folder.
    for folder in ["cur", "new", "tmp"] {
        followed.env.folder(&format!("vmail/user/.Late/{folder}"));
    }
    followed.hears_again_in("user/.Late/new");
}

#[test]
fn a_lost_flood_from_a_whole_file_system_loses_nothing() {
    let name = "a_lost_flood_from_a_whole_file_system_loses_nothing";
    let limit = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap_or_default();
    let Ok(limit @ ..100_000) = limit.trim().parse::<usize>() else {
        return skipped(name, "the system holds very many");
    };
    let env = TestEnv::with_repository();
    // The flood is for nobody else.
    let Some(disk) = SmallDisk::mount(env.path("vmail"), "256m") else {
        return skipped(name, "mounting a tmpfs is not allowed here");
    };
    let followed = Followed::at_rest_inside(env, "1s", &["--exclude", "beside"]);
    if followed.watched().0 == 0 {
        return skipped(name, "no file system may be watched as a whole here");
    }
    signal(&followed.child.0, Signal::STOP);
    let beside = followed.env.folder("vmail/beside");
    for number in 0..limit + 4_000 {
        File::create(beside.join(number.to_string())).unwrap();
    }
    followed.hears_again_in("user/new");
    drop(disk);
}

#[test]
fn folders_beyond_any_limit_are_watched_by_one_mark() {
    let env = TestEnv::with_repository();
    for number in 0..3_000 {
        env.folder(&format!("vmail/user/{}/{number}", number % 50));
    }
    let followed = Followed::at_rest_inside(env, "1s", &["--watch-limit", "1"]);
    match followed.watched() {
        (0, _) => {
            return skipped("folders_beyond_any_limit", "no file system may be watched as a whole here");
        }
        watched => assert_eq!(watched, (1, 0)),
    }
    for (number, folder) in (1..).zip(["user/0/0", "user/49/2999", "user/.Sent/new"]) {
        followed.deliver(folder, number);
        followed.wait_for(number as usize + 1);
    }
    let env = followed.end();
    env.check();
}

#[test]
fn without_the_right_to_it_folders_are_watched_one_by_one() {
    let name = "without_the_right_to_it_folders_are_watched_one_by_one";
    let mut followed = Followed::at_rest("1s", &[]);
    let (whole, _) = followed.watched();
    for (number, right) in (1..).zip(["-sys_admin", "-dac_read_search"]) {
        let bounds = format!("--bounding-set={right}");
        if !tool("setpriv", [&bounds, "true"]) {
            return skipped(name, "needs root and setpriv");
        }
        signal(&followed.child.0, Signal::TERM);
        followed.child.0.wait().unwrap();
        let mut command = Command::new("setpriv");
        followed.env.surround(&mut command).arg(bounds).arg(PROGRAM);
        followed.starts += 1;
        followed.child = start_as(command, &followed.env, &followed.vmail, &followed.more, followed.starts);
        followed.wait_for_runs(1);
        let (file_systems, folders) = followed.watched();
        assert!(file_systems == 0 && folders >= 6, "{right}: {folders} folders, before {whole}");
        followed.deliver("user/.Sent/new", number);
        followed.wait_for(number as usize + 1);
    }
    followed.end();
}

#[test]
fn killed_and_started_again_it_goes_on() {
    let mut followed = Followed::at_rest("1s", &[]);
    for number in 0..4 {
        followed.deliver("user/new", number);
        if number % 2 == 0 {
            settle();
        } else {
            followed.wait_for_runs(2);
        }
        followed.child.0.kill().unwrap();
        followed.child.0.wait().unwrap();
        followed.start_again();
        wait_until("the message", || followed.messages() == number + 1);
        // The one before may have saved the message: what comes now is for this one, once it has begun.
        followed.wait_for_runs(1);
    }
    let env = followed.end();
    env.check();
}

#[test]
fn a_signal_ends_it_well_while_it_works_too() {
    let env = TestEnv::with_repository();
    let vmail = env.folder("vmail");
    for number in 0..60 {
        fs::write(vmail.join(format!("{number}")), noise(number, 1 << 20)).unwrap();
    }
    let mut child = start(&env, &vmail, &["--settle", "1s"], 0);
    wait_until("the first pack", || !env.objects("packs").is_empty());
    signal(&child.0, Signal::INT);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    env.check();
    let args = ["backup", "--json", "--job", "mail", "--as", "/data", vmail.to_str().unwrap()];
    assert_eq!(env.mailark(args).expect(0).json()["files"], 60);
}

#[test]
fn a_repository_that_goes_away_is_waited_for() {
    let followed = Followed::at_rest("1s", &[]);
    let away = followed.env.path("away");
    fs::rename(&followed.env.repository, &away).unwrap();
    followed.deliver("user/new", 1);
    wait_until("a second try", || followed.output("err").matches("trying again").count() >= 2);
    assert!(!followed.env.repository.exists(), "nothing is made where a disk is mounted on other days");
    // As a share leaves its mount point.
    fs::create_dir(&followed.env.repository).unwrap();
    let tries = followed.output("err").matches("trying again").count();
    wait_until("one more try", || followed.output("err").matches("trying again").count() > tries);
    assert_eq!(fs::read_dir(&followed.env.repository).unwrap().count(), 0);
    fs::remove_dir(&followed.env.repository).unwrap();
    fs::rename(&away, &followed.env.repository).unwrap();
    wait_until("the message", || followed.messages() == 1);
    followed.end().check();
}

#[test]
fn a_nightly_backup_of_the_job_works_beside_it() {
    let followed = Followed::at_rest("1s", &[]);
    let nightly = || -> Output {
        let args = ["backup", "--json", "--job", "mail", "--as", "/data", followed.vmail.to_str().unwrap()];
        followed.env.mailark(args)
    };
    let mut report = nightly();
    // Only while it runs it holds the job.
    wait_until("the job is free", || {
        if report.code == 11 {
            report = nightly();
        }
        report.code != 11
    });
    assert!(report.expect(0).json()["snapshot"].is_string(), "changed or not");
    followed.deliver("user/new", 1);
    wait_until("the message", || followed.messages() == 1);
    followed.end().check();
}

#[test]
fn what_can_never_go_well_is_not_begun() {
    let env = TestEnv::new();
    let vmail = env.folder("vmail").into_os_string().into_string().unwrap();
    env.mailark(["backup", "--follow", &vmail]).expect(10);
    env.mailark(["init", "--no-recovery-code"]).expect(0);
    env.mailark(["backup", "--tag", "follow", &vmail]).expect(2).naming("is for nothing else");
    env.mailark(["backup", "--follow", "--tag", "x", &vmail]).expect(2);
    env.mailark(["backup", "--settle", "5s", &vmail]).expect(2);
    env.mailark(["backup", "--follow", "--dry-run", &vmail]).expect(2);
    let other = env.path("other");
    crate::support::write_private(&other, &noise(8, 32));
    env.mailark(["backup", "--follow", "--key-file", other.to_str().unwrap(), &vmail]).expect(12);
}

#[test]
fn sixty_small_runs_are_few_packs_after_a_prune() {
    let env = TestEnv::with_repository();
    let vmail = env.folder("vmail");
    env.folder("vmail/user/cur");
    env.folder("vmail/user/new");
    for number in 0..60 {
        fs::write(vmail.join("user/cur").join(message_name(number, "S")), mail(number)).unwrap();
        let args = ["backup", "--job", "mail", "--as", "/data", vmail.to_str().unwrap()];
        env.mailark(args).expect(0);
    }
    assert!(env.objects("packs").len() >= 60);
    env.mailark(["prune", "--now"]).expect(0);
    let left = env.objects("packs").len();
    assert!(left <= 6, "{left} packs");
    assert_eq!(env.mailark(["snapshots", "--json"]).expect(0).json().as_array().unwrap().len(), 60);
    env.check();
}

const NOON_S: i64 = 1_767_268_800;

/// Snapshots of a follower, so many minutes before noon, oldest first.
fn make(env: &TestEnv, minutes_ago: impl IntoIterator<Item = i64>) {
    let repository = open(&env.repository, &env.key_file).unwrap();
    let writer = Arc::new(repository.writer_for("mx").unwrap());
    for ago in minutes_ago {
        let at = NOON_S - ago * 60;
        let index = RwLock::new(Index::in_memory(&repository.id()));
        let transaction = Transaction::begin(&repository, &writer, &index, None).unwrap();
        let mut made = snapshot("mail", Tree { root: None, levels: 0, totals: Totals::default() });
        (made.started, made.ended) = (at * 1_000_000_000, at * 1_000_000_000);
        made.tags = vec![FOLLOW_TAG.to_owned()];
        let id = transaction.commit(&made).unwrap().1.to_string();
        receive(env, &id, at);
    }
}

fn count(env: &TestEnv) -> usize {
    env.mailark(["snapshots", "--json"]).expect(0).json().as_array().unwrap().len()
}

#[test]
fn forget_thins_what_a_follower_made_without_any_policy() {
    let env = TestEnv::with_repository();
    // Three in an hour two days ago, three in another, three today.
    make(&env, [3_000, 2_999, 2_998, 2_940, 2_939, 2_938, 2, 1, 0]);
    let plan = env.mailark(["forget", "--dry-run"]).expect(0).stdout;
    assert!(plan.contains("of --follow the last of each hour") && plan.contains("forget 4"), "{plan}");
    let held = env.mailark(["snapshots", "--json"]).expect(0).json();
    let first = held[0]["id"].as_str().unwrap();
    env.mailark(["hold", "add", "--snapshot", first, "--reason", "test"]).expect(0);
    env.mailark(["forget"]).expect(0);
    assert_eq!(count(&env), 6, "one of four is held");
    env.mailark(["forget"]).expect(0);
    assert_eq!(count(&env), 6, "and nothing else is there to thin");
    env.mailark(["forget", "--keep-last", "1", "--hold-down", "0"]).expect(0);
    assert_eq!(count(&env), 2, "a policy takes what it would take of any");
}

#[test]
fn a_prune_thins_first() {
    let env = TestEnv::with_repository();
    make(&env, [3_000, 2_999, 2_998, 2, 1, 0]);
    env.mailark(["prune", "--dry-run"]).expect(0);
    assert_eq!(count(&env), 6);
    let report = env.mailark(["prune", "--now", "--json"]).expect(0).json();
    assert_eq!(report["dropped_snapshots"], 2, "{report}");
    assert_eq!(count(&env), 4);
}

#[test]
fn a_follower_with_a_full_key_thins_by_itself() {
    let env = TestEnv::with_repository();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    // In the middle of an hour three days ago.
    let hour = (now - 3 * 86_400) / 3_600 * 60 + 30;
    make(&env, (0..3).map(|minute| NOON_S / 60 - hour - minute));
    let vmail = env.folder("vmail");
    fs::write(vmail.join("a"), "a").unwrap();
    let mut command = env.command(["backup", "--follow", "--host", "mx", "--job", "mail", "--settle", "1s"]);
    let mut ended = Ended(command.arg(&vmail).spawn().unwrap());
    wait_until("thinned", || count(&env) == 2);
    signal(&ended.0, Signal::TERM);
    assert_eq!(ended.0.wait().unwrap().code(), Some(0));
}
