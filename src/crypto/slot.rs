//! Closing a key set into a slot, and opening it with a password, a key file or a recovery code.
//!
//! The signature inside is made by the repository of the key set inside: it proves that the two belong together,
//! not that this is the repository one meant. Callers compare [`KeySet::repository_verifying_key`] with the one
//! they know. Section "Key slots" of `repo-format.md`.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::kdf::{self, SlotKey};
use super::recovery::{RecoveryCode, RecoveryCodeError};
use super::seal::FrameCipher;
use super::sign::{self, Statement};
use super::{Entropy, draw};
use crate::base::id::RepositoryId;
use crate::base::id::SlotId;
use crate::base::{entropy, limits};
use crate::format::codec::FormatError;
use crate::format::envelope::SUITE;
use crate::format::keyset::VerifyingKey;
use crate::format::keyset::{FullKeys, KeySet};
use crate::format::slot::{self, SLOT_OBJECT, ShortText, SlotHeader, SlotKind};

#[cfg(test)]
mod tests;

/// A slot cannot be opened or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// The secret is not the slot's.
    #[error("wrong password, key file or recovery code")]
    WrongKey,
    /// The slot is for another kind of secret; try the next one.
    #[error("this key slot is opened by a {needs}")]
    KindMismatch {
        /// What opens it.
        needs: &'static str,
    },
    /// The bytes are no key slot, or a rotten or hostile one.
    #[error("damaged key slot")]
    Damaged(#[source] FormatError),
    /// A newer version wrote the slot.
    #[error("unsupported key slot")]
    Unsupported(#[source] FormatError),
    /// The key set inside does not go with the slot around it.
    #[error("key slot is not signed by the repository of its keys")]
    BadSignature,
    /// The secret cannot be one.
    #[error("unusable secret: {reason}")]
    UnusableSecret {
        /// Why.
        reason: &'static str,
    },
    /// The text is no recovery code.
    #[error(transparent)]
    RecoveryCode(#[from] RecoveryCodeError),
    /// Argon2id found no memory.
    #[error("not enough memory: the key slot needs {memory_kib} KiB")]
    Memory {
        /// What it needs, KiB.
        memory_kib: u32,
    },
    /// The slot would hold keys of another repository than the one that signs it.
    #[error("keys of repository {0} cannot go into a slot of another repository")]
    OtherRepository(RepositoryId),
    /// A label or host name is too long.
    #[error("key slot cannot be made")]
    Details(#[source] FormatError),
}

fn refused(error: FormatError) -> SlotError {
    match error {
        FormatError::Unknown { .. } => SlotError::Unsupported(error),
        _ => SlotError::Damaged(error),
    }
}

/// What opens a slot.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub enum Secret {
    /// A password; its bytes are used as they are.
    Password(String),
    /// The content of a key file, 32 bytes to 1 MiB, used as it is.
    KeyFile(Vec<u8>),
    /// A recovery code as it was typed.
    Recovery(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Secret::Password(_) => "Password(secret)",
            Secret::KeyFile(_) => "KeyFile(secret)",
            Secret::Recovery(_) => "Recovery(secret)",
        })
    }
}

/// What opening a password slot costs, and so what guessing one costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for PasswordCost {
    fn default() -> Self {
        PasswordCost { memory_kib: 64 << 10, passes: 3, lanes: 1 }
    }
}

/// What a slot tells about itself in clear.
#[derive(Debug, Clone, Copy, Default)]
pub struct SlotDetails<'a> {
    /// What its owner calls it; at most 255 bytes.
    pub label: &'a str,
    /// The name of the host it is for; at most 255 bytes.
    pub host_name: &'a str,
    /// When it is made, seconds since 1970-01-01T00:00:00Z.
    pub created: i64,
    /// The cost of a password slot.
    pub cost: PasswordCost,
}

fn password_key(password: &str, cost: PasswordCost, salt: &[u8; 32]) -> Result<SlotKey, SlotError> {
    let PasswordCost { memory_kib, passes, lanes } = cost;
    let mut key = Zeroizing::new([0; 32]);
    let derived = Params::new(memory_kib, passes, lanes, Some(key.len())).and_then(|params| {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
            password.as_bytes(),
            salt,
            key.as_mut_slice(),
        )
    });
    match derived {
        Ok(()) => Ok(SlotKey::new(*key)),
        Err(argon2::Error::OutOfMemory) => Err(SlotError::Memory { memory_kib }),
        Err(_) => Err(SlotError::UnusableSecret { reason: "Argon2id does not take this password or cost" }),
    }
}

fn key_file_key(content: &[u8], salt: &[u8; 32]) -> Result<SlotKey, SlotError> {
    let unusable = |reason| Err(SlotError::UnusableSecret { reason });
    if content.len() < limits::KEY_FILE_BYTES_MIN {
        return unusable("a key file holds at least 32 bytes");
    }
    if content.len() > limits::KEY_FILE_BYTES_MAX {
        return unusable("a key file holds at most 1 MiB");
    }
    if content.iter().all(|byte| *byte == content[0]) {
        return unusable("all bytes of the key file are the same");
    }
    Ok(kdf::key_file_slot_key(blake3::hash(content).as_bytes(), salt))
}

/// The key that this secret gives for a slot of this kind.
fn slot_key(kind: &SlotKind, secret: &Secret) -> Result<SlotKey, SlotError> {
    match (kind, secret) {
        (&SlotKind::Password { memory_kib, passes, lanes, ref salt }, Secret::Password(password)) => {
            password_key(password, PasswordCost { memory_kib, passes, lanes }, salt)
        }
        (SlotKind::KeyFile { salt }, Secret::KeyFile(content)) => key_file_key(content, salt),
        (SlotKind::Recovery { salt }, Secret::Recovery(text)) => {
            Ok(kdf::recovery_slot_key(RecoveryCode::parse(text)?.bytes(), salt))
        }
        (SlotKind::Password { .. }, _) => Err(SlotError::KindMismatch { needs: "password" }),
        (SlotKind::KeyFile { .. }, _) => Err(SlotError::KindMismatch { needs: "key file" }),
        (SlotKind::Recovery { .. }, _) => Err(SlotError::KindMismatch { needs: "recovery code" }),
    }
}

fn statement<'a>(keys: &KeySet, signed: &'a [u8]) -> Statement<'a> {
    let repository = keys.repository();
    Statement { object_type: SLOT_OBJECT, repository, host: None, sequence: 0, bytes: signed }
}

/// Reads what a slot tells in clear, for a listing; proves nothing.
///
/// # Errors
/// [`SlotError::Damaged`], [`SlotError::Unsupported`].
pub fn read_header(bytes: &[u8]) -> Result<SlotHeader, SlotError> {
    slot::split(bytes).map(|parts| parts.header).map_err(refused)
}

/// Reads what a slot tells in clear, and proves that the repository signed it.
///
/// # Errors
/// [`SlotError::BadSignature`], also when it is another slot than its name says; [`SlotError::Damaged`].
pub fn inspect_slot(
    bytes: &[u8],
    id: SlotId,
    repository: RepositoryId,
    key: &VerifyingKey,
) -> Result<SlotHeader, SlotError> {
    let parts = slot::split(bytes).map_err(refused)?;
    let statement =
        Statement { object_type: SLOT_OBJECT, repository, host: None, sequence: 0, bytes: parts.signed };
    let signed = sign::verify(key, &statement, &parts.signature).is_ok();
    if signed && parts.header.id == id { Ok(parts.header) } else { Err(SlotError::BadSignature) }
}

impl Secret {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Secret::Password(_) => "password",
            Secret::KeyFile(_) => "key file",
            Secret::Recovery(_) => "recovery code",
        }
    }
}

/// Opens a slot.
///
/// The caller compares [`KeySet::repository_verifying_key`] with the key it pinned, and the id of
/// [`read_header`] with the file's name.
///
/// # Errors
/// All of [`SlotError`]; [`SlotError::KindMismatch`] before any costly work.
pub fn open_slot(bytes: &[u8], secret: &Secret) -> Result<KeySet, SlotError> {
    let parts = slot::split(bytes).map_err(refused)?;
    let key = slot_key(&parts.header.kind, secret)?;
    let mut sealed = Zeroizing::new(parts.sealed.to_vec());
    let padded = FrameCipher::from_bytes(key.bytes())
        .open_bound(0, parts.clear, &mut sealed)
        .map_err(|_| SlotError::WrongKey)?;
    let keys = KeySet::decode_padded(padded).map_err(refused)?;
    sign::verify(&keys.repository_verifying_key(), &statement(&keys, parts.signed), &parts.signature)
        .map_err(|_| SlotError::BadSignature)?;
    if keys.role() != parts.header.role {
        return Err(SlotError::Damaged(FormatError::Inconsistent { what: "role of a key slot" }));
    }
    Ok(keys)
}

/// Makes a slot: `keys` closed with `secret`, signed by `signer`, the full keys of the same repository.
///
/// Returns the slot's id, which names its file, and the file's bytes.
///
/// # Errors
/// An unusable secret, a cost outside the limits, details too long, keys of another repository.
pub fn create_slot(
    signer: &FullKeys,
    keys: &KeySet,
    secret: &Secret,
    details: &SlotDetails<'_>,
) -> Result<(SlotId, Vec<u8>), SlotError> {
    create_slot_with(signer, keys, secret, details, &mut entropy::fill)
}

/// As [`create_slot`]; draws the slot's id, then the salt.
pub fn create_slot_with(
    signer: &FullKeys,
    keys: &KeySet,
    secret: &Secret,
    details: &SlotDetails<'_>,
    entropy: Entropy<'_>,
) -> Result<(SlotId, Vec<u8>), SlotError> {
    if keys.repository() != signer.repository() {
        return Err(SlotError::OtherRepository(keys.repository()));
    }
    let id = SlotId(draw(entropy));
    let salt = draw(entropy);
    let header = SlotHeader {
        suite: SUITE,
        id,
        kind: new_kind(secret, details.cost, salt)?,
        role: keys.role(),
        label: ShortText::new(details.label).map_err(SlotError::Details)?,
        host_name: ShortText::new(details.host_name).map_err(SlotError::Details)?,
        created: details.created,
    };
    let key = slot_key(&header.kind, secret)?;
    let mut signed = header.encode();
    let mut sealed = Zeroizing::new(Vec::new());
    keys.encode_padded(&mut sealed);
    FrameCipher::from_bytes(key.bytes()).seal_bound(0, &signed, &mut sealed);
    signed.extend_from_slice(&sealed);
    let signature = signer.sign(SLOT_OBJECT, 0, &signed);
    Ok((id, slot::join(signed, &signature)))
}

fn new_kind(secret: &Secret, cost: PasswordCost, salt: [u8; 32]) -> Result<SlotKind, SlotError> {
    let kind = match secret {
        Secret::Password(password) if password.is_empty() => {
            return Err(SlotError::UnusableSecret { reason: "the password is empty" });
        }
        Secret::Password(_) => {
            let PasswordCost { memory_kib, passes, lanes } = cost;
            SlotKind::Password { memory_kib, passes, lanes, salt }
        }
        Secret::KeyFile(_) => SlotKind::KeyFile { salt },
        Secret::Recovery(_) => SlotKind::Recovery { salt },
    };
    kind.check().map_err(SlotError::Details)?;
    Ok(kind)
}
