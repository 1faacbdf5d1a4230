//! Asking a person: `/dev/tty` without echo, whatever standard input is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroize;

use super::failure::{Failure, Kind};
use super::secret::PASSWORD_BYTES_MAX;
use crate::base::interrupt::Interrupt;

/// How often a waiting question looks whether somebody asked to stop.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// The controlling terminal.
#[derive(Debug)]
pub struct Terminal {
    device: File,
}

/// The terminal without echo; gives the old settings back when dropped.
struct Silenced<'a> {
    device: &'a File,
    before: Termios,
}

impl<'a> Silenced<'a> {
    /// Keys arrive one by one and unseen. Ctrl-C arrives as a key too: a signal could end the program between
    /// here and the drop, and leave the person with a dead terminal.
    fn new(device: &'a File) -> io::Result<Self> {
        let before = tcgetattr(device)?;
        let mut silent = before.clone();
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(device, OptionalActions::Flush, &silent)?;
        Ok(Silenced { device, before })
    }
}

impl Drop for Silenced<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.device, OptionalActions::Now, &self.before);
    }
}

/// What one key did to the line being typed.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    More,
    Done,
    Stop,
}

impl Terminal {
    /// Opens the controlling terminal; an error means that there is nobody to ask.
    pub fn open() -> io::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        tcgetattr(&device)?;
        Ok(Terminal { device })
    }

    /// Asks for one line; a raised `interrupt` fails as interrupted.
    pub fn ask(&mut self, question: &str, interrupt: &Interrupt) -> Result<String, Failure> {
        let trouble = |error: io::Error| Failure::because(Kind::Storage, "ask at the terminal", &error);
        write!(self.device, "{question}").map_err(trouble)?;
        let mut line = Vec::new();
        match read_line(&self.device, &mut line, interrupt) {
            Ok(true) => Ok(String::from_utf8_lossy(&line).into_owned()),
            Ok(false) => Err(unanswered()),
            Err(error) => Err(trouble(error)),
        }
    }

    /// Asks for one line that is not shown; Ctrl-C, and a raised `interrupt`, fail as interrupted.
    pub fn ask_hidden(&mut self, question: &str, interrupt: &Interrupt) -> Result<String, Failure> {
        let trouble = |error: io::Error| Failure::because(Kind::Storage, "ask at the terminal", &error);
        write!(self.device, "{question}").map_err(trouble)?;
        let silenced = Silenced::new(&self.device).map_err(trouble)?;
        let mut line = Vec::new();
        let typed = read_line(&self.device, &mut line, interrupt);
        drop(silenced);
        drop(writeln!(self.device));
        let text = match typed {
            Ok(true) => std::str::from_utf8(&line)
                .map(str::to_owned)
                .map_err(|_| Failure::new(Kind::Key, "what was typed is not UTF-8 text")),
            Ok(false) => Err(unanswered()),
            Err(error) => Err(trouble(error)),
        };
        line.zeroize();
        text
    }
}

/// Somebody asked to stop instead of answering, or the terminal went away.
fn unanswered() -> Failure {
    Failure::new(Kind::Interrupted, "the question was not answered: nothing was done")
}

/// Reads keys until the line ends (true) or somebody asks to stop (false).
fn read_line(mut device: &File, line: &mut Vec<u8>, interrupt: &Interrupt) -> io::Result<bool> {
    loop {
        if interrupt.is_raised() {
            return Ok(false);
        }
        let mut waiting = [PollFd::new(device, PollFlags::IN)];
        match poll(&mut waiting, Some(&LOOK_EVERY)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut byte = [0];
        if device.read(&mut byte)? == 0 {
            // The terminal hung up.
            return Ok(false);
        }
        match press(line, byte[0]) {
            Key::More if line.len() > PASSWORD_BYTES_MAX => return Err(io::ErrorKind::InvalidInput.into()),
            Key::More => {}
            Key::Done => return Ok(true),
            Key::Stop => return Ok(false),
        }
    }
}

fn press(line: &mut Vec<u8>, byte: u8) -> Key {
    const CTRL_C: u8 = 0x03;
    const CTRL_D: u8 = 0x04;
    const BACKSPACE: u8 = 0x08;
    const CTRL_U: u8 = 0x15;
    const DELETE: u8 = 0x7f;
    match byte {
        b'\n' | b'\r' | CTRL_D => return Key::Done,
        CTRL_C => return Key::Stop,
        CTRL_U => line.zeroize(),
        BACKSPACE | DELETE => {
            // One character, not one byte: continuation bytes of UTF-8 go with their lead.
            while let Some(last) = line.pop() {
                if last & 0xc0 != 0x80 {
                    break;
                }
            }
        }
        _ => line.push(byte),
    }
    Key::More
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> (Vec<u8>, Key) {
        let mut line = Vec::new();
        for &key in keys {
            match press(&mut line, key) {
                Key::More => {}
                end => return (line, end),
            }
        }
        (line, Key::More)
    }

    #[test]
    fn keys_edit_the_line() {
        assert_eq!(typed(b"ab\rc"), (b"ab".to_vec(), Key::Done));
        assert_eq!(typed("aß\x7f\x7fb\n".as_bytes()), (b"b".to_vec(), Key::Done));
        assert_eq!(typed(b"\x7f\x08x\n"), (b"x".to_vec(), Key::Done));
        assert_eq!(typed(b"wrong\x15right\n"), (b"right".to_vec(), Key::Done));
        assert_eq!(typed(b"abc\x03").1, Key::Stop);
    }
}
