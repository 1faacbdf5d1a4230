//! One table of limits: everything read from a repository is bounded by these before memory is taken.
//! Section "Limits" of `repo-format.md` is normative for the same numbers.

/// Largest plaintext of one blob, bytes.
pub const BLOB_BYTES_MAX: usize = 8 << 20;
/// Largest plaintext of one segment, bytes.
pub const SEGMENT_BYTES_MAX: usize = 16 << 20;
/// Aim for the plaintext of one segment, bytes; a segment closes when it reaches this.
pub const SEGMENT_BYTES_AIM: usize = 1 << 20;
/// Most blobs in one segment.
pub const SEGMENT_BLOBS_MAX: usize = 65_535;
/// Largest pack file, bytes.
pub const PACK_BYTES_MAX: u64 = 128 << 20;
/// Aim for a pack file, bytes; a pack closes when it reaches this.
pub const PACK_BYTES_AIM: u64 = 32 << 20;
/// Most segments in one pack.
pub const PACK_SEGMENTS_MAX: usize = 65_535;
/// Largest zstd window a reader accepts, as a power of two.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// Largest object other than a pack, bytes.
pub const OBJECT_BYTES_MAX: u64 = 256 << 20;
/// Largest key slot or config object, bytes.
pub const SMALL_OBJECT_BYTES_MAX: u64 = 64 << 10;
/// Highest number of an object in its folder.
pub const SEQUENCE_MAX: u64 = 1_000_000_000;
/// Most that parity adds to a pack, percent.
pub const PARITY_PERCENT_MAX: u32 = 50;
/// Most data shards, and most recovery shards, of one parity object.
pub const PARITY_SHARDS_MAX: usize = 1_024;
/// Most packs that one prune condemns; what is left over is for the next one.
pub const CONDEMNED_PACKS_MAX: usize = 16_384;
/// Most packs named by one delta.
pub const DELTA_PACKS_MAX: usize = 65_536;

/// Most entries in one page of a tree.
pub const PAGE_ENTRIES_MAX: usize = 4_096;
/// Largest plaintext of one page, bytes.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// Most levels of fence pages above a leaf, in one folder or one content.
pub const PAGE_LEVELS_MAX: u8 = 12;
/// Deepest nesting of folders.
pub const TREE_DEPTH_MAX: usize = 2_048;
/// Longest file name, bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest symbolic link target, bytes.
pub const LINK_BYTES_MAX: usize = 4_096;
/// Longest path, bytes.
pub const PATH_BYTES_MAX: usize = 1 << 20;
/// Largest extended attributes of one entry together, bytes.
pub const XATTR_BYTES_MAX: usize = 1 << 20;
/// Extended attributes of one entry that are kept inside its page; larger ones are left out with a problem.
pub const XATTR_INLINE_MAX: usize = 256 << 10;

/// Longest encoded recipe kept inside an entry, bytes; a longer one is paged.
pub const RECIPE_INLINE_MAX: usize = 1 << 10;
/// Most runs in one section.
pub const SECTION_RUNS_MAX: usize = 1_000;
/// Most pieces in one section.
pub const SECTION_PIECES_MAX: usize = 1_002;
/// Most blobs in one section.
pub const SECTION_BLOBS_MAX: usize = 4_096;
/// Most sections in one content page or inline recipe.
pub const PAGE_SECTIONS_MAX: usize = 4_096;

/// Smallest base64 line, characters.
pub const BASE64_WIDTH_MIN: usize = 4;
/// Longest base64 line, characters.
pub const BASE64_WIDTH_MAX: usize = 65_536;
/// Smallest decoded attachment that is stored apart, bytes.
pub const ATTACHMENT_BYTES_MIN: usize = 4 << 10;
/// Largest `head` blob, bytes; the rest of a larger header is text.
pub const HEAD_BYTES_MAX: usize = 1 << 20;

/// Least Argon2id memory a reader accepts, KiB.
pub const ARGON2_KIB_MIN: u32 = 64 << 10;
/// Most Argon2id memory a reader accepts, KiB.
pub const ARGON2_KIB_MAX: u32 = 1 << 20;
/// Most Argon2id passes a reader accepts.
pub const ARGON2_PASSES_MAX: u32 = 64;
/// Most Argon2id lanes a reader accepts.
pub const ARGON2_LANES_MAX: u32 = 16;

/// Most epochs in one full key set; what its fixed place in a key slot holds.
pub const KEY_EPOCHS_MAX: usize = 120;
/// Smallest key file, bytes.
pub const KEY_FILE_BYTES_MIN: usize = 32;
/// Largest key file, bytes.
pub const KEY_FILE_BYTES_MAX: usize = 1 << 20;

/// What a mount holds in memory; no bounds of the stored form.
pub mod mount {
    /// Plaintext of segments, bytes.
    pub const SEGMENT_CACHE_BYTES: usize = 64 << 20;
    /// Decoded pages of trees and contents, bytes, counted roughly.
    pub const PAGE_CACHE_BYTES: usize = 32 << 20;
    /// Files whose damage was told, so that it is not told again.
    pub const TOLD_MAX: usize = 1 << 16;
    /// Folders that are known to hold no other users' mail than is known.
    pub const SEEN_FOLDERS_MAX: usize = 1 << 22;
    /// Control folders that are known to be prepared.
    pub const PREPARED_MAX: usize = 1 << 16;
    /// Largest file of a mail server's control folder that is copied, bytes.
    pub const CONTROL_FILE_BYTES_MAX: u64 = 256 << 20;
}
