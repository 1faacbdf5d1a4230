//! Every derivation there is: `blake3::derive_key(context, material)`.
//!
//! Material is a concatenation of fields of fixed length, so no two different inputs give the same bytes. One
//! context stands for one purpose and one layout of the material; section "Derivations" of `repo-format.md`.

use crate::base::id::{DomainId, HostId, RepositoryId};
use crate::format::keyset::{
    CutKey, DeltaKey, EpochSecret, IdKey, PackSecret, RootSecret, SharedRecordKey, SigningSeed, SnapshotKey,
    TreeKey, secret_types,
};

macro_rules! contexts {
    ($($(#[$doc:meta])* $name:ident = $purpose:literal;)*) => {
        $($(#[$doc])* const $name: &str = concat!("mailark 2026-11 ", $purpose);)*

        #[cfg(test)]
        const ALL: &[&str] = &[$($name),*];
    };
}

contexts! {
    /// root ‖ domain
    ID_KEY = "id key";
    /// id key ‖ host
    PAGE_ID_KEY = "page id key";
    /// cut key
    LINK_GROUP = "link group";
    /// root ‖ domain
    DELTA_KEY = "delta key";
    /// root ‖ domain
    CUT_KEY = "cut key";
    /// cut key
    CONTENT_CUT = "content cut";
    /// cut key
    PAGE_CUT = "page cut";
    /// cut key
    TOMBSTONE = "tombstone";
    /// root
    REPOSITORY_SIGNING = "repository signing";
    /// root ‖ host
    HOST_SIGNING = "host signing";
    /// root ‖ host
    SNAPSHOT_KEY = "snapshot key";
    /// root
    SHARED_RECORD_KEY = "shared record key";
    /// root
    PRIVATE_RECORD_KEY = "private record key";
    /// epoch secret
    BOX_SECRET = "box secret";
    /// epoch secret
    PACK_SECRET = "pack secret";
    /// epoch secret ‖ host
    TREE_KEY = "tree key";
    /// shared secret ‖ pack secret ‖ ephemeral public key ‖ box public key ‖ repository ‖ salt
    PACK_KEY = "pack";
    /// pack key ‖ kind
    FRAME_KEY = "frame";
    /// tree key ‖ repository ‖ salt
    TREE_WRAP = "tree wrap";
    /// sealing key ‖ object type ‖ repository ‖ salt
    OBJECT_KEY = "object";
    /// BLAKE3 of the key file ‖ salt
    KEY_FILE_SLOT = "key file slot";
    /// recovery code (20 bytes) ‖ salt
    RECOVERY_SLOT = "recovery slot";
}

secret_types! {
    /// Seeds the content-defined cuts of files and attachments.
    ContentCutSecret;
    /// Keys the hash that numbers link groups.
    LinkGroupSecret;
    /// Keys the hash that ends pages.
    PageCutSecret;
    /// Makes the marks by which writers know purged content without being told what it is.
    TombstoneKey;
    /// Seals the records that only full key sets may read.
    PrivateRecordKey;
    /// X25519 secret of an epoch.
    BoxSecret;
    /// What the frame keys of one pack are derived from.
    PackKey;
    /// Key of one cipher, for the frames of one kind in one object.
    FrameKey;
    /// Seals the key set of one slot.
    SlotKey;
}

/// A field of fixed length.
trait Field {
    fn field(&self) -> &[u8];
}

impl<const N: usize> Field for [u8; N] {
    fn field(&self) -> &[u8] {
        self
    }
}

fn derive(context: &str, material: &[&dyn Field]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in material {
        hasher.update(part.field());
    }
    hasher.finalize().into()
}

pub(super) fn id_key(root: &RootSecret, domain: &DomainId) -> IdKey {
    IdKey::new(derive(ID_KEY, &[root.bytes(), &domain.0]))
}

pub(super) fn delta_key(root: &RootSecret, domain: &DomainId) -> DeltaKey {
    DeltaKey::new(derive(DELTA_KEY, &[root.bytes(), &domain.0]))
}

pub(super) fn cut_key(root: &RootSecret, domain: &DomainId) -> CutKey {
    CutKey::new(derive(CUT_KEY, &[root.bytes(), &domain.0]))
}

/// Derives the secret that places the cuts of files and attachments.
pub fn content_cut_secret(key: &CutKey) -> ContentCutSecret {
    ContentCutSecret::new(derive(CONTENT_CUT, &[key.bytes()]))
}

/// Derives the key that names a host's pages, so that nothing a mail holds can ever pass for a page.
pub(super) fn page_id_key(key: &IdKey, host: &HostId) -> IdKey {
    IdKey::new(derive(PAGE_ID_KEY, &[key.bytes(), &host.0]))
}

/// Derives the key that numbers link groups.
pub fn link_group_secret(key: &CutKey) -> LinkGroupSecret {
    LinkGroupSecret::new(derive(LINK_GROUP, &[key.bytes()]))
}

/// Derives the secret that places the ends of pages.
pub fn page_cut_secret(key: &CutKey) -> PageCutSecret {
    PageCutSecret::new(derive(PAGE_CUT, &[key.bytes()]))
}

/// Derives the key that marks purged folders and contents.
pub fn tombstone_key(key: &CutKey) -> TombstoneKey {
    TombstoneKey::new(derive(TOMBSTONE, &[key.bytes()]))
}

// From the root, not from an epoch: old records stay verifiable.
pub(super) fn repository_signing_seed(root: &RootSecret) -> SigningSeed {
    SigningSeed::new(derive(REPOSITORY_SIGNING, &[root.bytes()]))
}

pub(super) fn host_signing_seed(root: &RootSecret, host: &HostId) -> SigningSeed {
    SigningSeed::new(derive(HOST_SIGNING, &[root.bytes(), &host.0]))
}

pub(super) fn snapshot_key(root: &RootSecret, host: &HostId) -> SnapshotKey {
    SnapshotKey::new(derive(SNAPSHOT_KEY, &[root.bytes(), &host.0]))
}

pub(super) fn shared_record_key(root: &RootSecret) -> SharedRecordKey {
    SharedRecordKey::new(derive(SHARED_RECORD_KEY, &[root.bytes()]))
}

pub(super) fn private_record_key(root: &RootSecret) -> PrivateRecordKey {
    PrivateRecordKey::new(derive(PRIVATE_RECORD_KEY, &[root.bytes()]))
}

pub(super) fn box_secret(epoch: &EpochSecret) -> BoxSecret {
    BoxSecret::new(derive(BOX_SECRET, &[epoch.bytes()]))
}

pub(super) fn pack_secret(epoch: &EpochSecret) -> PackSecret {
    PackSecret::new(derive(PACK_SECRET, &[epoch.bytes()]))
}

pub(super) fn tree_key(epoch: &EpochSecret, host: &HostId) -> TreeKey {
    TreeKey::new(derive(TREE_KEY, &[epoch.bytes(), &host.0]))
}

/// What a pack key is made of.
pub(super) struct PackMaterial<'a> {
    pub shared: &'a [u8; 32],
    pub pack_secret: &'a PackSecret,
    pub ephemeral_public: &'a [u8; 32],
    pub box_public: &'a [u8; 32],
    pub repository: &'a RepositoryId,
    pub salt: &'a [u8; 32],
}

pub(super) fn pack_key(material: &PackMaterial<'_>) -> PackKey {
    let PackMaterial { shared, pack_secret, ephemeral_public, box_public, repository, salt } = *material;
    let fields: [&dyn Field; 6] =
        [shared, pack_secret.bytes(), ephemeral_public, box_public, &repository.0, salt];
    PackKey::new(derive(PACK_KEY, &fields))
}

pub(super) fn frame_key(pack: &PackKey, kind: u8) -> FrameKey {
    FrameKey::new(derive(FRAME_KEY, &[pack.bytes(), &[kind]]))
}

pub(super) fn tree_wrap_key(tree: &TreeKey, repository: &RepositoryId, salt: &[u8; 32]) -> FrameKey {
    FrameKey::new(derive(TREE_WRAP, &[tree.bytes(), &repository.0, salt]))
}

pub(super) fn object_key(
    secret: &[u8; 32],
    object_type: u8,
    repository: &RepositoryId,
    salt: &[u8; 32],
) -> FrameKey {
    FrameKey::new(derive(OBJECT_KEY, &[secret, &[object_type], &repository.0, salt]))
}

pub(super) fn key_file_slot_key(key_file_hash: &[u8; 32], salt: &[u8; 32]) -> SlotKey {
    SlotKey::new(derive(KEY_FILE_SLOT, &[key_file_hash, salt]))
}

pub(super) fn recovery_slot_key(code: &[u8; 20], salt: &[u8; 32]) -> SlotKey {
    SlotKey::new(derive(RECOVERY_SLOT, &[code, salt]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_purpose_has_its_own_context() {
        assert_eq!(ALL.iter().collect::<BTreeSet<_>>().len(), ALL.len());
        assert!(ALL.iter().all(|context| context.starts_with("mailark 2026-11 ")));
    }

    #[test]
    fn derivation_is_one_shot_blake3_of_the_concatenation() {
        let (root, domain) = (RootSecret::new([1; 32]), DomainId([2; 16]));
        let material = [[1u8; 32].as_slice(), &[2; 16]].concat();
        assert_eq!(*id_key(&root, &domain).bytes(), blake3::derive_key("mailark 2026-11 id key", &material));
    }
}
