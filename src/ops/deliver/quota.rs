//! `maildirsize`: what the quota of a Maildir++ mailbox counts. Whoever adds or takes mail adds a line to it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::Result;
use super::dirs::{self, trouble};
use crate::source::dir::OpenDir;
use crate::source::meta;

const NAME: &[u8] = b"maildirsize";

/// Messages and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Weight {
    pub(super) messages: i64,
    pub(super) bytes: i64,
}

impl Weight {
    /// What has come since.
    pub(super) fn since(self, before: Weight) -> Weight {
        Weight { messages: self.messages - before.messages, bytes: self.bytes - before.bytes }
    }

    /// As much the other way.
    pub(super) fn away(self) -> Weight {
        Weight::default().since(self)
    }
}

/// What lies below a folder of ours in parts of mail folders.
pub(super) fn weigh(dir: &OpenDir) -> Weight {
    let mut weight = Weight::default();
    for (_, name) in dir.names().0 {
        let Ok(below) = dirs::step(dir, &name) else { continue };
        if matches!(&*name, b"cur" | b"new") {
            for (_, name) in below.names().0 {
                if let Ok((_, meta)) = meta::of_entry(below.fd(), &name) {
                    weight.messages += 1;
                    weight.bytes += i64::try_from(meta.size).unwrap_or_default();
                }
            }
        } else {
            let more = weigh(&below);
            weight = Weight { messages: weight.messages + more.messages, bytes: weight.bytes + more.bytes };
        }
    }
    weight
}

/// Adds a line, where the mailbox has such a file.
pub(super) fn note(root: &OpenDir, weight: Weight) -> Result<()> {
    if weight == Weight::default() {
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(root.fd(), NAME, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A link is no file of the mail server's.
        Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(trouble("open", root, NAME)(errno)),
    };
    if !file.metadata().is_ok_and(|meta| meta.is_file() && meta.nlink() == 1) {
        return Ok(());
    }
    let line = format!("{} {}\n", weight.bytes, weight.messages);
    (&file).write_all(line.as_bytes()).map_err(|error| trouble("write", root, NAME)(dirs::errno_of(&error)))
}
