//! [`ByteSource`]: where a parser takes its bytes from, with an error of its own kind.

use super::Error;
use std::io;

/// Bytes as they come in. Every [`io::Read`] is one; other modules have some that fail in their own
/// way, which whoever parses them gets to see.
pub trait ByteSource {
    /// Why bytes cannot be had.
    type Error;

    /// Fills the beginning of `buffer`, and returns how much of it; 0 only at the end.
    ///
    /// # Errors
    /// The source's own.
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}

impl<R: io::Read> ByteSource for R {
    type Error = io::Error;

    fn read_bytes(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// Why what comes from a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E: std::error::Error + 'static> {
    /// The source has failed.
    #[error("{0}")]
    Source(#[source] E),
    /// Its bytes are not what they should be.
    #[error("{0}")]
    Format(#[from] Error),
}
