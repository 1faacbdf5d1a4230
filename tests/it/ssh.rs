//! An SSH server of one's own on this machine, without privileges and with keys made for it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{is_root, tool, write_private};

/// The server; gone when dropped.
pub struct SshServer {
    /// Its keys, settings and log.
    pub folder: PathBuf,
    pub port: u16,
    child: Child,
}

/// The first of these that is there.
pub fn program(names: &[&str]) -> Result<PathBuf, String> {
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

impl SshServer {
    /// Starts it, with keys and settings in `folder`; else why that cannot be.
    pub fn start(folder: &Path) -> Result<SshServer, String> {
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
        let child = command.stderr(log).spawn().map_err(|error| format!("sshd does not start: {error}"))?;
        let server = SshServer { folder: folder.to_owned(), port, child };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(format!("sshd does not listen: {}", server.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// What it has to say.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("sshd.log")).unwrap_or_default()
    }

    /// Options of clients, without any setting of the tester's.
    pub fn options(&self) -> Vec<String> {
        let identity = format!("IdentityFile={}", self.folder.join("user").display());
        let others = [
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ];
        std::iter::once(identity).chain(others.map(str::to_owned)).collect()
    }

    /// Who logs in where.
    pub fn login(&self) -> Result<String, String> {
        let user = Command::new("id").arg("-un").output().map_err(|error| format!("id: {error}"))?.stdout;
        Ok(format!("{}@127.0.0.1", String::from_utf8_lossy(&user).trim_ascii()))
    }

    /// A client that runs a line of shell there.
    pub fn shell(&self, line: &str) -> Result<Command, String> {
        let mut command = Command::new(program(&["ssh"])?);
        command.args(["-F", "none", "-p", &self.port.to_string()]);
        for option in self.options() {
            command.args(["-o", &option]);
        }
        command.arg(self.login()?).arg(line);
        Ok(command)
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
