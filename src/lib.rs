//! Every backup that duplicity ever made, to be read like a folder.

#![warn(missing_docs)]

pub mod codec;
pub mod model;
pub mod monitor;
pub mod storage;
