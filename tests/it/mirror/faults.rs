//! Every call of both places fails once: the mirror's snapshots stay whole, and the next run goes on.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mailark::base::interrupt::Interrupt;
use mailark::base::progress::Quiet;
use mailark::crypto::slot::Secret;
use mailark::ops::mirror::{self, MirrorError, Report};
use mailark::repo::Repository;
use mailark::store::fault::{Fault, FaultSwitch, FaultyStore, Plan};
use mailark::store::{LocalStore, Storage};

use super::{Objects, objects};
use crate::support::{TestEnv, copy_folder};
use crate::tree::TreeFixture;

fn faulty(root: &Path, switch: &Arc<FaultSwitch>) -> Arc<dyn Storage> {
    Arc::new(FaultyStore::new(Arc::new(LocalStore::new(root)), Arc::clone(switch)))
}

/// Mirrors the environment's repository into `to`, with a store before each that may fail.
fn run(
    env: &TestEnv,
    to: &Path,
    plans: [(&Arc<FaultSwitch>, Option<Plan>); 2],
) -> Result<Report, MirrorError> {
    let secret = Secret::KeyFile(fs::read(&env.key_file).unwrap());
    let [(source_switch, source_plan), (target_switch, target_plan)] = plans;
    let repository = Repository::open(faulty(&env.repository, source_switch), &secret).unwrap();
    let target = faulty(to, target_switch);
    let options = mirror::Options { delete_after_s: 0, reread: false, dry_run: false, workers: 1 };
    source_plan.into_iter().for_each(|plan| source_switch.arm(plan));
    target_plan.into_iter().for_each(|plan| target_switch.arm(plan));
    let source = mirror::Source::with_key(&repository);
    mirror::run(&source, &target, &options, &Quiet::default(), &Interrupt::default())
}

/// What snapshots there are have all they need, and nothing has wrong bytes.
fn assert_whole(mirror: &Path, before: &Objects, own: &Objects, what: &str) {
    let held = objects(mirror);
    for (name, bytes) in &held {
        assert!(own.get(name) == Some(bytes), "{what}: {name} is not the repository's");
    }
    if held.keys().any(|name| name.starts_with("snapshots/") && !before.contains_key(name)) {
        let needed = |name: &&String| name.starts_with("packs/") || name.starts_with("index/");
        let missing: Vec<&String> =
            own.keys().filter(needed).filter(|name| !held.contains_key(*name)).collect();
        assert!(missing.is_empty(), "{what}: snapshots without {missing:?}");
    }
}

#[test]
fn every_call_fails_once_and_the_mirror_stays_whole() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..10);
    env.backup(&tree.root);
    let begun = env.path("begun");
    env.mailark(["mirror", "--init", begun.to_str().unwrap()]).expect(0);
    tree.maildir("bob", 20..30);
    env.backup(&tree.root);
    let mut own = objects(&env.repository);
    own.remove("RECOVERY.txt");
    fs::remove_file(begun.join("RECOVERY.txt")).unwrap();
    let before = objects(&begun);
    let quiet = Arc::new(FaultSwitch::default());
    let mut struck = 0;
    for fault in [Fault::Error, Fault::Short, Fault::Full, Fault::LostAcknowledgement] {
        for at_source in [true, false] {
            for round in 0.. {
                let what = format!(
                    "{fault:?} at call {round} of the {}",
                    if at_source { "source" } else { "mirror" }
                );
                let to = env.path("mirror");
                copy_folder(&begun, &to);
                let switch = Arc::new(FaultSwitch::default());
                let plan = Plan { fault, method: None, spared: round, lasting: false };
                let outcome = match at_source {
                    true => run(&env, &to, [(&switch, Some(plan)), (&quiet, None)]),
                    false => run(&env, &to, [(&quiet, None), (&switch, Some(plan))]),
                };
                let befell = switch.disarm();
                assert_whole(&to, &before, &own, &what);
                if befell.is_none() {
                    assert!(outcome.unwrap().is_whole(), "{what}: nothing failed");
                }
                let report = run(&env, &to, [(&quiet, None), (&quiet, None)]).unwrap();
                assert!(report.is_whole(), "{what}: {report:?}");
                assert!(objects(&to) == own, "{what}: not all came in the end");
                let store = LocalStore::new(&to);
                let seen = mirror::verify(&store, 1, &Quiet::default(), &Interrupt::default()).unwrap();
                assert_eq!(seen.findings, [], "{what}");
                fs::remove_dir_all(&to).unwrap();
                if befell.is_none() {
                    break;
                }
                struck += 1;
            }
        }
    }
    println!("{struck} calls failed");
    assert!(struck > 80, "only {struck}");
}
