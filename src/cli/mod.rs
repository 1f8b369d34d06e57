//! The program: one command a file, options in, library call, words out; and what the commands share.

mod args;
mod exit;
mod list;
#[cfg(feature = "mount")]
mod mount;
mod open;
mod report;
mod restore;
mod status;

use clap::Parser;
use std::process::ExitCode;

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = args::Cli::parse_from(args::prepare(std::env::args_os().collect()));
    let result = match &cli.command {
        #[cfg(feature = "mount")]
        args::Command::Mount(arguments) => mount::run(arguments, &cli.common),
        args::Command::Restore(arguments) => restore::run(arguments, &cli.common),
        args::Command::ListCurrentFiles(arguments) => list::run(arguments, &cli.common),
        args::Command::CollectionStatus(arguments) => status::run(arguments, &cli.common),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closes our output has read enough.
        Err(error) if report::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(exit::code(&error))
        }
    }
}
