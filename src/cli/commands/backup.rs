//! `mailark backup`: a new snapshot.

mod follow;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::base::bytes;
use crate::base::id::RepositoryId;
use crate::base::progress::Progress;
use crate::cli::catalogue;
use crate::cli::commands::{Context, init};
use crate::cli::config_file::{job_name, waiting_time};
use crate::cli::failure::Exit;
use crate::cli::failure::{Failure, Kind};
use crate::cli::lock::JobLock;
use crate::cli::output::{count, duration, problems, size};
use crate::cli::progress::Meter;
use crate::cli::session::{self, Session};
use crate::cli::settings::{Origin, Settings};
use crate::format::snapshot::FOLLOW_TAG;
use crate::ops::backup::{self, Care, Options, Report, Stream};
use crate::repo::snapshots::Listed;
use crate::source::exclude::Excludes;
use crate::source::needless::Needless;
use crate::source::start::Start;

/// Save files and folders as a new snapshot.
///
/// Unchanged files are not read again. What cannot be read is named, the rest is saved, and the run ends with 3.
/// On a terminal with nothing configured, a default repository and key are made first.
///
/// With --follow it stays: each change is in a snapshot a minute later, and where nothing changed none is made. Those
/// snapshots have the tag 'follow', and go when they are a day old, but for the last of each hour. SIGTERM and Ctrl-C
/// end it with 0; what a run had stored by then is used by the next one.
#[derive(Debug, Default, Args)]
pub struct BackupArgs {
    /// Files and folders to save; none to save those of the job in mailark.toml
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Save under this job's name; snapshots of one job are compared with each other
    #[arg(long, value_name = "NAME", value_parser = job_name)]
    pub job: Option<String>,
    /// Save under this host's name
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Record this logical path instead of the one PATH
    #[arg(long = "as", value_name = "LOGICAL_PATH")]
    pub logical_path: Option<PathBuf>,
    /// Leave out what matches this pattern; repeat for more
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<OsString>,
    /// Leave out what matches a pattern in this file, one a line
    #[arg(long, value_name = "FILE")]
    pub exclude_from: Vec<PathBuf>,
    /// Save what a mail server makes again by itself, too: locks, caches, full-text indexes, unfinished deliveries
    #[arg(long)]
    pub all_files: bool,
    /// Wait at most this long for the lock of an mbox that mail is being delivered to [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = waiting_time)]
    pub lock_wait: Option<Duration>,
    /// Give the snapshot a tag, any but 'follow'; repeat for more
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Stay on the file systems that the paths lie on
    #[arg(long)]
    pub one_file_system: bool,
    /// List every folder and look at every file, also where nothing seems to have been touched
    #[arg(long)]
    pub rescan: bool,
    /// Read every file
    #[arg(long)]
    pub reread: bool,
    /// What is gone is meant to be gone: do not call the snapshot suspect
    #[arg(long)]
    pub accept_loss: bool,
    /// Say what would be saved; store nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Make the repository and key first where there are none, without asking
    #[arg(long)]
    pub init: bool,
    /// When to save again.
    #[command(flatten)]
    pub follow: FollowArgs,
    /// Save standard input, or the command's output, as a file of this name
    #[arg(long, value_name = "NAME")]
    pub stdin_filename: Option<OsString>,
    /// Save the output of the command after `--`; its failure fails the backup
    #[arg(long, requires = "words")]
    pub stdin_from_command: bool,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", id = "words")]
    pub words: Vec<OsString>,
}

/// When to save again.
#[derive(Debug, Default, Args)]
pub struct FollowArgs {
    /// Go on until a signal comes: save at once, and again soon after something changed
    #[arg(
        long,
        conflicts_with_all = ["dry_run", "stdin_filename", "stdin_from_command", "tag", "rescan", "reread", "accept_loss"]
    )]
    pub follow: bool,
    /// With --follow: save when nothing has changed for this long, 1s at least [default: 60s]
    #[arg(long, value_name = "TIME", requires = "follow", value_parser = waiting_time)]
    pub settle: Option<Duration>,
    /// With --follow: let no change wait longer than this, however much happens [default: as --settle]
    #[arg(long, value_name = "TIME", requires = "follow", value_parser = waiting_time)]
    pub max_age: Option<Duration>,
    /// Watch so many folders at most, where they are watched one by one
    #[arg(long, value_name = "N", requires = "follow", hide = true)]
    pub watch_limit: Option<usize>,
    /// Watch folders one by one, as where no file system may be watched as a whole
    #[arg(long, requires = "follow", hide = true)]
    pub watch_each: bool,
}

/// What a backup reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Files and folders named on the command line.
    Paths(Vec<PathBuf>),
    /// What `mailark.toml` says about this job.
    Job(String),
    /// Standard input, as a file of this name.
    Stdin(OsString),
    /// A program's standard output, as a file of this name.
    Command {
        /// Name of the file in the snapshot.
        name: OsString,
        /// Program and arguments, at least one word.
        words: Vec<OsString>,
    },
}

/// Name of the file made from a pipe when none was given.
const STDIN_NAME: &str = "stdin";

impl BackupArgs {
    /// Decides what is read, or says why the options do not fit together.
    pub fn input(&self) -> Result<Input, Failure> {
        let wrong = |what: &str| Err(Failure::new(Kind::Usage, what));
        let from_pipe = self.stdin_from_command || self.stdin_filename.is_some();
        // Without --stdin-from-command, `--` does what it does everywhere: paths follow that may begin with "-".
        let mut paths = self.paths.clone();
        if !self.stdin_from_command {
            paths.extend(self.words.iter().map(PathBuf::from));
        }
        if from_pipe {
            if !paths.is_empty() {
                return wrong("a pipe and paths cannot be saved in one run");
            }
            let name = self.stdin_filename.clone().unwrap_or_else(|| STDIN_NAME.into());
            if !is_file_name(&name) {
                return wrong("--stdin-filename takes a plain name, without '/'");
            }
            return Ok(match self.stdin_from_command {
                true => Input::Command { name, words: self.words.clone() },
                false => Input::Stdin(name),
            });
        }
        match (&self.job, paths.len()) {
            (Some(job), 0) => Ok(Input::Job(job.clone())),
            (None, 0) => wrong("nothing to save: name files or folders, or a job of mailark.toml with --job"),
            (_, 2..) if self.logical_path.is_some() => wrong("--as needs exactly one path"),
            _ => Ok(Input::Paths(paths)),
        }
    }
}

fn is_file_name(name: &OsString) -> bool {
    let bytes = name.as_encoded_bytes();
    !bytes.is_empty() && bytes != b"." && bytes != b".." && !bytes.contains(&b'/')
}

/// Longest job name made out of paths.
const DERIVED_NAME_MAX: usize = 48;

/// What is to be saved, and under which job.
struct Request {
    job: String,
    starts: Vec<Start>,
    stream: Option<Stream>,
    excludes: Excludes,
    tags: Vec<String>,
    one_file_system: bool,
    all_files: bool,
    lock_wait: Option<Duration>,
}

/// How long the lock of a mailbox is waited for if nobody says otherwise.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Backs up.
pub fn run(args: &BackupArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let request = request(args, context)?;
    let session = open_or_make(args, context)?;
    let options = options(args, request, &session, context);
    if args.follow.follow {
        return follow::run(args, options, session, context);
    }
    let _lock = lock(session.repository.id(), &options.job, context)?;
    session::complain_of(&Listed::default(), &session.lost()?);
    remark_on_one_disk(&options, context);
    let meter = Meter::start("backup", context.output.manner());
    let outcome = once(&session, &options, &meter, context);
    meter.finish();
    let report = outcome?;
    tell(&report, &options, context)?;
    context.output.flush()?;
    if let Some(made) = &report.snapshot {
        catalogue::keep(&session, made, context);
    }
    Ok(match (&report.suspect, report.problem_count) {
        (Some(_), _) => Exit::Suspect,
        (None, 0) => Exit::Ok,
        (None, _) => Exit::Incomplete,
    })
}

fn remark_on_one_disk(options: &Options, context: &Context<'_>) {
    let repository = &context.settings.repository.value;
    if options.starts.iter().any(|start| on_one_disk(&start.path, repository)) {
        context.output.remark("mail and repository are on one disk: a broken disk takes both");
    }
}

/// Backs up once, and remembers the snapshot.
fn once(
    session: &Session,
    options: &Options,
    progress: &dyn Progress,
    context: &Context<'_>,
) -> Result<Report, Failure> {
    let report = backup::run(&session.repository, &session.index, options, progress, context.interrupt)?;
    if let Some(made) = report.snapshot {
        session.remember(made, &options.host_name)?;
    }
    Ok(report)
}

fn options(args: &BackupArgs, request: Request, session: &Session, context: &Context<'_>) -> Options {
    let settings = &context.settings;
    Options {
        host_name: args.host.clone().unwrap_or_else(|| settings.host.value.clone()),
        job: request.job,
        starts: request.starts,
        stream: request.stream,
        excludes: request.excludes,
        own: own(settings),
        one_file_system: request.one_file_system,
        all_files: request.all_files,
        lock_wait: request.lock_wait.unwrap_or(LOCK_WAIT),
        tags: request.tags,
        accept_loss: args.accept_loss,
        skip_unchanged: args.follow.follow,
        dry_run: args.dry_run,
        care: Care { rescan: args.rescan, reread: args.reread },
        cache_dir: session::index_dir(context, &session.repository),
        read_cache: Arc::clone(&session.cache),
        workers: session::workers(),
    }
}

/// Folders of the backup itself.
pub(super) fn own(settings: &Settings) -> Vec<PathBuf> {
    let mut own = vec![settings.repository.value.clone(), settings.state_dir.clone()];
    own.extend(settings.cache_dir.clone());
    own.extend(settings.default_key_file.parent().map(std::path::Path::to_owned));
    own
}

fn lock(repository: RepositoryId, job: &str, context: &Context<'_>) -> Result<JobLock, Failure> {
    JobLock::acquire(&context.settings.state_dir, repository, job)
}

/// Opens the repository; where nothing was configured and somebody agrees, makes one first.
fn open_or_make(args: &BackupArgs, context: &Context<'_>) -> Result<Session, Failure> {
    let settings = &context.settings;
    let opened = Session::open(context);
    match opened {
        Err(failure) if failure.kind == Kind::NoRepository => {
            let manner = context.output.manner();
            let is_default = settings.repository.origin == Origin::Default;
            let person = manner.stdout_terminal && manner.stderr_terminal;
            if (args.init || is_default && person) && !args.dry_run {
                let repository = init::create(context, &init::InitArgs::default())?;
                context.output.line("")?;
                return Session::with(context, repository);
            }
            // A cron job must never back up into a new, forgotten place.
            Err(failure.hint("'mailark backup --init ...' makes it and backs up"))
        }
        opened => opened,
    }
}

pub(super) fn on_one_disk(path: &[u8], repository: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &std::path::Path| path.metadata().map(|meta| meta.dev()).ok();
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
    device(path).is_some_and(|found| device(repository) == Some(found))
}

fn request(args: &BackupArgs, context: &Context<'_>) -> Result<Request, Failure> {
    let user = |error: crate::source::SourceError| Failure::because(Kind::User, "", &error);
    let mut patterns: Vec<Vec<u8>> = args.exclude.iter().map(|pattern| pattern.as_bytes().to_vec()).collect();
    let mut request = Request {
        job: String::new(),
        starts: Vec::new(),
        stream: None,
        excludes: Excludes::default(),
        tags: args.tag.clone(),
        one_file_system: args.one_file_system,
        all_files: args.all_files,
        lock_wait: args.lock_wait,
    };
    let mut paths = Vec::new();
    let mut logical_path = args.logical_path.clone();
    match args.input()? {
        Input::Paths(given) => paths = given,
        Input::Job(name) => {
            let job = context.settings.job(&name)?;
            paths.clone_from(&job.paths);
            patterns.extend(job.exclude.iter().map(|pattern| pattern.as_bytes().to_vec()));
            request.tags.extend(job.tags.iter().cloned());
            request.one_file_system |= job.one_file_system;
            request.all_files |= job.all_files;
            request.lock_wait = request.lock_wait.or(job.lock_wait);
            logical_path = logical_path.or_else(|| job.logical_path.clone());
        }
        Input::Stdin(name) => request.stream = Some(stream(&name, Vec::new(), logical_path.as_deref())),
        Input::Command { name, words } => {
            request.stream = Some(stream(&name, words, logical_path.as_deref()))
        }
    }
    for path in &paths {
        refuse_link_to_folder(path)?;
        let logical = logical_path.as_deref().map(|path| path.as_os_str().as_bytes());
        request.starts.push(Start::new(path, logical).map_err(user)?);
    }
    let wrong = |error| Failure::because(Kind::Usage, "", &error);
    request.excludes = Excludes::new(patterns).map_err(wrong)?;
    for file in &args.exclude_from {
        request.excludes = request.excludes.and_file(file).map_err(user)?;
    }
    let logical = request.starts.iter().map(|start| start.logical.as_slice());
    let logical = logical.chain(request.stream.iter().map(|stream| stream.path.as_slice()));
    request.job = args.job.clone().unwrap_or_else(|| derived_job(logical));
    if request.tags.iter().any(|tag| tag == FOLLOW_TAG) {
        let what = format!("the tag '{FOLLOW_TAG}' marks what --follow saves, and is for nothing else");
        return Err(Failure::new(Kind::Usage, what));
    }
    if args.follow.follow {
        // A tag keeps a snapshot for good, which is not meant for one a minute.
        request.tags = vec![FOLLOW_TAG.to_owned()];
    }
    Ok(request)
}

/// A link that stands for a folder would save the link alone, and no mail, night after night.
fn refuse_link_to_folder(path: &std::path::Path) -> Result<(), Failure> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.ends_with(b"/") || !path.is_symlink() || !path.is_dir() {
        return Ok(());
    }
    let shown = bytes::display(bytes);
    Err(Failure::new(Kind::User, format!("{shown} is a symbolic link to a folder"))
        .hint(format!("say {shown}/ to save what it points to")))
}

fn stream(name: &OsString, command: Vec<OsString>, folder: Option<&std::path::Path>) -> Stream {
    let mut path = folder.map_or_else(Vec::new, |folder| folder.as_os_str().as_bytes().to_vec());
    while path.last() == Some(&b'/') {
        path.pop();
    }
    path.push(b'/');
    path.extend_from_slice(name.as_bytes());
    Stream { path, command }
}

/// Without `--job`, the same paths make the same job: `/var/vmail` gives `var-vmail`.
fn derived_job<'a>(paths: impl Iterator<Item = &'a [u8]>) -> String {
    let mut paths: Vec<&[u8]> = paths.collect();
    paths.sort_unstable();
    let joined = paths.join(&b'+');
    let lawful = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    let mut name: String =
        joined.iter().map(|byte| if lawful(byte) { *byte as char } else { '-' }).collect::<String>();
    let whole = name.strip_prefix('-').unwrap_or(&name).to_owned();
    name = whole.trim_matches(['-', '.']).to_owned();
    if name.is_empty() {
        name = "root".to_owned();
    }
    if name.len() > DERIVED_NAME_MAX
        || name != whole
        || joined.iter().any(|byte| !lawful(byte) && *byte != b'/')
    {
        // Different paths must not become one job.
        name.truncate(DERIVED_NAME_MAX - 9);
        name = format!("{name}-{}", &blake3::hash(&joined).to_hex()[..8]);
    }
    name
}

fn tell(report: &Report, options: &Options, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&as_json(report, options));
    }
    let totals = &report.totals;
    let what = match &report.snapshot {
        Some(hash) => format!("snapshot {}", hash.short()),
        None if report.unchanged => "nothing new".to_owned(),
        None => "dry run".to_owned(),
    };
    let say = |text: &str| if options.dry_run { out.line(text) } else { out.summary(text) };
    say(&format!(
        "{what} of {}: {} messages, {} files, {} in {}",
        options.job,
        count(totals.messages),
        count(totals.files),
        size(totals.bytes),
        duration(report.duration)
    ))?;
    let would = if report.snapshot.is_some() { "added" } else { "would add" };
    out.summary(&format!(
        "read {} files ({}), {} unchanged; {would} {} to the repository",
        count(report.files_read),
        size(report.bytes_read),
        count(report.files_unchanged),
        size(if report.snapshot.is_some() { report.stored_bytes } else { report.new_bytes })
    ))?;
    if out.manner().verbose > 0 {
        tell_more(report, context)?;
    }
    if report.vanished > 0 {
        out.summary(&format!(
            "{} files vanished while being read (normal on a live server)",
            count(report.vanished)
        ))?;
    }
    if report.unlocked > 0 {
        out.summary(&format!(
            "{} mailboxes were read without their lock, which another program held too long",
            count(report.unlocked)
        ))?;
    }
    if report.purged > 0 {
        out.summary(&format!(
            "{} files or messages left out because they were purged",
            count(report.purged)
        ))?;
    }
    if report.problem_count > 0 {
        let line = format!("mailark: {} problems: the snapshot is incomplete\n", count(report.problem_count));
        crate::cli::output::complain(&line);
    }
    if let Some(why) = &report.suspect {
        crate::cli::output::complain(&format!(
            "mailark: this snapshot is suspect: {why}\nhint: if it is right so, the same with --accept-loss makes it \
             the one that later ones are compared with\n"
        ));
    }
    Ok(())
}

fn tell_more(report: &Report, context: &Context<'_>) -> Result<(), Failure> {
    let (out, split) = (context.output, &report.split);
    let raw = &split.attachments_raw;
    out.summary(&format!(
        "messages looked into: {}, opaque: {}; attachments decoded: {} ({})",
        count(split.messages),
        count(split.opaque),
        count(split.attachments_decoded),
        size(split.attachments_decoded_bytes)
    ))?;
    out.summary(&format!(
        "kept as they were: {} small, {} not base64, {} odd characters, {} irregular lines, {} not canonical, {} too many",
        raw.small, raw.not_base64, raw.bad_characters, raw.irregular_lines, raw.not_canonical, raw.too_many_runs
    ))?;
    if report.needless.total() > 0 {
        let counts = Needless::ALL.map(|why| format!("{} {}", count(report.needless[why]), why.name()));
        out.summary(&format!("left out, for mail servers make it again: {}", counts.join(", ")))?;
    }
    out.summary(&format!(
        "folders passed over untouched: {}, listed: {}; entries looked at: {}, files opened: {}",
        count(report.folders_passed_over),
        count(report.calls[0]),
        count(report.calls[1]),
        count(report.calls[2])
    ))?;
    for (same, files) in report.recognised.iter().filter(|(_, files)| *files > 0) {
        out.summary(&format!("not read: {} ({})", count(*files), same.sentence()))?;
    }
    for (why, files) in report.read_because.iter().filter(|(_, files)| *files > 0) {
        out.summary(&format!("read: {} ({})", count(*files), why.sentence()))?;
    }
    out.summary(&format!(
        "changed while read: {}, left out by pattern: {}, index files held for a day: {}",
        report.changed_while_read, report.left_out, report.held
    ))
}

fn words<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Value {
    Value::Object(counts.map(|(word, files)| (word.to_owned(), files.into())).collect())
}

fn needless(report: &Report) -> Value {
    Needless::ALL.into_iter().map(|why| (why.name().replace([' ', '-'], "_"), report.needless[why])).collect()
}

fn as_json(report: &Report, options: &Options) -> Value {
    let totals = &report.totals;
    let raw = &report.split.attachments_raw;
    let problems = problems(report.findings.iter().map(|found| (found.path.as_slice(), found.text.as_str())));
    json!({
        "snapshot": report.snapshot.map(|hash| hash.to_string()),
        "parent": report.parent.map(|hash| hash.to_string()),
        "unchanged": report.unchanged,
        "host": options.host_name,
        "job": options.job,
        "messages": totals.messages,
        "files": totals.files,
        "folders": totals.folders,
        "bytes": totals.bytes,
        "files_read": report.files_read,
        "bytes_read": report.bytes_read,
        "files_unchanged": report.files_unchanged,
        "folders_passed_over": report.folders_passed_over,
        "folders_listed": report.calls[0],
        "entries_looked_at": report.calls[1],
        "files_opened": report.calls[2],
        "recognised": words(report.recognised.iter().map(|(same, files)| (same.word(), *files))),
        "read_because": words(report.read_because.iter().map(|(why, files)| (why.word(), *files))),
        "changed_while_read": report.changed_while_read,
        "vanished": report.vanished,
        "left_out": report.left_out,
        "needless": needless(report),
        "held": report.held,
        "unlocked": report.unlocked,
        "purged": report.purged,
        "new_bytes": report.new_bytes,
        "stored_bytes": report.stored_bytes,
        "attachments": {
            "decoded": report.split.attachments_decoded,
            "decoded_bytes": report.split.attachments_decoded_bytes,
            "raw": {
                "small": raw.small,
                "not_base64": raw.not_base64,
                "bad_characters": raw.bad_characters,
                "irregular_lines": raw.irregular_lines,
                "not_canonical": raw.not_canonical,
                "too_many_runs": raw.too_many_runs,
            },
            "opaque_messages": report.split.opaque,
        },
        "problem_count": report.problem_count,
        "problems": problems,
        "suspect": report.suspect,
        "seconds": report.duration.as_secs_f64(),
    })
}
