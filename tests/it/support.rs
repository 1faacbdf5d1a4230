//! A hermetic place to run the program in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// What a run of the program gave.
pub struct Output {
    /// The exit code; 128 and the signal's number for one that was killed.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.both()))
    }

    pub fn both(&self) -> String {
        format!("exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }

    /// Fails the test unless the program ended with `code`; nothing may ever panic.
    #[track_caller]
    pub fn expect(self, code: i32) -> Output {
        assert!(!self.stderr.contains("panicked"), "{}", self.both());
        assert_eq!(self.code, code, "{}", self.both());
        self
    }

    /// Fails the test unless standard error names `text`.
    #[track_caller]
    pub fn naming(self, text: &str) -> Output {
        assert!(self.stderr.contains(text), "nothing says '{text}': {}", self.both());
        self
    }
}

/// Home, repository, key and sources of one test.
pub struct TestEnv {
    root: TempDir,
    pub repository: PathBuf,
    pub key_file: PathBuf,
}

/// Memory where there is some, so that thousands of small files cost nothing.
pub fn temporary_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = |base: &Path| tempfile::Builder::new().prefix("mailark-it-").tempdir_in(base);
    match builder(memory) {
        Ok(folder) => folder,
        Err(_) => builder(&std::env::temp_dir()).unwrap(),
    }
}

impl TestEnv {
    /// A home with a key file, and no repository yet.
    pub fn new() -> TestEnv {
        let root = temporary_folder();
        // Tests that run the program as another user need the way down.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (repository, key_file) = (root.path().join("repository"), root.path().join("key"));
        write_private(&key_file, &noise(7, 32));
        fs::create_dir(root.path().join("home")).unwrap();
        TestEnv { root, repository, key_file }
    }

    /// With an empty repository.
    pub fn with_repository() -> TestEnv {
        let env = TestEnv::new();
        env.mailark(["init", "--no-recovery-code"]).expect(0);
        env
    }

    /// A path below the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A new empty folder below the test's folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// The cache of this environment.
    pub fn cache(&self) -> PathBuf {
        self.path("home/cache")
    }

    /// Gives the program its surroundings and nothing of the tester's.
    pub fn surround<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let home = self.path("home");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_STATE_HOME", home.join("state"))
            .env("XDG_DATA_HOME", home.join("data"))
            .env("TZ", "Europe/Berlin")
            .env("LC_ALL", "C")
            .env("MAILARK_REPO", &self.repository)
            .env("MAILARK_KEY_FILE", &self.key_file)
            .current_dir(self.root.path())
            .stdin(Stdio::null())
    }

    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(PROGRAM);
        self.surround(&mut command).args(args);
        command
    }

    /// Runs the program.
    pub fn mailark<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        run(&mut self.command(args))
    }

    /// Starts the program with its outputs in pipes.
    pub fn start<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Backs up `source` as `/data`, in the job `data`, and gives the report.
    #[track_caller]
    pub fn backup(&self, source: &Path) -> Value {
        self.backup_with(source, &[]).expect(0).json()
    }

    pub fn backup_with(&self, source: &Path, more: &[&str]) -> Output {
        // Files made this very moment are rightly looked into again by the next run.
        settle();
        let mut args: Vec<OsString> =
            ["backup", "--json", "--job", "data", "--as", "/data"].map(OsString::from).into();
        args.extend(more.iter().map(OsString::from));
        args.push(source.into());
        self.mailark(args)
    }

    /// Restores `/data` of a snapshot into a new folder and gives where its content lies.
    #[track_caller]
    pub fn restore(&self, snapshot: &str, to: &str) -> PathBuf {
        let to = self.path(to);
        let args: [&OsStr; 5] =
            ["restore".as_ref(), snapshot.as_ref(), "--to".as_ref(), to.as_ref(), "--system".as_ref()];
        self.mailark(args).expect(0);
        to.join("data")
    }

    /// A check that must find nothing.
    #[track_caller]
    pub fn check(&self) {
        let report = self.mailark(["check", "--read-data", "--json"]).expect(0).json();
        assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report}");
    }

    /// Every file of the repository (or of a folder of it), with its bytes.
    pub fn objects(&self, folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
        files_below(&self.repository.join(folder))
            .into_iter()
            .map(|path| {
                let bytes = fs::read(&path).unwrap();
                (path, bytes)
            })
            .collect()
    }
}

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mailark");

/// All regular files at or below a path, sorted.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if folder.is_file() {
        files.push(folder.to_owned());
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

/// Copies the program to where every user may run it.
///
/// By another process: a file that this one holds open for writing, even in a child between fork and exec of
/// another test, cannot be run.
pub fn copy_program(to: &Path) {
    assert!(tool("cp", [OsStr::new(PROGRAM), to.as_os_str()]));
}

/// Lets the clock tick: what was written before is then older than a backup that begins now.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(100));
}

/// Copies a folder of plain files.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Runs any command to its end.
pub fn run(command: &mut Command) -> Output {
    finished(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Waits for a started program.
pub fn finished(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a system tool that must succeed; false when the system does not have it or refuses.
pub fn tool<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> bool {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says loudly that a test, or a part of one, did not run.
pub fn skipped(name: &str, why: &str) {
    println!("SKIPPED: {name}: {why}");
}

/// Waits until something is true.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a started program.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// How far a folder is from what it was: names that came or went, and blocks by which files grew or shrank.
pub struct Progress {
    folder: PathBuf,
    before: BTreeMap<PathBuf, u64>,
}

impl Progress {
    const BLOCK: u64 = 16 << 10;

    /// Counts from here.
    pub fn of(folder: &Path) -> Progress {
        Progress { folder: folder.to_owned(), before: sizes_below(folder) }
    }

    pub fn steps(&self) -> u64 {
        let now = sizes_below(&self.folder);
        let gone = self.before.keys().filter(|path| !now.contains_key(*path)).count() as u64;
        let moved = |(path, size): (&PathBuf, &u64)| match self.before.get(path) {
            Some(before) => size.abs_diff(*before).div_ceil(Progress::BLOCK),
            None => 1 + size / Progress::BLOCK,
        };
        gone + now.iter().map(moved).sum::<u64>()
    }
}

fn sizes_below(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let (mut sizes, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // Whatever is looked at may be gone at the same moment.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => drop(sizes.insert(entry.path(), metadata.len())),
                Err(_) => {}
            }
        }
    }
    sizes
}

/// Lets a program go on until it has done so many steps in the folder, and kills it; false when it ended before.
///
/// No time is counted on: however slow the machine is, the kill falls where the folder shows it.
#[track_caller]
pub fn killed_after(steps: u64, progress: &Progress, mut child: Child) -> bool {
    while child.try_wait().unwrap().is_none() && progress.steps() < steps {
        std::thread::sleep(Duration::from_micros(100));
    }
    child.kill().unwrap();
    let output = finished(child);
    assert!(output.code == 137 || output.code == 0, "{}", output.both());
    output.code == 137
}

/// Bytes that look random, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A number below `end`, the same for the same seed.
pub fn dice(seed: u64, end: u64) -> u64 {
    u64::from_le_bytes(noise(seed ^ 0x5eed, 8).try_into().unwrap()) % end.max(1)
}

/// Tells threads to stop when it goes, also when what they accompany has failed: else they would go on for ever.
pub struct Stop<'s>(pub &'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A tmpfs of a size of its own; gone when dropped.
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    /// `None` where only root, or nobody, may mount.
    pub fn mount(path: PathBuf, size: &str) -> Option<SmallDisk> {
        fs::create_dir_all(&path).unwrap();
        let options = format!("size={size},mode=755");
        let args: [&OsStr; 6] = [
            "-t".as_ref(),
            "tmpfs".as_ref(),
            "-o".as_ref(),
            options.as_ref(),
            "none".as_ref(),
            path.as_ref(),
        ];
        (is_root() && tool("mount", args)).then_some(SmallDisk(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        tool("umount", ["-l".as_ref(), self.0.as_os_str()]);
    }
}
