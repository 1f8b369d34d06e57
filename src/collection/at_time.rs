//! From a time to the set that answers for it.

use super::{BackupSet, Collection};
use crate::model::BackupTime;

/// Which set shows the tree as it stood at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtTime {
    /// Position in [`Collection::chains`].
    pub chain: usize,
    /// Position in that chain's sets; this one and all before it make the tree.
    pub set: usize,
    /// Whether the time is before all backups, so that the set is younger than asked for. duplicity
    /// shows the oldest full set then, with a warning when it lists files and with none when it
    /// restores.
    pub before_first: bool,
}

impl Collection {
    /// Finds the set that answers for a time; `None` if there is no chain.
    ///
    /// The chain is the one that spans the time, else the last that ended before it, else the
    /// first. Where a full set was made inside the span of an older chain (two machines, or two
    /// archive directories, that write to one place), several span it: duplicity gives up then;
    /// here the chain with the youngest full set answers. In the chain it is the last set that is
    /// not younger than the time.
    ///
    /// Source: restores by duplicity 0.8.22 and 3.2.1 at times inside, between and outside chains.
    pub fn at_time(&self, time: BackupTime) -> Option<AtTime> {
        let chains = || self.chains.iter().enumerate();
        let spanning = chains().filter(|(_, chain)| chain.start() <= time && time <= chain.end());
        let ended = || chains().rfind(|(_, chain)| chain.end() < time);
        let found = spanning.max_by_key(|(_, chain)| chain.start()).or_else(ended);
        let before_first = found.is_none();
        let (position, chain) = found.or_else(|| chains().next())?;
        let set = chain.sets().iter().rposition(|set| set.session.end() <= time).unwrap_or(0);
        Some(AtTime { chain: position, set, before_first })
    }

    /// Returns the sets that make the tree: the full one first.
    pub fn sets_of(&self, at: AtTime) -> &[BackupSet] {
        self.chains.get(at.chain).and_then(|chain| chain.sets().get(..=at.set)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::scan;
    use crate::format::{Content, Encoding, Prefixes, Session, StoredName};
    use crate::storage::Listed;

    fn collection(sessions: &[(i64, i64)]) -> Collection {
        let listing: Vec<_> = sessions
            .iter()
            .map(|&(start, end)| {
                let [start, end] = [start, end].map(BackupTime::from_seconds);
                let session = if start == end {
                    Session::Full { time: end }
                } else {
                    Session::Incremental { start, end }
                };
                let name = StoredName {
                    session,
                    content: Content::Manifest,
                    partial: false,
                    encoding: Encoding::Plain,
                };
                Listed { name: name.print(&Prefixes::default()), size: 9, stamp: 0 }
            })
            .collect();
        scan(&listing, &Prefixes::default())
    }

    /// Returns the time of the set that answers, and whether it is younger than asked for.
    fn state(collection: &Collection, time: i64) -> (i64, bool) {
        let at = collection.at_time(BackupTime::from_seconds(time)).unwrap();
        (collection.sets_of(at).last().unwrap().session.end().seconds(), at.before_first)
    }

    #[test]
    fn times_as_duplicity_restores_them() {
        let sessions = [
            (1000000, 1000000),
            (1000000, 1001000),
            (1001000, 1002000),
            (1010000, 1010000),
            (1010000, 1011000),
        ];
        let collection = collection(&sessions);
        for (time, expected) in [
            (999999, (1000000, true)),
            (1000000, (1000000, false)),
            (1001500, (1001000, false)),
            (1005000, (1002000, false)),
            (1009999, (1002000, false)),
            (1010000, (1010000, false)),
            (9999999, (1011000, false)),
        ] {
            assert_eq!(state(&collection, time), expected, "{time}");
        }
        assert_eq!(
            collection
                .sets_of(collection.at_time(BackupTime::from_seconds(1001500)).unwrap())
                .len(),
            2
        );
    }

    #[test]
    fn of_chains_that_overlap_the_youngest_answers() {
        let collection = collection(&[(10, 10), (10, 50), (20, 20), (20, 30)]);
        for (time, expected) in
            [(15, 10), (20, 20), (25, 20), (30, 30), (31, 10), (50, 50), (60, 50)]
        {
            assert_eq!(state(&collection, time), (expected, false), "{time}");
        }
    }

    #[test]
    fn nothing_answers_for_nothing() {
        assert_eq!(collection(&[]).at_time(BackupTime::from_seconds(5)), None);
    }
}
