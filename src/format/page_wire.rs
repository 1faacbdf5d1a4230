//! The columns of a leaf page: what repeats down a folder stands together, so that it compresses.
//!
//! A Dovecot name says its own modification time (`1702054054.M1P2.host,S=2229,W=2276:2,S`) and its size; where
//! they agree with the entry they are left out and marked in `name_forms`.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::Arc;

use bincode::{Decode, Encode};

use super::codec::{self, FormatError, Result};
use super::content;
use super::page::{Entry, File, Node, Owner, Xattr};
use super::snapshot::Tree;
use crate::base::id::BlobId;
use crate::base::limits;

mod outline;

pub use outline::{Line, Outline};

/// A leaf page as it is stored; all columns have one element per entry unless they say otherwise.
#[derive(Encode, Decode)]
pub(super) struct Columns {
    owners: Vec<Arc<Owner>>,
    /// Index into `owners`; empty when there is one owner.
    owner_numbers: Vec<u32>,
    kinds: Vec<u8>,
    modes: Vec<u16>,
    mtimes: Vec<i64>,
    /// Empty when all are zero.
    mtime_nanos: Vec<u32>,
    name_forms: Vec<u8>,
    name_lengths: Vec<u32>,
    names: Vec<u8>,
    /// For each name with `FORM_VSIZE`: `W` less the size.
    vsize_excess: Vec<u32>,
    /// The rest has one element per file.
    sizes: Vec<u64>,
    structure_lengths: Vec<u32>,
    structures: Vec<u8>,
    id_counts: Vec<u32>,
    ids: Vec<u8>,
    /// One element per file that had one, with its place among the entries; likewise all below.
    link_groups: Vec<(u32, u64)>,
    trees: Vec<(u32, Tree)>,
    links: Vec<(u32, Vec<u8>)>,
    devices: Vec<(u32, u32, u32)>,
    xattrs: Vec<(u32, Vec<Xattr>)>,
}

const KIND_FILE: u8 = 0;
const KIND_FOLDER: u8 = 1;
const KIND_SYMLINK: u8 = 2;
const KIND_FIFO: u8 = 3;
const KIND_SOCKET: u8 = 4;
const KIND_CHAR: u8 = 5;
const KIND_BLOCK: u8 = 6;
/// Added to `KIND_FILE`.
const KIND_SPARSE: u8 = 0x80;

/// The name began with the modification time in decimal.
const FORM_TIME: u8 = 1;
/// Its first `,S=` was followed by the size in decimal.
const FORM_SIZE: u8 = 2;
/// After that stood `,W=` and the size plus `vsize_excess`.
const FORM_VSIZE: u8 = 4;
const FORMS: u8 = FORM_TIME | FORM_SIZE | FORM_VSIZE;

struct ShortName {
    form: u8,
    vsize_excess: u32,
    rest: Vec<u8>,
}

/// Leaves out of a name what the entry says anyway; [`lengthen`] is the inverse.
fn shorten(name: &[u8], mtime: i64, size: u64) -> ShortName {
    let mut short = ShortName { form: 0, vsize_excess: 0, rest: Vec::with_capacity(name.len()) };
    let mut left = name;
    if let Some(rest) = left.strip_prefix(mtime.to_string().as_bytes()) {
        short.form |= FORM_TIME;
        left = rest;
    }
    if let Some(at) = memchr::memmem::find(left, b",S=") {
        let (before, after) = left.split_at(at + 3);
        if let Some(rest) = strip_number(after, size) {
            short.form |= FORM_SIZE;
            short.rest.extend_from_slice(before);
            left = rest;
            if let Some((excess, rest)) = strip_vsize(left, size) {
                short.form |= FORM_VSIZE;
                short.vsize_excess = excess;
                left = rest;
            }
        }
    }
    short.rest.extend_from_slice(left);
    short
}

fn strip_number(bytes: &[u8], number: u64) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(number.to_string().as_bytes())?;
    if rest.first().is_some_and(u8::is_ascii_digit) { None } else { Some(rest) }
}

fn strip_vsize(bytes: &[u8], size: u64) -> Option<(u32, &[u8])> {
    let digits = bytes.strip_prefix(b",W=")?;
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let vsize: u64 = std::str::from_utf8(&digits[..count]).ok()?.parse().ok()?;
    let excess = u32::try_from(vsize.checked_sub(size)?).ok()?;
    let rest = strip_number(digits, vsize)?;
    Some((excess, rest))
}

fn put_number(number: impl Display, name: &mut Vec<u8>) {
    write!(name, "{number}").expect("memory takes what is written");
}

/// Appends the whole name.
fn lengthen(
    (form, rest): (u8, &[u8]),
    mtime: i64,
    size: u64,
    vsize_excess: u32,
    name: &mut Vec<u8>,
) -> Result<()> {
    if form & FORM_TIME != 0 {
        put_number(mtime, name);
    }
    if form & FORM_SIZE == 0 {
        name.extend_from_slice(rest);
        return Ok(());
    }
    let at =
        memchr::memmem::find(rest, b",S=").ok_or(FormatError::Inconsistent { what: "form of a name" })?;
    let (before, after) = rest.split_at(at + 3);
    name.extend_from_slice(before);
    put_number(size, name);
    if form & FORM_VSIZE != 0 {
        name.extend_from_slice(b",W=");
        put_number(size.saturating_add(vsize_excess.into()), name);
    }
    name.extend_from_slice(after);
    Ok(())
}

pub(super) fn to_columns(entries: &[Entry]) -> Columns {
    let mut columns = Columns {
        owners: Vec::new(),
        owner_numbers: Vec::new(),
        kinds: Vec::with_capacity(entries.len()),
        modes: entries.iter().map(|entry| entry.mode).collect(),
        mtimes: Vec::with_capacity(entries.len()),
        mtime_nanos: Vec::new(),
        name_forms: Vec::with_capacity(entries.len()),
        name_lengths: Vec::with_capacity(entries.len()),
        names: Vec::new(),
        vsize_excess: Vec::new(),
        sizes: Vec::new(),
        structure_lengths: Vec::new(),
        structures: Vec::new(),
        id_counts: Vec::new(),
        ids: Vec::new(),
        link_groups: Vec::new(),
        trees: Vec::new(),
        links: Vec::new(),
        devices: Vec::new(),
        xattrs: Vec::new(),
    };
    let mut last_mtime = 0i64;
    for (number, entry) in (0u32..).zip(entries) {
        columns.push_owner(entry);
        columns.mtimes.push(entry.mtime_s.wrapping_sub(last_mtime));
        last_mtime = entry.mtime_s;
        columns.push_name(entry);
        columns.push_node(number, entry);
        if !entry.xattrs.is_empty() {
            columns.xattrs.push((number, entry.xattrs.clone()));
        }
    }
    if columns.owners.len() == 1 {
        columns.owner_numbers.clear();
    }
    if entries.iter().any(|entry| entry.mtime_ns != 0) {
        columns.mtime_nanos = entries.iter().map(|entry| entry.mtime_ns).collect();
    }
    columns
}

impl Columns {
    fn push_owner(&mut self, entry: &Entry) {
        let known = self.owners.iter().position(|owner| *owner == entry.owner);
        let number = known.unwrap_or_else(|| {
            self.owners.push(entry.owner.clone());
            self.owners.len() - 1
        });
        self.owner_numbers.push(number as u32);
    }

    fn push_name(&mut self, entry: &Entry) {
        let size = if let Node::File(file) = &entry.node { file.size } else { 0 };
        let short = shorten(&entry.name, entry.mtime_s, size);
        self.name_forms.push(short.form);
        self.name_lengths.push(short.rest.len() as u32);
        self.names.extend_from_slice(&short.rest);
        if short.form & FORM_VSIZE != 0 {
            self.vsize_excess.push(short.vsize_excess);
        }
    }

    fn push_node(&mut self, number: u32, entry: &Entry) {
        let kind = match &entry.node {
            Node::File(file) => {
                self.push_file(number, file);
                KIND_FILE | if file.sparse { KIND_SPARSE } else { 0 }
            }
            Node::Folder(tree) => {
                self.trees.push((number, *tree));
                KIND_FOLDER
            }
            Node::Symlink(target) => {
                self.links.push((number, target.clone()));
                KIND_SYMLINK
            }
            Node::Fifo => KIND_FIFO,
            Node::Socket => KIND_SOCKET,
            Node::CharDevice(major, minor) => {
                self.devices.push((number, *major, *minor));
                KIND_CHAR
            }
            Node::BlockDevice(major, minor) => {
                self.devices.push((number, *major, *minor));
                KIND_BLOCK
            }
        };
        self.kinds.push(kind);
    }

    fn push_file(&mut self, number: u32, file: &File) {
        let mut ids = Vec::new();
        let structure = content::encode(&file.content, &mut ids);
        self.sizes.push(file.size);
        self.structure_lengths.push(structure.len() as u32);
        self.structures.extend_from_slice(&structure);
        self.id_counts.push(ids.len() as u32);
        self.ids.extend(ids.iter().flat_map(|id| id.0));
        if let Some(group) = file.link_group {
            self.link_groups.push((number, group));
        }
    }
}

/// Takes elements off a column; running out means a damaged page.
struct Take<I>(I);

impl<T, I: Iterator<Item = T>> Take<I> {
    fn next(&mut self) -> Result<T> {
        self.0.next().ok_or(FormatError::Inconsistent { what: "columns of a page" })
    }

    fn end(&mut self) -> Result<()> {
        codec::agree(self.0.next().is_none(), "columns of a page")
    }
}

fn take_slice<'a, T>(from: &mut &'a [T], count: u32) -> Result<&'a [T]> {
    let (taken, rest) = from
        .split_at_checked(count as usize)
        .ok_or(FormatError::Inconsistent { what: "columns of a page" })?;
    *from = rest;
    Ok(taken)
}

fn take_numbered<T>(
    column: &mut std::iter::Peekable<std::vec::IntoIter<(u32, T)>>,
    number: u32,
) -> Option<T> {
    column.next_if(|(at, _)| *at == number).map(|(_, value)| value)
}

struct Files<'a> {
    sizes: Take<std::slice::Iter<'a, u64>>,
    structure_lengths: Take<std::slice::Iter<'a, u32>>,
    structures: &'a [u8],
    id_counts: Take<std::slice::Iter<'a, u32>>,
    ids: &'a [[u8; 16]],
}

impl Files<'_> {
    fn next(&mut self, sparse: bool, link_group: Option<u64>) -> Result<File> {
        let size = *self.sizes.next()?;
        let structure = take_slice(&mut self.structures, *self.structure_lengths.next()?)?;
        let ids = take_slice(&mut self.ids, *self.id_counts.next()?)?;
        let ids: Vec<BlobId> = ids.iter().map(|id| BlobId(*id)).collect();
        let content = content::decode(structure, &ids)?;
        Ok(File { size, content, sparse, link_group })
    }

    fn end(&mut self) -> Result<()> {
        codec::agree(self.structures.is_empty() && self.ids.is_empty(), "columns of a page")?;
        self.sizes.end().and(self.structure_lengths.end()).and(self.id_counts.end())
    }
}

pub(super) fn from_columns(columns: Columns) -> Result<Vec<Entry>> {
    let count = columns.kinds.len();
    codec::limit("entries of a page", count as u64, limits::PAGE_ENTRIES_MAX as u64)?;
    let (ids, odd) = columns.ids.as_chunks::<16>();
    codec::agree(odd.is_empty(), "columns of a page")?;
    let mut files = Files {
        sizes: Take(columns.sizes.iter()),
        structure_lengths: Take(columns.structure_lengths.iter()),
        structures: &columns.structures,
        id_counts: Take(columns.id_counts.iter()),
        ids,
    };
    let mut rest = Rest {
        owner_numbers: Take(columns.owner_numbers.iter()),
        modes: Take(columns.modes.iter()),
        mtimes: Take(columns.mtimes.iter()),
        mtime_nanos: Take(columns.mtime_nanos.iter()),
        name_forms: Take(columns.name_forms.iter()),
        name_lengths: Take(columns.name_lengths.iter()),
        names: &columns.names,
        vsize_excess: Take(columns.vsize_excess.iter()),
        last_mtime: 0,
    };
    let one_owner = columns.owner_numbers.is_empty();
    let whole_seconds = columns.mtime_nanos.is_empty();
    let mut link_groups = columns.link_groups.into_iter().peekable();
    let mut trees = columns.trees.into_iter().peekable();
    let mut links = columns.links.into_iter().peekable();
    let mut devices =
        columns.devices.into_iter().map(|(n, a, b)| (n, (a, b))).collect::<Vec<_>>().into_iter().peekable();
    let mut xattrs = columns.xattrs.into_iter().peekable();
    let missing = || FormatError::Inconsistent { what: "columns of a page" };
    let mut entries = Vec::with_capacity(count);
    for (number, &kind) in (0u32..).zip(&columns.kinds) {
        let node = match kind {
            KIND_FILE | KIND_SPARSE => {
                Node::File(files.next(kind == KIND_SPARSE, take_numbered(&mut link_groups, number))?)
            }
            KIND_FOLDER => Node::Folder(take_numbered(&mut trees, number).ok_or_else(missing)?),
            KIND_SYMLINK => Node::Symlink(take_numbered(&mut links, number).ok_or_else(missing)?),
            KIND_FIFO => Node::Fifo,
            KIND_SOCKET => Node::Socket,
            KIND_CHAR | KIND_BLOCK => {
                let (major, minor) = take_numbered(&mut devices, number).ok_or_else(missing)?;
                if kind == KIND_CHAR {
                    Node::CharDevice(major, minor)
                } else {
                    Node::BlockDevice(major, minor)
                }
            }
            other => return Err(FormatError::Unknown { what: "kind of entry", value: other.into() }),
        };
        let xattrs = take_numbered(&mut xattrs, number).unwrap_or_default();
        let owner_number = if one_owner { 0 } else { *rest.owner_numbers.next()? };
        let owner = columns.owners.get(owner_number as usize).ok_or_else(missing)?.clone();
        let mtime_ns = if whole_seconds { 0 } else { *rest.mtime_nanos.next()? };
        entries.push(rest.entry(node, owner, mtime_ns, xattrs)?);
    }
    let unused = [
        link_groups.next().is_some(),
        trees.next().is_some(),
        links.next().is_some(),
        devices.next().is_some(),
        xattrs.next().is_some(),
    ];
    codec::agree(!unused.contains(&true), "columns of a page")?;
    files.end()?;
    rest.end()?;
    Ok(entries)
}

/// The columns that every entry draws from.
struct Rest<'a> {
    owner_numbers: Take<std::slice::Iter<'a, u32>>,
    modes: Take<std::slice::Iter<'a, u16>>,
    mtimes: Take<std::slice::Iter<'a, i64>>,
    mtime_nanos: Take<std::slice::Iter<'a, u32>>,
    name_forms: Take<std::slice::Iter<'a, u8>>,
    name_lengths: Take<std::slice::Iter<'a, u32>>,
    names: &'a [u8],
    vsize_excess: Take<std::slice::Iter<'a, u32>>,
    last_mtime: i64,
}

impl Rest<'_> {
    fn entry(&mut self, node: Node, owner: Arc<Owner>, mtime_ns: u32, xattrs: Vec<Xattr>) -> Result<Entry> {
        let mode = *self.modes.next()?;
        codec::limit("mode", mode.into(), 0o7777)?;
        codec::limit("nanoseconds", mtime_ns.into(), 999_999_999)?;
        let mtime_s = self.last_mtime.wrapping_add(*self.mtimes.next()?);
        self.last_mtime = mtime_s;
        let form = *self.name_forms.next()?;
        codec::agree(form & !FORMS == 0, "form of a name")?;
        let stored = take_slice(&mut self.names, *self.name_lengths.next()?)?;
        let size = if let Node::File(file) = &node { file.size } else { 0 };
        let excess = if form & FORM_VSIZE != 0 { *self.vsize_excess.next()? } else { 0 };
        let mut name = Vec::with_capacity(stored.len() + 32);
        lengthen((form, stored), mtime_s, size, excess, &mut name)?;
        Ok(Entry { name, mode, owner, mtime_s, mtime_ns, xattrs, node })
    }

    fn end(&mut self) -> Result<()> {
        codec::agree(self.names.is_empty(), "columns of a page")?;
        self.owner_numbers.end().and(self.modes.end()).and(self.mtimes.end())?;
        self.mtime_nanos.end().and(self.name_forms.end())?;
        self.name_lengths.end().and(self.vsize_excess.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_leave_out_what_the_entry_says() {
        let all = FORM_TIME | FORM_SIZE | FORM_VSIZE;
        let cases: [(&str, u8, u32, &str); 9] = [
            ("1700.M1P2.mx,S=1234,W=1260:2,S", all, 26, ".M1P2.mx,S=:2,S"),
            ("1700.M1P2.mx,S=1234:2,S", FORM_TIME | FORM_SIZE, 0, ".M1P2.mx,S=:2,S"),
            ("1701.mx,S=1234,W=1234", FORM_SIZE | FORM_VSIZE, 0, "1701.mx,S="),
            ("1700", FORM_TIME, 0, ""),
            ("notes.txt", 0, 0, "notes.txt"),
            // The size of another file, one that only begins like it, and less with CRLF than without.
            ("1700.mx,S=1235:2,", FORM_TIME, 0, ".mx,S=1235:2,"),
            ("1700.mx,S=12345:2,", FORM_TIME, 0, ".mx,S=12345:2,"),
            ("1700.mx,S=1234,W=1233", FORM_TIME | FORM_SIZE, 0, ".mx,S=,W=1233"),
            // Not as a number is written.
            ("1700.mx,S=1234,W=01260", FORM_TIME | FORM_SIZE, 0, ".mx,S=,W=01260"),
        ];
        for (name, form, excess, rest) in cases {
            let short = shorten(name.as_bytes(), 1700, 1234);
            let found = (short.form, short.vsize_excess, String::from_utf8(short.rest.clone()).unwrap());
            assert_eq!(found, (form, excess, rest.to_owned()), "{name}");
            let mut long = Vec::new();
            lengthen((short.form, &short.rest), 1700, 1234, short.vsize_excess, &mut long).unwrap();
            assert_eq!(long, name.as_bytes());
        }
    }
}
