//! [`PackedParts`]: the parts of one volume on their way to the database.

use super::ids::VersionId;
use crate::format::Part;

/// The parts of one volume, as the database will have them, end to end: a volume may hold a million
/// small files.
#[derive(Default)]
pub struct PackedParts {
    rows: Vec<(VersionId, Option<u64>, usize)>,
    bytes: Vec<u8>,
}

impl PackedParts {
    /// Appends the part of one version.
    pub fn push(&mut self, version: VersionId, part: &Part) {
        self.bytes.extend(part.encode());
        self.rows.push((version, part.size(), self.bytes.len()));
    }

    /// Returns version, encoded part, and the version's size where the part tells it.
    pub fn iter(&self) -> impl Iterator<Item = (VersionId, &[u8], Option<u64>)> {
        let starts = std::iter::once(0).chain(self.rows.iter().map(|(_, _, end)| *end));
        self.rows
            .iter()
            .zip(starts)
            .map(|((version, size, end), start)| (*version, &self.bytes[start..*end], *size))
    }
}
