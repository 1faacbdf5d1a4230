//! The letter stream: messages on their way from where they are read to where they are delivered, through a pipe.
//!
//! The magic, a head, then for each letter a frame with all but its bytes, frames with those, and a frame that ends it
//! with a BLAKE3 hash; at last a frame that counts them. A frame is a kind (1 byte), a length (4 bytes, big endian) and
//! so many bytes. A stream that was cut off has no last frame, so nobody takes a part for the whole.

use std::io::{self, Read, Write};

use bincode::{Decode, Encode};

use super::codec::{self, FormatError};
use crate::base::limits;
use crate::mail::letter::{FLAGS, Letter};

/// What every stream begins with; the last byte is the version.
const MAGIC: &[u8; 16] = b"mailark letters\x01";
/// Largest frame that is not content, bytes.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// Largest frame of content, bytes.
const PART_BYTES_MAX: usize = 256 << 10;
/// Longest name of a user or folder, and longest title, bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Most keywords of one letter.
const KEYWORDS_MAX: usize = 256;

const HEAD: u8 = 0;
const LETTER: u8 = 1;
const PART: u8 = 2;
const WHOLE: u8 = 3;
const GIVEN_UP: u8 = 4;
const END: u8 = 5;

/// A stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// Reading failed.
    #[error("read letters")]
    Read(#[source] io::Error),
    /// Something else comes down the pipe.
    #[error("the input is no stream of letters")]
    NotLetters,
    /// Another version wrote it.
    #[error("the letters are of version {0}, and this mailark reads version 1")]
    Version(u8),
    /// The end is missing.
    #[error("the letters end in the middle: the sender stopped, or the connection broke")]
    CutShort,
    /// A frame makes no sense here.
    #[error("damaged letters: {0}")]
    Frame(&'static str),
    /// A struct cannot be decoded.
    #[error("damaged letters")]
    Format(#[from] FormatError),
    /// Bytes were changed on the way.
    #[error("damaged letters: the bytes of a letter are not those that were sent")]
    Changed,
    /// The sender could not read this one; those that follow can be had.
    #[error("not sent: {0}")]
    GivenUp(String),
}

/// Shorthand for results here.
pub type Result<T> = std::result::Result<T, LetterError>;

/// What is to be known of all letters of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Head {
    /// What it is, for people and to know an interrupted delivery again: the same request has the same title.
    pub title: String,
    /// The letters stood in more folders than one.
    pub several_folders: bool,
    /// Only what is known of them is sent, not their bytes.
    pub without_bytes: bool,
}

/// What a stream held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Counts {
    /// Letters that came whole.
    pub letters: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Letters that the sender could not read.
    pub given_up: u64,
}

#[derive(Encode, Decode)]
struct Written {
    user: String,
    folder: String,
    base: Vec<u8>,
    flags: Vec<u8>,
    keywords: Vec<Option<Vec<u8>>>,
    unseen_by_any: bool,
    arrived_s: i64,
    arrived_ns: u32,
    size: u64,
    guid: Option<Vec<u8>>,
    uid: Option<(u32, u32)>,
}

/// Encodes all but a letter's bytes.
pub fn encode_letter(letter: &Letter) -> Vec<u8> {
    codec::encode(&Written {
        user: letter.user.clone(),
        folder: letter.folder.clone(),
        base: letter.base.clone(),
        flags: letter.flags.clone(),
        keywords: letter.keywords.clone(),
        unseen_by_any: letter.unseen_by_any,
        arrived_s: letter.arrived_s,
        arrived_ns: letter.arrived_ns,
        size: letter.size,
        guid: letter.guid.clone(),
        uid: letter.uid,
    })
}

/// Decodes all but a letter's bytes.
pub fn decode_letter(bytes: &[u8]) -> codec::Result<Letter> {
    let written: Written = codec::decode(bytes, "letter")?;
    let short = |what, length: usize, max| codec::limit(what, length as u64, max as u64);
    short("name of a user", written.user.len(), TEXT_BYTES_MAX)?;
    short("name of a folder", written.folder.len(), TEXT_BYTES_MAX)?;
    short("base name", written.base.len(), limits::NAME_BYTES_MAX)?;
    short("keywords of a letter", written.keywords.len(), KEYWORDS_MAX)?;
    for name in written.keywords.iter().chain([&written.guid]).flatten() {
        short("keyword or GUID", name.len(), limits::NAME_BYTES_MAX)?;
    }
    let known = written.flags.iter().all(|flag| FLAGS.contains(flag));
    codec::agree(known && written.flags.is_sorted_by(|one, next| one < next), "flags")?;
    codec::agree(written.arrived_ns < 1_000_000_000, "time of arrival")?;
    Ok(Letter {
        user: written.user,
        folder: written.folder,
        base: written.base,
        flags: written.flags,
        keywords: written.keywords,
        unseen_by_any: written.unseen_by_any,
        arrived_s: written.arrived_s,
        arrived_ns: written.arrived_ns,
        size: written.size,
        guid: written.guid,
        uid: written.uid,
    })
}

/// Writes a stream.
#[derive(Debug)]
pub struct LetterWriter<W> {
    out: W,
    counts: Counts,
}

impl<W: Write> LetterWriter<W> {
    /// Begins a stream.
    pub fn new(mut out: W, head: &Head) -> io::Result<LetterWriter<W>> {
        out.write_all(MAGIC)?;
        let mut writer = LetterWriter { out, counts: Counts::default() };
        writer.frame(HEAD, &codec::encode(head))?;
        Ok(writer)
    }

    fn frame(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.out.write_all(&[kind])?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(bytes)
    }

    /// Begins a letter; its bytes are written into what this gives.
    pub fn letter(&mut self, letter: &Letter) -> io::Result<LetterSink<'_, W>> {
        let encoded = encode_letter(letter);
        self.frame(LETTER, &encoded)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&encoded);
        Ok(LetterSink { writer: self, hasher, bytes: 0 })
    }

    /// Ends the stream.
    pub fn finish(mut self) -> io::Result<W> {
        let counts = self.counts;
        self.frame(END, &codec::encode(&counts))?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Takes the bytes of one letter.
#[derive(Debug)]
pub struct LetterSink<'w, W> {
    writer: &'w mut LetterWriter<W>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> LetterSink<'_, W> {
    /// All bytes are written.
    pub fn finish(self) -> io::Result<()> {
        self.writer.counts.letters += 1;
        self.writer.counts.bytes += self.bytes;
        self.writer.frame(WHOLE, self.hasher.finalize().as_bytes())
    }

    /// The bytes cannot be had; what was sent of them counts for nothing.
    pub fn give_up(self, why: &str) -> io::Result<()> {
        self.writer.counts.given_up += 1;
        let end = why.floor_char_boundary(TEXT_BYTES_MAX);
        self.writer.frame(GIVEN_UP, &why.as_bytes()[..end])
    }
}

impl<W: Write> Write for LetterSink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(PART_BYTES_MAX)];
        if !part.is_empty() {
            self.writer.frame(PART, part)?;
            self.hasher.update(part);
            self.bytes += part.len() as u64;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.out.flush()
    }
}

/// Reads a stream: [`LetterReader::next_letter`], then [`LetterReader::bytes`], and again.
#[derive(Debug)]
pub struct LetterReader<R> {
    input: R,
    frame: Vec<u8>,
    hasher: blake3::Hasher,
    seen: Counts,
    in_letter: bool,
    /// Bytes of the present letter that came, and that it has.
    bytes: (u64, u64),
}

impl<R: Read> LetterReader<R> {
    /// Reads the beginning of a stream.
    pub fn open(input: R) -> Result<(LetterReader<R>, Head)> {
        let mut reader = LetterReader {
            input,
            frame: Vec::new(),
            hasher: blake3::Hasher::new(),
            seen: Counts::default(),
            in_letter: false,
            bytes: (0, 0),
        };
        let mut magic = [0; MAGIC.len()];
        let got = reader.read_some(&mut magic)?;
        let (word, version) = (&MAGIC[..15], MAGIC[15]);
        if magic[..got.min(15)] != word[..got.min(15)] {
            return Err(LetterError::NotLetters);
        }
        match magic.get(15).filter(|_| got == MAGIC.len()) {
            None => return Err(LetterError::CutShort),
            Some(&is) if is != version => return Err(LetterError::Version(is)),
            Some(_) => {}
        }
        if reader.next_frame()? != HEAD {
            return Err(LetterError::Frame("no head"));
        }
        let head: Head = codec::decode(&reader.frame, "head of letters")?;
        codec::limit("title", head.title.len() as u64, TEXT_BYTES_MAX as u64)?;
        Ok((reader, head))
    }

    /// Reads until the buffer is full or the input ends.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut got = 0;
        while got < buffer.len() {
            match self.input.read(&mut buffer[got..]) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LetterError::Read(error)),
            }
        }
        Ok(got)
    }

    /// Reads a frame into `self.frame`.
    fn next_frame(&mut self) -> Result<u8> {
        let mut start = [0; 5];
        if self.read_some(&mut start)? < start.len() {
            return Err(LetterError::CutShort);
        }
        let [kind, length @ ..] = start;
        let length = u32::from_be_bytes(length) as usize;
        let max = if kind == PART { PART_BYTES_MAX } else { FRAME_BYTES_MAX };
        if length > max {
            return Err(LetterError::Frame("a frame is too long"));
        }
        let mut frame = std::mem::take(&mut self.frame);
        frame.resize(length, 0);
        let got = self.read_some(&mut frame)?;
        self.frame = frame;
        if got < length { Err(LetterError::CutShort) } else { Ok(kind) }
    }

    /// The next letter; `None` at the proper end. Bytes of the last one that nobody took are passed over.
    pub fn next_letter(&mut self) -> Result<Option<Letter>> {
        while self.in_letter {
            match self.bytes(|_| Ok::<_, LetterError>(())) {
                Ok(()) | Err(LetterError::GivenUp(_)) => {}
                Err(error) => return Err(error),
            }
        }
        match self.next_frame()? {
            LETTER => {
                let letter = decode_letter(&self.frame)?;
                self.hasher.reset().update(&self.frame);
                self.in_letter = true;
                self.bytes = (0, letter.size);
                Ok(Some(letter))
            }
            END => {
                let counts: Counts = codec::decode(&self.frame, "end of letters")?;
                if counts != self.seen {
                    return Err(LetterError::Frame("letters are missing"));
                }
                if self.read_some(&mut [0])? > 0 {
                    return Err(LetterError::Frame("something follows their end"));
                }
                Ok(None)
            }
            _ => Err(LetterError::Frame("a letter is missing its beginning")),
        }
    }

    /// Hands out the bytes of the letter; only `Ok` says that they were all there and unchanged.
    ///
    /// After an error of `take`, the rest is passed over by [`LetterReader::next_letter`].
    pub fn bytes<E: From<LetterError>>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        while self.in_letter {
            match self.next_frame()? {
                PART => {
                    self.hasher.update(&self.frame);
                    self.bytes.0 += self.frame.len() as u64;
                    if self.bytes.0 > self.bytes.1 {
                        return Err(LetterError::Frame("a letter is longer than it should be").into());
                    }
                    take(&self.frame)?;
                }
                WHOLE => {
                    self.in_letter = false;
                    self.seen.letters += 1;
                    self.seen.bytes += self.bytes.0;
                    if self.hasher.finalize().as_bytes() != self.frame.as_slice() {
                        return Err(LetterError::Changed.into());
                    }
                }
                GIVEN_UP => {
                    self.in_letter = false;
                    self.seen.given_up += 1;
                    let why = String::from_utf8_lossy(&self.frame).into_owned();
                    return Err(LetterError::GivenUp(why).into());
                }
                _ => return Err(LetterError::Frame("a letter has no end").into()),
            }
        }
        Ok(())
    }

    /// What came so far.
    pub fn seen(&self) -> Counts {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn letters() -> impl Strategy<Value = Letter> {
        let keyword = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9));
        let flags = proptest::sample::subsequence(FLAGS.to_vec(), 0..=FLAGS.len());
        let names = ("\\PC{0,20}", "\\PC{0,20}", proptest::collection::vec(any::<u8>(), 0..40));
        let state = (flags, proptest::collection::vec(keyword, 0..5), any::<bool>());
        let rest = (any::<i64>(), 0u32..1_000_000_000, any::<Option<(u32, u32)>>());
        (names, state, rest).prop_map(|((user, folder, base), (flags, keywords, unseen_by_any), rest)| {
            Letter {
                user,
                folder,
                guid: base.first().map(|byte| vec![*byte; 3]),
                base,
                flags,
                keywords,
                unseen_by_any,
                arrived_s: rest.0,
                arrived_ns: rest.1,
                size: 0,
                uid: rest.2,
            }
        })
    }

    type Sent = (Letter, Vec<u8>, bool);

    fn sent() -> impl Strategy<Value = Vec<Sent>> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..300);
        let one = (letters(), bytes, proptest::bool::weighted(0.8)).prop_map(|(mut letter, bytes, whole)| {
            letter.size = bytes.len() as u64;
            (letter, bytes, whole)
        });
        proptest::collection::vec(one, 0..6)
    }

    fn write(head: &Head, sent: &[Sent]) -> Vec<u8> {
        let mut writer = LetterWriter::new(Vec::new(), head).unwrap();
        for (letter, bytes, whole) in sent {
            let mut sink = writer.letter(letter).unwrap();
            sink.write_all(bytes).unwrap();
            if *whole { sink.finish().unwrap() } else { sink.give_up("no such blob").unwrap() }
        }
        writer.finish().unwrap()
    }

    /// Everything until the end or an error.
    fn read(bytes: &[u8]) -> (Vec<Sent>, Option<LetterError>) {
        let mut got = Vec::new();
        let outcome = LetterReader::open(bytes).and_then(|(mut reader, _)| {
            while let Some(letter) = reader.next_letter()? {
                let mut bytes = Vec::new();
                let taken = reader.bytes(|part| {
                    bytes.extend_from_slice(part);
                    Ok::<_, LetterError>(())
                });
                match taken {
                    Ok(()) => got.push((letter, bytes, true)),
                    Err(LetterError::GivenUp(_)) => got.push((letter, bytes, false)),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        (got, outcome.err())
    }

    fn of_three_bytes(number: u8) -> Letter {
        Letter {
            user: "a".to_owned(),
            folder: "INBOX".to_owned(),
            base: vec![number],
            flags: b"FS".to_vec(),
            keywords: Vec::new(),
            unseen_by_any: false,
            arrived_s: 0,
            arrived_ns: 0,
            size: 3,
            guid: None,
            uid: None,
        }
    }

    #[test]
    fn letters_that_nobody_writes_are_refused() {
        let good = of_three_bytes(1);
        assert_eq!(decode_letter(&encode_letter(&good)).unwrap(), good);
        for bad in [
            Letter { flags: b"FF".to_vec(), ..good.clone() },
            Letter { flags: b"SF".to_vec(), ..good.clone() },
            Letter { flags: b"Z".to_vec(), ..good.clone() },
            Letter { arrived_ns: 1_000_000_000, ..good.clone() },
            Letter { keywords: vec![None; KEYWORDS_MAX + 1], ..good.clone() },
        ] {
            assert!(decode_letter(&encode_letter(&bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_letter_longer_than_it_says_is_damaged() {
        let bytes = write(&Head::default(), &[(of_three_bytes(1), b"abcd".to_vec(), true)]);
        let (got, error) = read(&bytes);
        assert!(got.is_empty());
        assert!(
            matches!(error, Some(LetterError::Frame("a letter is longer than it should be"))),
            "{error:?}"
        );
    }

    #[test]
    fn a_frame_has_the_size_of_its_kind_at_most() {
        let begin = write(&Head::default(), &[]);
        let head = &begin[..begin.len() - end_bytes(&begin)];
        for (kind, length, is_too_long) in [
            (LETTER, FRAME_BYTES_MAX, false),
            (LETTER, FRAME_BYTES_MAX + 1, true),
            (PART, PART_BYTES_MAX, false),
            (PART, PART_BYTES_MAX + 1, true),
        ] {
            let frame = [&[kind][..], &(length as u32).to_be_bytes()].concat();
            let (_, error) = read(&[head, &frame].concat());
            let told = matches!(error, Some(LetterError::Frame("a frame is too long")));
            assert_eq!(told, is_too_long, "{kind} {length}: {error:?}");
        }
    }

    /// Bytes of the last frame of an empty stream.
    fn end_bytes(stream: &[u8]) -> usize {
        let at = MAGIC.len() + 1;
        let head = u32::from_be_bytes(stream[at..at + 4].try_into().unwrap()) as usize;
        stream.len() - (at + 4 + head)
    }

    /// Is interrupted before each byte, as by a signal.
    struct Interrupted<'b>(&'b [u8], bool);

    impl Read for Interrupted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let some = buffer.len().min(1);
            self.0.read(&mut buffer[..some])
        }
    }

    #[test]
    fn a_signal_and_a_slow_pipe_harm_nothing() {
        let bytes = write(&Head::default(), &[(of_three_bytes(1), b"abc".to_vec(), true)]);
        let (mut reader, _) = LetterReader::open(Interrupted(&bytes, false)).unwrap();
        assert_eq!(reader.next_letter().unwrap().unwrap(), of_three_bytes(1));
        assert!(reader.next_letter().unwrap().is_none());
        assert_eq!(reader.seen(), Counts { letters: 1, bytes: 3, given_up: 0 });
    }

    #[test]
    fn bytes_that_nobody_takes_are_passed_over() {
        let letter = |n: u8| (of_three_bytes(n), b"abc".to_vec(), n != 1);
        let bytes = write(&Head::default(), &[letter(1), letter(2), letter(3)]);
        let (mut reader, _) = LetterReader::open(bytes.as_slice()).unwrap();
        for number in 1..=3 {
            assert_eq!(reader.next_letter().unwrap().unwrap().base, [number]);
        }
        assert!(reader.next_letter().unwrap().is_none());
        assert_eq!(reader.seen(), Counts { letters: 2, bytes: 6, given_up: 1 });
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives(sent in sent(), title in "\\PC{0,20}") {
            let head = Head { title, several_folders: true, without_bytes: false };
            let bytes = write(&head, &sent);
            prop_assert_eq!(LetterReader::open(bytes.as_slice()).unwrap().1, head);
            let (got, error) = read(&bytes);
            prop_assert!(error.is_none());
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn a_part_is_never_taken_for_the_whole(sent in sent(), cut in any::<proptest::sample::Index>()) {
            let bytes = write(&Head::default(), &sent);
            let (got, error) = read(&bytes[..cut.index(bytes.len())]);
            prop_assert!(matches!(error, Some(LetterError::CutShort)));
            prop_assert!(sent.starts_with(&got));
        }

        #[test]
        fn changed_bytes_are_noticed(sent in sent(), at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let mut bytes = write(&Head::default(), &sent);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (got, error) = read(&bytes);
            // The stream's head is under no hash, and so is a letter that was given up; what counts as whole is.
            let is_right = |(got, sent): (&Sent, &Sent)| !got.2 || got == sent;
            prop_assert!(error.is_some() || got.iter().zip(&sent).all(is_right));
        }
    }
}
