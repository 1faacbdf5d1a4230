//! The one encoding of stored structs: bincode 2, standard configuration (little endian, varint), exact length.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

/// The bytes are not the encoding of the expected struct.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end too early, hold an unknown tag, or a length beyond what is left.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// The struct that was expected.
        what: &'static str,
        /// What the decoder met.
        detail: String,
    },
    /// Bytes follow a complete struct.
    #[error("malformed {what}: {count} bytes too many")]
    Trailing {
        /// The struct that was expected.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// A value is outside the limits table.
    #[error("{what} is beyond its limit: {value}")]
    Limit {
        /// The limited value.
        what: &'static str,
        /// What was met.
        value: u64,
    },
    /// Two fields that must agree do not.
    #[error("inconsistent {what}")]
    Inconsistent {
        /// The fields.
        what: &'static str,
    },
    /// The object begins with another type, version or suite than expected.
    #[error("not a {what}")]
    NotA {
        /// The expected type.
        what: &'static str,
    },
    /// A part of the format that this version does not know.
    #[error("unknown {what} {value}: written by a newer mailark?")]
    Unknown {
        /// The part.
        what: &'static str,
        /// Its number.
        value: u64,
    },
}

/// Shorthand for decoding results.
pub type Result<T> = std::result::Result<T, FormatError>;

type Limited<const BYTES: usize> = Configuration<LittleEndian, Varint, Limit<BYTES>>;

/// A decoder whose claimed lengths together may not pass `BYTES`.
fn limited<const BYTES: usize>() -> Limited<BYTES> {
    config::standard().with_limit::<BYTES>()
}

/// Encodes a struct.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, config::standard()).expect("plain structs encode into memory")
}

/// Appends the encoding of a struct.
pub fn encode_into<T: Encode>(value: &T, out: &mut Vec<u8>) {
    bincode::encode_into_std_write(value, out, config::standard()).expect("plain structs encode into memory");
}

/// Decodes a struct and returns what follows it.
///
/// Memory is taken for claimed lengths before the bytes for them were seen, so the claims are bounded by a
/// multiple of the input: no element of ours is more than 128 times larger in memory than encoded.
pub fn decode_prefix<'a, T: Decode<()>>(bytes: &'a [u8], what: &'static str) -> Result<(T, &'a [u8])> {
    let decoded = match bytes.len() {
        ..=0x1fff => bincode::decode_from_slice(bytes, limited::<{ 1 << 20 }>()),
        0x2000..=0x1_ffff => bincode::decode_from_slice(bytes, limited::<{ 16 << 20 }>()),
        0x2_0000..=0xf_ffff => bincode::decode_from_slice(bytes, limited::<{ 128 << 20 }>()),
        _ => bincode::decode_from_slice(bytes, limited::<{ 1 << 30 }>()),
    };
    let (value, used) =
        decoded.map_err(|error| FormatError::Malformed { what, detail: error.to_string() })?;
    Ok((value, &bytes[used..]))
}

/// Decodes a struct that fills `bytes` exactly.
pub fn decode<T: Decode<()>>(bytes: &[u8], what: &'static str) -> Result<T> {
    let (value, rest) = decode_prefix(bytes, what)?;
    if rest.is_empty() { Ok(value) } else { Err(FormatError::Trailing { what, count: rest.len() }) }
}

/// Refuses a value above its limit.
pub fn limit(what: &'static str, value: u64, max: u64) -> Result<()> {
    if value <= max { Ok(()) } else { Err(FormatError::Limit { what, value }) }
}

/// Refuses fields that do not agree.
pub fn agree(condition: bool, what: &'static str) -> Result<()> {
    if condition { Ok(()) } else { Err(FormatError::Inconsistent { what }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_and_huge_lengths_are_refused() {
        let mut bytes = encode(&vec![1u32, 2, 300]);
        assert_eq!(decode::<Vec<u32>>(&bytes, "list").unwrap(), [1, 2, 300]);
        bytes.push(0);
        assert_eq!(decode::<Vec<u32>>(&bytes, "list"), Err(FormatError::Trailing { what: "list", count: 1 }));
        let bomb = encode(&u64::MAX);
        assert!(matches!(decode::<Vec<u32>>(&bomb, "list"), Err(FormatError::Malformed { .. })));
        // However long the input, its claims are bounded by a multiple of it.
        for (length, bound) in [
            (0x1fff, 1u64 << 20),
            (0x2000, 16 << 20),
            (0x1_ffff, 16 << 20),
            (0x2_0000, 128 << 20),
            (0xf_ffff, 128 << 20),
            (0x10_0000, 1 << 30),
        ] {
            let long = encode(&vec![7u8; length - 5]);
            assert_eq!(decode::<Vec<u8>>(&long, "list").unwrap().len(), length - 5);
            let mut bomb = encode(&(bound + 1));
            bomb.resize(length, 0);
            let Err(FormatError::Malformed { detail, .. }) = decode_prefix::<Vec<u8>>(&bomb, "list") else {
                panic!("{length}: a bomb went off");
            };
            assert!(detail.contains("LimitExceeded"), "{length}: {detail}");
        }
        let bomb = encode(&(1u64 << 29));
        assert!(matches!(decode::<Vec<u8>>(&bomb, "list"), Err(FormatError::Malformed { .. })));
    }
}
