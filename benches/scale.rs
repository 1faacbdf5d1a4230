//! Makes a mail server's tree of any size, and what happens to it between two backups.
//!
//! `cargo bench --bench scale -- VERB DIR [--messages N] [--users N] [--boxes N] [--seed N] [--round N]`
//!
//! `make` writes the tree, `open` lets a real Dovecot open every folder, `change` adds 100 messages, flags 100 and
//! deletes 50 over 30 folders (`change-dovecot`: by Dovecot), `logins` lets 500 clients look and change nothing. The
//! numbers must be those the tree was made with. The same numbers make the same tree.

#![allow(missing_docs)]

#[path = "scale/change.rs"]
mod change;
#[path = "../tests/it/imap.rs"]
#[allow(dead_code)] // The storm test uses more of it.
mod imap;
#[path = "scale/message.rs"]
mod message;
#[path = "scale/tree.rs"]
mod tree;
#[path = "scale/words.rs"]
mod words;

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use imap::{Dovecot, NOBODY};

struct Arguments {
    verb: String,
    root: PathBuf,
    messages: u64,
    users: u64,
    boxes: u64,
    seed: u64,
    round: u64,
}

fn arguments() -> Option<Arguments> {
    // Cargo adds an argument of its own to every bench.
    let given: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |name: &str, default: u64| match given.iter().position(|argument| argument == name) {
        Some(at) => given.get(at + 1).and_then(|value| value.replace('_', "").parse().ok()),
        None => Some(default),
    };
    Some(Arguments {
        verb: given.first()?.clone(),
        root: std::path::absolute(given.get(1)?).ok()?,
        messages: number("--messages", 10_000)?,
        users: number("--users", 25)?,
        boxes: number("--boxes", 10)?,
        seed: number("--seed", 1)?,
        round: number("--round", 1)?,
    })
}

/// Mail belongs to an unprivileged user, whom Dovecot can serve.
fn become_nobody(root: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return fs::create_dir_all(root);
    }
    for folder in [root.to_owned(), beside(root)] {
        fs::create_dir_all(&folder)?;
        std::os::unix::fs::lchown(&folder, Some(NOBODY), Some(NOBODY))?;
    }
    let mut again = Command::new("setpriv");
    again.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]).arg("--clear-groups");
    Err(again.arg(std::env::current_exe()?).args(std::env::args().skip(1)).exec())
}

/// Dovecot's own files lie beside the tree, not in it.
fn beside(root: &Path) -> PathBuf {
    root.with_extension("dovecot")
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let Arguments { root, messages, users, boxes, seed, round, .. } = arguments;
    let folders = tree::folders(root, *users, *boxes);
    let dovecot =
        || Dovecot::find(&beside(root))?.ok_or_else(|| io::Error::other("dovecot-imapd is not installed"));
    let watch = mailark::base::clock::stopwatch();
    match arguments.verb.as_str() {
        "make" => {
            let (count, bytes) = tree::make(root, *seed, *messages, (*users, *boxes))?;
            println!("{count} messages in {} folders, mean {} bytes", folders.len(), bytes / count.max(1));
        }
        "open" => println!("{} folders opened", change::open(&folders, &dovecot()?)?),
        "logins" => println!("{} logins", change::logins(&folders, &dovecot()?, *seed, (*round, 500))?),
        "change" => println!("{:?}", change::change(&folders, *seed, *messages, *round)?),
        "change-dovecot" => {
            let done = change::change_by_dovecot(&folders, &dovecot()?, *seed, (*messages, *round))?;
            println!("{done:?}");
        }
        other => return Err(io::Error::other(format!("no verb '{other}'"))),
    }
    println!("{} took {:.1} s", arguments.verb, watch.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        // `cargo bench` and `cargo test` call every bench without arguments.
        println!("scale: VERB DIR [--messages N] [--users N] [--boxes N] [--seed N] [--round N]");
        return ExitCode::SUCCESS;
    };
    match become_nobody(&arguments.root).and_then(|()| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}
