//! dupfs, the library: reads the backups that duplicity has made, and makes backups that duplicity
//! reads.
//!
//! Three ideas carry it. History is a stack of immutable, sorted runs ([`catalog`]); a version of a
//! file is an extent map ([`contents`]); a volume is a random-access device ([`volume`]). Each is
//! explained on its module's page.
//!
//! # The way of the data
//!
//! ```text
//! READ   URL ─► storage ─► collection ─► sets ─────────► catalog ─► contents ───► history ──► cli ─► mount ─► kernel
//!               stored     chains, sets  manifests,      what is    delta chain   snapshots   joins  FUSE
//!               files                    volumes opened  where      ► extent map  as folders  them
//!                                        by codec, volume           └──────────► restore, verify ─► directory
//! WRITE  source tree ─► source ───────► backup ─────────► volume ───► codec ────► uploads ─► storage
//!                       walk, select    compare, delta    cut tar     compress,   several    write
//!                                          │                          encrypt     at once
//!                                          └── catalog: what is saved already; rsync: signatures and deltas
//! ```
//!
//! Three packages' worth of code: this library (duplicity; no FUSE, no terminal), the crate
//! `dupfs-mount` (FUSE; no duplicity), and the program (`src/main.rs`, `src/cli/`), where they
//! meet.
//!
//! # Layers
//!
//! A module imports modules of lower layers only, through their doors (`mod.rs`), and no two files
//! of one module import each other; `tests/layers.rs` holds the imports against both. Each module
//! has its own `Error`.
//!
//! | layer | modules | what they do |
//! |---|---|---|
//! | 10 | `cli` | the program: commands, options, words, exit codes |
//! | 9 | `history` `restore` `verify` `backup` `retention` `replicate` | all snapshots as one tree; a snapshot written into a directory; or compared with one; a source saved as a new set; what may go; sets copied to another storage |
//! | 8 | `contents` `opened` | the bytes of one version of a file, or of all files of a snapshot, each volume once; a collection with all that is needed to read it |
//! | 7 | `sets` | the stored files of sets, opened, and what of them is damaged; fills the catalog |
//! | 6 | `catalog` | which set holds each version, and where its bytes lie: SQL alone |
//! | 5 | `volume` | one volume, open or in the making: its members, any range of its plain tar |
//! | 4 | `collection` | which backups there are, by the names of stored files; duplicity's archive directory |
//! | 3 | `codec` | stored bytes to plain bytes and back: gzip, OpenPGP |
//! | 2 | `accounts` `storage` `format` `rsync` `source` | users and groups here; stored files; duplicity's grammars; librsync's deltas; the live tree |
//! | 1 | `monitor` `work` | by which the library reports what does not stop it; running things side by side |
//! | 0 | `model` | nouns without input or output |
//!
//! # Invariants
//! - Wrong, short or missing data is never passed off as good: no byte of a volume counts before
//!   the volume's hash has matched its manifest, or the hash of its chunk the one that was kept
//!   then or that stands in the volume's own table of contents.
//! - Nothing outside of tests unwraps, expects or panics: a lint holds it.
//! - Nothing read from storage is trusted: names cannot lead elsewhere, sizes and offsets are
//!   checked, memory is bounded.
//! - The library never prints, asks, or ends the process; a [`monitor::Monitor`] hears what the
//!   user should know.
//! - Only [`backup`] and [`replicate`] write to a collection, and only [`backup`] to duplicity's
//!   archive directory: a set counts when its manifest is stored, which is last.
//! - Only [`retention`] deletes what is complete, and never the newest chain: a set's manifest goes
//!   before its volumes, a base after what builds on it.

#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod accounts;
pub mod backup;
pub mod catalog;
pub mod codec;
pub mod collection;
pub mod contents;
pub mod format;
pub mod history;
pub mod model;
pub mod monitor;
pub mod opened;
pub mod replicate;
pub mod restore;
pub mod retention;
pub mod rsync;
pub mod sets;
pub mod source;
pub mod storage;
pub mod verify;
pub mod volume;
pub mod work;
