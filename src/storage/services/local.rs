//! [`LocalStorage`]: a directory of this machine.
//!
//! What is read is a regular file, and stays one: whoever else may write to the directory could put
//! a fifo in its place after the listing, and a reader would wait there for ever. [`open_file`]
//! opens without waiting, and looks at what it has opened.

use crate::storage::{
    Abilities, ByteSink, ByteStream, Error, ErrorKind, Listed, Staged, StagedWriter, Storage,
};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The files of one directory.
pub struct LocalStorage {
    directory: PathBuf,
    transfers: usize,
}

impl LocalStorage {
    /// Names a directory; nothing is read yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), transfers: 1 }
    }

    /// Transfers so many files at once, which may be faster where the directory is not on a disk of
    /// this machine.
    pub fn with_transfers(self, transfers: usize) -> Self {
        Self { transfers: transfers.max(1), ..self }
    }

    /// Returns where a file lies while it is written. No duplicity takes a name that begins with a
    /// dot for one of its own; the next writer of the same file takes the place of what a killed
    /// one has left.
    fn unfinished(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{UNFINISHED}{name}{SUFFIX}"))
    }

    fn open(&self, file: &Listed) -> Result<Opened, Error> {
        let path = self.directory.join(&file.name);
        let file = open_file(&path).map_err(failed("read", &path))?;
        Ok(Opened { file, path })
    }

    /// Stores a file that was staged elsewhere. It has the time at which it was staged, so that it is
    /// the same one however often it is stored.
    fn put_copy(&self, staged: &Staged) -> Result<Listed, Error> {
        let mut writer = self.stage(staged.name())?;
        staged.read(|bytes| writer.write_bytes(bytes))?;
        let copy = writer.seal();
        let modified = staged.file().metadata().and_then(|data| data.modified());
        let timed = modified.and_then(|modified| copy.file().set_modified(modified));
        timed.map_err(failed("write", &self.directory.join(staged.name())))?;
        self.put(&copy)
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        // What a killed writer has left of it is of no use either.
        let _ = std::fs::remove_file(self.unfinished(name));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(failed("delete", &path)),
        }
    }
}

const UNFINISHED: &str = ".dupfs-";
const SUFFIX: &str = ".tmp";
const MARK: &str = ".by-";

/// Returns the name of the file of which this one is a beginning, which a killed writer has left,
/// in whatever kind of storage. Those of rsync begin with a dot, and end with another one and six
/// random letters; other programs name files so, too, so the caller has to look whether the name in
/// between belongs to a collection.
pub fn unfinished(name: &str) -> Option<&str> {
    let Some(name) = name.strip_prefix(UNFINISHED).and_then(|name| name.strip_suffix(SUFFIX))
    else {
        let (name, letters) = name.strip_prefix('.')?.rsplit_once('.')?;
        let is_random = letters.len() == 6 && letters.bytes().all(|b| b.is_ascii_alphanumeric());
        return is_random.then_some(name);
    };
    // A storage whose writers cannot see each other marks each of them.
    let marked = name
        .rsplit_once(MARK)
        .filter(|(_, mark)| mark.len() == 16 && mark.bytes().all(|byte| byte.is_ascii_hexdigit()));
    Some(marked.map_or(name, |(name, _)| name))
}

/// Returns what a file is called while one of several writers that cannot see each other writes it.
#[cfg(any(feature = "ftp", feature = "http", feature = "sftp"))]
pub fn unfinished_of(name: &str, writer: u64) -> String {
    format!("{UNFINISHED}{name}{MARK}{writer:016x}{SUFFIX}")
}

/// Opens a regular file for reading, perhaps by a link; anything else there is an error, and never
/// waited for.
///
/// # Errors
/// What the system says, or that it is no regular file.
pub fn open_file(path: &Path) -> std::io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::new(std::io::ErrorKind::NotFound, "it is no regular file"))
    }
}

/// Reads the whole of a regular file, as [`open_file`] opens it.
///
/// # Errors
/// As [`open_file`], and when it cannot be read.
pub fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn listed(name: String, data: &Metadata) -> Listed {
    let stamp = data.mtime().wrapping_mul(1_000_000_000).wrapping_add(data.mtime_nsec()) as u64;
    Listed { name, size: data.len(), stamp }
}

fn failed<'a>(operation: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
    move |error| Error::io(operation, path.display().to_string(), &error)
}

impl Storage for LocalStorage {
    fn location(&self) -> String {
        format!("file://{}", self.directory.display())
    }

    fn abilities(&self) -> Abilities {
        Abilities { transfers: self.transfers, ..Abilities::default() }
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut found = Vec::new();
        for entry in self.directory.read_dir().map_err(failed("list", &self.directory))? {
            let entry = entry.map_err(failed("list", &self.directory))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Follows symlinks: a volume may have been moved to another disk and linked.
            match std::fs::metadata(entry.path()) {
                Ok(data) if data.is_file() => found.push(listed(name, &data)),
                _ => continue, // a folder, or a file that went away meanwhile
            }
        }
        Ok(found)
    }

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        self.open(file)?.read_at(offset, buffer)
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        Ok(Box::new(Stream { opened: self.open(file)?, offset: from }))
    }

    fn prepare(&self) -> Result<(), Error> {
        match std::fs::create_dir_all(&self.directory) {
            Err(_) if self.directory.is_dir() => Ok(()),
            // A file stands there, and will when this is tried again.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(failed("create", &self.directory)(std::io::Error::from_raw_os_error(
                    libc::ENOTDIR,
                )))
            }
            result => result.map_err(failed("create", &self.directory)),
        }
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        let unfinished = self.unfinished(name);
        // Made anew, never opened: whatever lies there, a link perhaps, is not written through.
        let _ = std::fs::remove_file(&unfinished);
        StagedWriter::create(name, self.directory.join(name).display().to_string(), unfinished)
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        if staged.path().parent() != Some(&self.directory) {
            return self.put_copy(staged);
        }
        let path = self.directory.join(staged.name());
        let is_stored = staged.is_at(&path);
        if !is_stored && staged.path().symlink_metadata().is_ok() && !staged.is_at(staged.path()) {
            let cause = "another program has begun to write it; back up from one place at a time";
            let (place, kind) = (path.display().to_string(), ErrorKind::Changed);
            return Err(Error { operation: "write", place, kind, cause: cause.into() });
        }
        let store = || -> std::io::Result<Listed> {
            staged.file().sync_data()?;
            if !is_stored {
                std::fs::rename(staged.path(), &path)?;
            }
            let listed = listed(staged.name().to_string(), &staged.file().metadata()?);
            // The name, too, is to outlive a power cut.
            File::open(&self.directory)?.sync_all()?;
            Ok(listed)
        };
        store().map_err(failed("write", &path))
    }

    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        names.iter().map(|name| self.remove(name)).collect()
    }
}

/// A file that is open, and its path for messages.
struct Opened {
    file: File,
    path: PathBuf,
}

impl Opened {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        // The system knows no larger offsets.
        if offset > i64::MAX as u64 - buffer.len() as u64 {
            return Ok(0);
        }
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", &self.path)(error)),
            }
        }
        Ok(filled)
    }
}

struct Stream {
    opened: Opened,
    offset: u64,
}

impl ByteStream for Stream {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let count = self.opened.read_at(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(storage.read_at(&listed[0], 8, &mut buffer).unwrap(), 2);
        assert_eq!(&buffer[..2], b"89");
        let gone = Listed { name: "b".into(), ..listed[0].clone() };
        assert_eq!(storage.read_at(&gone, 0, &mut buffer).unwrap_err().kind, ErrorKind::NotFound);
    }

    /// A test that waits for ever fails, too, so nothing here is timed.
    #[test]
    fn a_fifo_in_the_place_of_a_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link, fifo) =
            (directory.path().join("a"), directory.path().join("b"), directory.path().join("c"));
        std::fs::write(&file, b"0123").unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let storage = LocalStorage::new(directory.path());
        let mut names: Vec<_> =
            storage.list().unwrap().into_iter().map(|listed| listed.name).collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
        let mut buffer = [0; 4];
        let named = |name: &str| Listed { name: name.into(), size: 4, stamp: 0 };
        assert_eq!(storage.read_at(&named("b"), 0, &mut buffer).unwrap(), 4);
        for name in ["c", "."] {
            let error = storage.read_at(&named(name), 0, &mut buffer).unwrap_err();
            assert_eq!(
                (error.kind, error.cause.as_str()),
                (ErrorKind::NotFound, "it is no regular file"),
                "{name}"
            );
        }
        assert_eq!(
            (read_file(&link).unwrap(), read_file(&fifo).is_err()),
            (b"0123".to_vec(), true)
        );
    }

    #[test]
    fn files_are_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let storage = LocalStorage::new(directory.path().join("new"));
        storage.prepare().unwrap();
        storage.prepare().unwrap();
        let names =
            || storage.list().unwrap().into_iter().map(|file| file.name).collect::<Vec<_>>();
        let mut writer = storage.stage("duplicity-full.x").unwrap();
        writer.write_bytes(b"abc").unwrap();
        assert_eq!(names(), [".dupfs-duplicity-full.x.tmp"]);
        let staged = writer.seal();
        let listed = storage.put(&staged).unwrap();
        assert_eq!(storage.put(&staged).unwrap(), listed);
        // The next one begins before the last one is forgotten.
        let other = storage.stage("duplicity-full.x").unwrap();
        drop(staged);
        assert_eq!(names().len(), 2);
        drop(other);
        assert_eq!((names(), listed.size), (vec!["duplicity-full.x".to_string()], 3));
        assert_eq!(storage.list().unwrap(), [listed]);
        let mut other = storage.stage("duplicity-full.x").unwrap();
        other.write_bytes(b"defg").unwrap();
        drop(other);
        assert_eq!(storage.list().unwrap()[0].size, 3);
        for _ in 0..2 {
            assert!(storage.delete(&["duplicity-full.x", "none"]).iter().all(Result::is_ok));
        }
        assert!(names().is_empty());
        let deep = LocalStorage::new(directory.path().join("a/b"));
        assert_eq!(deep.stage("x").err().unwrap().kind, ErrorKind::NotFound);
        deep.prepare().unwrap();
        assert_eq!(deep.list().unwrap(), []);
    }
}
