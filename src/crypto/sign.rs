//! Signatures: Ed25519 over what an object is, where it stands, and the hash of its bytes.
//!
//! Section "Signatures" of `repo-format.md`.

use ed25519_dalek::{Signature, Signer, SigningKey};

use crate::base::id::{HostId, RepositoryId};
use crate::format::keyset::{SigningSeed, VerifyingKey};

const PREFIX: &[u8; 25] = b"mailark 2026-11 signature";
const STATEMENT_BYTES: usize = PREFIX.len() + 1 + 16 + 16 + 8 + 32;

/// The signature is not this key's over this object in this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not fit")]
pub struct BadSignature;

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// Type of the object.
    pub object_type: u8,
    /// The repository.
    pub repository: RepositoryId,
    /// The host that signs; none for the repository's own key.
    pub host: Option<HostId>,
    /// The object's number in its sequence; 0 where there is none.
    pub sequence: u64,
    /// The signed bytes.
    pub bytes: &'a [u8],
}

impl Statement<'_> {
    /// The signed message; the sequence is little endian, no host is 16 zero bytes.
    fn message(&self) -> [u8; STATEMENT_BYTES] {
        let mut message = [0; STATEMENT_BYTES];
        message[..25].copy_from_slice(PREFIX);
        message[25] = self.object_type;
        message[26..42].copy_from_slice(&self.repository.0);
        message[42..58].copy_from_slice(&self.host.unwrap_or_default().0);
        message[58..66].copy_from_slice(&self.sequence.to_le_bytes());
        message[66..].copy_from_slice(blake3::hash(self.bytes).as_bytes());
        message
    }
}

/// The public key of a seed.
pub(super) fn verifying_key(seed: &SigningSeed) -> VerifyingKey {
    VerifyingKey(SigningKey::from_bytes(seed.bytes()).verifying_key().to_bytes())
}

/// Signs.
pub(super) fn sign(seed: &SigningSeed, statement: &Statement<'_>) -> [u8; 64] {
    SigningKey::from_bytes(seed.bytes()).sign(&statement.message()).to_bytes()
}

/// Verifies strictly: weak keys and signatures of more than one form are refused.
///
/// # Errors
/// [`BadSignature`], also when the key is no point of the curve.
pub fn verify(
    key: &VerifyingKey,
    statement: &Statement<'_>,
    signature: &[u8; 64],
) -> Result<(), BadSignature> {
    ed25519_dalek::VerifyingKey::from_bytes(&key.0)
        .and_then(|key| key.verify_strict(&statement.message(), &Signature::from_bytes(signature)))
        .map_err(|_| BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(bytes: &[u8]) -> Statement<'_> {
        let (repository, host) = (RepositoryId([3; 16]), Some(HostId([4; 16])));
        Statement { object_type: 5, repository, host, sequence: 9, bytes }
    }

    #[test]
    fn only_the_same_statement_verifies() {
        let seed = SigningSeed::new([1; 32]);
        let (key, good) = (verifying_key(&seed), statement(b"snapshot"));
        let signature = sign(&seed, &good);
        assert_eq!(verify(&key, &good, &signature), Ok(()));
        let wrong = [
            Statement { object_type: 6, ..good },
            Statement { repository: RepositoryId([2; 16]), ..good },
            Statement { host: None, ..good },
            Statement { host: Some(HostId([5; 16])), ..good },
            Statement { sequence: 10, ..good },
            Statement { bytes: b"snapshoT", ..good },
            Statement { bytes: b"", ..good },
        ];
        for other in wrong {
            assert_eq!(verify(&key, &other, &signature), Err(BadSignature), "{other:?}");
        }
        assert!(verify(&verifying_key(&SigningSeed::new([2; 32])), &good, &signature).is_err());
        for bit in 0..512 {
            let mut flipped = signature;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&key, &good, &flipped).is_err(), "bit {bit}");
        }
        for bit in 0..256 {
            let mut flipped = key;
            flipped.0[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&flipped, &good, &signature).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_weak_key_verifies_nothing() {
        // The neutral element as key and R, zero as s: valid for every message under lax rules.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(verify(&VerifyingKey(neutral), &statement(b"any"), &signature).is_err());
    }
}
