//! `restore`: a snapshot, or a part of it, into a directory.

use crate::cli::arguments::folders::expand;
use crate::cli::arguments::values::entry_path;
use crate::cli::arguments::{Common, selection};
use crate::cli::failure::{self, Failure, keep_interrupts};
use crate::cli::open;
use crate::cli::output::Report;
use clap::Args;
use dupfs::model::EntryPath;
use dupfs::monitor::{Level, Monitor};
use dupfs::restore::{RestoreOptions, check_free, dry_run, restore};
use dupfs::source::{self, Base, Selection};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Where the backups are: file:///folder, sftp://user@host/folder, or a plain path
    pub url: OsString,
    /// The folder to restore into, or the file to restore as
    pub target: PathBuf,
}

/// Restores, and fails if not everything could be delivered.
pub fn run(arguments: &RestoreArgs, common: &Common) -> anyhow::Result<()> {
    let report = Arc::new(Report::new(common.verbosity, true));
    let options = options(common, report.as_ref())?;
    if options.ignore_errors {
        let text = "Running in 'ignore errors' mode due to --ignore-errors; please re-consider if this was not intended";
        report.message(Level::Warning, text);
    }
    let target = expand(&arguments.target);
    if !options.force {
        check_free(&target)?;
    }
    let opened = open::open(&arguments.url, common, report.clone())?;
    opened.print_head();
    let snapshot = opened.snapshot_with_manifests(common)?;
    if common.writing.dry_run {
        report.required(&dry_run(&opened.backups.sets, &snapshot, &target, &options)?);
        return Ok(());
    }
    opened.backups.check_keys(&snapshot)?;
    let accounts = common.accounts();
    keep_interrupts();
    let result =
        restore(&opened.backups.sets, &snapshot, &target, &accounts, report.as_ref(), &options);
    report.finish();
    let summary = result?;
    let total = summary.delivered + summary.failed + summary.ignored;
    if summary.ignored > 0 {
        let text = format!(
            "{} of {total} entries could not be restored, which --ignore-errors ignores",
            summary.ignored
        );
        report.message(Level::Warning, &text);
    }
    match summary.failed {
        0 => Ok(()),
        failed => Err(Failure::Incomplete { failed, total, cause: summary.cause }.into()),
    }
}

/// Turns what was typed into what the library takes.
fn options(common: &Common, monitor: &dyn Monitor) -> anyhow::Result<RestoreOptions> {
    let path = common.path_to_restore.as_ref().map_or(Ok(EntryPath::root()), entry_path)?;
    Ok(RestoreOptions {
        path,
        force: common.force,
        keep_own_ownership: common.no_restore_ownership,
        selection: selected(common, monitor)?,
        renames: common.reading.renames()?,
        ignore_errors: common.reading.ignore_errors,
        writes_zeros: common.reading.no_sparse,
    })
}

/// Returns what selects among the paths of a backup, as they are listed, as in 3.2.1; beside
/// `--path-to-restore`, which 3.2.1 refuses, among those below it.
///
/// What 3.2.1 refuses stands in scripts and profiles that give all actions the same options: 0.8.22
/// ignores all of them and restores everything, and so do we, with a warning. Only where files
/// could be written over that were to be spared it is an error.
fn selected(common: &Common, monitor: &dyn Monitor) -> anyhow::Result<Option<Arc<Selection>>> {
    let error = match selection::compile(&common.writing, Base::Archive, common.now(), monitor) {
        Ok(selection) => return Ok(selection),
        Err(error) => error,
    };
    let reason = match failure::of_source(&error) {
        _ if common.force => return Err(error),
        Some(source::Error::ArchivePattern(pattern)) => {
            format!("'{pattern}' is no path in a backup")
        }
        Some(source::Error::NotForRestore(option)) if *option != "--files-from" => {
            format!("{option} needs the files that were saved")
        }
        _ => return Err(error),
    };
    let text = format!(
        "Command line warning: Selection options --exclude/--include are ignored: {reason}"
    );
    monitor.message(Level::Warning, &text);
    Ok(None)
}
