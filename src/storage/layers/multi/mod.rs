//! Several storages as one: `multi:///config.json?…`, as [`MultiConfig`] reads it.
//!
//! ```text
//!          stripe                          mirror
//!   put    to one store, in turn           to every store, or those that its prefix names
//!   list   every store, or an error        every store that answers; what does not is reported
//!   read   where it is                     from the first store that has it, then from the next one
//!   delete everywhere                      everywhere; a store that is away keeps what it has
//! ```
//! # Rules
//! - A listing shows each name once, as the copy that is read first: the longest, since what a store
//!   has lost of a file is mostly its end; of copies as long as each other, that of the first store.
//!   It shows the same one as long as one of the copies is the same, whichever store is away.
//! - When a store fails, copies of the same size are read instead. The store is asked last then, for
//!   as long as [`REST`], and is given no file, since each try takes all retries.
//! - When bytes prove to be wrong ([`Storage::other_copy`](crate::storage::Storage::other_copy)), the
//!   copy of the next store is read from then on, whatever its size is.
//! - What was stored here is looked at once more in each listing: a store that has it no more, or
//!   not all of it, is reported, and with `onfail=abort` it is an error.
//!
//! Source: duplicity 0.8.22 and 3.2.1, tried. Both begin to deal out files with the first store; the
//! first ends the process where a store fails and `onfail` is `continue`.

mod config;
mod files;
mod storage;

pub use config::MultiConfig;
pub use storage::MultiStorage;

use std::time::Duration;

/// How long a store that has failed is asked last.
const REST: Duration = Duration::from_secs(300);
