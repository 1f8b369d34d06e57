//! From what was typed to an open collection.

use super::args::Common;
use super::exit::Failure;
use super::log;
use super::passphrase;
use super::report::Report;
use super::status::Status;
use anyhow::Context;
use dupfs::accounts::Accounts;
use dupfs::catalog::{Catalog, CatalogOptions, Snapshot};
use dupfs::codec::{self, Cause, Codec, Options};
use dupfs::collection::{
    ArchiveDirectory, ArchiveOptions, BackupChain, BackupSet, Collection, Leftover, LocalCopy, scan,
};
use dupfs::format::{Encoding, Prefixes, StoredName};
use dupfs::model::BackupTime;
use dupfs::monitor::{Event, Level, Monitor};
use dupfs::storage::{
    self, ErrorKind, Listed, LocalStorage, RetryingStorage, Storage, StoredFile, Url,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use uzers::os::unix::UserExt;

/// What a storage holds, by names alone.
pub struct Found {
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

/// A collection, with all that is needed to read it.
pub struct Opened {
    /// What was typed.
    pub url: Url,
    /// Its stored files.
    pub storage: Arc<dyn Storage>,
    /// Decodes them.
    pub codec: Arc<Codec>,
    /// Its sets and chains.
    pub collection: Collection,
    /// How its names begin.
    pub prefixes: Prefixes,
    /// duplicity's archive directory, whether it is there or not.
    pub archive: Option<PathBuf>,
    /// What is where; it knows the collection's chains, in the same order.
    pub catalog: Arc<Catalog>,
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
    let delay = Duration::from_secs(common.backend_retry_delay);
    let storage =
        Arc::new(RetryingStorage::new(storage::open(&url)?, common.num_retries, delay, report));
    Ok((url, storage))
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
        let found = url.local_directory().map(std::fs::symlink_metadata);
        found
            .and_then(Result::err)
            .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    storage.list().or_else(|error| {
        if error.kind != ErrorKind::NotFound || !is_missing() || is_known() {
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
pub fn find(typed: &OsStr, common: &Common, report: Arc<Report>) -> anyhow::Result<Found> {
    let (url, storage) = reach(typed, common, report)?;
    let prefixes = prefixes(common);
    let collection = scan(&storage.list()?, &prefixes);
    Ok(Found { url, storage, collection, prefixes, archive: archive_directory(typed, common) })
}

/// Returns how names begin.
pub fn prefixes(common: &Common) -> Prefixes {
    Prefixes {
        global: common.file_prefix.clone(),
        archive: common.file_prefix_archive.clone(),
        manifest: common.file_prefix_manifest.clone(),
        signature: common.file_prefix_signature.clone(),
        jsonstat: common.file_prefix_jsonstat.clone(),
    }
}

/// Returns duplicity's archive directory of a collection.
pub fn archive_directory(typed: &OsStr, common: &Common) -> Option<PathBuf> {
    let (xdg, home) = caches();
    let archive_dir = common.archive_dir.as_deref().map(expand);
    let (archive_dir, name) = (archive_dir.as_deref(), common.name.as_deref());
    ArchiveOptions {
        archive_dir,
        name,
        url: typed.as_bytes(),
        xdg_cache_home: xdg.as_deref(),
        home: home.as_deref(),
    }
    .directory()
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
    wanted_time(common)?;
    let Found { url, storage, collection, prefixes, archive } =
        find(typed, common, report.clone())?;
    let codec = Arc::new(Codec::new(codec_options(common)?));
    // Signatures are checked on the stored files only.
    let readable = archive.as_deref().filter(|_| sign_key(common).is_none());
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
    let directory = our_cache(&url, &prefixes, sign_key(common));
    let options = CatalogOptions {
        directory,
        storage: storage.clone(),
        codec: codec.clone(),
        local_copy,
        monitor: report.clone(),
    };
    let catalog = Arc::new(Catalog::open(options)?);
    catalog.set_collection(&collection)?;
    Ok(Opened { url, storage, codec, collection, prefixes, archive, catalog, report })
}

impl Opened {
    /// Tells which sets and files cannot be used, each once.
    pub fn report_unusable(&self) {
        self.report_unusable_in(&self.collection, |_| true);
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
                "cannot use the backup of {}: it has no manifest, so it was not completed",
                set.end()
            );
            self.catalog.log_once(Level::Warning, text);
        }
        for set in &collection.orphaned {
            let reasons: Vec<String> = set.problems.iter().map(ToString::to_string).collect();
            self.catalog.log_once(
                Level::Warning,
                format!("cannot use the backup of {}: {}", set.end(), reasons.join("; ")),
            );
        }
        oddities(collection).for_each(|(level, text)| self.catalog.log_once(level, text));
    }

    /// Reports what duplicity does not tell: files that are in the way of others, and, at level
    /// info, files that belong nowhere.
    pub fn report_oddities(&self) {
        oddities(&self.collection).for_each(|(level, text)| self.catalog.log_once(level, text));
    }

    /// Prints what duplicity prints before every action that reads metadata: warnings of leftovers,
    /// then the two lines.
    pub fn print_head(&self) {
        let archive = self.archive.as_deref();
        let status = Status::for_reading(&self.collection, archived(archive, &self.prefixes));
        status.warn(self.report.as_ref());
        self.report_oddities();
        self.report.notice("Local and Remote metadata are synchronized, no sync needed.");
        status.print_head(archive, &self.report);
    }

    /// Returns the tree at the time that was asked for, or at the newest.
    pub fn snapshot(&self, common: &Common) -> anyhow::Result<Snapshot> {
        let time = wanted_time(common)?;
        // Without a time the newest backup counts, even if a clock was wrong when it was made.
        let newest = self.collection.chains.last().map(|chain| chain.end());
        let time = if common.time.is_none() { newest.unwrap_or(time).max(time) } else { time };
        let Some(at) = self.collection.at_time(time) else {
            return Err(Failure::NoBackups(self.url.to_string()).into());
        };
        if at.before_first {
            let oldest = self.collection.chains.get(at.chain).map(BackupChain::start);
            let text = format!(
                "No signature chain for the requested time. Using oldest available chain, starting at time {}.",
                oldest.map_or_else(String::new, BackupTime::print_asctime)
            );
            let words = oldest.map_or_else(String::new, |time| time.to_string());
            let code = log::code::NO_BACKUP_FOR_TIME;
            self.report.event(&Event { level: Level::Warning, code, words: &words, text: &text });
        }
        let chains = self.catalog.chains();
        let chain = chains.get(at.chain).context("the catalog does not know the chain")?;
        Ok(self.catalog.snapshot(chain, at.set as u32)?)
    }

    /// As [`Opened::snapshot`], for whoever will read contents too: unlocks the newest manifests
    /// while the signature files are read.
    pub fn snapshot_with_manifests(&self, common: &Common) -> anyhow::Result<Snapshot> {
        let newest = self.collection.chains.last().map(|chain| chain.sets()).unwrap_or_default();
        let manifests =
            newest.iter().rev().take(MANIFESTS_TOGETHER).filter_map(|set| set.manifest.as_ref());
        std::thread::scope(|scope| {
            // Without it each key is derived when it is needed.
            let _ =
                std::thread::Builder::new().spawn_scoped(scope, || self.catalog.unlock(manifests));
            self.snapshot(common)
        })
    }

    /// Makes sure that there is a key to the sets of a snapshot, so that nothing is written by
    /// whoever has none: whether the metadata at hand had to be decrypted or not. A chain may have
    /// two passphrases, so one file that opens is enough.
    ///
    /// # Errors
    /// The newest set's, when neither it nor the full set can be opened for want of a passphrase or
    /// secret key.
    pub fn check_keys(&self, snapshot: &Snapshot) -> Result<(), codec::Error> {
        let sets = snapshot.chain.sets.get(..=snapshot.position as usize).unwrap_or_default();
        let ends = sets.last().into_iter().chain(sets.first());
        let files = ends.flat_map(|set| set.manifest.iter().chain(set.volumes.values().next()));
        let mut locked = None;
        for file in files.filter(|file| file.encoding == Encoding::OpenPgp) {
            let stored = Arc::new(StoredFile::new(self.storage.clone(), file.listed.clone()));
            match self.codec.reopen(stored, file.encoding) {
                Ok(_) => return Ok(()),
                Err(error) if is_for_want_of_key(&error.cause) => locked = locked.or(Some(error)),
                // The file is to blame, or its place: that is told when it is needed.
                Err(_) => {}
            }
        }
        locked.map_or(Ok(()), Err)
    }
}

/// Returns whether all that lacks is a passphrase or a secret key.
pub fn is_for_want_of_key(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::NoPassphrase
            | Cause::EmptyPassphrase
            | Cause::WrongPassphrase
            | Cause::NoSecretKey(_)
    )
}

/// Prints the volumes that a dry run names, in duplicity's form.
pub fn print_required(report: &Report, names: &[String]) {
    report.notice("Required volumes to restore:");
    names.iter().for_each(|name| report.notice(&format!("\t{name}")));
}

/// Says when the newest full backup was made; this need not be that of the chain that ends last.
pub fn last_full(collection: &Collection) -> String {
    let last = collection.chains.iter().map(|chain| chain.start()).max();
    format!(
        "Last full backup date: {}",
        last.map_or_else(|| "none".into(), BackupTime::print_asctime)
    )
}

/// Returns what is odd about sets in chains, and what belongs to no set.
pub fn oddities(collection: &Collection) -> impl Iterator<Item = (Level, String)> {
    let problems = |set: &BackupSet| {
        let end = set.end();
        set.problems
            .iter()
            .map(move |problem| (Level::Warning, format!("the backup of {end}: {problem}")))
            .collect::<Vec<_>>()
    };
    let leftover = |left: &Leftover| {
        (Level::Info, format!("'{}' belongs to no backup: {}", left.listed.name, left.reason))
    };
    let sets = collection.chains.iter().flat_map(|chain| chain.sets());
    sets.flat_map(problems).chain(collection.leftovers.iter().map(leftover))
}

/// Returns what time it is, or what `--current-time` pretends.
pub fn now(common: &Common) -> BackupTime {
    BackupTime::from_seconds(
        common.writing.current_time.unwrap_or_else(|| chrono::Utc::now().timestamp()),
    )
}

/// Returns the time that `--time` asks for, or what time it is.
fn wanted_time(common: &Common) -> anyhow::Result<BackupTime> {
    let now = BackupTime::from_seconds(chrono::Utc::now().timestamp());
    match common.time.as_deref() {
        // `--time 0` means now, as duplicity has it.
        None | Some("now" | "0") => Ok(now),
        Some(text) => time(text, now),
    }
}

/// Takes a time as users type it.
pub fn time(text: &str, now: BackupTime) -> anyhow::Result<BackupTime> {
    Ok(BackupTime::parse_expression(text, now)
        .map_err(|error| Failure::CommandLine(error.to_string()))?)
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

/// Manifests that are unlocked together: what two cores do in the time of one.
const MANIFESTS_TOGETHER: usize = 16;

/// Returns the accounts that owners are looked up in.
pub fn accounts(common: &Common) -> Accounts {
    Accounts::new(common.numeric_owner)
}

/// Returns the key that signs, or has to have signed.
pub fn sign_key(common: &Common) -> Option<&String> {
    common.encrypt_sign_key.as_ref().or(common.sign_key.as_ref())
}

/// Refuses a signing key that cannot be one, before anything else is done. To sign, a mail address
/// will do, as for 3.2.1; but who *has* signed is told by digits alone.
///
/// # Errors
/// [`Failure::SignKey`]
pub fn check_sign_key(common: &Common, signs: bool) -> Result<(), Failure> {
    let Some(key) = sign_key(common) else { return Ok(()) };
    let digits = key.strip_prefix("0x").or(key.strip_prefix("0X")).unwrap_or(key);
    let digits = if signs { digits.strip_suffix('!').unwrap_or(digits) } else { digits };
    let is_id =
        matches!(digits.len(), 8 | 16 | 40) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_id || signs && key.contains('@') {
        true => Ok(()),
        false => Err(Failure::SignKey(key.clone())),
    }
}

/// Returns how stored files are decoded.
pub fn codec_options(common: &Common) -> anyhow::Result<Options> {
    Ok(Options {
        passphrase: passphrase::source(common),
        sign_key: sign_key(common).cloned(),
        gpg_binary: match common.gpg_binary.components().count() {
            // Looked up in PATH.
            1 => common.gpg_binary.clone(),
            _ => std::path::absolute(&common.gpg_binary)?,
        },
        gpg_options: gpg_words(common),
        secret_keyring: common
            .encrypt_secret_keyring
            .as_deref()
            .map(|path| std::path::absolute(expand(path)))
            .transpose()?,
        use_agent: common.use_agent,
        tempdir: tempdir(common)?,
    })
}

/// Returns the words of `--gpg-options`. Quotes around all of them, which a shell has left, are
/// taken off as by 3.2.1.
pub fn gpg_words(common: &Common) -> Vec<String> {
    let words = common
        .gpg_options
        .iter()
        .flat_map(|words| words.trim_matches('"').trim_matches('\'').split_whitespace());
    words.map(String::from).collect()
}

/// Returns where temporary files lie.
pub fn tempdir(common: &Common) -> anyhow::Result<PathBuf> {
    match common.tempdir.as_deref().map(expand) {
        Some(tempdir) if !tempdir.is_dir() => Err(anyhow::anyhow!(
            "cannot use '{}' for temporary files: it is not a folder",
            tempdir.display()
        )),
        Some(tempdir) => Ok(std::path::absolute(tempdir)?),
        None => Ok(std::env::temp_dir()),
    }
}

/// Replaces a leading `~` by the home directory and `$NAME` by that variable, which a shell leaves
/// alone in `--archive-dir=~/backup`. Variables that are not set stay as they are.
pub fn expand(path: &Path) -> PathBuf {
    shellexpand::path::full_with_context_no_errors(path, home, |name| std::env::var_os(name))
        .into_owned()
}

/// Returns `XDG_CACHE_HOME` and the home directory.
fn caches() -> (Option<PathBuf>, Option<PathBuf>) {
    (std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from), home())
}

/// Returns the home directory: `HOME`, or that of the account as which this runs, since services of
/// systemd have no such variable.
fn home() -> Option<PathBuf> {
    let is_known = |home: &PathBuf| !home.as_os_str().is_empty();
    let of_account =
        || Some(uzers::get_user_by_uid(uzers::get_current_uid())?.home_dir().to_path_buf());
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(is_known)
        .or_else(of_account)
        .filter(is_known)
}

/// Returns our own cache directory of a collection, if anything tells where caches are.
pub fn our_cache(url: &Url, prefixes: &Prefixes, sign_key: Option<&String>) -> Option<PathBuf> {
    let (xdg, home) = caches();
    cache_directory(url, prefixes, sign_key, xdg.as_deref(), home.as_deref())
}

/// Returns our own cache directory of a collection: `dupfs/NAME` in the user's cache, NAME derived
/// from where the collection is.
///
/// What was read while a signature was demanded is kept apart: nothing in there has come from a
/// file without it.
fn cache_directory(
    url: &Url,
    prefixes: &Prefixes,
    sign_key: Option<&String>,
    xdg: Option<&Path>,
    home: Option<&Path>,
) -> Option<PathBuf> {
    let xdg = xdg.filter(|path| path.is_absolute()).map(Path::to_path_buf);
    let cache = xdg.or_else(|| home.map(|home| home.join(".cache")))?;
    let place = match url.local_directory() {
        Some(directory) => format!(
            "{:?}",
            std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf())
        ),
        None => format!("{:?}", url.typed()),
    };
    let Prefixes { global, archive, manifest, signature, jsonstat: _ } = prefixes;
    let signer = sign_key.map_or_else(String::new, |key| format!("\0signed by {key}"));
    let name = blake3::hash(
        format!("{place}\0{global}\0{archive}\0{manifest}\0{signature}{signer}").as_bytes(),
    );
    Some(cache.join("dupfs").join(&name.to_hex()[..32]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_expanded_as_far_as_known() {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        for (typed, expected) in [
            ("~/x/", home.join("x")),
            ("$HOME/x", home.join("x")),
            ("${HOME}", home),
            ("a~/$DUPFS_NO_SUCH_VARIABLE", PathBuf::from("a~/$DUPFS_NO_SUCH_VARIABLE")),
        ] {
            assert_eq!(expand(Path::new(typed)), expected, "{typed}");
        }
    }
}
