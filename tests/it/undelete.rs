//! Undelete and show: what is gone comes back into the live mailbox, once, and only when somebody agrees.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{TestEnv, files_below, settle};

struct Office {
    env: TestEnv,
    mailbox: PathBuf,
}

fn message(number: u32, more: &str) -> String {
    format!(
        "From: Boss <boss@supplier.com>\nTo: anna@example.org\nMessage-ID: <{number}@supplier.com>\n\
         Date: Mon, 12 Jan 2026 10:00:00 +0100\nSubject: Contract {number}\n{more}\nText of {number}.\n"
    )
}

impl Office {
    /// Two messages in the inbox, one in the archive, one in an mbox; all backed up, then all deleted but one.
    fn after_the_accident() -> Office {
        let env = TestEnv::with_repository();
        let mailbox = env.folder("vmail/example.org/anna/Maildir");
        let office = Office { env, mailbox };
        for folder in ["", ".Archive"] {
            for name in ["cur", "new", "tmp"] {
                fs::create_dir_all(office.mailbox.join(folder).join(name)).unwrap();
            }
        }
        let attached = "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nSee attached.\n--b\n\
                        Content-Type: application/pdf; name=\"../offer.pdf\"\nContent-Disposition: attachment\n\n%PDF-1.4\n--b--\n";
        office.put("cur/1700000001.M1.mx,S=5:2,FS", &message(1, attached));
        office.put("new/1700000002.M2.mx", &message(2, ""));
        office.put(".Archive/cur/1700000003.M3.mx:2,RSa", &message(3, ""));
        office.put(".Archive/dovecot-keywords", "0 urgent\n");
        office.backup();
        fs::remove_file(office.mailbox.join("cur/1700000001.M1.mx,S=5:2,FS")).unwrap();
        fs::remove_dir_all(office.mailbox.join(".Archive")).unwrap();
        office.backup();
        office
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.mailbox.join(name);
        fs::write(&path, text).unwrap();
        let time = fs::FileTimes::new()
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_768_208_400));
        fs::File::options().write(true).open(&path).unwrap().set_times(time).unwrap();
    }

    fn backup(&self) {
        settle();
        self.env
            .mailark(["backup", "--accept-loss", "--job", "mail", self.env.path("vmail").to_str().unwrap()])
            .expect(0);
    }

    fn files(&self) -> Vec<PathBuf> {
        files_below(&self.mailbox)
    }

    #[track_caller]
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.mailbox.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}: {:?}", self.files()))
    }
}

fn restored(mailbox: &Path) -> Vec<PathBuf> {
    let is_restored = |path: &PathBuf| path.to_string_lossy().contains("Restored");
    files_below(mailbox)
        .into_iter()
        .filter(is_restored)
        .filter(|path| path.to_string_lossy().contains(".mx"))
        .collect()
}

#[test]
fn deleted_messages_come_back_as_they_were() {
    let office = Office::after_the_accident();
    let before = office.files();
    let env = &office.env;
    // Nobody is asked, so nothing is done.
    env.mailark(["undelete", "--user", "anna"]).expect(1).naming("there is nobody to ask");
    let told =
        env.mailark(["undelete", "--user", "anna", "--dry-run", "--deleted-since", "1d", "-v"]).expect(0);
    assert!(told.stdout.contains("would bring"), "{}", told.both());
    assert_eq!(office.files(), before);
    env.mailark(["undelete", "--user", "anna", "--deleted-since", "2025", "--yes"])
        .expect(1)
        .naming("nothing that was deleted fits");
    let report = env.mailark(["undelete", "--user", "anna", "--yes", "--json"]).expect(0).json();
    assert_eq!(report["deliveries"][0]["brought"], 2, "{report}");
    let brought = restored(&office.mailbox);
    assert_eq!(brought.len(), 2, "{brought:?}");
    let first =
        brought.iter().find(|path| path.to_string_lossy().ends_with("1700000001.M1.mx,S=5:2,FS")).unwrap();
    assert_eq!(
        fs::metadata(first)
            .unwrap()
            .modified()
            .unwrap()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs(),
        1_768_208_400
    );
    assert_eq!(fs::metadata(first).unwrap().permissions().mode() & 0o111, 0);
    // Twice is once.
    let again = env.mailark(["undelete", "--user", "anna", "--yes", "--json"]).expect(0).json();
    assert_eq!(
        (&again["deliveries"][0]["brought"], &again["deliveries"][0]["still_there_count"]),
        (&0.into(), &2.into())
    );
    assert_eq!(restored(&office.mailbox).len(), 2);
    // What came is saved like anything else, and then nothing is gone any more.
    office.backup();
    let gone = env.mailark(["find", "--gone", "--user", "anna", "--json"]).expect(0);
    assert_eq!(gone.stdout, "");
}

#[test]
fn they_go_where_they_were_when_that_is_asked_for() {
    let office = Office::after_the_accident();
    let env = &office.env;
    env.mailark(["undelete", "--user", "anna", "--yes", "--into", "original", "contract"]).expect(0);
    assert_eq!(
        office.read("cur/1700000001.M1.mx,S=5:2,FS").lines().next(),
        Some("From: Boss <boss@supplier.com>")
    );
    // The folder that is gone is made again, with the keyword's name.
    let archived = files_below(&office.mailbox.join(".Archive/cur"));
    assert_eq!(archived.len(), 1, "{archived:?}");
    assert!(office.read(".Archive/dovecot-keywords").contains("urgent"));
    assert_eq!(fs::read_to_string(&archived[0]).unwrap(), message(3, ""));
}

#[test]
fn a_message_is_shown_whole_and_safe() {
    let office = Office::after_the_accident();
    let env = &office.env;
    let shown = env.mailark(["show", "<1@supplier.com>"]).expect(0).stdout;
    for part in [
        "Boss <boss@supplier.com>",
        "Contract 1",
        "GONE: last in",
        "offer.pdf (application/pdf",
        "See attached.",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let raw = env.mailark(["show", "--raw", "3@supplier.com", "--user", "anna"]).expect(0).stdout;
    assert_eq!(raw, message(3, ""));
    let folder = env.path("attachments");
    for _ in 0..2 {
        env.mailark(["show", "1@supplier.com", "--save-attachments", folder.to_str().unwrap()]).expect(0);
    }
    let saved: Vec<_> =
        files_below(&folder).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(saved, ["offer-2.pdf", "offer.pdf"]);
    assert_eq!(fs::read_to_string(folder.join("offer.pdf")).unwrap().trim_end(), "%PDF-1.4");
    env.mailark(["show", "ffff00"]).expect(1).naming("no message");
}

#[test]
fn mail_of_an_mbox_comes_back_too() {
    let office = Office::after_the_accident();
    let env = &office.env;
    let mbox = |numbers: &[u32]| {
        numbers
            .iter()
            .map(|number| format!("From b@s Mon Jan 12 10:00:00 2026\n{}\n", message(*number, "")))
            .collect::<String>()
    };
    let path = env.path("vmail/example.org/carl");
    fs::write(&path, mbox(&[11, 12, 12, 13])).unwrap();
    office.backup();
    fs::write(&path, mbox(&[11, 13])).unwrap();
    office.backup();
    let raw = env.mailark(["show", "--raw", "12@supplier.com"]).expect(0).stdout;
    assert_eq!(raw, message(12, ""));
    let mailbox = office.mailbox.to_str().unwrap();
    let report =
        env.mailark(["undelete", "--user", "carl", "--yes", "--json", "--mailbox", mailbox]).expect(0).json();
    assert_eq!(report["deliveries"][0]["brought"], 1, "{report}");
    let texts: Vec<String> =
        files_below(&office.mailbox).iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    assert!(texts.contains(&message(12, "")), "{texts:?}");
}

#[test]
fn what_an_mbox_keeps_for_itself_shifts_no_message() {
    let office = Office::after_the_accident();
    let env = &office.env;
    let own = "From MAILER-DAEMON Mon Jan 12 09:00:00 2026\nFrom: Mail System <MAILER-DAEMON@x>\n\
               Subject: DON'T DELETE THIS MESSAGE\nX-IMAP: 1700000000 0000000014\n\nInternal.\n\n";
    let mails: String = [21, 22, 23]
        .iter()
        .map(|number| format!("From b@s Mon Jan 12 10:00:00 2026\n{}\n", message(*number, "")))
        .collect();
    fs::write(env.path("vmail/example.org/carl"), format!("{own}{mails}")).unwrap();
    office.backup();
    for number in [21, 23] {
        let raw = env.mailark(["show", "--raw", &format!("{number}@supplier.com")]).expect(0).stdout;
        assert_eq!(raw, message(number, ""));
    }
}

fn first_snapshot(env: &TestEnv) -> String {
    env.mailark(["snapshots", "--json"]).expect(0).json()[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_restore_gives_mail_to_a_mailbox_in_use() {
    let office = Office::after_the_accident();
    let env = &office.env;
    let first = first_snapshot(env);
    let mailbox = office.mailbox.to_str().unwrap();
    let args = ["restore", &first, "--user", "anna", "--into", "original", "--mailbox", mailbox, "--json"];
    let planned = env.mailark(args.iter().chain(&["--dry-run"])).expect(0).json();
    assert_eq!(planned["deliveries"][0]["brought"], 2, "{planned}");
    assert!(!office.mailbox.join(".Archive").exists());
    let report = env.mailark(args).expect(0).json();
    assert_eq!(
        (&report["deliveries"][0]["brought"], &report["deliveries"][0]["still_there_count"]),
        (&2.into(), &1.into()),
        "{report}"
    );
    office.read("cur/1700000001.M1.mx,S=5:2,FS");
    let again = env.mailark(args).expect(0).json();
    assert_eq!(again["deliveries"][0]["brought"], 0, "{again}");
    // Taken back, nothing of it is left in any folder that mail programs show.
    let run = report["deliveries"][0]["run"].as_str().unwrap();
    env.mailark(["restore", "--undo", run]).expect(0);
    assert!(!office.mailbox.join("cur/1700000001.M1.mx,S=5:2,FS").exists());
    env.mailark(["restore", &first, "--user", "anna", "--folder", "Nowhere", "--into", "original"]).expect(1);
    env.mailark([
        "restore",
        &first,
        "--user",
        "anna",
        "--received",
        "2020",
        "--into",
        "original",
        "--mailbox",
        mailbox,
    ])
    .expect(1)
    .naming("no message of 'anna' fits");
}

#[test]
fn a_mailbox_that_is_gone_as_a_whole_is_found_in_the_past() {
    let office = Office::after_the_accident();
    let env = &office.env;
    fs::remove_dir_all(&office.mailbox).unwrap();
    fs::create_dir_all(env.path("vmail/example.org/bob/Maildir/cur")).unwrap();
    fs::create_dir_all(env.path("vmail/example.org/bob/Maildir/new")).unwrap();
    office.backup();
    let back = env.path("back");
    env.mailark(["restore", "--user", "anna", "--as", "maildir", "--to", back.to_str().unwrap()])
        .expect(0)
        .naming("in no newer snapshot than");
    assert!(files_below(&back).iter().any(|path| path.to_string_lossy().contains("1700000002.M2.mx")));
    env.mailark(["restore", "--user", "nobody", "--to", "x"]).expect(1).naming("no mail of 'nobody'");
}

#[test]
fn both_halves_work_through_a_pipe() {
    let office = Office::after_the_accident();
    let env = &office.env;
    let first = first_snapshot(env);
    let mailbox = office.mailbox.to_str().unwrap();
    let mut sender = env
        .command(["restore", &first, "--user", "anna@example.org", "--to", "-"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The other side has neither repository nor key.
    let stream = std::process::Stdio::from(sender.stdout.take().unwrap());
    let report = crate::support::run(
        env.command(["apply", "--mailbox", mailbox, "--json"])
            .env_remove("MAILARK_REPO")
            .env_remove("MAILARK_KEY_FILE")
            .stdin(stream),
    )
    .expect(0)
    .json();
    assert!(sender.wait().unwrap().success());
    assert_eq!(report["deliveries"][0]["brought"], 2, "{report}");
    assert_eq!(restored(&office.mailbox).len(), 2);
}

#[test]
fn flags_alone_come_back() {
    let office = Office::after_the_accident();
    let env = &office.env;
    let first = first_snapshot(env);
    // Somebody marks the one that is left as read and deleted.
    fs::rename(office.mailbox.join("new/1700000002.M2.mx"), office.mailbox.join("cur/1700000002.M2.mx:2,ST"))
        .unwrap();
    let mailbox = office.mailbox.to_str().unwrap();
    env.mailark(["restore", &first, "--user", "anna", "--flags-only", "--mailbox", mailbox]).expect(0);
    let names = files_below(&office.mailbox.join("cur"));
    assert_eq!(names.len(), 1, "nothing else comes: {names:?}");
    assert!(!names[0].to_string_lossy().ends_with("ST"), "{names:?}");
}

#[test]
fn a_question_that_nobody_answers_does_nothing() {
    let office = Office::after_the_accident();
    let env = &office.env;
    let before = office.files();
    let mut command = std::process::Command::new("script");
    let line = format!("{} undelete --user anna", crate::support::PROGRAM);
    env.surround(&mut command).args(["-qec", &line, "/dev/null"]);
    if !crate::support::tool("script", ["--version"]) {
        return crate::support::skipped("a question that nobody answers", "there is no script(1)");
    }
    // The input of the terminal is at its end.
    let output = crate::support::run(&mut command).expect(130);
    let said = output.both();
    assert!(said.contains("the question was not answered: nothing was done"), "{said}");
    assert!(!said.contains("what was stored"), "{said}");
    assert_eq!(office.files(), before);
}

#[test]
fn what_its_reader_moved_is_told_without_a_terminal_too() {
    let office = Office::after_the_accident();
    let env = &office.env;
    let report = env.mailark(["undelete", "--user", "anna", "--yes", "--json"]).expect(0).json();
    let run = report["deliveries"][0]["run"].as_str().unwrap();
    let brought = restored(&office.mailbox);
    fs::rename(&brought[0], office.mailbox.join("cur").join(brought[0].file_name().unwrap())).unwrap();
    let output = env.mailark(["restore", "--undo", run]).expect(0);
    assert!(output.stderr.contains("1 messages of run"), "{}", output.both());
    assert!(output.stderr.contains("left alone"), "{}", output.both());
}

#[test]
fn both_halves_work_through_ssh() {
    let name = "both_halves_work_through_ssh";
    let office = Office::after_the_accident();
    let env = &office.env;
    let server = match crate::ssh::SshServer::start(&env.path("ssh")) {
        Ok(server) => server,
        Err(why) => return crate::support::skipped(name, &why),
    };
    let first = first_snapshot(env);
    // The mail host has a state of its own, and neither repository nor key.
    let line = format!(
        "env XDG_STATE_HOME={} {} apply --json --mailbox {}",
        env.path("far-state").display(),
        crate::support::PROGRAM,
        office.mailbox.display()
    );
    let give = |query: &[&str]| {
        let mut client = server.shell(&line)?;
        let words = query.iter().chain(&["--to", "-"]).copied();
        let mut sender = env.command(words).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let stream = std::process::Stdio::from(sender.stdout.take().unwrap());
        let report = crate::support::run(env.surround(&mut client).stdin(stream));
        assert!(sender.wait().unwrap().success());
        Ok::<_, String>(report)
    };
    let report = match give(&["restore", &first, "--user", "anna"]) {
        Ok(output) => output.expect(0).json()["deliveries"][0].take(),
        Err(why) => return crate::support::skipped(name, &why),
    };
    assert_eq!(
        (&report["brought"], &report["still_there_count"], &report["user"]),
        (&2.into(), &1.into(), &"anna@example.org".into()),
        "{report}"
    );
    let texts: Vec<String> =
        restored(&office.mailbox).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(texts.contains(&message(3, "")), "{texts:?}");
    // The same again adds nothing, and the exit code of the far side comes back.
    let again =
        give(&["restore", &first, "--user", "anna"]).unwrap().expect(0).json()["deliveries"][0].take();
    assert_eq!((&again["brought"], &again["still_there_count"]), (&0.into(), &3.into()), "{again}");
    assert!(env.path("far-state/mailark/deliveries").is_dir());
    fs::remove_dir_all(&office.mailbox).unwrap();
    let said = give(&["restore", &first, "--user", "anna"]);
    assert_eq!(said.map(|output| output.code), Ok(1));
}
