//! Which bytes of an mbox go when some of its messages are taken out.

use std::ops::Range;

/// Bytes of a file, from the first to the one behind the last.
pub type Bytes = Range<u64>;

/// What stands between two messages: the blank line that ends one, then the `From ` line of the next.
struct Frame {
    start: u64,
    length: u64,
    /// Bytes of the blank line.
    blank: u64,
}

/// Is told what an mbox is made of, from its beginning to its end, and gives the bytes that go.
///
/// A message goes with the `From ` line before it, so that the blank line between two messages stays one; what
/// is left is an mbox again, or nothing at all.
#[derive(Default)]
pub struct MboxCuts {
    at: u64,
    frame: Option<Frame>,
    /// Something that stays has come.
    kept: bool,
    cuts: Vec<Bytes>,
}

/// Length of the blank line that bytes begin with.
pub fn blank_prefix(bytes: &[u8]) -> u64 {
    match bytes {
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    }
}

impl MboxCuts {
    /// A frame of `length` bytes comes, of which the first `blank` are a blank line.
    pub fn frame(&mut self, length: u64, blank: u64) {
        self.keep_frame();
        self.frame = Some(Frame { start: self.at, length, blank });
        self.at += length;
    }

    /// A message of `length` bytes comes; `goes` when it is taken out.
    pub fn message(&mut self, length: u64, goes: bool) {
        if goes {
            let start = self.frame.take().map_or(self.at, |frame| frame.start);
            self.cut(start..self.at + length);
        } else {
            self.keep_frame();
            self.kept = true;
        }
        self.at += length;
    }

    /// Nothing comes any more: the ranges of bytes that go, in order, none touching another.
    pub fn finish(mut self) -> Vec<Bytes> {
        match self.frame.take() {
            // Nothing stands before this blank line any more.
            Some(frame) if !self.kept && frame.length == frame.blank && !self.cuts.is_empty() => {
                self.cut(frame.start..frame.start + frame.length);
            }
            frame => {
                self.frame = frame;
                self.keep_frame();
            }
        }
        self.cuts
    }

    fn keep_frame(&mut self) {
        let Some(frame) = self.frame.take() else { return };
        if !self.kept && !self.cuts.is_empty() && frame.blank > 0 {
            // The first line of an mbox is a `From ` line.
            self.cut(frame.start..frame.start + frame.blank);
        }
        self.kept = true;
    }

    fn cut(&mut self, range: Bytes) {
        match self.cuts.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.cuts.push(range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts messages out of an mbox of four.
    fn cut(gone: &[usize]) -> String {
        let frames =
            ["From a Mon\n", "\nFrom b Mon\n", "\nFrom c Mon\n", "\nFrom d Mon\n"].map(str::to_owned);
        let mut text = String::new();
        let mut cuts = MboxCuts::default();
        for (number, frame) in frames.iter().enumerate() {
            text.push_str(frame);
            cuts.frame(frame.len() as u64, blank_prefix(frame.as_bytes()));
            let message = format!("To: {number}\n");
            text.push_str(&message);
            cuts.message(message.len() as u64, gone.contains(&number));
        }
        text.push('\n');
        cuts.frame(1, 1);
        let mut left = String::new();
        let mut at = 0;
        for range in cuts.finish() {
            assert!(range.start >= at as u64 && !range.is_empty());
            left.push_str(&text[at..range.start as usize]);
            at = range.end as usize;
        }
        left + &text[at..]
    }

    #[test]
    fn what_is_left_is_an_mbox() {
        let message = |number: usize| format!("From {} Mon\nTo: {number}\n\n", ["a", "b", "c", "d"][number]);
        for bits in 0..16usize {
            let gone: Vec<usize> = (0..4).filter(|number| bits >> number & 1 == 1).collect();
            let left: String = (0..4).filter(|number| !gone.contains(number)).map(message).collect();
            assert_eq!(cut(&gone), left, "{gone:?}");
        }
    }

    #[test]
    fn an_untouched_mbox_keeps_every_byte() {
        let mut cuts = MboxCuts::default();
        cuts.frame(1, 1);
        cuts.message(5, false);
        cuts.frame(2, 2);
        assert_eq!(cuts.finish(), []);
    }
}
