//! [`MemoryStorage`]: files that live as long as the process.

use crate::storage::{ByteStream, Error, ErrorKind, Listed, Staged, StagedWriter, Storage};
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

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let files = self.files();
        let bytes = files.get(&file.name).ok_or_else(|| missing(file))?;
        Ok(copy(bytes, offset, buffer))
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        let bytes = self.files().get(&file.name).cloned().ok_or_else(|| missing(file))?;
        Ok(Box::new(Stream { bytes, offset: from }))
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

    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        let mut files = self.files();
        names.iter().for_each(|&name| drop(files.remove(name)));
        names.iter().map(|_| Ok(())).collect()
    }
}

fn missing(file: &Listed) -> Error {
    let (place, cause) = (file.name.clone(), "no such file".into());
    Error { operation: "read", place, kind: ErrorKind::NotFound, cause }
}

fn copy(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> usize {
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
    let count = rest.map_or(0, |rest| rest.len().min(buffer.len()));
    buffer[..count].copy_from_slice(&rest.unwrap_or_default()[..count]);
    count
}

struct Stream {
    bytes: Vec<u8>,
    offset: u64,
}

impl ByteStream for Stream {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let count = copy(&self.bytes, self.offset, buffer);
        self.offset += count as u64;
        Ok(count)
    }
}
