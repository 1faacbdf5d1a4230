//! `mailark apply`: letters from standard input, into a live mailbox.

use std::io::{self, IsTerminal, Write};

use clap::Args;

use crate::cli::commands::Context;
use crate::cli::delivery::{Deliveries, DeliveryArgs, Flaggings, Request, tell, tell_flags};
use crate::cli::failure::{Exit, Failure, Kind};
use crate::format::letters::{LetterError, LetterReader};
use crate::mail::letter::Letter;
use crate::ops::deliver::Undelivered;

/// Give messages back to a live mailbox, as 'mailark restore ... --to -' sends them.
///
/// Runs on the mail host; needs no repository and no key. Nothing that lies there is touched: messages that are still
/// in the mailbox are listed and not brought again, and the same command run twice adds nothing. When the connection
/// breaks, the same command goes on where it was; 'mailark restore --undo ID' takes away what a run brought.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Where to.
    #[command(flatten)]
    pub delivery: DeliveryArgs,
    /// Give back only which messages are read, flagged and labelled, for those that are still there
    #[arg(long)]
    pub flags_only: bool,
    /// Say what would be done; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Why a letter or the stream ended.
enum Trouble {
    Stream(LetterError),
    Failure(Failure),
    Write(io::Error),
}

impl From<LetterError> for Trouble {
    fn from(error: LetterError) -> Trouble {
        Trouble::Stream(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Failure(failure)
    }
}

impl From<LetterError> for Failure {
    fn from(error: LetterError) -> Failure {
        let because = |kind| Failure::because(kind, "", &error);
        match error {
            LetterError::NotLetters => {
                because(Kind::User).hint("'mailark restore ... --to - | mailark apply ...' sends them")
            }
            LetterError::Version(_) => {
                because(Kind::User).hint("use the same version of mailark on both sides")
            }
            LetterError::Read(_) => because(Kind::Storage),
            LetterError::CutShort => {
                because(Kind::Incomplete).hint("run the same command again: it goes on from here")
            }
            _ => because(Kind::Damaged),
        }
    }
}

/// Delivers.
pub fn run(args: &ApplyArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    if io::stdin().is_terminal() {
        let failure = Failure::new(Kind::User, "no messages come in: standard input is a terminal");
        return Err(failure.hint("'mailark restore ... --to - | mailark apply ...' sends them"));
    }
    let (mut letters, head) = LetterReader::open(io::stdin().lock())?;
    let without_bytes = head.without_bytes;
    let request = Request {
        title: head.title,
        several_folders: head.several_folders,
        dry_run: args.dry_run,
        users_are_told: true,
    };
    if args.flags_only {
        return flags(args, request, &mut letters, context);
    }
    if without_bytes {
        return Err(Failure::new(Kind::User, "these messages were sent without their text")
            .hint("--flags-only is what they are good for"));
    }
    let mut deliveries = Deliveries::new(&args.delivery, request, context);
    let mut lost = Vec::new();
    let end = loop {
        if context.interrupt.is_raised() {
            break Err(interrupted());
        }
        let letter = match letters.next_letter() {
            Ok(Some(letter)) => letter,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        };
        match bring(&mut deliveries, &letter, &mut letters) {
            Ok(()) => {}
            Err(Trouble::Stream(LetterError::GivenUp(why))) => {
                lost.push(format!("a message of {}: {why}", letter.folder));
            }
            Err(Trouble::Stream(error)) => break Err(error.into()),
            Err(Trouble::Failure(failure)) => break Err(failure),
            Err(Trouble::Write(error)) => break Err(Failure::because(Kind::Storage, "", &error)),
        }
    };
    let mut reports = match &end {
        Ok(()) => deliveries.finish()?,
        Err(_) => deliveries.pause()?,
    };
    if let Some((_, report)) = reports.first_mut() {
        lost.into_iter().for_each(|line| report.problem(line));
    }
    let exit = tell(&reports, args.dry_run, context)?;
    end.map(|()| exit)
}

fn interrupted() -> Failure {
    Failure::new(Kind::Interrupted, "interrupted").hint("the same command goes on from here")
}

fn flags(
    args: &ApplyArgs,
    request: Request,
    letters: &mut LetterReader<impl io::Read>,
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    let mut flaggings = Flaggings::new(&args.delivery, request, context);
    let end = loop {
        if context.interrupt.is_raised() {
            break Err(interrupted());
        }
        match letters.next_letter() {
            Ok(Some(letter)) => {
                if let Err(failure) = flaggings.mark(&letter) {
                    break Err(failure);
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    let exit = tell_flags(&flaggings.finish()?, args.dry_run, context)?;
    end.map(|()| exit)
}

fn bring(
    deliveries: &mut Deliveries<'_>,
    letter: &Letter,
    letters: &mut LetterReader<impl io::Read>,
) -> Result<(), Trouble> {
    let fill = |sink: &mut dyn Write| letters.bytes(|bytes| sink.write_all(bytes).map_err(Trouble::Write));
    match deliveries.deliver(letter, fill) {
        Ok(_) => Ok(()),
        Err(Undelivered::Source(trouble)) => Err(trouble),
        Err(Undelivered::Mailbox(error)) => Err(Trouble::Failure(error.into())),
    }
}
