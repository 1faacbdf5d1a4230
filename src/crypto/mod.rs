//! Layer 1: keys, blob ids, seals, signatures. Pure but for the randomness it asks `base` for.
//!
//! Nothing outside this folder names a cipher. Section "Keys" of `repo-format.md` is normative.

pub mod blob_id;
pub mod kdf;
pub mod keys;
pub mod pack;
pub mod recovery;
pub mod seal;
pub mod sign;
pub mod slot;
#[cfg(test)]
mod vectors;

/// A key or a seal does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The keys of a pack cannot be had.
    #[error(transparent)]
    Pack(#[from] pack::PackKeyError),
    /// A seal does not open.
    #[error(transparent)]
    Seal(#[from] seal::Unopenable),
}

/// Where fresh random bytes come from: [`crate::base::entropy::fill`], or fixed bytes in a test.
pub type Entropy<'a> = &'a mut dyn FnMut(&mut [u8]);

fn draw<const N: usize>(entropy: Entropy<'_>) -> [u8; N] {
    let mut bytes = [0; N];
    entropy(&mut bytes);
    bytes
}
