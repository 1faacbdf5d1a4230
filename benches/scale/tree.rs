//! The tree: users with folders, each message delivered to one of them, in the order of time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, futimens};

use crate::message::{Message, Writer};
use crate::words::Dice;

const NAMES: [&str; 20] = [
    "",
    ".Archive",
    ".Sent",
    ".Trash",
    ".Drafts",
    ".Junk",
    ".Projects",
    ".Lists",
    ".Invoices",
    ".Archive.2024",
    ".Archive.2023",
    ".Customers",
    ".Family",
    ".Travel",
    ".Reports",
    ".Projects.North",
    ".Projects.South",
    ".Lists.Kernel",
    ".Lists.Announce",
    ".Old",
];
const FLAGS: [&str; 8] = ["S", "S", "S", "S", "RS", "", "FS", "S"];

/// A user's folder.
#[derive(Clone)]
pub struct Folder {
    pub user: String,
    /// The user's Maildir.
    pub maildir: PathBuf,
    /// As IMAP calls it.
    pub mailbox: String,
    /// What holds `cur`, `new`, `tmp`.
    pub path: PathBuf,
}

/// All folders of a tree, in the same order for the same numbers.
pub fn folders(root: &Path, users: u64, each: u64) -> Vec<Folder> {
    let each = each.min(NAMES.len() as u64) as usize;
    let of_user = |number: u64| {
        let user = format!("u{number:04}");
        let maildir = root.join("example.org").join(&user);
        NAMES[..each].iter().map(move |name| Folder {
            user: user.clone(),
            path: maildir.join(name),
            maildir: maildir.clone(),
            mailbox: if name.is_empty() { "INBOX".to_owned() } else { name[1..].to_owned() },
        })
    };
    (0..users).flat_map(of_user).collect()
}

/// Writes one message file with its delivery as its time.
pub fn deliver(folder: &Path, message: &Message, flags: Option<&str>) -> io::Result<()> {
    let path = match flags {
        Some(flags) => folder.join("cur").join(format!("{}:2,{flags}", message.name)),
        None => folder.join("new").join(&message.name),
    };
    let mut file = File::create_new(path)?;
    file.write_all(&message.bytes)?;
    let time = Timespec { tv_sec: message.second, tv_nsec: 0 };
    Ok(futimens(&file, &Timestamps { last_access: time, last_modification: time })?)
}

/// Makes the whole tree; gives messages and bytes.
pub fn make(root: &Path, seed: u64, count: u64, (users, each): (u64, u64)) -> io::Result<(u64, u64)> {
    let folders = folders(root, users, each);
    for folder in &folders {
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(folder.path.join(part))?;
        }
        if folder.mailbox != "INBOX" {
            File::create(folder.path.join("maildirfolder"))?;
        }
    }
    for user in folders.iter().filter(|folder| folder.mailbox == "INBOX") {
        let own = folders.iter().filter(|folder| folder.user == user.user && folder.mailbox != "INBOX");
        let subscribed: String = own.map(|folder| format!("{}\n", folder.mailbox)).collect();
        fs::write(user.maildir.join("subscriptions"), subscribed)?;
    }
    let writer = Writer::new(seed, count);
    let mut bytes = 0;
    for number in 0..count {
        let mut dice = Dice::new(seed ^ 0x0077_6865_7265, number);
        // The first folders of a user get more than the last, and no two users the same.
        let user = dice.below(users);
        let favourite = dice.skewed(each * 3).min(each * 3 - 1) % each;
        let spread = if dice.percent(50) { favourite } else { dice.below(each) };
        let folder = &folders[(user * each + spread) as usize];
        let message = writer.message(number, &folder.user);
        let flags = (!dice.percent(2)).then(|| *dice.of(&FLAGS));
        deliver(&folder.path, &message, flags)?;
        bytes += message.bytes.len() as u64;
        if (number + 1).is_multiple_of(100_000) {
            println!("{} messages, {} MB", number + 1, bytes / 1_000_000);
        }
    }
    Ok((count, bytes))
}
