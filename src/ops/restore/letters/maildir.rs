//! A Maildir: messages with their names, flags and times, and the UIDs, keywords and subscriptions that go with them.

use std::collections::BTreeMap;

use super::sink::{Meta, Sink};
use super::{FolderHead, LetterError, Lost, Outgoing, PutError, Writer};
use crate::base::bytes;
use crate::format::page::Owner;
use crate::mail::folder_name::{Layout, to_maildir};
use crate::mail::keywords::Keywords;
use crate::mail::letter::Letter;
use crate::mail::uidlist::{Header, Line, UidlistWriter};
use crate::repo::extract::ExtractError;

/// Longest base name that is taken over; flags have to fit behind it.
const BASE_BYTES_MAX: usize = 200;

/// Writes a Maildir.
pub struct MaildirWriter<S> {
    sink: S,
    layout: Layout,
    open: Option<Open>,
    root_made: bool,
    /// Owner and mode of what belongs to the whole Maildir.
    root: (u16, Owner),
    lost: Lost,
}

/// The folder that is being written.
struct Open {
    path: Vec<Vec<u8>>,
    mode: u16,
    owner: Owner,
    validity: Option<u32>,
    next_uid: u32,
    guid: Option<Vec<u8>>,
    keywords: Keywords,
    /// By UID: GUID where there is one, and file name.
    lines: BTreeMap<u32, (Option<Vec<u8>>, Vec<u8>)>,
    nameless: u64,
}

/// The folders of messages; mail programs do without none of them.
const PARTS: [&[u8]; 3] = [b"cur", b"new", b"tmp"];

impl<S: Sink> MaildirWriter<S> {
    /// Writes into `sink`.
    pub fn new(sink: S, layout: Layout) -> MaildirWriter<S> {
        let root = (0o700, Owner::default());
        MaildirWriter { sink, layout, open: None, root_made: false, root, lost: Lost::default() }
    }

    fn small_file(
        &mut self,
        path: &[Vec<u8>],
        name: &[u8],
        content: &[u8],
        owner: (u16, &Owner),
    ) -> Result<(), PutError> {
        let (mtime_s, mode) = (crate::base::clock::now_seconds(), owner.0 & 0o666);
        let meta = Meta { mode, owner: owner.1, mtime_s, mtime_ns: 0 };
        let read = |out: &mut dyn FnMut(&[u8]) -> Result<(), LetterError>| out(content);
        match self.sink.file((path, name), content.len() as u64, &meta, &read) {
            Ok(_) => Ok(()),
            Err(ExtractError::Write(error)) => Err(error),
            Err(_) => unreachable_read(),
        }
    }

    fn folders(&mut self, path: &[Vec<u8>], mode: u16, owner: &Owner) -> Result<(), PutError> {
        let mtime_s = crate::base::clock::now_seconds();
        let meta = Meta { mode, owner, mtime_s, mtime_ns: 0 };
        self.sink.folder(path, &meta)?;
        for part in PARTS {
            self.sink.folder(&below(path, part), &meta)?;
        }
        Ok(())
    }
}

/// Bytes in memory can always be read.
fn unreachable_read<T>() -> Result<T, PutError> {
    Err(PutError::Stream(std::io::Error::other("a file in memory")))
}

fn below(path: &[Vec<u8>], name: &[u8]) -> Vec<Vec<u8>> {
    path.iter().cloned().chain([name.to_vec()]).collect()
}

/// The base name of a message that has none, always the same for the same message of the same folder.
pub fn made_base(letter: &Letter, number: u64) -> Vec<u8> {
    let known = letter.guid.clone().unwrap_or_else(|| number.to_le_bytes().to_vec());
    let mut hasher = blake3::Hasher::new();
    hasher.update(letter.folder.as_bytes()).update(&[0]).update(&known);
    let mark = bytes::hex(&hasher.finalize().as_bytes()[..8]);
    format!("{}.M{:06}R{mark}.mailark,S={}", letter.arrived_s.max(0), number % 1_000_000, letter.size)
        .into_bytes()
}

impl Open {
    /// The name of a message, and whether it goes into `new`; a new one where its own is taken.
    fn name(&mut self, letter: &Letter, is_taken: bool) -> (Vec<u8>, bool, u64) {
        let plain = !is_taken && !letter.base.is_empty() && letter.base.len() <= BASE_BYTES_MAX;
        let mut name = if plain { letter.base.clone() } else { made_base(letter, self.nameless) };
        self.nameless += u64::from(!plain);
        let mut lost = 0;
        let mut letters: Vec<u8> = Vec::new();
        for keyword in letter.keywords.iter().flatten() {
            match self.keywords.add(keyword) {
                Some(letter) => letters.push(letter),
                None => lost += 1,
            }
        }
        letters.sort_unstable();
        letters.dedup();
        let is_new = letter.unseen_by_any && letter.flags.is_empty() && letters.is_empty();
        if !is_new {
            name.extend_from_slice(b":2,");
            name.extend_from_slice(&letter.flags);
            name.extend_from_slice(&letters);
        }
        (name, is_new, lost)
    }

    fn uidlist(&self) -> Option<Vec<u8>> {
        let validity = self.validity?;
        let highest = self.lines.keys().next_back().copied().unwrap_or_default();
        let next = self.next_uid.max(highest.saturating_add(1)).max(1);
        let mut writer = UidlistWriter::new(&Header { validity, next, guid: self.guid.as_deref() });
        for (&uid, (guid, name)) in &self.lines {
            let fields = guid.as_ref().map(|guid| [b"G", guid.as_slice()].concat()).unwrap_or_default();
            writer.push(&Line { uid, guid: guid.as_deref(), name, fields: &fields });
        }
        Some(writer.finish())
    }
}

impl<S: Sink> Writer for MaildirWriter<S> {
    fn begin(&mut self, folder: &FolderHead<'_>) -> Result<(), PutError> {
        let path = to_maildir(folder.name, self.layout);
        if !self.root_made {
            self.root = (folder.mode, folder.owner.clone());
            self.folders(&[], folder.mode, folder.owner)?;
            self.root_made = true;
        }
        if !path.is_empty() {
            self.folders(&path, folder.mode, folder.owner)?;
            if self.layout == Layout::PlusPlus {
                self.small_file(&path, b"maildirfolder", b"", (folder.mode, folder.owner))?;
            }
        }
        self.open = Some(Open {
            path,
            mode: folder.mode,
            owner: folder.owner.clone(),
            validity: folder.validity,
            next_uid: folder.next_uid,
            guid: folder.guid.map(<[u8]>::to_vec),
            keywords: folder.keywords.clone(),
            lines: BTreeMap::new(),
            nameless: 0,
        });
        Ok(())
    }

    fn put(&mut self, message: &Outgoing<'_>) -> Result<(), LetterError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let letter = message.letter;
        let (mut name, is_new, lost) = open.name(letter, false);
        let place = below(&open.path, if is_new { b"new" } else { b"cur" });
        let meta = Meta {
            mode: message.mode & 0o666,
            owner: message.owner,
            mtime_s: letter.arrived_s,
            mtime_ns: letter.arrived_ns,
        };
        // Another one has its name: two versions of one message, or two folders under one name.
        while !self.sink.file((&place, &name), letter.size, &meta, message.read)? {
            name = open.name(letter, true).0;
        }
        self.lost.keywords += lost;
        // An mbox says in its messages which numbering they have.
        open.validity = open.validity.or(letter.uid.map(|(validity, _)| validity));
        if let Some((validity, uid)) = letter.uid
            && Some(validity) == open.validity
            // A name that would end the line cannot stand in a list.
            && !name.contains(&b'\n')
        {
            open.lines.entry(uid).or_insert_with(|| (letter.guid.clone(), name));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), PutError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let owner = (open.mode, &open.owner);
        if let Some(list) = open.uidlist() {
            self.small_file(&open.path, b"dovecot-uidlist", &list, owner)?;
        }
        if !open.keywords.is_empty() {
            self.small_file(&open.path, b"dovecot-keywords", &open.keywords.encode(), owner)?;
        }
        Ok(())
    }

    fn lost(&self) -> Lost {
        self.lost
    }

    fn finish(&mut self, subscriptions: Option<&[u8]>) -> Result<(), PutError> {
        if let Some(lines) = subscriptions.filter(|_| self.root_made) {
            let (mode, owner) = self.root.clone();
            self.small_file(&[], b"subscriptions", lines, (mode, &owner))?;
        }
        self.sink.finish()
    }
}
