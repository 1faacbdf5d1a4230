//! A real Dovecot without a daemon: its `imap` program on a pipe, logged in already, and its delivery agent.
//!
//! Root lends both to `nobody`, since Dovecot serves no mail as root.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const IMAP: &str = "/usr/lib/dovecot/imap";
const DELIVERY: &str = "/usr/lib/dovecot/dovecot-lda";
/// The user that root becomes.
pub const NOBODY: u32 = 65_534;

/// Where Dovecot keeps what is not mail, and its configuration.
#[derive(Clone)]
pub struct Dovecot {
    folder: PathBuf,
}

/// A session.
pub struct Imap {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    number: u64,
}

/// What the server said to one command.
pub struct Answer {
    /// Untagged lines, and those of literals, without their ends.
    pub lines: Vec<String>,
    /// The tagged line without its tag.
    pub end: String,
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        self.end.starts_with("OK")
    }
}

impl Dovecot {
    /// `None` where it is not installed.
    pub fn find(folder: &Path) -> io::Result<Option<Dovecot>> {
        Dovecot::with(folder, "namespace inbox {\n  inbox = yes\n}\n")
    }

    /// With settings of its own, the namespaces among them.
    pub fn with(folder: &Path, own: &str) -> io::Result<Option<Dovecot>> {
        if ![IMAP, DELIVERY].iter().all(|program| Path::new(program).exists()) {
            return Ok(None);
        }
        fs::create_dir_all(folder)?;
        let at = folder.display();
        let settings = format!(
            "base_dir = {at}\nstate_dir = {at}\nlog_path = {at}/log\nssl = no\nfirst_valid_uid = 100\n\
             mail_fsync = never\npostmaster_address = postmaster@example.org\nhostname = mail.example.org\n{own}"
        );
        fs::write(folder.join("dovecot.conf"), settings)?;
        give(folder)?;
        Ok(Some(Dovecot { folder: folder.to_owned() }))
    }

    /// Adds to its configuration.
    pub fn configure(&self, more: &str) -> io::Result<()> {
        let mut file = fs::File::options().append(true).open(self.folder.join("dovecot.conf"))?;
        file.write_all(more.as_bytes())
    }

    /// A command of Dovecot's for a user whose mail lies at `location`, a Maildir's path with what may follow it.
    pub fn command(&self, program: &str, user: &str, location: &Path) -> Command {
        let mut command = match rustix::process::geteuid().is_root() {
            true => {
                let mut lent = Command::new("setpriv");
                lent.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
                lent.arg("--clear-groups").arg(program);
                lent
            }
            false => Command::new(program),
        };
        command.env("USER", user).env("HOME", &self.folder).current_dir("/");
        command.arg("-c").arg(self.folder.join("dovecot.conf"));
        command.arg("-o").arg(format!("mail_location=maildir:{}", location.display()));
        command
    }

    /// Begins a session.
    pub fn session(&self, user: &str, maildir: &Path) -> io::Result<Imap> {
        self.begin(self.command(IMAP, user, maildir))
    }

    /// The same for mail in another form, such as `mdbox:/path`.
    pub fn session_in(&self, user: &str, location: &str) -> io::Result<Imap> {
        let mut command = self.command(IMAP, user, Path::new("/"));
        command.arg("-o").arg(format!("mail_location={location}"));
        self.begin(command)
    }

    fn begin(&self, mut command: Command) -> io::Result<Imap> {
        let stderr = fs::File::options().create(true).append(true).open(self.folder.join("stderr"))?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn()?;
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let mut session = Imap { child, to, from, number: 0 };
        match session.line()? {
            Some(greeting) if greeting.starts_with("* PREAUTH") => Ok(session),
            other => Err(io::Error::other(format!("{other:?} instead of a greeting"))),
        }
    }

    /// Delivers a message into a mailbox.
    pub fn deliver(&self, user: &str, maildir: &Path, mailbox: &str, message: &[u8]) -> io::Result<bool> {
        let mut command = self.command(DELIVERY, user, maildir);
        command.args(["-f", "sender@example.net", "-e", "-m", mailbox]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(message)?;
        }
        Ok(child.wait()?.success())
    }

    /// The errors and panics that it logged.
    pub fn complaints(&self) -> Vec<String> {
        self.bad_lines("log")
    }

    /// What sessions complained of; without a daemon they log to standard error.
    pub fn complaints_of_sessions(&self) -> Vec<String> {
        self.bad_lines("stderr")
    }

    fn bad_lines(&self, file: &str) -> Vec<String> {
        let log = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let bad =
            |line: &&str| ["Error:", "Panic:", "Fatal:", "Warning:"].iter().any(|bad| line.contains(bad));
        log.lines().filter(bad).map(str::to_owned).collect()
    }
}

/// Gives a file or folder, and all below, to the user that Dovecot runs as.
pub fn give(path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    }
    Ok(())
}

impl Imap {
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.from.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Sends a command and waits for its end.
    pub fn ask(&mut self, command: &str) -> io::Result<Answer> {
        self.number += 1;
        let tag = format!("t{} ", self.number);
        let to = self.to.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        to.write_all(format!("{tag}{command}\r\n").as_bytes())?;
        to.flush()?;
        let mut lines = Vec::new();
        while let Some(line) = self.line()? {
            match line.strip_prefix(&tag) {
                Some(end) => return Ok(Answer { lines, end: end.to_owned() }),
                None => lines.push(line),
            }
        }
        Err(io::Error::other(format!("the session ended during '{command}' after {lines:?}")))
    }
}

impl Drop for Imap {
    fn drop(&mut self) {
        self.to = None;
        let _ = self.child.wait();
    }
}
