//! `backup`, `full`, `incremental`: from what was typed to a new set, in the steps and words of
//! duplicity.

use crate::cli::arguments::{
    Common, Writing, decoding, encoding, folders, names, passphrase, selection, values,
};
use crate::cli::failure::{Failure, goes_on_when_run_again, keeping_interrupts};
use crate::cli::output::statistics::{self, Period};
use crate::cli::output::{Report, Status, status};
use crate::cli::{open, synchronize, traces};
use clap::Args;
use dupfs::backup::{self, BackupOptions, Basis, Job, Mismatch, Outcome, Target, Wanted, WhyFull};
use dupfs::catalog::Chain;
use dupfs::codec::{self, Cause, Codec};
use dupfs::collection::{ArchiveDirectory, Collection, LocalCopy, scan};
use dupfs::format::{Encoding, Manifest};
use dupfs::model::BackupTime;
use dupfs::monitor::{Level, Monitor};
use dupfs::sets::{Sets, SetsOptions};
use dupfs::source::{Base, Selection, SourceOptions, SourceTree};
use dupfs::storage::{ErrorKind, ReadAt, Storage, StoredFile, Url};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Arguments of `backup`, `full` and `incremental`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The folder or file to back up
    pub source: PathBuf,
    /// Where to: file:///folder, sftp://user@host/folder, or a plain path
    pub url: OsString,
}

/// What each step needs.
struct Session<'a> {
    common: &'a Common,
    writing: &'a Writing,
    url: Url,
    storage: Arc<dyn Storage>,
    codec: Arc<Codec>,
    report: Arc<Report>,
    now: BackupTime,
    /// A full backup older than this is too old to build on.
    threshold: Option<BackupTime>,
}

/// Makes a backup.
pub fn run(arguments: &BackupArgs, common: &Common, wanted: Wanted) -> anyhow::Result<()> {
    let writing = &common.writing;
    goes_on_when_run_again();
    let report = Arc::new(Report::new(common.verbosity, false));
    let typed_source = folders::expand(&arguments.source);
    let source =
        SourceTree::open(&typed_source, &SourceOptions { copy_links: writing.copy_links })?;
    let now = common.now();
    let threshold =
        writing.full_if_older_than.as_deref().map(|text| values::time(text, now)).transpose()?;
    let selection = selection::compile(writing, Base::Source(source.name()), now, report.as_ref())?;
    let (url, storage) = open::reach(&arguments.url, common, report.clone())?;
    let codec =
        Arc::new(Codec::new(codec::Options { sign_key: None, ..decoding::codec_options(common)? }));
    let traces = traces::find(source.name(), &url, common, selection.as_deref(), report.as_ref());
    let source = source.leaving_out(traces);
    let session = Session { common, writing, url, storage, codec, report, now, threshold };
    let archive = open::lock(&arguments.url, common)?;
    let done = session.back_up(&archive, &source, &typed_source, selection.clone(), wanted);
    if let Some(selection) = &selection {
        warn_dropped(selection, session.report.as_ref());
    }
    done
}

impl Session<'_> {
    fn back_up(
        &self,
        archive: &ArchiveDirectory,
        source: &SourceTree,
        typed_source: &Path,
        selection: Option<Arc<Selection>>,
        wanted: Wanted,
    ) -> anyhow::Result<()> {
        let prefixes = names::prefixes(self.common);
        let cache = folders::our_cache(&self.url, &prefixes, None);
        let mut options = self.options(source, cache.as_deref(), archive)?;
        if !self.writing.dry_run {
            self.storage.prepare()?;
        }
        if source.is_link() {
            let text = format!(
                "the source '{}' is a symbolic link, and only the link is saved: name the folder that it leads to, or give --copy-links",
                typed_source.display()
            );
            self.report.message(Level::Warning, &text);
        }
        self.warn_inside(source, selection.as_deref(), archive.path());
        let mut encoder = None;
        if !self.writing.dry_run && backup::is_unfinished(archive, &options)? {
            let ready = encoding::encoders(&self.codec, self.common, &options.encode)?;
            backup::complete(archive, &self.storage, &ready, &options, self.report.as_ref())?;
            encoder = Some(ready);
        }
        let listing = match self.storage.list() {
            Err(error) if self.writing.dry_run && error.kind == ErrorKind::NotFound => Vec::new(),
            listing => listing?,
        };
        let mut collection = scan(&listing, &prefixes);
        let status =
            || Status::for_reading(&collection, open::archived(Some(archive.path()), &prefixes));
        let said = status().warnings();
        said.iter().for_each(|warning| status::warn(warning, self.report.as_ref()));
        let basis = self.basis(wanted, &collection);
        let needs_metadata = matches!(basis, Ok(Basis::Sets(_)));
        self.synchronize(archive, &listing, &collection, needs_metadata)?;
        let status = status();
        let new = status.warnings().into_iter().filter(|warning| !said.contains(warning));
        new.for_each(|warning| status::warn(&warning, self.report.as_ref()));
        status.print_head(Some(archive.path()), &self.report);
        passphrase::reused(self.common).iter().for_each(|text| self.report.notice(text));
        let local_copy = LocalCopy::open(archive.path(), &prefixes)?;
        options.time = self.free_time(&collection)?;
        let is_based = match basis? {
            Basis::Nothing(why) => {
                why.map(words)
                    .into_iter()
                    .for_each(|(level, text)| self.report.message(level, text));
                false
            }
            Basis::Sets(count) => {
                for set in collection.cut_newest(count) {
                    let why = if set.signatures.is_none() {
                        "missing signature file"
                    } else {
                        "missing volumes"
                    };
                    let text = format!("Warning, discarding last backup set, because of {why}.");
                    status::warn(&(1, text), self.report.as_ref());
                }
                true
            }
        };
        let sets = Sets::open(SetsOptions {
            directory: cache,
            storage: self.storage.clone(),
            codec: self.codec.clone(),
            local_copy: Some(local_copy),
            monitor: self.report.clone(),
        })?;
        let chains = if is_based && !self.writing.dry_run {
            let (storage, codec, monitor) = (&self.storage, &*self.codec, self.report.as_ref());
            let (prefixes, sets) = (&prefixes, &sets);
            let base = backup::Base { storage, archive, prefixes, codec, sets, monitor };
            base.settle(&collection)?
        } else {
            sets.set_collection(&collection)?
        };
        let base = chains.last().filter(|_| is_based);
        let prepare = || encoding::encoders(&self.codec, self.common, &options.encode);
        // Before gpg asks the agent for the set before; else behind that, since a passphrase that
        // has opened it need not be typed twice.
        if self.common.use_agent && encoder.is_none() {
            encoder = Some(prepare()?);
        }
        if let Some(chain) = base {
            self.check(chain, &sets, typed_source)?;
        }
        let (encoder, manifest_encoder) = encoder.map_or_else(prepare, Ok)?;
        if let Some(chain) = base {
            self.check_passphrase(chain, &encoder, &options)?;
        }
        let target = Target {
            storage: self.storage.clone(),
            listing: &listing,
            collection: &collection,
            archive,
            codec: self.codec.clone(),
            encoder,
            manifest_encoder,
            sets: &sets,
        };
        let job = Job { target: &target, source, selection, base, options: &options };
        let start = SystemTime::now();
        let outcome = match self.writing.dry_run {
            true => {
                Outcome { statistics: backup::dry_run(&job, self.report.as_ref())?, session: None }
            }
            false => {
                self.begin_progress(&job)?;
                keeping_interrupts(|| backup::backup(&job, self.report.as_ref()))?
            }
        };
        self.report.end_progress();
        let period = Period { start, end: SystemTime::now() };
        self.finish(&outcome, period, base, &target, &options)
    }

    /// Warns when backups would be backed up: duplicity leaves nothing out by itself.
    fn warn_inside(&self, source: &SourceTree, selection: Option<&Selection>, archive: &Path) {
        let name = Path::new(std::ffi::OsStr::from_bytes(source.name()));
        let is_link = !self.writing.copy_links && name.is_symlink();
        let Some(root) = name.canonicalize().ok().filter(|_| !is_link) else { return };
        let target = self.url.local_directory().map(|directory| ("target", directory));
        for (what, directory) in target.into_iter().chain([("archive directory", archive)]) {
            let real = directory.canonicalize();
            let Some(inside) = real.as_ref().ok().and_then(|real| real.strip_prefix(&root).ok())
            else {
                continue;
            };
            if selection.is_none_or(|selection| selection.takes_folder(&root, inside, false)) {
                let text = format!(
                    "the {what} '{}' lies inside the source and is not excluded, so that backups are backed up, too: --exclude '{}' \
                     leaves it out",
                    directory.display(),
                    name.join(inside).display()
                );
                self.report.message(Level::Warning, &text);
            }
        }
    }

    /// Counts first what there is to do, if the way is to be shown.
    fn begin_progress(&self, job: &Job) -> anyhow::Result<()> {
        if self.writing.progress {
            let planned = backup::dry_run(job, &dupfs::monitor::Silent)?;
            let total = planned.new_file_size + planned.changed_file_size;
            self.report
                .begin_progress(total, Duration::from_secs(self.writing.progress_rate.max(1)));
        }
        Ok(())
    }

    /// Prints and stores statistics.
    fn finish(
        &self,
        outcome: &Outcome,
        period: Period,
        base: Option<&Arc<Chain>>,
        target: &Target,
        options: &BackupOptions,
    ) -> anyhow::Result<()> {
        let Outcome { statistics, session } = outcome;
        if options.skip_if_no_change && session.is_none() && !self.writing.dry_run {
            self.report.notice("Skipped volume upload, as effectivly nothing has changed");
        }
        if self.writing.jsonstat {
            let base = base.filter(|_| session.is_none_or(|session| !session.is_full()));
            let is_skipped = session.is_none() && !self.writing.dry_run;
            let run = statistics::Run {
                is_stored: session.is_some(),
                is_skipped,
                full: base
                    .and_then(|chain| chain.sets.first())
                    .map_or(options.time, |set| set.end()),
                base: &base
                    .map(|chain| {
                        backup::stored_statistics(chain, target.archive, &options.prefixes)
                    })
                    .transpose()?
                    .unwrap_or_default(),
                target: &self.url.to_string(),
                source: &options.source.as_deref().map(String::from_utf8_lossy).unwrap_or_default(),
            };
            let object = statistics::object(statistics, period, &run);
            let text = format!("{object:#}\n");
            self.report.always(&text);
            if let Some(session) = session {
                backup::store_statistics(target, *session, text.as_bytes(), options)?;
            }
        }
        if !self.writing.no_print_statistics {
            self.report.always(&statistics::block(statistics, period));
        }
        match (statistics.errors, base) {
            (0, _) => {}
            (errors, _) if self.writing.fail_on_unreadable && !self.writing.dry_run => {
                return Err(Failure::Unreadable(errors).into());
            }
            (errors, None) => {
                let text = format!(
                    "{errors} paths could not be read and are not in this backup; each is named above"
                );
                self.report.message(Level::Warning, &text);
            }
            (errors, Some(_)) => {
                let text = format!(
                    "{errors} paths could not be read, and this backup has nothing new of them; each is named above"
                );
                self.report.message(Level::Warning, &text);
            }
        }
        Ok(())
    }

    fn options(
        &self,
        source: &SourceTree,
        cache: Option<&Path>,
        archive: &ArchiveDirectory,
    ) -> anyhow::Result<BackupOptions> {
        let (common, writing) = (self.common, self.writing);
        if writing.volsize == 0 || writing.volsize > 1 << 20 {
            return Err(
                Failure::CommandLine("--volsize must be between 1 and 1048576 MiB".into()).into()
            );
        }
        let encode = encoding::options(common, self.now, self.report.as_ref())?;
        let hostname = rustix::system::uname().nodename().to_bytes().to_vec();
        Ok(BackupOptions {
            time: self.now,
            volume_size: writing.volsize << 20,
            max_block_size: writing.max_blocksize,
            names: names::form(writing),
            prefixes: names::prefixes(common),
            encode,
            hostname: Some(hostname).filter(|name| !name.is_empty()),
            source: Some(source.name().to_vec()),
            list_files: !writing.no_files_changed,
            numeric_owner: common.numeric_owner,
            keep_unreadable: writing.keep_unreadable,
            skip_if_no_change: writing.skip_if_no_change,
            tempdir: folders::tempdir(common)?,
            journal: cache.and_then(|cache| folders::journal(cache, archive)),
            fail_on_volume: writing.fail_on_volume,
            skip_volume: writing.skip_volume,
        })
    }

    /// Makes the archive directory what duplicity would make of it; but nothing is fetched unless
    /// it is needed: a full backup needs nothing of what is stored, and the next increment fetches
    /// the rest.
    fn synchronize(
        &self,
        archive: &ArchiveDirectory,
        listing: &[dupfs::storage::Listed],
        collection: &Collection,
        needs_metadata: bool,
    ) -> anyhow::Result<()> {
        let newest =
            collection.chains.last().filter(|_| self.writing.metadata_sync_mode == "partial");
        let plan = archive.plan(listing, &names::prefixes(self.common), newest)?;
        let Some(plan) = (if needs_metadata { Some(plan) } else { plan.without_copies() }) else {
            return Ok(());
        };
        match self.writing.dry_run {
            true => synchronize::report_plan(&plan, &self.report),
            false => synchronize::synchronize(
                &plan,
                archive,
                (&self.storage, &self.codec),
                &self.report,
            )?,
        }
        Ok(())
    }

    /// Decides what to build on.
    fn basis(&self, wanted: Wanted, collection: &Collection) -> Result<Basis, Failure> {
        Basis::choose(wanted, collection, self.threshold, self.writing.full_if_n_inc)
            .ok_or(Failure::NoSignatures)
    }

    /// Returns the time of the new set, and waits until it has come.
    fn free_time(&self, collection: &Collection) -> anyhow::Result<BackupTime> {
        let is_pretended = self.writing.current_time.is_some();
        let (time, wait) = backup::free_time(collection, self.now, is_pretended)?;
        std::thread::sleep(wait);
        Ok(time)
    }

    /// Makes sure that a chain does not come to have two passphrases where several are at hand:
    /// duplicity could not restore it.
    fn check_passphrase(
        &self,
        chain: &Chain,
        encoder: &codec::Encoder,
        options: &BackupOptions,
    ) -> anyhow::Result<()> {
        let encode = &options.encode;
        let is_symmetric = encode.encoding == Encoding::OpenPgp
            && encode.recipients.is_empty()
            && encode.hidden_recipients.is_empty();
        let newest = chain.sets.last().and_then(|set| set.manifest.as_ref());
        let Some(newest) = newest.filter(|_| is_symmetric && self.common.passphrase_file.is_some())
        else {
            return Ok(());
        };
        let file: Arc<dyn ReadAt> =
            Arc::new(StoredFile::new(self.storage.clone(), newest.listed.clone()));
        match encoder.could_have_made(&file, newest.encoding)? {
            true => Ok(()),
            false => Err(Failure::CommandLine(
                "the newest backup is not encrypted by PASSPHRASE, or by the first passphrase of --passphrase-file if that is not \
                 set: an increment on it would make a chain of two passphrases; a full backup begins a new chain"
                    .into(),
            )
            .into()),
        }
    }

    /// Makes sure that this is the next backup of the same source, as far as the newest manifest
    /// tells.
    fn check(&self, chain: &Arc<Chain>, sets: &Sets, typed_source: &Path) -> anyhow::Result<()> {
        let Some((position, set)) = chain.sets.iter().enumerate().next_back() else {
            return Ok(());
        };
        let local = match sets.copied_manifest(chain, position as u32)? {
            Some(copied) => Arc::new(copied),
            None => sets.manifest(chain, position as u32)?,
        };
        // Whether the passphrase is the right one is found out in any case.
        let is_asked = !self.writing.no_check_remote;
        if let Some(stored) =
            set.manifest.as_ref().filter(|stored| is_asked || stored.encoding == Encoding::OpenPgp)
        {
            let file = StoredFile::new(self.storage.clone(), stored.listed.clone());
            let remote = self.codec.decode_stored(file, stored.encoding);
            match remote.map(Manifest::read) {
                // Whoever encrypts for others need not be able to read it.
                Err(codec::Error {
                    cause: Cause::NoSecretKey(_) | Cause::Gpg(_) | Cause::NoPassphrase,
                    ..
                }) => {}
                Err(error) => return Err(error.into()),
                Ok(remote) => {
                    if is_asked && !backup::is_same_set(&remote?, &local) {
                        return Err(Failure::ManifestMismatch.into());
                    }
                }
            }
        }
        if self.writing.allow_source_mismatch {
            return Ok(());
        }
        let host = rustix::system::uname().nodename().to_bytes().to_vec();
        match backup::mismatch(&local, &host, typed_source) {
            None => Ok(()),
            Some(Mismatch::Host(known)) => {
                let [current, previous] =
                    [&host[..], known].map(|name| String::from_utf8_lossy(name).into_owned());
                Err(Failure::HostMismatch { current, previous }.into())
            }
            Some(Mismatch::Source(known)) => {
                let previous = String::from_utf8_lossy(known).into_owned();
                let current = typed_source.display().to_string();
                Err(Failure::SourceMismatch { current, previous }.into())
            }
        }
    }
}

/// Returns in duplicity's words why a set is full though that was not asked for.
fn words(why: WhyFull) -> (Level, &'static str) {
    match why {
        WhyFull::TooOld => (Level::Notice, "Last full backup is too old, forcing full backup"),
        WhyFull::NoSignatures => (Level::Warning, "No signatures found, switching to full backup."),
        WhyFull::TooManyIncrements => {
            (Level::Notice, "Latest chain has too many incrementals, forcing full backup")
        }
    }
}

/// Warns when a pattern with `**` has had an effect that surprises everybody.
fn warn_dropped(selection: &Selection, monitor: &dyn Monitor) {
    let dropped = selection.dropped();
    if dropped > 0 {
        let text = format!(
            "{dropped} paths are left out that no option excludes: an include with '**' may match anywhere below its fixed part, and so keeps there \
             only what is included; exclude what is not wanted instead, or include '**' last"
        );
        monitor.message(Level::Warning, &text);
    }
}
