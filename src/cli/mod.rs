//! The program: one command a file, options in, library call, words out; and what the commands share.

mod args;
mod backup;
mod cleanup;
mod exit;
mod list;
#[cfg(feature = "mount")]
mod mount;
mod open;
mod progress;
mod remove;
mod report;
mod restore;
mod statistics;
mod status;

use dupfs::retention::Part;
use std::process::ExitCode;

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = args::parse(std::env::args_os().collect());
    let is_backup = matches!(cli.command, args::Command::Backup(_) | args::Command::Full(_) | args::Command::Incremental(_));
    bound_memory(is_backup);
    let result = open::take_passphrases().and_then(|()| match &cli.command {
        #[cfg(feature = "mount")]
        args::Command::Mount(arguments) => mount::run(arguments, &cli.common),
        args::Command::Backup(arguments) => backup::run(arguments, &cli.common, backup::Action::Implied),
        args::Command::Full(arguments) => backup::run(arguments, &cli.common, backup::Action::Full),
        args::Command::Incremental(arguments) => backup::run(arguments, &cli.common, backup::Action::Incremental),
        args::Command::Restore(arguments) => restore::run(arguments, &cli.common),
        args::Command::ListCurrentFiles(arguments) => list::run(arguments, &cli.common),
        args::Command::CollectionStatus(arguments) => status::run(arguments, &cli.common),
        args::Command::RemoveOlderThan(arguments) => remove::older_than(arguments, &cli.common),
        args::Command::RemoveAllButNFull(arguments) => remove::all_but(arguments, &cli.common, Part::Chain),
        args::Command::RemoveAllIncOfButNFull(arguments) => remove::all_but(arguments, &cli.common, Part::Increments),
        args::Command::Cleanup(arguments) => cleanup::run(arguments, &cli.common),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closes our output has read enough.
        Err(error) if report::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", report::words(&error));
            ExitCode::from(exit::code(&error))
        }
    }
}

/// Keeps the allocator from holding memory back for each thread, and from keeping large blocks that were given
/// back. Measured: a restore of 83,000 files takes 43 MiB instead of 280. A backup takes and gives back the same few blocks of
/// 1 MiB all the time, so it keeps those: that saves a tenth of its processor time.
fn bound_memory(is_backup: bool) {
    let (kept, returned) = if is_backup { (4 << 20, 32 << 20) } else { (256 << 10, 128 << 10) };
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers, and no other thread is running yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, kept);
        libc::mallopt(libc::M_TRIM_THRESHOLD, returned);
    }
}
