//! [`LocalStorage`]: a directory of this machine.

use super::{Error, Listed, Storage};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// The files of one directory.
pub struct LocalStorage {
    directory: PathBuf,
}

impl LocalStorage {
    /// Names a directory; nothing is read yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }
}

impl Storage for LocalStorage {
    fn location(&self) -> String {
        format!("file://{}", self.directory.display())
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        let failed = |error: &std::io::Error| Error::io("list", self.directory.display().to_string(), error);
        let mut found = Vec::new();
        for entry in self.directory.read_dir().map_err(|e| failed(&e))? {
            let entry = entry.map_err(|e| failed(&e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Follows symlinks: a volume may have been moved to another disk and linked.
            match std::fs::metadata(entry.path()) {
                Ok(data) if data.is_file() => found.push(Listed {
                    name,
                    size: data.len(),
                    stamp: data.mtime().wrapping_mul(1_000_000_000).wrapping_add(data.mtime_nsec()) as u64,
                }),
                _ => continue, // a folder, or a file that went away meanwhile
            }
        }
        Ok(found)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let path = self.directory.join(name);
        let failed = |error: std::io::Error| Error::io("read", path.display().to_string(), &error);
        let file = File::open(&path).map_err(failed)?;
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ErrorKind;

    #[test]
    fn lists_files_and_reads_ranges() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), b"0123456789").unwrap();
        std::fs::create_dir(directory.path().join("folder")).unwrap();
        let storage = LocalStorage::new(directory.path());
        let listed = storage.list().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].name.as_str(), listed[0].size), ("a", 10));
        let mut buffer = [0; 4];
        assert_eq!(storage.read_at("a", 8, &mut buffer).unwrap(), 2);
        assert_eq!(&buffer[..2], b"89");
        assert_eq!(storage.read_at("b", 0, &mut buffer).unwrap_err().kind, ErrorKind::NotFound);
    }
}
