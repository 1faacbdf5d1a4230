//! `mailark find --restore-to`: what was found is written into a folder or down a pipe.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{FindArgs, SHOWN, as_json, tell};
use crate::base::bytes;
use crate::cli::commands::Context;
use crate::cli::commands::restore::give::Stream;
use crate::cli::commands::restore::messages::{Form, Layout};
use crate::cli::commands::restore::outlet::{Outlet, Stdout, Tally};
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{Output, complain, count, problems, size};
use crate::cli::progress::Meter;
use crate::cli::retrieve::{self, Wanted};
use crate::cli::session::Session;
use crate::format::letters::Head;
use crate::index::catalogue::{Asker, Found, Query};
use crate::mail::folder_name;
use crate::mail::keywords::Keywords;
use crate::ops::pick::Picked;
use crate::ops::restore::letters::{
    self, DirSink, EmlWriter, FolderHead, MaildirWriter, MboxFileWriter, PutError, Sink, TarPart, TarSink,
    Writer, safe_name,
};
use crate::ops::restore::target::{Owners, Target};
use crate::repo::snapshots::SnapshotInfo;
use crate::source::names::Accounts;

/// Longest name of a user's folder, bytes.
const NAME_BYTES_MAX: usize = 200;

/// Where what was found is written, and in which form.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Writing what was found")]
pub struct WriteArgs {
    /// Restore what was found below this new or empty folder, in a folder for each user; `-` for standard output
    #[arg(long, value_name = "DIR")]
    pub restore_to: Option<PathBuf>,
    /// In which form: a Maildir, mbox or single files; `tar` or `letters` (for 'mailark apply') for standard output
    #[arg(long = "as", value_name = "FORM", requires = "restore_to", value_parser = forms())]
    pub form: Option<Form>,
    /// How the folders of a Maildir lie
    #[arg(long, value_name = "LAYOUT", requires = "restore_to")]
    pub layout: Option<Layout>,
    /// Restore owners by number, not by name
    #[arg(long, requires = "restore_to")]
    pub numeric_ids: bool,
}

/// Single messages have no form as the mail lies: a file may hold others too.
fn forms() -> impl TypedValueParser<Value = Form> {
    PossibleValuesParser::new(["maildir", "mbox", "eml", "tar", "letters"])
        .try_map(|name| Form::from_str(&name, false))
}

impl WriteArgs {
    /// The form that is asked for; `None` when nothing is to be written.
    pub fn form(&self) -> Result<Option<Form>, Failure> {
        let Some(to) = &self.restore_to else { return Ok(None) };
        let to_stream = to.as_os_str() == "-";
        let form = self.form.unwrap_or(if to_stream { Form::Letters } else { Form::Maildir });
        if to_stream != is_stream(form) {
            let what = "--as tar or letters, and --restore-to -, belong together";
            return Err(Failure::new(Kind::Usage, what));
        }
        Ok(Some(form))
    }
}

/// What was found, and by what.
pub struct Answer<'f> {
    /// What was asked for.
    pub query: &'f Query,
    /// Who answered.
    pub asker: &'f Asker<'f>,
    /// The messages, in the order in which they are shown.
    pub found: &'f [Found],
}

/// Where the messages of all users go.
enum Place<'o> {
    Folder { target: Box<Target>, owners: Owners, taken: HashSet<String> },
    Archive(TarSink<Stdout<'o>>, HashSet<String>),
    Pipe(Stream<Stdout<'o>>),
}

impl<'o> Place<'o> {
    fn open(args: &WriteArgs, form: Form, head: &Head, output: &'o Output) -> Result<Place<'o>, Failure> {
        Ok(match form {
            Form::Tar => Place::Archive(TarSink::new(Stdout(output), ""), HashSet::new()),
            Form::Letters => Place::Pipe(Stream::new(Stdout(output), head).map_err(PutError::Stream)?),
            _ => {
                let target =
                    Box::new(letters::empty_target(args.restore_to.as_deref().unwrap_or(Path::new("")))?);
                let owners = Owners::new(Accounts::of_this_host(), args.numeric_ids);
                Place::Folder { target, owners, taken: HashSet::new() }
            }
        })
    }

    /// Lets `work` write the messages of one user.
    fn of_user(
        &mut self,
        user: &str,
        form: Form,
        args: &FindArgs,
        work: impl FnOnce(&mut dyn Writer) -> Result<Tally, Failure>,
    ) -> Result<Tally, Failure> {
        let layout: folder_name::Layout = args.write.layout.unwrap_or_default().into();
        match self {
            Place::Pipe(stream) => work(stream),
            Place::Archive(archive, taken) => {
                archive.go_into(&free_name(user, taken));
                work(&mut MaildirWriter::new(TarPart(archive), layout))
            }
            Place::Folder { target, owners, taken } => {
                let name = free_name(user, taken);
                let sink = DirSink::below(target, owners, &name);
                match form {
                    Form::Mbox => work(&mut MboxFileWriter::new(sink)),
                    Form::Eml => work(&mut EmlWriter::new(sink, args.query.time_zone()?)),
                    _ => work(&mut MaildirWriter::new(sink, layout)),
                }
            }
        }
    }

    fn close(self) -> Result<(), Failure> {
        match self {
            Place::Folder { .. } => Ok(()),
            Place::Archive(mut archive, _) => Ok(Sink::finish(&mut archive)?),
            Place::Pipe(stream) => Ok(stream.close().map_err(PutError::Stream)?),
        }
    }
}

/// A folder's name for a user that no other one has.
fn free_name(user: &str, taken: &mut HashSet<String>) -> String {
    let name = safe_name(user, NAME_BYTES_MAX);
    let numbered = (2u32..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| taken.insert(name.clone()));
    free.unwrap_or(name)
}

/// What a folder is known by whose messages come from several snapshots.
fn head_of<'f>(folder: &'f str, picked: &'f Picked<'_>, keywords: &'f Keywords) -> FolderHead<'f> {
    FolderHead {
        name: folder,
        validity: picked.letter.uid.map(|(validity, _)| validity),
        next_uid: 0,
        guid: None,
        keywords,
        mode: 0o700,
        owner: &picked.owner,
    }
}

/// Writes the messages of one user.
fn write_user(
    wanted: Vec<Wanted<'_>>,
    (writer, form): (&mut dyn Writer, Form),
    (session, listed): (&Session, &[SnapshotInfo]),
    meter: &Meter,
    context: &Context<'_>,
) -> Result<Tally, Failure> {
    let mut outlet = Outlet::new(Some(writer), meter, matches!(form, Form::Eml | Form::Mbox));
    let none = Keywords::default();
    retrieve::each(session, listed, wanted, context, &mut |one, picked| match picked {
        Ok(picked) => outlet.letter(&head_of(&picked.letter.folder, &picked, &none), &picked),
        Err(failure) if failure.kind == Kind::Damaged => {
            outlet.lost(&one.stay.path, failure.message);
            Ok(())
        }
        Err(failure) => Err(failure),
    })?;
    outlet.finish(None)
}

/// Writes what was found, and tells what and where.
pub fn run(
    args: &FindArgs,
    form: Form,
    answer: &Answer<'_>,
    (session, listed): (&Session, &[SnapshotInfo]),
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    for message in answer.found {
        let stand = answer.asker.stand(answer.query, message);
        wanted.extend(stand.map(|(stay, snapshot)| Wanted { message, stay, snapshot }));
    }
    wanted.sort_by_key(|one| &one.message.user);
    let folders: HashSet<&str> = wanted.iter().map(|one| one.stay.folder.as_str()).collect();
    let title = format!("found by {:?}", args.query);
    let head = Head { title, several_folders: folders.len() > 1, without_bytes: false };
    let mut place = Place::open(&args.write, form, &head, context.output)?;
    if !is_stream(form) && !context.output.manner().json {
        show(answer.found, context)?;
    }
    let meter = Meter::start("restore", context.output.manner());
    let mut tallies: Vec<(String, Tally)> = Vec::new();
    let mut written = Ok(());
    for of_user in wanted.chunk_by(|a, b| a.message.user == b.message.user) {
        let Some(user) = of_user.first().map(|one| one.message.user.clone()) else { continue };
        let work = |writer: &mut dyn Writer| {
            write_user(of_user.to_vec(), (writer, form), (session, listed), &meter, context)
        };
        match place.of_user(&user, form, args, work) {
            Ok(tally) => tallies.push((user, tally)),
            Err(failure) => {
                written = Err(failure);
                break;
            }
        }
    }
    meter.finish();
    written?;
    place.close()?;
    told(&tallies, args, form, answer, context)?;
    let problems: u64 = tallies.iter().map(|(_, tally)| tally.problem_count).sum();
    if problems > 0 {
        complain(&format!("mailark: {} problems: the restore is incomplete\n", count(problems)));
        return Ok(Exit::Incomplete);
    }
    Ok(Exit::Ok)
}

fn is_stream(form: Form) -> bool {
    matches!(form, Form::Tar | Form::Letters)
}

/// Shows the messages that are written, not more than anybody reads.
fn show(found: &[Found], context: &Context<'_>) -> Result<(), Failure> {
    for message in found.iter().take(SHOWN) {
        tell(message, context)?;
    }
    match found.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => context.output.line(&format!("... and {} more", count(more as u64))),
    }
}

fn told(
    tallies: &[(String, Tally)],
    args: &FindArgs,
    form: Form,
    answer: &Answer<'_>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let (out, is_stream) = (context.output, is_stream(form));
    let place = args.write.restore_to.as_deref().unwrap_or(Path::new("")).display().to_string();
    if out.manner().json && !is_stream {
        return out.json(&report(tallies, &place, answer));
    }
    // What is written has standard output for itself.
    let say = |text: &str| match is_stream {
        true => {
            out.remark(text);
            Ok(())
        }
        false => out.line(text),
    };
    let shown = |name: &str| bytes::display(name.as_bytes());
    for (user, tally) in tallies {
        for (folder, (messages, bytes)) in &tally.folders {
            let (messages, bytes) = (count(*messages), size(*bytes));
            say(&format!("{messages:>9}  {bytes:>10}  {}, {}", shown(user), shown(folder)))?;
        }
        tally.gaps().iter().try_for_each(|gap| say(gap))?;
    }
    let messages = tallies.iter().map(|(_, tally)| tally.messages()).sum();
    let total = tallies.iter().fold(0u64, |sum, (_, tally)| sum.saturating_add(tally.bytes()));
    let place = if is_stream { "standard output" } else { &place };
    say(&format!("wrote {} messages, {} to {place}", count(messages), size(total)))
}

fn report(tallies: &[(String, Tally)], place: &str, answer: &Answer<'_>) -> Value {
    let folders = tallies.iter().flat_map(|(user, tally)| {
        tally.folders.iter().map(move |(folder, (messages, bytes))| {
            json!({ "user": user, "folder": folder, "messages": messages, "bytes": bytes })
        })
    });
    let all = |number: fn(&Tally) -> u64| tallies.iter().map(|(_, tally)| number(tally)).sum::<u64>();
    let missing = tallies.iter().flat_map(|(_, tally)| &tally.problems);
    json!({
        "target": place,
        "messages": all(Tally::messages),
        "bytes": all(Tally::bytes),
        "folders": folders.collect::<Vec<_>>(),
        "opaque": all(|tally| tally.opaque),
        "keywords_lost": all(|tally| tally.lost.keywords),
        "problem_count": all(|tally| tally.problem_count),
        "problems": problems(missing.map(|(path, text)| (path.as_slice(), text.as_str()))),
        "found": answer.found.iter().map(|message| as_json(message, answer.asker)).collect::<Vec<_>>(),
    })
}
