//! Nouns without input or output: what every module talks about.

mod entry;
mod nested;
mod path;
mod time;

pub use entry::{Entry, EntryKind, Owner};
pub use nested::Nested;
pub use path::{EntryPath, InvalidPath};
pub use time::{BackupTime, InvalidTime};
