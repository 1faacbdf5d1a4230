//! Taking up a run that was interrupted: everything is put where its journal says.

use std::path::Path;

use rustix::io::Errno;

use super::dirs::{self, trouble};
use super::journal::{Begun, Brought, Journal, State, Step, runs};
use super::mailbox::Folder;
use super::post::Post;
use super::trays;
use super::{Into, Layout, Options, Part, Result};
use crate::base::clock;
use crate::mail::maildir;
use crate::source::meta;
use crate::source::problem::join;

/// How a run of these options begins.
pub(super) fn begun(options: &Options, layout: Layout, flags_only: bool) -> Begun {
    let path = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    Begun {
        mailbox: path(&options.location.mailbox),
        control: options.location.control.as_deref().map(path),
        layout,
        day: match &options.into {
            Into::Restored { day, .. } => Some(day.clone()),
            Into::Original => None,
        },
        flags_only,
        title: options.title.clone(),
        user: options.user.clone(),
        at: i64::try_from(clock::now()).unwrap_or_default(),
    }
}

impl Post {
    /// Begins a run, or takes up an open one that was asked for the same.
    pub(super) fn begin(&mut self) -> Result<()> {
        let own = begun(&self.options, self.mailbox.layout, false);
        let same = |begun: &Begun| {
            // A run goes on with the day it began with.
            let as_ours = Begun { day: own.day.clone(), at: own.at, ..begun.clone() };
            as_ours == own && begun.day.is_some() == own.day.is_some()
        };
        let mut open = runs(&self.options.journals)?;
        open.retain(|run| run.state == State::Open && run.begun.mailbox == own.mailbox);
        let (mut open, others): (Vec<_>, Vec<_>) = open.into_iter().partition(|run| same(&run.begun));
        self.report.open_runs = others.into_iter().map(|run| run.id).collect();
        let open = open.pop();
        let Some(run) = open else {
            self.journal = Some(Journal::begin(&self.options.journals, own)?);
            return Ok(());
        };
        let (journal, steps) = Journal::open(&self.options.journals, &run.id)?;
        self.journal = Some(journal);
        if let (Into::Restored { day, .. }, Some(first)) = (&mut self.options.into, run.begun.day) {
            *day = first;
        }
        self.report.resumed = true;
        self.take_up(steps)
    }

    /// Puts everything where the steps of an interrupted run say.
    fn take_up(&mut self, steps: Vec<Step>) -> Result<()> {
        let mut brought = Vec::new();
        for step in steps {
            match step {
                Step::Tray { text, path, is_staged } => {
                    self.take_up_tray(Folder { path, text }, is_staged)?;
                }
                Step::Brought(step) => brought.push(step),
                Step::Settled(count) => self.settled = count,
                Step::KeywordsSet => brought.iter_mut().for_each(|step| step.keywords.clear()),
                _ => {}
            }
        }
        self.next_temporary = brought.iter().map(|step| step.temporary + 1).max().unwrap_or_default();
        let doubtful = brought.split_off(brought.len().min(self.settled as usize));
        for step in &brought {
            self.note_brought(step);
        }
        for step in doubtful {
            if self.settle(&step)? {
                self.note_brought(&step);
            }
            self.settled += 1;
        }
        self.mark_brought();
        self.clear_tmp()
    }

    fn take_up_tray(&mut self, folder: Folder, is_staged: bool) -> Result<()> {
        let number = self.trays.len();
        let run = self.run().to_owned();
        let is_there = is_staged && {
            let staged = join(&trays::staging(&self.mailbox, &run), number.to_string().as_bytes());
            dirs::open_below(&self.mailbox.root, &staged).is_err()
                && dirs::open_below(&self.mailbox.root, &folder.path).is_ok()
        };
        match is_staged && !is_there {
            true => self.add_staged(folder, number).map(drop),
            false => {
                let number = match self.add_open(folder.clone()) {
                    Err(error) if !error.is_full() => self.add_refused(folder, &error),
                    number => number?,
                };
                self.trays[number].is_own = is_staged;
                Ok(())
            }
        }
    }

    pub(super) fn note_brought(&mut self, step: &Brought) {
        let hash = self.known.hash(maildir::base(&step.name));
        self.brought.insert((step.tray as usize, hash), step.hash);
        if !step.keywords.is_empty() {
            let base = maildir::base(&step.name).to_vec();
            self.keywords_left.push((step.tray, base, step.keywords.clone()));
        }
    }

    /// Finishes the move of a letter that may or may not have happened; false when the letter is lost.
    fn settle(&mut self, step: &Brought) -> Result<bool> {
        let temporary = self.temporary_name(step.temporary);
        let Some(tray) = self.trays.get(step.tray as usize) else { return Ok(false) };
        let part = if step.is_new { Part::New } else { Part::Cur };
        let place = trays::place(&self.mailbox, self.run(), step.tray as usize, tray);
        // What cannot go there is taken out of `tmp`, and told when it comes again.
        let dir = match self.mailbox.open_folder(&join(&place, part.name())) {
            Err(error) if !error.is_full() => return Ok(false),
            dir => dir?,
        };
        let (known, name) = (tray.known, step.name.clone());
        match meta::of_entry(self.tmp.fd(), &temporary) {
            Ok((_, meta)) if meta.key() == step.key => {}
            // It was moved, and perhaps further by its reader since; or the power went before it was on disk.
            _ => {
                return Ok(!self.known.find(maildir::base(&name)).is_empty()
                    || tray.is_staged && { meta::of_entry(dir.fd(), &name).is_ok() });
            }
        }
        match dirs::move_new((&self.tmp, &temporary), (&dir, &name)) {
            Ok(()) => {
                dirs::sync(&dir).map_err(trouble("sync", &dir, b""))?;
                self.known.bring(known, part, &name);
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(trouble("move", &dir, &name)(errno)),
        }
    }

    /// Says of the messages in trays which ones this run brought.
    pub(super) fn mark_brought(&mut self) {
        for (number, tray) in self.trays.iter().enumerate() {
            self.known.mark_brought(tray.known, |hash| self.brought.contains_key(&(number, hash)));
        }
    }

    /// Removes from `tmp` what this run left there when it was interrupted.
    fn clear_tmp(&self) -> Result<()> {
        let prefix = format!("mailark-{}-", self.run()).into_bytes();
        let (names, outcome) = self.tmp.names();
        outcome.map_err(trouble("list", &self.tmp, b""))?;
        for (_, name) in names.iter().filter(|(_, name)| name.starts_with(&prefix)) {
            dirs::remove(&self.tmp, name).map_err(trouble("remove", &self.tmp, name))?;
        }
        Ok(())
    }
}
