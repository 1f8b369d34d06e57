//! An error and its causes. A module's error often stands in the place of another's, says what that
//! says, and hides it: here each shows.

use dupfs::codec::{self, Cause};
use dupfs::storage::NotStored;
use dupfs::{backup, collection, replicate, volume};
use std::error::Error;

/// Returns an error and what has caused it, outermost first.
pub fn of(error: &anyhow::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    below(error.as_ref())
}

/// As [`of`], of an error that is no longer whole.
pub fn below<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| stands_for(error).or_else(|| error.source()))
}

/// Returns the other module's error that an error stands for.
fn stands_for<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(error) = error.downcast_ref() {
        return match error {
            backup::Error::NotStored(error) => Some(error),
            backup::Error::Storage(error) => Some(error),
            backup::Error::Volume(error) => Some(error),
            backup::Error::Encode(error) => Some(error),
            backup::Error::Catalog(error) => Some(error),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            replicate::Error::NotStored(error) => Some(error),
            replicate::Error::Storage(error) => Some(error),
            replicate::Error::Volume(error) => Some(error),
            replicate::Error::Codec(error) => Some(error),
            replicate::Error::MissingVolume { .. } | replicate::Error::Manifest { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            collection::ArchiveError::Storage(error) => Some(error),
            collection::ArchiveError::Decode(error) => Some(error),
            collection::ArchiveError::Locked(_) | collection::ArchiveError::Local { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            volume::Error::Storage(error) => Some(error),
            volume::Error::Decode(error) => Some(error),
            _ => None,
        };
    }
    if let Some(NotStored::Storage(error)) = error.downcast_ref() {
        return Some(error);
    }
    match error.downcast_ref() {
        Some(codec::Error { cause: Cause::Storage(error), .. }) => Some(error),
        _ => None,
    }
}
