//! Killed at any moment: nothing that was there suffers, and the next run goes on.

use crate::support::{Progress, TestEnv, dice, is_root, killed_after, noise};
use crate::tree::{Ignore, TreeFixture, assert_same, mail, mail_with_attachment, message_name};

const KILLS: u64 = 8;

/// `MAILARK_TEST_SEED`, or another one each time.
fn seed() -> u64 {
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = std::env::var("MAILARK_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now);
    println!("MAILARK_TEST_SEED={seed}");
    seed
}

fn grow(tree: &TreeFixture, seed: u64, round: u64) {
    for number in round * 400..(round + 1) * 400 {
        tree.file(format!("user{}/cur/{}", number % 7, message_name(number, "S")), mail(number));
    }
    for number in 0..4 {
        let number = seed ^ (round * 10 + number);
        tree.file(format!("files/{number}"), noise(number, 1 << 20));
        let letter = mail_with_attachment(number, 200_000);
        tree.file(format!("letters/cur/{}", message_name(number % 1_000_000, "")), letter);
    }
}

#[test]
fn killed_backups_harm_nothing() {
    let seed = seed();
    let env = TestEnv::with_repository();
    let first = TreeFixture::new(env.path("first"));
    first.maildir("alice", 0..30);
    env.mailark(["backup", "--job", "first", "--as", "/data", "first"]).expect(0);
    let tree = TreeFixture::new(env.path("vmail"));
    let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
    let args = ["backup", "--job", "data", "--as", "/data", "vmail"];
    grow(&tree, seed, 0);
    let progress = Progress::of(&env.repository);
    env.mailark(args).expect(0);
    let all = progress.steps();
    let (mut killed, mut round) = (0, 0);
    while killed < KILLS {
        round += 1;
        assert!(round < 10 * KILLS, "only {killed} of {round} were killed before they had ended");
        grow(&tree, seed, round);
        let progress = Progress::of(&env.repository);
        killed += u64::from(killed_after(dice(seed + round, all), &progress, env.start(args)));
        env.check();
        env.mailark(["restore", "latest", "--job", "first", "--to", &format!("first-{round}")]).expect(0);
        assert_same(&first.root, &env.path(&format!("first-{round}/data")), ignore);
        if dice(seed ^ round, 2) == 0 {
            // The next run goes on from what the killed ones left.
            env.mailark(args).expect(0);
            let to = format!("restored-{round}");
            env.mailark(["restore", "latest", "--job", "data", "--to", &to]).expect(0);
            assert_same(&tree.root, &env.path(&to).join("data"), ignore);
        }
    }
    env.mailark(args).expect(0);
    env.mailark(["restore", "latest", "--job", "data", "--to", "last"]).expect(0);
    assert_same(&tree.root, &env.path("last/data"), ignore);
    env.check();
}

#[test]
fn a_killed_first_run_and_a_killed_init() {
    let seed = seed();
    // The first one shows how far a whole run goes.
    let mut all = u64::MAX;
    for round in 0..7 {
        let env = TestEnv::new();
        let tree = TreeFixture::new(env.path("vmail"));
        grow(&tree, seed, round);
        let args = ["backup", "--init", "--job", "data", "--as", "/data", "vmail"];
        let progress = Progress::of(&env.repository);
        killed_after(dice(seed + round, all).max(round / 6 * all), &progress, env.start(args));
        all = all.min(progress.steps());
        let again = env.mailark(args);
        if again.code != 0 {
            // Killed inside `init`: there is no repository yet, and what is there is named.
            assert!(!env.repository.join("config").exists(), "{}", again.both());
            let named = again.expect(1);
            assert!(named.stderr.contains("not empty"), "{}", named.both());
            continue;
        }
        env.check();
        let restored = env.restore("latest", "restored");
        assert_same(&tree.root, &restored, Ignore { owners: !is_root(), ..Ignore::default() });
    }
}
