//! What restoring, verifying and looking at a collection take beyond what every command does.

use super::values::entry_path;
use crate::cli::failure::Failure;
use clap::Args;
use dupfs::model::EntryPath;
use std::ffi::OsString;

/// Options of reading actions.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of restore, verify and collection-status")]
pub struct Reading {
    /// Compare with the local files, too, when verifying: type, rights, owner, time and content
    #[arg(long, global = true)]
    pub compare_data: bool,
    /// Compare every file with the signature that was taken when it was saved, too, when verifying
    #[arg(long, global = true)]
    pub against_signatures: bool,
    /// Restore the path OLD, and what is below it, as NEW; both relative to what is restored
    #[arg(long, global = true, num_args = 2, value_names = ["OLD", "NEW"], action = clap::ArgAction::Append)]
    rename: Vec<OsString>,
    /// Restore although volumes are damaged or metadata cannot be set; what lacks for that is
    /// named, and ends with exit code 0
    ///
    /// No damaged content is written even so. What lacks for another reason still ends with 90, and
    /// `verify` ignores no damage.
    #[arg(long, global = true)]
    pub ignore_errors: bool,
    /// Write runs of zeros when restoring, too, instead of leaving them as holes that take no room
    /// on the disk
    #[arg(long, global = true)]
    pub no_sparse: bool,
    /// Show which sets of the newest chain changed this file
    #[arg(long, global = true, value_name = "PATH")]
    pub file_changed: Option<OsString>,
    /// Show which files a set of the newest chain changed: 0 is the newest, 1 the one before, -1
    /// the oldest
    #[arg(long, global = true, value_name = "NUMBER", allow_negative_numbers = true)]
    pub show_changes_in_set: Option<i64>,
}

impl Reading {
    /// Returns the renames as paths, with slashes at both ends forgiven.
    ///
    /// # Errors
    /// [`Failure::CommandLine`] for what is no path below the root of a backup.
    pub fn renames(&self) -> Result<Vec<(EntryPath, EntryPath)>, Failure> {
        let pairs = self.rename.chunks_exact(2);
        pairs.map(|pair| Ok((entry_path(&pair[0])?, entry_path(&pair[1])?))).collect()
    }
}
