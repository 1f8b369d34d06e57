//! [`Staged`]: a file on its way into a storage: whole on this machine before any of it is stored.
//!
//! That is why an upload can be repeated, go to two places, and run beside others. A storage stages
//! where it can store from: the local one beside the file's final place, so that a rename stores
//! it; others among the temporary files.

use super::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where the bytes of a stored file go. Unlike [`Write`], it says what went wrong as a storage
/// does.
pub trait ByteSink {
    /// Takes all these bytes.
    ///
    /// # Errors
    /// [`Error`] when they cannot be written.
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

/// A sink in memory, which never fails.
impl ByteSink for Vec<u8> {
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

impl<S: ByteSink> ByteSink for &mut S {
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        (**self).write_bytes(bytes)
    }
}

/// A file in the making. Dropped before [`StagedWriter::seal`], it leaves nothing.
pub struct StagedWriter {
    staged: Staged,
}

/// A file that is whole, and not yet stored, or stored already. Dropped, it leaves nothing but what
/// is stored.
#[derive(Debug)]
pub struct Staged {
    name: String,
    /// What messages name: the place where it will be stored.
    place: String,
    path: PathBuf,
    file: File,
    size: u64,
}

impl StagedWriter {
    /// Begins a file at a path, which must be free. `name` is what it will be called in storage,
    /// `place` what messages call it.
    ///
    /// # Errors
    /// [`Error`] when it cannot be created.
    pub fn create(name: &str, place: impl Into<String>, path: PathBuf) -> Result<Self, Error> {
        let place = place.into();
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|error| Error::io("write", &place, &error))?;
        Ok(Self { staged: Staged { name: name.into(), place, path, file, size: 0 } })
    }

    /// Begins a file in a folder for temporary files.
    ///
    /// # Errors
    /// [`Error`] when it cannot be created.
    pub fn temporary(name: &str, place: &str, folder: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::io("write", folder.display().to_string(), &error);
        let file = tempfile::Builder::new().prefix("dupfs-").tempfile_in(folder).map_err(failed)?;
        let (file, path) = file.keep().map_err(|error| failed(error.error))?;
        Ok(Self { staged: Staged { name: name.into(), place: place.into(), path, file, size: 0 } })
    }

    /// Returns the name that it will have in storage.
    pub fn name(&self) -> &str {
        &self.staged.name
    }

    /// Returns the error of a failure to write to it.
    pub fn failed(&self, error: &io::Error) -> Error {
        self.staged.failed(error)
    }

    /// Ends the file: nothing is written to it any more.
    pub fn seal(self) -> Staged {
        self.staged
    }
}

impl ByteSink for StagedWriter {
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_all(bytes).map_err(|error| self.staged.failed(&error))
    }
}

/// For whoever writes streams; errors are the system's own.
impl Write for StagedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.staged.file.write(bytes)?;
        self.staged.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Staged {
    /// Returns the name that it has, or will have, in storage.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns where it lies on this machine until it is stored.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file, whatever its name is.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Hands out all bytes, from the first, however often.
    ///
    /// # Errors
    /// [`Error`] when they cannot be read, and those of `take`.
    pub fn read<E: From<Error>>(
        &self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut buffer, mut offset) = (vec![0; 1 << 20], 0);
        while offset < self.size {
            match self.file.read_at(&mut buffer, offset) {
                Ok(0) => return Err(self.failed(&io::ErrorKind::UnexpectedEof.into()).into()),
                Ok(count) => {
                    take(&buffer[..count])?;
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error).into()),
            }
        }
        Ok(())
    }

    /// Returns whether the file at a path is this one.
    pub fn is_at(&self, path: &Path) -> bool {
        let same = |one: std::fs::Metadata, other: std::fs::Metadata| {
            (one.dev(), one.ino()) == (other.dev(), other.ino())
        };
        self.file
            .metadata()
            .is_ok_and(|own| std::fs::symlink_metadata(path).is_ok_and(|found| same(own, found)))
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::io("write", &self.place, error)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Another file may lie there since this one was stored.
        if self.is_at(&self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ErrorKind;

    #[test]
    fn a_full_disk_is_told_apart() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let place = "/nowhere/x".to_string();
        let mut writer = StagedWriter {
            staged: Staged { name: "x".into(), place, path: "/y".into(), file, size: 0 },
        };
        let error = writer.write_bytes(b"abc").unwrap_err();
        assert_eq!((error.kind, error.place.as_str()), (ErrorKind::NoSpace, "/nowhere/x"));
    }

    #[test]
    fn what_is_staged_is_read_as_often_as_wanted_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let mut writer = StagedWriter::create("name", "place", path.clone()).unwrap();
        writer.write_bytes(&vec![7; 3 << 20]).unwrap();
        assert!(StagedWriter::create("name", "place", path.clone()).is_err());
        let staged = writer.seal();
        for _ in 0..2 {
            let mut read = Vec::new();
            staged.read::<Error>(|bytes| read.write_bytes(bytes)).unwrap();
            assert!(read == vec![7; 3 << 20] && staged.size() == 3 << 20);
        }
        assert!(staged.is_at(&path));
        drop(staged);
        assert!(!path.exists());
    }
}
