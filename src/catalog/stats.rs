//! What this machine's file system said of files when they were saved: whether one has to be looked
//! at again.
//!
//! Nothing else is decided by these values, and a session that has none only reads more. So it is
//! no harm if they cannot be kept.

use super::catalog::Catalog;
use super::chains::Chain;
use super::{Error, VersionId, query};

/// What the file system said of a file just before it was saved. A file with the same values holds
/// the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceStat {
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of its inode, in nanoseconds since 1970 UTC.
    pub ctime: i64,
    /// Number of its inode.
    pub inode: u64,
}

impl Catalog {
    /// Keeps what the file system said of the paths of a set: one item for each row of the set, in
    /// path order; `None` for what is no file. The set must be filled. The database is not written
    /// by others meanwhile, so the items should be at hand.
    ///
    /// # Errors
    /// [`Error::Gone`] when the set has not as many rows as there are items; nothing is kept then.
    /// [`Error`] when the database fails.
    pub fn save_stats(
        &self,
        chain: &Chain,
        position: u32,
        stats: impl Iterator<Item = Option<SourceStat>>,
    ) -> Result<(), Error> {
        let rows = self.versions_of(chain, position)?;
        let other = || {
            Error::Gone(format!(
                "the {} rows of set {position} that were saved",
                rows.end - rows.start
            ))
        };
        self.database.write(|connection| {
            query::set_is_there(connection, chain.set_id(position))?;
            let mut insert = connection.prepare_cached(INSERT)?;
            let mut versions = rows.clone();
            for stat in stats {
                let version =
                    VersionId::from_parts(chain.number(), versions.next().ok_or_else(other)?);
                if let Some(SourceStat { size, ctime, inode }) = stat {
                    insert.execute((version, size as i64, ctime, inode as i64))?;
                }
            }
            if versions.is_empty() { Ok(()) } else { Err(other()) }
        })
    }

    /// Keeps, if it can, what the file system says now of files that have not changed since their
    /// versions were saved. Versions that the catalog no longer has are left out. The database is
    /// not written by others meanwhile.
    pub fn update_stats(&self, stats: impl Iterator<Item = (VersionId, SourceStat)>) {
        self.keep_if_possible(|connection| {
            let mut is_there = connection.prepare_cached("SELECT 1 FROM versions WHERE id = ?1")?;
            let mut insert = connection.prepare_cached(INSERT)?;
            for (version, SourceStat { size, ctime, inode }) in stats {
                if is_there.exists([version])? {
                    insert.execute((version, size as i64, ctime, inode as i64))?;
                }
            }
            Ok(())
        });
    }
}

const INSERT: &str =
    "INSERT OR REPLACE INTO source_stats(version, size, ctime, inode) VALUES(?1, ?2, ?3, ?4)";

#[cfg(test)]
mod tests {
    use super::super::testing::{Files, PathState, World};
    use super::*;
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
        let basis = world.catalog.saved_entries(chain, position).unwrap();
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
            .catalog
            .save_stats(&chain, 0, [None, Some(1), None, Some(3)].map(|n| n.map(stat)).into_iter())
            .unwrap();
        assert_eq!(
            stats(&world, &chain, 0),
            named(&[(".", None), ("a", Some(1)), ("b", None), ("c", Some(3))])
        );
        files.write(1, &[&[("a", file()), ("b", Gone)]], false);
        let chain = world.chain();
        world.catalog.fill(&chain).unwrap();
        world.catalog.save_stats(&chain, 1, [Some(stat(11)), None].into_iter()).unwrap();
        assert_eq!(
            stats(&world, &chain, 1),
            named(&[(".", None), ("a", Some(11)), ("c", Some(3))])
        );
        assert_eq!(
            stats(&world, &chain, 0),
            named(&[(".", None), ("a", Some(1)), ("b", None), ("c", Some(3))])
        );
        let last = world.catalog.saved_entries(&chain, 1).unwrap().last().unwrap().unwrap().version;
        let unknown = VersionId::from_parts(chain.number(), 77);
        world.catalog.update_stats([(last, stat(33)), (unknown, stat(77))].into_iter());
        assert_eq!(
            stats(&world, &chain, 1),
            named(&[(".", None), ("a", Some(11)), ("c", Some(33))])
        );
        // Without their chain, they go.
        let count = || {
            world.catalog.database.read(|c| {
                Ok(c.query_row("SELECT count(*) FROM source_stats", [], |row| row.get(0))?)
            })
        };
        let counts: [i64; 2] = [count().unwrap(), {
            let none = crate::collection::scan(&[], &crate::format::Prefixes::default());
            world.catalog.set_collection(&none).unwrap();
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
        world.catalog.fill(&chain).unwrap();
        for count in [0, 1, 3, 4] {
            let result =
                world.catalog.save_stats(&chain, 0, std::iter::repeat_n(Some(stat(1)), count));
            assert!(matches!(result, Err(Error::Gone(_))), "{count}");
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
        assert_eq!(world.catalog.fill(&before).unwrap(), 2);
        let known = world.catalog.versions_of(&before, 1).unwrap();
        files.write(2, &[&[("b", file())]], true);
        // In this run as in the next one.
        let next = World::new(&files, Some(directory.path().into()), Default::default());
        for (world, is_first) in [(&world, true), (&next, false)] {
            let after = world.chain();
            assert_eq!((after.number(), after.sets.len()), (before.number(), 3));
            assert_eq!(world.catalog.fill(&after).unwrap(), 3);
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
            assert_eq!(world.catalog.versions_of(&after, 1).unwrap(), known);
        }
    }
}
