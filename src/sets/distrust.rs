//! Sets whose signature file is not to be believed, since their volumes hold something else: their
//! rows come from the volumes.
//!
//! A [`super::proof::Proof`] finds the contradiction, in a pass or a table. It is kept, by the
//! set's identity, and reported once; the pass fails with [`Error::Contradicted`]. Who asked for it
//! calls [`Sets::renew`]: the chain's rows go, and it gets a new number, so that no id changes
//! its meaning; what is asked for next is filled in anew, this set from its volumes. Their rows
//! need no proof, so each set is contradicted once, at most.

use super::sets::Sets;
use super::tables::Table;
use super::{Error, Snapshot};
use crate::catalog::{self, Chain, Source, identity};
use crate::collection::BackupSet;
use crate::format::{Encoding, Manifest};
use crate::model::EntryPath;
use crate::monitor::Level;
use std::collections::HashSet;

impl Sets {
    /// Returns where the rows of a set come from.
    pub(super) fn source_of(&self, chain: &Chain, position: u32) -> Result<Source, Error> {
        self.ask(chain, position, |rows| rows.source_of(chain.set_id(position)))
    }

    /// Returns whether the signature file of a set has been contradicted by its volumes.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory.
    pub fn is_distrusted(&self, set: &BackupSet) -> Result<bool, Error> {
        self.catalog.sturdy(|_| self.distrusts(set))
    }

    /// As [`Sets::is_distrusted`], for those who start over themselves.
    pub(super) fn distrusts(&self, set: &BackupSet) -> Result<bool, Error> {
        let identity = identity(set);
        let lock = || self.distrusted.lock();
        if lock().contains(&identity) {
            return Ok(true);
        }
        let is_distrusted = self.catalog.read(|rows| rows.is_distrusted(&identity))?;
        // A database that starts over forgets it, and rows that are filled in again must be the
        // same ones.
        if is_distrusted {
            lock().insert(identity);
        }
        Ok(is_distrusted)
    }

    /// Returns the identities of all sets whose signature files have been contradicted.
    pub(super) fn all_distrusted(&self) -> Result<HashSet<Vec<u8>>, Error> {
        let mut all: HashSet<Vec<u8>> =
            self.catalog.sturdy(|_| self.catalog.read(|rows| rows.distrusted()))?;
        all.extend(self.distrusted.lock().iter().cloned());
        Ok(all)
    }

    /// Keeps that the signature file of a set is wrong, reports it and what follows, and makes the
    /// error of it.
    pub(super) fn distrust(
        &self,
        chain: &Chain,
        position: u32,
        what: String,
        follows: &str,
    ) -> Error {
        let set = match chain.set_at(position) {
            Ok(set) => set,
            Err(error) => return error.into(),
        };
        let identity = identity(set);
        self.distrusted.lock().insert(identity.clone());
        let kept: Result<(), Error> =
            self.catalog.sturdy(|_| Ok(self.catalog.write(|rows| rows.distrust(&identity))?));
        let error = Error::Contradicted { file: "signature file", set: set.end(), what };
        self.log_once(Level::Warning, format!("{error}; {follows}"));
        // Kept in memory, it holds for this process at least.
        kept.err().unwrap_or(error)
    }

    /// Returns the error of a set whose manifest was not that of its volumes, if there is another
    /// one, which counts from now on: the stored one instead of a local copy, or another copy of the
    /// stored one.
    pub(super) fn distrust_manifest(&self, chain: &Chain, position: u32) -> Option<Error> {
        self.distrust_copy(chain, position).or_else(|| self.turn_to_other_manifest(chain, position))
    }

    /// Only an encrypted manifest shows by itself that it is damaged.
    fn turn_to_other_manifest(&self, chain: &Chain, position: u32) -> Option<Error> {
        let set = chain.set_at(position).ok()?;
        let stored = set.manifest.as_ref().filter(|file| file.encoding != Encoding::OpenPgp)?;
        let (file, used) = (self.stored(stored), self.manifest(chain, position).ok()?);
        while file.other_copy(file.copy_in_use()).ok()? {
            let other = self.stored_manifest(chain, position, Manifest::read).ok()?;
            if other != *used {
                self.keep_manifest(chain, position, other);
                let what = "it is not of the volumes that are stored".into();
                let error = Error::Contradicted { file: "manifest", set: set.end(), what };
                self.log_once(Level::Warning, format!("{error}; another copy of it counts"));
                return Some(error);
            }
        }
        None
    }

    /// Returns the error of a set whose manifest was a copy that differs from the stored one, which
    /// counts from now on; `None` if the manifest in use is no such copy, or nothing can be learnt
    /// of the stored one.
    fn distrust_copy(&self, chain: &Chain, position: u32) -> Option<Error> {
        let set = chain.set_at(position).ok()?;
        let is_copy = self.may_use_copy(set) && self.local_copy()?.manifest(set.session).is_some();
        let used = self.manifest(chain, position).ok().filter(|_| is_copy)?;
        let stored = self
            .stored_manifest(chain, position, Manifest::read)
            .ok()
            .filter(|stored| *stored != *used)?;
        self.false_copies.lock().insert(identity(set));
        self.keep_manifest(chain, position, stored);
        let what = "it is not of the volumes that are stored".into();
        let error = Error::Contradicted {
            file: "copy of the manifest in the archive directory",
            set: set.end(),
            what,
        };
        self.log_once(Level::Warning, format!("{error}; the stored manifest counts"));
        Some(error)
    }

    /// Takes note that this process has stored a set, and its copies in the archive directory with
    /// it: they need not be read again.
    pub fn trust_copies(&self, set: &BackupSet) {
        self.written.lock().insert(identity(set));
    }

    /// Returns whether the copies of a set are known to be what is stored.
    pub(super) fn trusts_copies(&self, set: &BackupSet) -> bool {
        self.written.lock().contains(&identity(set))
    }

    /// Returns whether a copied manifest may stand for the stored one.
    pub(super) fn may_use_copy(&self, set: &BackupSet) -> bool {
        (self.trusts_copies(set)
            || set.manifest.as_ref().is_none_or(|stored| stored.encoding == Encoding::OpenPgp))
            && !self.false_copies.lock().contains(&identity(set))
    }

    /// Makes sure that volumes have proved the rows of a set at a path and below it: what has not
    /// been read before is read now. A manifest tells which volumes these are, so it is also proved
    /// that the set holds nothing there that its rows lack.
    ///
    /// # Errors
    /// [`Error::Contradicted`] when the rows are wrong; other [`Error`]s when nothing tells.
    pub fn prove(&self, chain: &Chain, position: u32, path: &EntryPath) -> Result<(), Error> {
        if self.source_of(chain, position)? == Source::Volumes {
            return Ok(());
        }
        let manifest = self.manifest(chain, position)?;
        let volumes: Vec<(u32, u32)> =
            manifest.volumes_below(path).map(|volume| (position, volume.number)).collect();
        self.fill_volumes(chain, &volumes)
    }

    /// Holds the rows of a set against its volumes as far as their tables of contents go; whole
    /// volumes are read only where such a table contradicts the rows. Volumes of duplicity have no
    /// tables.
    ///
    /// # Errors
    /// [`Error::Contradicted`] when the rows are wrong; other [`Error`]s when nothing tells.
    pub fn prove_by_tables(&self, chain: &Chain, position: u32) -> Result<(), Error> {
        for number in chain.set_at(position)?.volumes.keys() {
            let key = chain.volume_key(position, *number);
            if self.ask(chain, position, |rows| rows.is_passed(key))? {
                continue;
            }
            match self.fill_from_table(chain, position, *number)? {
                Table::Taken => {}
                Table::Unfit => self.fill_volume(chain, position, *number)?,
                // The others have none either.
                Table::Missing => return Ok(()),
            }
        }
        Ok(())
    }

    /// Returns why nothing can be built on a chain, if the names of one of its sets are only those of
    /// a signature file that failed its check.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn unconfirmed(&self, chain: &Chain) -> Result<Option<Error>, Error> {
        let Some(position) = self.ask(chain, 0, |rows| rows.first_unconfirmed(chain))? else {
            return Ok(None);
        };
        let what = format!("the names of set {}", chain.set_at(position)?.end());
        let cause =
            "neither its signature file nor its volumes fit its manifest; make a full backup";
        Ok(Some(Error::Set { what, cause: cause.into() }))
    }

    /// Reports what is wrong with the signature file of a set: its volumes count from now on.
    pub fn distrust_signatures(&self, chain: &Chain, position: u32, what: &str) {
        self.distrust(chain, position, what.into(), "its volumes count instead");
    }

    /// Returns the positions of the sets whose signatures do not count: their rows come from the
    /// volumes, or something has contradicted their signature files.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn unsound_signatures(&self, chain: &Chain) -> Result<HashSet<u32>, Error> {
        let mut unsound = self.ask(chain, 0, |rows| rows.sets_of_volumes(chain))?;
        let distrusted = self.all_distrusted()?;
        if !distrusted.is_empty() {
            let sets = (0..).zip(&chain.sets);
            let found = sets.filter(|(_, set)| distrusted.contains(&identity(set)));
            unsound.extend(found.map(|(position, _)| position));
        }
        Ok(unsound)
    }

    /// Returns whether all rows of a set have been proved.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn is_proved(&self, chain: &Chain, position: u32) -> Result<bool, Error> {
        let volumes = chain.set_at(position)?.volumes.len();
        let passed =
            self.ask(chain, position, |rows| rows.passed_volumes(chain.set_id(position)))?;
        Ok(passed >= volumes || self.source_of(chain, position)? == Source::Volumes)
    }

    /// Returns a snapshot as its volumes have it, after [`Error::Contradicted`]: the rows of its
    /// chain are filled in anew, under a new number.
    ///
    /// # Errors
    /// [`Error`] when a set of it cannot be read, or the database fails.
    pub fn renew(&self, snapshot: &Snapshot) -> Result<Snapshot, Error> {
        self.catalog.void(&snapshot.chain)?;
        let full = |chain: &Chain| chain.sets.first().map(|full| full.session);
        let renewed =
            self.catalog.chains().into_iter().find(|chain| full(chain) == full(&snapshot.chain));
        let chain = renewed.ok_or_else(|| catalog::Error::Gone("this chain of backups".into()))?;
        self.snapshot(&chain, snapshot.position)
    }
}
