//! Pages of the parent that are taken over as a whole.

use super::{Around, Look, Walker};
use crate::base::id::BlobId;
use crate::ops::backup::folder::Slot;
use crate::ops::backup::reason::Same;
use crate::repo::RepoError;
use crate::source::dir::Listed;

impl<'a> Walker<'a, '_> {
    /// Takes over as many pages as begin with the next of the folder's `names`, and delivers them.
    pub(super) fn take_pages(
        &mut self,
        look: &mut Look<'_>,
        around: &Around<'a>,
        (names, entries): (usize, &mut std::vec::IntoIter<Listed>),
    ) -> Result<(), RepoError> {
        if !look.takes_pages || around.scope.is_some() {
            return Ok(());
        }
        let shared = self.shared;
        // What the index fails to answer is asked again when the page is made anew.
        let may_serve = |page: &BlobId| shared.presence.holds(page).unwrap_or(false);
        loop {
            let worker = &mut self.worker;
            let owner_of = &mut |uid, gid| worker.owner(uid, gid);
            let Some(page) = look.parent.whole_page(entries.as_slice(), owner_of, &may_serve) else {
                return Ok(());
            };
            let (slot, count) = (names - entries.len(), page.count());
            let counters = shared.progress.counters();
            counters.expect(count as u64, page.totals.bytes);
            counters.add(count as u64, page.totals.bytes);
            shared.counts.reasons.same(Same::Trace, count as u64);
            self.worker.deliver(&around.job, [(slot, Slot::Page(Box::new(page)))])?;
            entries.nth(count - 1);
        }
    }
}
