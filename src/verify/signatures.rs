//! [`Proof`]: files beside the signatures that were taken when they were saved.
//!
//! The hash of a volume proves that it is what was stored, and says nothing of what was stored: a
//! delta against another state than the one below it has a good volume and makes wrong bytes. The
//! signature was taken of the file as it was read. Files are read here as a mount reads them, set
//! by set, in the order of the set's signature file.

use crate::catalog::{Version, VersionId};
use crate::codec::{self, Decoder};
use crate::contents::{self, Contents, Failure, VersionSet};
use crate::format::{self, ReadError, SignatureMember, TarReader};
use crate::monitor::{Level, Monitor};
use crate::rsync::{CheckedSignature, SignatureWriter};
use crate::sets::{self, Cursor, Snapshot};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of a file that are read at once.
const READ: usize = 1 << 20;
/// Bytes of a signature before its first block.
const HEAD: usize = 12;

/// What comparing with signatures has shown.
pub struct Proof {
    /// Numbers of the versions whose files match.
    equal: VersionSet,
    /// Files that do not match, or that a mount could not read, and why.
    failures: HashMap<VersionId, Arc<Failure>>,
}

/// Why the files of a set cannot be compared, or one of them.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Sets(#[from] sets::Error),
    #[error(transparent)]
    Contents(#[from] contents::Error),
    #[error(transparent)]
    Format(#[from] format::Error),
    #[error(transparent)]
    Decode(#[from] codec::Error),
    #[error(transparent)]
    Sums(#[from] std::io::Error),
}

impl From<ReadError<codec::Error>> for Error {
    fn from(error: ReadError<codec::Error>) -> Self {
        match error {
            ReadError::Source(error) => error.into(),
            ReadError::Format(error) => error.into(),
        }
    }
}

impl Proof {
    /// Compares the `wanted` files of a snapshot. The monitor hears, at level error, of each set
    /// whose signatures cannot be read.
    ///
    /// # Errors
    /// [`sets::Error`] when the catalog fails.
    pub fn of(
        contents: &Contents,
        snapshot: &Snapshot,
        wanted: &VersionSet,
        monitor: &dyn Monitor,
    ) -> Result<Self, sets::Error> {
        let mut proof = Self { equal: VersionSet::new(wanted.limit()), failures: HashMap::new() };
        for (position, set) in (0..=snapshot.position).zip(&snapshot.chain.sets) {
            let versions = contents.sets().versions_of(&snapshot.chain, position)?;
            if !wanted.any(versions.clone()) {
                continue;
            }
            match proof.compare_set(contents, snapshot, position, wanted) {
                Ok(failures) => proof.failures.extend(failures),
                Err(cause) => {
                    versions.for_each(|number| proof.equal.clear(number));
                    let cause = match cause {
                        Error::Sets(sets::Error::Set { cause, .. }) => cause.to_string(),
                        cause => cause.to_string(),
                    };
                    let text = format!(
                        "cannot compare the files of set {} with their signature file: {cause}",
                        set.end()
                    );
                    monitor.message(Level::Error, &text);
                }
            }
        }
        Ok(proof)
    }

    /// Returns whether a file is what it was when it was saved.
    pub fn is_equal(&self, version: &Version) -> bool {
        self.equal.contains(version.id.number())
    }

    /// Says why a file is not what it was when it was saved.
    pub fn failure(&self, version: &Version) -> Option<Arc<Failure>> {
        self.failures.get(&version.id).cloned()
    }

    /// Compares the files that a set has brought, and returns those that fail. Only the end of the
    /// signature file proves what it says: when it is not reached, nothing counts.
    fn compare_set(
        &self,
        contents: &Contents,
        snapshot: &Snapshot,
        position: u32,
        wanted: &VersionSet,
    ) -> Result<HashMap<VersionId, Arc<Failure>>, Error> {
        let sets = contents.sets();
        let mut tar = TarReader::new(sets.signatures(&snapshot.chain, position)?);
        let mut cursor = Cursor::new(sets, &snapshot.chain, position);
        let mut failures = HashMap::new();
        while let Some(header) = tar.next()? {
            let member = SignatureMember::parse(&header)?;
            let version =
                cursor.find(&member.path)?.filter(|version| wanted.contains(version.number()));
            let Some(version) = version else { continue };
            let Some((block, expected)) = sum_of_signature(&mut tar, member.length)? else {
                continue;
            };
            let cause = match sum_of_file(contents, snapshot, version, block) {
                Ok(sum) if sum == expected => {
                    self.equal.set(version.number());
                    continue;
                }
                Ok(_) => "it does not match the signature that was taken when it was saved".into(),
                Err(cause) => cause.to_string(),
            };
            failures.insert(version, Arc::new(Failure::Content(cause)));
        }
        tar.into_inner().drain()?;
        Ok(failures)
    }
}

/// Returns the block length of the signature that comes next, and its BLAKE3; `None` if it is none
/// that [`SignatureWriter`] would make.
fn sum_of_signature(
    tar: &mut TarReader<Decoder>,
    length: u64,
) -> Result<Option<(u32, blake3::Hash)>, Error> {
    let (mut head, mut hasher) = (Vec::with_capacity(HEAD), blake3::Hasher::new());
    while let Some(bytes) = tar.chunk()? {
        head.extend(bytes.iter().take(HEAD - head.len()));
        hasher.update(bytes);
    }
    let form = CheckedSignature::new(&head[..], length).ok().map(|signature| signature.form());
    Ok(form.filter(|form| form.is_just_ours()).map(|form| (form.block as u32, hasher.finalize())))
}

/// Returns the BLAKE3 of the signature of a file as a mount would show it.
fn sum_of_file(
    contents: &Contents,
    snapshot: &Snapshot,
    id: VersionId,
    block: u32,
) -> Result<blake3::Hash, Error> {
    let file = contents.open(&snapshot.chain, &contents.sets().version(id)?)?;
    let mut signature = SignatureWriter::new(blake3::Hasher::new(), block)?;
    let mut buffer = vec![0; file.size().min(READ as u64) as usize];
    let mut offset = 0;
    while offset < file.size() {
        let count = contents.read(&file, offset, &mut buffer)?;
        signature.update(&buffer[..count])?;
        offset += count as u64;
    }
    Ok(signature.finish()?.0.finalize())
}
