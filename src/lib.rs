//! Every backup that duplicity ever made, to be read like a folder.

#![warn(missing_docs)]

pub mod collection;
pub mod format;
pub mod model;
pub mod monitor;
pub mod rsync;
pub mod storage;
