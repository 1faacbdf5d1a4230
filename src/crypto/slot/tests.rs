//! Key slots: the right secret opens them, and nothing else does.

use super::*;
use crate::base::id::HostId;
use crate::format::keyset::Role;

const HOST: HostId = HostId([0x44; 16]);

/// The least that a reader accepts, so that tests are quick.
const CHEAP: PasswordCost = PasswordCost { memory_kib: limits::ARGON2_KIB_MIN, passes: 1, lanes: 1 };

fn details() -> SlotDetails<'static> {
    SlotDetails { label: "office safe", host_name: "mx1", created: 1_795_000_000, cost: CHEAP }
}

fn key_file() -> Secret {
    Secret::KeyFile((0..32).collect())
}

fn writer_set(full: &FullKeys) -> KeySet {
    KeySet::Writer(Box::new(full.writer(HOST, HOST.own_domain())))
}

fn padded(keys: &KeySet) -> Vec<u8> {
    let mut bytes = Vec::new();
    keys.encode_padded(&mut bytes);
    bytes
}

/// The same file with a checksum that fits again.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len() - 32;
    let checksum = blake3::hash(&bytes[..body]);
    bytes[body..].copy_from_slice(checksum.as_bytes());
    bytes
}

#[test]
fn every_kind_of_secret_opens_its_slot() {
    let full = FullKeys::generate();
    let code = RecoveryCode::generate().text();
    let secrets =
        [Secret::Password("correct horse \u{1f40e}".into()), key_file(), Secret::Recovery(code.to_string())];
    for keys in [KeySet::Full(full.clone()), writer_set(&full)] {
        for (index, secret) in secrets.iter().enumerate() {
            let (id, bytes) = create_slot(&full, &keys, secret, &details()).unwrap();
            let header = read_header(&bytes).unwrap();
            assert_eq!((header.id, header.role, header.label.as_str()), (id, keys.role(), "office safe"));
            let opened = open_slot(&bytes, secret).unwrap();
            assert_eq!(padded(&opened), padded(&keys));
            assert_eq!(opened.repository_verifying_key(), keys.repository_verifying_key());
            for (other, secret) in secrets.iter().enumerate().filter(|(other, _)| *other != index) {
                let error = open_slot(&bytes, secret).unwrap_err();
                assert!(matches!(error, SlotError::KindMismatch { .. }), "{index} {other} {error}");
            }
        }
    }
}

#[test]
fn other_secrets_of_the_same_kind_are_wrong_keys() {
    let full = FullKeys::generate();
    let keys = KeySet::Full(full.clone());
    let code = RecoveryCode::generate().text().to_lowercase();
    let pairs = [
        (Secret::Password("horse".into()), Secret::Password("horse ".into())),
        (Secret::KeyFile((0..32).collect()), Secret::KeyFile((0..33).collect())),
        (Secret::Recovery(code), Secret::Recovery(RecoveryCode::generate().text().to_string())),
    ];
    for (right, wrong) in pairs {
        let (_, bytes) = create_slot(&full, &keys, &right, &details()).unwrap();
        assert!(open_slot(&bytes, &right).is_ok());
        assert_eq!(open_slot(&bytes, &wrong).unwrap_err(), SlotError::WrongKey);
    }
    let (_, bytes) = create_slot(&full, &keys, &key_file(), &details()).unwrap();
    assert!(matches!(
        open_slot(&bytes, &Secret::Recovery("x".into())),
        Err(SlotError::KindMismatch { needs: "key file" })
    ));
}

#[test]
fn unusable_secrets_are_refused() {
    let full = FullKeys::generate();
    let keys = KeySet::Full(full.clone());
    let secrets = [
        Secret::Password(String::new()),
        Secret::KeyFile((0..31).collect()),
        Secret::KeyFile(Vec::new()),
        Secret::KeyFile(vec![7; 4096]),
        Secret::KeyFile((0..=255).cycle().take((1 << 20) + 1).collect()),
    ];
    for secret in secrets {
        let error = create_slot(&full, &keys, &secret, &details()).unwrap_err();
        assert!(matches!(error, SlotError::UnusableSecret { .. }), "{error}");
    }
    let error = create_slot(&full, &keys, &Secret::Recovery("ABCDE".into()), &details()).unwrap_err();
    assert_eq!(error, SlotError::RecoveryCode(RecoveryCodeError::Length { found: 5 }));
    let largest = Secret::KeyFile((0..=255).cycle().take(1 << 20).collect());
    assert!(create_slot(&full, &keys, &largest, &details()).is_ok());
}

#[test]
fn impossible_requests_are_refused() {
    let full = FullKeys::generate();
    let keys = KeySet::Full(FullKeys::generate());
    let error = create_slot(&full, &keys, &key_file(), &details()).unwrap_err();
    assert_eq!(error, SlotError::OtherRepository(keys.repository()));
    let keys = KeySet::Full(full.clone());
    let label = "x".repeat(256);
    let long = SlotDetails { label: &label, ..details() };
    assert!(matches!(create_slot(&full, &keys, &key_file(), &long), Err(SlotError::Details(_))));
    let password = Secret::Password("horse".into());
    for (memory_kib, passes, lanes) in [(1024, 3, 1), (u32::MAX, 3, 1), (64 << 10, 0, 1), (64 << 10, 3, 99)] {
        let cost = PasswordCost { memory_kib, passes, lanes };
        let error = create_slot(&full, &keys, &password, &SlotDetails { cost, ..details() }).unwrap_err();
        assert!(matches!(error, SlotError::Details(FormatError::Limit { .. })), "{error}");
    }
}

#[test]
fn every_flipped_bit_of_a_slot_is_refused() {
    let full = FullKeys::generate();
    let (_, bytes) = create_slot(&full, &writer_set(&full), &key_file(), &details()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        // A flip that nobody meant is seen without any key, and never looks like a wrong password.
        let error = open_slot(&wrong, &key_file()).unwrap_err();
        let told_apart = matches!(error, SlotError::Damaged(_) | SlotError::Unsupported(_));
        assert!(told_apart, "bit {bit}: {error}");
        // One that somebody made is refused all the same.
        if bit / 8 < bytes.len() - 32 {
            assert!(open_slot(&with_checksum(wrong), &key_file()).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn truncated_slots_are_damaged() {
    let full = FullKeys::generate();
    let (_, bytes) = create_slot(&full, &KeySet::Full(full.clone()), &key_file(), &details()).unwrap();
    for length in 0..bytes.len() {
        let error = open_slot(&bytes[..length], &key_file()).unwrap_err();
        assert!(matches!(error, SlotError::Damaged(_)), "{length}: {error}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(open_slot(&longer, &key_file()), Err(SlotError::Damaged(_))));
}

/// Makes a slot whose parts do not go together, as only a holder of the secret could.
fn forge(keys: &KeySet, role: Role, sign: impl Fn(&[u8]) -> [u8; 64]) -> Vec<u8> {
    let label = ShortText::default();
    let kind = SlotKind::KeyFile { salt: [6; 32] };
    let header = SlotHeader {
        suite: SUITE,
        id: SlotId([1; 8]),
        kind,
        role,
        label: label.clone(),
        host_name: label,
        created: 0,
    };
    let mut signed = header.encode();
    let mut sealed = padded(keys);
    let key = slot_key(&kind, &key_file()).unwrap();
    FrameCipher::from_bytes(key.bytes()).seal_bound(0, &signed, &mut sealed);
    signed.extend_from_slice(&sealed);
    let signature = sign(&signed);
    slot::join(signed, &signature)
}

#[test]
fn forged_slots_are_refused() {
    let (full, mallory) = (FullKeys::generate(), FullKeys::generate());
    let keys = writer_set(&full);
    let honest = forge(&keys, Role::Writer, |signed| full.sign(SLOT_OBJECT, 0, signed));
    assert!(open_slot(&honest, &key_file()).is_ok());
    let error = |bytes: &[u8]| open_slot(bytes, &key_file()).unwrap_err();
    let by_other = forge(&keys, Role::Writer, |signed| mallory.sign(SLOT_OBJECT, 0, signed));
    assert_eq!(error(&by_other), SlotError::BadSignature);
    let as_other_object = forge(&keys, Role::Writer, |signed| full.sign(SLOT_OBJECT + 1, 0, signed));
    assert_eq!(error(&as_other_object), SlotError::BadSignature);
    let by_host = full.writer(HOST, HOST.own_domain());
    let by_host = forge(&keys, Role::Writer, |signed| by_host.sign(SLOT_OBJECT, 0, signed));
    assert_eq!(error(&by_host), SlotError::BadSignature);
    let wrong_role = forge(&keys, Role::Full, |signed| full.sign(SLOT_OBJECT, 0, signed));
    assert!(matches!(error(&wrong_role), SlotError::Damaged(FormatError::Inconsistent { .. })));
    // A writer's keys with another box key inside, signed by another repository: consistent in itself, and
    // noticed by the pinned key only.
    let mut swapped = full.writer(HOST, HOST.own_domain());
    swapped.box_public = mallory.writer(HOST, HOST.own_domain()).box_public;
    swapped.repository_public = KeySet::Full(mallory.clone()).repository_verifying_key();
    let swapped = KeySet::Writer(Box::new(swapped));
    let statement_signer =
        FullKeys::new(full.repository(), mallory.root().clone(), mallory.epochs().to_vec());
    let statement_signer = statement_signer.unwrap();
    let substituted = forge(&swapped, Role::Writer, |signed| statement_signer.sign(SLOT_OBJECT, 0, signed));
    let opened = open_slot(&substituted, &key_file()).unwrap();
    assert_ne!(opened.repository_verifying_key(), keys.repository_verifying_key());
}

#[test]
fn a_hostile_cost_is_refused_before_memory_is_taken() {
    let full = FullKeys::generate();
    let secret = Secret::Password("horse".into());
    let (_, bytes) = create_slot(&full, &KeySet::Full(full.clone()), &secret, &details()).unwrap();
    // The memory stands after magic, suite, id and kind, as a varint of five bytes: marker 252 and four bytes.
    assert_eq!(bytes[17..23], [0, 252, 0, 0, 1, 0]);
    let mut hostile = bytes.clone();
    hostile[19..23].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = open_slot(&with_checksum(hostile), &secret).unwrap_err();
    let SlotError::Damaged(FormatError::Limit { value, .. }) = error else { panic!("{error}") };
    assert_eq!(value, u64::from(u32::MAX));
    assert!(open_slot(&bytes, &secret).is_ok());
}

#[test]
fn the_size_tells_nothing_about_the_keys() {
    let mut full = FullKeys::generate();
    let small = create_slot(&full, &writer_set(&full), &key_file(), &details()).unwrap().1;
    for _ in 0..9 {
        full = full.with_new_epoch(&mut entropy::fill).unwrap();
    }
    let large = create_slot(&full, &KeySet::Full(full.clone()), &key_file(), &details()).unwrap().1;
    assert_eq!(small.len(), large.len());
}

#[test]
fn secrets_are_not_printed() {
    for secret in [Secret::Password("horse".into()), Secret::Recovery("horse".into()), key_file()] {
        let text = format!("{secret:?}");
        assert!(text.ends_with("(secret)") && !text.contains("horse"), "{text}");
    }
}
