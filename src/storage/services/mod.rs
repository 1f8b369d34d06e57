//! The kinds of storage: each keeps the contract of [`Storage`](super::Storage) by itself.

#[cfg(feature = "ftp")]
mod ftp;
#[cfg(feature = "http")]
mod http;
mod local;
mod memory;
#[cfg(feature = "ftp")]
mod netrc;
#[cfg(feature = "http")]
mod opendal;
#[cfg(any(feature = "rclone", feature = "rsync"))]
mod program;
#[cfg(feature = "rsync")]
mod rsync;
#[cfg(feature = "sftp")]
mod sftp;
#[cfg(any(feature = "ftp", feature = "http"))]
mod tls;

#[cfg(feature = "ftp")]
pub use ftp::FtpStorage;
pub use local::{LocalStorage, open_file, read_file, unfinished};
pub use memory::MemoryStorage;
#[cfg(feature = "http")]
pub use opendal::OpendalStorage;
#[cfg(feature = "rsync")]
pub use rsync::RsyncStorage;
#[cfg(feature = "sftp")]
pub use sftp::{SftpStorage, answer_ssh};

/// Returns a stamp of a file whose time is known in seconds since 1970.
#[cfg(any(feature = "ftp", feature = "sftp"))]
fn stamp_of(seconds: u64, size: u64) -> u64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(size % 1_000_000_000)
}
