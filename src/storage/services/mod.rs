//! The kinds of storage: each keeps the contract of [`Storage`](super::Storage) by itself.

#[cfg(feature = "http")]
mod http;
mod local;
mod memory;
#[cfg(feature = "http")]
mod opendal;
#[cfg(feature = "rclone")]
mod program;
#[cfg(feature = "sftp")]
mod sftp;

pub use local::{LocalStorage, open_file, read_file, unfinished};
pub use memory::MemoryStorage;
#[cfg(feature = "http")]
pub use opendal::OpendalStorage;
#[cfg(feature = "sftp")]
pub use sftp::{SftpStorage, answer_ssh};
