//! A folder of this machine, served by an SSH server of its own and mounted again with sshfs.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mailark::store::disk::{Disk, RealDisk};

use crate::support::{TestEnv, is_root, skipped, tool, wait_until, write_private};
use crate::tree::{Ignore, TreeFixture, assert_same};

/// How late two mounts may see each other's changes: a second in sshfs and one in the kernel, and one to be sure.
pub const STALENESS: &str = "3s";

/// The server and its mounts; all gone when dropped.
pub struct Share {
    folder: PathBuf,
    /// What is served.
    pub served: PathBuf,
    port: u16,
    server: Child,
    mounts: Vec<PathBuf>,
}

/// The first of these that is there.
fn program(names: &[&str]) -> Result<PathBuf, String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    found.into_iter().find(|path| path.is_file()).ok_or_else(|| format!("there is no {}", names.join(" or ")))
}

fn key_pair(path: &Path) -> Result<(), String> {
    let made =
        tool("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", path.to_str().expect("an ASCII path")]);
    if made { Ok(()) } else { Err("ssh-keygen makes no key".to_owned()) }
}

impl Share {
    /// Serves `served`, with keys and settings of its own in `folder`; else why that cannot be.
    pub fn serve(folder: &Path, served: &Path) -> Result<Share, String> {
        if !Path::new("/dev/fuse").exists() {
            return Err("there is no /dev/fuse".to_owned());
        }
        program(&["sshfs"])?;
        program(&["fusermount3", "fusermount"])?;
        let sshd = program(&["sshd"])?;
        fs::create_dir_all(folder).unwrap();
        for name in ["host", "user"] {
            key_pair(&folder.join(name))?;
        }
        if is_root() {
            // Where sshd locks itself in; distributions make it when they start the service.
            drop(fs::create_dir_all("/run/sshd"));
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| folder.join(name).display().to_string();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
             Subsystem sftp internal-sftp\n",
            at("host"),
            at("user.pub")
        );
        write_private(&folder.join("sshd_config"), settings.as_bytes());
        let log = fs::File::create(folder.join("sshd.log")).unwrap();
        let mut command = Command::new(sshd);
        command.args(["-D", "-e", "-f", &at("sshd_config")]).stdin(Stdio::null()).stdout(Stdio::null());
        let server = command.stderr(log).spawn().map_err(|error| format!("sshd does not start: {error}"))?;
        let (folder, served) = (folder.to_owned(), served.to_owned());
        let share = Share { folder, served, port, server, mounts: Vec::new() };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(format!("sshd does not listen: {}", share.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(share)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("sshd.log")).unwrap_or_default()
    }

    /// Mounts what is served once more, as another host would; `more` are options of sshfs.
    pub fn mount(&mut self, name: &str, more: &str) -> Result<PathBuf, String> {
        let point = self.folder.join(name);
        fs::create_dir_all(&point).unwrap();
        let identity = self.folder.join("user");
        let options = format!(
            "ssh_command=ssh -F none,IdentityFile={},IdentitiesOnly=yes,BatchMode=yes,StrictHostKeyChecking=no,\
             UserKnownHostsFile=/dev/null,LogLevel=ERROR{more}",
            identity.display()
        );
        let user = Command::new("id").arg("-un").output().map_err(|error| format!("id: {error}"))?.stdout;
        let from =
            format!("{}@127.0.0.1:{}", String::from_utf8_lossy(&user).trim_ascii(), self.served.display());
        let output = Command::new("sshfs")
            .args(["-p", &self.port.to_string(), "-o", &options, &from])
            .arg(&point)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("sshfs: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("sshfs mounts nothing: {} {}", said.trim_ascii(), self.log().trim_ascii()));
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
        let _ = self.server.kill();
        let _ = self.server.wait();
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
