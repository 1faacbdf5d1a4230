//! What happens to a tree between two backups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::imap::{Dovecot, Imap};
use crate::message::Writer;
use crate::tree::{Folder, deliver};
use crate::words::Dice;

const NEW: usize = 100;
const FLAGGED: usize = 100;
const DELETED: usize = 50;
const FOLDERS: usize = 30;

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    pub new: usize,
    pub flagged: usize,
    pub deleted: usize,
}

/// So many different ones, in the dice's order.
fn some<T: Clone>(dice: &mut Dice, items: &[T], count: usize) -> Vec<T> {
    let mut left: Vec<T> = items.to_vec();
    (0..count.min(left.len())).map(|_| left.swap_remove(dice.below(left.len() as u64) as usize)).collect()
}

fn with_flag(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let (base, flags) = name.split_once(":2,")?;
    let flags = match flags.contains('F') {
        true => flags.replace('F', ""),
        false => {
            let mut with: Vec<char> = flags.chars().chain(['F']).collect();
            with.sort_unstable();
            with.into_iter().collect()
        }
    };
    Some(path.with_file_name(format!("{base}:2,{flags}")))
}

/// Adds 100 messages, changes the flags of 100 and deletes 50, in 30 folders, as other programs than Dovecot do.
pub fn change(folders: &[Folder], seed: u64, count: u64, round: u64) -> io::Result<Done> {
    let mut dice = Dice::new(seed ^ 0x6368_616e_6765, round);
    let chosen = some(&mut dice, folders, FOLDERS);
    let writer = Writer::new(seed, count);
    let mut done = Done::default();
    for number in 0..NEW {
        let folder = &chosen[number % chosen.len()];
        let message = writer.message(count + round * 1_000 + number as u64, &folder.user);
        deliver(&folder.path, &message, None)?;
        done.new += 1;
    }
    for (number, folder) in chosen.iter().enumerate() {
        let share = |all: usize| (number + 1) * all / chosen.len() - number * all / chosen.len();
        let mut cur = fs::read_dir(folder.path.join("cur"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        cur.sort();
        let hit = some(&mut dice, &cur, share(FLAGGED) + share(DELETED));
        let (flagged, deleted) = hit.split_at(share(FLAGGED).min(hit.len()));
        for path in flagged {
            if let Some(to) = with_flag(path) {
                fs::rename(path, to)?;
                done.flagged += 1;
            }
        }
        for path in deleted {
            fs::remove_file(path)?;
            done.deleted += 1;
        }
    }
    Ok(done)
}

fn expect(session: &mut Imap, command: &str) -> io::Result<Vec<String>> {
    let answer = session.ask(command)?;
    if !answer.is_ok() {
        return Err(io::Error::other(format!("{command}: {}", answer.end)));
    }
    Ok(answer.lines)
}

/// Lets Dovecot open every folder: all state files come to be.
///
/// Every client fetches what lists show; every other user sets keywords.
pub fn open(folders: &[Folder], dovecot: &Dovecot) -> io::Result<usize> {
    for (number, own) in folders.chunk_by(|a, b| a.user == b.user).enumerate() {
        let mut session = dovecot.session(&own[0].user, &own[0].maildir)?;
        for folder in own {
            expect(&mut session, &format!("SELECT \"{}\"", folder.mailbox))?;
            session.ask("FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)")?;
            if number % 2 == 0 {
                session.ask("STORE 1,3 +FLAGS.SILENT ($Label1 Work)")?;
                session.ask("STORE 2 +FLAGS.SILENT ($Forwarded)")?;
            }
        }
        expect(&mut session, "LOGOUT")?;
    }
    Ok(folders.len())
}

/// So many clients look into their folders and change nothing.
pub fn logins(
    folders: &[Folder],
    dovecot: &Dovecot,
    seed: u64,
    (round, count): (u64, usize),
) -> io::Result<usize> {
    let mut dice = Dice::new(seed ^ 0x6c6f_6769, round);
    let users: Vec<&[Folder]> = folders.chunk_by(|a, b| a.user == b.user).collect();
    for _ in 0..count {
        let own = *dice.of(&users);
        let mut session = dovecot.session(&own[0].user, &own[0].maildir)?;
        expect(&mut session, "LIST \"\" \"*\" RETURN (STATUS (MESSAGES UNSEEN))")?;
        for folder in std::iter::once(&own[0]).chain(std::iter::once(dice.of(own))) {
            expect(&mut session, &format!("SELECT \"{}\"", folder.mailbox))?;
            session.ask("FETCH 1:* (UID FLAGS)")?;
            session.ask("UID SEARCH RETURN (ALL) UNSEEN")?;
        }
        expect(&mut session, "LOGOUT")?;
    }
    Ok(count)
}

/// The same change as [`change`], made by Dovecot: deliveries by its agent, the rest in sessions.
pub fn change_by_dovecot(
    folders: &[Folder],
    dovecot: &Dovecot,
    seed: u64,
    (count, round): (u64, u64),
) -> io::Result<Done> {
    let mut dice = Dice::new(seed ^ 0x6368_616e_6765, round);
    let chosen = some(&mut dice, folders, FOLDERS);
    let writer = Writer::new(seed, count);
    let mut done = Done::default();
    for (number, folder) in chosen.iter().enumerate() {
        let share = |all: usize| (number + 1) * all / chosen.len() - number * all / chosen.len();
        for new in 0..share(NEW) {
            let which = count + round * 1_000 + (number * NEW + new) as u64;
            let message = writer.message(which, &folder.user);
            done.new += usize::from(dovecot.deliver(
                &folder.user,
                &folder.maildir,
                &folder.mailbox,
                &message.bytes,
            )?);
        }
        let mut session = dovecot.session(&folder.user, &folder.maildir)?;
        expect(&mut session, &format!("SELECT \"{}\"", folder.mailbox))?;
        let (flagged, deleted) = (share(FLAGGED), share(DELETED));
        expect(&mut session, &format!("STORE 1:{flagged} +FLAGS.SILENT (\\Flagged)"))?;
        let gone = format!("STORE {}:{} +FLAGS.SILENT (\\Deleted)", flagged + 1, flagged + deleted);
        expect(&mut session, &gone)?;
        let expunged = expect(&mut session, "EXPUNGE")?;
        done.deleted += expunged.iter().filter(|line| line.ends_with("EXPUNGE")).count();
        done.flagged += flagged;
        expect(&mut session, "LOGOUT")?;
    }
    Ok(done)
}
