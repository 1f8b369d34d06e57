//! Which chains are old, and the steps by which they go.

use super::inventory::Inventory;
use super::removal::{Deletion, Part, RemovedChain, Step};
use crate::collection::{BackupChain, BackupSet, Collection, SignatureChain};
use crate::format::Session;
use crate::model::BackupTime;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What is old.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outdated {
    /// End times of the chains of which something goes, oldest first.
    pub chains: Vec<BackupTime>,
    /// Times of sets that are old, but that younger sets are built on.
    pub needed: Vec<BackupTime>,
    /// Whether the newest chain is old itself, which stays all the same.
    pub is_newest_old: bool,
    /// What is to be done, in duplicity's order. Nothing if no chain is old.
    pub steps: Vec<Step>,
}

/// Returns when the full set was made with which the newest `count` chains begin; `None` if there
/// are not so many.
pub fn time_of_full(collection: &Collection, count: usize) -> Option<BackupTime> {
    let mut times: Vec<BackupTime> = collection.chains.iter().map(BackupChain::start).collect();
    times.sort();
    times.into_iter().rev().nth(count.checked_sub(1)?)
}

impl Inventory {
    /// Finds the chains that end before a time, the newest left out, and plans that a part of each
    /// goes.
    pub fn outdated(&self, before: BackupTime, part: Part) -> Outdated {
        let Some((newest, others)) = self.collection.chains.split_last() else {
            return Outdated::default();
        };
        let is_old = |chain: &&BackupChain| chain.end() < before;
        let staying = || others.iter().filter(|chain| !is_old(chain));
        let needed = staying()
            .chain(Some(newest).filter(|newest| !is_old(newest)))
            .flat_map(BackupChain::sets);
        let going: Vec<&BackupChain> =
            others.iter().filter(is_old).filter(|chain| !sets_of(chain, part).is_empty()).collect();
        let mut outdated = Outdated {
            chains: going.iter().map(|chain| chain.end()).collect(),
            needed: needed.map(BackupSet::end).filter(|end| *end < before).collect(),
            is_newest_old: is_old(&newest),
            steps: Vec::new(),
        };
        if going.is_empty() {
            return outdated;
        }
        let sessions: BTreeSet<Session> =
            going.iter().flat_map(|chain| sets_of(chain, part)).map(|set| set.session).collect();
        let rest = &self.collection;
        let kept = staying()
            .chain([newest])
            .flat_map(BackupChain::sets)
            .chain(&rest.orphaned)
            .chain(&rest.incomplete);
        let kept: BTreeSet<Session> = kept.map(|set| set.session).collect();
        outdated.steps.extend(self.signature_steps(before, part, &sessions, &kept));
        outdated.steps.extend(going.iter().rev().map(|chain| self.chain_step(chain, part)));
        outdated
    }

    /// Plans that old chains of signature files go, of which no set stays. What is left for these
    /// steps is files without a set: the others go with theirs.
    fn signature_steps(
        &self,
        before: BackupTime,
        part: Part,
        going: &BTreeSet<Session>,
        kept: &BTreeSet<Session>,
    ) -> impl Iterator<Item = Step> {
        let is_going = |chain: &&SignatureChain| {
            chain.end() < before && !chain.files().iter().any(|file| kept.contains(&file.session))
        };
        let chains = self.collection.signature_chains.iter().chain(&self.archived.signature_chains);
        let mut chains: Vec<&SignatureChain> = chains.filter(is_going).collect();
        chains.sort_by_key(|chain| Reverse(chain.end()));
        let mut planned = BTreeSet::new();
        chains.into_iter().map(move |chain| {
            let files = chain.files().iter().rev().map(|file| file.session);
            let of_part = files.filter(|session| part == Part::Chain || !session.is_full());
            let without_set =
                of_part.filter(|session| !going.contains(session) && planned.insert(*session));
            let deletions = without_set.flat_map(|session| self.files(session)).cloned().collect();
            step(part, true, chain.end(), deletions)
        })
    }

    fn chain_step(&self, chain: &BackupChain, part: Part) -> Step {
        let files = sets_of(chain, part).iter().rev().flat_map(|set| self.files(set.session));
        step(part, false, chain.end(), files.cloned().collect())
    }
}

/// Returns the sets of a chain that go with a part of it.
fn sets_of(chain: &BackupChain, part: Part) -> &[BackupSet] {
    match part {
        Part::Chain => chain.sets(),
        Part::Increments => &chain.sets()[1..],
    }
}

fn step(part: Part, is_signatures: bool, end: BackupTime, deletions: Vec<Deletion>) -> Step {
    Step { chain: Some(RemovedChain { part, is_signatures, end }), deletions }
}
