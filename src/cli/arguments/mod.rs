//! What was typed, and what the library takes for it: the options of all commands, parsers of their
//! values, and duplicity's grammar, which reads a line before clap does.
//!
//! | file | what it holds |
//! |---|---|
//! | `grammar` `mount_line` | the line as duplicity reads it; as mount(8) writes it |
//! | `common` `reading` `remote` `writing` | options that every command takes, as they were typed |
//! | `option_table` | options that are accepted, or refused, without being done |
//! | `values` | parsers of single values |
//! | `folders` `names` `selection` `decoding` `encoding` `passphrase` `secret_file` | from what was typed to what the library takes |

mod common;
pub mod decoding;
pub mod encoding;
pub mod folders;
pub mod grammar;
pub mod mount_line;
pub mod names;
pub mod option_table;
pub mod passphrase;
mod reading;
mod remote;
mod secret_file;
pub mod selection;
pub mod values;
mod writing;

pub use common::Common;
pub use writing::Writing;
