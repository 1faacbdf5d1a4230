//! A folder of this machine, served through SSH and mounted again with sshfs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mailark::store::disk::{Disk, RealDisk};

use crate::ssh::{SshServer, program};
use crate::support::{TestEnv, is_root, skipped, tool, wait_until};
use crate::tree::{Ignore, TreeFixture, assert_same};

/// How late two mounts may see each other's changes: a second in sshfs and one in the kernel, and one to be sure.
pub const STALENESS: &str = "3s";

/// The server and its mounts; all gone when dropped.
pub struct Share {
    server: SshServer,
    /// What is served.
    pub served: PathBuf,
    mounts: Vec<PathBuf>,
}

impl Share {
    /// Serves `served`, with keys and settings of its own in `folder`; else why that cannot be.
    pub fn serve(folder: &Path, served: &Path) -> Result<Share, String> {
        if !Path::new("/dev/fuse").exists() {
            return Err("there is no /dev/fuse".to_owned());
        }
        program(&["sshfs"])?;
        program(&["fusermount3", "fusermount"])?;
        Ok(Share { server: SshServer::start(folder)?, served: served.to_owned(), mounts: Vec::new() })
    }

    /// Mounts what is served once more, as another host would; `more` are options of sshfs.
    pub fn mount(&mut self, name: &str, more: &str) -> Result<PathBuf, String> {
        let point = self.server.folder.join(name);
        fs::create_dir_all(&point).unwrap();
        let options = format!("ssh_command=ssh -F none,{}{more}", self.server.options().join(","));
        let from = format!("{}:{}", self.server.login()?, self.served.display());
        let output = Command::new("sshfs")
            .args(["-p", &self.server.port.to_string(), "-o", &options, &from])
            .arg(&point)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("sshfs: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!(
                "sshfs mounts nothing: {} {}",
                said.trim_ascii(),
                self.server.log().trim_ascii()
            ));
        }
        self.mounts.push(point.clone());
        Ok(point)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        for point in &self.mounts {
            let _ = ["fusermount3", "fusermount"]
                .into_iter()
                .any(|program| tool(program, ["-u".as_ref(), "-z".as_ref(), point.as_os_str()]));
        }
    }
}

/// Two mounts of one folder, whose lists are at most [`STALENESS`] old unless `slow`; else why not.
pub fn two_mounts(folder: &Path, served: &Path, slow: bool) -> Result<(Share, [PathBuf; 2]), String> {
    let mut share = Share::serve(folder, served)?;
    let options = if slow { "" } else { ",dcache_timeout=1,entry_timeout=1,attr_timeout=1" };
    let (one, other) = (share.mount("one", options)?, share.mount("other", options)?);
    fs::write(one.join("probe"), b"here").unwrap();
    wait_until("what one mount writes is seen by the other", || other.join("probe").exists());
    fs::remove_file(one.join("probe")).unwrap();
    Ok((share, [one, other]))
}

#[test]
fn a_name_on_a_share_is_given_once_with_hard_links_and_without() {
    let disk = tempfile::tempdir().unwrap();
    let served = disk.path().join("served");
    fs::create_dir(&served).unwrap();
    let mounts = Share::serve(&disk.path().join("share"), &served).and_then(|mut share| {
        let links = share.mount("links", "")?;
        let none = share.mount("none", ",disable_hardlink")?;
        Ok((share, [links, none]))
    });
    let (_share, mounts) = match mounts {
        Ok(mounted) => mounted,
        Err(why) => return skipped("a_name_on_a_share_is_given_once_with_hard_links_and_without", &why),
    };
    for (mount, has_links) in mounts.iter().zip([true, false]) {
        let at = |name: &str| mount.join(name);
        fs::write(at("first"), b"first").unwrap();
        fs::write(at("second"), b"second").unwrap();
        assert_eq!(fs::hard_link(at("first"), at("link")).is_ok(), has_links);
        RealDisk.rename_new(&at("first"), &at("name")).unwrap();
        assert!(!at("first").exists());
        let taken = RealDisk.rename_new(&at("second"), &at("name")).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AlreadyExists, "{taken}");
        assert_eq!(fs::read(at("name")).unwrap(), b"first");
        assert_eq!(fs::read(at("second")).unwrap(), b"second");
        RealDisk.rename_over(&at("second"), &at("name")).unwrap();
        assert_eq!(fs::read(at("name")).unwrap(), b"second");
        RealDisk.sync_folder(mount).unwrap();
        fs::remove_file(at("name")).unwrap();
        let mut env = TestEnv::new();
        env.repository = at("repository");
        env.mailark(["init", "--no-recovery-code"]).expect(0);
        let tree = TreeFixture::new(env.path("vmail"));
        tree.maildir("alice", 0..10);
        env.backup(&tree.root);
        env.check();
        let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
        assert_same(&tree.root, &env.restore("latest", "restored"), ignore);
        fs::remove_dir_all(at("repository")).unwrap();
    }
}
