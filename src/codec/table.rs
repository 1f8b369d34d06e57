//! [`Table`]: the table of contents behind the plain bytes of a volume of our own.

use super::{Codec, Encoding, Error};
use crate::storage::ReadAt;
use std::sync::Arc;

/// The table that a stored file carries, authentic and whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Offset in the stored file where the table's own frame begins.
    pub stored_start: u64,
    /// Number of plain bytes before the table.
    pub plain_start: u64,
}

impl Codec {
    /// Returns the table in a stored file, if it has one; reads the end of the file only. Until files with tables are written, none
    /// has.
    ///
    /// # Errors
    /// [`Error`] when the file cannot be read, or there is no way to its session key.
    pub fn table(&self, _file: Arc<dyn ReadAt>, _encoding: Encoding) -> Result<Option<Table>, Error> {
        Ok(None)
    }
}
