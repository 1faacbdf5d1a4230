//! `mailark man`: the manual pages, made from the help texts.

use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man;

use crate::cli::args;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::Output;

/// Write the manual pages: all of them into DIR, or the main one to standard output.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write all pages into
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Writes the pages.
pub fn run(args: &ManArgs, output: &Output) -> Result<Exit, Failure> {
    let mut definition = args::definition();
    definition.build();
    match &args.dir {
        None => output.raw(&page(&definition)?)?,
        Some(folder) => {
            let trouble =
                |error| Failure::because(Kind::Storage, &format!("make folder {}", folder.display()), &error);
            std::fs::create_dir_all(folder).map_err(trouble)?;
            write_pages(&definition, "mailark", folder)?;
        }
    }
    Ok(Exit::Ok)
}

fn write_pages(command: &clap::Command, name: &str, folder: &Path) -> Result<(), Failure> {
    let path = folder.join(format!("{name}.1"));
    let trouble = |error| Failure::because(Kind::Storage, &format!("write {}", path.display()), &error);
    std::fs::write(&path, page(command)?).map_err(trouble)?;
    let mut subcommands = command.get_subcommands();
    subcommands.try_for_each(|below| write_pages(below, &format!("{name}-{}", below.get_name()), folder))
}

fn page(command: &clap::Command) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let rendered = Man::new(command.clone()).render(&mut text);
    rendered.map_err(|error| Failure::because(Kind::Internal, "render a manual page", &error))?;
    Ok(text)
}
