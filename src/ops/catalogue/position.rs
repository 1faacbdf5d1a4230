//! Which message of a file of several the catalogue means.

use std::collections::HashMap;

use super::heads::content_id;
use super::walk::MESSAGE_SECTIONS_MAX;
use crate::base::id::DomainId;
use crate::format::content::Content;
use crate::index::catalogue::ContentId;

/// Bytes of a stay's name that say which message of its file it is.
const MARK_BYTES: usize = 18;

/// A message of a file: its content, and its turn among those of the same content.
pub type Mark = [u8; MARK_BYTES];

/// The message that the name of a stay in a file means.
pub fn mark_of(name: &[u8]) -> Option<Mark> {
    name.first_chunk().copied()
}

/// Marks the messages of a file, one after the other, as the catalogue does.
pub struct Marks {
    domain: DomainId,
    turns: HashMap<ContentId, u16>,
}

impl Marks {
    /// Begins a file.
    pub fn new(domain: DomainId) -> Marks {
        Marks { domain, turns: HashMap::new() }
    }

    /// The mark of the next message.
    pub fn next(&mut self, content: &Content) -> Mark {
        let content = match content {
            Content::Inline(sections) if sections.len() > MESSAGE_SECTIONS_MAX => {
                let first = sections.iter().take(MESSAGE_SECTIONS_MAX).cloned().collect();
                content_id(&self.domain, &Content::Inline(first))
            }
            content => content_id(&self.domain, content),
        };
        let turn = self.turns.entry(content).or_default();
        let mut mark = [0; MARK_BYTES];
        mark[..content.len()].copy_from_slice(&content);
        mark[content.len()..].copy_from_slice(&turn.to_be_bytes());
        *turn = turn.saturating_add(1);
        mark
    }
}
