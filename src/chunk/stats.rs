//! What a splitter met, for the report of a backup.

use std::ops::AddAssign;

/// Attachments that were kept as they stood in the message, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RawAttachments {
    /// In another coding than base64 (8bit, binary, quoted-printable).
    pub not_base64: u64,
    /// Said to be base64, but holds other characters.
    pub bad_characters: u64,
    /// Lines of several widths or endings, or too long ones, before the first 4 KiB are through.
    pub irregular_lines: u64,
    /// Encoding it again would give other characters (bits behind the end, missing padding).
    pub not_canonical: u64,
    /// The message has more parts than a section takes.
    pub too_many_runs: u64,
    /// Base64 of less than 4 KiB; part of the text.
    pub small: u64,
}

/// What a splitter met; sums up over files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SplitStats {
    /// Bytes of the files.
    pub bytes: u64,
    /// Messages cut as such.
    pub messages: u64,
    /// Messages that cannot be looked into.
    pub opaque: u64,
    /// Attachments stored decoded.
    pub attachments_decoded: u64,
    /// Their size after decoding, bytes.
    pub attachments_decoded_bytes: u64,
    /// Decoded attachments behind which the same part went on with something else.
    pub attachments_with_rest: u64,
    /// Attachments kept as they stood.
    pub attachments_raw: RawAttachments,
}

impl AddAssign for RawAttachments {
    fn add_assign(&mut self, other: Self) {
        self.not_base64 += other.not_base64;
        self.bad_characters += other.bad_characters;
        self.irregular_lines += other.irregular_lines;
        self.not_canonical += other.not_canonical;
        self.too_many_runs += other.too_many_runs;
        self.small += other.small;
    }
}

impl AddAssign for SplitStats {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.messages += other.messages;
        self.opaque += other.opaque;
        self.attachments_decoded += other.attachments_decoded;
        self.attachments_decoded_bytes += other.attachments_decoded_bytes;
        self.attachments_with_rest += other.attachments_with_rest;
        self.attachments_raw += other.attachments_raw;
    }
}
