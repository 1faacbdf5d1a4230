//! `mailark restore --user ... --into`, and `--to -`: messages for a live mailbox, here or through a pipe.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::RestoreArgs;
use super::messages::Layout;
use crate::cli::commands::Context;
use crate::cli::delivery::{self, Deliveries, DeliveryArgs, Flaggings};
use crate::cli::failure::{Exit, Failure};
use crate::format::letters::{Head, LetterWriter};
use crate::ops::deliver::{Doveadm, Undelivered};
use crate::ops::restore::letters::{FolderHead, LetterError, Outgoing, PutError, Writer};
use crate::repo::extract::ExtractError;

/// The live mailbox that messages are given back to.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Into a mailbox in use")]
pub struct GiveArgs {
    /// Give the messages back to the live mailbox, into a new folder Restored/DATE or into the folders they were in
    #[arg(long, value_name = "WHERE", requires = "user", conflicts_with_all = ["to", "rebuild", "form"])]
    pub into: Option<delivery::Into>,
    /// The live mailbox, a Maildir; %u is the user, %n and %d the parts before and after the @ [config: mail]
    #[arg(long, value_name = "DIR", requires = "user", conflicts_with_all = ["to", "rebuild", "form"])]
    pub mailbox: Option<PathBuf>,
    /// Where the mailbox keeps dovecot-uidlist, when elsewhere (CONTROL=) [config: control]
    #[arg(long, value_name = "DIR", requires = "mailbox")]
    pub control: Option<PathBuf>,
    /// Give back only which messages are read, flagged and labelled, for those that are still there
    #[arg(long, requires = "user", conflicts_with_all = ["rebuild", "form", "into"])]
    pub flags_only: bool,
}

impl GiveArgs {
    /// Do the messages go to a mailbox on this machine?
    pub fn is_live(&self, to: Option<&PathBuf>) -> bool {
        to.is_none() && (self.into.is_some() || self.mailbox.is_some() || self.flags_only)
    }
}

/// As a delivery wants to know it.
pub fn delivery_args(args: &RestoreArgs) -> DeliveryArgs {
    let given = &args.messages;
    DeliveryArgs {
        mailbox: args.give.mailbox.clone(),
        control: args.give.control.clone(),
        layout: given.layout.map(|layout| match layout {
            Layout::PlusPlus => delivery::Layout::Maildir,
            Layout::Fs => delivery::Layout::Fs,
        }),
        into: args.give.into,
        map_user: given.map_user.iter().cloned().collect(),
        doveadm: None::<Doveadm>,
    }
}

/// The same request has the same title, so that one that broke off is known again.
pub fn title(args: &RestoreArgs, snapshot: &str) -> String {
    let given = &args.messages;
    let mut words =
        vec![format!("mail of {} from snapshot {snapshot}", given.user.as_deref().unwrap_or_default())];
    let mut add = |name: &str, text: &Option<String>| {
        words.extend(text.as_ref().map(|text| format!("{name} {text}")));
    };
    add("received", &given.received);
    add("sent", &given.sent);
    add("existed at", &given.existed_at);
    add("deleted", &given.deleted_between);
    words.extend(given.folder.iter().map(|folder| format!("folder {folder}")));
    words.extend(given.message.iter().map(|id| format!("message {}", id.to_string_lossy())));
    words.join(", ")
}

fn stopped(failure: &Failure) -> PutError {
    PutError::Stream(io::Error::other(failure.message.clone()))
}

/// Gives messages to live mailboxes.
pub struct Live<'a> {
    work: Work<'a>,
    /// Why it cannot go on, with its kind and hints.
    pub failure: Option<Failure>,
}

enum Work<'a> {
    Letters(Deliveries<'a>),
    Flags(Flaggings<'a>),
}

impl<'a> Live<'a> {
    /// Begins.
    pub fn new(
        delivery: &'a DeliveryArgs,
        flags_only: bool,
        request: delivery::Request,
        context: &Context<'_>,
    ) -> Live<'a> {
        let work = match flags_only {
            true => Work::Flags(Flaggings::new(delivery, request, context)),
            false => Work::Letters(Deliveries::new(delivery, request, context)),
        };
        Live { work, failure: None }
    }

    /// Ends the deliveries, for good or until the same command comes again, and tells what they did.
    pub fn end(self, is_whole: bool, dry_run: bool, context: &Context<'_>) -> Result<Exit, Failure> {
        match self.work {
            Work::Letters(deliveries) => {
                let reports = if is_whole { deliveries.finish()? } else { deliveries.pause()? };
                delivery::tell(&reports, dry_run, context)
            }
            Work::Flags(flaggings) => delivery::tell_flags(&flaggings.finish()?, dry_run, context),
        }
    }
}

impl Writer for Live<'_> {
    fn begin(&mut self, _: &FolderHead<'_>) -> Result<(), PutError> {
        Ok(())
    }

    fn put(&mut self, message: &Outgoing<'_>) -> Result<(), LetterError> {
        let outcome = match &mut self.work {
            Work::Flags(flaggings) => flaggings.mark(message.letter),
            Work::Letters(deliveries) => {
                let fill = |sink: &mut dyn Write| {
                    (message.read)(&mut |bytes| {
                        sink.write_all(bytes).map_err(|error| ExtractError::Write(PutError::Stream(error)))
                    })
                    .map_err(Trouble::Letter)
                };
                match deliveries.deliver(message.letter, fill) {
                    Ok(_) => Ok(()),
                    Err(Undelivered::Source(Trouble::Letter(error))) => return Err(error),
                    Err(Undelivered::Source(Trouble::Failure(failure))) => Err(failure),
                    Err(Undelivered::Mailbox(error)) => Err(error.into()),
                }
            }
        };
        outcome.map_err(|failure| {
            let error = stopped(&failure);
            self.failure = Some(failure);
            ExtractError::Write(error)
        })
    }

    fn end(&mut self) -> Result<(), PutError> {
        Ok(())
    }

    fn finish(&mut self, _: Option<&[u8]>) -> Result<(), PutError> {
        Ok(())
    }
}

/// Why a letter was not brought.
enum Trouble {
    Letter(LetterError),
    Failure(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Failure(failure)
    }
}

/// Sends messages down a pipe.
pub struct Stream<W: Write> {
    letters: LetterWriter<W>,
    without_bytes: bool,
}

impl<W: Write> Stream<W> {
    /// Begins.
    pub fn new(out: W, head: &Head) -> io::Result<Stream<W>> {
        Ok(Stream { letters: LetterWriter::new(out, head)?, without_bytes: head.without_bytes })
    }

    /// Ends the stream: without this the receiver knows that it is not whole.
    pub fn close(self) -> io::Result<()> {
        self.letters.finish().map(drop)
    }
}

impl<W: Write> Writer for Stream<W> {
    fn begin(&mut self, _: &FolderHead<'_>) -> Result<(), PutError> {
        Ok(())
    }

    fn put(&mut self, message: &Outgoing<'_>) -> Result<(), LetterError> {
        let wrote = |error: io::Error| ExtractError::Write(PutError::Stream(error));
        let mut sink = self.letters.letter(message.letter).map_err(wrote)?;
        let read = match self.without_bytes {
            true => Ok(()),
            false => (message.read)(&mut |bytes| sink.write_all(bytes).map_err(wrote)),
        };
        match read {
            Ok(()) => sink.finish().map_err(wrote),
            Err(error @ ExtractError::Write(_)) => Err(error),
            Err(error) => {
                sink.give_up(&error.to_string()).map_err(wrote)?;
                Err(error)
            }
        }
    }

    fn end(&mut self) -> Result<(), PutError> {
        Ok(())
    }

    fn finish(&mut self, _: Option<&[u8]>) -> Result<(), PutError> {
        Ok(())
    }
}
