//! Pack keys: who opens what, and that nothing else does.

use std::collections::HashSet;

use super::*;
use crate::base::id::HostId;
use crate::crypto::seal::{Unopenable, nonce};

const HOST: HostId = HostId([0x44; 16]);
const OTHER: HostId = HostId([0x45; 16]);

fn writer_set(full: &FullKeys, host: HostId) -> KeySet {
    KeySet::Writer(Box::new(full.writer(host, host.own_domain())))
}

fn create(full: &FullKeys, host: HostId) -> (PackKeys, PackEnvelope) {
    PackKeys::create(&full.writer(host, host.own_domain())).unwrap()
}

fn seal(keys: &PackKeys, kind: FrameKind, position: u64) -> Vec<u8> {
    let mut frame = format!("{kind:?} {position}").into_bytes();
    keys.frame_cipher(kind).unwrap().seal_in_place(&keys.context(kind, position), &mut frame);
    frame
}

fn open(keys: &PackKeys, kind: FrameKind, position: u64, frame: &[u8]) -> Result<Vec<u8>, Unopenable> {
    let mut frame = frame.to_vec();
    keys.frame_cipher(kind).unwrap().open_in_place(&keys.context(kind, position), &mut frame)?;
    Ok(frame)
}

#[test]
fn kinds_keep_their_numbers() {
    let numbers: Vec<u8> = FrameKind::ALL.into_iter().map(FrameKind::number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 0xf0, 0xf1, 0xf2]);
    assert!(FrameKind::ALL.into_iter().enumerate().all(|(index, kind)| kind.index() == index));
    assert_eq!(FrameKind::ALL[..6], BlobKind::ALL.map(FrameKind::from));
}

#[test]
fn the_full_key_set_opens_every_kind_of_every_host_and_epoch() {
    let first = FullKeys::generate();
    let second = first.with_new_epoch(&mut entropy::fill).unwrap();
    let keys = KeySet::Full(second.clone());
    for (full, host) in [(&first, HOST), (&first, OTHER), (&second, HOST)] {
        let (sealer, envelope) = create(full, host);
        let envelope = PackEnvelope::decode(&envelope.encode()).unwrap();
        let opener = PackKeys::open(&keys, &envelope).unwrap();
        for kind in FrameKind::ALL {
            let plain = format!("{kind:?} 3").into_bytes();
            assert_eq!(open(&opener, kind, 3, &seal(&sealer, kind, 3)), Ok(plain));
        }
    }
    // Keys from before the new epoch do not know it.
    let (_, envelope) = create(&second, HOST);
    let error = PackKeys::open(&KeySet::Full(first), &envelope).unwrap_err();
    assert_eq!(error, PackKeyError::UnknownEpoch { epoch: 1 });
}

#[test]
fn frames_do_not_open_elsewhere() {
    let full = FullKeys::generate();
    let (sealer, _) = create(&full, HOST);
    let (other, _) = create(&full, HOST);
    for kind in FrameKind::ALL {
        let frame = seal(&sealer, kind, 0);
        assert!(open(&sealer, kind, 0, &frame).is_ok());
        assert!(open(&sealer, kind, 1, &frame).is_err());
        assert!(open(&other, kind, 0, &frame).is_err());
        for wrong in FrameKind::ALL.into_iter().filter(|&wrong| wrong != kind) {
            assert!(open(&sealer, wrong, 0, &frame).is_err());
        }
    }
}

#[test]
fn a_writer_reads_back_its_own_listings_only() {
    let full = FullKeys::generate();
    let (sealer, envelope) = create(&full, HOST);
    let opened = PackKeys::open(&writer_set(&full, HOST), &envelope).unwrap();
    assert_eq!(open(&opened, TREE, 2, &seal(&sealer, TREE, 2)), Ok(b"Blob(Tree) 2".to_vec()));
    for kind in FrameKind::ALL.into_iter().filter(|&kind| kind != TREE) {
        assert_eq!(opened.frame_cipher(kind).unwrap_err(), PackKeyError::NotForThisKey);
        // The one cipher it has does not open the frame under either context.
        let cipher = opened.frame_cipher(TREE).unwrap();
        for context in [opened.context(kind, 0), opened.context(TREE, 0)] {
            assert!(cipher.open_in_place(&context, &mut seal(&sealer, kind, 0)).is_err());
        }
    }
}

#[test]
fn a_writer_opens_no_pack_of_another_host() {
    let full = FullKeys::generate();
    let stranger = writer_set(&full, OTHER);
    let (_, envelope) = create(&full, HOST);
    assert_eq!(PackKeys::open(&stranger, &envelope).unwrap_err(), PackKeyError::NotForThisKey);
    let relabelled = PackEnvelope { host: OTHER, ..envelope };
    assert_eq!(PackKeys::open(&stranger, &relabelled).unwrap_err(), PackKeyError::Damaged);
    // A wrapped key moved over from a pack of its own does not help either.
    let (_, own) = create(&full, OTHER);
    let grafted = PackEnvelope { host: OTHER, wrapped_tree_key: own.wrapped_tree_key, ..envelope };
    assert_eq!(PackKeys::open(&stranger, &grafted).unwrap_err(), PackKeyError::Damaged);
    let later = full.with_new_epoch(&mut entropy::fill).unwrap();
    let error = PackKeys::open(&writer_set(&later, HOST), &envelope).unwrap_err();
    assert_eq!(error, PackKeyError::UnknownEpoch { epoch: 0 });
}

#[test]
fn no_secret_of_a_writer_serves_as_a_pack_or_frame_key() {
    let full = FullKeys::generate();
    let (sealer, envelope) = create(&full, HOST);
    let keys = full.writer(HOST, HOST.own_domain());
    let tree_frame_key = unwrap_tree_key(&keys.tree_key, &keys.repository, &envelope).unwrap();
    let secrets = [
        keys.host_signing_seed.bytes(),
        keys.id_key.bytes(),
        keys.delta_key.bytes(),
        keys.cut_key.bytes(),
        keys.tree_key.bytes(),
        keys.snapshot_key.bytes(),
        keys.pack_secret.bytes(),
        keys.shared_record_key.bytes(),
        &keys.repository_public.0,
        &keys.box_public.0,
        &envelope.ephemeral_public,
        tree_frame_key.bytes(),
    ];
    for kind in FrameKind::ALL.into_iter().filter(|&kind| kind != TREE) {
        let (frame, context) = (seal(&sealer, kind, 0), sealer.context(kind, 0));
        for secret in secrets {
            let repository = &keys.repository;
            let mut guesses =
                vec![FrameKey::new(*secret), kdf::frame_key(&PackKey::new(*secret), kind.number())];
            // As the shared secret, and as the epoch's box secret.
            let dh = StaticSecret::from(*secret).diffie_hellman(&PublicKey::from(envelope.ephemeral_public));
            for shared in [secret, dh.as_bytes()] {
                let pack = kdf::pack_key(&PackMaterial {
                    shared,
                    pack_secret: &keys.pack_secret,
                    ephemeral_public: &envelope.ephemeral_public,
                    box_public: &keys.box_public.0,
                    repository,
                    salt: &envelope.salt,
                });
                guesses.push(kdf::frame_key(&pack, kind.number()));
            }
            for guess in guesses {
                let opened = FrameCipher::new(&guess).open_in_place(&context, &mut frame.clone());
                assert_eq!(opened, Err(Unopenable));
            }
        }
    }
}

#[test]
fn neither_half_of_the_agreement_opens_a_pack_alone() {
    let full = FullKeys::generate();
    let (_, envelope) = create(&full, HOST);
    let writer = full.writer(HOST, HOST.own_domain());
    let box_secret = StaticSecret::from(*kdf::box_secret(full.epoch_secret(0).unwrap()).bytes());
    let agreement = Agreement {
        secret: &box_secret,
        theirs: &envelope.ephemeral_public,
        ephemeral_public: &envelope.ephemeral_public,
        box_public: &writer.box_public.0,
    };
    let with = |secret: &PackSecret| {
        *agree_on_pack_key(&agreement, secret, &writer.repository, &envelope.salt).unwrap().bytes()
    };
    assert_ne!(with(&PackSecret::new([0; 32])), with(&writer.pack_secret));
}

#[test]
fn every_flipped_bit_of_an_envelope_is_refused() {
    let full = FullKeys::generate();
    let (_, envelope) = create(&full, HOST);
    let bytes = envelope.encode();
    for keys in [writer_set(&full, HOST), KeySet::Full(full)] {
        assert!(PackKeys::open(&keys, &envelope).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes;
            wrong[bit / 8] ^= 1 << (bit % 8);
            let opened = PackEnvelope::decode(&wrong).map(|envelope| PackKeys::open(&keys, &envelope));
            assert!(!matches!(opened, Ok(Ok(_))), "bit {bit}");
        }
        let unknown = PackEnvelope { suite: 2, ..envelope };
        assert_eq!(PackKeys::open(&keys, &unknown).unwrap_err(), PackKeyError::UnknownSuite { suite: 2 });
    }
}

#[test]
fn a_writer_cannot_show_other_listings_to_itself_than_to_the_full_key_set() {
    let full = FullKeys::generate();
    let (_, mut envelope) = create(&full, HOST);
    let writer = full.writer(HOST, HOST.own_domain());
    wrap_tree_key(&writer.tree_key, &writer.repository, &mut envelope, &FrameKey::new([8; 32]));
    assert!(PackKeys::open(&writer_set(&full, HOST), &envelope).is_ok());
    assert_eq!(PackKeys::open(&KeySet::Full(full), &envelope).unwrap_err(), PackKeyError::Damaged);
}

#[test]
fn another_repository_opens_nothing() {
    let (full, other) = (FullKeys::generate(), FullKeys::generate());
    let (_, envelope) = create(&full, HOST);
    for keys in [writer_set(&other, HOST), KeySet::Full(other)] {
        assert_eq!(PackKeys::open(&keys, &envelope).unwrap_err(), PackKeyError::Damaged);
    }
    // The same secrets under another repository id.
    let epochs = full.epochs().to_vec();
    let twin = FullKeys::new(RepositoryId([9; 16]), full.root().clone(), epochs).unwrap();
    for keys in [writer_set(&twin, HOST), KeySet::Full(twin)] {
        assert_eq!(PackKeys::open(&keys, &envelope).unwrap_err(), PackKeyError::Damaged);
    }
}

#[test]
fn weak_public_keys_are_refused() {
    let full = FullKeys::generate();
    let (_, envelope) = create(&full, HOST);
    let mut one = [0; 32];
    one[0] = 1;
    for weak in [[0; 32], one] {
        let mut writer = full.writer(HOST, HOST.own_domain());
        writer.box_public.0 = weak;
        assert_eq!(PackKeys::create(&writer).unwrap_err(), PackKeyError::WeakKey);
        let forged = PackEnvelope { ephemeral_public: weak, ..envelope };
        let opened = PackKeys::open(&KeySet::Full(full.clone()), &forged);
        assert_eq!(opened.unwrap_err(), PackKeyError::WeakKey);
    }
}

#[test]
fn no_two_frames_share_a_key_and_nonce() {
    let full = FullKeys::generate();
    let (mut keys, mut frames) = (HashSet::new(), HashSet::new());
    for _ in 0..40 {
        let (pack, envelope) = create(&full, HOST);
        assert!(
            keys.insert(
                *kdf::tree_wrap_key(
                    &full.writer(HOST, HOST.own_domain()).tree_key,
                    &full.repository(),
                    &envelope.salt
                )
                .bytes()
            )
        );
        for kind in FrameKind::ALL {
            let key = *pack.frame_key(kind).unwrap().bytes();
            assert!(keys.insert(key), "two packs or kinds share a key");
            for position in (0..50).chain([u64::from(u32::MAX), 1 << 32, u64::MAX]) {
                assert!(frames.insert((key, nonce(position))));
            }
        }
    }
    assert_eq!(nonce(0x0102), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
}

#[test]
fn ciphers_are_shared_between_threads() {
    let full = FullKeys::generate();
    let (keys, _) = create(&full, HOST);
    std::thread::scope(|scope| {
        for position in 0..4 {
            let keys = &keys;
            scope.spawn(move || assert!(open(keys, TREE, position, &seal(keys, TREE, position)).is_ok()));
        }
    });
    let first: *const FrameCipher = keys.frame_cipher(BlobKind::Text).unwrap();
    assert!(std::ptr::eq(first, keys.frame_cipher(BlobKind::Text).unwrap()));
}
