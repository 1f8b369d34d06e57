//! [`Cli`]: the whole command line, parsed: a command with its arguments, and what every command
//! takes.

use super::arguments::grammar::{Line, Options};
use super::arguments::mount_line::prepare;
use super::arguments::{Common, option_table, selection};
use super::commands::Command;
use super::failure::{Failure, HELP};
use super::output::log;
use clap::{CommandFactory, FromArgMatches, Parser};
use dupfs::monitor::Level;
use std::ffi::OsString;

/// Shows every backup that duplicity ever made as a folder, restores from it, and makes new ones
#[derive(Debug, Parser)]
#[command(name = "dupfs", version, args_override_self = true)]
#[command(after_help = HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// Parses a command line, also as mount(8) and mount.fuse3 call us, and begins the machine log. For
/// help and version the process ends.
///
/// # Errors
/// [`Failure`] if it makes no sense, or asks for what is not done yet, or the log cannot be
/// written.
pub fn parse(arguments: Vec<OsString>) -> Result<Cli, Failure> {
    let cli = parse_once(prepare(arguments.clone(), false))?;
    match &cli.command {
        // Now it is known that this is `mount`, wherever the word stands and however it is cut.
        #[cfg(feature = "mount")]
        Command::Mount(mount) if !mount.options.is_empty() => parse_once(prepare(arguments, true)),
        _ => Ok(cli),
    }
}

/// Returns the table of all commands and options; the help of each command ends with the exit
/// codes.
pub fn command() -> clap::Command {
    Cli::command()
        .args(option_table::arguments())
        .mut_subcommands(|command| command.after_help(HELP))
}

fn parse_once(arguments: Vec<OsString>) -> Result<Cli, Failure> {
    let table = command();
    let mut line = Line::default();
    let read = line.read(arguments, &Options::new(&table));
    log::open(line.value("log-fd"), line.value("log-file"))?;
    read?;
    let arranged = line.arranged(&table)?;
    let matches =
        table.try_get_matches_from(arranged).map_err(|error| match error.use_stderr() {
            true => Failure::Usage(error.render().to_string().trim_end().to_string()),
            false => error.exit(),
        })?;
    let mut cli =
        Cli::from_arg_matches(&matches).map_err(|error| Failure::Usage(error.to_string()))?;
    cli.common.writing.selection = selection::in_order(&matches);
    cli.common.remarks = line.warnings.into_iter().map(|text| (Level::Warning, text)).collect();
    cli.common.remarks.extend(option_table::remarks(&matches)?);
    cli.common.notice = line.notice;
    Ok(cli)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn selection_options_keep_their_order_around_the_command_word() {
        for (typed, expected) in [
            ("dupfs --include a full --exclude b s u", "include a, exclude b"),
            (
                "dupfs --exclude=a -v5 --no-encryption --gpg-options --x -t 3D incr --include b --exclude c s u",
                "exclude a, include b, exclude c",
            ),
            (
                "dupfs --exclude-dev --excl-file x bac s u",
                "exclude_device_files , exclude_filelist x",
            ),
            (
                "dupfs full s --exclude a u --include b --exclude ** ",
                "exclude a, include b, exclude **",
            ),
        ] {
            let typed = typed.replace("--excl-file", "--exclude-filelist");
            let cli =
                parse_once(prepare(typed.trim_end().split(' ').map(Into::into).collect(), false))
                    .unwrap();
            let selection = cli
                .common
                .writing
                .selection
                .iter()
                .map(|(name, value)| format!("{name} {}", value.display()));
            assert_eq!(selection.collect::<Vec<_>>().join(", "), expected, "{typed}");
        }
    }

    #[test]
    fn the_table_of_options_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn options_stand_anywhere_in_any_spelling() {
        let typed = "dupfs --restore-time 3D restore --gpg-options --x -v9 /b --file-to-restore a /t --arch d";
        let cli = parse_once(typed.split(' ').map(Into::into).collect()).unwrap();
        assert_eq!(cli.common.time.as_deref(), Some("3D"));
        assert_eq!(cli.common.gpg_options, ["--x"]);
        assert_eq!(cli.common.verbosity, 9);
        assert_eq!(cli.common.path_to_restore.unwrap(), "a");
        assert_eq!(cli.common.archive_dir.unwrap(), PathBuf::from("d"));
    }
}
