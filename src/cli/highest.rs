//! The newest snapshot of each host that this client ever saw: what was there once must not silently be gone.
//!
//! One line a host in `<state>/<repository id>/highest`: host id, number, hash of the snapshot, name of the host.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::bytes;
use crate::base::id::{HostId, ObjectHash, RepositoryId};
use crate::repo::snapshots::SnapshotInfo;
use crate::store::Place;

/// Most hosts that are remembered.
const HOSTS_MAX: usize = 100_000;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    sequence: u64,
    hash: ObjectHash,
    host_name: String,
}

impl Mark {
    fn is_in(&self, host: &HostId, stored: &[Place]) -> bool {
        stored.contains(&Place::Snapshot(*host, self.sequence, self.hash))
    }
}

/// A snapshot that was verified.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Who wrote it.
    pub host: HostId,
    /// Its number among the host's.
    pub sequence: u64,
    /// Its id.
    pub hash: ObjectHash,
    /// The host's name.
    pub host_name: &'a str,
}

impl<'a> From<&'a SnapshotInfo> for Seen<'a> {
    fn from(info: &'a SnapshotInfo) -> Seen<'a> {
        Seen {
            host: info.host,
            sequence: info.sequence,
            hash: info.hash,
            host_name: &info.snapshot.host_name,
        }
    }
}

/// What this client remembers of one repository.
#[derive(Debug)]
pub struct HighestSeen {
    path: PathBuf,
    marks: BTreeMap<HostId, Mark>,
}

fn parse(line: &str) -> Option<(HostId, Mark)> {
    let mut fields = line.splitn(4, ' ');
    let host = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let hash = fields.next()?.parse().ok()?;
    Some((host, Mark { sequence, hash, host_name: fields.next().unwrap_or_default().to_owned() }))
}

impl HighestSeen {
    /// Reads what is remembered; a missing file remembers nothing, and lines that make no sense are dropped.
    pub fn load(state_dir: &Path, repository: RepositoryId) -> io::Result<HighestSeen> {
        let path = state_dir.join(repository.to_string()).join("highest");
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        Ok(HighestSeen { path, marks: text.lines().filter_map(parse).take(HOSTS_MAX).collect() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Is some newest snapshot gone? Then it matters what the records say about it.
    pub fn misses_any(&self, stored: &[Place]) -> bool {
        self.marks.iter().any(|(host, mark)| !mark.is_in(host, stored))
    }

    /// A sentence for each host whose newest snapshot is gone; `stored` are all names in `snapshots/`.
    ///
    /// What `dropped` says was forgotten or written anew is no loss. A key that cannot read those records gives none.
    pub fn lost(&self, stored: &[Place], dropped: Option<&dyn Fn(&ObjectHash) -> bool>) -> Vec<String> {
        let is_gone = |(host, mark): &(&HostId, &Mark)| {
            !mark.is_in(host, stored) && !dropped.is_some_and(|dropped| dropped(&mark.hash))
        };
        let or_else = match dropped {
            Some(_) => "",
            None => ", or it was forgotten: a full key can tell",
        };
        let tell = |(host, mark): (&HostId, &Mark)| {
            let name = if mark.host_name.is_empty() {
                host.short()
            } else {
                bytes::display(mark.host_name.as_bytes())
            };
            let highest = stored.iter().filter_map(|place| match place {
                Place::Snapshot(of, sequence, _) if of == host => Some(*sequence),
                _ => None,
            });
            let now = match highest.max() {
                None => "none is left".to_owned(),
                Some(number) if number < mark.sequence => format!("the newest is number {number}"),
                Some(_) => "others have taken its place".to_owned(),
            };
            format!(
                "snapshots were removed or the repository was rolled back: snapshot {} (number {}) of host {name} \
                 was seen before, now {now}{or_else}",
                mark.hash.short(),
                mark.sequence
            )
        };
        self.marks.iter().filter(is_gone).map(tell).collect()
    }

    /// Remembers snapshots that are newer than those seen before. A mark whose snapshot is gone stays, so that
    /// nothing written afterwards hides the loss, unless it was `dropped` by a record. True when something is new.
    pub fn raise<'a>(
        &mut self,
        seen: impl IntoIterator<Item = Seen<'a>>,
        stored: &[Place],
        dropped: &dyn Fn(&ObjectHash) -> bool,
    ) -> bool {
        let mut raised = false;
        for Seen { host, sequence, hash, host_name } in seen {
            if let Some(known) = self.marks.get(&host) {
                let stays = match known.is_in(&host, stored) {
                    true => sequence <= known.sequence,
                    false => !dropped(&known.hash),
                };
                if stays {
                    continue;
                }
            }
            let host_name = host_name.replace(['\n', '\r'], " ");
            self.marks.insert(host, Mark { sequence, hash, host_name });
            raised = true;
        }
        raised
    }

    /// Writes the marks, all or none.
    pub fn save(&self) -> io::Result<()> {
        let folder = self.path.parent().expect("a file in a folder");
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let temporary = self.path.with_extension(format!("new-{}", std::process::id()));
        let mut text = String::new();
        for (host, Mark { sequence, hash, host_name }) in &self.marks {
            text.push_str(&format!("{host} {sequence} {hash} {host_name}\n"));
        }
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&temporary, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(sequence: u64) -> Seen<'static> {
        Seen { host: HostId([1; 16]), sequence, hash: ObjectHash([sequence as u8; 32]), host_name: "mx 1" }
    }

    fn places(snapshots: &[Seen<'_>]) -> Vec<Place> {
        snapshots.iter().map(|seen| Place::Snapshot(seen.host, seen.sequence, seen.hash)).collect()
    }

    #[test]
    fn a_removed_newest_snapshot_is_noticed_until_somebody_says_why() {
        let state = tempfile::tempdir().unwrap();
        let load = || HighestSeen::load(state.path(), RepositoryId([9; 16])).unwrap();
        let (first, second, third) = (snapshot(1), snapshot(2), snapshot(3));
        let both = [first, second];
        let none = |_: &ObjectHash| false;
        let mut seen = load();
        assert!(seen.raise(both, &places(&both), &none));
        assert!(!seen.raise(both, &places(&both), &none));
        seen.save().unwrap();
        assert_eq!(load().marks, seen.marks);
        assert!(load().lost(&places(&both), Some(&none)).is_empty());
        let rolled_back = places(&both[..1]);
        assert!(load().lost(&rolled_back, Some(&none))[0].contains("the newest is number 1"));
        assert!(load().lost(&[], Some(&none))[0].contains("none is left"));
        let goes_on = [first, third];
        let mut seen = load();
        assert!(!seen.raise(goes_on, &places(&goes_on), &none), "a loss is not forgotten");
        assert!(seen.lost(&places(&goes_on), Some(&none))[0].contains("others have taken its place"));
    }

    #[test]
    fn what_a_record_dropped_is_no_loss() {
        let state = tempfile::tempdir().unwrap();
        let mut seen = HighestSeen::load(state.path(), RepositoryId([9; 16])).unwrap();
        let [first, second, third] = [snapshot(1), snapshot(2), snapshot(3)];
        seen.raise([first, second], &places(&[first, second]), &|_| false);
        let left = places(&[first]);
        assert!(seen.misses_any(&left));
        let dropped = |hash: &ObjectHash| *hash == second.hash;
        assert!(seen.lost(&left, Some(&dropped)).is_empty());
        assert!(seen.lost(&left, None)[0].contains("or it was forgotten: a full key can tell"));
        // The memory goes on from what is left, and notices when that is gone in its turn.
        assert!(seen.raise([first], &left, &dropped));
        assert_eq!(seen.lost(&[], Some(&dropped)).len(), 1);
        assert!(seen.raise([first, third], &places(&[first, third]), &dropped));
        assert_eq!(seen.lost(&left, Some(&dropped)).len(), 1);
    }

    #[test]
    fn strange_lines_are_dropped() {
        let state = tempfile::tempdir().unwrap();
        let repository = RepositoryId([9; 16]);
        let folder = state.path().join(repository.to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("highest"), b"\xff\xfe\n\nzz 1 2\n").unwrap();
        assert!(HighestSeen::load(state.path(), repository).unwrap().lost(&[], None).is_empty());
    }
}
