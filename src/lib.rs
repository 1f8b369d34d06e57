//! Every backup that duplicity ever made, to be read like a folder.

#![warn(missing_docs)]

pub mod accounts;
pub mod catalog;
pub mod codec;
pub mod collection;
pub mod contents;
pub mod format;
pub mod history;
pub mod model;
pub mod monitor;
pub mod restore;
pub mod rsync;
pub mod storage;
pub mod volume;
