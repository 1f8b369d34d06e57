//! [`ThrottledStorage`]: a storage around another from which bytes come at a limited rate.
//!
//! Only what comes is held back here, by reading no faster: what goes is paced by the service, which
//! alone knows when (`Settings::upload`).

use crate::storage::{
    Abilities, ByteStream, CopyInUse, Error, Listed, Pace, Staged, StagedWriter, Storage,
};
use std::sync::Arc;

/// Reads from another storage at a limited rate.
pub struct ThrottledStorage {
    inner: Arc<dyn Storage>,
    pace: Pace,
}

impl ThrottledStorage {
    /// Reads from `inner` at a rate that others may share.
    pub fn new(inner: Arc<dyn Storage>, pace: Pace) -> Self {
        Self { inner, pace }
    }
}

impl Storage for ThrottledStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn prepare(&self) -> Result<(), Error> {
        self.inner.prepare()
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.inner.list()
    }

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        // No more is asked for than there is, so that nobody waits for what does not come.
        let left = self.inner.copy_in_use(file).size.saturating_sub(offset);
        self.pace.take(buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        self.inner.read_at(file, offset, buffer)
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        let (inner, pace) = (self.inner.stream(file, from)?, self.pace.clone());
        Ok(Box::new(Throttled { inner, pace }))
    }

    fn copy_in_use(&self, file: &Listed) -> CopyInUse {
        self.inner.copy_in_use(file)
    }

    fn other_copy(&self, file: &Listed, wrong: u32) -> Result<bool, Error> {
        self.inner.other_copy(file, wrong)
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        self.inner.stage(name)
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        self.inner.put(staged)
    }

    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        self.inner.delete(names)
    }
}

/// A stream from which bytes come no faster than they may.
struct Throttled {
    inner: Box<dyn ByteStream>,
    pace: Pace,
}

impl ByteStream for Throttled {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            let piece = self.pace.piece(buffer.len() - filled);
            let count = self.inner.read_bytes(&mut buffer[filled..filled + piece])?;
            self.pace.take(count);
            filled += count;
            if count < piece {
                break;
            }
        }
        Ok(filled)
    }
}
