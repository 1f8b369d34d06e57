//! `mount`: all backups as read-only folders.
//!
//! | file | what it holds |
//! |---|---|
//! | `run` | from what was typed to a mount, and what its server does beside answering |
//! | `tree` | the history as the mount crate's tree |
//! | `touched_paths` | what the server touches in the file system, so that it never waits for itself |
//! | `background` | how the server leaves the terminal |

mod background;
mod run;
mod touched_paths;
mod tree;

pub use run::{MountArgs, run};
