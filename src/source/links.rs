//! Links on the way to a place that is written to, maybe by root.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The first symbolic link on the way to `path`, or that it is, which belongs to somebody else than what it leads to.
///
/// Whoever owns a folder above can put such a link in the place of their mailbox, and what root writes there lands with
/// somebody else. A link of root's, or to what its owner owns, is the administrator's or harms nobody.
pub fn foreign_link(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut way: Vec<&Path> = path.ancestors().filter(|above| !above.as_os_str().is_empty()).collect();
    way.reverse();
    for place in way {
        let link = match place.symlink_metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !link.is_symlink() || link.uid() == 0 {
            continue;
        }
        match place.metadata() {
            Ok(target) if target.uid() == link.uid() => {}
            Ok(_) => return Ok(Some(place.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(place.to_owned())),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn links_of_others_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let (box_of_bob, link) = (dir.path().join("bob"), dir.path().join("alice"));
        std::fs::create_dir_all(box_of_bob.join("cur")).unwrap();
        symlink(&box_of_bob, &link).unwrap();
        // Both are ours: no harm in that.
        assert_eq!(foreign_link(&link.join("cur")).unwrap(), None);
        assert_eq!(foreign_link(&dir.path().join("nothing/here")).unwrap(), None);
        if !rustix::process::geteuid().is_root() {
            return;
        }
        lchown(&link, Some(1_000), Some(1_000)).unwrap();
        assert_eq!(foreign_link(&link.join("cur")).unwrap(), Some(link.clone()));
        lchown(&box_of_bob, Some(1_000), Some(1_000)).unwrap();
        assert_eq!(foreign_link(&link).unwrap(), None);
    }
}
