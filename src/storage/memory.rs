//! [`MemoryStorage`]: files that live as long as the process.

use super::{Error, ErrorKind, Listed, Staged, StagedWriter, Storage};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;

/// A storage in memory, for tests: it keeps the contract, and is as fast as can be. Its files can
/// be changed behind the back of whoever reads them, and are not readable while they are locked.
#[derive(Default)]
pub struct MemoryStorage(pub Mutex<BTreeMap<String, Vec<u8>>>);

impl MemoryStorage {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock()
    }
}

impl Storage for MemoryStorage {
    fn location(&self) -> String {
        "memory:".into()
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        let listed = |(name, bytes): (&String, &Vec<u8>)| Listed {
            name: name.clone(),
            size: bytes.len() as u64,
            stamp: 0,
        };
        Ok(self.files().iter().map(listed).collect())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let files = self.files();
        let missing = || Error {
            operation: "read",
            place: name.into(),
            kind: ErrorKind::NotFound,
            cause: "no such file".into(),
        };
        let bytes = files.get(name).ok_or_else(missing)?;
        let bytes =
            usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn prepare(&self) -> Result<(), Error> {
        Ok(())
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        StagedWriter::temporary(name, name, &std::env::temp_dir())
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        let mut bytes = Vec::new();
        staged.read(|part| {
            bytes.extend_from_slice(part);
            Ok::<_, Error>(())
        })?;
        let listed = Listed { name: staged.name().into(), size: staged.size(), stamp: 0 };
        self.files().insert(listed.name.clone(), bytes);
        Ok(listed)
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        self.files().remove(name);
        Ok(())
    }
}
