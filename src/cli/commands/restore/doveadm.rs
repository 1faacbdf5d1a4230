//! Calls of Dovecot's `doveadm`.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use crate::base::bytes;
use crate::cli::commands::Context;
use crate::mail::folder_name;
use crate::ops::pick;
use crate::source::command::CommandSource;

/// Words as they are typed into a shell.
pub fn shell_words(words: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./@%+=:,".contains(&byte))
    };
    let quoted = words.iter().map(|word| match plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// How the calls of `doveadm` went.
#[derive(Default)]
pub struct Ran {
    /// All were made, and went well.
    pub done: bool,
    /// One went wrong.
    pub failed: bool,
    /// What is to be said about it.
    pub complaints: Vec<String>,
}

/// Runs `doveadm` for each folder, where it is configured and shows the Maildir that was rebuilt.
pub fn run(lines: &[Vec<String>], maildir: &Path, user: &str, context: &Context<'_>) -> Ran {
    let mut ran = Ran::default();
    let Some(command) = &context.settings.doveadm else { return ran };
    let ask = |words: &[&str]| call(command, words.iter().map(|word| (*word).to_owned()));
    match ask(&["mailbox", "path", "-u", user, "INBOX"]) {
        Ok(path) if is_same(Path::new(path.trim_end()), maildir) => {}
        Ok(path) => {
            let path = bytes::display(path.trim_end().as_bytes());
            ran.complaints
                .push(format!("doveadm says that the mail of {user} is at {path}: nothing was run"));
            return ran;
        }
        Err(error) => {
            ran.complaints.push(error);
            ran.failed = true;
            return ran;
        }
    }
    let known = ask(&["mailbox", "list", "-u", user]).unwrap_or_default();
    for line in lines {
        let mut words = line.clone();
        if let Some(folder) = words.last_mut() {
            let own = known.lines().find(|name| {
                [name.to_string(), folder_name::decode(name.as_bytes())]
                    .iter()
                    .any(|name| pick::is_folder(folder, name))
            });
            *folder = own.map_or_else(|| folder.clone(), str::to_owned);
        }
        if let Err(error) = call(command, words.into_iter()) {
            ran.failed = true;
            ran.complaints.push(error);
        }
    }
    ran.done = !ran.failed;
    ran
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// Most bytes that are read of what `doveadm` says.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

fn call(command: &[String], words: impl Iterator<Item = String>) -> Result<String, String> {
    let arguments: Vec<OsString> = command.iter().skip(1).cloned().chain(words).map(OsString::from).collect();
    let program = OsString::from(command.first().map(String::as_str).unwrap_or_default());
    let mut source = CommandSource::start(&program, &arguments).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let read = (&mut source).take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    read.map_err(|error| format!("doveadm: {error}"))?;
    source.finish().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_safe_in_a_shell() {
        let words = ["mailbox", "a b", "x'y", "Entwürfe", ""].map(str::to_owned);
        assert_eq!(shell_words(&words), "mailbox 'a b' 'x'\\''y' 'Entwürfe' ''");
    }
}
