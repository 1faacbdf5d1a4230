//! Streams and mailboxes that mean harm, and disks that do not want.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mailark::format::letters::Head;

use super::site::{letter, message, stream, stream_with};
use crate::support::{Output, SmallDisk, TestEnv, copy_program, files_below, is_root, run, skipped, tool};

pub fn maildir(path: &Path) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(path.join(part)).unwrap();
    }
}

pub fn apply(env: &TestEnv, mail: &Path, bytes: &[u8], more: &[&str]) -> Output {
    let input = env.path("stream");
    fs::write(&input, bytes).unwrap();
    let mut command = env.command(["apply", "--json", "--mailbox"]);
    run(command.arg(mail).args(more).stdin(fs::File::open(input).unwrap()))
}

pub fn messages(mail: &Path) -> Vec<PathBuf> {
    let all = files_below(mail).into_iter();
    all.filter(|path| path.parent().is_some_and(|part| part.ends_with("cur") || part.ends_with("new")))
        .collect()
}

#[test]
fn a_stream_that_ends_early_brings_whole_letters_alone() {
    let letters: Vec<_> =
        (1..=3).map(|number| letter("INBOX", &format!("17.M{number}P1.mx"), &message(number))).collect();
    let whole = stream(&letters);
    // Every length around the frames, and some in between.
    for length in (0..whole.len()).step_by(13).chain(whole.len() - 3..whole.len()) {
        let env = TestEnv::new();
        let mail = env.path("mail");
        maildir(&mail);
        let output = apply(&env, &mail, &whole[..length], &["--into", "original"]).expect(3);
        assert!(output.stderr.contains("end in the middle"), "{length}: {}", output.both());
        for path in messages(&mail) {
            let bytes = fs::read(&path).unwrap();
            assert!(letters.iter().any(|(_, letter)| *letter == bytes), "{length}: {}", path.display());
        }
        assert_eq!(files_below(&mail.join("tmp")), Vec::<PathBuf>::new());
        apply(&env, &mail, &whole, &["--into", "original"]).expect(0);
        assert_eq!(messages(&mail).len(), 3, "{length}");
    }
}

#[test]
fn what_is_no_stream_is_refused() {
    let env = TestEnv::new();
    let mail = env.path("mail");
    maildir(&mail);
    let whole = stream(&[letter("INBOX", "17.M1P1.mx", &message(1))]);
    let mut other_version = whole.clone();
    other_version[15] = 2;
    let mut changed = whole.clone();
    let at = changed.windows(5).position(|five| five == b"words").unwrap();
    changed[at] = b'W';
    for (bytes, code, text) in [
        (&b"From: somebody\n\nhello, I am a message"[..], 1, "no stream of letters"),
        (&other_version, 1, "version 2"),
        (&changed, 1, "not those that were sent"),
        (&[&whole[..], b"x"].concat(), 1, "something follows"),
    ] {
        apply(&env, &mail, bytes, &["--into", "original"]).expect(code).naming(text);
        if text != "something follows" {
            assert_eq!(messages(&mail), Vec::<PathBuf>::new(), "{text}");
        }
    }
    let head = Head { title: String::new(), several_folders: false, without_bytes: true };
    let bytes = stream_with(&head, &[]);
    apply(&env, &mail, &bytes, &[]).expect(1).naming("without their text");
    apply(&env, &env.folder("nothing"), &whole, &[]).expect(1).naming("is no Maildir");
    run(env.command(["apply"]).stdin(fs::File::open(env.path("stream")).unwrap()))
        .expect(1)
        .naming("--mailbox");
}

#[test]
fn no_letter_leaves_the_mailbox() {
    let env = TestEnv::new();
    for layout in ["maildir++", "fs"] {
        let mail = env.path(layout);
        maildir(&mail);
        let outside = files_below(&env.path(""));
        let folders = [
            "../../away",
            "a/../../b",
            "/etc",
            "",
            ".",
            "..",
            "x\ny",
            "a//b",
            "cur",
            "INBOX/../..",
            "n\0l",
            &"x".repeat(300),
        ];
        let letters: Vec<_> = folders
            .iter()
            .enumerate()
            .map(|(number, folder)| letter(folder, &format!("17.M{number}P1.mx"), &message(number as u32)))
            .collect();
        let output =
            apply(&env, &mail, &stream(&letters), &["--into", "original", "--layout", layout]).expect(3);
        let report = output.json()["deliveries"][0].take();
        // In Maildir++ `cur` is `.cur`, a folder as good as any.
        let (brought, refused) = if layout == "fs" { (0, 12) } else { (1, 11) };
        assert_eq!(
            (report["brought"].as_u64(), report["problem_count"].as_u64()),
            (Some(brought), Some(refused))
        );
        let now = files_below(&env.path(""));
        let new = now.iter().filter(|path| !outside.contains(path));
        let strange: Vec<_> = new
            .filter(|path| !path.starts_with(&mail) && !path.starts_with(env.path("home/state")))
            .collect();
        assert_eq!(strange, [&env.path("stream")][..strange.len()], "{layout}");
    }
}

#[test]
fn names_that_no_message_can_have_are_made_anew() {
    let env = TestEnv::new();
    let mail = env.path("mail");
    maildir(&mail);
    let long = format!("17.M1P1.{}", "x".repeat(240));
    let names =
        ["17.M1\nP2.mx", "../17.M1P1.mx", ".hidden", "a/b", "17.M1P1.mx:2,S", " 17", &long, "17\x1b[2J"];
    let letters: Vec<_> =
        names.iter().enumerate().map(|(n, name)| letter("INBOX", name, &message(n as u32 + 1))).collect();
    for _ in 0..2 {
        apply(&env, &mail, &stream(&letters), &["--into", "original"]).expect(0);
        let found = messages(&mail);
        assert_eq!(found.len(), names.len());
        for path in found {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(
                name.contains(".mailark,S=") && name.bytes().all(|byte| byte.is_ascii_graphic()),
                "{name}"
            );
        }
    }
}

#[test]
fn links_are_not_followed() {
    let env = TestEnv::new();
    let (mail, away) = (env.path("mail"), env.path("away"));
    maildir(&away);
    fs::write(away.join("cur/1.M1P1.mx:2,S"), "secret").unwrap();
    let one = stream(&[letter("Work", "17.M1P1.mx", &message(1))]);
    // The inbox's own folders.
    for part in ["cur", "new", "tmp"] {
        maildir(&mail);
        fs::remove_dir(mail.join(part)).unwrap();
        symlink(away.join(part), mail.join(part)).unwrap();
        apply(&env, &mail, &one, &["--into", "original"]).expect(1).naming("is no Maildir");
        fs::remove_dir_all(&mail).unwrap();
    }
    // A folder, and a folder's part.
    maildir(&mail);
    symlink(&away, mail.join(".Work")).unwrap();
    apply(&env, &mail, &one, &["--into", "original"]).expect(3);
    fs::remove_dir_all(&mail).unwrap();
    maildir(&mail);
    maildir(&mail.join(".Work"));
    fs::remove_dir(mail.join(".Work/new")).unwrap();
    symlink(away.join("new"), mail.join(".Work/new")).unwrap();
    let mut unseen = letter("Work", "17.M1P1.mx", &message(1));
    (unseen.0.unseen_by_any, unseen.0.flags) = (true, Vec::new());
    apply(&env, &mail, &stream(&[unseen]), &["--into", "original"]).expect(3);
    fs::remove_dir_all(&mail).unwrap();
    // Files that are read and changed: rights, keywords, subscriptions.
    maildir(&mail);
    for name in ["dovecot-acl", "dovecot-keywords", "subscriptions"] {
        fs::write(away.join(name), format!("secret {name}\n")).unwrap();
        symlink(away.join(name), mail.join(name)).unwrap();
    }
    apply(&env, &mail, &stream(&[letter("INBOX", "17.M1P1.mx", &message(1))]), &[]).expect(3);
    assert!(files_below(&mail).iter().all(|path| {
        path.is_symlink() || !fs::read_to_string(path).unwrap_or_default().contains("secret")
    }));
    for name in ["dovecot-acl", "dovecot-keywords", "subscriptions"] {
        assert_eq!(fs::read_to_string(away.join(name)).unwrap(), format!("secret {name}\n"));
    }
    assert_eq!(messages(&away), [away.join("cur/1.M1P1.mx:2,S")]);
}

#[test]
fn a_full_disk_ends_a_delivery_that_then_goes_on() {
    let env = TestEnv::new();
    let Some(disk) = SmallDisk::mount(env.path("disk"), "600k") else {
        return skipped("a delivery onto a full disk", "cannot mount");
    };
    let mail = disk.0.join("mail");
    maildir(&mail);
    let text = "x".repeat(9_999) + "\n";
    let letters: Vec<_> = (0..100)
        .map(|number| letter("INBOX", &format!("17.M{number}P1.mx"), &format!("N: {number}\n\n{text}")))
        .collect();
    let bytes = stream(&letters);
    apply(&env, &mail, &bytes, &["--into", "original"]).expect(1).naming("make room");
    let whole = |path: &PathBuf| letters.iter().any(|(_, letter)| *letter == fs::read(path).unwrap());
    assert!(messages(&mail).iter().all(whole));
    assert_eq!(files_below(&mail.join("tmp")), Vec::<PathBuf>::new());
    assert!(tool("mount", ["-o".as_ref(), "remount,size=9m".as_ref(), disk.0.as_os_str()]));
    let report = apply(&env, &mail, &bytes, &["--into", "original"]).expect(0).json();
    assert_eq!(report["deliveries"][0]["resumed"], true);
    assert_eq!(messages(&mail).len(), 100);
    assert!(messages(&mail).iter().all(whole));
}

#[test]
fn who_may_not_write_there_changes_nothing() {
    if !is_root() {
        return skipped("a delivery without permission", "only root can become somebody else");
    }
    let env = TestEnv::new();
    let (mail, program, home) = (env.path("mail"), env.path("mailark"), env.folder("nobody"));
    maildir(&mail);
    copy_program(&program);
    std::os::unix::fs::chown(&home, Some(65_534), Some(65_534)).unwrap();
    let bytes = stream(&[letter("INBOX", "17.M1P1.mx", &message(1))]);
    fs::write(env.path("stream"), bytes).unwrap();
    for into in ["original", "restored"] {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.args(["apply", "--into", into, "--mailbox"]).arg(&mail);
        env.surround(&mut command).env("XDG_STATE_HOME", &home);
        let output = run(command.stdin(fs::File::open(env.path("stream")).unwrap())).expect(1);
        assert!(output.stderr.contains("Permission denied"), "{}", output.both());
        assert_eq!(files_below(&mail), Vec::<PathBuf>::new());
    }
}
