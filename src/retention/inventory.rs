//! [`Inventory`]: all files of a collection by session, in storage and in the archive directory.

use super::removal::{Deletion, Side};
use crate::collection::{Collection, scan};
use crate::format::{Content, Prefixes, Session, StoredName};
use crate::storage::{Listed, unfinished};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What there is of a collection, by names alone.
pub struct Inventory {
    /// What the storage holds.
    pub collection: Collection,
    /// What the archive directory holds.
    pub archived: Collection,
    /// The files of each session, and what killed writers have left of such, in the order in which
    /// they are to be deleted.
    sessions: BTreeMap<Session, Vec<Deletion>>,
    /// The listings of both places.
    listings: [(Side, Vec<Listed>); 2],
    prefixes: Prefixes,
}

impl Inventory {
    /// Sorts the listings of storage and archive directory.
    pub fn new(stored: &[Listed], archived: &[Listed], prefixes: &Prefixes) -> Self {
        let listings = [(Side::Storage, stored.to_vec()), (Side::Archive, archived.to_vec())];
        let mut sessions: BTreeMap<Session, Vec<Deletion>> = BTreeMap::new();
        for (place, listed) in listings
            .iter()
            .flat_map(|(place, listing)| listing.iter().map(|listed| (*place, listed)))
        {
            let name = unfinished(&listed.name).unwrap_or(&listed.name);
            let name = StoredName::parse(name, prefixes).filter(|name| is_of_set(place, name));
            if let Some(StoredName { session, content, .. }) = name {
                sessions.entry(session).or_default().push(Deletion {
                    place,
                    name: listed.name.clone(),
                    content,
                });
            }
        }
        for files in sessions.values_mut() {
            files.sort_by_key(|file| (file.place, rank(file.content), file.name.clone()));
        }
        Self {
            collection: scan(stored, prefixes),
            archived: scan(archived, prefixes),
            sessions,
            listings,
            prefixes: prefixes.clone(),
        }
    }

    /// Returns all files of a session, in the order in which they are to be deleted.
    pub(super) fn files(&self, session: Session) -> &[Deletion] {
        self.sessions.get(&session).map_or(&[], Vec::as_slice)
    }

    /// Returns the signature files that are in no chain when some sessions are gone: those in the
    /// archive directory, then those in storage.
    pub(super) fn lonely_signatures(&self, gone: &BTreeSet<Session>) -> Vec<Deletion> {
        let stays = |listed: &&Listed| {
            StoredName::parse(&listed.name, &self.prefixes)
                .is_some_and(|name| !gone.contains(&name.session))
        };
        let lonely = |(place, listing): &(Side, Vec<Listed>)| {
            let rest: Vec<Listed> = listing.iter().filter(stays).cloned().collect();
            let files = scan(&rest, &self.prefixes).orphaned_signatures.into_iter();
            let (place, content) = (*place, Content::Signatures);
            files.map(move |file| Deletion { place, name: file.file.listed.name, content })
        };
        self.listings.iter().rev().flat_map(lonely).collect()
    }

    /// Returns all sessions with their files.
    pub(super) fn sessions(&self) -> impl Iterator<Item = (Session, &[Deletion])> {
        self.sessions.iter().map(|(session, files)| (*session, files.as_slice()))
    }
}

/// Returns whether a file is one of its session's: checkpoints belong in the archive directory,
/// volumes in the storage.
fn is_of_set(place: Side, name: &StoredName) -> bool {
    match place {
        Side::Storage => !name.partial,
        Side::Archive => !matches!(name.content, Content::Volume(_)),
    }
}

/// Returns where a file stands among those of its set in one place.
fn rank(content: Content) -> (u8, Reverse<u32>) {
    match content {
        Content::Signatures => (0, Reverse(0)),
        Content::Manifest => (1, Reverse(0)),
        Content::Statistics => (2, Reverse(0)),
        Content::Volume(number) => (3, Reverse(number)),
    }
}
