//! Level 2: what the first pass over a volume tells, kept as [`Part`]s.

use super::Error;
use super::proof::Proof;
use super::sets::Sets;
use super::tables::Table;
use crate::catalog::{Chain, PackedParts, Rows, VersionId};
use crate::format::{Member, MemberKind, Part};
use crate::model::{BackupTime, EntryPath};
use crate::monitor::Level;
use crate::volume::{Event, PartBuilder, VolumeKey, checked_pass, first_pass};
use crate::work;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Hears the members of a volume while it is decoded, each with its version. What it heard counts
/// only once the pass has ended well.
pub trait PassListener {
    /// A member begins. `version` is `None` if the signature file does not know it.
    fn member(&mut self, member: &Member, version: Option<VersionId>) -> ControlFlow<()>;

    /// The next bytes of its data.
    fn data(&mut self, bytes: &[u8]) -> ControlFlow<()>;

    /// The volume holds something that cannot be taken, which has been reported.
    fn left_out(&mut self, error: Error);
}

/// Members of a volume that are left out, at most, of which each is reported.
const MOST_LEFT_OUT: usize = 1000;

/// Whether what a pass has told must be found in the catalog afterwards.
#[derive(Clone, Copy)]
enum Keep {
    Surely,
    IfPossible,
}

/// Hears nothing: for passes that only fill the catalog.
struct Nobody;

impl PassListener for Nobody {
    fn member(&mut self, _: &Member, _: Option<VersionId>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn data(&mut self, _: &[u8]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn left_out(&mut self, _: Error) {}
}

impl Sets {
    /// Makes sure that a volume has had its first pass, or that its table of contents has been read
    /// instead. Several callers at once make one pass.
    ///
    /// # Errors
    /// [`Error`] when the volume is missing, damaged, or cannot be read; the monitor has heard of
    /// it then. [`Error::Contradicted`] when it is sound, and the rows of its set are not.
    pub fn fill_volume(&self, chain: &Chain, position: u32, number: u32) -> Result<(), Error> {
        let key = chain.volume_key(position, number);
        if self.is_volume_filled(chain, position, number)? {
            return Ok(());
        }
        let turn = self.turn(key);
        let _turn = turn.lock();
        let result = match self.is_volume_filled(chain, position, number) {
            Ok(false) => self.fill_now(chain, position, number),
            other => other.map(|_| ()),
        };
        self.end_turn(key);
        result
    }

    /// As [`Sets::fill_volume`], of several volumes, which are named by position and number: their
    /// tables are read at once, and the first passes over those that have none go side by side.
    ///
    /// # Errors
    /// The first of [`Sets::fill_volume`].
    pub fn fill_volumes(&self, chain: &Chain, volumes: &[(u32, u32)]) -> Result<(), Error> {
        self.fill_tables(chain, volumes)?;
        // Mostly there are none, and then no thread is started.
        let mut missing = Vec::new();
        for &(position, number) in volumes {
            if !self.is_volume_filled(chain, position, number)? {
                missing.push((position, number));
            }
        }
        let threads = work::cores().max(self.abilities().transfers);
        let fill = |&(position, number): &(u32, u32)| self.fill_volume(chain, position, number);
        work::each(&missing, threads, fill).map(drop)
    }

    /// Returns whether a volume has had its first pass, or its table has been read.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn is_volume_filled(
        &self,
        chain: &Chain,
        position: u32,
        number: u32,
    ) -> Result<bool, Error> {
        Ok(self.volume_length(chain, position, number)?.is_some())
    }

    /// Returns how many plain bytes a volume has, before a table; `None` as long as nothing has been
    /// learnt of it.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn volume_length(
        &self,
        chain: &Chain,
        position: u32,
        number: u32,
    ) -> Result<Option<u64>, Error> {
        let key = chain.volume_key(position, number);
        self.ask(chain, position, |rows| rows.volume_length(key))
    }

    /// Returns what whoever fills a volume has to hold meanwhile.
    pub(super) fn turn(&self, key: VolumeKey) -> Arc<parking_lot::Mutex<()>> {
        self.lock_busy().entry(key).or_default().clone()
    }

    /// Forgets that somebody has filled a volume.
    pub(super) fn end_turn(&self, key: VolumeKey) {
        self.lock_busy().remove(&key);
    }

    fn fill_now(&self, chain: &Chain, position: u32, number: u32) -> Result<(), Error> {
        self.check_not_bad(chain.volume_key(position, number))?;
        match self.fill_from_table(chain, position, number)? {
            Table::Taken => Ok(()),
            Table::Missing | Table::Unfit => {
                self.pass_and(chain, position, number, &mut Nobody, Keep::Surely)
            }
        }
    }

    /// Decodes a volume from its start, tells its members, and keeps what they tell.
    ///
    /// # Errors
    /// As [`Sets::fill_volume`]; a volume that is known to be damaged fails at once.
    pub fn pass(
        &self,
        chain: &Chain,
        position: u32,
        number: u32,
        listener: &mut dyn PassListener,
    ) -> Result<(), Error> {
        self.pass_and(chain, position, number, listener, Keep::IfPossible)
    }

    fn pass_and(
        &self,
        chain: &Chain,
        position: u32,
        number: u32,
        listener: &mut dyn PassListener,
        keep: Keep,
    ) -> Result<(), Error> {
        let key = chain.volume_key(position, number);
        self.check_not_bad(key)?;
        match self.pass_over_copies(chain, position, number, listener, keep) {
            Err(error)
                if error.is_contradicted()
                    || matches!(
                        error,
                        Error::Volume { cause: crate::volume::Error::Stopped, .. }
                    ) =>
            {
                Err(error)
            }
            Err(error) => {
                if let Some(error) =
                    (!error.is_passing()).then(|| self.distrust_manifest(chain, position)).flatten()
                {
                    return Err(error);
                }
                let error = Arc::new(error);
                self.log_once(Level::Error, error.to_string());
                if !error.is_passing() {
                    self.lock_bad().insert(key, error.clone());
                }
                Err(Error::Again(error))
            }
            result => result,
        }
    }

    /// Makes a pass over a volume, and where its bytes prove to be wrong, over each other copy of it:
    /// nothing of a wrong one has been kept, and no listener that keeps something has heard of it.
    fn pass_over_copies(
        &self,
        chain: &Chain,
        position: u32,
        number: u32,
        listener: &mut dyn PassListener,
        keep: Keep,
    ) -> Result<(), Error> {
        let file = self.volume(chain, position, number)?.file;
        loop {
            let copy = file.copy_in_use();
            match self.pass_now(chain, position, number, listener, keep) {
                Err(Error::Volume { set, cause }) if cause.is_other_bytes() => {
                    match file.other_copy(copy) {
                        Ok(true) => {}
                        Ok(false) => return Err(Error::Volume { set, cause }),
                        Err(error) => return Err(Error::Volume { set, cause: error.into() }),
                    }
                }
                result => return result,
            }
        }
    }

    /// Fails at once for a volume that is known to be damaged.
    fn check_not_bad(&self, key: VolumeKey) -> Result<(), Error> {
        self.lock_bad().get(&key).map_or(Ok(()), |cause| Err(Error::Again(cause.clone())))
    }

    fn pass_now(
        &self,
        chain: &Chain,
        position: u32,
        number: u32,
        listener: &mut dyn PassListener,
        keep: Keep,
    ) -> Result<(), Error> {
        let key = chain.volume_key(position, number);
        let set = chain.set_at(position)?.end();
        let mut source = self.volume(chain, position, number)?;
        let manifest = self.manifest(chain, position)?;
        let described = manifest.volume(number).ok_or(Error::MissingVolume { set, number })?;
        source.hash = described.hash;
        let mut run = VolumeRun::new(Proof::new(self, chain, position, number, &manifest)?, number);
        let mut too_long = Vec::new();
        let take = |event: Event<'_>| match event {
            Event::Member(member) => {
                let version = run.member(member);
                listener.member(member, version)
            }
            Event::Data(bytes) => {
                run.data(bytes);
                listener.data(bytes)
            }
            Event::TooLong(cause) => {
                // Each is one line of the log; whoever writes more wants to exhaust memory.
                if too_long.len() < MOST_LEFT_OUT {
                    too_long.push(cause);
                }
                ControlFlow::Continue(())
            }
        };
        let outcome = match keep {
            Keep::Surely => first_pass(&source, &self.codec, take),
            // The listener puts files into their places as it hears of them.
            Keep::IfPossible => checked_pass(&source, &self.codec, take),
        };
        let (seek_index, points) = outcome.map_err(|cause| Error::Volume { set, cause })?;
        for cause in too_long {
            self.keep_left_out(chain, position, &cause);
            listener.left_out(self.leave_out(set, cause));
        }
        let Told { parts, complaints, contradiction, left_out } =
            run.finish(described.last_piece.is_none())?;
        if let Some(what) = contradiction {
            return Err(self.distrust_manifest(chain, position).unwrap_or_else(|| {
                self.distrust(chain, position, what, "its volumes count instead")
            }));
        }
        if let Some(path) = left_out {
            let first: String = path.to_string().chars().take(200).collect();
            listener.left_out(self.leave_out(
                set,
                format!("'{first}' is left out, since folders above it are not in the backup"),
            ));
        }
        for complaint in complaints {
            self.log_once(Level::Error, format!("set {set}, volume {number}: {complaint}"));
        }
        let save = |rows: &Rows<'_>| rows.save_volume(key, (&seek_index, &points), &parts);
        match keep {
            Keep::Surely => self.record(chain, position, save),
            Keep::IfPossible => {
                let set = chain.set_id(position);
                self.catalog
                    .keep_if_possible(|rows| rows.set_is_there(set).and_then(|()| save(rows)));
                Ok(())
            }
        }
    }

    /// Reports what a set holds and the catalog does not, whatever has filled it, as an error.
    fn leave_out(&self, set: BackupTime, cause: String) -> Error {
        self.log_once(Level::Error, format!("set {set}: {cause}"));
        Error::Set { what: format!("all of set {set}"), cause: cause.into() }
    }

    /// Keeps that a path of a set has no row, if that is possible.
    fn keep_left_out(&self, chain: &Chain, position: u32, cause: &str) {
        let set = chain.set_id(position);
        self.catalog.keep_if_possible(|rows| rows.keep_left_out(set, cause));
    }

    /// Returns the error of a set of which some path has no row, as far as that is known.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn left_out(&self, chain: &Chain, position: u32) -> Result<Option<Error>, Error> {
        let set = chain.set_id(position);
        let cause = self.ask(chain, position, |rows| rows.left_out(set))?;
        let what = || Ok::<_, Error>(format!("all of set {}", chain.set_at(position)?.end()));
        cause.map(|cause| Ok(Error::Set { what: what()?, cause: cause.into() })).transpose()
    }

    /// Returns what is known of the content of a version: parts by volume, the one put together
    /// from all of them first as 0.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn parts(&self, version: VersionId) -> Result<Vec<(u32, Part)>, Error> {
        self.ask(&*self.chain_of(version.chain())?, 0, |rows| rows.parts(version))
    }

    /// Keeps what was put together from all volumes of a version, and its size.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn save_joined(&self, version: VersionId, part: &Part) -> Result<(), Error> {
        let save = |rows: &Rows<'_>| rows.save_part(version, 0, part);
        self.record(&*self.chain_of(version.chain())?, 0, save)
    }

    fn lock_busy(
        &self,
    ) -> parking_lot::MutexGuard<
        '_,
        std::collections::HashMap<VolumeKey, Arc<parking_lot::Mutex<()>>>,
    > {
        self.busy_volumes.lock()
    }

    fn lock_bad(
        &self,
    ) -> parking_lot::MutexGuard<'_, std::collections::HashMap<VolumeKey, Arc<Error>>> {
        self.bad_volumes.lock()
    }
}

/// Turns the members of one volume into parts, reading the set's rows alongside: both are in path
/// order.
struct VolumeRun<'a> {
    proof: Proof<'a>,
    number: u32,
    parts: PackedParts,
    complaints: Vec<String>,
    current: Option<Current>,
    left_out: Option<EntryPath>,
    trouble: Option<Error>,
}

/// What the members of a volume have told.
struct Told {
    parts: PackedParts,
    /// What is wrong with single paths.
    complaints: Vec<String>,
    /// What contradicts the set's rows.
    contradiction: Option<String>,
    /// The first path without a row, though the rows come from the volumes.
    left_out: Option<EntryPath>,
}

/// The path whose members are coming in.
struct Current {
    path: EntryPath,
    version: Option<VersionId>,
    part: PartBuilder,
}

impl<'a> VolumeRun<'a> {
    fn new(proof: Proof<'a>, number: u32) -> Self {
        let (parts, complaints) = (PackedParts::default(), Vec::new());
        Self { proof, number, parts, complaints, current: None, left_out: None, trouble: None }
    }

    fn member(&mut self, member: &Member) -> Option<VersionId> {
        let data = member.offset..member.offset.saturating_add(member.length);
        if let Some(current) = self.current.as_mut().filter(|current| current.path == member.path) {
            let counts = current.part.go_on(member.kind, member.piece, data);
            return current.version.filter(|_| counts);
        }
        self.flush(true);
        let version = match self.proof.meet(&member.path, member.entry.as_ref()) {
            Ok(None) => {
                self.left_out.get_or_insert_with(|| member.path.clone());
                None
            }
            Ok(version) => version,
            Err(error) => {
                self.trouble.get_or_insert(error);
                None
            }
        };
        if member.kind == MemberKind::Deleted {
            return version;
        }
        let part = PartBuilder::new(self.number, member.kind, member.piece, data);
        self.current = Some(Current { path: member.path.clone(), version, part });
        version
    }

    fn data(&mut self, bytes: &[u8]) {
        if let Some(current) = &mut self.current {
            current.part.data(bytes);
        }
    }

    /// Ends the path whose members came in; `is_last` tells that none follow in another volume.
    fn flush(&mut self, is_last: bool) {
        let Some(Current { path, version: Some(version), part }) = self.current.take() else {
            return;
        };
        match part.finish(is_last) {
            Ok(part) => self.parts.push(version, &part),
            Err(cause) => self.complaints.push(format!("cannot put '{path}' together: {cause}")),
        }
    }

    fn finish(mut self, is_last: bool) -> Result<Told, Error> {
        self.flush(is_last);
        match self.trouble {
            Some(error) => Err(error),
            None => {
                let contradiction = self.proof.finish()?;
                Ok(Told {
                    parts: self.parts,
                    complaints: self.complaints,
                    contradiction,
                    left_out: self.left_out,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Files, Item, PathState, World};
    use crate::codec::Options;
    use crate::storage::{ErrorKind, RecordingStorage};
    use PathState::{Directory, File};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn files() -> Arc<Files> {
        let files = Arc::new(Files::default());
        let first: &[Item] =
            &[(".", Directory), ("a", File(vec![1; 3000])), ("b", File(vec![2; 3000]))];
        files.write(0, &[first, &[("b", File(vec![3; 3000])), ("c", File(vec![4; 9]))]], false);
        files.write(1, &[&[(".", Directory), ("c", File(vec![5; 9]))]], false);
        files
    }

    #[test]
    fn a_storage_that_fails_damages_nothing() {
        let is_away = Arc::new(AtomicBool::new(false));
        let fault = is_away.clone();
        let storage = RecordingStorage::failing(files(), move |_| {
            fault.load(Ordering::Relaxed).then_some(ErrorKind::Other)
        });
        let world = World::over(storage, None, Options::default());
        let chain = world.chain();
        is_away.store(true, Ordering::Relaxed);
        let error = world.sets.snapshot(&chain, 1).err().unwrap();
        assert!(error.is_passing(), "{error}");
        assert_eq!(world.sets.usable(&chain), 2);
        is_away.store(false, Ordering::Relaxed);
        world.sets.snapshot(&chain, 1).unwrap();
        is_away.store(true, Ordering::Relaxed);
        let error = world.sets.fill_volume(&chain, 0, 1).unwrap_err();
        assert!(error.is_passing(), "{error}");
        is_away.store(false, Ordering::Relaxed);
        (0..2).for_each(|position| world.fill_volumes(&chain, position));
    }

    #[test]
    fn damage_is_remembered_until_the_storage_is_listed_anew() {
        let files = files();
        let world = World::plain(&files);
        let chain = world.chain();
        world.sets.fill(&chain).unwrap();
        files.change("vol2", |bytes| bytes[700] ^= 1);
        assert!(!world.sets.fill_volume(&chain, 0, 2).unwrap_err().is_passing());
        files.change("vol2", |bytes| bytes[700] ^= 1);
        world.storage.take_calls();
        assert!(!world.sets.fill_volume(&chain, 0, 2).unwrap_err().is_passing());
        assert_eq!(world.take_reads("vol2"), (0, 0));
        let chain = world.chain();
        world.fill_volumes(&chain, 0);
    }
}
