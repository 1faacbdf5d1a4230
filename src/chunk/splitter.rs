//! The one entrance: decides what a file is and hands its bytes to the cutter for it.

use super::assembly::SECTION_SPAN;
use super::cdc::Gear;
use super::frames::{DboxFrames, Framed, MboxFrames};
use super::message::{Context, MessageCutter};
use super::plain::{FileCutter, StateCutter, emit_zeros};
use super::stats::SplitStats;
use super::{Hint, Sink};
use crate::mail::{dbox, detect, mbox};

/// Bytes that are looked at in one go, so that one huge push costs no more memory than many small ones.
const PUSH_BYTES: usize = 128 << 10;

/// What the file is.
enum Mode {
    Undecided(Hint),
    Bytes,
    State,
    Message,
    Mbox(Box<MboxFrames>),
    Dbox(DboxFrames),
}

/// Splits files, one after the other; keeps its buffers, at most about 14 MiB.
///
/// The sections of a file depend on its bytes, the hint and the secret, never on how the bytes were sliced.
pub struct Splitter {
    gear: Gear,
    mode: Mode,
    /// Bytes that could not be decided about yet.
    pending: Vec<u8>,
    file: FileCutter,
    state: StateCutter,
    message: MessageCutter,
    stats: SplitStats,
}

impl Splitter {
    /// Makes a splitter whose cuts depend on a secret of the repository.
    pub fn new(cdc_secret: [u8; 32]) -> Splitter {
        Splitter::with_span(cdc_secret, SECTION_SPAN)
    }

    /// As `new`, with sections of messages that span about `span` bytes.
    pub(super) fn with_span(cdc_secret: [u8; 32], span: u64) -> Splitter {
        Splitter {
            gear: Gear::new(&cdc_secret),
            mode: Mode::Undecided(Hint::Detect),
            pending: Vec::new(),
            file: FileCutter::default(),
            state: StateCutter::default(),
            message: MessageCutter::new(span),
            stats: SplitStats::default(),
        }
    }

    /// Begins a file; one that was not finished is forgotten.
    pub fn begin(&mut self, hint: Hint) {
        self.pending.clear();
        self.file.reset();
        self.state.reset();
        self.message.begin();
        self.stats = SplitStats::default();
        self.mode = match hint {
            Hint::Bytes => Mode::Bytes,
            Hint::State => Mode::State,
            Hint::Message => Mode::Message,
            Hint::Detect | Hint::Mbox | Hint::Dbox => Mode::Undecided(hint),
        };
    }

    /// Takes the next bytes of the file.
    pub fn push<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) -> Result<(), S::Error> {
        self.stats.bytes += bytes.len() as u64;
        for slice in bytes.chunks(PUSH_BYTES) {
            if self.pending.is_empty() {
                let used = self.advance(slice, false, sink)?;
                self.pending.extend_from_slice(&slice[used..]);
            } else {
                self.pending.extend_from_slice(slice);
                self.advance_pending(false, sink)?;
            }
        }
        Ok(())
    }

    /// Takes a hole of `length` zero bytes. What is open is closed, and the rest of the file has no mail
    /// meaning: no mailbox or message has holes.
    pub fn zeros<S: Sink>(&mut self, length: u64, sink: &mut S) -> Result<(), S::Error> {
        self.close(sink)?;
        self.mode = Mode::Bytes;
        self.stats.bytes += length;
        emit_zeros(length, sink)
    }

    /// Ends the file.
    pub fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<SplitStats, S::Error> {
        self.close(sink)?;
        Ok(self.stats)
    }

    fn close<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        self.advance_pending(true, sink)?;
        match self.mode {
            Mode::Undecided(_) | Mode::Mbox(_) | Mode::Dbox(_) => Ok(()),
            Mode::Bytes => self.file.finish(sink),
            Mode::State => self.state.finish(sink),
            Mode::Message => {
                let mut context = Context { gear: &self.gear, sink, stats: &mut self.stats };
                self.message.finish(&mut context)?;
                self.message.begin();
                Ok(())
            }
        }
    }

    fn advance_pending<S: Sink>(&mut self, end: bool, sink: &mut S) -> Result<(), S::Error> {
        let mut pending = std::mem::take(&mut self.pending);
        let used = self.advance(&pending, end, sink)?;
        debug_assert!(!end || used == pending.len(), "at the end of a file all is taken");
        pending.drain(..used);
        self.pending = pending;
        Ok(())
    }

    /// Takes what can be decided about and returns how many bytes that was; all of them at the `end`.
    fn advance<S: Sink>(&mut self, data: &[u8], end: bool, sink: &mut S) -> Result<usize, S::Error> {
        if let Mode::Undecided(hint) = self.mode {
            if (data.len() < detect::DETECT_BYTES && !end) || data.is_empty() {
                return Ok(0);
            }
            self.mode = decide(data, hint);
        }
        let mut context = Context { gear: &self.gear, sink, stats: &mut self.stats };
        let taken = match &mut self.mode {
            Mode::Message => {
                self.message.push(data, &mut context)?;
                data.len()
            }
            Mode::Mbox(frames) => frames.advance(data, end, &mut self.message, &mut context)?,
            Mode::Dbox(frames) => match frames.advance(data, end, &mut self.message, &mut context)? {
                Framed::Took(taken) => taken,
                Framed::Broken(taken, frame) => {
                    self.mode = Mode::Bytes;
                    self.file.push(&self.gear, &frame, context.sink)?;
                    self.file.push(&self.gear, &data[taken..], context.sink)?;
                    data.len()
                }
            },
            Mode::Bytes => {
                self.file.push(&self.gear, data, context.sink)?;
                data.len()
            }
            Mode::State => {
                self.state.push(&self.gear, data, context.sink)?;
                data.len()
            }
            Mode::Undecided(_) => 0,
        };
        Ok(taken)
    }
}

/// Decides by the first bytes: at least `DETECT_BYTES`, or the whole file.
fn decide(data: &[u8], hint: Hint) -> Mode {
    let start = &data[..data.len().min(detect::DETECT_BYTES)];
    let line = &start[..memchr::memchr(b'\n', start).unwrap_or(start.len())];
    let whole_line = line.len() < start.len();
    if whole_line && dbox::file_header(line).is_some() {
        Mode::Dbox(DboxFrames::default())
    } else if mbox::is_from_line(line) {
        Mode::Mbox(Box::default())
    } else if hint != Hint::Dbox && detect::looks_like_message(start) {
        Mode::Message
    } else {
        Mode::Bytes
    }
}
