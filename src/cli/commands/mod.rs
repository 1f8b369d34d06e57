//! The commands: one file for each, with its arguments and its run function.

mod backup;
mod changes;
mod cleanup;
mod list;
mod manual;
#[cfg(feature = "mount")]
mod mount;
mod remove;
mod replicate;
mod restore;
mod status;
mod verify;

use super::arguments::Common;
use clap::Subcommand;
use dupfs::backup::Wanted;
use dupfs::retention::Part;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount all backups as read-only folders, one for each backup time
    ///
    /// Goes to the background once the mount answers. `fusermount3 -u DIR` or `umount DIR` ends it.
    #[cfg(feature = "mount")]
    Mount(mount::MountArgs),
    /// Back up a folder or file: what has changed since the backup before, or everything if there
    /// is none
    #[command(visible_alias = "bu")]
    Backup(backup::BackupArgs),
    /// Back up everything
    #[command(visible_alias = "fb")]
    Full(backup::BackupArgs),
    /// Back up what has changed since the backup before
    #[command(visible_alias = "inc", aliases = ["ib", "incr"])]
    Incremental(backup::BackupArgs),
    /// Restore a backup, or one file or folder of it, into a folder
    ///
    /// If something could not be delivered whole, ends with the exit code of the damage, or 90;
    /// what is there is right.
    Restore(restore::RestoreArgs),
    /// Read a backup as a restore does, and name what is damaged; with --compare-data also what
    /// differs from a folder
    ///
    /// Writes nothing. Ends with exit code 1 if something differs, and with that of the damage if
    /// something is damaged.
    #[command(visible_alias = "vb")]
    Verify(verify::VerifyArgs),
    /// List the files of a backup, each with its modification time
    #[command(alias = "ls")]
    ListCurrentFiles(list::ListArgs),
    /// Show which backups the collection holds
    #[command(alias = "st")]
    CollectionStatus(status::StatusArgs),
    /// Remove backup chains that end before a time; without --force, only list them
    ///
    /// A chain is a full backup and the increments after it. One of which anything is younger stays
    /// whole, and so does the newest, always.
    #[command(alias = "ro")]
    RemoveOlderThan(remove::OlderThanArgs),
    /// Remove all backup chains but the newest; without --force, only list them
    #[command(alias = "ra")]
    RemoveAllButNFull(remove::CountArgs),
    /// Remove the increments of all backup chains but the newest, and keep their full backups;
    /// without --force, only list the chains
    #[command(alias = "ri")]
    RemoveAllIncOfButNFull(remove::CountArgs),
    /// Delete what interrupted backups have left; without --force, only list it
    ///
    /// A backup that could still be gone on with is among it, and one that another machine is
    /// making. Backups that can be restored stay, and files that are not duplicity's.
    #[command(alias = "cl")]
    Cleanup(cleanup::CleanupArgs),
    /// Store the backups of one storage in another one, too, as far as it lacks them; with --time,
    /// only those before that time
    ///
    /// Files that are encrypted as is asked for are copied as they are, others are encrypted anew.
    /// What is damaged is left out, and told.
    Replicate(replicate::ReplicateArgs),
    /// Print a script that completes command lines in a shell
    Completions(manual::CompletionsArgs),
    /// Print the manual page, of a command if one is named
    Man(manual::ManArgs),
}

impl Command {
    /// Runs the command. `table` is that of all commands and options, for those that describe it.
    ///
    /// # Errors
    /// Whatever the command fails by.
    pub fn run(&self, common: &Common, table: fn() -> clap::Command) -> anyhow::Result<()> {
        match self {
            #[cfg(feature = "mount")]
            Self::Mount(arguments) => mount::run(arguments, common),
            Self::Backup(arguments) => backup::run(arguments, common, Wanted::Either),
            Self::Full(arguments) => backup::run(arguments, common, Wanted::Full),
            Self::Incremental(arguments) => backup::run(arguments, common, Wanted::Increment),
            Self::Restore(arguments) => restore::run(arguments, common),
            Self::Verify(arguments) => verify::run(arguments, common),
            Self::ListCurrentFiles(arguments) => list::run(arguments, common),
            Self::CollectionStatus(arguments) => status::run(arguments, common),
            Self::RemoveOlderThan(arguments) => remove::older_than(arguments, common),
            Self::RemoveAllButNFull(arguments) => remove::all_but(arguments, common, Part::Chain),
            Self::RemoveAllIncOfButNFull(arguments) => {
                remove::all_but(arguments, common, Part::Increments)
            }
            Self::Cleanup(arguments) => cleanup::run(arguments, common),
            Self::Replicate(arguments) => replicate::run(arguments, common),
            Self::Completions(arguments) => manual::completions(arguments, table()),
            Self::Man(arguments) => manual::man(arguments, table()),
        }
    }

    /// Returns whether the command makes a backup.
    pub fn is_backup(&self) -> bool {
        matches!(self, Self::Backup(_) | Self::Full(_) | Self::Incremental(_))
    }

    /// Returns whether the command writes sets, which may be signed.
    pub fn signs(&self) -> bool {
        self.is_backup() || matches!(self, Self::Replicate(_))
    }

    /// Returns whether the command catches signals itself.
    pub fn is_mount(&self) -> bool {
        #[cfg(feature = "mount")]
        return matches!(self, Self::Mount(_));
        #[cfg(not(feature = "mount"))]
        return false;
    }

    /// Returns whether the whole stdout of the command is data.
    pub fn prints_data(&self) -> bool {
        match self {
            Self::ListCurrentFiles(arguments) => arguments.json,
            Self::CollectionStatus(arguments) => arguments.json,
            Self::Completions(_) | Self::Man(_) => true,
            _ => false,
        }
    }
}
