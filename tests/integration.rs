//! The one test binary of the program: a line on each of its modules. Unit tests stand below the
//! code they test.

/// The layers, held against the imports in `src/`.
mod layers;

/// Test environment, the original duplicity, trees, histories, the truth recorder, mounts.
mod support;

/// What the user types and sees: listings and states equal duplicity's own, errors say what is
/// wrong.
mod cli;

/// What the README promises of the mount, sentence by sentence.
mod semantics;

/// The program mounted for real: background, signals, ordinary users, mount(8).
mod mount;

/// Random histories that the real duplicity wrote, mounted and restored at every backup time.
mod compat;

/// Random histories against a reference model of plain maps.
mod reference;

/// Broken collections: what still works, what is said.
mod damage;

/// Work counted on a recording storage: files read, bytes fetched, frames decoded.
mod counted;

/// The contract of a storage, held by each kind of it.
mod storage;

/// Storages behind SSH: every way in, every way to fail, both ways with the originals.
#[cfg(feature = "sftp")]
mod sftp;

/// Storages behind HTTP: S3 and WebDAV, both ways with the originals, over lines that fail.
#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
mod http;
/// Storages behind rclone: both ways with the originals, every way to fail.
#[cfg(feature = "rclone")]
mod rclone;

/// Several storages as one: dealt out and mirrored, both ways with the originals, stores that are
/// away, full of damage, or have variables of their own.
mod multi;

/// Recovery files beside each file: both ways with the originals, damage that they mend, and none of
/// them at hand.
mod par2;

/// Storages behind FTP: plain, with TLS, both ways with the originals, every way to fail.
#[cfg(feature = "ftp")]
mod ftp;

/// Storages behind rsync: of a daemon and over ssh, both ways with the originals, every way to fail.
#[cfg(feature = "rsync")]
mod rsync;

/// The cache of the catalog: private, shared, killed, full, broken.
mod cache;

/// Selection rules asked of the original and of ours.
mod selection;

/// A backup killed at every call that changes a file: what was there stays readable, and the next
/// run goes on.
mod killed;

/// Collections stored once more elsewhere, with the same keys and with others.
mod replicate;

/// duply, backupninja and Déjà Dup at work with it under the name `duplicity`.
mod clients;
