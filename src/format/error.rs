//! [`Error`]: what can be wrong with bytes that should be duplicity's.

use crate::model::InvalidPath;

/// What can be wrong with bytes that should be duplicity's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream is no tar from here on, or ends too early.
    #[error("cannot parse tar at byte {offset}: {cause}")]
    Tar {
        /// Where in the plain tar.
        offset: u64,
        /// What is wrong there.
        cause: &'static str,
    },
    /// A tar entry is nothing that duplicity writes.
    #[error("cannot take tar entry '{}': {cause}", name.escape_ascii())]
    Member {
        /// Name of the tar entry as stored.
        name: Vec<u8>,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// A tar entry is that of a path over the limit: the only one that readers pass over, and
    /// report.
    #[error("cannot take tar entry: {0}")]
    TooLong(InvalidPath),
    /// Text is no manifest.
    #[error("cannot parse manifest at line {line}: {cause}")]
    Manifest {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong there.
        cause: &'static str,
    },
    /// Bytes are no table of contents.
    #[error("cannot parse table of contents at byte {offset}: {cause}")]
    Toc {
        /// Where in the table.
        offset: usize,
        /// What is wrong there.
        cause: &'static str,
    },
}
