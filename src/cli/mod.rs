//! The program: one command a file, options in, library call, words out; and what the commands
//! share.

mod advice;
mod args;
mod backup;
mod causes;
mod changes;
mod cleanup;
mod command;
mod encoding;
mod exit;
mod list;
mod log;
mod manual;
mod memory;
#[cfg(feature = "mount")]
mod mount;
mod open;
mod options;
mod passphrase;
mod progress;
mod remove;
mod replicate;
mod report;
mod restore;
mod restore_options;
mod statistics;
mod status;
#[cfg(feature = "mount")]
mod touched;
mod traces;
mod verify;

use dupfs::monitor::{Level, Monitor};
use dupfs::retention::Part;
use report::Report;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closes our output has read enough.
        Err(error) if report::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if !exit::is_told(&error) {
                report::fail(&error);
            }
            ExitCode::from(exit::code(&error))
        }
    }
}

/// The longest pause of a mount between tries, in seconds.
const MOUNT_RETRY_DELAY: u64 = 2;

fn run() -> anyhow::Result<()> {
    let mut cli = args::parse(std::env::args_os().collect())?;
    let is_backup = matches!(
        cli.command,
        args::Command::Backup(_) | args::Command::Full(_) | args::Command::Incremental(_)
    );
    bound_memory(is_backup);
    passphrase::take()?;
    passphrase::read_file(&cli.common)?;
    begin(&cli);
    if is_mount(&cli.command) {
        // Somebody waits for each read, and reads again.
        cli.common.backend_retry_delay = cli.common.backend_retry_delay.min(MOUNT_RETRY_DELAY);
    } else {
        exit::on_interrupt();
    }
    open::check_sign_key(
        &cli.common,
        is_backup || matches!(cli.command, args::Command::Replicate(_)),
    )?;
    match &cli.command {
        #[cfg(feature = "mount")]
        args::Command::Mount(arguments) => mount::run(arguments, &cli.common),
        args::Command::Backup(arguments) => {
            backup::run(arguments, &cli.common, backup::Action::Implied)
        }
        args::Command::Full(arguments) => backup::run(arguments, &cli.common, backup::Action::Full),
        args::Command::Incremental(arguments) => {
            backup::run(arguments, &cli.common, backup::Action::Incremental)
        }
        args::Command::Restore(arguments) => restore::run(arguments, &cli.common),
        args::Command::Verify(arguments) => verify::run(arguments, &cli.common),
        args::Command::ListCurrentFiles(arguments) => list::run(arguments, &cli.common),
        args::Command::CollectionStatus(arguments) => status::run(arguments, &cli.common),
        args::Command::RemoveOlderThan(arguments) => remove::older_than(arguments, &cli.common),
        args::Command::RemoveAllButNFull(arguments) => {
            remove::all_but(arguments, &cli.common, Part::Chain)
        }
        args::Command::RemoveAllIncOfButNFull(arguments) => {
            remove::all_but(arguments, &cli.common, Part::Increments)
        }
        args::Command::Cleanup(arguments) => cleanup::run(arguments, &cli.common),
        args::Command::Replicate(arguments) => replicate::run(arguments, &cli.common),
        args::Command::Completions(arguments) => manual::completions(arguments),
        args::Command::Man(arguments) => manual::man(arguments),
    }
}

/// Returns whether the command catches signals itself.
fn is_mount(command: &args::Command) -> bool {
    #[cfg(feature = "mount")]
    return matches!(command, args::Command::Mount(_));
    #[cfg(not(feature = "mount"))]
    return false;
}

/// Says what is to be said of the command line itself: how we were called, at verbosity info; an
/// action that was not named; options without effect.
fn begin(cli: &args::Cli) {
    let common = &cli.common;
    if common.log_timestamp {
        report::stamp_messages();
    }
    let is_data = match &cli.command {
        args::Command::ListCurrentFiles(arguments) => arguments.json,
        args::Command::CollectionStatus(arguments) => arguments.json,
        args::Command::Completions(_) | args::Command::Man(_) => true,
        _ => false,
    };
    let report = Report::new(common.verbosity, false).leaving_stdout(is_data);
    let rule = "=".repeat(80);
    let system = rustix::system::uname();
    let system = [system.sysname(), system.nodename(), system.release(), system.machine()]
        .map(|part| part.to_string_lossy());
    for line in [
        &rule,
        &format!("dupfs {}", env!("CARGO_PKG_VERSION")),
        &arguments(),
        &system.join(" "),
        &rule,
    ] {
        report.message(Level::Info, line);
    }
    common.notice.iter().for_each(|text| report.notice(text));
    common.remarks.iter().for_each(|(level, text)| report.message(*level, text));
}

/// Returns how we were called, without passwords.
fn arguments() -> String {
    let mut shown = String::from("Args:");
    let mut is_secret = false;
    for argument in std::env::args_os().map(OsString::into_encoded_bytes) {
        let argument = String::from_utf8_lossy(&argument);
        // Headers carry tokens.
        let is_named = argument.starts_with("--webdav-h");
        match (is_named, argument.split_once('=')) {
            _ if is_secret => shown += " ***",
            (true, Some((name, _))) => shown += &format!(" {name}=***"),
            _ => {
                shown +=
                    &format!(" {}", dupfs::storage::without_password(argument.as_ref().as_ref()))
            }
        }
        is_secret = is_named && !argument.contains('=');
    }
    shown
}

/// Keeps the allocator from holding memory back for each thread, and from keeping large blocks that
/// were given back. Measured: a restore of 83,000 files takes 43 MiB instead of 280. A backup takes
/// and gives back the same few blocks of 1 MiB all the time, so it keeps those: that saves a tenth
/// of its processor time.
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
