//! From what was typed to a mount, and what its server does beside answering.

use super::background::Ready;
use super::touched_paths::TouchedPaths;
use super::tree::Served;
use crate::cli::arguments::Common;
use crate::cli::arguments::values::{parse_duration, parse_owner};
use crate::cli::failure::Failure;
use crate::cli::open::{self, Opened};
use crate::cli::output::Report;
use clap::Args;
use dupfs::codec;
use dupfs::collection::scan;
use dupfs::contents::Contents;
use dupfs::format::Encoding;
use dupfs::history::{HistoryTree, TimeTemplate};
use dupfs::monitor::{Level, Monitor};
use dupfs::storage::{Listed, Url};
use dupfs_mount::Options;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Arguments of `mount`.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// Where the backups are: file:///folder, sftp://user@host/folder, or a plain path
    pub url: OsString,
    /// An empty folder
    pub directory: PathBuf,
    /// Stay in the foreground and log to the terminal
    #[arg(long)]
    pub foreground: bool,
    /// Let other users in, with the permissions that the backup gives them
    #[arg(long)]
    pub allow_other: bool,
    /// Forbid to run programs from the mount
    #[arg(long, alias = "no-exec")]
    pub noexec: bool,
    /// Show everything as owned by this user and group number
    #[arg(long, value_name = "UID:GID", value_parser = parse_owner)]
    pub owner: Option<(u32, u32)>,
    /// Name the folders by strftime fields, in local time, instead of 2026-11-28T03.27.43+0100; or
    /// rfc3339: with colons, as programs expect dates
    #[arg(long, value_name = "FIELDS")]
    pub time_template: Option<String>,
    /// Look for new backups this often, such as 60s or 5m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub refresh: std::time::Duration,
    /// Memory for decoded blocks, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    pub cache_size: usize,
    /// Options as mount(8) passes them, separated by commas; each of the above too
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
}

/// Volumes whose session keys are derived before somebody needs them: what the reader keeps open.
const PREPARED_VOLUMES: usize = 32;

/// How long the mount may wait for a look at the keys of all chains.
const LOOK: Duration = Duration::from_secs(2);

/// Address space for the work beside the cache: eight volumes that are decrypted and decoded at
/// once. Measured: with less, the end of memory comes under the first readers instead of before the
/// mount.
const WORK_MEMORY: usize = 32 << 20;

/// Seconds until a request ends in an error: the first look into a large volume far away takes a
/// while.
const TIMEOUT: u64 = 300;

/// Refuses the options that would choose what is shown, or how: a mount shows all backups as they
/// are. Options that say how backups are reached, and those of making backups, which a list of
/// options for all actions may hold, are no harm.
fn refuse_ignored(common: &Common) -> Result<(), Failure> {
    const ALL: &str = "a mount shows every backup, each in a folder of its own";
    const WHOLE: &str = "a mount shows the whole of every backup";
    let (reading, writing) = (&common.reading, &common.writing);
    let given = [
        (common.time.is_some(), "--time", ALL),
        (common.path_to_restore.is_some(), "--path-to-restore", WHOLE),
        (!writing.selection.is_empty(), "options that include, exclude or filter", WHOLE),
        (!reading.renames()?.is_empty(), "--rename", WHOLE),
        (
            common.no_restore_ownership,
            "--no-restore-ownership",
            "--owner and --numeric-owner choose the owners that a mount shows",
        ),
        (common.force, "--force", "a mount takes an empty folder, and changes nothing"),
        (writing.dry_run, "--dry-run", "a mount changes nothing anyhow"),
        (
            reading.ignore_errors,
            "--ignore-errors",
            "a mount shows all that is sound, and nothing damaged",
        ),
        (reading.compare_data, "--compare-data", "verify does that"),
        (reading.against_signatures, "--against-signatures", "verify does that"),
        (reading.file_changed.is_some(), "--file-changed", "collection-status does that"),
        (
            reading.show_changes_in_set.is_some(),
            "--show-changes-in-set",
            "collection-status does that",
        ),
    ];
    match given.iter().find(|(is_given, ..)| *is_given) {
        Some((_, option, why)) => {
            Err(Failure::CommandLine(format!("mount does not take {option}: {why}")))
        }
        None => Ok(()),
    }
}

/// Mounts, and serves until it is unmounted.
pub fn run(arguments: &MountArgs, common: &Common) -> anyhow::Result<()> {
    refuse_ignored(common)?;
    let template = match &arguments.time_template {
        Some(text) => {
            TimeTemplate::parse(text).map_err(|error| Failure::CommandLine(error.to_string()))?
        }
        None => TimeTemplate::default(),
    };
    // Before the first thread is started: a fork keeps only the thread that calls it.
    let ready = match arguments.foreground {
        true => None,
        false => Some(Ready::fork()?),
    };
    let report = Arc::new(Report::new(common.verbosity, false));
    let touched = TouchedPaths::new(&Url::parse(&arguments.url)?, &arguments.url, common);
    touched.check(&arguments.directory)?;
    let opened = open::open(&arguments.url, common, report.clone())?;
    opened.report_unusable();
    if opened.backups.collection.chains.is_empty() {
        return Err(Failure::NoBackups(opened.url.to_string()).into());
    }
    // They get no folder. A passphrase is asked for while there is a terminal.
    let locked = opened.backups.locked_chains(LOOK)?;
    let contents = Arc::new(Contents::new(
        opened.backups.sets.clone(),
        opened.backups.codec.clone(),
        arguments.cache_size << 20,
    ));
    let tree =
        Arc::new(HistoryTree::new(contents.clone(), common.accounts(), arguments.owner, template));
    close(locked, &opened, &tree);
    let log = report.clone();
    let options = Options {
        name: opened.url.to_string(),
        allow_other: arguments.allow_other,
        no_exec: arguments.noexec,
        timeout: Duration::from_secs(common.timeout.unwrap_or(TIMEOUT).max(1)),
        memory: arguments.cache_size.saturating_mul(1 << 20).saturating_add(WORK_MEMORY),
        log: Arc::new(move |text| log.message(Level::Warning, text)),
    };
    let served = Served {
        tree: tree.clone(),
        refresh: arguments.refresh,
        catalog_bytes: opened.backups.stored_bytes(),
    };
    let caught = dupfs_mount::Caught::new()?;
    let mount = dupfs_mount::mount(served, &arguments.directory, &options)?;
    caught.unmount(&mount)?;
    if let Some(ready) = ready {
        report.go_to_background();
        ready.announce(touched.need_current_directory())?;
    }
    let refresh = arguments.refresh;
    std::thread::Builder::new().name("refresh".into()).spawn(move || {
        prepare(&opened, &tree, &contents);
        watch(&opened, &tree, refresh)
    })?;
    Ok(mount.wait()?)
}

/// Takes the folders from chains that do not open, and names each once.
fn close(locked: Vec<(usize, codec::Error)>, opened: &Opened, tree: &HistoryTree) {
    let chains = opened.backups.sets.catalog().chains();
    for (index, error) in locked {
        let Some(chain) = chains.get(index) else { continue };
        let times: Vec<String> = chain.sets.iter().map(|set| set.end().to_string()).collect();
        let newest =
            if index + 1 == chains.len() { ", and 'latest' is an older backup" } else { "" };
        let text = format!(
            "cannot show the backups of {}: {error}{newest}; --passphrase-file gives several passphrases",
            times.join(", ")
        );
        opened.backups.sets.log_once(Level::Error, text);
        tree.close(chain);
    }
}

/// Fills the catalog, as far as backups can be read.
fn fill(opened: &Opened, tree: &HistoryTree) {
    if let Err(error) = tree.fill() {
        opened.backups.sets.log_once(Level::Error, format!("cannot fill the catalog: {error}"));
    }
}

/// Fills the catalog, then derives the session keys of the newest volumes that are known already, so
/// that the first reads need not. Those read nothing: a mount of what is known is quiet.
fn prepare(opened: &Opened, tree: &HistoryTree, contents: &Contents) {
    fill(opened, tree);
    let Some(chain) = opened.backups.sets.catalog().chains().pop() else { return };
    let sets = chain.sets.iter().enumerate().rev();
    let volumes = sets.flat_map(|(position, set)| {
        let encrypted =
            set.volumes.iter().filter(|(_, volume)| volume.encoding == Encoding::OpenPgp);
        encrypted.map(move |(number, _)| (position as u32, *number))
    });
    let sets = &opened.backups.sets;
    let is_known =
        |volume: &(u32, u32)| sets.is_volume_filled(&chain, volume.0, volume.1).unwrap_or(false);
    let volumes: Vec<_> = volumes.take(PREPARED_VOLUMES).filter(is_known).collect();
    sets.unlock_known(&chain, &volumes);
    for (position, number) in volumes {
        // What is wrong with it is for whoever reads it to hear of.
        if let Ok(source) = sets.volume(&chain, position, number) {
            let _ = contents.volumes().prepare(&source);
        }
    }
}

/// Looks for new and removed backups for as long as the process lives. A storage that holds none any
/// more is taken to be away, since a folder where nothing is mounted is empty, too.
fn watch(opened: &Opened, tree: &HistoryTree, refresh: Duration) {
    let mut known: Option<Vec<Listed>> = None;
    let mut incomplete = Vec::new();
    loop {
        std::thread::sleep(refresh);
        match opened.backups.storage.list() {
            Ok(mut listing) => {
                listing.sort_by(|a, b| a.name.cmp(&b.name));
                if known.as_ref() != Some(&listing) {
                    let collection = scan(&listing, &opened.prefixes);
                    if collection.chains.is_empty() {
                        let text = "the storage holds no backups any more, as if it were not mounted; the mount keeps those that it has shown";
                        opened.backups.sets.log_once(Level::Warning, text.into());
                        continue;
                    }
                    match tree.refresh(&collection) {
                        Ok(()) => {
                            known = Some(listing);
                            // What grows is being made just now.
                            opened.report_unusable_in(&collection, |set| incomplete.contains(set));
                            incomplete = collection.incomplete;
                        }
                        Err(error) => opened
                            .report
                            .message(Level::Warning, &format!("cannot show new backups: {error}")),
                    }
                }
            }
            Err(error) => opened
                .backups
                .sets
                .log_once(Level::Warning, format!("cannot look for new backups: {error}")),
        }
        fill(opened, tree);
    }
}
