//! Writer keys, other hosts, and objects that somebody forged, moved, replayed or exchanged.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use mailark::base::id::{BlobId, HostId, ObjectHash};
use mailark::crypto::pack::{FrameKind, PackKeyError, PackKeys};
use mailark::crypto::slot::Secret;
use mailark::format::content::BlobKind;
use mailark::format::envelope::PackEnvelope;
use mailark::format::keyset::{EpochSecret, FullKeys, KeySet, RootSecret};
use mailark::format::object::ObjectType;
use mailark::format::pack::MAGIC;
use mailark::format::page::Node;
use mailark::index::Index;
use mailark::repo::objects::{NewObject, Signer};
use mailark::repo::{RepoError, Repository, deltas, records, snapshots};
use mailark::store::{Folder, Place};

use crate::library::{Forger, LoneHost, entry, full_writer, lone_host, open, snapshot, tree};
use crate::support::{Output, TestEnv, copy_folder, is_root};
use crate::tree::{Ignore, TreeFixture, assert_same};

/// A repository with a full-key host's mail and that of two hosts with writer keys.
struct Hosts {
    env: TestEnv,
    mx1: LoneHost,
    mx2: LoneHost,
    tree: TreeFixture,
}

impl Hosts {
    fn new() -> Hosts {
        let env = TestEnv::with_repository();
        let tree = TreeFixture::new(env.path("vmail"));
        tree.maildir("alice", 0..20);
        tree.file("config/main.cf", b"myhostname = mx1\n");
        let (mx1, mx2) = (lone_host(&env, "mx1"), lone_host(&env, "mx2"));
        let hosts = Hosts { env, mx1, mx2, tree };
        hosts.env.backup(&hosts.tree.root);
        for key in [hosts.mx1.key_file.clone(), hosts.mx2.key_file.clone()] {
            hosts.as_host(&key, &hosts.backup_args()).expect(0);
        }
        hosts
    }

    fn backup_args(&self) -> Vec<&str> {
        vec!["backup", "--json", "--job", "data", "--as", "/data", self.tree.root.to_str().unwrap()]
    }

    fn as_host(&self, key_file: &Path, args: &[&str]) -> Output {
        self.env.mailark(args.iter().copied().chain(["--key-file", key_file.to_str().unwrap()]))
    }

    fn full(&self) -> Repository {
        open(&self.env.repository, &self.env.key_file).unwrap()
    }

    /// The objects of a folder that one host wrote.
    fn objects_of(&self, folder: &str, host: HostId) -> Vec<(PathBuf, Vec<u8>)> {
        self.env.objects(&format!("{folder}/{host}"))
    }

    /// Puts an object where `name` says and expects every reader to refuse it, by name, and to go on.
    #[track_caller]
    fn assert_refused(&self, name: &str, bytes: &[u8], why: &str) {
        let path = self.env.repository.join(name);
        assert!(!path.exists(), "{name} is there already");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let before = self.snapshot_count();
        let check = self.env.mailark(["check"]).expect(1).naming(name).naming(why);
        assert!(!check.stderr.contains("panicked"));
        self.env.mailark(["restore", "latest", "--host", "mx1", "--to", "restored"]);
        fs::remove_file(&path).unwrap();
        assert_eq!(before, self.snapshot_count(), "{name} counted as a snapshot");
    }

    fn snapshot_count(&self) -> usize {
        snapshots::list(&self.full()).unwrap().snapshots.len()
    }
}

fn hash(bytes: &[u8]) -> ObjectHash {
    ObjectHash(*blake3::hash(bytes).as_bytes())
}

#[test]
fn a_writer_backs_up_and_reads_its_own_listings() {
    let hosts = Hosts::new();
    let key = &hosts.mx1.key_file;
    let report = hosts.as_host(key, &hosts.backup_args()).expect(0).json();
    assert_eq!((&report["files_read"], &report["new_bytes"]), (&0.into(), &0.into()), "{report}");
    hosts.tree.file("alice/new-mail", crate::tree::mail(99));
    let report = hosts.as_host(key, &hosts.backup_args()).expect(0).json();
    assert_eq!(report["files_read"], 1, "{report}");
    let listed = hosts.as_host(key, &["snapshots", "--json"]).expect(0).json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 3, "its own, and nobody else's");
    assert!(listed.iter().all(|snapshot| snapshot["host_id"] == hosts.mx1.host.to_string()));
    hosts.as_host(key, &["check", "--read-data"]).expect(0);
    hosts.as_host(key, &["restore", "latest", "--to", "stolen"]).expect(12).naming("full key");
    assert!(!hosts.env.path("stolen").exists());
    hosts.env.check();
    let to = hosts.env.path("all");
    let id = listed[2]["id"].as_str().unwrap();
    hosts.env.mailark(["restore", id, "--to", to.to_str().unwrap()]).expect(0);
    assert_same(&hosts.tree.root, &to.join("data"), Ignore { owners: !is_root(), ..Ignore::default() });
}

#[test]
fn a_writer_finds_nothing_wrong_with_what_was_purged_and_forgotten_of_others() {
    let hosts = Hosts::new();
    hosts.as_host(&hosts.mx2.key_file, &hosts.backup_args()).expect(0);
    hosts.env.mailark(["purge", "--path", "/data/config/main.cf", "--yes"]).expect(0);
    hosts.env.mailark(["forget", "--keep-last", "1", "--hold-down", "0"]).expect(0);
    for pruned in [false, true] {
        if pruned {
            hosts.env.mailark(["prune", "--now"]).expect(0);
        }
        let report = hosts.as_host(&hosts.mx1.key_file, &["check", "--json"]).expect(0).json();
        assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report}");
    }
}

#[test]
fn a_writer_opens_no_mail_and_nothing_of_others() {
    let hosts = Hosts::new();
    let writer = open(&hosts.env.repository, &hosts.mx1.key_file).unwrap();
    let mut own = 0;
    for (path, bytes) in hosts.env.objects("packs") {
        let envelope = PackEnvelope::decode(&bytes[MAGIC.len()..MAGIC.len() + PackEnvelope::BYTES]).unwrap();
        let opened = PackKeys::open(&writer.keys, &envelope);
        if envelope.host != hosts.mx1.host {
            assert!(matches!(opened, Err(PackKeyError::NotForThisKey)), "{}", path.display());
            continue;
        }
        own += 1;
        let keys = opened.unwrap();
        for kind in FrameKind::ALL {
            let allowed = kind == FrameKind::Blob(BlobKind::Tree);
            assert_eq!(keys.frame_cipher(kind).is_ok(), allowed, "{kind:?}");
        }
    }
    assert!(own > 0);
    let listed = snapshots::list(&writer).unwrap();
    assert!(listed.snapshots.iter().all(|info| info.host == hosts.mx1.host) && listed.unusable.is_empty());
    assert_eq!(listed.foreign, 2);
    let known = records::hosts(&writer).unwrap();
    for (place, _) in writer.store.list(Folder::Deltas).unwrap() {
        let Place::Delta(host, ..) = place else { panic!("{place}") };
        let read = deltas::read(&writer, &known, &place).unwrap();
        assert_eq!(read.is_some(), host == hosts.mx1.host, "{place}");
    }
    assert!(matches!(writer.need_full("x"), Err(RepoError::NeedsFullKey { .. })));
    assert!(records::register_host(&writer, "mx9", None).is_err());
    assert!(writer.keys.snapshot_key(&hosts.mx2.host).is_none());
    assert!(writer.keys.private_record_key().is_none());
    assert!(writer.keys.domain(&hosts.mx2.domain).is_none());
}

#[test]
fn forged_replayed_renamed_and_foreign_objects_are_refused() {
    let hosts = Hosts::new();
    for folder in ["snapshots", "index"] {
        let (path, bytes) = hosts.objects_of(folder, hosts.mx1.host).remove(0);
        let own = format!("{folder}/{}", hosts.mx1.host);
        let name = path.file_name().unwrap().to_str().unwrap();
        // Forged: one bit of signature or content, under the hash that fits.
        for place in [bytes.len() - 1, bytes.len() / 2] {
            let mut forged = bytes.clone();
            forged[place] ^= 1;
            hosts.assert_refused(&format!("{own}/{:012}-{}", 9, hash(&forged)), &forged, "");
            let sequence: u64 = name[..12].parse().unwrap();
            hosts.assert_refused(&format!("{own}/{sequence:012}-{}", hash(&forged)), &forged, "");
        }
        // Replayed: an old object as the newest.
        hosts.assert_refused(&format!("{own}/{:012}-{}", 7, hash(&bytes)), &bytes, "another place");
        // Moved into another host's folder.
        let moved = format!("{folder}/{}/{}-{}", hosts.mx2.host, &name[..12], hash(&bytes));
        hosts.assert_refused(&moved, &bytes, "another place");
        // Renamed: the name of one object, the bytes of another.
        let (_, other) = hosts.objects_of(folder, hosts.mx2.host).remove(0);
        hosts.assert_refused(&format!("{own}/{:012}-{}", 8, hash(b"x")), &other, "name promises");
        // A snapshot as a delta, a delta as a snapshot.
        let wrong = if folder == "index" { "snapshots" } else { "index" };
        hosts.assert_refused(
            &format!("{wrong}/{}/{}-{}", hosts.mx1.host, &name[..12], hash(&bytes)),
            &bytes,
            "",
        );
    }
    hosts.env.check();
}

#[test]
fn objects_of_another_repository_are_refused() {
    let hosts = Hosts::new();
    let other = TestEnv::with_repository();
    let theirs = open(&other.repository, &other.key_file).unwrap();
    // Even a host of the same number there is another host.
    let writer = Arc::new(full_writer(&theirs, hosts.mx1.host, hosts.mx1.domain));
    let forger = Forger::with(theirs, writer);
    let root = forger
        .blob(BlobKind::Tree, &mailark::format::page::Page::Leaf(vec![entry(b"x", Node::Fifo)]).encode());
    forger.commit("data", tree(root, 0));
    for folder in ["snapshots", "index"] {
        let (path, bytes) = other.objects(folder).remove(0);
        let name = format!("{folder}/{}/000000000006-{}", hosts.mx1.host, hash(&bytes));
        hosts.assert_refused(&name, &bytes, "another place");
        let relative = path.strip_prefix(&other.repository).unwrap().to_str().unwrap().to_owned();
        hosts.assert_refused(&relative, &bytes, "signature");
    }
    other.backup(&hosts.tree.root);
    let (path, bytes) = other.objects("records").remove(0);
    let relative = path.strip_prefix(&other.repository).unwrap().to_str().unwrap().to_owned();
    hosts.assert_refused(&relative, &bytes, "signature");
}

#[test]
fn objects_signed_by_another_host_are_refused() {
    let hosts = Hosts::new();
    let full = hosts.full();
    let mx2 = full_writer(&full, hosts.mx2.host, hosts.mx2.domain);
    // mx2 writes in the name of mx1, with all it has: its own signing key and its own seals.
    for object_type in [ObjectType::Snapshot, ObjectType::Delta] {
        let object = NewObject {
            object_type,
            epoch: mx2.epoch,
            host: hosts.mx1.host,
            domain: hosts.mx1.domain,
            sequence: 5,
            clear: Vec::new(),
            secret: snapshot("data", tree(BlobId([1; 16]), 0)).encode(),
        };
        let key: &dyn mailark::crypto::seal::SealingKey =
            if object_type == ObjectType::Delta { &mx2.delta_key } else { &mx2.snapshot_key };
        let place = object.write(full.store.as_ref(), &full.id(), Some(key), Signer::Host(&mx2)).unwrap();
        let path = hosts.env.repository.join(place.to_string());
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        hosts.assert_refused(&place.to_string(), &bytes, "signature");
    }
    // In its own name, but into the domain of mx1: it lacks the key of that seal.
    let object = NewObject {
        object_type: ObjectType::Delta,
        epoch: mx2.epoch,
        host: mx2.host,
        domain: hosts.mx1.domain,
        sequence: 5,
        clear: mailark::format::delta::PackList { packs: Vec::new() }.encode(),
        secret: mailark::format::delta::encode(&[]),
    };
    let place =
        object.write(full.store.as_ref(), &full.id(), Some(&mx2.delta_key), Signer::Host(&mx2)).unwrap();
    let bytes = fs::read(hosts.env.repository.join(place.to_string())).unwrap();
    fs::remove_file(hosts.env.repository.join(place.to_string())).unwrap();
    hosts.assert_refused(&place.to_string(), &bytes, "seal");
}

#[test]
fn an_exchanged_slot_config_or_repository_is_noticed() {
    let hosts = Hosts::new();
    let env = &hosts.env;
    let key = hosts.mx1.key_file.to_str().unwrap().to_owned();
    // Somebody makes a repository of his own that opens with the very same key files.
    let mut other = TestEnv::new();
    other.key_file.clone_from(&hosts.mx1.key_file);
    other.mailark(["init", "--no-recovery-code"]).expect(0);
    let whole = env.path("whole");
    copy_folder(&env.repository, &whole);
    let restore_all = || {
        fs::remove_dir_all(&env.repository).unwrap();
        copy_folder(&whole, &env.repository);
    };
    let backup = || env.mailark(["backup", "--job", "data", "--as", "/data", "vmail", "--key-file", &key]);
    // Only the slot.
    let slot = other.objects("keys").remove(0);
    fs::remove_dir_all(env.repository.join("keys")).unwrap();
    fs::create_dir(env.repository.join("keys")).unwrap();
    fs::write(env.repository.join("keys").join(slot.0.file_name().unwrap()), &slot.1).unwrap();
    let output = backup();
    assert!(matches!(output.code, 1 | 12) && output.stderr.contains("config"), "{}", output.both());
    restore_all();
    // Only the config.
    fs::copy(other.repository.join("config"), env.repository.join("config")).unwrap();
    backup().expect(1).naming("config");
    restore_all();
    // A slot under another slot's name.
    for (path, bytes) in env.objects("keys") {
        fs::remove_file(&path).unwrap();
        fs::write(path.with_file_name("00000000000000ff"), &bytes).unwrap();
        env.mailark(["check"]);
        fs::remove_file(path.with_file_name("00000000000000ff")).unwrap();
        fs::write(path, bytes).unwrap();
    }
    backup().expect(0);
    // The whole repository, made by somebody who holds no key of ours.
    let stranger = TestEnv::new();
    crate::support::write_private(&stranger.key_file, &crate::support::noise(66, 32));
    stranger.mailark(["init"]).expect(0);
    fs::remove_dir_all(&env.repository).unwrap();
    copy_folder(&stranger.repository, &env.repository);
    backup().expect(12);
    restore_all();
    // The same repository id and key file, but other keys inside: only the pinned signing key tells.
    let before = open(&env.repository, &env.key_file).unwrap();
    let (id, config) = (before.id(), before.config.clone());
    let keys = FullKeys::new(id, RootSecret::new([5; 32]), vec![EpochSecret::new([6; 32])]).unwrap();
    fs::remove_dir_all(env.repository.join("keys")).unwrap();
    fs::remove_file(env.repository.join("config")).unwrap();
    let evil = Repository {
        store: before.store,
        keys: Arc::new(KeySet::Full(keys.clone())),
        config,
        config_damage: None,
        opened: None,
        records: Default::default(),
    };
    let secret = Secret::KeyFile(fs::read(&env.key_file).unwrap());
    evil.add_slot(&evil.keys, &secret, "mine now", "").unwrap();
    let object = NewObject {
        object_type: ObjectType::Config,
        epoch: 0,
        host: HostId::default(),
        domain: Default::default(),
        sequence: 0,
        clear: evil.config.encode(),
        secret: Vec::new(),
    };
    object.write(evil.store.as_ref(), &id, None, Signer::Repository(&keys)).unwrap();
    env.mailark(["snapshots"]).expect(12).naming("another key");
    env.mailark(["backup", "--job", "data", "vmail"]).expect(12);
}

#[test]
fn garbage_under_a_foreign_id_harms_nobody() {
    let hosts = Hosts::new();
    let full = hosts.full();
    // The ids of everything that mx1 stored.
    let known = records::hosts(&full).unwrap();
    let mut stolen: Vec<BlobId> = Vec::new();
    for (place, _) in full.store.list(Folder::Deltas).unwrap() {
        if matches!(place, Place::Delta(host, ..) if host == hosts.mx1.host) {
            let delta = deltas::read(&full, &known, &place).unwrap().unwrap();
            stolen.extend(delta.packs.iter().flat_map(|(_, _, contents)| contents.ids.iter().copied()));
        }
    }
    assert!(stolen.len() > 20);
    // mx2 claims, in its own domain, that its rubbish is those blobs.
    let publish = |host: HostId, domain, ids: &[BlobId]| {
        let repository = hosts.full();
        let writer = Arc::new(full_writer(&repository, host, domain));
        let forger = Forger::with(repository, Arc::clone(&writer));
        for number in 0..ids.len() {
            forger.blob(BlobKind::File, format!("rubbish {number}").as_bytes());
        }
        let mut packs = forger.packs();
        let mut ids = ids.iter();
        packs
            .iter_mut()
            .flat_map(|pack| &mut pack.contents.ids)
            .zip(&mut ids)
            .for_each(|(id, claimed)| *id = *claimed);
        forger.repository.store.barrier().unwrap();
        let next = deltas::next_sequence(&forger.repository, &host).unwrap();
        deltas::write(&forger.repository, &writer, next, &packs).unwrap();
    };
    publish(hosts.mx2.host, hosts.mx2.domain, &stolen);
    let id = snapshots::list(&full)
        .unwrap()
        .snapshots
        .iter()
        .find(|info| info.host == hosts.mx1.host)
        .unwrap()
        .hash;
    let restored = |to: &str| {
        hosts.env.mailark(["restore", &id.to_string(), "--no-cache", "--to", to]).expect(0);
        let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
        assert_same(&hosts.tree.root, &hosts.env.path(to).join("data"), ignore);
    };
    restored("after-mx2");
    hosts.env.mailark(["check", "--read-data"]).expect(1).naming("packs/");
    // In its own domain a host harms only who asks for that copy; the right one is found behind it.
    publish(hosts.mx1.host, hosts.mx1.domain, &stolen);
    restored("after-mx1");
    // An index that met the rubbish last gives it first, and reads on.
    let index = RwLock::new(Index::in_memory(&full.id()));
    deltas::sync(&full, &index).unwrap();
    assert!(index.read().unwrap().lookup(&hosts.mx1.domain, &stolen[0]).unwrap().len() >= 2);
}
