//! Identifiers: fixed-size byte strings, written as lower-case hex.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

/// The text was not the hex form of an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {what} ({digits} hex digits)")]
pub struct IdError {
    text: String,
    what: &'static str,
    digits: usize,
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $size:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Encode, Decode)]
        pub struct $name(pub [u8; $size]);

        impl $name {
            /// The first eight hex digits, for messages to people.
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let wrong = || IdError { text: text.to_owned(), what: $what, digits: $size * 2 };
                let digits = text.as_bytes();
                if digits.len() != $size * 2 {
                    return Err(wrong());
                }
                let mut id = [0; $size];
                for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = hex_digit(pair[0]).zip(hex_digit(pair[1])).map(|(h, l)| h << 4 | l).ok_or_else(wrong)?;
                }
                Ok($name(id))
            }
        }
    };
}

id_type!(
    /// Names a blob: the first 128 bits of the keyed BLAKE3 of its plaintext, in one dedup domain.
    BlobId, 16, "blob id");
id_type!(
    /// Names an object: the BLAKE3 of the whole stored file.
    ObjectHash, 32, "object hash");
id_type!(
    /// Names a repository; random, made by `init`.
    RepositoryId, 16, "repository id");
id_type!(
    /// Names a host that writes snapshots; random, made when the host is registered.
    HostId, 16, "host id");
id_type!(
    /// Names the set of hosts that deduplicate against each other.
    DomainId, 16, "domain id");
id_type!(
    /// Names a key slot file.
    SlotId, 8, "key slot id");

impl HostId {
    /// The domain that holds this host alone.
    pub fn own_domain(&self) -> DomainId {
        DomainId(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_refuses_other_text() {
        let id = BlobId([0xab; 16]);
        assert_eq!(id.to_string().parse::<BlobId>(), Ok(id));
        for wrong in ["", "ab", &"AB".repeat(16), &"zz".repeat(16), &"ab".repeat(17)] {
            assert!(wrong.parse::<BlobId>().is_err(), "{wrong}");
        }
    }
}
