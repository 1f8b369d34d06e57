//! What the file system said of the files of a set, kept with its rows.

use super::Error;
use super::sets::Sets;
use crate::catalog::{Chain, SourceStat};

impl Sets {
    /// Keeps what the file system said of the paths of a set: one item for each row of the set, in
    /// path order; `None` for what is no file. The set must be filled. The database is not written
    /// by others meanwhile, so the items should be at hand.
    ///
    /// # Errors
    /// [`crate::catalog::Error::Gone`] when the set has not as many rows as there are items; nothing is
    /// kept then. [`Error`] when the database fails.
    pub fn save_stats(
        &self,
        chain: &Chain,
        position: u32,
        stats: impl Iterator<Item = Option<SourceStat>>,
    ) -> Result<(), Error> {
        let versions = self.versions_of(chain, position)?;
        Ok(self.catalog.write(|rows| rows.save_stats(chain, position, versions, stats))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Files, PathState, World};
    use super::*;
    use crate::catalog::{self, VersionId};
    use crate::storage::Call;
    use PathState::{Directory, File, Gone};
    use std::sync::Arc;

    fn stat(number: u64) -> SourceStat {
        SourceStat { size: number, ctime: -(number as i64), inode: u64::MAX - number }
    }

    fn stats(
        world: &World,
        chain: &Arc<Chain>,
        position: u32,
    ) -> Vec<(String, Option<SourceStat>)> {
        let basis = world.sets.saved_entries(chain, position).unwrap();
        basis
            .map(|saved| saved.map(|saved| (saved.path.to_string(), saved.stat)).unwrap())
            .collect()
    }

    fn named(expected: &[(&str, Option<u64>)]) -> Vec<(String, Option<SourceStat>)> {
        expected.iter().map(|(path, number)| (path.to_string(), number.map(stat))).collect()
    }

    #[test]
    fn stats_go_with_their_versions() {
        let file = || File(b"content".to_vec());
        let files = Arc::new(Files::default());
        files.write(0, &[&[(".", Directory), ("a", file()), ("b", file()), ("c", file())]], false);
        let world = World::plain(&files);
        let chain = world.chain();
        assert_eq!(
            stats(&world, &chain, 0),
            named(&[(".", None), ("a", None), ("b", None), ("c", None)])
        );
        world
            .sets
            .save_stats(&chain, 0, [None, Some(1), None, Some(3)].map(|n| n.map(stat)).into_iter())
            .unwrap();
        assert_eq!(
            stats(&world, &chain, 0),
            named(&[(".", None), ("a", Some(1)), ("b", None), ("c", Some(3))])
        );
        files.write(1, &[&[("a", file()), ("b", Gone)]], false);
        let chain = world.chain();
        world.sets.fill(&chain).unwrap();
        world.sets.save_stats(&chain, 1, [Some(stat(11)), None].into_iter()).unwrap();
        assert_eq!(
            stats(&world, &chain, 1),
            named(&[(".", None), ("a", Some(11)), ("c", Some(3))])
        );
        assert_eq!(
            stats(&world, &chain, 0),
            named(&[(".", None), ("a", Some(1)), ("b", None), ("c", Some(3))])
        );
        let last = world.sets.saved_entries(&chain, 1).unwrap().last().unwrap().unwrap().version;
        let unknown = VersionId::from_parts(chain.number(), 77);
        world.sets.catalog.update_stats([(last, stat(33)), (unknown, stat(77))].into_iter());
        assert_eq!(
            stats(&world, &chain, 1),
            named(&[(".", None), ("a", Some(11)), ("c", Some(33))])
        );
        // Without their chain, they go.
        let count =
            || world.sets.catalog.read(|rows| rows.number("SELECT count(*) FROM source_stats"));
        let counts: [i64; 2] = [count().unwrap(), {
            let none = crate::collection::scan(&[], &crate::format::Prefixes::default());
            world.sets.set_collection(&none).unwrap();
            count().unwrap()
        }];
        assert_eq!(counts, [3, 0]);
    }

    #[test]
    fn stats_of_other_rows_are_refused() {
        let files = Arc::new(Files::default());
        files.write(0, &[&[(".", Directory), ("a", File(Vec::new()))]], false);
        let world = World::plain(&files);
        let chain = world.chain();
        world.sets.fill(&chain).unwrap();
        for count in [0, 1, 3, 4] {
            let result =
                world.sets.save_stats(&chain, 0, std::iter::repeat_n(Some(stat(1)), count));
            assert!(matches!(result, Err(Error::Catalog(catalog::Error::Gone(_)))), "{count}");
        }
        assert_eq!(stats(&world, &chain, 0), named(&[(".", None), ("a", None)]));
    }

    #[test]
    fn a_new_increment_is_all_that_is_read() {
        let files = Arc::new(Files::default());
        let file = || File(b"content".to_vec());
        files.write(0, &[&[(".", Directory), ("a", file())]], true);
        files.write(1, &[&[("a", file())]], true);
        let directory = tempfile::tempdir().unwrap();
        let world = World::new(&files, Some(directory.path().into()), Default::default());
        let before = world.chain();
        assert_eq!(world.sets.fill(&before).unwrap(), 2);
        let known = world.sets.versions_of(&before, 1).unwrap();
        files.write(2, &[&[("b", file())]], true);
        // In this run as in the next one.
        let next = World::new(&files, Some(directory.path().into()), Default::default());
        for (world, is_first) in [(&world, true), (&next, false)] {
            let after = world.chain();
            assert_eq!((after.number(), after.sets.len()), (before.number(), 3));
            assert_eq!(world.sets.fill(&after).unwrap(), 3);
            let calls = world.storage.take_calls().into_iter();
            let names = calls.filter_map(|call| match call {
                Call::Read { name, .. } | Call::Stream { name, .. } => Some(name),
                Call::Received { .. } => None,
                other => panic!("{other:?}"),
            });
            let names: std::collections::BTreeSet<_> = names.collect();
            let new = "duplicity-new-signatures.20231114T223000Z.to.20231114T224640Z.sigtar";
            let manifest = "duplicity-inc.20231114T223000Z.to.20231114T224640Z.manifest";
            let expected: &[&str] = if is_first { &[manifest, new] } else { &[] };
            assert_eq!(Vec::from_iter(names), expected);
            assert_eq!(world.sets.versions_of(&after, 1).unwrap(), known);
        }
    }
}
