//! From what was typed to an open collection.

use super::arguments::folders::{archive_directory, our_cache, tempdir};
use super::arguments::{Common, decoding, names, passphrase};
use super::failure::Failure;
use super::output::status::oddities;
use super::output::{Report, Status, log};
use anyhow::Context;
use dupfs::codec::Codec;
use dupfs::collection::{ArchiveDirectory, BackupSet, Collection, LocalCopy, scan};
use dupfs::format::{Prefixes, StoredName};
use dupfs::monitor::{Level, Monitor};
use dupfs::opened::OpenCollection;
use dupfs::sets::Snapshot;
use dupfs::storage::{self, ErrorKind, Listed, LocalStorage, Pace, Settings, Storage, Url};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a storage holds, by names alone.
pub struct Listing {
    /// What was typed.
    pub url: Url,
    /// Its stored files.
    pub storage: Arc<dyn Storage>,
    /// Its sets and chains.
    pub collection: Collection,
    /// How its names begin.
    pub prefixes: Prefixes,
    /// duplicity's archive directory, whether it is there or not.
    pub archive: Option<PathBuf>,
}

/// A collection that is open, and how it was asked for.
pub struct Opened {
    /// What was typed.
    pub url: Url,
    /// How its names begin.
    pub prefixes: Prefixes,
    /// duplicity's archive directory, whether it is there or not.
    pub archive: Option<PathBuf>,
    /// The collection.
    pub backups: OpenCollection,
    /// Hears everything.
    pub report: Arc<Report>,
}

/// Finds the storage behind a URL; nothing is asked of it yet.
pub fn reach(
    typed: &OsStr,
    common: &Common,
    report: Arc<Report>,
) -> anyhow::Result<(Url, Arc<dyn Storage>)> {
    let url = Url::parse(typed)?;
    let storage = storage::open(&url, settings(common, report)?)?;
    Ok((url, storage))
}

/// Returns what the command line says about storages.
fn settings(common: &Common, report: Arc<Report>) -> anyhow::Result<Settings> {
    let (default, remote) = (Settings::default(), &common.remote);
    Ok(Settings {
        transfers: Some(common.writing.concurrency).filter(|count| *count > 0),
        timeout: common
            .timeout
            .map_or(default.timeout, |seconds| Duration::from_secs(seconds.max(1))),
        upload: remote.max_upload_rate.map_or_else(Pace::default, Pace::new),
        download: remote.max_download_rate.map_or_else(Pace::default, Pace::new),
        tries: common.num_retries,
        delay: Duration::from_secs(common.backend_retry_delay),
        slower: common.writing.storage_delay.map(Duration::from_millis),
        monitor: report,
        tempdir: tempdir(common)?,
        environment: passphrase::environment(),
        ask: passphrase::of_storage(),
        par2: remote.par2(),
        ssh_options: remote.ssh_options(),
        rsync_options: remote.rsync_options(),
        ssh_askpass: remote.ssh_askpass,
        askpass: std::env::current_exe().ok(),
        is_ftp_active: remote.ftp_regular,
        tls: remote.tls(),
        webdav_headers: remote.webdav_headers.clone(),
        s3: remote.s3.settings(),
        azure: remote.azure.settings(),
        swift_policy: remote.swift_storage_policy.clone(),
        ..default
    })
}

/// Lists a storage for an action that reads no backup. Where nothing is yet, there are no backups
/// either: what runs before the first one, a clean-up say, has nothing to do, and does not fail.
/// duplicity makes the folder then; we only say that it is missing. A plain path, which duplicity
/// does not take, has to be there: it may be a URL whose `file://` was forgotten, or a mistake.
///
/// # Errors
/// [`storage::Error`] also for a missing folder, if the archive directory, of which this is the
/// listing, knows backups in it: its disk is not mounted, and what is known must not be taken for
/// outdated.
pub fn list_if_there(
    url: &Url,
    storage: &dyn Storage,
    archived: &[Listed],
    prefixes: &Prefixes,
    report: &Report,
) -> Result<Vec<Listed>, storage::Error> {
    let is_known = || archived.iter().any(|file| StoredName::parse(&file.name, prefixes).is_some());
    let is_missing = || {
        // Far away, what the server has said counts.
        url.local_directory().is_none_or(|directory| {
            std::fs::symlink_metadata(directory)
                .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        })
    };
    storage.list().or_else(|error| {
        let can_be_made = error.kind == ErrorKind::NotFound && error.operation == "list";
        if !can_be_made || !is_missing() || is_known() {
            return Err(error);
        }
        if !Url::has_scheme(url.typed()) {
            let cause = "there is no such folder; only a URL, such as file:///folder, may name one that is not there yet";
            return Err(storage::Error {
                operation: "use",
                place: url.to_string(),
                kind: ErrorKind::BadUrl,
                cause: cause.into(),
            });
        }
        report.message(Level::Warning, &format!("{error}; this counts as empty, since no backup in it is known here"));
        Ok(Vec::new())
    })
}

/// Lists a storage. Needs no key, and writes nothing.
pub fn find(typed: &OsStr, common: &Common, report: Arc<Report>) -> anyhow::Result<Listing> {
    let (url, storage) = reach(typed, common, report)?;
    let prefixes = names::prefixes(common);
    let collection = scan(&storage.list()?, &prefixes);
    Ok(Listing { url, storage, collection, prefixes, archive: archive_directory(typed, common) })
}

/// Locks duplicity's archive directory of a collection.
pub fn lock(typed: &OsStr, common: &Common) -> anyhow::Result<ArchiveDirectory> {
    let path = archive_directory(typed, common);
    let path =
        path.context("cannot tell where the archive directory is: set HOME or --archive-dir")?;
    Ok(ArchiveDirectory::lock(&path)?)
}

/// Opens storage and catalog, and lists the collection.
pub fn open(typed: &OsStr, common: &Common, report: Arc<Report>) -> anyhow::Result<Opened> {
    common.wanted_time()?;
    let Listing { url, storage, collection, prefixes, archive } =
        find(typed, common, report.clone())?;
    let codec = Arc::new(Codec::new(decoding::codec_options(common)?));
    // Signatures are checked on the stored files only.
    let readable = archive.as_deref().filter(|_| common.signer().is_none());
    let readable = readable.map(std::path::absolute).transpose()?;
    let local_copy = readable.and_then(|directory| match LocalCopy::open(&directory, &prefixes) {
        Ok(copy) => Some(copy),
        Err(error) => {
            report.message(
                Level::Warning,
                &format!("{error}; going on without duplicity's archive directory"),
            );
            None
        }
    });
    let directory = our_cache(&url, &prefixes, common.signer());
    let monitor = report.clone();
    let backups = OpenCollection::open(storage, codec, collection, local_copy, directory, monitor)?;
    Ok(Opened { url, prefixes, archive, backups, report })
}

impl Opened {
    /// Tells which sets and files cannot be used, each once.
    pub fn report_unusable(&self) {
        self.report_unusable_in(&self.backups.collection, |_| true);
    }

    /// Tells which sets and files of a later picture of the collection cannot be used, each once.
    /// Of the sets without manifest only those that are left over: a backup that is being made has
    /// none either.
    pub fn report_unusable_in(
        &self,
        collection: &Collection,
        is_left_over: impl Fn(&BackupSet) -> bool,
    ) {
        for set in collection.incomplete.iter().filter(|set| is_left_over(set)) {
            let text = format!(
                "cannot use the backup of {}: it has no manifest; it was interrupted, or the manifest was lost",
                set.end()
            );
            self.backups.sets.log_once(Level::Warning, text);
        }
        for set in &collection.orphaned {
            let reasons: Vec<String> = set.problems.iter().map(ToString::to_string).collect();
            self.backups.sets.log_once(
                Level::Warning,
                format!("cannot use the backup of {}: {}", set.end(), reasons.join("; ")),
            );
        }
        oddities(collection).for_each(|(level, text)| self.backups.sets.log_once(level, text));
    }

    /// Reports what duplicity does not tell: files that are in the way of others, and, at level
    /// info, files that belong nowhere.
    pub fn report_oddities(&self) {
        oddities(&self.backups.collection)
            .for_each(|(level, text)| self.backups.sets.log_once(level, text));
    }

    /// Prints what duplicity prints before every action that reads metadata: warnings of leftovers,
    /// then the two lines.
    pub fn print_head(&self) {
        let archive = self.archive.as_deref();
        let status =
            Status::for_reading(&self.backups.collection, archived(archive, &self.prefixes));
        status.warn(self.report.as_ref());
        self.report_oddities();
        self.report.notice("Local and Remote metadata are synchronized, no sync needed.");
        status.print_head(archive, &self.report);
    }

    /// Returns the tree at the time that was asked for, or at the newest.
    pub fn snapshot(&self, common: &Common) -> anyhow::Result<Snapshot> {
        let time = common.time.as_ref().map(|_| common.wanted_time()).transpose()?;
        let Some(found) = self.backups.find(time) else {
            return Err(Failure::NoBackups(self.url.to_string()).into());
        };
        if let Some(oldest) = found.oldest {
            let text = format!(
                "No signature chain for the requested time. Using oldest available chain, starting at time {}.",
                oldest.print_asctime()
            );
            let (code, words) = (log::code::NO_BACKUP_FOR_TIME, oldest.to_string());
            self.report.log(&log::Message {
                level: Level::Warning,
                code,
                words: &words,
                text: &text,
            });
        }
        Ok(self.backups.snapshot(&found)?)
    }

    /// As [`Opened::snapshot`], for whoever will read contents too.
    pub fn snapshot_with_manifests(&self, common: &Common) -> anyhow::Result<Snapshot> {
        self.backups.while_unlocking(|| self.snapshot(common))
    }
}

/// Returns what duplicity's archive directory holds, by names alone; nothing if it cannot be
/// listed.
pub fn archived(archive: Option<&Path>, prefixes: &Prefixes) -> Collection {
    scan(&archived_files(archive), prefixes)
}

/// Lists duplicity's archive directory; nothing if that cannot be done.
pub fn archived_files(archive: Option<&Path>) -> Vec<Listed> {
    archive.and_then(|directory| LocalStorage::new(directory).list().ok()).unwrap_or_default()
}
