//! [`Catalog`]: the chains of a collection and their rows, and what is done when these are gone.

use super::Error;
use super::chains::{self, Chain, assign, filled_sets, keep_from_reuse, keep_numbers, renumber};
use super::database::Database;
use super::rows::{Owners, Rows};
use super::versions::Tops;
use crate::collection::{Collection, LocalCopy};
use crate::monitor::{Level, Monitor};
use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often something is done again because the catalog had to start over.
const ATTEMPTS: usize = 3;
/// How often a question is asked again because its rows are gone: others start over, too.
const QUESTIONS: usize = 8;

/// What is where. All methods may be called from many threads at once.
pub struct Catalog {
    database: Database,
    owners: Owners,
    monitor: Arc<dyn Monitor>,
    known: RwLock<Known>,
    /// What is learnt by the way is no longer written: somebody keeps the database locked, or its
    /// disk is full.
    keeps_nothing: AtomicBool,
    /// Held while a chain gets new numbers.
    voiding: Mutex<()>,
}

/// The chains by their numbers.
#[derive(Default)]
struct Known {
    /// Oldest end first.
    chains: Vec<Arc<Chain>>,
    by_number: HashMap<u64, Arc<Chain>>,
    /// Chain and position by the number of a set.
    sets: HashMap<u64, (Arc<Chain>, u32)>,
    /// The highest numbers that a chain and a set have had; lower ones are not given out again.
    most: (i64, i64),
}

impl Known {
    fn set(&mut self, chains: Vec<Arc<Chain>>) {
        self.by_number = chains.iter().map(|chain| (chain.number(), chain.clone())).collect();
        let sets = chains
            .iter()
            .flat_map(|chain| (0..chain.sets.len() as u32).map(move |position| (chain, position)));
        self.sets = sets
            .map(|(chain, position)| (chain.set_number(position), (chain.clone(), position)))
            .collect();
        let most = |numbers: &mut dyn Iterator<Item = i64>, so_far: i64| {
            numbers.max().unwrap_or(0).max(so_far)
        };
        self.most = (
            most(&mut chains.iter().map(|chain| chain.id), self.most.0),
            most(&mut chains.iter().flat_map(|chain| chain.numbers.iter().copied()), self.most.1),
        );
        self.chains = chains;
    }
}

/// An error that may be one of the catalog, or stand for something else that was to be done with
/// its rows.
pub trait MayBeOfCatalog: From<Error> {
    /// Returns the error of the catalog, if it is one.
    fn of_catalog(&self) -> Option<&Error>;
}

impl MayBeOfCatalog for Error {
    fn of_catalog(&self) -> Option<&Error> {
        Some(self)
    }
}

impl Catalog {
    /// Opens the database in a directory, which is made if it is missing, or goes on in memory where
    /// that cannot be used, or there is to be none; knows no chain yet.
    ///
    /// # Errors
    /// [`Error`] when not even memory can be had.
    pub fn open(directory: Option<&Path>, monitor: Arc<dyn Monitor>) -> Result<Self, Error> {
        let database = match directory.map(Database::open) {
            Some(Ok(database)) => database,
            Some(Err(error)) => {
                let text = format!("{error}; going on without a cache, which is slower");
                monitor.message(Level::Warning, &text);
                Database::in_memory()?
            }
            None => Database::in_memory()?,
        };
        Ok(Self {
            database,
            owners: Owners::default(),
            monitor,
            known: RwLock::default(),
            keeps_nothing: AtomicBool::new(false),
            voiding: Mutex::default(),
        })
    }

    /// Takes over a new picture of the collection: known chains keep their ids, changed and
    /// vanished ones lose their rows, as do those that come from a copy in duplicity's archive
    /// directory that is no longer there. Returns the chains, oldest end first.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory.
    pub fn set_collection(
        &self,
        collection: &Collection,
        copy: Option<&LocalCopy>,
    ) -> Result<Vec<Arc<Chain>>, Error> {
        let chains = self.sturdy(|generation| {
            let find =
                |connection: &Connection| chains::find(connection, collection, copy, generation);
            match self.database.read(find)? {
                Some(chains) => Ok(chains),
                None => self
                    .database
                    .write(|connection| assign(connection, collection, copy, generation)),
            }
        })?;
        self.known.write().set(chains.clone());
        Ok(chains)
    }

    /// Drops the rows of a chain, which are wrong, and gives it new numbers, so that no id changes
    /// its meaning; does nothing if that has been done already.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory.
    pub fn void(&self, chain: &Chain) -> Result<(), Error> {
        let _turn = self.voiding.lock();
        if self.chain(chain.number()).is_none() || chain.is_void.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let renewed = self.sturdy(|generation| {
            self.database.write(|connection| renumber(connection, chain, generation))
        });
        let renewed = renewed.inspect_err(|_| chain.is_void.store(false, Ordering::Relaxed))?;
        let mut known = self.known.write();
        let same = |other: Arc<Chain>| if other.id == chain.id { renewed.clone() } else { other };
        let chains = std::mem::take(&mut known.chains).into_iter().map(same).collect();
        known.set(chains);
        Ok(())
    }

    /// Counts the questions to the database, and the changes.
    #[cfg(test)]
    pub(crate) fn questions(&self) -> u64 {
        self.database.uses()
    }

    /// Returns whether the database lives in memory only.
    #[cfg(test)]
    pub(crate) fn is_in_memory(&self) -> bool {
        self.database.is_in_memory()
    }

    /// Returns the chains, oldest end first.
    pub fn chains(&self) -> Vec<Arc<Chain>> {
        self.known().chains.clone()
    }

    /// Returns the chain with a number.
    pub fn chain(&self, number: u64) -> Option<Arc<Chain>> {
        self.known().by_number.get(&number).cloned()
    }

    /// Returns the chain of the set with a number, and its position there.
    pub fn set(&self, number: u64) -> Option<(Arc<Chain>, u32)> {
        self.known().sets.get(&number).cloned()
    }

    fn known(&self) -> parking_lot::RwLockReadGuard<'_, Known> {
        self.known.read()
    }

    /// Returns what stands at the tops of chains, as far as their rows are there: by one question,
    /// however many there are.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory.
    pub fn tops(&self) -> Result<Tops, Error> {
        self.sturdy(|_| self.read(|rows| rows.tops()))
    }

    /// Returns how many sets of a chain have their rows, from the full on.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub(crate) fn filled_sets(&self, chain: &Chain) -> Result<u32, Error> {
        self.database.read(|connection| filled_sets(connection, chain))
    }

    /// Returns a number that changes when everything in the database may be gone.
    pub(crate) fn generation(&self) -> u64 {
        self.database.generation()
    }

    /// Asks once, whatever rows may be gone.
    pub(crate) fn read<T>(
        &self,
        query: impl FnOnce(&Rows<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.database.read(|connection| query(&Rows { connection, owners: &self.owners }))
    }

    /// Changes rows by one transaction, or none of them.
    pub(crate) fn write<T, E: From<Error>>(
        &self,
        change: impl FnOnce(&Rows<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.database.write(|connection| change(&Rows { connection, owners: &self.owners }))
    }

    /// Answers a question about rows of a chain that came with a set, or with those before it. If
    /// the database has not kept them, `refill` has to bring them, and the question is asked again:
    /// ids are given out in the same order, and mean the same.
    pub(crate) fn ask<T, E: MayBeOfCatalog>(
        &self,
        chain: &Chain,
        position: u32,
        refill: impl Fn() -> Result<(), E>,
        mut query: impl FnMut(&Rows<'_>) -> Result<T, Error>,
    ) -> Result<T, E> {
        self.steadily(chain, refill, || {
            self.read(|rows| {
                let answer = query(rows);
                // Without these rows, nothing found would look like nothing there. They never
                // change: if they are there now, they were.
                rows.set_is_there(chain.set_id(position)).and(answer)
            })
        })
    }

    /// Keeps something that belongs to rows of a chain, as [`Catalog::ask`] asks.
    pub(crate) fn record<E: MayBeOfCatalog>(
        &self,
        chain: &Chain,
        position: u32,
        refill: impl Fn() -> Result<(), E>,
        mut change: impl FnMut(&Rows<'_>) -> Result<(), Error>,
    ) -> Result<(), E> {
        self.steadily(chain, refill, || {
            self.write(|rows| {
                rows.set_is_there(chain.set_id(position))?;
                change(rows)
            })
        })
    }

    fn steadily<T, E: MayBeOfCatalog>(
        &self,
        chain: &Chain,
        refill: impl Fn() -> Result<(), E>,
        mut work: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, E> {
        let (mut attempts, mut refilled) = (0..QUESTIONS, None);
        loop {
            let generation = self.generation();
            let error = match work() {
                Err(error) if error.is_passing_trouble() => error,
                result => return Ok(result?),
            };
            if chain.is_void.load(Ordering::Relaxed) {
                let what = "these rows: volumes have contradicted them".into();
                return Err(Error::Gone(what).into());
            }
            if attempts.next().is_none() {
                return Err(error.into());
            }
            match error {
                // Rows that are lost are mostly being filled in again by somebody else.
                Error::Lost if refilled != Some(generation) => {}
                Error::Lost if self.generation() == generation => self.database.next_generation(),
                Error::Lost => {}
                error => self.start_over(generation, &error)?,
            }
            refilled = Some(self.generation());
            match refill() {
                Err(error) if error.of_catalog().is_some_and(Error::is_passing_trouble) => {}
                result => result?,
            }
        }
    }

    /// Runs `work`, and again if it failed while the catalog started over.
    pub fn undisturbed<T, E>(&self, mut work: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        for _ in 0..ATTEMPTS {
            let generation = self.generation();
            let result = work();
            if result.is_ok() || self.generation() == generation {
                return result;
            }
        }
        work()
    }

    /// Keeps something that was learnt by the way, if that can be done: it can be learnt again.
    pub(crate) fn keep_if_possible(&self, change: impl FnOnce(&Rows<'_>) -> Result<(), Error>) {
        if self.keeps_nothing.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.write(change)
            && (error.is_busy() || error.is_trouble_with_disk())
            // Whoever waits for a lock should not do so for every volume.
            && !self.keeps_nothing.swap(true, Ordering::Relaxed)
        {
            let text = format!("{}; what is learnt of the backups is not kept", reason(&error));
            self.monitor.message(Level::Warning, &text);
        }
    }

    /// Runs `work` with the number of the generation; when the database is the trouble, starts over
    /// without it and runs it again.
    pub(crate) fn sturdy<T, E: MayBeOfCatalog>(
        &self,
        mut work: impl FnMut(u64) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            let generation = self.generation();
            let error = match work(generation) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            match error.of_catalog() {
                Some(cause) if cause.is_trouble() && attempts.next().is_some() => {
                    self.start_over(generation, cause)?
                }
                // Another process has taken rows away meanwhile.
                Some(Error::Lost) if attempts.next().is_some() => {}
                _ => return Err(error),
            }
        }
    }

    fn start_over(&self, generation: u64, error: &Error) -> Result<(), Error> {
        // Caches and the kernel know the numbers of today's chains and sets, and of those that
        // went.
        let (chains, most) = (self.chains(), self.known().most);
        let keep = |connection: &Connection| {
            keep_from_reuse(connection, most.0, most.1)?;
            keep_numbers(connection, &chains)
        };
        if self.database.start_over(generation, error, || self.owners.clear(), keep)? {
            let what = match self.database.is_in_memory() {
                true => "going on without a cache, which is slower",
                false => "filling it anew",
            };
            self.monitor.message(Level::Warning, &format!("{}; {what}", reason(error)));
        }
        Ok(())
    }
}

/// Says what keeps the database from being used.
fn reason(error: &Error) -> String {
    match error.is_busy() {
        true => "another process keeps the catalog locked".into(),
        false => error.to_string(),
    }
}
