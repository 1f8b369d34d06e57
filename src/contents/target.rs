//! [`Target`], [`FileSink`], [`Incoming`]: where a [`BulkReader`](super::BulkReader) brings the
//! contents of many files.

use crate::catalog::VersionId;
use crate::model::{Entry, EntryPath};
use std::io;

/// Where contents go: into a directory, or beside one, to be compared.
pub trait Target: Sync {
    /// A file on its way.
    type File: Incoming;
    /// A way to the target for one thread.
    type Sink<'a>: FileSink<File = Self::File>
    where
        Self: 'a;

    /// Returns a way to the target.
    fn sink(&self) -> Self::Sink<'_>;
}

/// A way to a target. Errors of one file do not concern the others, but for a target that is full.
pub trait FileSink {
    /// A file on its way.
    type File;

    /// Begins the file at a path of the snapshot.
    ///
    /// # Errors
    /// What the operating system says.
    fn begin(&mut self, path: &EntryPath, version: VersionId) -> io::Result<Self::File>;

    /// Opens a file again after [`Incoming::close`].
    ///
    /// # Errors
    /// What the operating system says.
    fn resume(&mut self, file: &mut Self::File) -> io::Result<()>;

    /// Takes a file whose `size` bytes have all come in.
    ///
    /// # Errors
    /// What the operating system says; then nothing is left of the file.
    fn complete(&mut self, file: Self::File, entry: &Entry, size: u64) -> io::Result<()>;

    /// Drops a file that cannot be completed.
    fn discard(&mut self, file: Self::File);

    /// Takes back a file that was complete, since a volume that held a part of it turned out to be
    /// bad.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&mut self, path: &EntryPath) -> io::Result<()>;
}

/// A file on its way: its bytes come in any order, each once.
pub trait Incoming: Send {
    /// Returns its path in the snapshot.
    fn path(&self) -> &EntryPath;

    /// Takes bytes at an offset.
    ///
    /// # Errors
    /// What the operating system says.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Gives back what it holds of the system until [`FileSink::resume`], so that any number of
    /// files may wait.
    fn close(&mut self);
}
