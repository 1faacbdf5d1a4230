//! Whatever happens to the files: before a sync the answers fit the deltas that are claimed, after it all is right.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn wanted() -> BTreeSet<u64> {
    (0..21).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// An index as it lies on disk, closed or (`is_open`) with its journal as a killed process leaves it.
fn image(is_open: bool) -> tempfile::TempDir {
    let (dir, taken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut index = Index::open(dir.path(), &REPOSITORY).unwrap();
    for delta in wanted() {
        SMALL.apply(&mut index, delta).unwrap();
        index.settle().unwrap();
    }
    index.set("high water", b"17").unwrap();
    if !is_open {
        drop(index);
        copy(dir.path(), taken.path());
        return taken;
    }
    copy(dir.path(), taken.path());
    taken
}

/// Opens what is in `dir` and asks for everything, then syncs it and asks again.
fn survives(dir: &Path, case: &str) {
    let index = Index::open(dir, &REPOSITORY).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    let before = index.deltas().and_then(|hashes| {
        let claimed = (0..40).filter(|&delta| hashes.contains(&delta_hash(delta))).collect();
        let high_water = index.get("high water")?;
        let is_empty = hashes.is_empty();
        assert!(high_water.as_deref() == Some(b"17") || is_empty || high_water.is_none(), "{case}");
        SMALL.check(&index, &claimed)
    });
    if let Err(error) = before {
        assert!(error.is_damage(), "{case}: {error:?}");
    }
    let index = SMALL.sync(index, &wanted()).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    drop(index);
    SMALL.check(&Index::open(dir, &REPOSITORY).unwrap(), &wanted()).unwrap();
}

fn sweep(image: &Path, spots: usize, damage: impl Fn(&mut Vec<u8>, usize)) {
    let work = tempfile::tempdir().unwrap();
    for file in files(image) {
        let name = file.strip_prefix(image).unwrap();
        let bytes = fs::read(&file).unwrap();
        let step = (bytes.len() / spots).max(1);
        // A different phase for each file, so that not only round offsets are met.
        for at in (bytes.len() % step..bytes.len()).step_by(step) {
            let dir = work.path().join(format!("{at}"));
            copy(image, &dir);
            let mut damaged = bytes.clone();
            damage(&mut damaged, at);
            fs::write(dir.join(name), damaged).unwrap();
            survives(&dir, &format!("{} at {at}", name.display()));
            fs::remove_dir_all(&dir).unwrap();
        }
    }
}

#[test]
fn flipped_bits() {
    sweep(image(false).path(), 24, |bytes, at| bytes[at] ^= 1 << (at % 8));
    sweep(image(true).path(), 12, |bytes, at| bytes[at] ^= 1 << (at % 8));
}

#[test]
fn every_bit_of_the_database_header() {
    let image = image(false);
    let work = tempfile::tempdir().unwrap();
    let database = files(image.path()).into_iter().find(|file| file.ends_with("index.db")).unwrap();
    let name = database.strip_prefix(image.path()).unwrap();
    for at in 0..112 {
        let dir = work.path().join(at.to_string());
        copy(image.path(), &dir);
        let mut bytes = fs::read(&database).unwrap();
        bytes[at] ^= 1 << (at % 8);
        fs::write(dir.join(name), bytes).unwrap();
        survives(&dir, &format!("header byte {at}"));
    }
}

#[test]
fn truncated_files() {
    sweep(image(false).path(), 8, |bytes, at| bytes.truncate(at));
    sweep(image(true).path(), 6, |bytes, at| bytes.truncate(at));
}

#[test]
fn zeroed_and_foreign_stretches() {
    sweep(image(false).path(), 8, |bytes, at| {
        let end = bytes.len().min(at + 4096);
        bytes[at..end].fill(0);
    });
    sweep(image(true).path(), 8, |bytes, at| {
        let start = bytes.len() / 3;
        let end = bytes.len().min(at + 512);
        let foreign: Vec<u8> = (at..end).map(|from| bytes[(from * 7 + start) % bytes.len()]).collect();
        bytes[at..end].copy_from_slice(&foreign);
    });
}

#[test]
fn deleted_and_exchanged_files() {
    for is_open in [false, true] {
        let image = image(is_open);
        let names: Vec<PathBuf> = files(image.path())
            .iter()
            .map(|file| file.strip_prefix(image.path()).unwrap().to_owned())
            .collect();
        for one in &names {
            for other in names.iter().filter(|other| *other >= one) {
                let work = tempfile::tempdir().unwrap();
                copy(image.path(), work.path());
                let (one, other) = (work.path().join(one), work.path().join(other));
                let bytes = (fs::read(&one).unwrap(), fs::read(&other).unwrap());
                if one == other {
                    fs::remove_file(&one).unwrap();
                } else {
                    fs::write(&one, bytes.1).unwrap();
                    fs::write(&other, bytes.0).unwrap();
                }
                survives(work.path(), &format!("{} and {}", one.display(), other.display()));
            }
        }
    }
}

#[test]
fn an_old_copy_and_parts_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path(), &REPOSITORY).unwrap();
    (0..9).for_each(|delta| SMALL.apply(&mut index, delta).unwrap());
    index.settle().unwrap();
    copy(dir.path(), old.path());
    let gone: HashSet<ObjectHash> = (0..5).map(delta_hash).collect();
    index.retain(&gone).unwrap();
    (9..30).for_each(|delta| SMALL.apply(&mut index, delta).unwrap());
    index.settle().unwrap();
    drop(index);
    let names: Vec<PathBuf> =
        files(old.path()).iter().map(|file| file.strip_prefix(old.path()).unwrap().to_owned()).collect();
    // Every subset of the small number of kinds of files: database, its journals, runs.
    for mask in 0..16 {
        let work = tempfile::tempdir().unwrap();
        copy(dir.path(), work.path());
        for name in &names {
            let kind =
                ["index.db", "index.db-wal", "index.db-shm"].iter().position(|end| name.ends_with(end));
            if mask >> kind.unwrap_or(3) & 1 == 1 {
                fs::copy(old.path().join(name), work.path().join(name)).unwrap();
            }
        }
        survives(work.path(), &format!("old files {mask:04b}"));
    }
}

#[test]
fn other_repository_other_content_and_leftovers() {
    let image = image(false);
    let foreign = tempfile::tempdir().unwrap();
    let other = RepositoryId([8; 16]);
    copy(&image.path().join(REPOSITORY.to_string()), &foreign.path().join(other.to_string()));
    let mut index = Index::open(foreign.path(), &other).unwrap();
    assert!(index.deltas().unwrap().is_empty());
    // A run file that no row names is collected by the next writer.
    let folder = index.shelf.folder.as_ref().unwrap().path().to_owned();
    fs::write(folder.join("00ff.run"), b"left by a killed process").unwrap();
    SMALL.apply(&mut index, 1).unwrap();
    assert!(!folder.join("00ff.run").exists());
    drop(index);
    // Folders where files should be.
    let place = foreign.path().join(other.to_string());
    fs::remove_file(place.join("current")).unwrap();
    fs::create_dir(place.join("current")).unwrap();
    let index = Index::open(foreign.path(), &other).unwrap();
    assert!(index.deltas().unwrap().is_empty());
    let database = index.shelf.folder.as_ref().unwrap().database();
    drop(index);
    fs::remove_file(&database).unwrap();
    fs::create_dir(&database).unwrap();
    assert!(Index::open(foreign.path(), &other).unwrap().deltas().unwrap().is_empty());
}

#[test]
fn a_lost_row_is_noticed() {
    for statement in [
        "DELETE FROM deltas WHERE number = (SELECT max(number) FROM deltas)",
        "DELETE FROM runs WHERE number = (SELECT max(number) FROM runs)",
        "DELETE FROM facts",
        "DELETE FROM state",
        "DELETE FROM packs WHERE number = 3",
        "UPDATE state SET generation = 3",
        "UPDATE deltas SET hash = zeroblob(32) WHERE first_pack = 3",
        "UPDATE facts SET name = 'other'",
        "UPDATE facts SET value = x'00'",
        "UPDATE packs SET size = 7 WHERE number = 4",
        "UPDATE packs SET segment_table = x'00' WHERE number = 5",
        "UPDATE packs SET number = 1000 WHERE number = 5",
        "INSERT INTO packs SELECT number + 1000, hash, size, table_sum, checksum, segment_table FROM packs",
        "DROP TABLE packs",
        "CREATE INDEX other ON packs (hash)",
        "PRAGMA user_version = 2",
    ] {
        let image = image(false);
        let database = files(image.path()).into_iter().find(|file| file.ends_with("index.db")).unwrap();
        let connection = rusqlite::Connection::open(database).unwrap();
        connection.execute_batch(statement).unwrap();
        drop(connection);
        let index = Index::open(image.path(), &REPOSITORY).unwrap();
        let is_empty = index.deltas().unwrap().is_empty();
        let is_noticed = is_empty
            || index.get("high water").is_err_and(|error| error.is_damage())
            || SMALL.check(&index, &wanted()).is_err_and(|error| error.is_damage());
        assert!(is_noticed, "{statement}");
        drop(index);
        survives(image.path(), statement);
    }
}
