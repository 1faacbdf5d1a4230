//! A part that comes out of a pipe: standard input, or the output of a command.

use std::io::Read;
use std::sync::Arc;

use super::Stream;
use super::folder::{FolderJob, Slot};
use super::worker::Worker;
use crate::base::{bytes, clock};
use crate::format::page::{Entry, File, Node};
use crate::index::scan::Trace;
use crate::repo::RepoError;
use crate::repo::tree::PageCut;
use crate::source::command::CommandSource;
use crate::source::{SourceError, start};

type Stored<'a> = Result<(Vec<u8>, Arc<FolderJob<'a>>), SourceError>;

/// Stores a stream as a part with a single file; the inner error fails the part alone.
pub fn store<'a>(
    worker: &mut Worker<'a>,
    cut: &'a PageCut,
    stream: &Stream,
) -> Result<Stored<'a>, RepoError> {
    let (_, name) = start::split(&stream.path);
    if name.is_empty() {
        return Ok(Err(SourceError::Logical { path: bytes::display(&stream.path) }));
    }
    let read = match stream.command.split_first() {
        None => read(worker, &mut std::io::stdin().lock(), "standard input")?,
        Some((program, arguments)) => match CommandSource::start(program, arguments) {
            Err(error) => Err(error),
            Ok(mut command) => {
                let shown = bytes::display(program.as_encoded_bytes());
                read(worker, &mut command, &shown)?.and_then(|file| command.finish().map(|()| file))
            }
        },
    };
    let file = match read {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    let now = clock::now();
    let entry = Entry {
        name: name.to_vec(),
        mode: 0o600,
        owner: worker.own_owner(),
        mtime_s: now.div_euclid(1_000_000_000) as i64,
        mtime_ns: now.rem_euclid(1_000_000_000) as u32,
        xattrs: Vec::new(),
        node: Node::File(file),
    };
    let job = FolderJob::part(cut, 1, None);
    worker.deliver(&job, [(0, Slot::Entry(Box::new(entry), Trace::NONE))])?;
    Ok(Ok((stream.path.clone(), job)))
}

fn read(
    worker: &mut Worker<'_>,
    stream: &mut dyn Read,
    name: &str,
) -> Result<Result<File, SourceError>, RepoError> {
    match worker.read_stream(stream) {
        Ok((content, size)) => Ok(Ok(File { size, content, sparse: false, link_group: None })),
        Err(Ok(error)) => Ok(Err(SourceError::Command { command: name.to_owned(), error })),
        Err(Err(error)) => Err(error),
    }
}
