//! `mailark ls`: what a snapshot holds.

use clap::Args;
use serde_json::{Map, Value};

use crate::base::bytes;
use crate::base::clock::UnixNanos;
use crate::cli::commands::Context;
use crate::cli::commands::restore::wanted_path;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{Output, complain, insert_name, local_time, rfc3339};
use crate::cli::selection::{SnapshotFilter, SnapshotPath, snapshot_path};
use crate::cli::session::Session;
use crate::format::page::{Entry, Node};
use crate::repo::view::{Step, View};

/// List what a snapshot holds, from its top or from PATH on.
///
/// One level, unless -R asks for all. Folders end with a slash; --long and --json tell more.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// `latest` or the beginning of a snapshot id, and a path in it
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = snapshot_path())]
    pub at: SnapshotPath,
    /// Which snapshots `latest` considers.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Show mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    /// List folders within folders
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// Lists.
pub fn run(args: &LsArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let wanted = wanted_path(args.at.path.as_deref())?;
    let session = Session::open(context)?;
    session.sync()?;
    let filter = args.filter.to_filter().holding(&wanted);
    let snapshot = session.snapshot(args.at.snapshot.text(), &filter)?;
    let reader = session.reader(&snapshot)?;
    let mut view = View::new(&reader, &snapshot.snapshot, &wanted);
    let (mut found, mut broken) = (false, false);
    while let Some(step) = view.next() {
        context.interrupt.check()?;
        match step {
            Step::Leave => {}
            Step::Broken(path, error) => {
                broken = true;
                complain(&format!("mailark: {}: {error}\n", bytes::display(&path)));
            }
            Step::Entry(path, entry) => {
                found = true;
                let is_folder = matches!(entry.node, Node::Folder(_));
                // What was asked for is a folder: its content is meant, not its name.
                if path == wanted && is_folder {
                    continue;
                }
                if !args.recursive {
                    view.pass_over();
                }
                tell(&path, &entry, args.long, context.output)?;
            }
        }
    }
    if !found && !broken {
        let what = format!("snapshot {} holds nothing at {}", snapshot.hash.short(), bytes::display(&wanted));
        return Err(Failure::new(Kind::User, what)
            .hint(format!("'mailark ls {}' shows its top", snapshot.hash.short())));
    }
    Ok(if broken { Exit::Failed } else { Exit::Ok })
}

fn tell(path: &[u8], entry: &Entry, long: bool, out: &Output) -> Result<(), Failure> {
    if out.manner().json {
        return out.json(&as_json(path, entry));
    }
    let shown = bytes::display(path);
    if !long {
        return out.line(&format!("{shown}{}", if kind(entry) == "folder" { "/" } else { "" }));
    }
    let owner = |name: &[u8], number: u32| match name.is_empty() {
        true => number.to_string(),
        false => bytes::display(name),
    };
    let target = match &entry.node {
        Node::Symlink(target) => format!(" -> {}", bytes::display(target)),
        _ => String::new(),
    };
    let amount = match &entry.node {
        Node::CharDevice(major, minor) | Node::BlockDevice(major, minor) => format!("{major}, {minor}"),
        _ => entry.totals().bytes.to_string(),
    };
    out.line(&format!(
        "{} {:<8} {:<8} {amount:>12} {} {shown}{target}",
        mode_text(entry),
        owner(&entry.owner.user, entry.owner.uid),
        owner(&entry.owner.group, entry.owner.gid),
        local_time(mtime(entry)),
    ))
}

fn mtime(entry: &Entry) -> UnixNanos {
    UnixNanos::from(entry.mtime_s) * 1_000_000_000 + UnixNanos::from(entry.mtime_ns)
}

/// What an entry is, in one word.
pub fn kind(entry: &Entry) -> &'static str {
    match entry.node {
        Node::File(_) => "file",
        Node::Folder(_) => "folder",
        Node::Symlink(_) => "symlink",
        Node::Fifo => "fifo",
        Node::Socket => "socket",
        Node::CharDevice(..) => "char_device",
        Node::BlockDevice(..) => "block_device",
    }
}

/// As `ls -l` writes it: `-rw-r-----`.
fn mode_text(entry: &Entry) -> String {
    let first = match entry.node {
        Node::File(_) => '-',
        Node::Folder(_) => 'd',
        Node::Symlink(_) => 'l',
        Node::Fifo => 'p',
        Node::Socket => 's',
        Node::CharDevice(..) => 'c',
        Node::BlockDevice(..) => 'b',
    };
    let mut text = String::from(first);
    // Who, and the letters of set-user, set-group and sticky, with and without the right to run.
    for (shift, special, letters) in
        [(6, 0o4000, ['s', 'S']), (3, 0o2000, ['s', 'S']), (0, 0o1000, ['t', 'T'])]
    {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (entry.mode & special != 0, bits & 1 != 0) {
            (true, true) => letters[0],
            (true, false) => letters[1],
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn as_json(path: &[u8], entry: &Entry) -> Value {
    let mut object = Map::new();
    insert_name(&mut object, "path", path);
    object.insert("type".to_owned(), kind(entry).into());
    object.insert("mode".to_owned(), entry.mode.into());
    object.insert("uid".to_owned(), entry.owner.uid.into());
    object.insert("gid".to_owned(), entry.owner.gid.into());
    insert_name(&mut object, "user", &entry.owner.user);
    insert_name(&mut object, "group", &entry.owner.group);
    object.insert("mtime".to_owned(), rfc3339(mtime(entry)).into());
    let totals = entry.totals();
    match &entry.node {
        Node::Symlink(target) => insert_name(&mut object, "target", target),
        Node::CharDevice(major, minor) | Node::BlockDevice(major, minor) => {
            object.insert("major".to_owned(), (*major).into());
            object.insert("minor".to_owned(), (*minor).into());
        }
        Node::Folder(_) => {
            object.insert("files".to_owned(), totals.files.into());
        }
        _ => {}
    }
    object.insert("size".to_owned(), totals.bytes.into());
    object.insert("messages".to_owned(), totals.messages.into());
    object.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::format::page::Owner;

    #[test]
    fn modes_read_as_everybody_knows_them() {
        let entry = |mode, node| Entry {
            name: b"x".to_vec(),
            mode,
            owner: Arc::new(Owner::default()),
            mtime_s: 0,
            mtime_ns: 0,
            xattrs: Vec::new(),
            node,
        };
        for (mode, text) in [
            (0o640, "prw-r-----"),
            (0o4755, "prwsr-xr-x"),
            (0o2640, "prw-r-S---"),
            (0o1777, "prwxrwxrwt"),
            (0o1000, "p--------T"),
        ] {
            assert_eq!(mode_text(&entry(mode, Node::Fifo)), text);
        }
    }
}
