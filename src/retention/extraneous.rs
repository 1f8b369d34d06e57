//! What is of no use to anybody, and the steps by which it goes.

use super::inventory::Inventory;
use super::removal::{Deletion, Side, Step};
use crate::format::{Content, Session};
use crate::storage::unfinished;
use std::collections::BTreeSet;

impl Inventory {
    /// Finds what clean-up takes away, and plans that it goes: signature files in no chain, here
    /// and there, then sets in no chain, then sets without manifest, manifests alone at the end of
    /// the newest chain, and statistics without a set, then beginnings of files. A session that can
    /// be gone on with is among them, as are its checkpoints.
    ///
    /// Of two increments on one set the later counts. The signature file of the other stands in the
    /// chain of signature files, until it goes with its set; only then is it told which files are
    /// in no chain.
    pub fn extraneous(&self) -> Vec<Step> {
        let incomplete = self.collection.incomplete.iter().map(|set| set.session);
        let incomplete =
            incomplete.chain(self.collection.remains_of_newest().map(|set| set.session));
        let sets: Vec<Session> = self
            .collection
            .dispensable()
            .into_iter()
            .chain(incomplete)
            .chain(self.remains())
            .collect();
        let gone: BTreeSet<Session> = sets.iter().copied().collect();
        // The signature files of orphaned sets that stay do stay, and push no other's out of its
        // chain.
        let orphaned = self.collection.orphaned.iter().map(|set| set.session);
        let signatures = self
            .lonely_signatures(&gone.iter().copied().chain(orphaned).collect())
            .into_iter()
            .map(|file| vec![file]);
        let others = self.sessions().filter(|(session, _)| !gone.contains(session));
        let begun = others.map(|(_, files)| {
            files.iter().filter(|file| unfinished(&file.name).is_some()).cloned().collect()
        });
        let begun = begun.filter(|files: &Vec<Deletion>| !files.is_empty());
        let deletions =
            signatures.chain(sets.iter().map(|session| self.files(*session).to_vec())).chain(begun);
        deletions.map(|deletions| Step { chain: None, deletions }).collect()
    }

    /// Returns the sessions of which the storage has statistics, but no set.
    fn remains(&self) -> impl Iterator<Item = Session> {
        let chained = self.collection.chains.iter().flat_map(|chain| chain.sets());
        let sets = chained.chain(&self.collection.orphaned).chain(&self.collection.incomplete);
        let known: BTreeSet<Session> = sets.map(|set| set.session).collect();
        let is_statistics =
            |file: &Deletion| (file.place, file.content) == (Side::Storage, Content::Statistics);
        let remains = self.sessions().filter(move |(session, _)| !known.contains(session));
        remains
            .filter(move |(_, files)| files.iter().any(is_statistics))
            .map(|(session, _)| session)
    }
}
