//! `RECOVERY.txt`: tells whoever finds a repository's folder what it is and how to get the data back.

use super::RepoError;
use crate::base::id::RepositoryId;
use crate::store::LocalStore;

/// The note: plain ASCII, lines of at most 78 characters. Commands stand on lines that begin with four spaces.
pub fn text(repository: RepositoryId) -> String {
    format!(
        "\
This folder is a Mailark repository: a backup of mail and other files
=====================================================================

Repository {repository}

Everything in it is encrypted. That its files look like noise is no damage.
Please do not rename, change or remove any of them. The whole folder may be
copied to another disk: the copy is worth as much as the original.

What opens it
-------------
One of these, whatever was made for it; without any of them nobody can read
the data:
 - the key file (usually /etc/mailark/key of the machine that made backups),
 - the recovery code: eight groups of five letters and digits, on paper,
 - a password.
A key that was made for one mail server to write with (\"writer\") does not
read the mail back: it takes a full key.

How to get everything back, on any Linux machine
------------------------------------------------
1. Install the program: copy \"mailark\" from a machine that has it, or build
   it in a folder with its source (needs Rust and a C compiler):

    cargo install --path .

2. Go into this folder, and see that your key opens it:

    mailark --repo . --key-file KEY-FILE key test

   With the recovery code say --recovery-code instead of --key-file KEY-FILE,
   here and below: the program then asks for it. With a password leave
   --key-file KEY-FILE away. If a part of the repository is damaged, go on all
   the same: the program names what it cannot read and gives back the rest.

3. List what was backed up, and when. The first column names a snapshot:

    mailark --repo . --key-file KEY-FILE snapshots

4. Write a snapshot back into a new folder, on a disk with enough space:

    mailark --repo . --key-file KEY-FILE restore SNAPSHOT --to NEW-FOLDER

   \"latest\" is the newest snapshot of a host and job. To get back one user or
   folder only, say SNAPSHOT:/path/of/the/folder; \"mailark ls SNAPSHOT\" shows
   what there is, \"mailark restore --help\" tells the rest.

For programmers
---------------
The form of all files here is described in \"repo-format.md\", which comes with
the program's source. It suffices to write another reader.
"
    )
}

/// Writes the note where there is none.
pub fn ensure(store: &LocalStore, repository: RepositoryId) -> Result<(), RepoError> {
    if store.recovery_note()?.is_none() {
        store.write_recovery_note(text(repository).as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_can_be_read_anywhere() {
        let text = text(RepositoryId([0xab; 16]));
        assert!(text.is_ascii() && text.contains(&"ab".repeat(16)));
        for line in text.lines() {
            assert!(line.len() <= 78 && !line.contains('\t') && !line.ends_with(' '), "{line}");
        }
    }
}
