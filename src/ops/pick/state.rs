//! What a mail folder knows of its messages besides their names: UIDs, GUIDs, the names of keywords.

use super::survey::MailFolder;
use crate::base::interrupt::Interrupt;
use crate::format::page::File;
use crate::mail::keywords::Keywords;
use crate::mail::uidlist::UidMap;
use crate::repo::RepoError;
use crate::repo::extract::read_small;
use crate::repo::reader::BlobReader;
use crate::repo::rewrite::is_loss;

/// Largest `dovecot-uidlist` that is read: some millions of messages.
const UIDLIST_BYTES_MAX: u64 = 512 << 20;
/// Largest `dovecot-keywords` and `subscriptions`.
const SMALL_BYTES_MAX: u64 = 4 << 20;

/// The state of one folder in one snapshot.
#[derive(Debug, Default)]
pub struct State {
    /// The list of UIDs, where there is one that can be read.
    pub uids: Option<UidMap>,
    /// The names of the keyword letters.
    pub keywords: Keywords,
    /// State files that cannot be read: logical path and reason.
    pub broken: Vec<(Vec<u8>, RepoError)>,
}

impl State {
    /// Reads the state of a folder; what is lost is noted, and the rest goes on.
    pub fn read(
        reader: &BlobReader<'_>,
        folder: &MailFolder,
        interrupt: &Interrupt,
    ) -> Result<State, RepoError> {
        let mut state = State::default();
        let mut bytes = |file: Option<&(Vec<u8>, File)>, bytes_max| -> Result<Option<Vec<u8>>, RepoError> {
            let Some((path, file)) = file else { return Ok(None) };
            match read_small(reader, file, bytes_max, interrupt) {
                Err(error) if is_loss(&error) => {
                    state.broken.push((path.clone(), error));
                    Ok(None)
                }
                read => read,
            }
        };
        let uids = bytes(folder.uidlist.as_ref(), UIDLIST_BYTES_MAX)?;
        let keywords = bytes(folder.keywords.as_ref(), SMALL_BYTES_MAX)?;
        state.uids = uids.and_then(UidMap::new);
        state.keywords = keywords.map(|bytes| Keywords::parse(&bytes)).unwrap_or_default();
        Ok(state)
    }

    /// UIDVALIDITY of the folder.
    pub fn validity(&self) -> Option<u32> {
        self.uids.as_ref().map(|uids| uids.list().header.validity).filter(|&validity| validity > 0)
    }
}

/// The subscriptions of a user.
pub fn read_subscriptions(
    reader: &BlobReader<'_>,
    file: &File,
    interrupt: &Interrupt,
) -> Result<Option<Vec<u8>>, RepoError> {
    read_small(reader, file, SMALL_BYTES_MAX, interrupt)
}
