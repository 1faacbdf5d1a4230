//! Key slots: `keys/<slot id>`, one way to open a key set.
//!
//! A slot is magic, header, sealed key set, signature, checksum. The checksum needs no key: it tells a rotten
//! slot from a wrong password. Section "Key slots" of `repo-format.md`.

use bincode::de::Decoder;
use bincode::de::read::Reader;
use bincode::enc::Encoder;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use super::codec::{self, FormatError, Result};
use super::envelope::SUITE;
use super::keyset::{KeySet, Role};
use crate::base::id::SlotId;
use crate::base::limits;

/// Number of the object type "key slot" in signatures.
pub const SLOT_OBJECT: u8 = super::object::ObjectType::KeySlot as u8;

const MAGIC: [u8; 8] = *b"MARKKEY1";
const MAGIC_FAMILY: usize = 7;
const SUITE_OFFSET: usize = 8;
const KIND_OFFSET: usize = SUITE_OFFSET + 1 + 8;
const KINDS: u8 = 3;
const SEALED_BYTES: usize = KeySet::PADDED_BYTES + 16;
const SIGNATURE_BYTES: usize = 64;
const CHECKSUM_BYTES: usize = 32;

/// Text of at most 255 bytes, as its length in one byte and its UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShortText(String);

impl ShortText {
    /// Takes a text.
    ///
    /// # Errors
    /// The text is longer than 255 bytes.
    pub fn new(text: &str) -> Result<ShortText> {
        codec::limit("text of a key slot", text.len() as u64, u8::MAX.into())?;
        Ok(ShortText(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// Written by hand: a length of one byte cannot claim more than 255.
impl Encode for ShortText {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> std::result::Result<(), EncodeError> {
        (self.0.len() as u8).encode(encoder)?;
        encoder.writer().write(self.0.as_bytes())
    }
}

impl<Context> Decode<Context> for ShortText {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> std::result::Result<Self, DecodeError> {
        let mut bytes = vec![0; u8::decode(decoder)?.into()];
        decoder.reader().read(&mut bytes)?;
        String::from_utf8(bytes).map(ShortText).map_err(|_| DecodeError::Other("text that is not UTF-8"))
    }
}
bincode::impl_borrow_decode!(ShortText);

/// What opens a slot, and with which salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SlotKind {
    /// A password, stretched with Argon2id version 0x13.
    Password {
        /// Memory, KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// Fresh random bytes.
        salt: [u8; 32],
    },
    /// The bytes of a key file.
    KeyFile {
        /// Fresh random bytes.
        salt: [u8; 32],
    },
    /// A recovery code.
    Recovery {
        /// Fresh random bytes.
        salt: [u8; 32],
    },
}

impl SlotKind {
    /// Refuses a cost outside the limits, before memory is taken for it.
    pub fn check(&self) -> Result<()> {
        let SlotKind::Password { memory_kib, passes, lanes, .. } = *self else { return Ok(()) };
        for (what, value, min, max) in [
            ("memory of a password slot", memory_kib, limits::ARGON2_KIB_MIN, limits::ARGON2_KIB_MAX),
            ("passes of a password slot", passes, 1, limits::ARGON2_PASSES_MAX),
            ("lanes of a password slot", lanes, 1, limits::ARGON2_LANES_MAX),
        ] {
            if !(min..=max).contains(&value) {
                return Err(FormatError::Limit { what, value: value.into() });
            }
        }
        Ok(())
    }
}

/// What anyone can read of a slot; only an opened slot proves it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SlotHeader {
    /// The algorithms.
    pub suite: u8,
    /// The slot's name; the caller compares it with the file's.
    pub id: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// The role of the key set inside.
    pub role: Role,
    /// What its owner calls it.
    pub label: ShortText,
    /// The name of the host it was made for; empty when for none.
    pub host_name: ShortText,
    /// When it was made, seconds since 1970-01-01T00:00:00Z.
    pub created: i64,
}

impl SlotHeader {
    /// The bytes in clear: magic and header, also the associated data of the sealed key set.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        codec::encode_into(self, &mut bytes);
        bytes
    }
}

/// A slot taken apart; nothing in it is proven but its checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotParts<'a> {
    /// What stands in clear.
    pub header: SlotHeader,
    /// Magic and header as they are stored.
    pub clear: &'a [u8],
    /// The padded key set and its tag.
    pub sealed: &'a [u8],
    /// `clear` and `sealed`.
    pub signed: &'a [u8],
    /// The repository's signature over `signed`.
    pub signature: [u8; SIGNATURE_BYTES],
}

/// Takes a slot file apart.
///
/// # Errors
/// [`FormatError::Unknown`] for a newer version, suite or kind; otherwise what is wrong with the bytes.
pub fn split(bytes: &[u8]) -> Result<SlotParts<'_>> {
    const WHAT: &str = "key slot";
    codec::limit(WHAT, bytes.len() as u64, limits::SMALL_OBJECT_BYTES_MAX)?;
    if bytes.len() < KIND_OFFSET + 1 || bytes[..MAGIC_FAMILY] != MAGIC[..MAGIC_FAMILY] {
        return Err(FormatError::NotA { what: WHAT });
    }
    for (what, offset, known) in
        [("key slot version", MAGIC_FAMILY, MAGIC[MAGIC_FAMILY]), ("suite", SUITE_OFFSET, SUITE)]
    {
        if bytes[offset] != known {
            return Err(FormatError::Unknown { what, value: bytes[offset].into() });
        }
    }
    let short = || FormatError::Malformed { what: WHAT, detail: "it ends too early".to_owned() };
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(short)?;
    codec::agree(blake3::hash(body) == *checksum, "checksum of a key slot")?;
    if bytes[KIND_OFFSET] >= KINDS {
        return Err(FormatError::Unknown { what: "key slot kind", value: bytes[KIND_OFFSET].into() });
    }
    let (signed, signature) = body.split_last_chunk::<SIGNATURE_BYTES>().ok_or_else(short)?;
    let clear_bytes = signed.len().checked_sub(SEALED_BYTES).ok_or_else(short)?;
    let (clear, sealed) = signed.split_at(clear_bytes);
    let header: SlotHeader = codec::decode(clear.get(MAGIC.len()..).ok_or_else(short)?, WHAT)?;
    header.kind.check()?;
    codec::agree(header.encode() == clear, "encoding of a key slot")?;
    Ok(SlotParts { header, clear, sealed, signed, signature: *signature })
}

/// Completes a slot file: `signed` is the header in clear and the sealed key set.
pub fn join(mut signed: Vec<u8>, signature: &[u8; SIGNATURE_BYTES]) -> Vec<u8> {
    signed.extend_from_slice(signature);
    let checksum = blake3::hash(&signed);
    signed.extend_from_slice(checksum.as_bytes());
    signed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = SlotKind> {
        prop_oneof![
            (64u32 << 10..=1 << 20, 1u32..=64, 1u32..=16, any::<[u8; 32]>()).prop_map(
                |(memory_kib, passes, lanes, salt)| SlotKind::Password { memory_kib, passes, lanes, salt }
            ),
            any::<[u8; 32]>().prop_map(|salt| SlotKind::KeyFile { salt }),
            any::<[u8; 32]>().prop_map(|salt| SlotKind::Recovery { salt }),
        ]
    }

    fn file(header: &SlotHeader) -> Vec<u8> {
        let mut signed = header.encode();
        signed.resize(signed.len() + SEALED_BYTES, 7);
        join(signed, &[9; 64])
    }

    fn header(kind: SlotKind, label: &str, created: i64) -> SlotHeader {
        let label = ShortText::new(label).unwrap();
        let host_name = ShortText::new("mx1").unwrap();
        SlotHeader { suite: SUITE, id: SlotId([5; 8]), kind, role: Role::Writer, label, host_name, created }
    }

    proptest! {
        #[test]
        fn slots_round_trip(kind in kinds(), label in "\\PC{0,60}", created: i64) {
            let header = header(kind, &label, created);
            let bytes = file(&header);
            let parts = split(&bytes).unwrap();
            prop_assert_eq!(&parts.header, &header);
            prop_assert_eq!(parts.sealed.len(), SEALED_BYTES);
            prop_assert_eq!(parts.signature, [9; 64]);
        }

        #[test]
        fn any_bytes_split_or_are_refused(tail in prop::collection::vec(any::<u8>(), 0..300), sealed: bool) {
            let mut signed = [MAGIC.as_slice(), &[SUITE], &tail].concat();
            if sealed {
                signed.resize(signed.len() + SEALED_BYTES, 0);
            }
            let _ = split(&signed);
            let _ = split(&join(signed, &[0; 64]));
        }
    }

    #[test]
    fn costs_outside_the_limits_are_refused() {
        let costs = [
            (u32::MAX, 3, 1),
            (1 << 10, 3, 1),
            (64 << 10, 0, 1),
            (64 << 10, 65, 1),
            (64 << 10, 3, 0),
            (64 << 10, 3, 17),
        ];
        for (memory_kib, passes, lanes) in costs {
            let kind = SlotKind::Password { memory_kib, passes, lanes, salt: [1; 32] };
            let error = split(&file(&header(kind, "", 0))).unwrap_err();
            assert!(matches!(error, FormatError::Limit { .. }), "{error}");
        }
    }

    #[test]
    fn other_versions_kinds_and_texts_are_told_apart() {
        let good = header(SlotKind::KeyFile { salt: [1; 32] }, "office", 0);
        let unknown = |offset: usize| {
            let mut signed = good.encode();
            signed.resize(signed.len() + SEALED_BYTES, 7);
            signed[offset] = 0x37;
            split(&join(signed, &[9; 64])).unwrap_err()
        };
        for offset in [MAGIC_FAMILY, SUITE_OFFSET, KIND_OFFSET] {
            assert!(matches!(unknown(offset), FormatError::Unknown { value: 0x37, .. }));
        }
        assert!(matches!(unknown(0), FormatError::NotA { .. }));
        assert!(ShortText::new(&"x".repeat(255)).is_ok() && ShortText::new(&"x".repeat(256)).is_err());
        let mut latin1 = good.encode();
        let label = latin1.windows(6).position(|window| window == b"office").unwrap();
        latin1[label] = 0xff;
        latin1.resize(latin1.len() + SEALED_BYTES, 7);
        assert!(matches!(split(&join(latin1, &[9; 64])), Err(FormatError::Malformed { .. })));
    }

    #[test]
    fn truncation_anywhere_is_refused() {
        let bytes = file(&header(SlotKind::Recovery { salt: [1; 32] }, "safe", 1));
        assert!((0..bytes.len()).all(|length| split(&bytes[..length]).is_err()));
        assert!(split(&vec![0; 1 << 20]).is_err());
    }
}
