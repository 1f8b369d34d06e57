//! `dupfs`: parses, runs, turns the result into an exit code.

#[path = "cli/args.rs"]
mod args;
#[path = "cli/exit.rs"]
mod exit;
#[path = "cli/list.rs"]
mod list;
#[cfg(feature = "mount")]
#[path = "cli/mount.rs"]
mod mount;
#[path = "cli/open.rs"]
mod open;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/restore.rs"]
mod restore;
#[path = "cli/status.rs"]
mod status;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
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
