//! From a listing to sets and chains; what fits nowhere is kept as leftovers, never dropped.

use super::{BackupChain, BackupSet, Problem, SetFile, SignatureChain, SignatureFile};
use crate::format::{Content, Prefixes, Session, StoredName};
use crate::storage::Listed;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a storage holds, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collection {
    /// The chains by end time, so the newest is last.
    pub chains: Vec<BackupChain>,
    /// Complete sets in no chain, by end time, each with the reason among its problems.
    pub orphaned: Vec<BackupSet>,
    /// Sets without manifest, full ones first, then by time. duplicity 3.x deletes the newest of
    /// these, 0.8 leaves them alone.
    pub incomplete: Vec<BackupSet>,
    /// The chains of signature files by end time. They follow their own names: a set may be in a
    /// chain here and not there.
    pub signature_chains: Vec<SignatureChain>,
    /// Signature files in no chain, by start time.
    pub orphaned_signatures: Vec<SignatureFile>,
    /// Files that belong to no set, in the order of the listing, then duplicates without a set.
    pub leftovers: Vec<Leftover>,
}

/// A stored file that belongs to no set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// What the listing said.
    pub listed: Listed,
    /// Why it fits nowhere.
    pub reason: Reason,
}

/// Why a file fits nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Nothing of duplicity's, as far as the name tells.
    #[error("its name is none of duplicity's")]
    Foreign,
    /// A temporary file, a copy made by hand, or a file of a collection with other prefixes.
    #[error(
        "its name looks like one of duplicity's, but with these prefixes duplicity writes no such name"
    )]
    Misnamed,
    /// A checkpoint; it belongs in the archive directory, not on a storage.
    #[error("it is the checkpoint of an unfinished session")]
    Partial,
    /// Parity data.
    #[error("it is parity data of par2")]
    Parity,
    /// Encrypted with gpgsm, as versions 3.x can.
    #[error("it is encrypted with gpgsm, which dupfs cannot read")]
    Gpgsm,
    /// Statistics without the set that they are about.
    #[error("it is the statistics of a set that is gone")]
    Statistics,
    /// A second signature file of a session without set.
    #[error("there is another signature file of the same session")]
    Duplicate,
}

/// Sorts a listing into sets and chains.
pub fn scan(listing: &[Listed], prefixes: &Prefixes) -> Collection {
    let mut collection = Collection::default();
    let mut sessions: BTreeMap<Session, BTreeMap<Content, Vec<SetFile>>> = BTreeMap::new();
    for listed in listing {
        match StoredName::parse(&listed.name, prefixes) {
            Some(name) if !name.partial => {
                let file = SetFile { listed: listed.clone(), encoding: name.encoding };
                sessions
                    .entry(name.session)
                    .or_default()
                    .entry(name.content)
                    .or_default()
                    .push(file);
            }
            name => collection.leave(
                listed.clone(),
                name.map_or_else(|| reason(&listed.name), |_| Reason::Partial),
            ),
        }
    }
    let mut complete = Vec::new();
    let mut signatures = Vec::new();
    for (session, files) in sessions {
        let set = BackupSet::new(session, files);
        signatures.extend(set.signature_file());
        if set.is_complete() {
            complete.push(set);
        } else if !set.volumes.is_empty() {
            collection.incomplete.push(set);
        } else {
            collection.leave_remains(set);
        }
    }
    (collection.chains, collection.orphaned) = BackupChain::link(complete);
    (collection.signature_chains, collection.orphaned_signatures) =
        SignatureChain::link(signatures);
    collection
}

impl Collection {
    /// Returns the position of the primary chain: the newest one, provided that signature files
    /// reach up to its last set, or up to an increment just before. duplicity builds further
    /// increments on it and calls all other chains secondary.
    ///
    /// Source: `collection-status` of duplicity 0.8.22 and 3.2.1.
    pub fn primary(&self) -> Option<usize> {
        let newest = self.chains.last()?;
        let before = newest.sets().iter().rev().nth(1).filter(|set| !set.session.is_full());
        let ends = [Some(newest.end()), before.map(|set| set.session.end())];
        let reached = self.signature_chains.iter().any(|chain| ends.contains(&Some(chain.end())));
        reached.then(|| self.chains.len() - 1)
    }

    /// Returns how many sets of the newest chain an increment can build on; `None` if it can build
    /// on none.
    ///
    /// Increments at the end without a volume are passed over: nothing can be restored of them, and
    /// what they had would be lost to all that builds on them. So is the last set before these if
    /// its signature file is missing, as by duplicity; of duplicity, though, such a set that stands
    /// on the full one ends the chain, and those without volumes count as long as they have
    /// signatures.
    pub fn buildable(&self) -> Option<usize> {
        let sets = self.chains.last()?.sets();
        let held = sets.len() - sets.iter().rev().take_while(|set| set.is_hollow()).count();
        let signed = sets.iter().take(held).take_while(|set| set.signatures.is_some()).count();
        (signed > 0 && held - signed <= 1).then_some(signed)
    }

    /// Takes the end off the newest chain, so that it has `count` sets; returns what is taken off.
    pub fn cut_newest(&mut self, count: usize) -> Vec<BackupSet> {
        self.chains.last_mut().map_or_else(Vec::new, |chain| chain.cut(count))
    }

    /// Returns the increments at the end of the newest chain of which only the manifest is left:
    /// duplicity counts such a set as incomplete.
    pub fn remains_of_newest(&self) -> impl Iterator<Item = &BackupSet> {
        let sets = self.chains.last().map_or(&[][..], BackupChain::sets);
        sets.iter().rev().take_while(|set| set.is_hollow() && set.signatures.is_none())
    }

    /// Returns the orphaned sets that can go, one after the other, without a change to the chains.
    ///
    /// That is nearly always all of them. But one that another has replaced stood in a chain while
    /// the sets between the two found their places: without it they may find others, or none. So it
    /// is where two sets end in the same second.
    pub fn dispensable(&self) -> Vec<Session> {
        let is_replaced = |set: &&BackupSet| {
            set.problems.iter().any(|problem| matches!(problem, Problem::Replaced { .. }))
        };
        let (mut doubtful, others): (Vec<_>, Vec<_>) = self.orphaned.iter().partition(is_replaced);
        // What never was in a chain decided nothing.
        let mut dispensable: BTreeSet<Session> = others.iter().map(|set| set.session).collect();
        let chained = self.chains.iter().flat_map(BackupChain::sets);
        let mut rest: Vec<BackupSet> = chained.chain(doubtful.iter().copied()).cloned().collect();
        loop {
            let before = doubtful.len();
            doubtful.retain(|set| {
                let without: Vec<_> =
                    rest.iter().filter(|other| other.session != set.session).cloned().collect();
                let is_needed = BackupChain::link(without.clone()).0 != self.chains;
                if !is_needed {
                    rest = without;
                    dispensable.insert(set.session);
                }
                is_needed
            });
            if doubtful.len() == before {
                return self
                    .orphaned
                    .iter()
                    .map(|set| set.session)
                    .filter(|session| dispensable.contains(session))
                    .collect();
            }
        }
    }

    fn leave(&mut self, listed: Listed, reason: Reason) {
        self.leftovers.push(Leftover { listed, reason });
    }

    /// Leaves what a session without manifest and volumes has besides its signature file.
    fn leave_remains(&mut self, set: BackupSet) {
        if let Some(statistics) = set.statistics {
            self.leave(statistics.listed, Reason::Statistics);
        }
        for problem in set.problems {
            if let Problem::Duplicate { ignored, .. } = problem {
                self.leave(ignored, Reason::Duplicate);
            }
        }
    }
}

/// Says why a name is none that we know.
fn reason(name: &str) -> Reason {
    match name.contains("duplicity-") {
        _ if name.ends_with(".par2") => Reason::Parity,
        true if name.ends_with(".p7m") => Reason::Gpgsm,
        true => Reason::Misnamed,
        false => Reason::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Encoding;
    use crate::model::BackupTime;
    use proptest::prelude::*;

    fn scanned(names: &[String]) -> Collection {
        let listing: Vec<_> =
            names.iter().map(|name| Listed { name: name.clone(), size: 9, stamp: 0 }).collect();
        scan(&listing, &Prefixes::default())
    }

    fn session(start: i64, end: i64) -> Session {
        let [start, end] = [start, end].map(BackupTime::from_seconds);
        if start == end { Session::Full { time: end } } else { Session::Incremental { start, end } }
    }

    fn name(session: Session, content: Content, encoding: Encoding) -> String {
        StoredName { session, content, partial: false, encoding }.print(&Prefixes::default())
    }

    /// Names of complete sets with one volume and signatures: full where start and end are equal.
    fn sets(sessions: &[(i64, i64)]) -> Vec<String> {
        let contents = [Content::Volume(1), Content::Signatures, Content::Manifest];
        sessions
            .iter()
            .flat_map(|&(start, end)| {
                contents.map(|content| name(session(start, end), content, Encoding::Gzip))
            })
            .collect()
    }

    fn times(chains: &[BackupChain]) -> Vec<Vec<i64>> {
        chains.iter().map(|chain| ends(chain.sets())).collect()
    }

    fn ends(sets: &[BackupSet]) -> Vec<i64> {
        sets.iter().map(|set| set.session.end().seconds()).collect()
    }

    #[test]
    fn chains_by_equal_times() {
        for (sessions, chains, orphaned) in [
            (
                &[(1, 1), (1, 2), (2, 3), (9, 9), (9, 10)][..],
                vec![vec![1, 2, 3], vec![9, 10]],
                vec![],
            ),
            // A missing set in the middle orphans all later ones.
            (&[(1, 1), (2, 3), (3, 4)], vec![vec![1]], vec![3, 4]),
            (&[(1, 2)], vec![], vec![2]),
            // Of two with the same start the later is kept, and what builds on the other is
            // orphaned.
            (&[(1, 1), (1, 2), (1, 3), (2, 4), (3, 5)], vec![vec![1, 3, 5]], vec![2, 4]),
            // Unless something builds on the other already when the later one comes.
            (&[(1, 1), (1, 2), (2, 3), (2, 5), (3, 4)], vec![vec![1, 2, 3, 4]], vec![5]),
            // A full set inside the span of an older chain; chains are sorted by their ends.
            (&[(1, 1), (1, 4), (2, 2), (2, 3), (4, 5)], vec![vec![2, 3], vec![1, 4, 5]], vec![]),
            // An increment can end when a full set begins: the next goes to the older chain.
            (&[(1, 1), (1, 2), (2, 2), (2, 3)], vec![vec![2], vec![1, 2, 3]], vec![]),
            // Against the course of time.
            (&[(5, 5), (5, 4)], vec![vec![5]], vec![4]),
        ] {
            let mut names = sets(sessions);
            for _ in 0..2 {
                let collection = scanned(&names);
                assert_eq!(
                    (times(&collection.chains), ends(&collection.orphaned)),
                    (chains.clone(), orphaned.clone()),
                    "{sessions:?}"
                );
                names.reverse();
            }
        }
    }

    #[test]
    fn orphans_say_why() {
        let collection = scanned(&sets(&[(1, 1), (1, 2), (1, 3), (2, 4)]));
        let reasons: Vec<_> =
            collection.orphaned.iter().map(|set| set.problems[0].to_string()).collect();
        assert_eq!(
            reasons,
            [
                "a later set, of 19700101T000003Z, has the same base and takes its place",
                "the set that it builds on is missing"
            ]
        );
    }

    #[test]
    fn spelling_does_not_matter() {
        let names = [
            "df.towsfm.1.dt.g",
            "dfs.towsfm.st.g",
            "duplicity-full.2026-11-22T10:02:10-05:00.manifest.gpg",
            "duplicity-inc.20261122T150210Z.to.20261122T150213Z.vol1.difftar.gz",
            "duplicity-inc.20261122T150210Z.to.20261122T150213Z.vol10.difftar.gz",
            "duplicity-inc.20261122T150210Z.to.20261122T150213Z.vol9.difftar",
            "di.towsfm.towsfp.m",
        ];
        let collection = scanned(&names.map(String::from));
        assert_eq!(times(&collection.chains), [[1795359730, 1795359733]]);
        let [full, inc] = collection.chains[0].sets() else { panic!() };
        assert_eq!((full.is_encrypted(), inc.is_encrypted()), (true, false));
        assert_eq!(inc.volumes.keys().copied().collect::<Vec<_>>(), [1, 9, 10]);
        assert_eq!(inc.volumes[&9].encoding, Encoding::Plain);
        assert!(
            collection.leftovers.is_empty()
                && full.signatures.is_some()
                && inc.signatures.is_none()
        );
    }

    #[test]
    fn two_encodings_are_a_problem_of_the_set() {
        let mut names = sets(&[(1, 1)]);
        names.push(name(session(1, 1), Content::Volume(1), Encoding::OpenPgp));
        names.push(name(session(1, 1), Content::Volume(2), Encoding::Gzip));
        let collection = scanned(&names);
        let set = &collection.chains[0].sets()[0];
        assert_eq!(set.volumes.len(), 2);
        assert_eq!(set.volumes[&1].encoding, Encoding::Gzip);
        assert_eq!(set.problems.len(), 1);
    }

    #[test]
    fn sets_without_manifest_are_incomplete() {
        let mut names = sets(&[(1, 1), (1, 2), (2, 3)]);
        names.retain(|name| *name != self::name(session(1, 2), Content::Manifest, Encoding::Gzip));
        let collection = scanned(&names);
        assert_eq!(
            (times(&collection.chains), ends(&collection.incomplete)),
            (vec![vec![1]], vec![2])
        );
        assert_eq!(ends(&collection.orphaned), [3]);
    }

    #[test]
    fn primary_chain_needs_signatures() {
        let without = |sessions: &[(i64, i64)], missing: &[(i64, i64)]| {
            let missing: Vec<_> = missing
                .iter()
                .map(|&(s, e)| name(session(s, e), Content::Signatures, Encoding::Gzip))
                .collect();
            let names: Vec<_> =
                sets(sessions).into_iter().filter(|name| !missing.contains(name)).collect();
            scanned(&names)
        };
        let chain = [(1, 1), (1, 2), (2, 3), (3, 4)];
        assert_eq!(without(&chain, &[]).primary(), Some(0));
        assert_eq!(without(&chain, &[(3, 4)]).primary(), Some(0));
        assert_eq!(without(&chain, &[(2, 3)]).primary(), None);
        assert_eq!(without(&chain, &[(2, 3)]).orphaned_signatures[0].session, session(3, 4));
        assert_eq!(
            without(&chain[..2], &[(1, 2)]).primary(),
            None,
            "the set before is no increment"
        );
        assert_eq!(without(&[(1, 1), (9, 9)], &[]).primary(), Some(1));
        assert_eq!(without(&[(1, 1), (9, 9)], &[(9, 9)]).primary(), None);
        assert_eq!(scanned(&[]).primary(), None);
    }

    #[test]
    fn leftovers_say_why() {
        let full = "duplicity-full.20261122T150210Z";
        let names = [
            ("readme.txt".to_string(), Reason::Foreign),
            ("lockfile".to_string(), Reason::Foreign),
            (format!("{full}.vol1.difftar.gz.tmp"), Reason::Misnamed),
            (format!("other-{full}.manifest"), Reason::Misnamed),
            (format!("{full}.vol1.difftar.part"), Reason::Misnamed),
            (format!("{full}.manifest.part"), Reason::Partial),
            (format!("{full}.vol1.difftar.gz.par2"), Reason::Parity),
            (format!("{full}.vol1.difftar.gz.vol000+01.par2"), Reason::Parity),
            (format!("{full}.vol1.difftar.p7m"), Reason::Gpgsm),
            (format!("{full}.jsonstat.gz"), Reason::Statistics),
        ];
        let collection = scanned(&names.clone().map(|(name, _)| name));
        let found: Vec<_> = collection
            .leftovers
            .iter()
            .map(|left| (left.listed.name.clone(), left.reason))
            .collect();
        assert_eq!(found, names);
    }

    fn any_name() -> impl Strategy<Value = String> {
        let content = prop_oneof![
            (1u32..4).prop_map(Content::Volume),
            Just(Content::Manifest),
            Just(Content::Manifest),
            Just(Content::Signatures),
            Just(Content::Statistics)
        ];
        let encoding =
            prop_oneof![Just(Encoding::Plain), Just(Encoding::Gzip), Just(Encoding::OpenPgp)];
        let known = (1i64..6, 1i64..6, content, encoding)
            .prop_map(|(s, e, content, encoding)| name(session(s, e), content, encoding));
        prop_oneof![9 => known, 1 => "[a-z.]{1,5}"]
    }

    proptest! {
        #[test]
        fn nothing_is_dropped(names in prop::collection::hash_set(any_name(), 0..60)) {
            let names: Vec<_> = names.into_iter().collect();
            let collection = scanned(&names);
            let chained = collection.chains.iter().flat_map(BackupChain::sets);
            let mut found = Vec::new();
            for set in chained.chain(&collection.orphaned).chain(&collection.incomplete) {
                found.extend(set.files().map(|file| file.listed.name.clone()));
                found.extend(set.problems.iter().filter_map(|problem| match problem {
                    Problem::Duplicate { ignored, .. } => Some(ignored.name.clone()),
                    _ => None,
                }));
            }
            found.extend(collection.leftovers.into_iter().map(|left| left.listed.name));
            let signatures = collection.signature_chains.into_iter().flat_map(|chain| chain.files().to_vec());
            let signatures: Vec<_> = signatures.chain(collection.orphaned_signatures).map(|file| file.file.listed.name).collect();
            found.extend(signatures.into_iter().filter(|name| !found.contains(name)).collect::<Vec<_>>());
            found.sort();
            let mut names = names;
            names.sort();
            prop_assert_eq!(found, names);
        }

        #[test]
        fn chains_are_linked(names in prop::collection::hash_set(any_name(), 0..60)) {
            for chain in scanned(&names.into_iter().collect::<Vec<_>>()).chains {
                prop_assert!(chain.sets()[0].session.is_full());
                for pair in chain.sets().windows(2) {
                    prop_assert_eq!(pair[0].session.end(), pair[1].session.start());
                    prop_assert!(pair[1].session.end() > pair[1].session.start() && pair[1].is_complete());
                }
            }
        }
    }
}
