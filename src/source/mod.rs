//! The live tree to be saved: what is in it, and what of it is wanted.
//!
//! [`SourceTree`] holds a source directory (or a single file) open. [`SourceTree::walk`] tells what
//! is found there as a list of [`Step`]s in the order of [`EntryPath`](crate::model::EntryPath),
//! which is the order of everything that duplicity writes, so that it can be merged with what is
//! saved already. A [`Selection`] are the user's include and exclude rules; the first that answers
//! decides.
//!
//! ```text
//!           rules ──► Selection ──────────────┐ decide
//!                                             ▼
//! folder ──► OpenSource ──► list, stat ──► read-ahead (2 threads) ──► Walk ──► Found, Failure,
//!            opens below    earliest folder                           holds    socket
//!            the top, never first                                     scanned
//!            through links                                            folders back
//! ```
//!
//! # How it is fast
//! A directory is listed once and each entry asked for once, relative to its directory. Two threads
//! do so ahead of the consumer, always for the directory that comes first in the order; what the
//! consumer needs and nobody has begun, it does itself. The rules are asked before a directory is
//! opened, so what is left out is never touched: not a slow network mount, nor what may not be
//! read. Held ahead are some thousand entries, and of a directory the names: memory does not grow
//! with the tree.
//!
//! # Awkward cases
//! - *Scanned* directories are entered but stored only if something inside is. The walk keeps those
//!   on the way to where it is, and tells them in order once something inside is included.
//! - What cannot be read looks absent, is told as a [`Failure`], and does not stop the walk. What
//!   vanishes meanwhile looks absent.
//! - What the caller [leaves out](SourceTree::leaving_out) is dropped from the names, before
//!   anything is asked of it.
//! - No file descriptor is kept per directory: everything is opened from the top by its path, in
//!   steps if the path is longer than the kernel takes, and by `openat2`, which refuses symlinks on
//!   the way, so nobody can lead the walk elsewhere by a swap.
//! - Names need not be UTF-8. Patterns see a byte that is not UTF-8 as one character, as
//!   duplicity's do.
//! - With [`SourceOptions::copy_links`] a link that leads to a directory above itself is a failure,
//!   not an endless tree.
//!
//! # Absent on purpose
//! Hard links (each name is a file of its own, as in duplicity's format), extended attributes, and
//! anything about what was saved before.
//!
//! ```
//! use dupfs::{monitor::Silent, source::{Base, Rule, Selection, SelectionOptions, SourceOptions, SourceTree, Step}};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # std::fs::write(directory.path().join("letter.txt"), "").unwrap();
//! # std::fs::write(directory.path().join("letter.bak"), "").unwrap();
//! let tree = SourceTree::open(directory.path(), &SourceOptions::default()).unwrap();
//! let options = SelectionOptions { rules: vec![Rule::Exclude("**.bak".into())], ..Default::default() };
//! let selection = Selection::new(Base::Source(tree.name()), &options, &Silent).unwrap();
//! let steps = tree.walk(Some(selection.into()));
//! let found: Vec<String> = steps.filter_map(|step| match step {
//!     Step::Found(found) => Some(found.path.to_string()),
//!     _ => None,
//! }).collect();
//! assert_eq!(found, [".", "letter.txt"]);
//! ```

mod ahead;
mod failure;
mod filelist;
mod folder;
mod found;
mod glob;
mod listing;
mod metadata;
mod open_source;
mod regexp;
mod selection;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

pub use failure::{Failure, Operation};
pub use found::Found;
pub use selection::{Base, Candidate, CandidateKind, Rule, Selection, SelectionOptions, Verdict};
pub use tree::{SourceOptions, SourceTree};
pub use walk::{Step, Walk};

use std::io;
use std::path::PathBuf;

/// Why there is no source tree, or no selection. The words are duplicity's own, since other
/// programs search for them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is at the path of the source. Exit code 13.
    #[error("Backup source directory {} does not exist.", .0.display())]
    Missing(PathBuf),
    /// The source is there, but cannot be opened.
    #[error("cannot open source '{}'", .path.display())]
    Open {
        /// The source as it was typed.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// A pattern can match neither the source itself nor anything below it. Exit code 14.
    #[error(
        "Fatal Error: The file specification\n    {pattern}\ncannot match any files in the base directory\n    {base}\n\
         Useful file specifications begin with the base directory or some\npattern (such as '**') which matches the base directory."
    )]
    FilePrefix {
        /// The pattern as it was given.
        pattern: String,
        /// The source directory as patterns see it.
        base: String,
    },
    /// A pattern for restoring is not relative to the root of the backup. Exit code 14.
    #[error(
        "Fatal Error: Restore file selection pattern\n    {0}\nis invalid. Restore file selection patterns must be relative to the\n\
         archive root, using paths as printed by list-current-files, and must\nnot be absolute or contain '.' or '..' path elements."
    )]
    ArchivePattern(String),
    /// A pattern has a doubled slash, or is too long. Exit code 15.
    #[error("Fatal Error while processing expression\n{0}")]
    Globbing(String),
    /// A class in a pattern has a range that runs backwards. Exit code 30.
    #[error("pattern '{0}' has a range that runs backwards")]
    BackwardRange(String),
    /// The last rule includes, which says nothing, as the default is to include. Exit code 16.
    #[error(
        "Last selection expression:\n    {0}\nonly specifies that files be included.  Because the default is to\n\
         include all files, the expression is redundant.  Exiting because this\nprobably isn't what you meant."
    )]
    RedundantInclusion(String),
    /// The only filter options are those that say what is so anyway. Exit code 70.
    #[error(
        "Only these filter mode options were specified:\n    {0}\nCase sensitive globbing is the default behaviour and so this has no \
         effect.\nExiting because this probably isn't what you meant."
    )]
    RedundantFilter(String),
    /// No rule follows the last filter option. Exit code 71.
    #[error(
        "The last file selection option is the filter option {0}, which will have no\neffect as there are no subsequent file \
         selection options. Exiting because\nthis probably isn't what you meant."
    )]
    TrailingFilter(&'static str),
    /// A path in a list of files to save is absolute, or leads out of the source by `..`. Exit code
    /// 72.
    #[error(
        "Files-from list contains the absolute path:\n    {0}\nAll paths specified in a files-from list must be given relative to the \
         backup\nsource path."
    )]
    AbsoluteFilesFrom(String),
    /// A list of files to save names nothing. Exit code 73.
    #[error(
        "Files-from list specified which contains no files, the backup will be empty as\na result. Exiting as this probably isn't \
         what you meant,"
    )]
    EmptyFilesFrom,
    /// A list of patterns or files cannot be read. Exit code 7.
    #[error("Error opening file {}", .path.display())]
    Filelist {
        /// The list as it was named.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// A list of patterns or files is not UTF-8. Exit code 30.
    #[error("file list '{}' is not UTF-8", .0.display())]
    FilelistEncoding(PathBuf),
    /// A regular expression does not compile. Exit code 30.
    #[error("Error compiling regular expression {pattern}")]
    Regexp {
        /// The expression as it was given.
        pattern: String,
        /// What is wrong with it.
        #[source]
        cause: Box<fancy_regex::Error>,
    },
    /// A pattern is empty.
    #[error("Option {0} cannot be empty.")]
    EmptyPattern(&'static str),
    /// A rule that needs a live tree was given for a restore.
    #[error("The following file selection options are not supported for restore: {0}")]
    NotForRestore(&'static str),
}
