//! `cleanup`: what interrupted or partly removed backups have left goes, in the words of duplicity
//! 0.8.22.

use super::remove;
use crate::cli::arguments::{Common, decoding, folders, names};
use crate::cli::failure::goes_on_when_run_again;
use crate::cli::output::{Report, Status, status};
use crate::cli::{open, synchronize};
use clap::Args;
use dupfs::backup::{forget, unfinished};
use dupfs::codec::Codec;
use dupfs::format::Session;
use dupfs::monitor::{Level, Monitor};
use dupfs::retention::{Inventory, Step};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// Arguments of `cleanup`.
#[derive(Debug, Args)]
pub struct CleanupArgs {
    /// Where the backups are: file:///folder, sftp://user@host/folder, or a plain path
    pub url: OsString,
}

/// Finds what is of no use to anybody, says so, and removes it if forced.
pub fn run(arguments: &CleanupArgs, common: &Common) -> anyhow::Result<()> {
    goes_on_when_run_again();
    let report = Arc::new(Report::new(common.verbosity, false));
    let (url, storage) = open::reach(&arguments.url, common, report.clone())?;
    let archive = open::lock(&arguments.url, common)?;
    let prefixes = names::prefixes(common);
    let cache = folders::our_cache(&url, &prefixes, None);
    let left = cache.and_then(|cache| Left::find(folders::journal(&cache, &archive)?));
    let stored = open::list_if_there(&url, storage.as_ref(), &archive.list()?, &prefixes, &report)?;
    let inventory = Inventory::new(&stored, &archive.list()?, &prefixes);
    let said = warn(&inventory, &[], &report);
    let newest = inventory
        .collection
        .chains
        .last()
        .filter(|_| common.writing.metadata_sync_mode == "partial");
    let mut plan = archive.plan(&stored, &prefixes, newest)?;
    left.iter().for_each(|left| plan.keep(left.session, &prefixes));
    // Only names count here: the next increment fetches what it needs.
    match (plan.without_copies(), common.writing.dry_run) {
        (None, _) => {}
        (Some(plan), true) => synchronize::report_plan(&plan, &report),
        (Some(plan), false) => synchronize::synchronize(
            &plan,
            &archive,
            (&storage, &Codec::new(decoding::codec_options(common)?)),
            &report,
        )?,
    }
    let inventory = Inventory::new(&stored, &archive.list()?, &prefixes);
    warn(&inventory, &said, &report);
    Status::for_reading(&inventory.collection, inventory.archived.clone())
        .print_head(Some(archive.path()), &report);
    let steps = inventory.extraneous();
    report_steps(&steps, common.force, &report);
    if common.force {
        if let Some(left) =
            left.filter(|left| is_incomplete(&inventory, left.session) && !common.writing.dry_run)
        {
            forget(&left.journal, &archive)?;
        }
        remove::delete(&steps, &storage, &archive, common, &report);
    }
    Ok(())
}

/// A session that a run of ours has left unfinished.
struct Left {
    session: Session,
    journal: PathBuf,
}

impl Left {
    fn find(journal: PathBuf) -> Option<Self> {
        Some(Self { session: unfinished(&journal)?, journal })
    }
}

/// Warns of what is left over, as far as that is not said yet; returns the warnings.
fn warn(inventory: &Inventory, said: &[(u8, String)], report: &Report) -> Vec<(u8, String)> {
    let warnings =
        Status::for_reading(&inventory.collection, inventory.archived.clone()).warnings();
    warnings
        .iter()
        .filter(|warning| !said.contains(warning))
        .for_each(|warning| status::warn(warning, report));
    warnings
}

fn is_incomplete(inventory: &Inventory, session: Session) -> bool {
    inventory.collection.incomplete.iter().any(|set| set.session == session)
}

/// Says what is of no use, and what will become of it: of each set volumes first, as duplicity
/// does.
fn report_steps(steps: &[Step], is_forced: bool, report: &Report) {
    if steps.is_empty() {
        return report
            .message(Level::Warning, "No extraneous files found, nothing deleted in cleanup.");
    }
    let names_of = |step: &Step| {
        let mut told = BTreeSet::new();
        let mut names: Vec<String> = step.deletions.iter().map(|file| file.name.clone()).collect();
        // What is here and there is told once.
        names.retain(|name| told.insert(name.clone()));
        names.reverse();
        names
    };
    let names: Vec<String> = steps.iter().flat_map(names_of).collect();
    let (these, following) =
        if names.len() == 1 { ("this file", "file") } else { ("these files", "files") };
    let names = names.join("\n");
    report.notice(&match is_forced {
        true => format!("Deleting {these} from backend:\n{names}"),
        false => format!(
            "Found the following {following} to delete:\n{names}\nRun duplicity again with the --force option to actually delete."
        ),
    });
}
