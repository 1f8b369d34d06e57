//! What may go: chains that are old enough, increments of them, what interrupted sessions have
//! left; and deleting it.
//!
//! An [`Inventory`] knows all files of a collection, in storage and in duplicity's archive
//! directory, by names alone: nothing here opens a file, so no key is needed.
//! [`Inventory::outdated`] and [`Inventory::extraneous`] plan, [`delete`] does what was planned.
//!
//! A chain is old when it ends before a time. What goes is a whole chain, or all its increments, so
//! that no set loses its base. The files go in this order, and whoever is killed on the way leaves
//! each set whole, or without manifest and so for `cleanup` to take away:
//!
//! | | order | why |
//! |---|---|---|
//! | chains | newest first | so does duplicity |
//! | sets of a chain | newest first | the sets before it are whole without it |
//! | files of a set | signature file | a set is read without it; it would outlive the set in a chain of signature files |
//! | | manifest | from now on the set counts as incomplete |
//! | | statistics, volumes from the highest number | |
//! | | what the archive directory has of it | the next synchronisation would remove it, too |
//!
//! A manifest that cannot be deleted ends the work on its chain: the set is still complete, and
//! needs its volumes and all sets before it.
//!
//! # Differences from duplicity, on purpose
//! - The newest chain is never deleted, nor any file of it. Both versions delete it, too, when it
//!   has no signature file and the time lies behind its end; 0.8.22 deletes its signature files
//!   when it has them.
//! - Clean-up leaves complete sets of a chain alone. Both versions delete the newest set when only
//!   its signature file is missing.
//! - The signature file of a set goes with the set. Clean-up by both versions leaves it, and then
//!   no increment can be made any more.
//! - Of two increments on one set the later counts. Clean-up takes the other, which nobody can
//!   reach, and its signature file. Both versions leave it, and take the signature file of the one
//!   that counts.
//! - Signature files of a session that is not complete stay when old chains go: the session can be
//!   gone on with.
//!
//! Source: duplicity 0.8.22 and 3.2.1, tried with histories of several chains, with files of them
//! taken away.

mod extraneous;
mod inventory;
mod outdated;
mod removal;

#[cfg(test)]
mod tests;

pub use inventory::Inventory;
pub use outdated::{Outdated, time_of_full};
pub use removal::{Deletion, Part, RemovedChain, Side, Step, delete};
