//! The program: options in, library call, words out.
//!
//! | place | what it holds |
//! |---|---|
//! | `commands` | one file for each command: its arguments, its run function |
//! | `open` `synchronize` `traces` | what several commands do: open a collection, bring the archive directory up to date, find what this program leaves in a source |
//! | `output` | what is printed and logged |
//! | `arguments` `command_line` | what was typed, and what the library takes for it |
//! | `failure` | exit codes, hints, words |
//! | `memory` | how much memory is kept, and what happens where there is none |
//!
//! Each imports what stands below it; `command_line` alone knows the commands.

mod arguments;
mod command_line;
mod commands;
mod failure;
mod memory;
mod open;
mod output;
mod synchronize;
mod traces;

use arguments::{decoding, passphrase};
use dupfs::monitor::{Level, Monitor};
use output::Report;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program.
pub fn main() -> ExitCode {
    #[cfg(feature = "sftp")]
    if let Some(code) = dupfs::storage::answer_ssh() {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closes our output has read enough.
        Err(error) if failure::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if !failure::is_reported(&error) {
                output::fail(&error);
            }
            ExitCode::from(failure::code(&error))
        }
    }
}

/// The longest pause of a mount between tries, in seconds.
const MOUNT_RETRY_DELAY: u64 = 2;

fn run() -> anyhow::Result<()> {
    let mut cli = command_line::parse(std::env::args_os().collect())?;
    memory::bound(cli.command.is_backup());
    passphrase::read_variables(&cli.common)?;
    passphrase::take()?;
    passphrase::read_file(&cli.common)?;
    begin(&cli);
    if cli.command.is_mount() {
        // Somebody waits for each read, and reads again.
        cli.common.backend_retry_delay = cli.common.backend_retry_delay.min(MOUNT_RETRY_DELAY);
    } else {
        failure::on_interrupt();
    }
    decoding::check_sign_key(&cli.common, cli.command.signs())?;
    cli.command.run(&cli.common, command_line::command)
}

/// Reports what concerns the command line itself: how we were called, at verbosity info; an action
/// that was not named; options without effect.
fn begin(cli: &command_line::Cli) {
    let common = &cli.common;
    if common.log_timestamp {
        output::stamp_messages();
    }
    let report = Report::new(common.verbosity, false).leaving_stdout(cli.command.prints_data());
    let rule = "=".repeat(80);
    let system = rustix::system::uname();
    let system = [system.sysname(), system.nodename(), system.release(), system.machine()]
        .map(|part| part.to_string_lossy());
    for line in
        [&rule, &format!("dupfs {}", env!("CARGO_PKG_VERSION")), &typed(), &system.join(" "), &rule]
    {
        report.message(Level::Info, line);
    }
    common.notice.iter().for_each(|text| report.notice(text));
    common.remarks.iter().for_each(|(level, text)| report.message(*level, text));
}

/// Returns how we were called, without passwords.
fn typed() -> String {
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
