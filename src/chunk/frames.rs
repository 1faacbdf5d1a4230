//! Finds the messages in mailbox files: mbox and dbox. What stands around them becomes small sections of its
//! own, so that a message in a mailbox file is the same blobs as in a Maildir.

use memchr::memchr;
use memchr::memmem::Finder;

use super::Sink;
use super::message::{Context, MessageCutter};
use super::plain::emit_small;
use crate::format::content::BlobKind;
use crate::mail::{dbox, mbox};

/// Kind of the blobs between messages: they are short and look alike, as text does.
const FRAME: BlobKind = BlobKind::Text;

/// Bytes before a `From ` line that decide whether it cuts: the end of a line and a blank line, at most.
const BEFORE_FROM: usize = b"\n\r\n".len();

/// Cuts an mbox at its `From ` lines.
pub struct MboxFrames {
    finder: Finder<'static>,
    /// The next byte is the first of the file.
    first: bool,
    /// The next byte is the first behind a `From ` line.
    fresh: bool,
}

impl Default for MboxFrames {
    fn default() -> Self {
        MboxFrames { finder: Finder::new(b"\nFrom "), first: true, fresh: false }
    }
}

impl MboxFrames {
    /// Takes what can be decided about and returns how many bytes that was; all of them at the `end`.
    ///
    /// The file begins with a `From ` line.
    pub fn advance<S: Sink>(
        &mut self,
        data: &[u8],
        end: bool,
        message: &mut MessageCutter,
        context: &mut Context<'_, S>,
    ) -> Result<usize, S::Error> {
        let mut at = 0;
        if self.first {
            let Some(length) = line_length(data, mbox::FROM_LINE_MAX, end) else { return Ok(0) };
            self.first = false;
            self.separator(&data[..length], message, context)?;
            at = length;
        }
        let mut searched = at;
        while let Some(found) = self.finder.find(&data[searched..]) {
            let newline = searched + found;
            searched = newline + 1;
            let before = mbox::blank_line_start(&data[at..], newline - at).map(|start| at + start);
            let Some(blank) = before.or((self.fresh && newline == at).then_some(at)) else { continue };
            let line = &data[newline + 1..];
            let Some(length) = line_length(line, mbox::FROM_LINE_MAX, end) else {
                // The line before stays, because it tells the blank line from any other.
                return self.body(data, at, blank.saturating_sub(1).max(at), message, context);
            };
            if mbox::is_from_line(&line[..length]) {
                self.body(data, at, blank, message, context)?;
                message.finish(context)?;
                at = newline + 1 + length;
                searched = at;
                self.separator(&data[blank..at], message, context)?;
            }
        }
        if end {
            return self.last(data, at, message, context);
        }
        let held = self.finder.needle().len() - 1 + BEFORE_FROM;
        self.body(data, at, data.len().saturating_sub(held).max(at), message, context)
    }

    /// Emits a `From ` line with the blank line before it and begins a message.
    fn separator<S: Sink>(
        &mut self,
        bytes: &[u8],
        message: &mut MessageCutter,
        context: &mut Context<'_, S>,
    ) -> Result<(), S::Error> {
        emit_small(FRAME, bytes, context.sink)?;
        message.begin();
        self.fresh = true;
        Ok(())
    }

    /// Gives a stretch to the message; returns where it ends.
    fn body<S: Sink>(
        &mut self,
        data: &[u8],
        from: usize,
        to: usize,
        message: &mut MessageCutter,
        context: &mut Context<'_, S>,
    ) -> Result<usize, S::Error> {
        if to > from {
            self.fresh = false;
            message.push(&data[from..to], context)?;
        }
        Ok(to)
    }

    /// Ends the last message; its blank line belongs to the mailbox too.
    fn last<S: Sink>(
        &mut self,
        data: &[u8],
        at: usize,
        message: &mut MessageCutter,
        context: &mut Context<'_, S>,
    ) -> Result<usize, S::Error> {
        let rest = &data[at..];
        let blank = match rest {
            b"\n" | b"\r\n" if self.fresh => at,
            [.., b'\n'] => {
                mbox::blank_line_start(rest, rest.len() - 1).map_or(data.len(), |start| at + start)
            }
            _ => data.len(),
        };
        self.body(data, at, blank, message, context)?;
        message.finish(context)?;
        emit_small(FRAME, &data[blank..], context.sink)?;
        Ok(data.len())
    }
}

/// Length of the line that `data` begins with, at most `most`; `None` when its end is not there yet.
fn line_length(data: &[u8], most: usize, end: bool) -> Option<usize> {
    let window = &data[..data.len().min(most)];
    match memchr(b'\n', window) {
        Some(at) => Some(at + 1),
        None if window.len() == most || end => Some(window.len()),
        None => None,
    }
}

enum DboxState {
    FileHeader,
    MessageHeader,
    Message { left: u64 },
    Metadata,
    Broken,
}

/// Cuts a dbox file at its frames.
pub struct DboxFrames {
    state: DboxState,
    header_size: usize,
    /// Metadata of the last message, then the header of the next.
    frame: Vec<u8>,
}

impl Default for DboxFrames {
    fn default() -> Self {
        DboxFrames { state: DboxState::FileHeader, header_size: 0, frame: Vec::new() }
    }
}

/// What a frame cutter did.
pub enum Framed {
    /// Took that many bytes.
    Took(usize),
    /// Took that many bytes and met something that is no frame; the bytes given back and all that follows
    /// have no mail meaning.
    Broken(usize, Vec<u8>),
}

impl DboxFrames {
    /// Takes what can be decided about; all of it at the `end`, unless the frames are broken.
    pub fn advance<S: Sink>(
        &mut self,
        data: &[u8],
        end: bool,
        message: &mut MessageCutter,
        context: &mut Context<'_, S>,
    ) -> Result<Framed, S::Error> {
        let mut at = 0;
        loop {
            let rest = &data[at..];
            match self.state {
                DboxState::Message { left } => {
                    let fitting = left.min(rest.len() as u64) as usize;
                    message.push(&rest[..fitting], context)?;
                    at += fitting;
                    let left = left - fitting as u64;
                    self.state = DboxState::Message { left };
                    if left > 0 && !end {
                        return Ok(Framed::Took(at));
                    }
                    message.finish(context)?;
                    self.state = DboxState::Metadata;
                }
                DboxState::Broken => return Ok(Framed::Broken(at, std::mem::take(&mut self.frame))),
                _ if rest.is_empty() && end => {
                    emit_small(FRAME, &self.frame, context.sink)?;
                    return Ok(Framed::Took(at));
                }
                _ => match self.frame_length(rest, end) {
                    Some(length) => {
                        self.frame.extend_from_slice(&rest[..length]);
                        self.enter(&rest[..length], message, context)?;
                        at += length;
                    }
                    None => return Ok(Framed::Took(at)),
                },
            }
        }
    }

    /// Bytes of the next part of a frame, 0 when it is none; `None` while more are needed.
    fn frame_length(&self, rest: &[u8], end: bool) -> Option<usize> {
        let (length, most) = match self.state {
            DboxState::FileHeader => (memchr(b'\n', rest).map(|newline| newline + 1), dbox::FILE_HEADER_MAX),
            DboxState::MessageHeader => ((rest.len() >= self.header_size).then_some(self.header_size), 256),
            _ => (dbox::metadata_length(&rest[..rest.len().min(dbox::METADATA_MAX)]), dbox::METADATA_MAX),
        };
        match length {
            Some(length) if length <= most => Some(length),
            None if rest.len() < most && !end => None,
            _ => Some(0),
        }
    }

    /// Reads a part of a frame and goes on to what it says follows.
    fn enter<S: Sink>(
        &mut self,
        part: &[u8],
        message: &mut MessageCutter,
        context: &mut Context<'_, S>,
    ) -> Result<(), S::Error> {
        let next = match self.state {
            DboxState::FileHeader => dbox::file_header(part.trim_ascii_end()).map(|size| {
                self.header_size = size;
                DboxState::MessageHeader
            }),
            DboxState::MessageHeader => dbox::message_header(part).map(|left| DboxState::Message { left }),
            _ => (!part.is_empty()).then_some(DboxState::MessageHeader),
        };
        self.state = next.unwrap_or(DboxState::Broken);
        if matches!(self.state, DboxState::Message { .. }) {
            emit_small(FRAME, &self.frame, context.sink)?;
            self.frame.clear();
            message.begin();
        }
        Ok(())
    }
}
