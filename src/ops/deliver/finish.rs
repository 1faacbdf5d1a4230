//! The end of a delivery: new folders appear, mail programs are told of them, and the mail server sets what only it can.

use std::collections::BTreeMap;

use super::dirs::{self, trouble};
use super::journal::{Journal, Step};
use super::post::Post;
use super::quota::{self, Weight};
use super::subscriptions::{self, Change};
use super::trays::{self, Published};
use super::{Report, Result};
use crate::base::bytes;
use crate::base::causes::told;

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
        let mut is_whole = true;
        for number in 0..self.trays.len() {
            match self.appear(number, &mut journal) {
                Ok(()) => {}
                Err(error) if error.is_full() => return Err(error),
                Err(error) => {
                    // It stays where it is: the same request goes on with it.
                    is_whole = false;
                    let text = self.trays[number].text.clone();
                    self.report.brought.remove(&text);
                    self.refuse(&text, &error);
                }
            }
        }
        let own = trays::staging(&self.mailbox, &run);
        let root = &self.mailbox.root;
        dirs::remove_folder(root, &own).map_err(trouble("remove", root, &own))?;
        self.note_quota()?;
        if self.set_keywords() {
            journal.write(&Step::KeywordsSet);
        }
        match is_whole {
            true => journal.write_now(&Step::Ended)?,
            false => journal.sync()?,
        }
        self.report.is_open = !is_whole;
        self.report.run = Some(run);
        Ok(self.report)
    }

    /// Lets a folder of this run appear, with what mail programs need to show it.
    fn appear(&mut self, number: usize, journal: &mut Journal) -> Result<()> {
        let tray = &mut self.trays[number];
        if !tray.is_own {
            return Ok(());
        }
        if tray.is_staged {
            let run = journal.id.clone();
            let note = |step: &Step| journal.write_now(step);
            match trays::publish(&self.mailbox, &run, (number, &mut *tray), note)? {
                Published::New => {}
                Published::Merged(left) => {
                    let left = left.into_iter().map(|(base, keywords)| (number as u32, base, keywords));
                    self.keywords_left.extend(left);
                    return Ok(());
                }
            }
        }
        let parts = self.mailbox.subscription_of(&tray.path);
        journal.write_now(&Step::Subscribed(number as u32))?;
        let list = self.mailbox.subscriptions_in();
        match subscriptions::change(list, &parts, self.mailbox.layout, Change::Add) {
            Ok(true) => {}
            Ok(false) => self.report.not_subscribed.push(tray.text.clone()),
            Err(error) if error.is_full() => return Err(error),
            Err(error) => {
                let text = format!("folder {} is not subscribed: {}", tray.text, told(&error));
                self.report.problem(text);
            }
        }
        Ok(())
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
