//! [`Spool`]: bytes that are written now and read soon, in memory while they are few, in an
//! unlinked temporary file when they are many.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tempfile::SpooledTempFile;

/// Bytes that are kept in memory, at most.
const MEMORY: usize = 4 << 20;

/// Bytes that are written now and read soon.
pub struct Spool(SpooledTempFile);

impl Spool {
    /// Makes an empty one; `tempdir` is where the temporary file would be.
    pub fn new(tempdir: &Path) -> Self {
        Self(tempfile::spooled_tempfile_in(MEMORY, tempdir))
    }

    /// Goes back to the first byte, to read.
    ///
    /// # Errors
    /// Those of the temporary file.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(0)).map(|_| ())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Read for Spool {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
