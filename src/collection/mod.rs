//! Which backups there are: from the names in a storage to backup sets and chains.
//!
//! There is no index file. Everything follows from names: files with the same times are one
//! [`BackupSet`], and an incremental set belongs behind the set whose end time is its start time,
//! which makes a [`BackupChain`] of a full set and the increments after it. Only equal times link
//! sets; nothing inside the files repeats the link.
//!
//! [`scan()`] sorts a listing into a [`Collection`] and drops nothing:
//!
//! | what | where |
//! |---|---|
//! | complete sets (with manifest) behind a full one | [`Collection::chains`] |
//! | complete sets whose base is missing, or replaced | [`Collection::orphaned`] |
//! | sets without manifest: a session that runs, or was killed | [`Collection::incomplete`] |
//! | signature files, which are chained by themselves | [`Collection::signature_chains`], [`Collection::orphaned_signatures`] |
//! | a second encoding of one volume | [`BackupSet::problems`] |
//! | all else | [`Collection::leftovers`] |
//!
//! Whether all volumes are there is not told by names: the manifest says how many there should be,
//! and this module opens no file. [`LocalCopy`] finds manifests and signature files in duplicity's
//! archive directory, already decrypted; [`ArchiveDirectory`] holds, synchronises and writes it.
//!
//! ```
//! use dupfs::{collection::scan, format::Prefixes, model::BackupTime, storage::Listed};
//!
//! let names = ["duplicity-full.20231114T221320Z.manifest", "duplicity-full.20231114T221320Z.vol1.difftar.gz"];
//! let listing = names.map(|name| Listed { name: name.into(), size: 165, stamp: 0 });
//! let collection = scan(&listing, &Prefixes::default());
//! assert_eq!(collection.chains[0].sets()[0].volumes.len(), 1);
//! assert!(collection.leftovers.is_empty());
//! ```

mod archive;
mod at_time;
mod chain;
mod local_copy;
mod scan;
mod set;

pub use archive::{ArchiveDirectory, ArchiveError, Copy, SyncPlan};
pub use at_time::AtTime;
pub use chain::{BackupChain, SignatureChain};
pub use local_copy::{ArchiveOptions, LocalCopy, LocalFile};
pub use scan::{Collection, Leftover, Reason, scan};
pub use set::{BackupSet, Problem, SetFile, SignatureFile};
