//! `doveadm`, as the administrator says it is run: `doveadm`, `docker exec dovecot doveadm`.

use std::ffi::OsString;
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::LINES_MAX;
use crate::base::clock;

/// Bytes of its output that are kept.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(300);
const NAP: Duration = Duration::from_millis(5);
/// Messages that are named in one call.
const GUIDS_AT_ONCE: usize = 40;

/// `doveadm` could not do something.
#[derive(Debug, thiserror::Error)]
pub enum DoveadmError {
    /// The text cannot be taken apart into words.
    #[error("'{0}' has a quote without its end, or no words")]
    Words(String),
    /// It does not run.
    #[error("run {command}")]
    Run {
        /// The program.
        command: String,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// It said that it failed, also when it ended with 0.
    #[error("{command}: {text}")]
    Failed {
        /// The program.
        command: String,
        /// Its last words.
        text: String,
    },
    /// No folder has that name there.
    #[error("doveadm knows no folder {0}")]
    NoFolder(String),
}

type Result<T> = std::result::Result<T, DoveadmError>;

/// The command, word by word; no shell takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doveadm(Vec<String>);

/// Takes a line apart as a shell would: blanks, quotes, backslashes; nothing is expanded.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), close) if open == close => quote = None,
            (Some('\''), other) => word.get_or_insert_default().push(other),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (_, '\\') => word.get_or_insert_default().push(letters.next()?),
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (quote.is_none() && words.first().is_some_and(|first| !first.is_empty())).then_some(words)
}

impl Doveadm {
    /// Takes a line apart.
    pub fn parse(line: &str) -> Result<Doveadm> {
        words(line).map(Doveadm).ok_or_else(|| DoveadmError::Words(line.to_owned()))
    }

    /// Takes the words as they are.
    pub fn from_words(words: Vec<String>) -> Result<Doveadm> {
        match words.first() {
            Some(first) if !first.is_empty() => Ok(Doveadm(words)),
            _ => Err(DoveadmError::Words(words.join(" "))),
        }
    }

    /// Runs it and gives what it printed.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let (program, own) = self.0.split_first().ok_or_else(|| DoveadmError::Words(String::new()))?;
        let trouble = |error| DoveadmError::Run { command: program.clone(), error };
        let mut child = Command::new(OsString::from(program))
            .args(own)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(trouble)?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let (status, output, errors) = std::thread::scope(|scope| {
            let output = scope.spawn(|| kept(output));
            let errors = scope.spawn(|| kept(errors));
            let status = wait(&mut child);
            (status, output.join().unwrap_or_default(), errors.join().unwrap_or_default())
        });
        let failed = |text: String| DoveadmError::Failed { command: program.clone(), text };
        let Some(status) = status.map_err(trouble)? else {
            return Err(failed(format!("no end after {} s", PATIENCE.as_secs())));
        };
        // It may print errors and end with 0.
        let bad = |line: &&str| ["Error:", "Fatal:", "Panic:"].iter().any(|mark| line.contains(mark));
        match errors.lines().rfind(bad) {
            Some(line) => Err(failed(line.to_owned())),
            None if status.success() => Ok(output),
            None => Err(failed(errors.lines().last().map_or_else(|| status.to_string(), str::to_owned))),
        }
    }

    /// The server's own name for a folder, whatever its separator and prefix are.
    fn folder(&self, user: &str, text: &str) -> Result<String> {
        let plain = |name: &str| name.replace(['.', '\\'], "/");
        let listed = self.run(&["mailbox", "list", "-u", user])?;
        let wanted = plain(text);
        let below = format!("/{wanted}");
        let exact = listed.lines().find(|line| plain(line) == wanted);
        exact
            .or_else(|| listed.lines().find(|line| plain(line).ends_with(&below)))
            .map(str::to_owned)
            .ok_or_else(|| DoveadmError::NoFolder(text.to_owned()))
    }

    /// Adds keywords to messages of a folder that are known by their GUIDs.
    pub(super) fn add_keywords(
        &self,
        user: &str,
        folder: &str,
        keywords: &str,
        guids: &[String],
    ) -> Result<()> {
        let folder = self.folder(user, folder)?;
        for some in guids.chunks(GUIDS_AT_ONCE.min(LINES_MAX)) {
            let mut arguments = vec!["flags", "add", "-u", user, keywords, "mailbox", &folder, "("];
            for (number, guid) in some.iter().enumerate() {
                if number > 0 {
                    arguments.push("OR");
                }
                arguments.extend(["guid", guid]);
            }
            arguments.push(")");
            self.run(&arguments)?;
        }
        Ok(())
    }
}

/// Reads to the end, keeping the first bytes.
fn kept(pipe: Option<impl Read>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut bytes = Vec::new();
    // What cannot be read was not said.
    drop(pipe.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes));
    drop(io::copy(&mut pipe, &mut io::sink()));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for the end; one that does not come is made, and gives `None`.
fn wait(child: &mut Child) -> io::Result<Option<std::process::ExitStatus>> {
    let begun = clock::stopwatch();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(NAP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_apart_as_in_a_shell() {
        for (line, wanted) in [
            ("doveadm", &["doveadm"][..]),
            ("  docker exec  dovecot doveadm ", &["docker", "exec", "dovecot", "doveadm"]),
            ("'a b' \"c 'd'\" e\\ f g''h", &["a b", "c 'd'", "e f", "gh"]),
            ("x \"\" $HOME *", &["x", "", "$HOME", "*"]),
        ] {
            assert_eq!(words(line).unwrap(), wanted, "{line}");
        }
        for bad in ["", "  ", "'a", "a \"b", "a\\", "''"] {
            assert!(Doveadm::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_are_heard_also_when_it_ends_with_0() {
        let run = |script: &str| {
            Doveadm::from_words(vec!["sh".into(), "-c".into(), script.into()]).unwrap().run(&[])
        };
        assert_eq!(run("echo a").unwrap(), "a\n");
        let error = run("echo 'doveadm(x): Error: no such user' >&2").unwrap_err();
        assert!(error.to_string().contains("no such user"));
        assert!(run("exit 75").is_err());
        assert!(Doveadm::parse("/no/such/program").unwrap().run(&[]).is_err());
    }
}
