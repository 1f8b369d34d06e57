//! [`ArchiveDirectory`]: duplicity's archive directory while a session holds it: locked, brought up
//! to date, written.
//!
//! duplicity and `dupfs` use it in turn, and neither notices the other: names, contents, the lock
//! and the rules of synchronisation are duplicity's. Everything here is decrypted, in the rights
//! that the user's umask gives: so duplicity has it.
//!
//! | name | content |
//! |---|---|
//! | `….manifest` | plain |
//! | `….sigtar.gz` | compressed |
//! | `….manifest.part`, `….sigtar.part` | what an unfinished session has stored so far: plain |
//! | `lockfile` | empty; an exclusive POSIX record lock is held on it |
//!
//! Source: archive directories of duplicity 0.8.22 and 3.2.1 before, while and after they run.

use super::BackupChain;
use crate::codec::{self, Codec};
use crate::format::{Content, Encoding, Prefixes, Session, StoredName};
use crate::monitor::{Event, Monitor};
use crate::storage::{
    self, ByteSink, Listed, LocalStorage, Staged, StagedWriter, Storage, StoredFile,
};
use crate::work::each;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is locked.
const LOCK: &str = "lockfile";

/// Why the archive directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Another process holds it.
    #[error(
        "Another duplicity instance is already running with this archive directory\nIt holds '{}': run this again when it has ended.",
        .0.display()
    )]
    Locked(PathBuf),
    /// The system refuses something.
    #[error("cannot {operation} '{}': {cause}", path.display())]
    Local {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A stored file cannot be read, or a copy of it not be written.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A stored file cannot be decoded.
    #[error(transparent)]
    Decode(#[from] codec::Error),
}

/// The archive directory of one collection, held by this process alone until it is dropped.
pub struct ArchiveDirectory {
    path: PathBuf,
    files: LocalStorage,
    /// Locked as long as it is open.
    lock: Option<File>,
}

/// What a synchronisation has to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SyncPlan {
    /// Stored files whose copies are missing.
    pub copy: Vec<Copy>,
    /// Files here that the storage does not have (any more).
    pub delete: Vec<String>,
}

impl SyncPlan {
    /// Returns the part that fetches nothing; none if there is nothing else to be done.
    pub fn without_copies(mut self) -> Option<Self> {
        let fetches = !std::mem::take(&mut self.copy).is_empty();
        (!fetches || !self.delete.is_empty()).then_some(self)
    }

    /// Keeps the files here of a session that has stored all but its manifest.
    pub fn keep(&mut self, session: Session, prefixes: &Prefixes) {
        let is_of = |name: &String| {
            StoredName::parse(name, prefixes).is_some_and(|name| name.session == session)
        };
        self.delete.retain(|name| !is_of(name));
    }
}

/// A stored file to be copied.
#[derive(Debug, PartialEq, Eq)]
pub struct Copy {
    /// The file in storage.
    pub listed: Listed,
    /// How it is stored there.
    pub encoding: Encoding,
    /// Its name here.
    pub name: String,
}

impl ArchiveDirectory {
    /// Makes the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// [`ArchiveError::Locked`] when a duplicity or a dupfs is at work on it;
    /// [`ArchiveError::Local`] when it cannot be made.
    pub fn lock(path: &Path) -> Result<Self, ArchiveError> {
        let local = |operation, path: &Path| {
            let path = path.to_path_buf();
            move |cause: std::io::Error| ArchiveError::Local { operation, path, cause }
        };
        std::fs::create_dir_all(path).map_err(local("create", path))?;
        let file = path.join(LOCK);
        let lock =
            File::options().append(true).create(true).open(&file).map_err(local("open", &file))?;
        match rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_path_buf(),
                files: LocalStorage::new(path),
                lock: Some(lock),
            }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                Err(ArchiveError::Locked(file))
            }
            Err(errno) => Err(local("lock", &file)(errno.into())),
        }
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what is in it.
    ///
    /// # Errors
    /// [`storage::Error`] when it cannot be listed.
    pub fn list(&self) -> Result<Vec<Listed>, storage::Error> {
        self.files.list()
    }

    /// Finds out what has to be done so that manifests and signature files here are those in
    /// storage. With `partial` (duplicity's `--metadata-sync-mode partial`), what belongs to other
    /// chains than `chain` is not copied.
    ///
    /// A name counts without its last suffix, so that `….sigtar.gpg` there is `….sigtar.gz` here.
    /// What is not duplicity's stays, and so do checkpoints; a file whose checkpoint is here, too,
    /// goes.
    ///
    /// # Errors
    /// [`storage::Error`] when the directory cannot be listed.
    pub fn plan(
        &self,
        remote: &[Listed],
        prefixes: &Prefixes,
        partial: Option<&BackupChain>,
    ) -> Result<SyncPlan, storage::Error> {
        let kept = |listed: &Listed| {
            let name = StoredName::parse(&listed.name, prefixes)?;
            matches!(name.content, Content::Manifest | Content::Signatures).then_some(name)
        };
        let (mut here, mut parts) = (BTreeMap::new(), BTreeSet::new());
        for listed in self.list()? {
            match kept(&listed) {
                Some(name) if name.partial => drop(parts.insert(key(&listed.name))),
                // On its way to the storage when somebody was killed.
                Some(name) if name.encoding == Encoding::OpenPgp => {}
                Some(_) => drop(here.insert(key(&listed.name), listed.name)),
                None => {}
            }
        }
        let mut plan = SyncPlan::default();
        let mut there = BTreeSet::new();
        for listed in remote {
            let Some(name) = kept(listed).filter(|name| !name.partial) else { continue };
            let key = key(&listed.name);
            let wanted = partial.is_none_or(|chain| {
                name.session.end() >= chain.start() && name.session.start() <= chain.end()
            });
            if wanted && !here.contains_key(&key) && !parts.contains(&key) && !there.contains(&key)
            {
                let suffix = if name.content == Content::Signatures { ".gz" } else { "" };
                let encoding = name.encoding;
                plan.copy.push(Copy {
                    listed: listed.clone(),
                    encoding,
                    name: format!("{key}{suffix}"),
                });
            }
            there.insert(key);
        }
        plan.copy.sort_by(|one, other| one.listed.name.cmp(&other.listed.name));
        plan.delete = here
            .into_iter()
            .filter(|(key, _)| !there.contains(key) || parts.contains(key))
            .map(|(_, name)| name)
            .collect();
        Ok(plan)
    }

    /// Does what was planned, as many files at once as suit the storage; the monitor hears of each.
    ///
    /// # Errors
    /// [`ArchiveError`] when a file cannot be fetched, decoded, written or deleted.
    pub fn synchronize(
        &self,
        plan: &SyncPlan,
        storage: &Arc<dyn Storage>,
        codec: &Codec,
        monitor: &dyn Monitor,
    ) -> Result<(), ArchiveError> {
        for name in &plan.delete {
            monitor.event(&Event::LocalDeleted(&self.path.join(name)));
            self.delete(name)?;
        }
        let copy = |Copy { listed, encoding, name }: &Copy| {
            monitor.event(&Event::LocalCopied(&listed.name));
            let file = StoredFile::new(storage.clone(), listed.clone());
            let mut decoder = codec.decode_stored(file, *encoding)?;
            let writer = self.stage(name)?;
            if name.ends_with(".gz") {
                let mut gzip = GzEncoder::new(writer, Compression::default());
                decoder.copy(|bytes| {
                    let written = gzip.write_all(bytes);
                    written.map_err(|error| ArchiveError::Storage(gzip.get_ref().failed(&error)))
                })?;
                let finished = gzip.try_finish();
                finished.map_err(|error| ArchiveError::Storage(gzip.get_ref().failed(&error)))?;
                let staged = gzip.finish().map_err(|error| {
                    ArchiveError::Storage(storage::Error::io("write", name, &error))
                })?;
                return Ok(self.put(&staged.seal())?);
            }
            let mut writer = writer;
            decoder.copy(|bytes| writer.write_bytes(bytes).map_err(ArchiveError::Storage))?;
            Ok(self.put(&writer.seal())?)
        };
        each(&plan.copy, storage.abilities().transfers, copy).map(|_| ())
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// [`storage::Error`] when it cannot be written; what was there before stays then.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), storage::Error> {
        let mut writer = self.stage(name)?;
        writer.write_bytes(bytes)?;
        self.put(&writer.seal())
    }

    /// Begins a file.
    ///
    /// # Errors
    /// [`storage::Error`] when it cannot be written.
    pub fn stage(&self, name: &str) -> Result<StagedWriter, storage::Error> {
        self.files.stage(name)
    }

    /// Puts a file into its place that was begun here.
    ///
    /// # Errors
    /// [`storage::Error`] when it cannot be written; what was there before stays then.
    pub fn put(&self, staged: &Staged) -> Result<(), storage::Error> {
        self.files.put(staged).map(|_| ())
    }

    /// Deletes a file, if it is there.
    ///
    /// # Errors
    /// [`storage::Error`] when it is there and cannot be deleted.
    pub fn delete(&self, name: &str) -> Result<(), storage::Error> {
        self.files.delete(&[name]).into_iter().collect()
    }
}

/// Returns a name without the suffix that tells its encoding, or that it is a checkpoint.
fn key(name: &str) -> String {
    let suffixes = [".gpg", ".g", ".gz", ".z", ".part", ".p"];
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name).to_string()
}

impl Drop for ArchiveDirectory {
    fn drop(&mut self) {
        // Gone first, as duplicity does it: whoever comes now makes and locks another file.
        let _ = std::fs::remove_file(self.path.join(LOCK));
        self.lock = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Options;
    use crate::monitor::Silent;
    use std::io::Read;

    const T: &str = "20261122T150210Z";

    fn listed(names: &[&str]) -> Vec<Listed> {
        names.iter().map(|name| Listed { name: name.to_string(), size: 1, stamp: 0 }).collect()
    }

    #[test]
    fn one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        let held = ArchiveDirectory::lock(&path).unwrap();
        // A record lock belongs to the process, so another one has to try.
        let script = "import fcntl,sys\ntry: fcntl.lockf(open(sys.argv[1],'a'),fcntl.LOCK_EX|fcntl.LOCK_NB)\nexcept OSError: sys.exit(7)";
        let try_lock = || {
            std::process::Command::new("python3")
                .args(["-c", script])
                .arg(path.join(LOCK))
                .status()
                .unwrap()
                .code()
        };
        assert_eq!(try_lock(), Some(7));
        drop(held);
        assert!(!path.join(LOCK).exists());
        assert_eq!(try_lock(), Some(0));
    }

    #[test]
    fn plans_as_duplicity_does() {
        let directory = tempfile::tempdir().unwrap();
        let archive = ArchiveDirectory::lock(directory.path()).unwrap();
        let (sig, man) = (
            format!("duplicity-full-signatures.{T}.sigtar"),
            format!("duplicity-full.{T}.manifest"),
        );
        let here = |names: &[String]| {
            names.iter().for_each(|name| std::fs::write(directory.path().join(name), b"x").unwrap())
        };
        let remote = listed(&[
            &format!("{sig}.gpg"),
            &format!("{man}.gpg"),
            &format!("duplicity-full.{T}.vol1.difftar.gpg"),
            "readme",
        ]);
        let plan = || archive.plan(&remote, &Prefixes::default(), None).unwrap();
        let copies =
            |plan: &SyncPlan| plan.copy.iter().map(|copy| copy.name.clone()).collect::<Vec<_>>();
        assert_eq!(copies(&plan()), [format!("{sig}.gz"), man.clone()]);
        here(&[
            format!("{sig}.gz"),
            man.clone(),
            "foreign".into(),
            "duplicity-full.20200101T000000Z.manifest".into(),
        ]);
        assert_eq!(
            plan(),
            SyncPlan {
                copy: vec![],
                delete: vec!["duplicity-full.20200101T000000Z.manifest".into()]
            }
        );
        here(&[format!("{man}.part")]);
        assert!(plan().delete.contains(&man));
        std::fs::remove_file(directory.path().join(&man)).unwrap();
        assert!(copies(&plan()).is_empty());
    }

    #[test]
    fn copies_are_decoded() {
        let directory = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(directory.path().join("store")));
        storage.prepare().unwrap();
        let name = format!("duplicity-full-signatures.{T}.sigtar");
        let mut writer = storage.stage(&name).unwrap();
        writer.write_bytes(b"signatures").unwrap();
        storage.put(&writer.seal()).unwrap();
        let archive = ArchiveDirectory::lock(&directory.path().join("archive")).unwrap();
        let plan = archive.plan(&storage.list().unwrap(), &Prefixes::default(), None).unwrap();
        archive.synchronize(&plan, &storage, &Codec::new(Options::default()), &Silent).unwrap();
        let mut copy = String::new();
        let file = File::open(archive.path().join(format!("{name}.gz"))).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut copy).unwrap();
        assert_eq!(copy, "signatures");
        assert_eq!(
            archive.plan(&storage.list().unwrap(), &Prefixes::default(), None).unwrap(),
            SyncPlan::default()
        );
    }
}
