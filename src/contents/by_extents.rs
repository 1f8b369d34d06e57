//! Files that are read by their extents instead of whole volumes, where that is less.
//!
//! Passes read each volume that may hold anything at the path, which for one file out of many is
//! nearly all for nothing. Where the catalog knows what is in these volumes, by passes before or by
//! their tables of contents, it knows it as surely: every row has been held against its volume, and
//! every chunk has its hash. Then the extents of few files are read, each checked by its chunks.
//!
//! It is all or nothing: one file that cannot be read so leads to passes, and these bring the rest.

use super::bulk_reader::{BulkReadError, BulkReader, is_full};
use super::file_assembly::Failure;
use super::target::{FileSink, Incoming, Target};
use super::{Contents, Error, File};
use crate::catalog::{Chain, Version, VersionId};
use crate::model::EntryPath;
use crate::sets;
use crate::work;
use std::collections::BTreeSet;

/// Files that are looked at, at most: of more, passes bring most volumes in any case.
const FILES: usize = 256;
/// Bytes of a file that are read at once, by each of as many threads as there may be transfers.
const STEP: usize = 4 << 20;

/// A file that is read by its extents.
struct Found {
    version: Version,
    path: EntryPath,
    file: File,
}

impl<T: Target> BulkReader<'_, T> {
    /// Brings the expected files by their extents, if those are less than half of what passes would
    /// read. What cannot be brought so is left to the passes.
    ///
    /// # Errors
    /// [`BulkReadError`] when the target is full, the catalog fails, or the monitor wants the end.
    pub(super) fn read_extents(&self, contents: &Contents) -> Result<(), BulkReadError> {
        if contents.sets().demands_signature() {
            return Ok(());
        }
        let expected: Vec<u64> = self.request.expected.iter().take(FILES + 1).collect();
        if expected.is_empty() || expected.len() > FILES {
            return Ok(());
        }
        let Some(found) = self.find_files(contents, &expected)? else { return Ok(()) };
        let bring = |found: &Found| self.bring(contents, found);
        work::each(&found, contents.sets().abilities().transfers, bring).map(drop)
    }

    /// Brings one file, or leaves it to the passes.
    fn bring(&self, contents: &Contents, found: &Found) -> Result<(), BulkReadError> {
        if self.is_stopped() {
            return Err(BulkReadError::Interrupted);
        }
        let Some(entry) = found.version.entry() else { return Ok(()) };
        let (mut sink, id) = (self.target.sink(), found.version.id);
        let result = match sink.begin(&found.path, id) {
            Ok(mut file) => match self.fill(contents, &found.file, &mut file) {
                Ok(()) => sink.complete(file, entry, found.file.size()).map_err(Failure::Target),
                Err(failure) => {
                    sink.discard(file);
                    Err(failure)
                }
            },
            Err(cause) => Err(Failure::Target(cause)),
        };
        match result {
            Ok(()) => {
                self.delivered.set(id.number());
                self.request.expected.clear(id.number());
                Ok(())
            }
            Err(Failure::Target(cause)) if is_full(&cause) => Err(BulkReadError::Full(cause)),
            // The passes find the same, or better, and report it.
            Err(_) => Ok(()),
        }
    }

    /// Opens the files of some versions, if all of them can be read by their extents, and should.
    fn find_files(
        &self,
        contents: &Contents,
        expected: &[u64],
    ) -> Result<Option<Vec<Found>>, sets::Error> {
        let (sets, snapshot) = (self.sets, self.request.snapshot);
        let chain = &snapshot.chain;
        sets.fetch_manifests(chain, 0..=snapshot.position);
        let mut volumes = Vec::new();
        for position in 0..=snapshot.position {
            // Why it cannot be read is for the pass to report.
            let Ok(manifest) = sets.manifest(chain, position) else { return Ok(None) };
            let below = manifest.volumes_below(self.request.base);
            volumes.extend(below.map(|volume| (position, volume.number)));
        }
        sets.fill_tables(chain, &volumes)?;
        let (mut found, mut positions, mut wanted) = (Vec::new(), BTreeSet::new(), 0u64);
        for &number in expected {
            let version = sets.version(VersionId::from_parts(chain.number(), number))?;
            let path = sets.path(&version)?;
            if !contents.is_known(chain, &version, &path, &mut positions)? {
                return Ok(None);
            }
            let Ok(file) = contents.open(chain, &version) else { return Ok(None) };
            wanted = wanted.saturating_add(file.size());
            found.push(Found { version, path, file });
        }
        let mut passes = 0u64;
        for (position, number) in volumes {
            if positions.contains(&position) {
                let length = sets.volume_length(chain, position, number)?;
                passes = passes.saturating_add(length.unwrap_or(0));
            }
        }
        Ok((wanted < passes / 2).then_some(found))
    }

    /// Reads all of a file.
    fn fill(&self, contents: &Contents, file: &File, target: &mut T::File) -> Result<(), Failure> {
        let mut buffer = vec![0; STEP.min(usize::try_from(file.size()).unwrap_or(STEP))];
        let mut at = 0;
        while at < file.size() {
            if self.is_stopped() {
                return Err(Failure::Content("interrupted".into()));
            }
            let count = contents.read(file, at, &mut buffer).map_err(|error| match error {
                Error::Sets(error) => Failure::Stored(error),
                error => Failure::Content(error.to_string()),
            })?;
            target.write_at(&buffer[..count], at).map_err(Failure::Target)?;
            at += count as u64;
        }
        Ok(())
    }
}

impl Contents {
    /// Returns whether the catalog knows all volumes that may hold a version, or one that its deltas
    /// apply to; adds the positions of their sets.
    fn is_known(
        &self,
        chain: &Chain,
        version: &Version,
        path: &EntryPath,
        positions: &mut BTreeSet<u32>,
    ) -> Result<bool, sets::Error> {
        let (sets, mut next) = (self.sets(), Some(version.clone()));
        while let Some(version) = next.filter(Version::is_file) {
            positions.insert(version.position);
            let Ok(manifest) = sets.manifest(chain, version.position) else { return Ok(false) };
            for volume in manifest.volumes_with(path) {
                if sets.volume_length(chain, version.position, volume.number)?.is_none() {
                    return Ok(false);
                }
            }
            match self.own_part(chain, &version) {
                Ok(part) if part.is_delta => next = sets.version_before(&version)?,
                Ok(_) => return Ok(true),
                Err(_) => return Ok(false),
            }
        }
        Ok(false)
    }
}
