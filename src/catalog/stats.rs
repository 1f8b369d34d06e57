//! What this machine's file system said of files when they were saved: whether one has to be looked
//! at again.
//!
//! Nothing else is decided by these values, and a session that has none only reads more. So it is
//! no harm if they cannot be kept.

use super::Error;
use super::catalog::Catalog;
use super::chains::Chain;
use super::ids::VersionId;
use super::rows::Rows;
use std::ops::Range;

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

const INSERT: &str =
    "INSERT OR REPLACE INTO source_stats(version, size, ctime, inode) VALUES(?1, ?2, ?3, ?4)";

impl Rows<'_> {
    /// Keeps what the file system said of the versions of a set: one item for each of them.
    ///
    /// # Errors
    /// [`Error::Gone`] when there are not as many items.
    pub fn save_stats(
        &self,
        chain: &Chain,
        position: u32,
        rows: Range<u64>,
        stats: impl Iterator<Item = Option<SourceStat>>,
    ) -> Result<(), Error> {
        self.set_is_there(chain.set_id(position))?;
        let count = rows.end - rows.start;
        let other = || Error::Gone(format!("the {count} rows of set {position} that were saved"));
        let mut insert = self.connection.prepare_cached(INSERT)?;
        let mut versions = rows;
        for stat in stats {
            let version = VersionId::from_parts(chain.number(), versions.next().ok_or_else(other)?);
            if let Some(SourceStat { size, ctime, inode }) = stat {
                insert.execute((version, size as i64, ctime, inode as i64))?;
            }
        }
        if versions.is_empty() { Ok(()) } else { Err(other()) }
    }
}

impl Catalog {
    /// Keeps, if it can, what the file system says now of files that have not changed since their
    /// versions were saved. Versions that the catalog no longer has are left out. The database is
    /// not written by others meanwhile.
    pub fn update_stats(&self, stats: impl Iterator<Item = (VersionId, SourceStat)>) {
        self.keep_if_possible(|rows| {
            let text = "SELECT 1 FROM versions WHERE id = ?1";
            let mut is_there = rows.connection.prepare_cached(text)?;
            let mut insert = rows.connection.prepare_cached(INSERT)?;
            for (version, SourceStat { size, ctime, inode }) in stats {
                if is_there.exists([version])? {
                    insert.execute((version, size as i64, ctime, inode as i64))?;
                }
            }
            Ok(())
        });
    }
}
