//! A command's standard output as a source: dumps of databases and directories.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::SourceError;
use crate::base::bytes;

/// Bytes of its standard error that are kept for the report.
const STDERR_BYTES_MAX: usize = 2 << 10;

/// A child of the command may hold standard error open after the command itself has ended.
const STDERR_WAIT: Duration = Duration::from_millis(500);

/// A running command; reading gives its standard output.
///
/// Only [`CommandSource::finish`] tells whether the output is complete; dropping kills the command.
#[derive(Debug)]
pub struct CommandSource {
    program: String,
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Receiver<Vec<u8>>,
    ended: bool,
}

fn keep_tail(mut stderr: ChildStderr) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(got @ 1..) = stderr.read(&mut buffer) {
        tail.extend_from_slice(&buffer[..got]);
        let excess = tail.len().saturating_sub(STDERR_BYTES_MAX);
        tail.drain(..excess);
    }
    tail
}

fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

impl CommandSource {
    /// Starts a program with arguments; its standard input is empty.
    pub fn start(program: &OsString, arguments: &[OsString]) -> Result<CommandSource, SourceError> {
        let shown = bytes::display(program.as_encoded_bytes());
        let trouble = |error| SourceError::Command { command: shown.clone(), error };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(trouble)?;
        let stdout = child.stdout.take();
        let (sender, stderr) = channel();
        if let Some(pipe) = child.stderr.take() {
            // The receiver may have stopped waiting.
            thread::spawn(move || sender.send(keep_tail(pipe)).ok());
        }
        Ok(CommandSource { program: shown, child, stdout, stderr, ended: false })
    }

    /// Waits for the end and fails unless the command reported success.
    ///
    /// What was not read of its output is thrown away, which most commands take for a failure.
    pub fn finish(mut self) -> Result<(), SourceError> {
        drop(self.stdout.take());
        let status = self
            .child
            .wait()
            .map_err(|error| SourceError::Command { command: self.program.clone(), error })?;
        self.ended = true;
        if status.success() {
            return Ok(());
        }
        let stderr = self.stderr.recv_timeout(STDERR_WAIT).unwrap_or_default();
        Err(SourceError::CommandFailed {
            command: self.program.clone(),
            outcome: outcome(status),
            stderr: bytes::display(stderr.trim_ascii()),
        })
    }
}

impl Read for CommandSource {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(out))
    }
}

impl Drop for CommandSource {
    fn drop(&mut self) {
        if !self.ended {
            // It may have ended already; nothing is lost then.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Vec<u8>, Result<(), SourceError>) {
        let mut source = CommandSource::start(&"sh".into(), &["-c".into(), script.into()]).unwrap();
        let mut output = Vec::new();
        source.read_to_end(&mut output).unwrap();
        (output, source.finish())
    }

    #[test]
    fn output_counts_only_with_success() {
        let (output, end) = shell("echo hello; head -c 300000 /dev/zero");
        assert_eq!(output.len(), 300_006);
        end.unwrap();
        let (output, end) = shell("echo part; echo oops >&2; exit 3");
        assert_eq!(output, b"part\n");
        assert_eq!(end.unwrap_err().to_string(), "sh ended with status 3: oops");
        let (_, end) = shell("kill -9 $$");
        assert_eq!(end.unwrap_err().to_string(), "sh was ended by signal 9");
        assert!(CommandSource::start(&"/nonexistent/program".into(), &[]).is_err());
    }

    #[test]
    fn much_on_standard_error_does_not_block() {
        let (output, end) = shell("head -c 1000000 /dev/zero >&2; echo done; exit 1");
        assert_eq!(output, b"done\n");
        assert!(end.is_err());
    }

    #[test]
    fn a_dropped_command_is_killed() {
        drop(CommandSource::start(&"sleep".into(), &["1000".into()]).unwrap());
    }
}
