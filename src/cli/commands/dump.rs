//! `mailark dump`: one file, to standard output.

use clap::Args;

use crate::base::bytes;
use crate::cli::commands::Context;
use crate::cli::commands::ls::kind;
use crate::cli::commands::restore::wanted_path;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::selection::{SnapshotFilter, SnapshotPath, snapshot_path};
use crate::cli::session::Session;
use crate::format::page::Node;
use crate::repo::extract::{ExtractError, extract_bytes};
use crate::repo::view;

/// Write one file of a snapshot to standard output.
///
/// Every piece is verified before it is written. When one is damaged, what came before it has been written, and
/// the exit code is 1.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// `latest` or the beginning of a snapshot id, and the file's path in it
    #[arg(value_name = "SNAPSHOT:PATH", value_parser = snapshot_path())]
    pub at: SnapshotPath,
    /// Which snapshots `latest` considers.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}

/// Writes the file.
pub fn run(args: &DumpArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let user = |what: String| Failure::new(Kind::User, what);
    let name = args.at.snapshot.text();
    if args.at.path.as_ref().is_none_or(Vec::is_empty) {
        let what = format!("dump needs a path: mailark dump {name}:PATH");
        return Err(
            Failure::new(Kind::Usage, what).hint(format!("'mailark ls -R {name}' shows what there is"))
        );
    }
    let wanted = wanted_path(args.at.path.as_deref())?;
    let shown = bytes::display(&wanted);
    let session = Session::open(context)?;
    session.repository.need_full("reading mail")?;
    session.sync()?;
    let snapshot = session.snapshot(name, &args.filter.to_filter().holding(&wanted))?;
    let reader = session.reader(&snapshot)?;
    let tops = view::tops(&reader, &snapshot.snapshot, &wanted);
    let exact = tops.entries.iter().find(|(path, _)| *path == wanted);
    let id = snapshot.hash.short();
    let folder = || {
        user(format!("{shown} is a folder"))
            .hint(format!("'mailark restore {id}:{shown} --to DIR' brings it back whole"))
            .hint(format!("'mailark ls {id}:{shown}' shows what is in it"))
    };
    let entry = match (exact, tops.broken.into_iter().next()) {
        (Some((_, entry)), _) => entry,
        (None, Some((_, error))) => return Err(error.into()),
        (None, None) if tops.entries.is_empty() => {
            return Err(user(format!("snapshot {id} holds nothing at {shown}"))
                .hint(format!("'mailark ls {id}' shows what it holds")));
        }
        (None, None) => return Err(folder()),
    };
    let file = match &entry.node {
        Node::File(file) => file,
        Node::Folder(_) => return Err(folder()),
        Node::Symlink(target) => {
            return Err(user(format!("{shown} is a symbolic link to {}", bytes::display(target))));
        }
        _ => return Err(user(format!("{shown} is a {}, not a file", kind(entry)))),
    };
    let written = extract_bytes(&reader, file, context.interrupt, |bytes| {
        context.output.raw(bytes).map_err(ExtractError::Write)
    });
    written.map_err(|error| {
        let mut failure = Failure::from(error);
        if failure.kind == Kind::Damaged {
            failure.message = format!("{shown}: {}; what was written is not all of it", failure.message);
        }
        failure
    })?;
    Ok(Exit::Ok)
}
