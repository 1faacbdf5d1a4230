//! The end of a delivery: new folders appear, mail programs are told of them, and the mail server sets what only it can.

use std::collections::BTreeMap;

use super::dirs::{self, trouble};
use super::journal::Step;
use super::post::Post;
use super::quota::{self, Weight};
use super::subscriptions::{self, Change};
use super::trays::{self, Published};
use super::{DoveadmError, Report, Result};
use crate::base::bytes;

impl Post {
    /// All letters have come: new folders appear, and the run ends.
    pub fn finish(mut self) -> Result<Report> {
        self.commit()?;
        let Some(mut journal) = self.journal.take() else { return Ok(self.report) };
        if self.trays.is_empty() {
            journal.discard()?;
            return Ok(self.report);
        }
        let run = journal.id.clone();
        for (number, tray) in self.trays.iter_mut().enumerate().filter(|(_, tray)| tray.is_own) {
            if tray.is_staged {
                let note = |step: &Step| journal.write_now(step);
                match trays::publish(&self.mailbox, &run, (number, &mut *tray), note)? {
                    Published::New => {}
                    Published::Merged(left) => {
                        let left = left.into_iter().map(|(base, keywords)| (number as u32, base, keywords));
                        self.keywords_left.extend(left);
                        continue;
                    }
                }
            }
            let parts = self.mailbox.subscription_of(&tray.path);
            journal.write_now(&Step::Subscribed(number as u32))?;
            let list = self.mailbox.subscriptions_in();
            if !subscriptions::change(list, &parts, self.mailbox.layout, Change::Add)? {
                self.report.not_subscribed.push(tray.text.clone());
            }
        }
        let own = trays::staging(&self.mailbox, &run);
        let root = &self.mailbox.root;
        dirs::remove_folder(root, &own).map_err(trouble("remove", root, &own))?;
        self.note_quota()?;
        if self.set_keywords() {
            journal.write(&Step::KeywordsSet);
        }
        journal.write_now(&Step::Ended)?;
        self.report.run = Some(run);
        Ok(self.report)
    }

    /// Moves what waits, and leaves the run open: the same request takes it up again.
    pub fn pause(mut self) -> Result<Report> {
        self.commit()?;
        self.note_quota()?;
        if let Some(journal) = &mut self.journal {
            journal.sync()?;
            self.report.run = Some(journal.id.clone());
            self.report.is_open = true;
        }
        Ok(self.report)
    }

    fn note_quota(&self) -> Result<()> {
        let [messages, bytes] = [self.report.brought_count(), self.report.bytes].map(|number| number as i64);
        quota::note(&self.mailbox.root, Weight { messages, bytes })
    }

    /// Has the mail server set what only it can; true when it did.
    fn set_keywords(&mut self) -> bool {
        let mut groups: BTreeMap<(u32, Vec<Vec<u8>>), Vec<String>> = BTreeMap::new();
        for (tray, base, keywords) in std::mem::take(&mut self.keywords_left) {
            groups.entry((tray, keywords)).or_default().push(String::from_utf8_lossy(&base).into_owned());
        }
        let doveadm = self.options.doveadm.clone();
        for ((tray, keywords), guids) in groups {
            let folder = &self.trays[tray as usize].text;
            let names =
                keywords.iter().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>().join(" ");
            let set = doveadm.as_ref().map(|doveadm| {
                doveadm.add_keywords(&self.options.user, folder, &names, &guids).map_err(|error| told(&error))
            });
            match set {
                Some(Ok(())) => continue,
                Some(Err(text)) => self.report.doveadm_failed = Some(text),
                None => {}
            }
            for keyword in &keywords {
                *self.report.keywords_left.entry(bytes::display(keyword)).or_default() += guids.len() as u64;
            }
        }
        doveadm.is_some() && self.report.doveadm_failed.is_none()
    }
}

/// An error with its cause, for a report.
pub(super) fn told(error: &DoveadmError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
