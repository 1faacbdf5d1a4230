//! `mailark explain`: would the next backup read this file, and why?

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use crate::base::bytes;
use crate::cli::commands::{Context, backup};
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{local_time, size};
use crate::cli::selection::SnapshotFilter;
use crate::cli::session::{self, Session};
use crate::format::page::Node;
use crate::ops::backup::explain::{Explanation, Question, Stamps, Verdict, explain};
use crate::source::exclude::Excludes;
use crate::source::start::Start;
use crate::source::walk::{LeftOut, Options};

/// Say whether the next backup would read a file, and why.
///
/// Asks what a backup asks: what is left out, the last snapshot, the local scan cache, and the file as it is now. Reads
/// no mail and changes nothing.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The path under which backups record it, where that is another
    #[arg(long = "as", value_name = "LOGICAL_PATH")]
    pub logical_path: Option<PathBuf>,
    /// A pattern that the backup is given on its command line; those of the job in `mailark.toml` are known
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<OsString>,
    /// Which host and job.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}

/// Explains.
pub fn run(args: &ExplainArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let user = |what: String| Failure::new(Kind::User, what);
    let logical = args.logical_path.as_deref().map(|path| path.as_os_str().as_encoded_bytes());
    let path = Start::new(&args.path, logical).map_err(|error| user(error.to_string()))?;
    let shown = bytes::display(&path.path);
    let session = Session::open(context)?;
    let mut filter = args.filter.to_filter().holding(&path.logical);
    filter.host.get_or_insert_with(|| context.settings.host.value.clone());
    let parent = session.snapshot("latest", &filter)?;
    let cache_dir = session::index_dir(context, &session.repository);
    let options = Arc::new(options(args, &parent.snapshot.job, context)?);
    let question =
        Question { parent: &parent, path: &path, cache_dir: cache_dir.as_deref(), options: &options };
    let Some(found) = explain(&session.repository, &session.index, &question)? else {
        return Err(user(format!("{shown} is no regular file")));
    };
    if context.output.manner().json {
        context.output.json(&as_json(&found, &path.path))?;
        return Ok(Exit::Ok);
    }
    let say = |text: String| context.output.line(&text);
    let (_, _, why) = in_words(&found.verdict, &path.path);
    let verb = match &found.verdict {
        Verdict::Same(_) => "would not be read",
        Verdict::Read(_) => "would be read",
        Verdict::Held(_) => "would not be read yet",
        Verdict::LeftOut(_) => "would be left out",
    };
    say(format!("{shown} {verb}: {why}"))?;
    let meta = &found.listed.meta;
    let born = meta.birth.map_or_else(|| "unknown".to_owned(), |birth| local_time(birth.into()));
    say(format!(
        "now       number {}, {}, modified {}, changed {}, born {born}",
        meta.inode,
        size(meta.size),
        local_time(meta.mtime().into()),
        local_time(meta.ctime().into())
    ))?;
    say(match &found.entry {
        Some(entry) => {
            let bytes = if let Node::File(file) = &entry.node { file.size } else { 0 };
            let modified = i128::from(entry.mtime_s) * 1_000_000_000;
            format!(
                "snapshot  {} has {}, modified {}",
                parent.hash.short(),
                size(bytes),
                local_time(modified)
            )
        }
        None => format!("snapshot  {} has nothing under this name", parent.hash.short()),
    })?;
    if !matches!(found.verdict, Verdict::LeftOut(_)) {
        say(format!("folder    {}", of_folder(&found.folder, found.is_cached)))?;
    }
    Ok(Exit::Ok)
}

/// What a backup of the job takes and leaves out.
fn options(args: &ExplainArgs, job: &str, context: &Context<'_>) -> Result<Options, Failure> {
    let settings = &context.settings;
    let job = settings.jobs.get(job);
    let patterns = job.iter().flat_map(|job| &job.exclude).map(|pattern| pattern.as_bytes());
    // As a backup puts them: the last one that fits counts.
    let given = args.exclude.iter().map(|pattern| pattern.as_bytes());
    let excludes =
        Excludes::new(given.chain(patterns)).map_err(|error| Failure::because(Kind::User, "", &error))?;
    Ok(Options {
        one_file_system: job.is_some_and(|job| job.one_file_system),
        excludes,
        own: backup::own(settings),
        live: None,
        all_files: job.is_some_and(|job| job.all_files),
    })
}

/// Is it read; the reason as a word; and as a sentence.
fn in_words(verdict: &Verdict, path: &[u8]) -> (bool, &'static str, String) {
    match verdict {
        Verdict::Same(same) => (false, same.word(), same.sentence().to_owned()),
        Verdict::Read(why) => (true, why.word(), why.sentence().to_owned()),
        Verdict::Held(why) => (
            false,
            "held",
            format!(
                "{}, but an index is read once a day, and the last snapshot has a fresh one",
                why.sentence()
            ),
        ),
        Verdict::LeftOut(barred) => {
            let what = match barred.path == path {
                true => "it".to_owned(),
                false => bytes::display(&barred.path),
            };
            let (word, why) = match &barred.why {
                None => ("mount point", format!("{what} is another file system")),
                Some(LeftOut::Own) => ("own", format!("{what} belongs to the backup itself")),
                Some(LeftOut::Pattern(pattern)) => {
                    ("pattern", format!("{what} matches the pattern '{pattern}'"))
                }
                Some(LeftOut::Needless(kind)) => (
                    "needless",
                    format!("{what} is one of the {} that a mail server makes again", kind.name()),
                ),
            };
            (false, word, why)
        }
    }
}

fn of_folder(stamps: &Stamps, is_cached: bool) -> String {
    if stamps.is_passed_over {
        return "passed over: nobody touched it since the last run".to_owned();
    }
    if !is_cached {
        return "listed: there is no scan cache for the last snapshot".to_owned();
    }
    if stamps.is_due {
        return "listed: every folder is, once in seven days".to_owned();
    }
    let Some(then) = stamps.then else {
        return "listed: in the last run it was new, lacked something, or had just been touched".to_owned();
    };
    let now = stamps.now;
    let moment = |what: &str, then: i64, now: i64| {
        format!("listed: {what} was {}, is {}", local_time(then.into()), local_time(now.into()))
    };
    match () {
        () if now.mtime != then.mtime => moment("modification time", then.mtime, now.mtime),
        () if now.ctime != then.ctime => moment("change time", then.ctime, now.ctime),
        () if now != then => {
            "listed: it is another folder than then, or its owner or mode changed".to_owned()
        }
        () => "listed: only folders of messages are passed over".to_owned(),
    }
}

fn as_json(found: &Explanation, path: &[u8]) -> Value {
    let (read, word, sentence) = in_words(&found.verdict, path);
    json!({
        "read": read,
        "reason": word,
        "left_out": matches!(found.verdict, Verdict::LeftOut(_)),
        "sentence": sentence,
        "inode": found.listed.meta.inode,
        "size": found.listed.meta.size,
        "in_snapshot": found.entry.is_some(),
        "folder": of_folder(&found.folder, found.is_cached),
        "folder_passed_over": found.folder.is_passed_over,
        "scan_cache": found.is_cached,
    })
}
