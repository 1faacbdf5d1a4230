//! A mounted Maildir as a second namespace of a real Dovecot: people look into their own backups, and copy mail back.

use std::fs;

use super::{Mount, back_up};
use crate::imap::{Answer, Dovecot, Imap, give};
use crate::support::{TestEnv, is_root, skipped, wait_until};

#[track_caller]
fn ask(session: &mut Imap, command: &str) -> Answer {
    let answer = session.ask(command).unwrap();
    assert!(answer.is_ok(), "{command}: {}\n{}", answer.end, answer.lines.join("\n"));
    answer
}

/// The lines that say something about messages, sorted.
fn fetched(session: &mut Imap, what: &str) -> Vec<String> {
    let answer = ask(session, &format!("UID FETCH 1:* ({what})"));
    let mut lines: Vec<String> =
        answer.lines.into_iter().filter(|line| line.contains("FETCH (UID")).collect();
    lines.sort();
    lines
}

fn append(session: &mut Imap, mailbox: &str, flags: &str, date: &str, number: u64) {
    let message = String::from_utf8(crate::tree::mail(number)).unwrap().replace('\n', "\r\n");
    let literal = format!("{{{}+}}\r\n{message}", message.len());
    ask(session, &format!("APPEND {mailbox} ({flags}) \"{date}\" {literal}"));
}

/// `UID 3 FLAGS (...)` of a line, without the flag that only the first session sees.
fn of_line(line: &str) -> String {
    let line = line[line.find("(UID").unwrap()..].replace("\\Recent", "");
    line.replace("  ", " ").replace("( ", "(").replace(" )", ")")
}

#[track_caller]
fn uidvalidity(selected: &Answer) -> String {
    let line = selected.lines.iter().find(|line| line.contains("[UIDVALIDITY ")).unwrap();
    line.clone()
}

struct Server {
    env: TestEnv,
    dovecot: Dovecot,
    live: std::path::PathBuf,
}

impl Server {
    /// A user with mail in two folders, which was backed up; `None` where that cannot be.
    fn new(name: &str) -> Option<Server> {
        if !is_root() {
            skipped(name, "only root mounts for the user that Dovecot runs as");
            return None;
        }
        let env = TestEnv::with_repository();
        let Some(dovecot) = Dovecot::find(&env.path("dovecot")).unwrap() else {
            skipped(name, "Dovecot is not installed");
            return None;
        };
        let live = env.folder("vmail/alice");
        give(&env.path("vmail")).unwrap();
        let server = Server { env, dovecot, live };
        let mut session = server.session();
        ask(&mut session, "CREATE Work");
        append(&mut session, "INBOX", "\\Seen", "01-Feb-2024 03:04:05 +0000", 1);
        append(&mut session, "INBOX", "\\Flagged $Important", "02-Feb-2024 03:04:05 +0000", 2);
        append(&mut session, "INBOX", "\\Answered Later $Important", "03-Feb-2024 03:04:05 +0000", 3);
        append(&mut session, "Work", "\\Seen Work", "04-Feb-2024 03:04:05 +0000", 4);
        // The first UID is not that of the first message any more.
        ask(&mut session, "SELECT INBOX");
        ask(&mut session, "STORE 1 +FLAGS (\\Deleted)");
        ask(&mut session, "EXPUNGE");
        drop(session);
        server.back_up();
        Some(server)
    }

    fn session(&self) -> Imap {
        self.dovecot.session("alice", &self.live).unwrap()
    }

    fn back_up(&self) {
        back_up(&self.env, "mail", "/var/vmail", &self.env.path("vmail"), 0);
    }

    /// Mounts, and gives Dovecot the ten lines of the README.
    fn mount(&self, name: &str) -> Option<Mount> {
        let control = self.env.path("control");
        let more = ["--allow-other", "--dovecot", control.to_str().unwrap()];
        let mount = Mount::stand(name, &self.env, &more)?;
        let (mail, own) = (mount.path("users"), control.display().to_string());
        let namespace = format!(
            "namespace inbox {{\n  separator = /\n}}\n\
             namespace backups {{\n  prefix = Backups/\n  separator = /\n  subscriptions = no\n  \
             location = maildir:{}/%u:LAYOUT=fs:CONTROL={own}/control/%u:INDEX={own}/index/%u\n}}\n",
            mail.display()
        );
        self.dovecot.configure(&namespace).unwrap();
        Some(mount)
    }
}

#[test]
fn a_user_looks_into_a_backup_and_copies_mail_back() {
    let name = "a_user_looks_into_a_backup_and_copies_mail_back";
    let Some(server) = Server::new(name) else { return };
    let mut live = server.session();
    let what = "UID FLAGS INTERNALDATE RFC822.SIZE";
    let inbox = uidvalidity(&ask(&mut live, "SELECT INBOX"));
    let before: Vec<String> = fetched(&mut live, what).iter().map(|line| of_line(line)).collect();
    let bodies = ask(&mut live, "UID FETCH 1:* BODY.PEEK[]").lines;
    ask(&mut live, "SELECT Work");
    let work: Vec<String> = fetched(&mut live, what).iter().map(|line| of_line(line)).collect();
    assert_eq!((before.len(), work.len()), (2, 1));
    // Then it happens: all of it is deleted.
    for mailbox in ["INBOX", "Work"] {
        ask(&mut live, &format!("SELECT {mailbox}"));
        ask(&mut live, "STORE 1:* +FLAGS.SILENT (\\Deleted)");
        ask(&mut live, "EXPUNGE");
    }
    drop(live);
    let Some(mount) = server.mount(name) else { return };
    let mut session = server.session();
    let listed = ask(&mut session, "LIST \"\" *").lines.join("\n");
    for mailbox in ["Backups/latest", "Backups/latest/.Work"] {
        assert!(listed.contains(mailbox), "{mailbox} in {listed}");
    }
    let selected = ask(&mut session, "SELECT Backups/latest");
    assert!(selected.end.contains("[READ-ONLY]"), "{}", selected.end);
    assert_eq!(uidvalidity(&selected), inbox);
    let shown: Vec<String> = fetched(&mut session, what).iter().map(|line| of_line(line)).collect();
    assert_eq!(shown, before);
    assert!(before[1].contains("Later") && before[1].contains("$Important"), "{before:?}");
    assert_eq!(ask(&mut session, "UID FETCH 1:* BODY.PEEK[]").lines, bodies);
    ask(&mut session, "UID COPY 1:* INBOX");
    ask(&mut session, "SELECT Backups/latest/.Work");
    assert_eq!(fetched(&mut session, what).iter().map(|line| of_line(line)).collect::<Vec<_>>(), work);
    ask(&mut session, "UID COPY 1:* Work");
    // What came back is what it was, but for its UID.
    let rest = |lines: &[String]| -> Vec<String> {
        let mut lines: Vec<String> =
            lines.iter().map(|line| line[line.find("FLAGS").unwrap()..].to_owned()).collect();
        lines.sort();
        lines
    };
    for (mailbox, expected) in [("INBOX", &before), ("Work", &work)] {
        ask(&mut session, &format!("SELECT {mailbox}"));
        let back: Vec<String> = fetched(&mut session, what).iter().map(|line| of_line(line)).collect();
        assert_eq!(rest(&back), rest(expected), "{mailbox}");
    }
    // Nothing is ever deleted there.
    ask(&mut session, "SELECT Backups/latest");
    ask(&mut session, "STORE 1 +FLAGS.SILENT (\\Deleted)");
    ask(&mut session, "EXPUNGE");
    assert_eq!(fetched(&mut session, "UID").len(), 2);
    drop(session);
    mount.end().expect(0);
    assert_eq!(server.dovecot.complaints_of_sessions(), Vec::<String>::new());
}

#[test]
fn a_newer_snapshot_is_numbered_for_itself() {
    let name = "a_newer_snapshot_is_numbered_for_itself";
    let Some(server) = Server::new(name) else { return };
    let Some(mount) = server.mount(name) else { return };
    let first = uidvalidity(&ask(&mut server.session(), "EXAMINE Backups/latest"));
    // A message that no Dovecot has numbered yet: it may get another number here than there.
    let path = server.live.join("new/1700000500.M1P1.mx");
    fs::write(&path, crate::tree::mail(9)).unwrap();
    give(&path).unwrap();
    let latest = mount.path("users/alice/latest");
    let before = fs::read_link(&latest).unwrap();
    server.back_up();
    wait_until("the newer snapshot is the latest", || fs::read_link(&latest).unwrap() != before);
    let mut session = server.session();
    let selected = ask(&mut session, "EXAMINE Backups/latest");
    assert!(selected.lines.iter().any(|line| line == "* 3 EXISTS"), "{:?}", selected.lines);
    assert_ne!(uidvalidity(&selected), first);
    assert_eq!(fetched(&mut session, "UID FLAGS").len(), 3);
    // UIDs hold from session to session.
    let shown = fetched(&mut session, "UID INTERNALDATE");
    drop(session);
    let mut session = server.session();
    ask(&mut session, "EXAMINE Backups/latest");
    assert_eq!(fetched(&mut session, "UID INTERNALDATE"), shown);
    drop(session);
    mount.end().expect(0);
    assert_eq!(server.dovecot.complaints_of_sessions(), Vec::<String>::new());
}
