//! [`Rows`]: the database, while somebody asks or changes something; what can be asked and changed
//! stands in the files of the tables.

use super::Error;
use crate::model::Owner;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;
use std::sync::Arc;

/// The rows of all tables: all that is asked through one of these is asked in one go.
pub struct Rows<'c> {
    pub(super) connection: &'c Connection,
    pub(super) owners: &'c Owners,
}

impl Rows<'_> {
    /// Tells, as an error, if the rows of a set are no longer there: the database was started over,
    /// or another process dropped them.
    pub fn set_is_there(&self, set: i64) -> Result<(), Error> {
        let text = "SELECT 1 FROM sets WHERE id = ?1 AND first_version IS NOT NULL";
        let mut statement = self.connection.prepare_cached(text)?;
        statement.query_row([set], |_| Ok(())).optional()?.ok_or(Error::Lost)
    }

    /// Returns an owner by its id.
    pub fn owner(&self, id: i64) -> Result<Arc<Owner>, Error> {
        self.owners.get(self.connection, id)
    }

    /// Runs statements of a test.
    #[cfg(test)]
    pub fn execute(&self, text: &str) -> Result<(), Error> {
        Ok(self.connection.execute_batch(text)?)
    }

    /// Asks for one number.
    #[cfg(test)]
    pub fn number(&self, text: &str) -> Result<i64, Error> {
        Ok(self.connection.query_row(text, [], |row| row.get(0))?)
    }
}

/// The owners that have been met, by their id in the database: there are few.
#[derive(Default)]
pub(super) struct Owners {
    known: Mutex<HashMap<i64, Arc<Owner>>>,
}

impl Owners {
    pub(super) fn get(&self, connection: &Connection, id: i64) -> Result<Arc<Owner>, Error> {
        let lock = || self.known.lock();
        if let Some(owner) = lock().get(&id) {
            return Ok(owner.clone());
        }
        let owner = connection
            .prepare_cached("SELECT uid, gid, user, grp FROM owners WHERE id = ?1")?
            .query_row([id], |row| {
                Ok(Owner {
                    uid: row.get(0)?,
                    gid: row.get(1)?,
                    user: row.get(2)?,
                    group: row.get(3)?,
                })
            })?;
        let owner = Arc::new(owner);
        lock().insert(id, owner.clone());
        Ok(owner)
    }

    /// Forgets them: the database was replaced.
    pub(super) fn clear(&self) {
        self.known.lock().clear();
    }
}
