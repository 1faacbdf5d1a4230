//! Tables of numbers: limits, codec, padding, derivations, recovery codes.

use std::collections::BTreeMap;

use mailark::base::bytes::hex;
use mailark::crypto::kdf;
use mailark::crypto::recovery::RecoveryCode;
use mailark::format::codec;
use mailark::format::content::BlobKind;
use mailark::format::keyset::KeySet;
use mailark::format::pack;

use super::document::{self, table, unhex};
use super::known;

/// The constants of `base::limits`, computed from their source so that none can be left out.
fn limits() -> BTreeMap<String, u64> {
    let source = include_str!("../../../src/base/limits.rs");
    let number = |text: &str| text.trim().replace('_', "").parse::<u64>().unwrap();
    let constants = source.lines().filter_map(|line| line.strip_prefix("pub const ")?.strip_suffix(';'));
    let value = |text: &str| match text.split_once("<<") {
        Some((base, shift)) => number(base) << number(shift),
        None => number(text),
    };
    constants
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, rest)| (name.to_owned(), value(rest.split_once('=').unwrap().1)))
        .collect()
}

#[test]
fn the_limits_are_those_of_the_code() {
    let written: BTreeMap<String, u64> = table("| name | value | bounds |")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].replace(',', "").parse().unwrap()))
        .collect();
    assert_eq!(written, limits());
    assert_eq!(written["BLOB_BYTES_MAX"], mailark::base::limits::BLOB_BYTES_MAX as u64);
}

#[test]
fn the_codec_encodes_as_written() {
    for row in table("| type | value | bytes |") {
        let [kind, value, bytes] = row.as_slice() else { panic!("{row:?}") };
        let numbers = || value.split(", ").map(|number| number.parse::<u64>().unwrap());
        let one = || numbers().next().unwrap();
        let found = match kind.as_str() {
            "u8" => codec::encode(&(one() as u8)),
            "u16" => codec::encode(&(one() as u16)),
            "u32" => codec::encode(&(one() as u32)),
            "u64" => codec::encode(&one()),
            "i64" => codec::encode(&value.parse::<i64>().unwrap()),
            "bool" => codec::encode(&(value == "true")),
            "string" => codec::encode(value),
            "option of u8" => codec::encode(&value.parse::<u8>().ok()),
            "list of u32" => codec::encode(&numbers().map(|number| number as u32).collect::<Vec<_>>()),
            "array of 4 u8" => {
                let array: [u8; 4] =
                    numbers().map(|number| number as u8).collect::<Vec<_>>().try_into().unwrap();
                codec::encode(&array)
            }
            other => panic!("unknown type {other}"),
        };
        assert_eq!(hex(&found), *bytes, "{kind} {value}");
    }
    for refused in ["fb", "fc00000000", "fd0000000000000000", "fe", "ff"] {
        assert!(codec::decode::<u16>(&unhex(refused), "number").is_err(), "{refused}");
    }
    assert!(codec::decode::<bool>(&[2], "flag").is_err());
    assert!(codec::decode::<String>(&[1, 0xff], "text").is_err());
}

#[test]
fn packs_are_padded_as_written() {
    for row in table("| bytes | padded |") {
        assert_eq!(pack::padded_bytes(row[0].parse().unwrap()).to_string(), row[1], "{row:?}");
    }
}

/// Derives every row by the document's rule alone and gives all values by name.
fn derived() -> BTreeMap<String, Vec<u8>> {
    let key_file: Vec<u8> = (0..32).collect();
    let mut known: BTreeMap<String, Vec<u8>> = [
        ("root", vec![0x11; 32]),
        ("epoch secret", vec![0x22; 32]),
        ("repository", vec![0x33; 16]),
        ("host", vec![0x44; 16]),
        ("domain", vec![0x55; 16]),
        ("salt", vec![0x66; 32]),
        ("kind", vec![1]),
        ("type", vec![5]),
        ("BLAKE3 of the key file", blake3::hash(&key_file).as_bytes().to_vec()),
        ("recovery code", b"mailark recovery 000".to_vec()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for row in table("| public | known answer |").into_iter().filter(|row| !row[0].contains("repository")) {
        let name = row[0].split(" (").next().unwrap().replace(" key", "").replace(" secret", "");
        known.insert(name, unhex(&row[1]));
    }
    for row in table("| derived | purpose | material | known answer |") {
        let material: Vec<u8> = row[2].split(" ‖ ").flat_map(|field| known[field].clone()).collect();
        let value = blake3::derive_key(&format!("mailark 2026-11 {}", row[1]), &material);
        assert_eq!(hex(&value), row[3], "{}", row[0]);
        if row[0] == "snapshot key" {
            known.insert("sealing key".to_owned(), value.to_vec());
        }
        known.insert(row[0].clone(), value.to_vec());
    }
    known
}

#[test]
fn derivations_follow_the_written_rule() {
    let derived = derived();
    let (writer, keys) = (known::writer(), KeySet::Full(known::full()));
    let signing = |name: &str| {
        let seed = derived[name].as_slice().try_into().unwrap();
        ed25519_dalek::SigningKey::from_bytes(seed).verifying_key().to_bytes()
    };
    let secret = |name: &str| -> [u8; 32] { derived[name].as_slice().try_into().unwrap() };
    let box_secret = x25519_dalek::StaticSecret::from(secret("box secret"));
    let found = [
        ("id key", writer.id_key.bytes()),
        ("delta key", writer.delta_key.bytes()),
        ("cut key", writer.cut_key.bytes()),
        ("content cut secret", kdf::content_cut_secret(&writer.cut_key).bytes()),
        ("page cut secret", kdf::page_cut_secret(&writer.cut_key).bytes()),
        ("link group secret", kdf::link_group_secret(&writer.cut_key).bytes()),
        ("tombstone key", kdf::tombstone_key(&writer.cut_key).bytes()),
        ("host signing seed", writer.host_signing_seed.bytes()),
        ("snapshot key", writer.snapshot_key.bytes()),
        ("shared record key", writer.shared_record_key.bytes()),
        ("private record key", keys.private_record_key().unwrap().bytes()),
        ("pack secret", writer.pack_secret.bytes()),
        ("tree key", writer.tree_key.bytes()),
    ]
    .map(|(name, value)| (name, *value));
    for (name, value) in found {
        assert_eq!(value, secret(name), "{name}");
    }
    let public = |name: &str| {
        let rows = table("| public | known answer |");
        rows.into_iter().find(|row| row[0].starts_with(name)).unwrap()[1].clone()
    };
    let ephemeral = x25519_dalek::StaticSecret::from([0x77; 32]);
    let box_public = x25519_dalek::PublicKey::from(&box_secret);
    for (name, value, computed) in [
        ("repository public key", writer.repository_public.0, signing("repository signing seed")),
        ("host public key", keys.host_verifying_key(&known::HOST).unwrap().0, signing("host signing seed")),
        ("box public key", writer.box_public.0, box_public.to_bytes()),
    ] {
        assert_eq!((hex(&value), hex(&computed)), (public(name), public(name)), "{name}");
    }
    assert_eq!(hex(&x25519_dalek::PublicKey::from(&ephemeral).to_bytes()), public("ephemeral public key"));
    assert_eq!(hex(ephemeral.diffie_hellman(&box_public).as_bytes()), public("shared secret"));
    assert_eq!(known::name(BlobKind::Text, b"mailark").to_string(), public("blob id"));
    assert_eq!(known::name(BlobKind::Tree, b"mailark").to_string(), public("page id"));
}

#[test]
fn every_purpose_of_the_code_is_written() {
    let source = include_str!("../../../src/crypto/kdf.rs");
    let purposes = source.lines().filter_map(|line| line.trim().split_once(" = \"")?.1.strip_suffix("\";"));
    let mut in_code: Vec<&str> = purposes.collect();
    let rows = table("| derived | purpose | material | known answer |");
    let mut written: Vec<&str> = rows.iter().map(|row| row[1].as_str()).collect();
    in_code.sort_unstable();
    written.sort_unstable();
    assert_eq!(in_code, written);
}

#[test]
fn the_recovery_code_is_as_written() {
    let code = RecoveryCode::generate_with(&mut |bytes| bytes.copy_from_slice(b"mailark recovery 000"));
    assert_eq!(*code.text(), document::text("recovery-code").trim_end());
    assert_eq!(RecoveryCode::parse(&document::text("recovery-code")).unwrap().bytes(), code.bytes());
}
