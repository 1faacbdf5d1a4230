//! `config`: what a repository is, in clear and signed.

use bincode::{Decode, Encode};

use super::codec::{self, FormatError, Result};
use crate::base::id::RepositoryId;
use crate::base::limits;

/// Version of the stored form; a reader refuses another one.
pub const FORMAT_VERSION: u32 = 10;

/// The clear part of the `config` object.
///
/// It holds no key: public keys come out of a key slot, never out of an object that a writer could replace.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Config {
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// The repository's random name; equal to the one in the key set.
    pub repository: RepositoryId,
    /// When it was made, unix seconds.
    pub created: i64,
    /// Aim for the size of a pack, bytes.
    pub pack_bytes: u64,
    /// Aim for the plaintext of a segment, bytes.
    pub segment_bytes: u64,
    /// Share of each pack that its parity object adds, percent; 0 for none.
    pub parity_percent: u32,
}

impl Config {
    /// The usual sizes, for a repository of that name.
    pub fn new(repository: RepositoryId) -> Config {
        let (pack_bytes, segment_bytes) = (limits::PACK_BYTES_AIM, limits::SEGMENT_BYTES_AIM as u64);
        Config {
            version: FORMAT_VERSION,
            repository,
            created: 0,
            pack_bytes,
            segment_bytes,
            parity_percent: 0,
        }
    }

    /// Encodes the clear part.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes the clear part and refuses another version.
    pub fn decode(bytes: &[u8]) -> Result<Config> {
        let (version, _) = codec::decode_prefix::<u32>(bytes, "config")?;
        if version != FORMAT_VERSION {
            return Err(FormatError::Unknown { what: "repository format", value: version.into() });
        }
        let config: Config = codec::decode(bytes, "config")?;
        codec::limit("percent of parity", config.parity_percent.into(), limits::PARITY_PERCENT_MAX.into())?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_come_back_and_other_versions_do_not() {
        let config = Config {
            created: 7,
            parity_percent: limits::PARITY_PERCENT_MAX,
            ..Config::new(RepositoryId([3; 16]))
        };
        let bytes = config.encode();
        assert_eq!(Config::decode(&bytes), Ok(config.clone()));
        assert!((0..bytes.len()).all(|cut| Config::decode(&bytes[..cut]).is_err()));
        let newer = Config { version: FORMAT_VERSION + 1, ..config.clone() };
        assert!(matches!(Config::decode(&newer.encode()), Err(FormatError::Unknown { .. })));
        let greedy = Config { parity_percent: limits::PARITY_PERCENT_MAX + 1, ..config };
        assert!(matches!(Config::decode(&greedy.encode()), Err(FormatError::Limit { .. })));
    }
}
