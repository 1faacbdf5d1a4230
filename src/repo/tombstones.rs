//! Tombstones: how writers know purged content without being told what it is. Section "Purge" of `repo-format.md`.

use std::collections::HashSet;
use std::sync::Arc;

use super::RepoError;
use super::content::Sections;
use super::ledger::Tombstone;
use super::rewrite::is_loss;
use super::view::join;
use crate::base::id::{BlobId, DomainId};
use crate::crypto::kdf;
use crate::format::content::{Content, Section, Shape};
use crate::format::keyset::CutKey;
use crate::mail::mbox;
use crate::mail::mbox_cuts::{Bytes, MboxCuts, blank_prefix};

/// The mark of a folder or of a content.
pub type Mark = [u8; 16];

/// Bytes of a frame that are looked at: a `From ` line with the blank line before it.
const FRAME_BYTES_MAX: usize = mbox::FROM_LINE_MAX + 2;

/// Makes the marks of one domain.
#[derive(Clone)]
pub struct Marker(blake3::Hasher);

impl Marker {
    /// Makes marks under a domain's key.
    pub fn new(key: &CutKey) -> Marker {
        Marker(blake3::Hasher::new_keyed(kdf::tombstone_key(key).bytes()))
    }

    /// The mark of a folder.
    pub fn folder(&self, path: &[u8]) -> Mark {
        let mut hasher = self.0.clone();
        hasher.update(b"folder").update(path);
        mark(&hasher)
    }

    fn content(&self) -> ContentMark {
        let mut hasher = self.0.clone();
        hasher.update(b"content");
        ContentMark { hasher, empty: true }
    }
}

fn mark(hasher: &blake3::Hasher) -> Mark {
    *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer than a mark")
}

struct ContentMark {
    hasher: blake3::Hasher,
    empty: bool,
}

impl ContentMark {
    fn add(&mut self, section: &Section) {
        for id in section.pieces.iter().flat_map(|piece| piece.blobs()) {
            self.hasher.update(&id.0);
            self.empty = false;
        }
    }

    /// Nothing has no mark: every empty file would have the same.
    fn finish(self) -> Option<Mark> {
        if self.empty { None } else { Some(mark(&self.hasher)) }
    }
}

/// One message of a content, or what stands beside messages.
pub struct Stretch {
    /// Its bytes.
    pub length: u64,
    /// Bytes of the blank line that a frame begins with.
    pub blank: u64,
    /// The mark of a message; none for a frame.
    pub mark: Option<Mark>,
    /// The first section of a message.
    pub message: Option<Section>,
}

/// Looks through the sections of one content for its marks.
///
/// The content of a single message has the mark of that message, wherever it stands.
pub struct Marking<'a> {
    marker: &'a Marker,
    whole: ContentMark,
    /// The message that is open: its bytes, its mark so far, its first section.
    open: Option<(u64, ContentMark, Section)>,
    /// The first section has come; the content is an mbox.
    is_mbox: Option<bool>,
}

impl<'a> Marking<'a> {
    /// Begins a content.
    pub fn new(marker: &'a Marker) -> Marking<'a> {
        Marking { marker, whole: marker.content(), open: None, is_mbox: None }
    }

    /// Is it an mbox, as far as is known? Only there a message can be told from the file.
    pub fn is_mbox(&self) -> bool {
        self.is_mbox == Some(true)
    }

    /// Takes the next section; `begin` are the first bytes of its first blob when its shape is bytes.
    pub fn add(&mut self, section: &Section, begin: &[u8], tell: &mut impl FnMut(Stretch)) {
        self.whole.add(section);
        let is_frame = section.shape == Shape::Bytes;
        if self.is_mbox.is_none() {
            let line = begin.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
            self.is_mbox = Some(is_frame && mbox::is_from_line(line));
        }
        match section.shape {
            Shape::Bytes => {
                self.close(tell);
                // A hole, or anything that follows one, is no frame, but no message either.
                let blank = if section.length() <= FRAME_BYTES_MAX as u64 { blank_prefix(begin) } else { 0 };
                tell(Stretch { length: section.length(), blank, mark: None, message: None });
            }
            Shape::Continued if self.open.is_some() => {
                let (length, content, _) = self.open.as_mut().expect("looked at above");
                *length += section.length();
                content.add(section);
            }
            Shape::Message | Shape::Opaque | Shape::Continued => {
                self.close(tell);
                let mut content = self.marker.content();
                content.add(section);
                self.open = Some((section.length(), content, section.clone()));
            }
        }
    }

    fn close(&mut self, tell: &mut impl FnMut(Stretch)) {
        if let Some((length, content, section)) = self.open.take() {
            tell(Stretch { length, blank: 0, mark: content.finish(), message: Some(section) });
        }
    }

    /// Ends the content and gives its own mark.
    pub fn finish(mut self, tell: &mut impl FnMut(Stretch)) -> Option<Mark> {
        self.close(tell);
        self.whole.finish()
    }
}

/// What tombstones demand of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    Nothing,
    /// The file is left out.
    LeaveOut,
    /// These bytes of an mbox, so many messages, are left out.
    Cut(Vec<Bytes>, u64),
}

/// Judges one content while its sections come.
pub struct Judge<'a> {
    marking: Marking<'a>,
    scope: &'a Scope,
    cuts: MboxCuts,
    gone: u64,
}

impl<'a> Judge<'a> {
    /// Begins a content in a folder.
    pub fn new(scope: &'a Scope) -> Judge<'a> {
        let marking = Marking::new(&scope.marker);
        Judge { marking, scope, cuts: MboxCuts::default(), gone: 0 }
    }

    /// Takes the next section; `begin` as in [`Marking::add`].
    pub fn add(&mut self, section: &Section, begin: &[u8]) {
        let Judge { marking, scope, cuts, gone } = self;
        marking.add(section, begin, &mut |stretch| weigh(scope, cuts, gone, &stretch));
    }

    /// Ends the content.
    pub fn finish(self) -> Demand {
        let Judge { marking, scope, mut cuts, mut gone } = self;
        let is_mbox = marking.is_mbox();
        let whole = marking.finish(&mut |stretch| weigh(scope, &mut cuts, &mut gone, &stretch));
        if whole.is_some_and(|mark| scope.holds(&mark)) {
            return Demand::LeaveOut;
        }
        if !is_mbox || gone == 0 {
            return Demand::Nothing;
        }
        Demand::Cut(cuts.finish(), gone)
    }
}

fn weigh(scope: &Scope, cuts: &mut MboxCuts, gone: &mut u64, stretch: &Stretch) {
    let purged = stretch.mark.is_some_and(|mark| scope.holds(&mark));
    *gone += u64::from(purged);
    match stretch.message {
        Some(_) => cuts.message(stretch.length, purged),
        None => cuts.frame(stretch.length, stretch.blank),
    }
}

/// Reads a content and gives its sections with their first bytes, where these can matter.
pub fn each_section<B: AsRef<[u8]>>(
    content: &Content,
    page: impl FnMut(&BlobId) -> Result<B, RepoError>,
    mut data: impl FnMut(&BlobId) -> Result<B, RepoError>,
    mut tell: impl FnMut(Section, &[u8]) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let mut may_be_mbox = None;
    for section in Sections::new(content, page) {
        let section = section.map_err(RepoError::from)?;
        let is_small = section.shape == Shape::Bytes && section.length() <= FRAME_BYTES_MAX as u64;
        let first = section.pieces.first().and_then(|piece| piece.blobs().first());
        match first.filter(|_| is_small && may_be_mbox.unwrap_or(true)) {
            Some(id) => {
                let blob = match data(id) {
                    Ok(blob) => blob,
                    // What is lost tells nothing, and keeps nobody from the rest.
                    Err(error) if is_loss(&error) => {
                        tell(section, b"")?;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let bytes = blob.as_ref();
                may_be_mbox = may_be_mbox.or_else(|| Some(bytes.starts_with(b"From ")));
                tell(section, &bytes[..bytes.len().min(FRAME_BYTES_MAX)])?;
            }
            None => {
                may_be_mbox = may_be_mbox.or(Some(false));
                tell(section, b"")?;
            }
        }
    }
    Ok(())
}

/// The marks that count in one folder.
pub struct Scope {
    marker: Marker,
    contents: Vec<Arc<HashSet<Mark>>>,
}

impl Scope {
    fn holds(&self, mark: &Mark) -> bool {
        self.contents.iter().any(|contents| contents.contains(mark))
    }

    /// Does a content that is named by its ids alone have to be looked at again?
    ///
    /// `page` reads a page of it. Frames are not read, so whether it is an mbox is not known: any message counts.
    pub fn concerns<B: AsRef<[u8]>>(
        &self,
        content: &Content,
        page: impl FnMut(&BlobId) -> Result<B, RepoError>,
    ) -> Result<bool, RepoError> {
        let mut marking = Marking::new(&self.marker);
        let mut concerned = false;
        let mut tell = |stretch: Stretch| concerned |= stretch.mark.is_some_and(|mark| self.holds(&mark));
        for section in Sections::new(content, page) {
            marking.add(&section.map_err(RepoError::from)?, b"", &mut tell);
        }
        let whole = marking.finish(&mut tell);
        Ok(concerned || whole.is_some_and(|mark| self.holds(&mark)))
    }
}

/// All tombstones of a domain.
pub struct Tombstones {
    marker: Marker,
    stones: Vec<(HashSet<Mark>, Arc<HashSet<Mark>>)>,
}

impl Tombstones {
    /// Takes those of a domain; `None` when it has none, and nothing has to be looked at.
    pub fn of(all: &[Tombstone], domain: &DomainId, key: &CutKey) -> Option<Tombstones> {
        let own = all.iter().filter(|stone| stone.domain == *domain);
        let stones: Vec<_> = own
            .map(|stone| {
                let contents = stone.contents.iter().copied().collect();
                (stone.scopes.iter().copied().collect::<HashSet<_>>(), Arc::new(contents))
            })
            .collect();
        if stones.is_empty() { None } else { Some(Tombstones { marker: Marker::new(key), stones }) }
    }

    /// Those that count for the files of a folder, an absolute logical path.
    pub fn over(&self, folder: &[u8]) -> Option<Arc<Scope>> {
        let mut marks = vec![self.marker.folder(b"/")];
        let mut path = b"/".to_vec();
        for name in folder.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            path = join(&path, name);
            marks.push(self.marker.folder(&path));
        }
        let counts = |scopes: &HashSet<Mark>| marks.iter().any(|mark| scopes.contains(mark));
        let stones = self.stones.iter().filter(|(scopes, _)| counts(scopes));
        let contents: Vec<_> = stones.map(|(_, contents)| Arc::clone(contents)).collect();
        let marker = || self.marker.clone();
        if contents.is_empty() { None } else { Some(Arc::new(Scope { marker: marker(), contents })) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::content::{Piece, Run};

    fn section(shape: Shape, number: u8, length: u64) -> Section {
        let runs = vec![Run { piece: 0, length }];
        Section { shape, pieces: vec![Piece::Plain(vec![BlobId([number; 16])])], runs }
    }

    fn key() -> CutKey {
        CutKey::new([3; 32])
    }

    fn stone(scope: &[u8], messages: &[u8]) -> Tombstone {
        let marker = Marker::new(&key());
        let mark = |&number: &u8| {
            let mut marking = Marking::new(&marker);
            marking.add(&section(Shape::Message, number, 9), b"", &mut |_| ());
            marking.finish(&mut |_| ()).unwrap()
        };
        let contents = messages.iter().map(mark).collect();
        Tombstone { domain: DomainId([1; 16]), scopes: vec![marker.folder(scope)], contents }
    }

    fn demand(stones: &[Tombstone], folder: &[u8], sections: &[(Section, &[u8])]) -> Option<Demand> {
        let scope = Tombstones::of(stones, &DomainId([1; 16]), &key())?.over(folder)?;
        let mut judge = Judge::new(&scope);
        sections.iter().for_each(|(section, begin)| judge.add(section, begin));
        Some(judge.finish())
    }

    #[test]
    fn only_below_a_scope_and_only_what_is_marked() {
        let stones = [stone(b"/data/alice", &[7])];
        let message = |number| [(section(Shape::Message, number, 9), &b""[..])];
        assert_eq!(demand(&stones, b"/data/alice/cur", &message(7)), Some(Demand::LeaveOut));
        assert_eq!(demand(&stones, b"/data/alice", &message(7)), Some(Demand::LeaveOut));
        assert_eq!(demand(&stones, b"/data/alice/cur", &message(8)), Some(Demand::Nothing));
        assert_eq!(demand(&stones, b"/data/bob/cur", &message(7)), None);
        assert_eq!(demand(&stones, b"/data/alicea", &message(7)), None);
        assert_eq!(demand(&[stone(b"/", &[7])], b"/any/where", &message(7)), Some(Demand::LeaveOut));
        assert!(Tombstones::of(&stones, &DomainId([2; 16]), &key()).is_none());
        assert_eq!(demand(&stones, b"/data/alice", &[]), Some(Demand::Nothing), "an empty file");
    }

    #[test]
    fn a_message_goes_out_of_an_mbox_and_of_nothing_else() {
        let stones = [stone(b"/", &[7])];
        let from = &b"From a Thu Aug 22 12:36:23 2002\n"[..];
        let next = &b"\nFrom a Thu Aug 22 12:36:23 2002\n"[..];
        let mbox = [
            (section(Shape::Bytes, 1, 32), from),
            (section(Shape::Message, 6, 9), b""),
            (section(Shape::Bytes, 2, 33), next),
            (section(Shape::Message, 7, 9), b""),
            (section(Shape::Bytes, 3, 1), b"\n"),
        ];
        let cut = Demand::Cut(std::iter::once(41..83).collect(), 1);
        assert_eq!(demand(&stones, b"/var/mail", &mbox), Some(cut));
        let mut dbox = mbox.clone();
        dbox[0].1 = b"2 M1e C5f3a2b1c\n";
        assert_eq!(demand(&stones, b"/var/mail", &dbox), Some(Demand::Nothing));
        // Another message that goes on where the marked one ended is another message.
        let longer = [(section(Shape::Message, 7, 9), &b""[..]), (section(Shape::Continued, 8, 9), &b""[..])];
        assert_eq!(demand(&stones, b"/var/mail", &longer), Some(Demand::Nothing));
    }
}
