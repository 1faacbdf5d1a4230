//! A user with a mailbox, a Dovecot that serves it, and letters.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use mailark::format::letters::{Head, LetterWriter};
use mailark::mail::keywords::Keywords;
use mailark::mail::letter::{Letter, split_flags};
use mailark::mail::{maildir, templates};
use serde_json::Value;

use crate::imap::{Dovecot, Imap, give};
use crate::support::{Output, TestEnv, run, skipped};

/// How the mailbox is kept.
#[derive(Clone, Copy, Default)]
pub struct Ways {
    pub fs: bool,
    pub control: bool,
    pub settings: &'static str,
}

pub const SLASH: &str = "namespace inbox {\n  inbox = yes\n  separator = /\n}\n";

pub struct Site {
    pub env: TestEnv,
    pub dovecot: Dovecot,
    ways: Ways,
    _place: tempfile::TempDir,
    /// The root of the mailbox.
    pub mail: PathBuf,
    pub control: PathBuf,
}

/// What a client sees of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub flags: Vec<String>,
    pub date: String,
    pub text: String,
}

/// What a client sees of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    pub validity: u32,
    pub next: u32,
    pub messages: BTreeMap<u32, Seen>,
}

impl View {
    pub fn texts(&self) -> Vec<&str> {
        self.messages.values().map(|seen| seen.text.as_str()).collect()
    }

    #[track_caller]
    pub fn only(&self) -> &Seen {
        assert_eq!(self.messages.len(), 1, "{self:?}");
        self.messages.values().next().unwrap()
    }
}

fn number_after(line: &str, mark: &str) -> Option<u32> {
    let digits = line.split_once(mark)?.1;
    digits[..digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len())].parse().ok()
}

fn between<'l>(line: &'l str, from: &str, to: char) -> Option<&'l str> {
    line.split_once(from)?.1.split_once(to).map(|(part, _)| part)
}

#[track_caller]
pub fn ask(session: &mut Imap, command: &str) -> Vec<String> {
    let answer = session.ask(command).unwrap();
    assert!(answer.is_ok(), "{command}: {}", answer.end);
    answer.lines
}

/// A message of so many words.
pub fn message(number: u32) -> String {
    format!(
        "From: a@example.net\nMessage-ID: <{number}@back>\nSubject: {number}\n\n{}\n",
        "words ".repeat(number as usize)
    )
}

impl Site {
    /// `None`, said loudly, where there is no Dovecot.
    pub fn new(name: &str, ways: Ways) -> Option<Site> {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let settings =
            if ways.settings.is_empty() { "namespace inbox {\n  inbox = yes\n}\n" } else { ways.settings };
        let Some(dovecot) = Dovecot::with(&place.path().join("state"), settings).unwrap() else {
            skipped(name, "dovecot-imapd is not installed");
            return None;
        };
        let (mail, control) = (place.path().join("mail"), place.path().join("control"));
        for folder in [&mail, &control] {
            fs::create_dir(folder).unwrap();
            fs::set_permissions(folder, PermissionsExt::from_mode(0o700)).unwrap();
            give(folder).unwrap();
        }
        Some(Site { env: TestEnv::new(), dovecot, ways, _place: place, mail, control })
    }

    /// As `mail_location` has it, without the driver.
    pub fn location(&self) -> PathBuf {
        let mut location = self.mail.display().to_string();
        if self.ways.fs {
            location += ":LAYOUT=fs";
        }
        if self.ways.control {
            location += &format!(":CONTROL={}", self.control.display());
        }
        location.into()
    }

    pub fn session(&self) -> Imap {
        self.dovecot.session("alice", &self.location()).unwrap()
    }

    pub fn deliver(&self, folder: &str, text: &str) {
        assert!(self.dovecot.deliver("alice", &self.location(), folder, text.as_bytes()).unwrap());
    }

    /// Looks at a folder in a session of its own; `None` when there is no such folder.
    pub fn view_of(&self, folder: &str) -> Option<View> {
        let mut session = self.session();
        let selected = session.ask(&format!("EXAMINE \"{folder}\"")).unwrap();
        if !selected.is_ok() {
            return None;
        }
        let find = |mark| selected.lines.iter().find_map(|line| number_after(line, mark));
        let mut view = View {
            validity: find("[UIDVALIDITY ").unwrap(),
            next: find("[UIDNEXT ").unwrap(),
            messages: BTreeMap::new(),
        };
        let fetched = session.ask("FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])").unwrap();
        let mut uid = 0;
        for line in fetched.lines {
            if let Some(found) = number_after(&line, "FETCH (UID ") {
                uid = found;
                let mut flags: Vec<String> =
                    between(&line, "FLAGS (", ')').unwrap().split_whitespace().map(str::to_owned).collect();
                flags.retain(|flag| flag != "\\Recent");
                flags.sort();
                let date = between(&line, "INTERNALDATE \"", '"').unwrap().to_owned();
                view.messages.insert(uid, Seen { flags, date, text: String::new() });
            } else if line == ")" {
                // What follows is news of others.
                uid = 0;
            } else if let Some(seen) = view.messages.get_mut(&uid) {
                seen.text += &line;
                seen.text.push('\n');
            }
        }
        Some(view)
    }

    #[track_caller]
    pub fn view(&self, folder: &str) -> View {
        self.view_of(folder).unwrap_or_else(|| panic!("no folder {folder}"))
    }

    /// All messages of the mailbox as letters, as a backup of this moment would have them.
    pub fn letters(&self) -> Vec<(Letter, Vec<u8>)> {
        let mut letters = Vec::new();
        for path in crate::support::files_below(&self.mail) {
            let part = path.parent().unwrap();
            let (is_new, folder) = match part.file_name().unwrap().to_str().unwrap() {
                "cur" => (false, part.parent().unwrap()),
                "new" => (true, part.parent().unwrap()),
                _ => continue,
            };
            let below = folder.strip_prefix(&self.mail).unwrap();
            let control = match (self.ways.control, self.ways.fs, below == Path::new("")) {
                (false, ..) => folder.to_owned(),
                (true, true, true) => self.control.join("INBOX"),
                (true, false, true) => self.control.join(".INBOX"),
                (true, ..) => self.control.join(below),
            };
            let keywords = Keywords::parse(&fs::read(control.join("dovecot-keywords")).unwrap_or_default());
            let name = path.file_name().unwrap().as_encoded_bytes();
            let parsed = maildir::parse(name);
            let (flags, letters_of_it) = split_flags(parsed.flags.unwrap_or_default());
            let meta = fs::metadata(&path).unwrap();
            let letter = Letter {
                user: "alice".to_owned(),
                folder: templates::folder_name(below.as_os_str().as_encoded_bytes()),
                base: parsed.base.to_vec(),
                flags,
                keywords: letters_of_it
                    .iter()
                    .map(|&letter| keywords.name(letter).map(<[u8]>::to_vec))
                    .collect(),
                unseen_by_any: is_new,
                arrived_s: meta.mtime(),
                arrived_ns: meta.mtime_nsec() as u32,
                size: meta.len(),
                guid: None,
                uid: None,
            };
            letters.push((letter, fs::read(&path).unwrap()));
        }
        letters
    }

    /// Runs `mailark apply` with a stream on its standard input.
    pub fn apply(&self, stream: &[u8], more: &[&str]) -> Output {
        let input = self.env.path("stream");
        fs::write(&input, stream).unwrap();
        run(&mut self.apply_command(&input, more))
    }

    pub fn apply_command(&self, input: &Path, more: &[&str]) -> std::process::Command {
        let mut command = self.env.command(["apply", "--json", "--mailbox"]);
        command.arg(&self.mail);
        if self.ways.control {
            command.arg("--control").arg(&self.control);
        }
        if self.ways.fs {
            command.args(["--layout", "fs"]);
        }
        command.args(more).stdin(fs::File::open(input).unwrap()).stdout(Stdio::piped());
        command
    }

    /// The report of a delivery that must go well.
    #[track_caller]
    pub fn give_back(&self, letters: &[(Letter, Vec<u8>)], more: &[&str]) -> Value {
        self.apply(&stream(letters), more).expect(0).json()["deliveries"][0].take()
    }

    /// Removes a message as a client does.
    pub fn expunge(&self, folder: &str, uid: u32) {
        let mut session = self.session();
        ask(&mut session, &format!("SELECT \"{folder}\""));
        ask(&mut session, &format!("UID STORE {uid} +FLAGS (\\Deleted)"));
        ask(&mut session, &format!("UID EXPUNGE {uid}"));
    }

    /// Every file of messages with its bytes, number and time.
    pub fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, u64, SystemTime)> {
        let all = crate::support::files_below(&self.mail).into_iter();
        let messages = all
            .filter(|path| path.parent().is_some_and(|part| part.ends_with("cur") || part.ends_with("new")));
        messages
            .map(|path| {
                let meta = fs::metadata(&path).unwrap();
                let bytes = fs::read(&path).unwrap();
                (path, (bytes, meta.ino(), meta.modified().unwrap()))
            })
            .collect()
    }
}

/// A read message with a base name.
pub fn letter(folder: &str, base: &str, text: &str) -> (Letter, Vec<u8>) {
    let letter = Letter {
        user: "alice".to_owned(),
        folder: folder.to_owned(),
        base: base.into(),
        flags: b"S".to_vec(),
        keywords: Vec::new(),
        unseen_by_any: false,
        arrived_s: 1_700_000_000,
        arrived_ns: 5,
        size: text.len() as u64,
        guid: None,
        uid: None,
    };
    (letter, text.into())
}

/// Letters as a stream.
pub fn stream(letters: &[(Letter, Vec<u8>)]) -> Vec<u8> {
    let mut folders: Vec<&str> = letters.iter().map(|(letter, _)| letter.folder.as_str()).collect();
    folders.sort_unstable();
    folders.dedup();
    let several_folders = folders.len() > 1;
    let head = Head { title: "test".to_owned(), several_folders, without_bytes: false };
    stream_with(&head, letters)
}

pub fn stream_with(head: &Head, letters: &[(Letter, Vec<u8>)]) -> Vec<u8> {
    let mut writer = LetterWriter::new(Vec::new(), head).unwrap();
    for (letter, bytes) in letters {
        let mut sink = writer.letter(letter).unwrap();
        std::io::Write::write_all(&mut sink, bytes).unwrap();
        sink.finish().unwrap();
    }
    writer.finish().unwrap()
}

/// Today's folder.
pub fn restored(site: &Site, separator: &str) -> String {
    let report: String =
        crate::support::run(site.env.command(["--version"]).env("TZ", "Europe/Berlin")).stdout;
    assert!(report.starts_with("mailark"));
    let mut date = std::process::Command::new("date");
    let day = crate::support::run(site.env.surround(date.arg("+%Y-%m-%d"))).stdout;
    format!("Restored{separator}{}", day.trim())
}
