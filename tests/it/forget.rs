//! Forgetting by rule and by name, holds, and what wrong clocks and hostile writers get out of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use mailark::base::id::{DomainId, HostId};
use mailark::format::codec;
use mailark::format::keyset::{KeySet, WriterKeys};
use mailark::format::object::ObjectType;
use mailark::format::record::RecordHead;
use mailark::format::snapshot::{Totals, Tree};
use mailark::index::Index;
use mailark::repo::Repository;
use mailark::repo::objects::{NewObject, Signer};
use mailark::repo::txn::Transaction;
use serde_json::Value;

use crate::library::{lone_host, open, snapshot};
use crate::support::{Output, TestEnv, files_below};
use crate::tree::TreeFixture;

const DAY_S: i64 = 86_400;
/// Noon of 2026-01-01, UTC.
const FIRST_DAY_S: i64 = 1_767_268_800;
const YEAR_2099_S: i64 = 4_080_000_000;

fn at_day(day: i64) -> i64 {
    FIRST_DAY_S + day * DAY_S
}

/// Sets when the store received a snapshot.
pub fn receive(env: &TestEnv, id: &str, seconds: i64) {
    let path = object_of(env, id);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds as u64);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

pub fn object_of(env: &TestEnv, id: &str) -> PathBuf {
    let all = files_below(&env.repository.join("snapshots"));
    all.into_iter().find(|path| path.to_str().unwrap().ends_with(id)).unwrap()
}

/// Makes empty snapshots in the name of any host.
struct Maker {
    repository: Repository,
    writer: Arc<WriterKeys>,
}

impl Maker {
    fn full(env: &TestEnv) -> Maker {
        let repository = open(&env.repository, &env.key_file).unwrap();
        let writer = Arc::new(repository.writer_for("mx").unwrap());
        Maker { repository, writer }
    }

    fn writer(env: &TestEnv, key_file: &Path) -> Maker {
        let repository = open(&env.repository, key_file).unwrap();
        let KeySet::Writer(keys) = repository.keys.as_ref() else { panic!("not a writer's") };
        let writer = Arc::new(keys.as_ref().clone());
        Maker { repository, writer }
    }

    /// A snapshot that ended then by its host's clock; gives its id.
    fn make(&self, job: &str, ended_s: i64, suspect: bool) -> String {
        let index = RwLock::new(Index::in_memory(&self.repository.id()));
        let transaction = Transaction::begin(&self.repository, &self.writer, &index, None).unwrap();
        let tree = Tree { root: None, levels: 0, totals: Totals::default() };
        let mut made = snapshot(job, tree);
        (made.started, made.ended) = (ended_s * 1_000_000_000, ended_s * 1_000_000_000);
        made.suspect = suspect.then(|| "no mail".to_owned());
        transaction.commit(&made).unwrap().1.to_string()
    }

    /// One snapshot a day; gives their ids.
    fn nights(&self, env: &TestEnv, job: &str, days: std::ops::Range<i64>) -> Vec<String> {
        let night = |day: i64| {
            let id = self.make(job, at_day(day), false);
            receive(env, &id, at_day(day));
            id
        };
        days.map(night).collect()
    }
}

fn ids(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let listed = env.mailark(["snapshots", "--json"].iter().chain(args)).expect(0).json();
    listed.as_array().unwrap().iter().map(|info| info["id"].as_str().unwrap().to_owned()).collect()
}

fn forget(env: &TestEnv, args: &[&str]) -> Output {
    env.mailark(["forget"].iter().chain(args))
}

/// Ids that a forget keeps or lets go, in all groups.
fn listed(report: &Value, which: &str) -> Vec<String> {
    let groups = report["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group[which].as_array().unwrap())
        .map(|verdict| verdict["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_rule_is_shown_then_done_then_does_nothing_more() {
    let env = TestEnv::with_repository();
    let made = Maker::full(&env).nights(&env, "mail", 0..60);
    let rule = ["--keep-daily", "7", "--keep-weekly", "4", "--keep-monthly", "12"];
    let shown = forget(&env, &[&rule[..], &["--dry-run"]].concat()).expect(0).stdout;
    assert!(
        shown.contains("host mx, job mail: keep 7 daily, 4 weekly, 12 monthly; hold-down 24h"),
        "{shown}"
    );
    assert!(
        shown.contains("would keep 11, forget 49") && shown.contains("daily, weekly, monthly"),
        "{shown}"
    );
    let plan = forget(&env, &[&rule[..], &["-n", "--json"]].concat()).expect(0).json();
    assert_eq!(ids(&env, &[]).len(), 60, "nothing was done");

    let quiet = forget(&env, &rule).expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""), "silent under cron");
    let mut left = ids(&env, &[]);
    let mut kept = listed(&plan, "keep");
    left.sort();
    kept.sort();
    assert_eq!(left, kept);
    // 60 nights from January 1 on: the last seven, Sundays before, the end of January.
    for day in [59, 58, 57, 56, 55, 54, 53, 52, 45, 38, 30] {
        assert!(left.contains(&made[day]), "day {day}");
    }
    assert_eq!(files_below(&env.repository.join("snapshots")).len(), 60, "prune deletes, not forget");
    let all = env.mailark(["snapshots", "--all", "--json"]).expect(0).json();
    let dropped = |info: &&Value| info["dropped"] == "forgotten";
    assert_eq!(
        (all.as_array().unwrap().len(), all.as_array().unwrap().iter().filter(dropped).count()),
        (60, 49)
    );
    assert!(env.mailark(["snapshots", "--all"]).expect(0).stdout.contains("FORGOTTEN"));
    assert!(!env.mailark(["snapshots"]).expect(0).stdout.contains("FORGOTTEN"));

    let records = env.objects("records").len();
    let again = forget(&env, &[&rule[..], &["--json"]].concat()).expect(0).json();
    assert!(listed(&again, "forget").is_empty() && again["groups"][0]["record"].is_null());
    assert_eq!(env.objects("records").len(), records);
    env.mailark(["restore", &made[0], "--to", "back"]).expect(1).naming("was forgotten");
}

fn configure(env: &TestEnv, text: &str) {
    let folder = env.folder("home/config/mailark");
    fs::write(folder.join("mailark.toml"), text).unwrap();
}

#[test]
fn policies_come_from_the_configuration() {
    let env = TestEnv::with_repository();
    let maker = Maker::full(&env);
    for day in 0..20 {
        for job in ["mail", "config", "logs"] {
            maker.nights(&env, job, day..day + 1);
        }
    }
    for text in ["", "[jobs.other.retention]\ndaily = 1\n"] {
        configure(&env, text);
        forget(&env, &[]).expect(1).naming("no rule says what to keep").naming("retention = {");
    }
    configure(
        &env,
        "[jobs.mail]\npaths = [\"/m\"]\nretention = { daily = 3 }\n[jobs.config.retention]\nlast = 5\n",
    );
    let report = forget(&env, &["--json"]).expect(0).json();
    assert_eq!(report["left_alone"][0]["job"], "logs");
    let told = forget(&env, &["--verbose"]).expect(0);
    assert!(told.stderr.contains("job logs: no policy in mailark.toml: left alone"), "{}", told.both());
    let count = |job| ids(&env, &["--job", job]).len();
    assert_eq!([count("mail"), count("config"), count("logs")], [3, 5, 20]);

    configure(&env, "retention = { daily = 2 }\n[jobs.config.retention]\nlast = 4\n");
    forget(&env, &["--group-by", "host"]).expect(1).naming("different policies");
    forget(&env, &["--job", "logs"]).expect(0);
    assert_eq!([count("mail"), count("config"), count("logs")], [3, 5, 2]);
    forget(&env, &[]).expect(0);
    assert_eq!([count("mail"), count("config"), count("logs")], [2, 4, 2]);
    // The command line wins, for all jobs; one of them has nothing to back up here.
    forget(&env, &["--keep-last", "1", "--hold-down", "0"]).expect(0);
    assert_eq!(ids(&env, &[]).len(), 3);
    env.mailark(["backup", "--job", "config"]).expect(1).naming("no paths given");
}

#[test]
fn wrong_uses_are_refused() {
    let env = TestEnv::with_repository();
    Maker::full(&env).nights(&env, "mail", 0..3);
    forget(&env, &["--keep-daily", "0"]).expect(2);
    forget(&env, &["--keep-within", "soon"]).expect(2).naming("no length of time");
    forget(&env, &["--group-by", "hosts", "--keep-last", "1"]).expect(2).naming("none of host, job, tags");
    forget(&env, &["--force"]).expect(2);
    forget(&env, &["--hold-down", "0"]).expect(1).naming("no rule says what to keep");
    forget(&env, &["latest", "--keep-last", "1"]).expect(2).naming("one or the other");
    forget(&env, &["abcd0123abcd0123"]).expect(1).naming("no snapshot");
    forget(&env, &["--keep-last", "1", "--host", "nobody"]).expect(0);
    assert_eq!(ids(&env, &[]).len(), 3);
}

#[test]
fn clocks_in_2099_or_1970_change_nothing() {
    let env = TestEnv::with_repository();
    let maker = Maker::full(&env);
    let made = maker.nights(&env, "mail", 0..10);
    let rule = ["--keep-daily", "3", "--keep-within", "5d", "-n", "--json"];
    let kept = || {
        let mut kept = listed(&forget(&env, &rule).expect(0).json(), "keep");
        kept.sort();
        kept
    };
    let mut expected = made[5..].to_vec();
    expected.sort();
    assert_eq!(kept(), expected);
    // The store's clock, as one snapshot came: in the middle, or last of all.
    for wrong in [YEAR_2099_S, 0] {
        for place in [2, 9] {
            receive(&env, &made[place], wrong);
            let kept = kept();
            // The age of the newest may not be known: then it is taken for a day less, and one more is young.
            let known = kept.iter().filter(|id| **id != made[4]);
            assert!(known.eq(&expected) && (place == 9 || kept == expected), "{wrong} at {place}");
            receive(&env, &made[place], at_day(place as i64));
        }
    }
    // The host's clock.
    for wrong in [YEAR_2099_S, 0] {
        let id = maker.make("mail", wrong, false);
        receive(&env, &id, at_day(10));
        assert!(kept().contains(&id) && kept().contains(&made[9]) && !kept().contains(&made[4]));
        receive(&env, &id, at_day(9) + 60);
        forget(&env, &[&id]).expect(0);
    }
    assert_eq!(kept(), expected);
}

#[test]
fn a_copied_repository_is_not_thinned_by_the_day_of_its_copy() {
    let env = TestEnv::with_repository();
    let made = Maker::full(&env).nights(&env, "mail", 0..12);
    made.iter().enumerate().for_each(|(at, id)| receive(&env, id, at_day(40) + at as i64));
    let refused = forget(&env, &["--keep-daily", "5", "--hold-down", "0"]).expect(1);
    refused.naming("host mx, job mail").naming("within an hour").naming("--trust-host-clocks");
    assert_eq!(ids(&env, &[]).len(), 12);
    forget(&env, &["--keep-daily", "5", "--trust-host-clocks"]).expect(0);
    assert_eq!(ids(&env, &[]), made[7..]);
}

#[test]
fn one_group_that_cannot_be_judged_does_not_stop_the_others() {
    let env = TestEnv::with_repository();
    let maker = Maker::full(&env);
    let copied = maker.nights(&env, "copied", 0..6);
    copied.iter().for_each(|id| receive(&env, id, at_day(40)));
    maker.nights(&env, "mail", 41..51);
    forget(&env, &["--keep-daily", "5"]).expect(3).naming("job copied");
    assert_eq!([ids(&env, &["--job", "copied"]).len(), ids(&env, &["--job", "mail"]).len()], [6, 5]);
}

#[test]
fn a_taken_over_writer_cannot_push_out_the_good_days() {
    let env = TestEnv::with_repository();
    let mx1 = lone_host(&env, "mx1");
    let maker = Maker::writer(&env, &mx1.key_file);
    let good = maker.nights(&env, "mail", 0..10);
    // In one night 300 snapshots, dated as it pleases, and many of them empty.
    for number in 0..300_i64 {
        let claimed = match number % 4 {
            0 => 0,
            1 => YEAR_2099_S,
            2 => at_day(number * 7_919 % 40),
            _ => at_day(10),
        };
        let id = maker.make("mail", claimed, number % 3 == 0);
        receive(&env, &id, at_day(10) + number * 90);
    }
    let refused = ["forget", "--keep-last", "1", "--key-file", mx1.key_file.to_str().unwrap()];
    env.mailark(refused).expect(12).naming("full key");
    forget(&env, &["--keep-daily", "7"]).expect(0);
    let left = ids(&env, &[]);
    assert_eq!(left.len(), 306, "the flood is too young, the six days before stay");
    assert!(good[4..].iter().all(|id| left.contains(id)));
    assert!(!good[..4].iter().any(|id| left.contains(id)));
    // Nights later one of the flood is left.
    maker.nights(&env, "mail", 13..14);
    forget(&env, &["--keep-daily", "7"]).expect(0);
    let left = ids(&env, &[]);
    assert_eq!(left.len(), 7);
    assert!(good[5..].iter().all(|id| left.contains(id)));
}

#[test]
fn named_snapshots_go_but_not_the_last_good_one() {
    let env = TestEnv::with_repository();
    let maker = Maker::full(&env);
    let made = maker.nights(&env, "mail", 0..3);
    let suspect = maker.make("mail", at_day(3), true);
    receive(&env, &suspect, at_day(3));
    let report = forget(&env, &[&made[0][..12], "--json"]).expect(0).json();
    assert_eq!(listed(&report, "forget"), [made[0].clone()]);
    forget(&env, &[&made[1], &made[2]]).expect(1).naming("no good snapshot of host mx, job mail");
    assert_eq!(ids(&env, &[]).len(), 3);
    forget(&env, &[&made[1], &made[2], "--force", "--dry-run"]).expect(0);
    assert_eq!(ids(&env, &[]).len(), 3);
    forget(&env, &[&made[1], &made[2], "--force"]).expect(0);
    assert_eq!(ids(&env, &[]), std::slice::from_ref(&suspect));
    forget(&env, &[&suspect]).expect(1).naming("--force");
}

#[test]
fn held_snapshots_stay_until_the_hold_is_removed() {
    let env = TestEnv::with_repository();
    let made = Maker::full(&env).nights(&env, "mail", 0..6);
    let add = |args: &[&str]| env.mailark(["hold", "add", "--json"].iter().chain(args));
    add(&["--reason", "x"]).expect(1).naming("needs a snapshot or a user");
    add(&["--snapshot", &made[0]]).expect(2);
    add(&["--snapshot", &made[0], "--reason", " "]).expect(1).naming("the reason");
    add(&["--user", "a/b", "--reason", "x"]).expect(1).naming("the name of a user");
    let first = add(&["--snapshot", &made[0][..8], "--snapshot", &made[2], "--reason", "case 17"]);
    assert_eq!(first.expect(0).json()["hold"], 1);
    assert_eq!(add(&["--snapshot", &made[0], "--reason", "again"]).expect(0).json()["hold"], 2);
    let shown = env.mailark(["hold", "list"]).expect(0).stdout;
    assert!(shown.contains("case 17") && shown.contains(&made[2][..8]), "{shown}");

    forget(&env, &[&made[2], "--force"]).expect(1).naming("hold 1");
    let report = forget(&env, &["--keep-last", "1", "--hold-down", "0", "--json"]).expect(0).json();
    assert!(listed(&report, "keep").iter().all(|id| [&made[0], &made[2], &made[5]].contains(&id)));
    assert_eq!(ids(&env, &[]).len(), 3);
    env.mailark(["hold", "remove", "1"]).expect(0);
    env.mailark(["hold", "remove", "1"]).expect(1).naming("no hold 1");
    forget(&env, &["--keep-last", "1", "--hold-down", "0"]).expect(0);
    assert_eq!(ids(&env, &[]), [made[0].clone(), made[5].clone()], "hold 2 stands");
    env.mailark(["hold", "remove", "2"]).expect(0);
    assert_eq!(env.mailark(["hold", "list", "--json"]).expect(0).json(), Value::Array(Vec::new()));
    assert_eq!(
        add(&["--snapshot", &made[0], "--reason", "x"]).expect(0).json()["hold"],
        3,
        "never one twice"
    );
}

#[test]
fn a_held_users_mail_stays() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("example.org/bob", 0..40);
    tree.maildir("example.org/a/Alice", 50..53);
    tree.maildir("example.com/alice", 60..62);
    let mut made = Vec::new();
    for day in 0..6 {
        if day == 3 {
            fs::remove_dir_all(tree.path("example.org/a")).unwrap();
        }
        tree.file(format!("example.org/bob/cur/9{day}.M1.mx:2,"), format!("Subject: {day}\n\n"));
        let id = env.backup(&tree.root)["snapshot"].as_str().unwrap().to_owned();
        receive(&env, &id, at_day(day));
        made.push(id);
    }
    let hold = ["hold", "add", "--user", "alice@example.org", "--reason", "court order"];
    env.mailark(hold).expect(0);
    let rule = ["--keep-last", "1", "--hold-down", "0", "--json"];
    let report = forget(&env, &[&rule[..], &["-n"]].concat()).expect(0).json();
    assert_eq!(listed(&report, "forget"), [made[4].clone(), made[3].clone()]);
    assert_eq!(report["groups"][0]["keep"][3]["reasons"][0], "hold 1");
    forget(&env, &[&made[1]]).expect(1).naming("hold 1");
    // What cannot be read may hold the user's mail: without its packs every snapshot stays.
    let packs = env.path("packs-away");
    fs::rename(env.repository.join("packs"), &packs).unwrap();
    fs::create_dir(env.repository.join("packs")).unwrap();
    let report = forget(&env, &[&rule[..], &["-n", "--no-cache"]].concat()).expect(0).json();
    assert!(listed(&report, "forget").is_empty());
    fs::remove_dir(env.repository.join("packs")).unwrap();
    fs::rename(&packs, env.repository.join("packs")).unwrap();

    forget(&env, &rule).expect(0);
    assert_eq!(ids(&env, &[]), [made[0].clone(), made[1].clone(), made[2].clone(), made[5].clone()]);
    env.mailark(["hold", "remove", "1"]).expect(0);
    forget(&env, &rule).expect(0);
    assert_eq!(ids(&env, &[]), [made[5].clone()]);
}

#[test]
fn a_forgotten_newest_snapshot_is_no_loss_to_those_who_can_tell() {
    let env = TestEnv::with_repository();
    let mx1 = lone_host(&env, "mx1");
    let key = mx1.key_file.to_str().unwrap();
    let made = Maker::writer(&env, &mx1.key_file).nights(&env, "mail", 0..3);
    let as_writer = |args: &[&str]| {
        let mut command = env.command(args.iter().copied().chain(["--key-file", key]));
        crate::support::run(command.env("XDG_STATE_HOME", env.path("state-of-mx1")))
    };
    as_writer(&["snapshots"]).expect(0);
    assert_eq!(ids(&env, &[]), made);
    forget(&env, &[&made[2]]).expect(0);
    assert_eq!(env.mailark(["snapshots"]).expect(0).stderr, "");
    as_writer(&["snapshots"]).expect(0);
    // As prune does in its time.
    fs::remove_file(object_of(&env, &made[2])).unwrap();
    assert_eq!(env.mailark(["snapshots"]).expect(0).stderr, "", "a record explains it");
    as_writer(&["snapshots"]).expect(1).naming("or it was forgotten: a full key can tell");
    for args in [&["forget", "--keep-last", "1"][..], &["hold", "list"], &["hold", "remove", "1"]] {
        as_writer(args).expect(12).naming("full key");
    }
    as_writer(&["hold", "add", "--user", "a", "--reason", "x"]).expect(12);
    // What no record explains is a loss.
    fs::remove_file(object_of(&env, &made[1])).unwrap();
    env.mailark(["snapshots"]).expect(1).naming("rolled back");
}

#[test]
fn what_was_forgotten_is_pruned_and_no_loss() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    let mut made = Vec::new();
    for day in 0..4 {
        tree.maildir("alice", day * 5..day * 5 + 5);
        let id = env.backup(&tree.root)["snapshot"].as_str().unwrap().to_owned();
        receive(&env, &id, at_day(day as i64));
        made.push(id);
    }
    env.mailark(["hold", "add", "--snapshot", &made[0], "--reason", "x"]).expect(0);
    forget(&env, &["--keep-last", "1"]).expect(0);
    // The newest by name: what remembers it must not take it for a loss.
    forget(&env, &[&made[3]]).expect(0);
    env.mailark(["prune", "--now"]).expect(0);
    assert_eq!(files_below(&env.repository.join("snapshots")).len(), 1);
    assert_eq!(ids(&env, &["--all"]), [made[0].clone()]);
    let looked = env.mailark(["snapshots"]).expect(0);
    assert_eq!(looked.stderr, "");
    env.check();
    env.restore(&made[0], "back");
}

#[test]
fn nothing_is_forgotten_beside_a_record_that_is_not_understood() {
    let env = TestEnv::with_repository();
    let maker = Maker::full(&env);
    let made = maker.nights(&env, "mail", 0..4);
    let repository = &maker.repository;
    let object = NewObject {
        object_type: ObjectType::Record,
        epoch: repository.keys.epoch(),
        host: HostId::default(),
        domain: DomainId::default(),
        sequence: 900,
        clear: codec::encode(&RecordHead { record_type: 77, private: false, at: 0 }),
        secret: b"of a later version".to_vec(),
    };
    let key = repository.keys.shared_record_key();
    let signer = Signer::Repository(repository.need_full("").unwrap());
    let place = object.write(repository.store.as_ref(), &repository.id(), Some(&key), signer).unwrap();
    let path = env.repository.join(place.to_string());
    forget(&env, &["--keep-last", "1"]).expect(1).naming("a newer version wrote this record");
    forget(&env, &[&made[0]]).expect(1).naming(&place.to_string());
    env.mailark(["hold", "list"]).expect(1).naming("it may be a hold");
    fs::write(&path, b"rubbish").unwrap();
    forget(&env, &["--keep-last", "1"]).expect(1).naming(&place.to_string());
    fs::remove_file(&path).unwrap();
    assert_eq!(ids(&env, &[]).len(), 4);
    forget(&env, &["--keep-last", "1"]).expect(0);
    assert_eq!(ids(&env, &[]), made[3..]);
}
