//! [`MultiStorage`]: several storages as one.

use super::REST;
use super::files::{Files, Lost, StoredCopy};
use crate::monitor::{Level, Monitor};
use crate::storage::{
    Abilities, ByteStream, CopyInUse, Error, ErrorKind, Listed, Settings, Staged, StagedWriter,
    Storage, Url,
};
use crate::work;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Several storages as one: each file in one of them, or in all.
pub struct MultiStorage(Arc<Shared>);

/// What is shared with streams.
struct Shared {
    location: String,
    is_mirror: bool,
    goes_on: bool,
    stores: Vec<Store>,
    tempdir: PathBuf,
    monitor: Arc<dyn Monitor>,
    files: Mutex<Files>,
    /// Which store takes the next file, where each goes to one of them.
    next: AtomicUsize,
    /// One copy is left for another at a time.
    complaint: Mutex<()>,
}

/// One of the storages.
struct Store {
    storage: Arc<dyn Storage>,
    prefixes: Vec<String>,
    /// When it has failed.
    failed: Mutex<Option<Instant>>,
    /// What was reported of it last, so that it is not repeated by each listing.
    reported: Mutex<String>,
}

impl Store {
    fn is_resting(&self) -> bool {
        self.failed.lock().is_some_and(|since| since.elapsed() < REST)
    }

    /// Takes note of a failure that has taken time.
    fn note(&self, error: &Error) {
        if error.kind.is_passing() {
            *self.failed.lock() = Some(Instant::now());
        }
    }

    fn error(&self, name: &str, cause: String) -> Error {
        let place = format!("{}/{name}", self.storage.location());
        Error { operation: "write", place, kind: ErrorKind::Other, cause }
    }
}

impl MultiStorage {
    /// Puts storages together, each with the prefixes of the names that are for it. If it is a
    /// mirror, all of them get each file, else one of them does; if it goes on, a store that does
    /// not take a file is gone without.
    pub fn new(
        url: &Url,
        (is_mirror, goes_on): (bool, bool),
        stores: Vec<(Arc<dyn Storage>, Vec<String>)>,
        settings: &Settings,
    ) -> Self {
        let store = |(storage, prefixes)| Store {
            storage,
            prefixes,
            failed: Mutex::default(),
            reported: Mutex::default(),
        };
        let (files, next, complaint) = Default::default();
        Self(Arc::new(Shared {
            location: url.to_string(),
            is_mirror,
            goes_on,
            stores: stores.into_iter().map(store).collect(),
            tempdir: settings.tempdir.clone(),
            monitor: settings.monitor.clone(),
            files,
            next,
            complaint,
        }))
    }
}

impl Shared {
    /// Reports something of a store, unless it is what was reported of it last.
    fn report(&self, store: &Store, level: Level, text: String) {
        let mut reported = store.reported.lock();
        if *reported != text {
            self.monitor.message(level, &text);
            *reported = text;
        }
    }

    /// Asks all stores the same.
    fn ask_all<T: Send>(&self, ask: impl Fn(&dyn Storage) -> T + Sync) -> Vec<T> {
        work::all(&self.stores, self.stores.len(), |store| ask(&*store.storage))
    }

    /// Takes over a failure that a mirror can do without.
    fn go_without(&self, store: &Store, error: &Error) {
        store.note(error);
        let text = format!("{error}; going on without {}", store.storage.location());
        self.report(store, Level::Warning, text);
    }

    /// Returns the stores that a file is to be stored in: where it is already, or all that may have
    /// it, those that rest left out as long as others do not.
    fn targets(&self, name: &str) -> Vec<usize> {
        let all: Vec<usize> = (0..self.stores.len()).collect();
        if !self.is_mirror {
            let first = match self.files.lock().stores_of(name).first() {
                Some(&known) => known,
                None => self.next.fetch_add(1, Ordering::Relaxed) % all.len(),
            };
            return [&all[first..], &all[..first]].concat();
        }
        let has_prefix = |number: &&usize| {
            self.stores[**number].prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        let named: Vec<usize> = all.iter().filter(has_prefix).copied().collect();
        let mut targets = if named.is_empty() { all } else { named };
        let is_resting = |number: &usize| self.stores[*number].is_resting();
        if self.goes_on && !targets.iter().all(is_resting) {
            targets.retain(|number| !is_resting(number));
        }
        targets
    }

    fn put_into(&self, store: &Store, staged: &Staged) -> Result<Listed, Error> {
        let listed = store.storage.put(staged)?;
        if listed.size == staged.size() {
            return Ok(listed);
        }
        let cause = format!("it has {} bytes of it instead of {}", listed.size, staged.size());
        Err(store.error(staged.name(), cause))
    }

    /// Reports what is not where it was stored; fails if that is not to be gone on from.
    fn check(&self, lost: Vec<Lost>) -> Result<(), Error> {
        for Lost { name, store, size, found } in lost {
            let store = &self.stores[store];
            let cause = match found {
                Some(found) => format!("it has {found} bytes of it instead of {size}"),
                None => "it does not have it any more".into(),
            };
            let error = store.error(&name, cause);
            if !self.goes_on {
                return Err(error);
            }
            let text = format!("File {name} was corrupted during upload: {error}");
            self.monitor.message(Level::Warning, &text);
        }
        Ok(())
    }

    /// Returns the copies of a file that can stand for each other, in the order in which they are to
    /// be read. What was not listed so is looked for everywhere.
    fn candidates(&self, file: &Listed) -> Vec<StoredCopy> {
        let anywhere = || {
            let copy = |store| StoredCopy { store, listed: file.clone() };
            (0..self.stores.len()).map(copy).collect()
        };
        let mut copies =
            self.files.lock().find(file).map_or_else(anywhere, |known| known.copies.clone());
        copies.sort_by_key(|copy| self.stores[copy.store].is_resting());
        if let Some(size) = copies.first().map(|copy| copy.listed.size) {
            copies.retain(|copy| copy.listed.size == size);
        }
        copies
    }

    /// Reads a file from the first store that has it and answers, but for those in `tried`; returns
    /// which one that is.
    fn read<T>(
        &self,
        file: &Listed,
        tried: &[usize],
        mut read: impl FnMut(&dyn Storage, &Listed) -> Result<T, Error>,
    ) -> Result<(usize, T), Error> {
        let mut failure: Option<Error> = None;
        let mut copies = self.candidates(file);
        copies.retain(|copy| !tried.contains(&copy.store));
        for copy in copies {
            let store = &self.stores[copy.store];
            match read(&*store.storage, &copy.listed) {
                Ok(found) => {
                    if let Some(error) = failure.filter(|error| error.kind != ErrorKind::NotFound) {
                        let other = store.storage.location();
                        let text = format!("{error}; reading from {other} instead");
                        self.report(store, Level::Warning, text);
                    }
                    return Ok((copy.store, found));
                }
                Err(error) => {
                    store.note(&error);
                    // That one of them does not have it proves nothing where another one failed.
                    if failure.as_ref().is_none_or(|known| known.kind == ErrorKind::NotFound) {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error {
            operation: "read",
            place: format!("{}/{}", self.location, file.name),
            kind: ErrorKind::NotFound,
            cause: "no store has it".into(),
        }))
    }
}

impl Storage for MultiStorage {
    fn location(&self) -> String {
        self.0.location.clone()
    }

    fn abilities(&self) -> Abilities {
        let all = self.0.stores.iter().map(|store| store.storage.abilities());
        all.fold(Abilities { copies: true, ..Abilities::default() }, |known, own| Abilities {
            transfers: known.transfers.max(own.transfers),
            rereads: known.rereads && own.rereads,
            ..known
        })
    }

    fn prepare(&self) -> Result<(), Error> {
        let shared = &self.0;
        let mut failures = Vec::new();
        for (store, result) in shared.stores.iter().zip(shared.ask_all(|store| store.prepare())) {
            failures.extend(result.err().map(|error| (store, error)));
        }
        let is_enough = shared.is_mirror && shared.goes_on && failures.len() < shared.stores.len();
        match failures
            .into_iter()
            .find(|(store, error)| is_enough.then(|| shared.go_without(store, error)).is_none())
        {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        let shared = &self.0;
        let (mut listings, mut failures) = (Vec::new(), Vec::new());
        for (number, listing) in shared.ask_all(|store| store.list()).into_iter().enumerate() {
            match listing {
                Ok(listing) => listings.push((number, listing)),
                Err(error) => failures.push((number, error)),
            }
        }
        let is_missing = |error: &Error| error.kind == ErrorKind::NotFound;
        // What is in a store that is away may be in no other, unless others get the same: whoever took
        // the rest for all would delete it, or begin anew.
        let prefixes = |number: &usize| &shared.stores[*number].prefixes;
        let is_elsewhere =
            |prefix: &String| listings.iter().any(|(number, _)| prefixes(number).contains(prefix));
        let is_covered = |(number, _): &(usize, Error)| prefixes(number).iter().all(is_elsewhere);
        let is_enough = shared.is_mirror
            && shared.goes_on
            && !listings.is_empty()
            && failures.iter().all(is_covered);
        if let Some((_, first)) = failures.first().filter(|_| !is_enough) {
            let worst = failures.iter().map(|(_, error)| error).find(|error| !is_missing(error));
            let error = worst.unwrap_or(first).clone();
            // That one of them is missing does not mean that there is nothing.
            let kind = match is_missing(&error) && !listings.is_empty() {
                true => ErrorKind::Unreachable,
                false => error.kind,
            };
            return Err(Error { kind, ..error });
        }
        for (number, error) in &failures {
            let store = &shared.stores[*number];
            store.note(error);
            let text = format!(
                "Exception during list of {}: {error}; what only this store has is missing",
                store.storage.location()
            );
            shared.report(store, Level::Warning, text);
        }
        for (number, listing) in &listings {
            let store = &shared.stores[*number];
            *store.failed.lock() = None;
            let text =
                format!("MultiBackend: {}: {} files", store.storage.location(), listing.len());
            shared.report(store, Level::Notice, text);
        }
        let (all, lost) = shared.files.lock().update(listings);
        shared.check(lost)?;
        Ok(all)
    }

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let read = |store: &dyn Storage, listed: &Listed| store.read_at(listed, offset, buffer);
        Ok(self.0.read(file, &[], read)?.1)
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        let (store, current) =
            self.0.read(file, &[], |store, listed| store.stream(listed, from))?;
        let (shared, file, tried) = (self.0.clone(), file.clone(), vec![store]);
        Ok(Box::new(Stream { shared, file, offset: from, current, tried }))
    }

    fn copy_in_use(&self, file: &Listed) -> CopyInUse {
        let number = self.0.files.lock().find(file).map_or(0, |known| known.turns);
        let first = self.0.candidates(file).into_iter().next();
        let size = first.map_or(file.size, |copy| {
            self.0.stores[copy.store].storage.copy_in_use(&copy.listed).size
        });
        CopyInUse { number, size }
    }

    fn other_copy(&self, file: &Listed, wrong: u32) -> Result<bool, Error> {
        let shared = &self.0;
        let _turn = shared.complaint.lock();
        let Some(current) = shared.candidates(file).into_iter().next() else { return Ok(false) };
        match shared.files.lock().find(file) {
            Some(known) if known.turns == wrong => {}
            known => return Ok(known.is_some()),
        }
        let store = &shared.stores[current.store];
        let inner = store.storage.copy_in_use(&current.listed).number;
        let mended = store.storage.other_copy(&current.listed, inner);
        let mut files = shared.files.lock();
        let Some(known) = files.find_mut(file) else { return Ok(false) };
        if let Ok(true) = mended {
            known.turns = known.turns.wrapping_add(1);
            return Ok(true);
        }
        if !known.drop_copy(&current) {
            return mended;
        }
        let (name, place) = (&file.name, store.storage.location());
        let text = format!(
            "'{name}' is damaged in {place}, or does not fit; reading the copy in another store instead"
        );
        shared.monitor.message(Level::Warning, &text);
        Ok(true)
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        StagedWriter::temporary(name, &format!("{}/{name}", self.0.location), &self.0.tempdir)
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        let shared = &self.0;
        let (mut stored, mut failure) = (Vec::new(), None);
        for number in shared.targets(staged.name()) {
            let store = &shared.stores[number];
            match shared.put_into(store, staged) {
                Ok(listed) => {
                    stored.push(StoredCopy { store: number, listed });
                    if !shared.is_mirror {
                        break;
                    }
                }
                Err(error) if !shared.goes_on => return Err(error),
                Err(error) => {
                    shared.go_without(store, &error);
                    failure = Some(error);
                }
            }
        }
        let Some((listed, others)) = shared.files.lock().store(stored) else {
            let cause = "no store takes it".to_string();
            let (place, kind) = (shared.location.clone(), ErrorKind::Other);
            return Err(failure.unwrap_or(Error { operation: "write", place, kind, cause }));
        };
        // An earlier file of this name would be taken for a copy of it.
        let others = others.into_iter().map(|number| &shared.stores[number]);
        for store in others.filter(|store| !store.is_resting()) {
            for deleted in store.storage.delete(&[staged.name()]) {
                deleted.unwrap_or_else(|error| shared.go_without(store, &error));
            }
        }
        Ok(listed)
    }

    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        let shared = &self.0;
        let is_asked = |store: &&Store| !(shared.is_mirror && store.is_resting());
        let mut asked: Vec<&Store> = shared.stores.iter().filter(is_asked).collect();
        if asked.is_empty() {
            asked = shared.stores.iter().collect();
        }
        let found = work::all(&asked, asked.len(), |store| store.storage.delete(names));
        let mut found: Vec<_> = found.into_iter().map(Vec::into_iter).collect();
        let mut result = |name: &&str| {
            let results: Vec<_> = found.iter_mut().map(|results| results.next()).collect();
            let is_gone = results.iter().any(|result| matches!(result, Some(Ok(()))));
            for (store, result) in asked.iter().zip(results) {
                match result.unwrap_or(Ok(())) {
                    // What a store that is away has too much is in nobody's way.
                    Err(error) if shared.is_mirror && is_gone && error.kind.is_connection() => {
                        shared.go_without(store, &error);
                    }
                    result => result?,
                }
            }
            shared.files.lock().forget(name);
            Ok(())
        };
        names.iter().map(&mut result).collect()
    }
}

/// A stream that goes on with the copy of another store where one fails.
struct Stream {
    shared: Arc<Shared>,
    file: Listed,
    offset: u64,
    current: Box<dyn ByteStream>,
    /// The stores that it has come from.
    tried: Vec<usize>,
}

impl ByteStream for Stream {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            let error = match self.current.read_bytes(buffer) {
                Ok(count) => {
                    self.offset += count as u64;
                    return Ok(count);
                }
                Err(error) => error,
            };
            if let Some(last) = self.tried.last() {
                self.shared.stores[*last].note(&error);
            }
            let offset = self.offset;
            let next = |store: &dyn Storage, listed: &Listed| store.stream(listed, offset);
            let Ok((store, stream)) = self.shared.read(&self.file, &self.tried, next) else {
                return Err(error);
            };
            let other = self.shared.stores[store].storage.location();
            let text = format!("{error}; reading from {other} instead");
            self.shared.report(&self.shared.stores[store], Level::Warning, text);
            self.current = stream;
            self.tried.push(store);
        }
    }
}
