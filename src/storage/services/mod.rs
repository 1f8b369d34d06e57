//! The kinds of storage: each keeps the contract of [`Storage`](super::Storage) by itself.

mod local;
mod memory;
#[cfg(feature = "rclone")]
mod program;
#[cfg(feature = "sftp")]
mod sftp;

pub use local::{LocalStorage, open_file, read_file, unfinished};
pub use memory::MemoryStorage;
#[cfg(feature = "sftp")]
pub use sftp::{SftpStorage, answer_ssh};
