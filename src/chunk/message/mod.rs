//! Cuts one message: header and delimiter lines into its head, attachments into pieces of their own, all else
//! into its text.
//!
//! The cutter is a state machine over whatever bytes are there. A state takes what it can decide about and
//! waits for more; since every decision rests on a bounded stretch of the message, the result does not depend
//! on how the bytes were sliced, and what is held back stays below about 80 KiB. Broken MIME is never an
//! error: what is not understood is text.

mod base64;
mod delimiter;

use memchr::memchr;

use self::base64::{Decoder, Deviation, Lines, Probe};
use self::delimiter::{Boundaries, DELIMITER_MAX, Delimiter, Scan};
use super::Sink;
use super::assembly::{Assembly, Form};
use super::cdc::Gear;
use super::stats::SplitStats;
use crate::base::limits::ATTACHMENT_BYTES_MIN;
use crate::format::content::{BlobKind, Shape};
use crate::mail::detect;
use crate::mail::mime::{Body, PartHeader};

/// Longest header line that is read for its field, bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Where the cutter stands.
#[derive(Debug, Clone, Copy)]
enum State {
    /// At the first byte.
    Start,
    /// In a header block, at a line start unless in a line that is too long.
    Header { in_long_line: bool },
    /// At a line start where blank lines still belong to the head.
    Blank(Next),
    /// At the first line of a body that is said to be base64.
    Base64 { text: bool },
    /// At a line start inside base64 lines.
    Lines { lines: Lines },
    /// At the first line of a body that may be an attachment of its own.
    Large { text: bool, why: Option<Deviation> },
    /// In a raw attachment.
    Raw { line_start: bool },
    /// In text.
    Text { line_start: bool },
    /// In a message that cannot be looked into.
    Opaque,
}

/// What follows blank lines.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// A body said to be base64; `text` when it encodes text.
    Base64 { text: bool },
    /// What follows an attachment.
    Rest,
    /// What stands before or after the parts of a multipart.
    Text,
}

/// What a state did with the bytes: took that many, and can go on or needs more than is left.
enum Step {
    Go(usize),
    Wait(usize),
}

/// What every step needs.
pub struct Context<'a, S> {
    /// The secret that decides where chunks end.
    pub gear: &'a Gear,
    /// Where blobs and sections go.
    pub sink: &'a mut S,
    /// What was met.
    pub stats: &'a mut SplitStats,
}

/// Cuts messages, one after the other.
pub struct MessageCutter {
    state: State,
    /// Bytes that could not be decided about yet.
    pending: Vec<u8>,
    boundaries: Boundaries,
    fields: PartHeader,
    decoder: Decoder,
    assembly: Assembly,
}

impl MessageCutter {
    /// Makes a cutter whose sections span about `span` bytes.
    pub fn new(span: u64) -> MessageCutter {
        MessageCutter {
            state: State::Start,
            pending: Vec::new(),
            boundaries: Boundaries::default(),
            fields: PartHeader::default(),
            decoder: Decoder::default(),
            assembly: Assembly::new(span),
        }
    }

    /// Begins a message; one that was not finished is forgotten.
    pub fn begin(&mut self) {
        self.state = State::Start;
        self.pending.clear();
        self.boundaries.clear();
        self.fields.clear();
        self.assembly.begin(Shape::Message);
    }

    /// Takes the next bytes.
    pub fn push<S: Sink>(&mut self, bytes: &[u8], context: &mut Context<'_, S>) -> Result<(), S::Error> {
        if self.pending.is_empty() {
            let used = self.advance(bytes, false, context)?;
            self.pending.extend_from_slice(&bytes[used..]);
        } else {
            self.pending.extend_from_slice(bytes);
            let mut pending = std::mem::take(&mut self.pending);
            let used = self.advance(&pending, false, context)?;
            pending.drain(..used);
            self.pending = pending;
        }
        Ok(())
    }

    /// Ends the message; an empty one leaves nothing.
    pub fn finish<S: Sink>(&mut self, context: &mut Context<'_, S>) -> Result<(), S::Error> {
        let mut pending = std::mem::take(&mut self.pending);
        let used = self.advance(&pending, true, context)?;
        debug_assert_eq!(used, pending.len(), "at its end every state takes all");
        pending.clear();
        self.pending = pending;
        match self.state {
            State::Start => {}
            State::Opaque => context.stats.opaque += 1,
            _ => context.stats.messages += 1,
        }
        self.assembly.finish(context.sink)
    }

    fn advance<S: Sink>(
        &mut self,
        data: &[u8],
        end: bool,
        context: &mut Context<'_, S>,
    ) -> Result<usize, S::Error> {
        let mut at = 0;
        loop {
            match self.step(&data[at..], end, context)? {
                Step::Go(used) => at += used,
                Step::Wait(used) => return Ok(at + used),
            }
        }
    }

    fn step<S: Sink>(
        &mut self,
        data: &[u8],
        end: bool,
        context: &mut Context<'_, S>,
    ) -> Result<Step, S::Error> {
        match self.state {
            State::Start => Ok(self.start(data, end)),
            State::Header { in_long_line } => self.header(data, end, in_long_line, context),
            State::Blank(next) => self.blank(data, end, next, context),
            State::Base64 { text } => Ok(self.base64(data, end, text, context.stats)),
            State::Lines { lines } => self.lines(data, end, lines, context),
            State::Large { text, why } => Ok(self.large(data, end, text, why, context.stats)),
            State::Raw { line_start } => self.scan(data, line_start, end, true, context),
            State::Text { line_start } => self.scan(data, line_start, end, false, context),
            State::Opaque => {
                self.assembly.raw(context.gear, data, context.sink)?;
                Ok(Step::Wait(data.len()))
            }
        }
    }

    fn start(&mut self, data: &[u8], end: bool) -> Step {
        if data.is_empty() || (data.len() < detect::DETECT_BYTES && !end) {
            return Step::Wait(0);
        }
        let start = &data[..data.len().min(detect::DETECT_BYTES)];
        if detect::is_coded(start) || !detect::may_begin_message(start) {
            self.assembly.begin(Shape::Opaque);
            self.assembly.open_part(Form::Raw, BlobKind::Attachment);
            self.state = State::Opaque;
        } else {
            self.state = State::Header { in_long_line: false };
        }
        Step::Go(0)
    }

    fn header<S: Sink>(
        &mut self,
        data: &[u8],
        end: bool,
        mut in_long_line: bool,
        context: &mut Context<'_, S>,
    ) -> Result<Step, S::Error> {
        let mut at = 0;
        while at < data.len() {
            let rest = &data[at..];
            if in_long_line {
                let newline = memchr(b'\n', rest);
                in_long_line = newline.is_none();
                at += newline.map_or(rest.len(), |newline| newline + 1);
                continue;
            }
            let window = &rest[..rest.len().min(LINE_BYTES_MAX)];
            let length = match memchr(b'\n', window) {
                Some(newline) => newline + 1,
                None if window.len() == LINE_BYTES_MAX => {
                    in_long_line = true;
                    continue;
                }
                None if end => rest.len(),
                None => break,
            };
            let line = &rest[..length];
            if line.starts_with(b"--")
                && let Some(delimiter) = self.boundaries.read(line)
            {
                self.assembly.head(context.gear, &data[..at + length], context.sink)?;
                self.pass(delimiter);
                return Ok(Step::Go(at + length));
            }
            at += length;
            if matches!(line, b"\n" | b"\r\n") {
                self.assembly.head(context.gear, &data[..at], context.sink)?;
                self.enter_body();
                return Ok(Step::Go(at));
            }
            self.fields.line(line);
        }
        self.state = State::Header { in_long_line };
        self.assembly.head(context.gear, &data[..at], context.sink)?;
        Ok(Step::Wait(at))
    }

    /// Goes on behind a delimiter line: into a part's header block, or behind the last part.
    fn pass(&mut self, delimiter: Delimiter) {
        self.boundaries.pass(delimiter);
        self.fields.clear();
        self.state =
            if delimiter.closing { State::Blank(Next::Text) } else { State::Header { in_long_line: false } };
    }

    fn enter_body(&mut self) {
        self.state = match self.fields.body() {
            Body::Text => State::Text { line_start: true },
            Body::Multipart(boundary) => match self.boundaries.enter(boundary) {
                true => State::Blank(Next::Text),
                false => State::Text { line_start: true },
            },
            Body::Message => State::Header { in_long_line: false },
            Body::Base64 { text } => State::Blank(Next::Base64 { text }),
            Body::Attachment { text } => State::Large { text, why: None },
        };
        self.fields.clear();
    }

    fn blank<S: Sink>(
        &mut self,
        data: &[u8],
        end: bool,
        next: Next,
        context: &mut Context<'_, S>,
    ) -> Result<Step, S::Error> {
        let mut at = 0;
        loop {
            match &data[at..] {
                [b'\n', ..] => at += 1,
                [b'\r', b'\n', ..] => at += 2,
                [] | [b'\r'] if !end => break,
                _ => {
                    self.state = match next {
                        Next::Base64 { text } => State::Base64 { text },
                        Next::Rest | Next::Text => State::Text { line_start: true },
                    };
                    break;
                }
            }
        }
        self.assembly.head(context.gear, &data[..at], context.sink)?;
        if matches!(self.state, State::Blank(_)) {
            return Ok(Step::Wait(at));
        }
        if matches!(next, Next::Rest) && data.get(at).is_some_and(|&byte| byte != b'-') {
            context.stats.attachments_with_rest += 1;
        }
        Ok(Step::Go(at))
    }

    fn base64(&mut self, data: &[u8], end: bool, text: bool, stats: &mut SplitStats) -> Step {
        match self.decoder.probe(data, end) {
            Probe::More => return Step::Wait(0),
            Probe::Run(lines) if self.assembly.has_room() => {
                stats.attachments_decoded += 1;
                let form = Form::Base64 { width: lines.width, crlf: lines.crlf };
                self.assembly.open_part(form, part_kind(text));
                self.state = State::Lines { lines };
            }
            Probe::Run(_) => {
                stats.attachments_raw.too_many_runs += 1;
                self.state = State::Text { line_start: true };
            }
            Probe::Raw(Deviation::Small) => {
                stats.attachments_raw.small += 1;
                self.state = State::Text { line_start: true };
            }
            Probe::Raw(why) => self.state = State::Large { text, why: Some(why) },
        }
        Step::Go(0)
    }

    fn lines<S: Sink>(
        &mut self,
        data: &[u8],
        end: bool,
        lines: Lines,
        context: &mut Context<'_, S>,
    ) -> Result<Step, S::Error> {
        let stride = lines.stride();
        let mut at = 0;
        loop {
            let fitting = (self.assembly.left() / stride as u64) as usize;
            if fitting == 0 {
                self.assembly.next_section(context.sink)?;
            }
            let count = self.decoder.full_lines(&data[at..], lines, fitting.max(1));
            if count == 0 {
                break;
            }
            let decoded = &self.decoder.decoded;
            context.stats.attachments_decoded_bytes += decoded.len() as u64;
            self.assembly.lines(context.gear, decoded, count * stride, context.sink)?;
            at += count * stride;
        }
        let rest = &data[at..];
        // Two bytes behind the width tell any line ending.
        if !end && rest.len() < lines.width + 2 && memchr(b'\n', rest).is_none() {
            return Ok(Step::Wait(at));
        }
        let mut closed = true;
        if let Some((length, ended)) = self.decoder.last_line(rest, lines) {
            closed = ended;
            context.stats.attachments_decoded_bytes += self.decoder.decoded.len() as u64;
            self.assembly.lines(context.gear, &self.decoder.decoded, length, context.sink)?;
            at += length;
        }
        self.assembly.close_part(closed, context.sink)?;
        self.state = State::Blank(Next::Rest);
        Ok(Step::Go(at))
    }

    /// Decides whether a body is large enough for a piece of its own.
    fn large(
        &mut self,
        data: &[u8],
        end: bool,
        text: bool,
        why: Option<Deviation>,
        stats: &mut SplitStats,
    ) -> Step {
        let needed = ATTACHMENT_BYTES_MIN + DELIMITER_MAX;
        if data.len() < needed && !end {
            return Step::Wait(0);
        }
        let window = &data[..data.len().min(needed)];
        let length = match self.boundaries.scan(window, true, end && window.len() == data.len()) {
            Scan::Found { at, .. } => at,
            Scan::Clear(_) => window.len(),
        };
        self.state = State::Text { line_start: true };
        let raw = &mut stats.attachments_raw;
        if length < ATTACHMENT_BYTES_MIN {
            raw.small += u64::from(why.is_some());
        } else if !self.assembly.has_room() {
            raw.too_many_runs += 1;
        } else {
            match why {
                None => raw.not_base64 += 1,
                Some(Deviation::Characters) => raw.bad_characters += 1,
                Some(Deviation::NotCanonical) => raw.not_canonical += 1,
                Some(_) => raw.irregular_lines += 1,
            }
            if !(text && why.is_some()) {
                self.assembly.open_part(Form::Raw, part_kind(text));
                self.state = State::Raw { line_start: true };
            }
        }
        Step::Go(0)
    }

    /// Takes text or a raw attachment up to the next delimiter line.
    fn scan<S: Sink>(
        &mut self,
        data: &[u8],
        line_start: bool,
        end: bool,
        raw: bool,
        context: &mut Context<'_, S>,
    ) -> Result<Step, S::Error> {
        let found = self.boundaries.scan(data, line_start, end);
        let (Scan::Found { at: free, .. } | Scan::Clear(free)) = found;
        if raw {
            self.assembly.raw(context.gear, &data[..free], context.sink)?;
        } else {
            self.assembly.text(context.gear, &data[..free], context.sink)?;
        }
        if let Scan::Found { at, length, delimiter } = found {
            if raw {
                self.assembly.close_part(false, context.sink)?;
            }
            self.assembly.head(context.gear, &data[at..at + length], context.sink)?;
            self.pass(delimiter);
            return Ok(Step::Go(at + length));
        }
        let line_start = data[..free].last().map_or(line_start, |&last| last == b'\n');
        self.state = if raw { State::Raw { line_start } } else { State::Text { line_start } };
        Ok(Step::Wait(free))
    }
}

fn part_kind(text: bool) -> BlobKind {
    if text { BlobKind::Text } else { BlobKind::Attachment }
}
