//! A mailbox of a real Dovecot, and everything that a mail client would see of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::imap::{Dovecot, Imap, give};
use crate::support::{TestEnv, skipped};

/// What a client sees of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub id: String,
    pub flags: Vec<String>,
    pub date: String,
    pub size: String,
}

/// What a client sees of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub validity: u64,
    pub next: u64,
    pub modseq: u64,
    pub messages: BTreeMap<u64, Seen>,
}

impl Folder {
    /// UID of a message by its id.
    pub fn uid(&self, id: &str) -> Option<u64> {
        self.messages.iter().find(|(_, seen)| seen.id == id).map(|(uid, _)| *uid)
    }
}

/// A Dovecot, and a user whose Maildir it keeps.
pub struct Mailbox {
    pub dovecot: Dovecot,
    pub vmail: PathBuf,
    pub maildir: PathBuf,
    pub state: PathBuf,
    /// What it calls the folder in a folder.
    pub archive: String,
}

#[track_caller]
pub fn ask(session: &mut Imap, command: &str) -> Vec<String> {
    let answer = session.ask(command).unwrap();
    assert!(answer.is_ok(), "{command}: {}", answer.end);
    answer.lines
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> Option<&'t str> {
    let rest = text.split_once(begin)?.1;
    rest.split_once(end).map(|(found, _)| found)
}

/// Looks into a folder.
#[track_caller]
pub fn look(session: &mut Imap, folder: &str) -> Folder {
    let selected = ask(session, &format!("SELECT {folder} (CONDSTORE)"));
    let number = |mark: &str| {
        let found = selected.iter().find_map(|line| between(line, mark, "]"));
        found.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    let (validity, next, modseq) = (number("[UIDVALIDITY "), number("[UIDNEXT "), number("[HIGHESTMODSEQ "));
    let command = "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])";
    let mut messages = BTreeMap::new();
    let mut open: Option<(u64, Seen)> = None;
    for line in session.ask(command).unwrap().lines {
        if let Some(uid) = between(&line, "(UID ", " ") {
            let words = between(&line, "FLAGS (", ")").unwrap_or_default();
            let mut flags: Vec<String> = words
                .split(' ')
                .filter(|flag| !flag.is_empty() && *flag != "\\Recent")
                .map(str::to_owned)
                .collect();
            flags.sort();
            let date = between(&line, "INTERNALDATE \"", "\"").unwrap_or_default().to_owned();
            let size = between(&line, "RFC822.SIZE ", " ").unwrap_or_default().to_owned();
            open = Some((uid.parse().unwrap(), Seen { id: String::new(), flags, date, size }));
        }
        if let (Some(id), Some((uid, seen))) = (between(&line, "Message-ID: <", ">"), &open) {
            messages.insert(*uid, Seen { id: id.to_owned(), ..seen.clone() });
        }
    }
    Folder { validity, next, modseq, messages }
}

/// The bytes of a message as the server gives them, lines joined.
pub fn body(session: &mut Imap, uid: u64) -> String {
    let lines = ask(session, &format!("UID FETCH {uid} (BODY.PEEK[])"));
    lines[1..lines.len() - 1].join("\n")
}

impl Mailbox {
    /// `None`, and says so, where there is no Dovecot.
    pub fn new(env: &TestEnv, name: &str) -> Option<Mailbox> {
        Mailbox::with_separator(env, name, '.')
    }

    /// The same, with another character between the names of folders.
    pub fn with_separator(env: &TestEnv, name: &str, separator: char) -> Option<Mailbox> {
        let state = env.path("dovecot");
        let namespace = format!("namespace inbox {{\n  inbox = yes\n  separator = {separator}\n}}\n");
        fs::set_permissions(env.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        let Some(dovecot) = Dovecot::with(&state, &namespace).unwrap() else {
            skipped(name, "dovecot-imapd is not installed");
            return None;
        };
        let vmail = env.folder("vmail");
        let maildir = vmail.join("example.org/alice/Maildir");
        fs::create_dir_all(&maildir).unwrap();
        give(&vmail).unwrap();
        let archive = format!("Archive{separator}2026");
        Some(Mailbox { dovecot, vmail, maildir, state, archive })
    }

    pub fn session(&self) -> Imap {
        self.dovecot.session("alice@example.org", &self.maildir).unwrap()
    }

    pub fn deliver(&self, folder: &str, id: &str) {
        let text =
            format!("From: b@x.net\nTo: a@example.org\nMessage-ID: <{id}>\nSubject: {id}\n\nThis is {id}.\n");
        assert!(self.dovecot.deliver("alice@example.org", &self.maildir, folder, text.as_bytes()).unwrap());
    }

    /// A mailbox in which some things have happened: gaps in the UIDs, flags, keywords, a copy, a subscription.
    pub fn live(&self) {
        let mut session = self.session();
        ask(&mut session, &format!("CREATE {}", self.archive));
        ask(&mut session, &format!("SUBSCRIBE {}", self.archive));
        for number in 1..=6 {
            self.deliver("INBOX", &format!("m{number}"));
        }
        ask(&mut session, "SELECT INBOX");
        ask(&mut session, "STORE 1 FLAGS (\\Seen \\Answered work $Label1)");
        ask(&mut session, "STORE 2 FLAGS (\\Flagged)");
        ask(&mut session, &format!("COPY 1:2 {}", self.archive));
        ask(&mut session, &format!("MOVE 6 {}", self.archive));
        ask(&mut session, "STORE 3 FLAGS (\\Deleted)");
        ask(&mut session, "EXPUNGE");
        let old = "APPEND INBOX (\\Seen home) \" 5-Mar-2026 10:11:12 +0100\" ";
        let text = "Message-ID: <old>\r\nSubject: old\r\n\r\nold\r\n";
        ask(&mut session, &format!("{old}{{{}+}}\r\n{text}", text.len()));
        ask(&mut session, "LOGOUT");
    }

    /// All folders as a client sees them.
    pub fn look_at_all(&self) -> BTreeMap<String, Folder> {
        let mut session = self.session();
        let mut folders = BTreeMap::new();
        for name in ["INBOX", self.archive.as_str()] {
            folders.insert(name.to_owned(), look(&mut session, name));
        }
        folders
    }

    /// A `doveadm` for the configuration: this one asks no server who the user is.
    pub fn doveadm(&self, env: &TestEnv) -> Option<PathBuf> {
        let program = Path::new("/usr/bin/doveadm");
        if !program.exists() {
            return None;
        }
        let lend = if rustix::process::geteuid().is_root() {
            "setpriv --reuid=65534 --regid=65534 --clear-groups "
        } else {
            ""
        };
        let script = env.path("doveadm.sh");
        let text = format!(
            "#!/bin/bash\nwords=()\nwhile [ $# -gt 0 ]; do\n  if [ \"$1\" = -u ]; then shift 2; continue; fi\n  \
             words+=(\"$1\")\n  shift\ndone\ncd / && USER=alice HOME={} exec {lend}{} -c {}/dovecot.conf -o mail_location=${{LOCATION:-maildir:{}}} \"${{words[@]}}\"\n",
            self.state.display(),
            program.display(),
            self.state.display(),
            self.maildir.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        let config = env.path("home/config/mailark");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("mailark.toml"), format!("doveadm = [\"{}\"]\n", script.display())).unwrap();
        Some(script)
    }
}
