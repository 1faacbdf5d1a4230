//! What is fuzzed: each target takes any bytes, and panics when something is wrong.
//!
//! The fuzzer (`fuzz/run`) and the tests (`tests/it/fuzz_replay.rs`) run the same functions. A target must be quick,
//! must take little memory whatever it is given, and must not depend on anything but its bytes.

mod decoders;
mod files;
mod mail;
mod pages;

/// A target: its name, which is that of its folder in `fuzz/corpus`, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("checkpoint", decoders::checkpoint),
    ("compressed", decoders::compressed),
    ("config", decoders::config),
    ("content", decoders::content),
    ("content_page", decoders::content_page),
    ("content_walk", pages::content_walk),
    ("dbox", mail::dbox),
    ("delta", decoders::delta),
    ("detect", mail::detect),
    ("envelope", decoders::envelope),
    ("heading", mail::heading),
    ("inventory", decoders::inventory),
    ("join_hostile", files::join_hostile),
    ("key_set", decoders::key_set),
    ("letters", decoders::letters),
    ("mail_state", mail::mail_state),
    ("maildir_name", mail::maildir_name),
    ("mbox", mail::mbox),
    ("mime", mail::mime),
    ("object", decoders::object),
    ("pack_list", decoders::pack_list),
    ("page", decoders::page),
    ("parity", decoders::parity),
    ("record", decoders::record),
    ("recovery_code", decoders::recovery_code),
    ("segment_table", decoders::segment_table),
    ("slot", decoders::slot),
    ("snapshot", decoders::snapshot),
    ("split_join", files::split_join),
    ("trailer", decoders::trailer),
    ("tree_walk", pages::tree_walk),
];

/// Takes numbers and stretches from the front of the input; what is not there is zero or empty.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    pub fn number(&mut self, bytes: usize) -> u64 {
        self.bytes(bytes).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// At most so many bytes.
    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A length of two bytes, then that many bytes.
    pub fn stretch(&mut self) -> &'a [u8] {
        let length = self.number(2) as usize;
        self.bytes(length)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
