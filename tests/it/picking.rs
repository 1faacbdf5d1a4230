//! Mail of one user out of snapshots: by folder, message and date, in every form; and lost mailboxes that come back.

mod dates;
mod forms;
mod mailbox;
mod rebuilt;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::{Output, TestEnv, settle};

/// 2026-03-01T00:00:00Z.
pub const MARCH: i64 = 1_772_323_200;
pub const DAY: i64 = 86_400;

/// A message with an id, a `Date:` of so many days after the first of March 2026, and some text.
pub fn message(id: &str, sent_day: i64) -> Vec<u8> {
    let sent = jiff::Timestamp::from_second(MARCH + sent_day * DAY + 3600).unwrap();
    let date =
        sent.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
    format!(
        "Return-Path: <bob@example.net>\nFrom: Bob <bob@example.net>\nTo: alice@example.org\nDate: {date}\n\
         Message-ID: <{id}@example.net>\nSubject: About {id}\n\nHello,\nthis is {id}.\n"
    )
    .into_bytes()
}

/// The base name of such a message that arrived so many days after the first of March.
pub fn base(id: &str, day: i64) -> String {
    format!("{}.M1P1.mx-{id},S={}", MARCH + day * DAY, message(id, day).len())
}

/// Puts a file into a Maildir, with a time of its own.
pub fn put(folder: &Path, part: &str, name: &str, bytes: &[u8], mtime: i64) -> PathBuf {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    let path = folder.join(part).join(name);
    fs::write(&path, bytes).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(mtime.try_into().unwrap());
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    path
}

/// Puts a message that arrived on a day into `cur` with flags; gives its base name.
pub fn arrive(folder: &Path, id: &str, day: i64, flags: &str) -> String {
    let base = base(id, day);
    put(folder, "cur", &format!("{base}:2,{flags}"), &message(id, day), MARCH + day * DAY);
    base
}

/// Every message file below a folder: its path from there, sorted.
pub fn mail_below(folder: &Path) -> Vec<String> {
    let is_mail =
        |path: &PathBuf| path.parent().is_some_and(|above| above.ends_with("cur") || above.ends_with("new"));
    let all = crate::support::files_below(folder).into_iter().filter(is_mail);
    all.map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect()
}

/// Backs `source` up as the mail of all users.
pub fn back_up(env: &TestEnv, source: &Path) -> String {
    settle();
    let mut command =
        env.command(["backup", "--json", "--job", "mail", "--as", "/var/vmail", "--accept-loss"]);
    let report = crate::support::run(command.arg(source)).expect(0).json();
    report["snapshot"].as_str().unwrap().to_owned()
}

/// `mailark restore --user alice@example.org --to <to> ...`.
pub fn give(env: &TestEnv, to: &str, more: &[&str]) -> Output {
    let mut command = env.command(["restore", "--user", "alice@example.org", "--to"]);
    crate::support::run(command.arg(env.path(to)).args(more))
}

/// Alice's Maildir, and Bob's beside it, below a new folder.
pub fn post(env: &TestEnv) -> (PathBuf, PathBuf) {
    let vmail = env.folder("vmail");
    let alice = vmail.join("example.org/alice/Maildir");
    arrive(&vmail.join("example.org/bob/Maildir"), "bobs", 3, "S");
    (vmail, alice)
}
