//! Known answers: fixed inputs, fixed outputs, for whoever writes a second reader. They stand in
//! `repo-format.md` too.
//!
//! Inputs: root 32 x 11, epoch 0 32 x 22, repository 16 x 33, host 16 x 44, domain 16 x 55; random bytes are
//! drawn as 66 66 ..., then 77 77 ...

use super::blob_id::BlobNamer;
use super::kdf;
use super::keys::box_public;
use super::pack::{FrameKind, PackKeys};
use super::recovery::RecoveryCode;
use super::seal::{FrameCipher, seal_in_place};
use super::slot::{Secret, SlotDetails, create_slot_with, open_slot};
use crate::base::bytes::hex;
use crate::base::id::{DomainId, HostId, RepositoryId};
use crate::format::content::BlobKind;
use crate::format::keyset::{EpochSecret, FullKeys, KeySet, RootSecret};

const REPOSITORY: RepositoryId = RepositoryId([0x33; 16]);
const HOST: HostId = HostId([0x44; 16]);
const DOMAIN: DomainId = DomainId([0x55; 16]);

fn full() -> FullKeys {
    FullKeys::new(REPOSITORY, RootSecret::new([0x11; 32]), vec![EpochSecret::new([0x22; 32])]).unwrap()
}

/// Draws 66 66 ..., then 77 77 ..., and so on.
fn counted() -> impl FnMut(&mut [u8]) {
    let mut next = 0x66;
    move |bytes| {
        bytes.fill(next);
        next += 0x11;
    }
}

fn check(known: &[(&str, &str)], found: &[(&'static str, String)]) {
    let table: String = found.iter().map(|(name, value)| format!("| {name} | `{value}` |\n")).collect();
    println!("{table}");
    let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(known, found, "\n{table}");
}

#[test]
fn derivations() {
    let (full, root, epoch) = (full(), RootSecret::new([0x11; 32]), EpochSecret::new([0x22; 32]));
    let writer = full.writer(HOST, DOMAIN);
    let keys = KeySet::Full(full);
    let namer = BlobNamer::new(&writer.id_key, &writer.host);
    let found = [
        ("id key", hex(writer.id_key.bytes())),
        ("page id key", hex(kdf::page_id_key(&writer.id_key, &writer.host).bytes())),
        ("blob id of \"mailark\"", namer.name(BlobKind::Text, b"mailark").to_string()),
        ("page id of \"mailark\"", namer.name(BlobKind::Tree, b"mailark").to_string()),
        ("delta key", hex(writer.delta_key.bytes())),
        ("cut key", hex(writer.cut_key.bytes())),
        ("content cut secret", hex(kdf::content_cut_secret(&writer.cut_key).bytes())),
        ("link group secret", hex(kdf::link_group_secret(&writer.cut_key).bytes())),
        ("tombstone key", hex(kdf::tombstone_key(&writer.cut_key).bytes())),
        ("page cut secret", hex(kdf::page_cut_secret(&writer.cut_key).bytes())),
        ("repository signing seed", hex(kdf::repository_signing_seed(&root).bytes())),
        ("repository public key", hex(&writer.repository_public.0)),
        ("host signing seed", hex(writer.host_signing_seed.bytes())),
        ("host public key", hex(&keys.host_verifying_key(&HOST).unwrap().0)),
        ("snapshot key", hex(writer.snapshot_key.bytes())),
        ("shared record key", hex(writer.shared_record_key.bytes())),
        ("private record key", hex(keys.private_record_key().unwrap().bytes())),
        ("box secret", hex(kdf::box_secret(&epoch).bytes())),
        ("box public key", hex(&box_public(&epoch).0)),
        ("pack secret", hex(writer.pack_secret.bytes())),
        ("tree key", hex(writer.tree_key.bytes())),
    ];
    check(&DERIVATIONS, &found);
}

#[test]
fn packs() {
    let full = full();
    let (pack, envelope) = PackKeys::create_with(&full.writer(HOST, DOMAIN), &mut counted()).unwrap();
    let sealed = |kind: FrameKind| {
        let mut frame = b"mailark".to_vec();
        pack.frame_cipher(kind).unwrap().seal_in_place(&pack.context(kind, 1), &mut frame);
        hex(&frame)
    };
    let found = [
        ("pack envelope", hex(&envelope.encode())),
        ("associated data of a text frame at position 1", hex(&pack.context(BlobKind::Text, 1).encode())),
        ("\"mailark\" as text at position 1", sealed(BlobKind::Text.into())),
        ("\"mailark\" as tree at position 1", sealed(BlobKind::Tree.into())),
        ("\"mailark\" as footer at position 1", sealed(FrameKind::Footer)),
    ];
    check(&PACKS, &found);
    assert!(PackKeys::open(&KeySet::Full(full), &envelope).is_ok());
}

#[test]
fn objects_and_signatures() {
    let full = full();
    let writer = full.writer(HOST, DOMAIN);
    let context = super::seal::Context {
        suite: 1,
        object_type: 5,
        epoch: 0,
        repository: REPOSITORY,
        salt: [0x66; 32],
        kind: 0,
        position: 0,
    };
    let key = kdf::object_key(writer.snapshot_key.bytes(), 5, &REPOSITORY, &[0x66; 32]);
    let (mut frame, mut again) = (b"mailark".to_vec(), b"mailark".to_vec());
    seal_in_place(&key, &context, &mut frame);
    FrameCipher::for_object(&writer.snapshot_key, &context).seal_in_place(&context, &mut again);
    assert_eq!(frame, again);
    let found = [
        ("object key of the snapshot key, type 5", hex(key.bytes())),
        ("\"mailark\" as object of type 5", hex(&frame)),
        ("signature of the host, type 5, sequence 1", hex(&writer.sign(5, 1, b"mailark"))),
        ("signature of the repository, type 6, sequence 1", hex(&full.sign(6, 1, b"mailark"))),
    ];
    check(&OBJECTS, &found);
}

#[test]
fn slots() {
    let full = full();
    let code = RecoveryCode::generate_with(&mut |bytes| bytes.copy_from_slice(b"mailark recovery 000"));
    let secrets = [
        Secret::Password("mailark".into()),
        Secret::KeyFile((0..32).collect()),
        Secret::Recovery(code.text().to_string()),
    ];
    let mut found = vec![("recovery code of \"mailark recovery 000\"", code.text().to_string())];
    let names = [
        "BLAKE3 of the slot of password \"mailark\"",
        "BLAKE3 of the slot of key file 00 01 .. 1f",
        "BLAKE3 of the slot of that recovery code",
    ];
    for (name, secret) in names.into_iter().zip(&secrets) {
        let details = SlotDetails { label: "label", host_name: "host", created: 1, ..SlotDetails::default() };
        let keys = KeySet::Full(full.clone());
        let (_, bytes) = create_slot_with(&full, &keys, secret, &details, &mut counted()).unwrap();
        assert!(open_slot(&bytes, secret).is_ok());
        if matches!(secret, Secret::Password(_)) {
            found.push(("clear part of the password slot", hex(&bytes[..bytes.len() - 4096 - 16 - 64 - 32])));
        }
        found.push((name, blake3::hash(&bytes).to_string()));
    }
    check(&SLOTS, &found);
}

const DERIVATIONS: [(&str, &str); 21] = [
    ("id key", "966685fac5627c91d0123ddc4afb73af73e19790475f599a6bfc014eedd1fe32"),
    ("page id key", "e98815789ba1dce6f065b1c20d17e3be6f773b1af55099985f113228bc46a6a8"),
    ("blob id of \"mailark\"", "36cf48210d4f3516e40a02ed70d7463f"),
    ("page id of \"mailark\"", "01d1436b6018bbeb8961f270e5cd1cca"),
    ("delta key", "0b1683695bdfc82ffc647e097bf08965248b3e82b3a3ff3d27bdcaa85c30db26"),
    ("cut key", "7df07bf7658868cb563863c1985c00cb6e6259eaa11c79d4c009bd37e463f292"),
    ("content cut secret", "923b0b8105df2a50cb041f925b2cbaf3a3b4c5b774aa6d5c0d8e4a35b8d29bc6"),
    ("link group secret", "16f73b2fad8957c1cb5c7478c2c2445743563750281a5277edab5a7b554b2b1f"),
    ("tombstone key", "2d4a84da83391a142a346bc27e940409b9e401e79dc2561e3496cc46de0fd319"),
    ("page cut secret", "08befa1454384ae04277591bbb990f65c630409b4db134a06234c6877dd63f7d"),
    ("repository signing seed", "0a4ca87cf222b4149ac5b9914af89d30f73d3b679e6def3995402d09b8d86621"),
    ("repository public key", "362ce93a26216b99b36c5101cb72f1233f89dea86b62edd3a0730e6efd638324"),
    ("host signing seed", "8ff2a7ed53754e01235856107c7805ae3813e5585879e71d7d68acd3a6e824f9"),
    ("host public key", "5a893f8f87d8efc74463facc46b8e210a36f1f25fe49b640454e1d0a219a861a"),
    ("snapshot key", "674f2524ab9941ff710935a8eb2d2d01536ebd390bd7aeee58a02ba1168aa982"),
    ("shared record key", "bac8bec7d170ddb601f41e0e0b6330e103a62c3a9d3dc51898ef823ed960cdcf"),
    ("private record key", "eb5540f445d9d9297f41dedda32ddd4b8bc42a50c29e6e7931527a8daa9c03af"),
    ("box secret", "f0877772ef0b0c8aa1cdf3c94e408951678fda86ac2c4548ade7c0d012c01b41"),
    ("box public key", "a93c296a05a7e9910e97fa709f0ee76f95d79a6827874994c2b0756b69568532"),
    ("pack secret", "00eaa344ca742a99b80165a4ecc204186adbc1e01e439f36cd910fb7508fac6e"),
    ("tree key", "e19f9de578191f102b8b95846b0d0058b5bdd1143175d8ff17e11e961e0016d6"),
];
const PACKS: [(&str, &str); 5] = [
    (
        "pack envelope",
        "01000000004444444444444444444444444444444466666666666666666666666666666666666666\
         666666666666666666666666661cf579aba45a10ba1d1ef06d91fca2aa9ed0a1150515653155405d\
         0b18cb9a676eb06cf7e297c665d5037a2e94b973c3c38acb531c79b0205b88247e8b187df7f80432\
         45baad7f1c8ee6f95e4712b45f",
    ),
    (
        "associated data of a text frame at position 1",
        "01030000000033333333333333333333333333333333666666666666666666666666666666666666\
         6666666666666666666666666666010100000000000000",
    ),
    ("\"mailark\" as text at position 1", "00b4413a16bf29045e701a3f7e60e70b06291290be67ac"),
    ("\"mailark\" as tree at position 1", "f06b47d4e7d31acfe087ca33cfbac5c20d1baff07ef73a"),
    ("\"mailark\" as footer at position 1", "6ab565e5ad15c722a5d879a64640fe979189cd93e5123e"),
];
const OBJECTS: [(&str, &str); 4] = [
    (
        "object key of the snapshot key, type 5",
        "60a06337608edd481b93baea8f010b1b8530759cd5794ec1d11ab88c0e76b262",
    ),
    ("\"mailark\" as object of type 5", "6fc07fba25cafa478f048dce33edc7cd5f8694ab7d5d30"),
    (
        "signature of the host, type 5, sequence 1",
        "e1599907fc6ac5fec0b91ee8101de6b91b201f3cccd2e9450b86535d545740874c499ea61f09cf6f\
         2e7be7294cd5c128763c7760f6f78fa65a5d7f5ef9965b09",
    ),
    (
        "signature of the repository, type 6, sequence 1",
        "b5768fc127b1035abfc69e6ed8103fca40133e17b3bcf6ef51654bcf22aa8f954b06fa3d532cbc5b\
         f52f666f1fc7051ecc9b16984c37a0ae67a3d826d826db0b",
    ),
];
const SLOTS: [(&str, &str); 5] = [
    ("recovery code of \"mailark recovery 000\"", "DNGPK-JV318-E9NJF-0WK5D-CDQQQ-CSBJF-F4G38-0C1GR"),
    (
        "clear part of the password slot",
        "4d41524b4b45593101666666666666666600fc000001000301777777777777777777777777777777\
         777777777777777777777777777777777700056c6162656c04686f737402",
    ),
    (
        "BLAKE3 of the slot of password \"mailark\"",
        "ba2b78c43d27a8278b4a4e510cb66806c387b4f7825a4c918bcde99430443f24",
    ),
    (
        "BLAKE3 of the slot of key file 00 01 .. 1f",
        "eab75064ab9fccc0753d8fe61f7684dd4d94014f112817f8140b586af6d1358b",
    ),
    (
        "BLAKE3 of the slot of that recovery code",
        "12370887f9a0f7a41c90e4d07b0db1a2681c99e326662535a7b8c43e0d7d5c5f",
    ),
];
