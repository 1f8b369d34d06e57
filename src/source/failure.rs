//! [`Failure`]: what did not work at a path.

use crate::model::EntryPath;
use crate::monitor::Event;
use std::io;
use std::path::Path;

/// What did not work at a path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} '{path}'")]
pub struct Failure {
    /// The path.
    pub path: EntryPath,
    /// What was tried.
    pub operation: Operation,
    /// What the operating system said.
    #[source]
    pub cause: io::Error,
}

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Listing a directory, which has been told as found before.
    List,
    /// Asking for the metadata of an entry.
    Stat,
    /// Reading a file or directory: its permissions forbid it.
    Read,
}

impl Failure {
    /// Returns whether the path has vanished while the walk came to it, which duplicity passes over
    /// in silence.
    pub fn is_gone(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
    }

    /// Returns the event that it is, of a path as the user knows it.
    pub fn event<'a>(&'a self, path: &'a Path) -> Event<'a> {
        match self.operation {
            Operation::Stat => Event::CannotStat(path, &self.cause),
            Operation::List | Operation::Read => Event::CannotRead(path, &self.cause),
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Stat => "stat",
            Self::Read => "read",
        })
    }
}
