//! Where the key comes from: a file, a command, the environment, or a person at the terminal.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use zeroize::Zeroize;

use super::failure::{Failure, Kind};
use super::output::complain;
use super::settings::KeySource;
use super::terminal::Terminal;
use crate::base::entropy;
use crate::base::interrupt::Interrupt;
use crate::base::limits::{KEY_FILE_BYTES_MAX, KEY_FILE_BYTES_MIN};
pub use crate::crypto::slot::Secret;

/// Most bytes in a password.
pub const PASSWORD_BYTES_MAX: usize = 64 << 10;

/// Gets the secret that opens a repository.
pub fn obtain(source: &KeySource, interrupt: &Interrupt) -> Result<Secret, Failure> {
    match source {
        KeySource::KeyFile(path) => key_file(path),
        KeySource::Password(password) => password_from(password.reveal().as_bytes(), "MAILARK_PASSWORD"),
        KeySource::PasswordFile(path) => password_file(path),
        KeySource::PasswordCommand(command) => password_command(command),
        KeySource::Prompt => {
            let mut terminal = Terminal::open().map_err(|_| nothing_given())?;
            terminal.ask_hidden("password: ", interrupt).and_then(|typed| not_empty(typed, "the password"))
        }
        KeySource::RecoveryPrompt => ask_recovery_code(interrupt),
        KeySource::RecoveryFile(path) => recovery_code_file(path),
    }
}

/// Asks a person for a new password, twice.
pub fn ask_new_password(interrupt: &Interrupt) -> Result<Secret, Failure> {
    let mut terminal = Terminal::open().map_err(|_| nothing_given())?;
    loop {
        let mut first = terminal.ask_hidden("new password: ", interrupt)?;
        if first.is_empty() {
            return Err(Failure::new(Kind::Key, "the new password is empty"));
        }
        let mut second = terminal.ask_hidden("the same again: ", interrupt)?;
        let same = first == second;
        second.zeroize();
        if same {
            return Ok(Secret::Password(first));
        }
        first.zeroize();
        complain("the two differ; once more\n");
    }
}

/// Asks a person for the recovery code.
pub fn ask_recovery_code(interrupt: &Interrupt) -> Result<Secret, Failure> {
    let mut terminal = Terminal::open().map_err(|_| nothing_given())?;
    let typed = terminal.ask_hidden("recovery code: ", interrupt)?;
    if typed.is_empty() {
        return Err(Failure::new(Kind::Key, "the recovery code is empty"));
    }
    Ok(Secret::Recovery(typed))
}

fn nothing_given() -> Failure {
    Failure::new(Kind::Key, "no key given, and no terminal to ask at")
        .hint("name a key file with --key-file or MAILARK_KEY_FILE")
        .hint("or a password with --password-file, --password-command or MAILARK_PASSWORD_FILE")
        .hint("or the recovery code with --recovery-code-file")
}

/// Reads a key file: its exact bytes are the key.
pub fn key_file(path: &Path) -> Result<Secret, Failure> {
    let bytes = read_small(path, KEY_FILE_BYTES_MAX, "key file")?;
    // Wrapped at once, so that a refused key is wiped as well.
    let length = bytes.len();
    let secret = Secret::KeyFile(bytes);
    if length < KEY_FILE_BYTES_MIN {
        let what = format!("key file {}: {length} bytes are too few", path.display());
        return Err(Failure::new(Kind::Key, what)
            .hint(format!("a key file holds {KEY_FILE_BYTES_MIN} random bytes or more")));
    }
    warn_if_readable_by_others(path);
    Ok(secret)
}

/// Makes a key file of 32 random bytes that only its owner can read; never replaces one.
pub fn make_key_file(path: &Path) -> Result<Secret, Failure> {
    let trouble = |error: std::io::Error| {
        Failure::because(Kind::Storage, &format!("make key file {}", path.display()), &error)
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(trouble)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(trouble)?;
    let secret = Secret::KeyFile(entropy::random::<KEY_FILE_BYTES_MIN>().to_vec());
    if let Secret::KeyFile(bytes) = &secret {
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(trouble)?;
    }
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        // A key that a power cut takes away after a backup used it would be worse than none.
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(trouble)?;
    }
    Ok(secret)
}

/// Reads a password from a file; one line ending at its end is not part of it.
pub fn password_file(path: &Path) -> Result<Secret, Failure> {
    let mut bytes = read_small(path, PASSWORD_BYTES_MAX, "password file")?;
    warn_if_readable_by_others(path);
    let secret = password_from(&bytes, &format!("password file {}", path.display()));
    bytes.zeroize();
    secret
}

/// Reads a recovery code from a file; spaces, line breaks and dashes in it do not matter.
pub fn recovery_code_file(path: &Path) -> Result<Secret, Failure> {
    let bytes = read_small(path, PASSWORD_BYTES_MAX, "recovery code file")?;
    warn_if_readable_by_others(path);
    String::from_utf8(bytes).map(Secret::Recovery).map_err(|error| {
        error.into_bytes().zeroize();
        Failure::new(Kind::Key, format!("recovery code file {} is not UTF-8 text", path.display()))
    })
}

/// Takes a password from what a shell command writes to its standard output.
pub fn password_command(command: &str) -> Result<Secret, Failure> {
    let trouble = |error: std::io::Error| Failure::because(Kind::Key, "run the password command", &error);
    let mut child =
        Command::new("/bin/sh").arg("-c").arg(command).stdout(Stdio::piped()).spawn().map_err(trouble)?;
    let mut bytes = Vec::new();
    let output = child.stdout.take().expect("the pipe was asked for");
    // The pipe closes when this ends, so a command that writes without end gets SIGPIPE.
    let read = output.take(PASSWORD_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    let status = child.wait().map_err(trouble)?;
    read.map_err(trouble)?;
    let secret = if bytes.len() > PASSWORD_BYTES_MAX {
        Err(Failure::new(
            Kind::Key,
            format!("the password command wrote more than {PASSWORD_BYTES_MAX} bytes"),
        ))
    } else if !status.success() {
        Err(Failure::new(Kind::Key, format!("the password command failed ({status})")))
    } else {
        password_from(&bytes, "the password command")
    };
    bytes.zeroize();
    secret
}

fn password_from(bytes: &[u8], what: &str) -> Result<Secret, Failure> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(text) => not_empty(text.to_owned(), what),
        Err(_) => Err(Failure::new(Kind::Key, format!("{what} is not UTF-8 text"))
            .hint("random bytes belong into a key file: --key-file")),
    }
}

fn not_empty(text: String, what: &str) -> Result<Secret, Failure> {
    if text.is_empty() {
        return Err(Failure::new(Kind::Key, format!("{what} is empty")));
    }
    Ok(Secret::Password(text))
}

fn read_small(path: &Path, bytes_max: usize, what: &str) -> Result<Vec<u8>, Failure> {
    let trouble =
        |error: std::io::Error| Failure::because(Kind::Key, &format!("{what} {}", path.display()), &error);
    let file = std::fs::File::open(path).map_err(trouble)?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(trouble)?;
    if bytes.len() > bytes_max {
        bytes.zeroize();
        return Err(Failure::new(
            Kind::Key,
            format!("{what} {}: more than {bytes_max} bytes", path.display()),
        ));
    }
    Ok(bytes)
}

fn warn_if_readable_by_others(path: &Path) {
    // Pipes and systemd credentials have modes of their own; only plain files are judged.
    if let Ok(about) = std::fs::metadata(path)
        && about.is_file()
        && about.mode() & 0o044 != 0
    {
        complain(&format!("mailark: warning: {} can be read by others; chmod 600 it\n", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &Secret, b: &Secret) -> bool {
        match (a, b) {
            (Secret::Password(a), Secret::Password(b)) | (Secret::Recovery(a), Secret::Recovery(b)) => a == b,
            (Secret::KeyFile(a), Secret::KeyFile(b)) => a == b,
            _ => false,
        }
    }

    #[test]
    fn a_made_key_file_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/key");
        let made = make_key_file(&path).unwrap();
        assert!(same(&key_file(&path).unwrap(), &made));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(make_key_file(&path).unwrap_err().kind, Kind::Storage, "a key is never replaced");
    }

    #[test]
    fn short_huge_and_missing_key_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(key_file(&path).unwrap_err().kind, Kind::Key);
        for length in [0, 31, KEY_FILE_BYTES_MAX + 1] {
            std::fs::write(&path, vec![b'k'; length]).unwrap();
            assert_eq!(key_file(&path).unwrap_err().kind, Kind::Key, "{length}");
        }
        std::fs::write(&path, [0xff; 32]).unwrap();
        assert!(same(&key_file(&path).unwrap(), &Secret::KeyFile(vec![0xff; 32])));
    }

    #[test]
    fn passwords_lose_one_line_ending_only() {
        for (bytes, password) in [(&b"a b"[..], "a b"), (b"x\n", "x"), (b"x\r\n", "x"), (b"x\n\n", "x\n")] {
            assert!(same(&password_from(bytes, "it").unwrap(), &Secret::Password(password.into())));
        }
        for wrong in [&b""[..], b"\n", b"\xff\xfe"] {
            assert_eq!(password_from(wrong, "it").unwrap_err().kind, Kind::Key);
        }
    }

    #[test]
    fn a_password_command_must_succeed_and_stop() {
        assert!(same(&password_command("echo sesame").unwrap(), &Secret::Password("sesame".into())));
        for wrong in ["false", "echo x; exit 3", "true", "yes", "no-such-command-anywhere 2>/dev/null"] {
            assert_eq!(password_command(wrong).unwrap_err().kind, Kind::Key, "{wrong}");
        }
    }
}
