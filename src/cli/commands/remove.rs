//! `remove-older-than`, `remove-all-but-n-full`, `remove-all-inc-of-but-n-full`: old chains go, in
//! the words of duplicity 0.8.22.

use crate::cli::arguments::values::time;
use crate::cli::arguments::{Common, names};
use crate::cli::failure::{Failure, goes_on_when_run_again};
use crate::cli::open;
use crate::cli::output::{Report, Status};
use clap::Args;
use dupfs::collection::ArchiveDirectory;
use dupfs::model::BackupTime;
use dupfs::monitor::{Level, Monitor};
use dupfs::retention::{self, Inventory, Outdated, Part, Step, time_of_full};
use dupfs::storage::Storage;
use std::ffi::OsString;
use std::sync::Arc;

/// Arguments of `remove-older-than`.
#[derive(Debug, Args)]
pub struct OlderThanArgs {
    /// Chains that end before this go: a date, a time in RFC 3339, or so long ago (6M, 30D)
    #[arg(value_name = "TIME")]
    pub before: String,
    /// Where the backups are: file:///folder, sftp://user@host/folder, or a plain path
    pub url: OsString,
}

/// Arguments of `remove-all-but-n-full` and `remove-all-inc-of-but-n-full`.
#[derive(Debug, Args)]
pub struct CountArgs {
    /// So many of the newest chains stay as they are
    pub count: String,
    /// Where the backups are: file:///folder, sftp://user@host/folder, or a plain path
    pub url: OsString,
}

/// Removes chains that end before a time.
pub fn older_than(arguments: &OlderThanArgs, common: &Common) -> anyhow::Result<()> {
    let before = time(&arguments.before, common.now())?;
    run(&arguments.url, common, Part::Chain, |_| Some(before))
}

/// Removes all chains but the newest, or all their increments.
pub fn all_but(arguments: &CountArgs, common: &Common, part: Part) -> anyhow::Result<()> {
    let action = match part {
        Part::Chain => "remove-all-but-n-full",
        Part::Increments => "remove-all-inc-of-but-n-full",
    };
    let count = match arguments.count.parse() {
        Ok(0) => Err(format!("{action} count must be > 0")),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("{action} count must be a whole number, not '{}'", arguments.count)),
    };
    let count = count.map_err(Failure::CommandLine)?;
    run(&arguments.url, common, part, |inventory| time_of_full(&inventory.collection, count))
}

/// Finds what is old, says so, and removes it if forced.
fn run(
    typed: &std::ffi::OsStr,
    common: &Common,
    part: Part,
    before: impl Fn(&Inventory) -> Option<BackupTime>,
) -> anyhow::Result<()> {
    goes_on_when_run_again();
    let report = Arc::new(Report::new(common.verbosity, false));
    let (url, storage) = open::reach(typed, common, report.clone())?;
    let archive = open::lock(typed, common)?;
    let (prefixes, archived) = (names::prefixes(common), archive.list()?);
    let stored = open::list_if_there(&url, storage.as_ref(), &archived, &prefixes, &report)?;
    let inventory = Inventory::new(&stored, &archived, &prefixes);
    let status = Status::new(&inventory.collection, inventory.archived.clone());
    status.warn(report.as_ref());
    status.print_head(Some(archive.path()), &report);
    let outdated =
        before(&inventory).map(|before| inventory.outdated(before, part)).unwrap_or_default();
    report_steps(&outdated, common.force, &report);
    if common.force {
        delete(&outdated.steps, &storage, &archive, common, &report);
    }
    Ok(())
}

/// Deletes what was planned, or only says so in a dry run; tells in the end what is still there.
pub fn delete(
    steps: &[Step],
    storage: &Arc<dyn Storage>,
    archive: &ArchiveDirectory,
    common: &Common,
    report: &Report,
) {
    if common.writing.dry_run {
        return steps
            .iter()
            .filter_map(|step| step.chain.as_ref())
            .for_each(|chain| report.event(&chain.event()));
    }
    let left = retention::delete(steps, storage.as_ref(), archive, report);
    if left > 0 {
        let text = format!(
            "{left} files that should go are still there, for the reasons above: run this again when they can be deleted"
        );
        report.message(Level::Warning, &text);
    }
}

/// Says what is old, and what will become of it.
fn report_steps(outdated: &Outdated, is_forced: bool, report: &Report) {
    if outdated.is_newest_old {
        let text = "Current active backup chain is older than specified time.  However, it will not be deleted.  \
                    To remove all your backups, manually purge the repository.";
        report.message(Level::Warning, text);
    }
    if !outdated.needed.is_empty() {
        let text = format!(
            "There are backup set(s) at time(s):\n{}\nWhich can't be deleted because newer sets depend on them.",
            lines(&outdated.needed)
        );
        report.message(Level::Warning, &text);
    }
    let times = lines(&outdated.chains);
    let (chains, sort) =
        if outdated.chains.len() == 1 { ("chain", "time") } else { ("chains", "times") };
    report.notice(&match (outdated.chains.is_empty(), is_forced) {
        (true, _) => "No old backup sets found, nothing deleted.".to_string(),
        (_, true) => format!("Deleting backup {chains} at {sort}:\n{times}"),
        (_, false) => {
            format!("Found old backup {chains} at the following {sort}:\n{times}\nRerun command with --force option to actually delete.")
        }
    });
}

fn lines(times: &[BackupTime]) -> String {
    times.iter().map(|time| time.print_asctime()).collect::<Vec<_>>().join("\n")
}
