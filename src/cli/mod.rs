//! Layer 6: the command line. The only room that prints, prompts, reads the environment and knows clap.

pub mod args;
pub mod audit;
pub mod catalogue;
pub mod commands;
pub mod config_file;
pub mod delivery;
mod errors;
pub mod failure;
mod gone;
mod highest;
pub mod interval;
pub mod lock;
pub mod mirrors;
pub mod output;
pub mod progress;
pub mod query;
pub mod retention;
pub mod retrieve;
pub mod secret;
pub mod selection;
pub mod session;
pub mod settings;
pub mod signals;
pub mod terminal;
mod verified;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::base::interrupt::Interrupt;
use failure::{Exit, Failure, Kind};
use output::{Manner, Output, complain};
use settings::Surroundings;

/// Runs the program: parse, run, say what went wrong, give the exit code.
pub fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with 0. Nobody can be told when printing fails.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { Exit::Usage.code() } else { Exit::Ok.code() });
        }
    };
    let globals = &cli.globals;
    let output = Output::new(Manner::detect(globals.json, globals.quiet, globals.verbose));
    let interrupt = Interrupt::default();
    let installed = signals::install(&interrupt)
        .map_err(|error| Failure::because(Kind::Internal, "install signal handlers", &error));
    let around = Surroundings {
        variable: &|name| std::env::var_os(name),
        is_root: rustix::process::geteuid().is_root(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        root: PathBuf::from("/"),
    };
    let ran = installed.and_then(|()| commands::run(&cli, &around, &output, &interrupt));
    // What was written before a failure is shown before the failure is.
    let flushed = output.flush();
    ExitCode::from(match ran.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit.code(),
        Err(failure) => report(&failure, output.manner()),
    })
}

fn report(failure: &Failure, manner: &Manner) -> u8 {
    if failure.kind != Kind::ReaderGone {
        complain(&failure.for_people());
        if manner.json {
            complain(&format!("{}\n", failure.for_programs()));
        }
    }
    failure.kind.exit().code()
}
