//! [`BulkReader`]: the contents of many files, by decoding every volume once, newest set first,
//! several volumes of a set at a time.

use super::Contents;
use super::file_assembly::{Failure, FileAssembly, Outcome};
use super::target::{FileSink, Incoming, Target};
use super::version_set::VersionSet;
use crate::catalog::{Version, VersionId};
use crate::format::{Manifest, Member, MemberKind};
use crate::model::EntryPath;
use crate::monitor::{Event, Monitor};
use crate::sets::{self, PassListener, Sets, Snapshot};
use crate::storage::ReadAt;
use crate::work;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Builder;

/// Volumes that are decoded at the same time, at most.
const MOST_WORKERS: usize = 8;

/// Sets whose manifests, and volumes, are unlocked together.
const SETS_AHEAD: usize = 16;
/// Volumes that are unlocked together: more would only keep the first ones waiting.
const VOLUMES_AHEAD: usize = 16;

/// Bytes that a volume may be ahead of the one before with a file that both hold; there is one such
/// volume less than workers.
const MOST_HELD: usize = 24 << 20;

/// What holding a piece's header costs at least, in bytes.
const HELD_PIECE: usize = 512;

/// Volumes that are linked together, so that there are not as many links as volumes.
const LINKED: usize = 256;

/// The way from a volume to the next for a file that continues there.
type Link<F> = (Sender<Option<FileAssembly<F>>>, Receiver<Option<FileAssembly<F>>>);

/// Which files a [`BulkReader`] brings.
pub struct ReadRequest<'a> {
    /// The snapshot that has them.
    pub snapshot: &'a Snapshot,
    /// Volumes without anything at this path or below it are not read.
    pub base: &'a EntryPath,
    /// Numbers of the versions whose files are wanted.
    pub expected: VersionSet,
    /// Positions of the sets that likely hold a part of them: their keys are derived beforehand.
    pub likely: BTreeSet<u32>,
    /// Read the volumes of all sets up to the snapshot's, also those in which nothing is wanted.
    pub reads_all: bool,
    /// Reads files by their extents, where that is less; without it all comes by passes.
    pub extents: Option<&'a Contents>,
}

/// Why not all could be read.
#[derive(Debug, thiserror::Error)]
pub enum BulkReadError {
    /// The target has no room left.
    #[error("the target is full: {0}")]
    Full(std::io::Error),
    /// The monitor wanted it.
    #[error("interrupted")]
    Interrupted,
    /// The catalog failed.
    #[error(transparent)]
    Sets(#[from] sets::Error),
}

/// Returns whether an error means that a target has no room left.
pub fn is_full(cause: &std::io::Error) -> bool {
    matches!(cause.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Returns the names of the volumes of a snapshot that may hold something at a path or below it,
/// oldest set first.
///
/// # Errors
/// [`sets::Error`] when a manifest cannot be read, or a volume is missing.
pub fn required_volumes(
    sets: &Sets,
    snapshot: &Snapshot,
    base: &EntryPath,
) -> Result<Vec<String>, sets::Error> {
    let mut names = Vec::new();
    for position in 0..=snapshot.position {
        for described in sets.manifest(&snapshot.chain, position)?.volumes_below(base) {
            names.push(
                sets.volume(&snapshot.chain, position, described.number)?
                    .file
                    .listed()
                    .name
                    .clone(),
            );
        }
    }
    Ok(names)
}

/// Brings the content of all expected files to a target.
pub struct BulkReader<'a, T: Target> {
    pub(super) sets: &'a Sets,
    pub(super) request: ReadRequest<'a>,
    pub(super) target: &'a T,
    monitor: &'a dyn Monitor,
    /// Versions whose files the target has taken.
    pub(super) delivered: VersionSet,
    /// Files that wait for a version in an older set.
    waiting: Mutex<HashMap<VersionId, FileAssembly<T::File>>>,
    failures: Mutex<HashMap<VersionId, Arc<Failure>>>,
    /// What is wrong with whole volumes, or with all of a set (number 0): position, number, cause.
    bad_volumes: Mutex<Vec<(u32, u32, Arc<sets::Error>)>>,
    /// Why it is not proved that a set holds nothing else that is wanted.
    unproved: Mutex<Option<Arc<sets::Error>>>,
    /// The first contradiction between a volume and the rows of its set: what was wanted was wrong.
    contradicted: Mutex<Option<Arc<sets::Error>>>,
    /// Volumes that were read to their end and found good.
    good_volumes: AtomicU64,
    full: Mutex<Option<std::io::Error>>,
    stop: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
    /// Volumes that are done or not needed, and all of them.
    volumes: AtomicUsize,
    all_volumes: AtomicUsize,
}

impl<'a, T: Target> BulkReader<'a, T> {
    /// Gets ready to read.
    pub fn new(
        sets: &'a Sets,
        request: ReadRequest<'a>,
        target: &'a T,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let delivered = VersionSet::new(request.expected.limit());
        Self {
            sets,
            request,
            target,
            monitor,
            delivered,
            waiting: Mutex::default(),
            failures: Mutex::default(),
            bad_volumes: Mutex::default(),
            unproved: Mutex::default(),
            contradicted: Mutex::default(),
            good_volumes: AtomicU64::new(0),
            full: Mutex::default(),
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            volumes: AtomicUsize::new(0),
            all_volumes: AtomicUsize::new(0),
        }
    }

    /// Goes through the sets. Those in which nothing is wanted are looked at, too, unless their
    /// volumes have proved that already.
    ///
    /// # Errors
    /// [`BulkReadError`] when the target is full, or the catalog fails; at the end also when sound
    /// volumes contradict what was wanted: [`sets::Error::is_contradicted`].
    pub fn run(&self) -> Result<(), BulkReadError> {
        if let Some(contents) = self.request.extents {
            self.read_extents(contents)?;
        }
        let sets = self.request.snapshot.position + 1;
        let stored = |position: u32| -> u64 {
            let set = self.request.snapshot.chain.sets.get(position as usize);
            set.map_or(0, |set| set.volumes.values().map(|volume| volume.listed.size).sum())
        };
        let volumes = |position: u32| {
            self.request
                .snapshot
                .chain
                .sets
                .get(position as usize)
                .map_or(0, |set| set.volumes.len())
        };
        self.total.store((0..sets).map(stored).sum(), Ordering::Relaxed);
        self.all_volumes.store((0..sets).map(volumes).sum(), Ordering::Relaxed);
        let (ask, asked) = bounded(2 * SETS_AHEAD);
        std::thread::scope(|scope| {
            // Without it each key is derived when it is needed.
            let _ =
                Builder::new().name("keys".into()).spawn_scoped(scope, || self.open_ahead(&asked));
            let result = (0..sets).rev().try_for_each(|position| {
                // Lets the keys get one set further; a thread that has ended needs no more.
                let _ = ask.try_send(());
                let before = self.done.load(Ordering::Relaxed);
                self.set(position)?;
                if let Some(cause) = self.full.lock().take() {
                    return Err(BulkReadError::Full(cause));
                }
                if self.monitor.is_interrupted() {
                    return Err(BulkReadError::Interrupted);
                }
                self.done.store(before + stored(position), Ordering::Relaxed);
                self.monitor
                    .progress(before + stored(position), self.total.load(Ordering::Relaxed));
                self.volumes_done(
                    (0..sets).rev().take_while(|other| *other >= position).map(volumes).sum(),
                );
                Ok(())
            });
            drop(ask);
            self.drop_waiting();
            let contradicted = self.contradicted.lock().take();
            result.and(contradicted.map_or(Ok(()), |error| Err(sets::Error::Again(error).into())))
        })
    }

    /// Reports how many volumes are done with, if they are more than before.
    fn volumes_done(&self, count: usize) {
        if self.volumes.fetch_max(count, Ordering::Relaxed) >= count {
            return;
        }
        let all = self.all_volumes.load(Ordering::Relaxed);
        self.monitor.event(&Event::VolumesRead { count, all });
    }

    /// Derives the session keys of the sets to come: with a passphrase, one by one, that takes
    /// longer than decoding a small set.
    fn open_ahead(&self, asked: &Receiver<()>) {
        let chain = &self.request.snapshot.chain;
        let is_open = |position: &u32| {
            self.request.extents.is_none()
                || self.is_needed(*position).unwrap_or(true)
                || !self.is_settled(*position)
        };
        let coming: Vec<u32> = self.request.likely.iter().rev().copied().filter(is_open).collect();
        for (batch, positions) in coming.chunks(SETS_AHEAD).enumerate() {
            if batch > 0 && (0..SETS_AHEAD).any(|_| asked.recv().is_err())
                || self.stop.load(Ordering::Relaxed)
            {
                return;
            }
            let sets =
                || positions.iter().filter_map(|position| chain.sets.get(*position as usize));
            self.sets.unlock(sets().filter_map(|set| set.manifest.as_ref()));
            let mut volumes = Vec::new();
            for (position, set) in positions.iter().zip(sets()) {
                // What cannot be read is told when it is needed.
                if let Ok(manifest) = self.sets.manifest(chain, *position) {
                    volumes.extend(
                        manifest
                            .volumes_below(self.request.base)
                            .filter_map(|volume| set.volumes.get(&volume.number)),
                    );
                }
            }
            for together in volumes.chunks(VOLUMES_AHEAD) {
                self.sets.unlock(together.iter().copied());
            }
        }
    }

    /// Returns whether a set has a version that is still wanted, or is read in any case.
    fn is_needed(&self, position: u32) -> Result<bool, sets::Error> {
        let versions = self.sets.versions_of(&self.request.snapshot.chain, position)?;
        let waits = self.waiting.lock().keys().any(|version| versions.contains(&version.number()));
        Ok(self.request.reads_all || waits || self.request.expected.any(versions))
    }

    /// Returns whether all that a set holds at the path is known, so that none of its files is read
    /// but for a version that is wanted.
    fn is_settled(&self, position: u32) -> bool {
        let chain = &self.request.snapshot.chain;
        self.sets.manifest(chain, position).is_ok_and(|manifest| {
            manifest.volumes_below(self.request.base).all(|volume| {
                self.sets.is_volume_filled(chain, position, volume.number).unwrap_or(false)
            })
        })
    }

    /// Returns how many volumes were read to their end and found good.
    pub fn good_volumes(&self) -> u64 {
        self.good_volumes.load(Ordering::Relaxed)
    }

    /// Returns the first reason why a volume, or all of a set, could not be read.
    pub fn first_bad(&self) -> Option<Arc<Failure>> {
        let bad = self.bad_volumes.lock().first().map(|(_, _, cause)| cause.clone());
        bad.or_else(|| self.unproved.lock().clone()).map(|cause| Arc::new(Failure::Stored(cause)))
    }

    /// Returns whether the target has taken the file of a version.
    pub fn is_delivered(&self, version: &Version) -> bool {
        self.delivered.contains(version.id.number())
    }

    /// Returns why the target has not taken an expected file; `None` if it has.
    pub fn failure(&self, version: &Version) -> Option<Arc<Failure>> {
        if self.delivered.contains(version.id.number()) {
            return None;
        }
        if let Some(cause) = self.failures.lock().get(&version.id) {
            return Some(cause.clone());
        }
        let path = self.sets.path(version).unwrap_or_default();
        let bad = self.bad_volumes.lock();
        let concerned = bad.iter().find(|(position, number, _)| {
            if *number == 0 {
                return true;
            }
            let manifest = self.sets.manifest(&self.request.snapshot.chain, *position).ok();
            let volume = manifest.as_ref().and_then(|manifest| manifest.volume(*number));
            volume.is_none_or(|volume| volume.first <= path && path <= volume.last)
        });
        let nowhere = || Failure::Content("no volume of the backup holds it".into());
        Some(Arc::new(
            concerned.map_or_else(nowhere, |(_, _, cause)| Failure::Stored(cause.clone())),
        ))
    }

    fn set(&self, position: u32) -> Result<(), BulkReadError> {
        if let Some(error) = self.sets.left_out(&self.request.snapshot.chain, position)? {
            self.unproved.lock().get_or_insert(Arc::new(error));
        }
        if !self.is_needed(position)? {
            if let Err(error) =
                self.sets.prove(&self.request.snapshot.chain, position, self.request.base)
            {
                let place =
                    if error.is_contradicted() { &self.contradicted } else { &self.unproved };
                place.lock().get_or_insert(Arc::new(error));
            }
            return Ok(());
        }
        let manifest = match self.sets.manifest(&self.request.snapshot.chain, position) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.bad_volumes.lock().push((position, 0, Arc::new(error)));
                return Ok(());
            }
        };
        let volumes: Vec<u32> =
            manifest.volumes_below(self.request.base).map(|volume| volume.number).collect();
        let (mut carried, mut before) = (None, None);
        for together in volumes.chunks(LINKED) {
            carried = self.volumes(position, &manifest, together, before, carried);
            before = together.last().copied();
        }
        if let Some(mut assembly) = carried {
            assembly
                .failure
                .get_or_insert_with(|| Failure::Content("its last pieces are missing".into()));
            self.give_up(assembly, &mut self.target.sink());
        }
        Ok(())
    }

    /// Goes through some volumes of a set. Takes the file that continues in the first of them, from
    /// the volume `before`, and returns the one that continues behind the last.
    fn volumes(
        &self,
        position: u32,
        manifest: &Manifest,
        volumes: &[u32],
        before: Option<u32>,
        carried: Option<FileAssembly<T::File>>,
    ) -> Option<FileAssembly<T::File>> {
        // From each volume to the next goes the file that continues there, if any.
        let links: Vec<Link<T::File>> = (0..=volumes.len()).map(|_| bounded(1)).collect();
        let _ = links[0].0.send(carried);
        let next = AtomicUsize::new(0);
        // As many as there are cores; or transfers, where these are what has to be waited for, and
        // what the user may have limited.
        let storage = self.sets.abilities();
        let most = if storage.rereads { work::cores() } else { storage.transfers };
        let workers = most.min(MOST_WORKERS).min(volumes.len());
        // Taken in ascending order, so whoever waits for the volume before waits for somebody who
        // is at work.
        let work = || {
            let mut sink = self.target.sink();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(&number) = volumes.get(index) else { break };
                let [(_, from), (to, _)] = [&links[index], &links[index + 1]];
                if self.is_stopped() {
                    let _ = to.send(None);
                    break;
                }
                let before =
                    index.checked_sub(1).map_or(before, |before| volumes.get(before).copied());
                let from = before.is_some_and(|before| before + 1 == number).then_some(from);
                let run = VolumeRun::new(self, &mut sink, position, from);
                let carry =
                    std::panic::catch_unwind(AssertUnwindSafe(|| run.run(number, manifest)));
                // Whoever waits for it must not wait for ever; or nobody may be left to take it.
                let (carry, panic) =
                    carry.map_or_else(|panic| (None, Some(panic)), |carry| (carry, None));
                let _ = to.send(carry);
                if let Some(panic) = panic {
                    std::panic::resume_unwind(panic);
                }
            }
        };
        work::on_threads("volume", workers, work);
        // What was to continue in a volume that was not read.
        for ((_, receiver), &number) in links.iter().zip(volumes) {
            if let Ok(Some(mut assembly)) = receiver.try_recv() {
                let bad = self.bad_volume(position, number);
                assembly.failure.get_or_insert(
                    bad.unwrap_or_else(|| Failure::Content("its last pieces are missing".into())),
                );
                self.give_up(assembly, &mut self.target.sink());
            }
        }
        links.last().and_then(|(_, receiver)| receiver.try_recv().ok().flatten())
    }

    /// Returns why a volume could not be read, if it could not.
    fn bad_volume(&self, position: u32, number: u32) -> Option<Failure> {
        let bad = self.bad_volumes.lock();
        let (_, _, cause) = bad.iter().find(|(at, bad, _)| (*at, *bad) == (position, number))?;
        Some(Failure::Stored(cause.clone()))
    }

    fn give_up(&self, assembly: FileAssembly<T::File>, sink: &mut T::Sink<'_>) {
        let unread = || Failure::Content("a volume that holds a part of it cannot be read".into());
        self.fail(assembly.goal, assembly.failure.unwrap_or_else(unread));
        sink.discard(assembly.file);
    }

    /// Notes why a version failed, if nothing is known yet, and stops at a full target.
    fn fail(&self, goal: VersionId, mut failure: Failure) {
        if let Failure::Target(cause) = &mut failure
            && is_full(cause)
        {
            self.stop.store(true, Ordering::Relaxed);
            let copy = std::io::Error::new(cause.kind(), cause.to_string());
            self.full.lock().get_or_insert(std::mem::replace(cause, copy));
        }
        self.failures.lock().entry(goal).or_insert_with(|| Arc::new(failure));
    }

    /// Returns whether no more is to be done: the target is full, or the monitor wants the end.
    pub(super) fn is_stopped(&self) -> bool {
        if self.monitor.is_interrupted() {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.stop.load(Ordering::Relaxed)
    }

    /// Gives up files whose older versions never came.
    fn drop_waiting(&self) {
        let mut sink = self.target.sink();
        for (_, assembly) in self.waiting.lock().drain() {
            // The volumes that failed tell more than this file knows, so no cause is noted.
            sink.discard(assembly.file);
        }
    }
}

/// One volume on its way to the target.
struct VolumeRun<'r, 'a, T: Target> {
    reader: &'r BulkReader<'a, T>,
    sink: &'r mut T::Sink<'a>,
    position: u32,
    /// Gives the file that the volume before has not ended.
    from: Option<&'r Receiver<Option<FileAssembly<T::File>>>>,
    /// The last member's path, and its file if it is wanted.
    current: Option<(EntryPath, Option<FileAssembly<T::File>>)>,
    /// Files of this volume that got their names, or wait; void if the volume turns out to be bad.
    completed: Vec<(VersionId, EntryPath)>,
    put_off: Vec<VersionId>,
    /// The member that comes in is one too many for its path.
    skip: bool,
    /// What has come of a file that the volume before has not given yet.
    held: Option<Held<'r, T::File>>,
}

/// The beginning of a volume, decoded while the volume before is still at work on the same file.
struct Held<'r, F> {
    from: &'r Receiver<Option<FileAssembly<F>>>,
    version: VersionId,
    events: Vec<HeldEvent>,
    bytes: usize,
}

impl<F> Held<'_, F> {
    fn hold(&mut self, event: HeldEvent, bytes: usize) {
        self.bytes += bytes;
        self.events.push(event);
    }
}

enum HeldEvent {
    Piece(Member),
    Data(Vec<u8>),
}

impl<'r, 'a, T: Target> VolumeRun<'r, 'a, T> {
    fn new(
        reader: &'r BulkReader<'a, T>,
        sink: &'r mut T::Sink<'a>,
        position: u32,
        from: Option<&'r Receiver<Option<FileAssembly<T::File>>>>,
    ) -> Self {
        Self {
            reader,
            sink,
            position,
            from,
            current: None,
            completed: Vec::new(),
            put_off: Vec::new(),
            skip: false,
            held: None,
        }
    }

    /// Decodes the volume and returns the file that continues in the next.
    fn run(mut self, number: u32, manifest: &Manifest) -> Option<FileAssembly<T::File>> {
        let (sets, chain) = (self.reader.sets, &self.reader.request.snapshot.chain);
        let result = sets.pass(chain, self.position, number, &mut self);
        if let Ok(source) = sets.volume(chain, self.position, number) {
            let done = self.reader.done.fetch_add(source.file.size(), Ordering::Relaxed)
                + source.file.size();
            self.reader.monitor.progress(done, self.reader.total.load(Ordering::Relaxed));
        }
        self.reader.volumes_done(self.reader.volumes.load(Ordering::Relaxed) + 1);
        self.settle(true);
        let current = self.current.take().and_then(|(_, assembly)| assembly);
        match result {
            Ok(()) => {
                self.reader.good_volumes.fetch_add(1, Ordering::Relaxed);
                let continues =
                    manifest.volume(number).is_some_and(|volume| volume.last_piece.is_some());
                match current {
                    Some(assembly) if continues => return Some(assembly),
                    Some(assembly) => self.end(assembly),
                    None => {}
                }
            }
            Err(error) => self.void(number, current, Arc::new(error)),
        }
        None
    }

    /// Takes back what came from a volume that turned out to be bad.
    fn void(
        &mut self,
        number: u32,
        current: Option<FileAssembly<T::File>>,
        cause: Arc<sets::Error>,
    ) {
        if cause.is_contradicted() {
            self.reader.contradicted.lock().get_or_insert(cause.clone());
        }
        self.reader.bad_volumes.lock().push((self.position, number, cause.clone()));
        let waiting = self
            .put_off
            .drain(..)
            .filter_map(|version| self.reader.waiting.lock().remove(&version));
        for mut assembly in current.into_iter().chain(waiting).collect::<Vec<_>>() {
            assembly.failure.get_or_insert(Failure::Stored(cause.clone()));
            self.reader.give_up(assembly, self.sink);
        }
        for (goal, path) in std::mem::take(&mut self.completed) {
            self.take_back(goal, &path, Failure::Stored(cause.clone()));
        }
    }

    /// Removes a file that is complete already.
    fn take_back(&mut self, goal: VersionId, path: &EntryPath, cause: Failure) {
        self.reader.delivered.clear(goal.number());
        self.reader.failures.lock().insert(goal, Arc::new(cause));
        // Reported as not delivered in any case.
        let _ = self.sink.remove(path);
    }

    /// Begins, or takes up, the file of the first member of a version here, if it is wanted.
    fn start(&mut self, member: &Member, version: VersionId) -> Option<FileAssembly<T::File>> {
        if member.piece.is_some_and(|piece| piece > 1) {
            let from = self.from.take()?;
            self.held = Some(Held {
                from,
                version,
                events: vec![HeldEvent::Piece(member.clone())],
                bytes: 0,
            });
            return None;
        }
        let mut assembly = if self.reader.request.expected.contains(version.number()) {
            let entry = member.entry.clone()?;
            match self.sink.begin(&member.path, version) {
                Ok(file) => FileAssembly::new(version, entry, file),
                Err(cause) => {
                    self.reader.fail(version, Failure::Target(cause));
                    return None;
                }
            }
        } else {
            let mut assembly = self.reader.waiting.lock().remove(&version)?;
            if let Err(cause) = self.sink.resume(&mut assembly.file) {
                assembly.failure = Some(Failure::Target(cause));
            }
            assembly
        };
        assembly.begin(version, member);
        Some(assembly)
    }

    /// Gives what was held back to its file, once the volume before has ended; waits for that, or
    /// looks only whether it has.
    fn settle(&mut self, waits: bool) {
        let Some(held) = &self.held else { return };
        let carried = match waits {
            true => held.from.recv().ok().flatten(),
            false => match held.from.try_recv() {
                Ok(carried) => carried,
                Err(_) => return,
            },
        };
        let (Some(held), path) =
            (self.held.take(), self.current.as_ref().map(|(path, _)| path.clone()))
        else {
            return;
        };
        let Some(mut assembly) = carried else {
            // The manifest said that it ended there, and it was believed.
            if let Some(path) =
                path.filter(|_| self.reader.delivered.contains(held.version.number()))
            {
                let cause = Failure::Content(
                    "it goes on in a volume that the manifest does not tell of".into(),
                );
                self.take_back(held.version, &path, cause);
            }
            return;
        };
        if assembly.version != held.version {
            assembly.fail("its last pieces are missing".into());
            return self.reader.give_up(assembly, self.sink);
        }
        for event in held.events {
            match event {
                HeldEvent::Piece(member) => assembly.go_on(&member),
                HeldEvent::Data(bytes) => assembly.data(&bytes),
            }
        }
        if let Some((_, current)) = &mut self.current {
            *current = Some(assembly);
        }
    }

    /// A version has come in whole.
    fn end(&mut self, assembly: FileAssembly<T::File>) {
        match assembly.end() {
            Outcome::Failed(assembly) => self.reader.give_up(assembly, self.sink),
            Outcome::Complete(assembly) => {
                let path = assembly.file.path().clone();
                match self.sink.complete(assembly.file, &assembly.entry, assembly.size) {
                    Ok(()) => {
                        self.reader.delivered.set(assembly.goal.number());
                        self.completed.push((assembly.goal, path));
                    }
                    Err(cause) => self.reader.fail(assembly.goal, Failure::Target(cause)),
                }
            }
            Outcome::Waiting(mut assembly) => match self.version_below(assembly.version) {
                Some(below) => {
                    assembly.file.close();
                    self.put_off.push(below);
                    self.reader.waiting.lock().insert(below, assembly);
                }
                None => {
                    assembly.fail("there is no file that its delta applies to".into());
                    self.reader.give_up(assembly, self.sink);
                }
            },
        }
    }

    fn version_below(&self, version: VersionId) -> Option<VersionId> {
        let version = self.reader.sets.version(version).ok()?;
        self.reader
            .sets
            .version_before(&version)
            .ok()?
            .filter(Version::is_file)
            .map(|below| below.id)
    }
}

impl<T: Target> PassListener for VolumeRun<'_, '_, T> {
    fn member(&mut self, member: &Member, version: Option<VersionId>) -> ControlFlow<()> {
        if self.reader.is_stopped() {
            return ControlFlow::Break(());
        }
        if let Some((path, assembly)) = &mut self.current
            && *path == member.path
        {
            if let Some(held) = &mut self.held {
                self.skip = member.piece.is_none();
                if !self.skip {
                    held.hold(
                        HeldEvent::Piece(member.clone()),
                        HELD_PIECE + 2 * member.path.as_bytes().len(),
                    );
                }
                let waits = held.bytes >= MOST_HELD;
                self.settle(waits);
                return ControlFlow::Continue(());
            }
            // Of several members for one path the first counts, with all its pieces.
            match assembly {
                Some(assembly) if assembly.is_continued_by(member) => {
                    self.skip = false;
                    assembly.go_on(member);
                }
                _ => self.skip = true,
            }
            return ControlFlow::Continue(());
        }
        self.skip = false;
        self.settle(true);
        if let Some((_, Some(assembly))) = self.current.take() {
            self.end(assembly);
        }
        let wanted = version.filter(|_| member.kind != MemberKind::Deleted);
        let assembly = wanted.and_then(|version| self.start(member, version));
        self.current = Some((member.path.clone(), assembly));
        ControlFlow::Continue(())
    }

    fn data(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        if self.reader.is_stopped() {
            return ControlFlow::Break(());
        }
        if self.skip {
            return ControlFlow::Continue(());
        }
        if let Some(held) = &mut self.held {
            held.hold(HeldEvent::Data(bytes.to_vec()), bytes.len() + size_of::<HeldEvent>());
            let waits = held.bytes >= MOST_HELD;
            self.settle(waits);
            return ControlFlow::Continue(());
        }
        if let Some((_, Some(assembly))) = &mut self.current {
            assembly.data(bytes);
        }
        ControlFlow::Continue(())
    }

    fn left_out(&mut self, error: sets::Error) {
        self.reader.unproved.lock().get_or_insert(Arc::new(error));
    }
}
