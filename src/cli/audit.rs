//! Who looked for whose mail: a local log, one JSON object a line, each with the digest of the line before.
//!
//! It lies beside the high-water marks of this client. A line that was changed or taken out breaks the chain from there
//! on, which `mailark audit` tells; who may write the file can still write all of it anew. It is no record of the
//! repository, because every run of every host reads those.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::commands::Context;
use super::output::{complain, rfc3339};
use crate::base::clock;
use crate::base::id::RepositoryId;

/// Longest line that is read back.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Most that is read of a log.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Digits of a digest.
const DIGITS: usize = 32;

fn path_of(state_dir: &Path, repository: RepositoryId) -> PathBuf {
    state_dir.join(repository.to_string()).join("audit.log")
}

/// Where to note what happens to the mail of a repository.
#[derive(Debug, Clone)]
pub struct Log {
    path: PathBuf,
    host: String,
}

impl Log {
    /// The log of this client for a repository.
    pub fn of(context: &Context<'_>, repository: RepositoryId) -> Log {
        let path = path_of(&context.settings.state_dir, repository);
        Log { path, host: context.settings.host.value.clone() }
    }

    /// Notes that whoever runs this used `command` to look for `query`, and saw mail of `users`.
    ///
    /// A log that cannot be written is told and keeps nobody from getting mail back.
    pub fn note(&self, command: &str, query: &Value, users: &[&str]) {
        let uid = rustix::process::getuid().as_raw();
        self.write((uid, variable("USER"), variable("SUDO_USER")), command, query, users);
    }

    /// Notes that a user of this system looked at mail that a `command` of somebody else shows.
    pub fn note_other(&self, uid: u32, command: &str, query: &Value, user: &str) {
        self.write((uid, None, None), command, query, &[user]);
    }

    fn write(
        &self,
        (uid, user, sudo_user): (u32, Option<String>, Option<String>),
        command: &str,
        query: &Value,
        users: &[&str],
    ) {
        let entry = json!({
            "at": rfc3339(clock::now()),
            "host": self.host,
            "uid": uid,
            "user": user,
            "sudo_user": sudo_user,
            "command": command,
            "query": query,
            "mail_of": users,
        });
        if let Err(error) = append(&self.path, entry) {
            complain(&format!("mailark: note in {}: {error}\n", self.path.display()));
        }
    }
}

/// The command line, as it was typed.
pub fn words() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Notes that somebody used `command` to look for `query`, and saw mail of `users`.
pub fn note(context: &Context<'_>, repository: RepositoryId, command: &str, query: &Value, users: &[&str]) {
    Log::of(context, repository).note(command, query, users);
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn digest(line: &[u8]) -> String {
    blake3::hash(line).to_hex()[..DIGITS].to_owned()
}

fn append(path: &Path, mut entry: Value) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(Path::new("/")))?;
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // Two at once: each line follows the one before.
    file.lock()?;
    entry["before"] = last_line(&mut file)?.map(|line| digest(&line)).into();
    let mut line = serde_json::to_vec(&entry)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_data()
}

/// The last line without its end; what a crash left unfinished is ended first.
fn last_line(file: &mut fs::File) -> io::Result<Option<Vec<u8>>> {
    let length = file.metadata()?.len();
    let window = length.min(LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(length - window))?;
    let mut bytes = Vec::new();
    Read::by_ref(file).take(window).read_to_end(&mut bytes)?;
    if bytes.last().is_some_and(|&last| last != b'\n') {
        file.write_all(b"\n")?;
        bytes.push(b'\n');
    }
    let Some(end) = bytes.len().checked_sub(1) else { return Ok(None) };
    let begin = memchr::memrchr(b'\n', &bytes[..end]).map_or(0, |at| at + 1);
    Ok(Some(bytes[begin..end].to_vec()))
}

/// The entries of a log, oldest first, each with whether it follows the one before; none where there is no log.
pub fn read(state_dir: &Path, repository: RepositoryId) -> io::Result<Vec<(Value, bool)>> {
    let file = match fs::File::open(path_of(state_dir, repository)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    let mut before = Value::Null;
    let mut entries = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let entry: Value = serde_json::from_slice(line).unwrap_or(Value::Null);
        let follows = entry.is_object() && entry["before"] == before;
        entries.push((entry, follows));
        before = digest(line).into();
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_holds_on_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let id = RepositoryId([3; 16]);
        assert!(read(dir.path(), id).unwrap().is_empty());
        let path = path_of(dir.path(), id);
        for number in 0..4 {
            append(&path, json!({ "command": "find", "number": number })).unwrap();
        }
        let follows =
            || read(dir.path(), id).unwrap().iter().map(|(_, follows)| *follows).collect::<Vec<_>>();
        assert_eq!(follows(), [true; 4]);
        let text = fs::read_to_string(&path).unwrap();
        let without: Vec<&str> =
            text.lines().enumerate().filter(|(at, _)| *at != 1).map(|(_, line)| line).collect();
        fs::write(&path, without.join("\n")).unwrap();
        assert_eq!(follows(), [true, false, true]);
        // The end that was missing is made first.
        append(&path, json!({ "command": "show" })).unwrap();
        assert_eq!(follows(), [true, false, true, true]);
        fs::write(&path, text.replace("\"number\":2", "\"number\":7")).unwrap();
        assert_eq!(follows(), [true, true, true, false]);
    }
}
