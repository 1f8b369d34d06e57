//! [`Signatures`]: the signatures that deltas are made against, found in the signature files of a
//! chain.
//!
//! A session asks in path order, and signature files are in path order, so each of them is read
//! once, forwards, and only if a path of its set has changed.

use super::error::{Error, SignaturesCause};
use super::spool::Spool;
use crate::codec::{Codec, Decoder};
use crate::collection::{BackupSet, LocalCopy};
use crate::format::{ReadError, SignatureMember, TarReader};
use crate::model::EntryPath;
use crate::storage::{ReadAt, Storage, StoredFile};
use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Signature files that are open at a time; each takes some 600 KiB.
const OPEN: usize = 48;

/// Finds signatures in the sets of a chain.
pub struct Signatures<'a> {
    /// The full set first.
    pub sets: &'a [BackupSet],
    /// Where the copies of signature files are.
    pub local_copy: LocalCopy,
    /// Where the stored ones are.
    pub storage: Arc<dyn Storage>,
    /// Decodes them.
    pub codec: Arc<Codec>,
    /// Positions of the sets whose signature files their volumes contradict: no delta is made
    /// against these.
    pub distrusted: HashSet<u32>,
    /// Where large signatures are put meanwhile.
    pub tempdir: PathBuf,
    /// What has been opened, the last used one last.
    open: Vec<(u32, OpenFile)>,
}

struct OpenFile {
    tar: TarReader<Decoder>,
    /// The member that the reader stands at; `None` at the end.
    member: Option<SignatureMember>,
    name: String,
}

impl<'a> Signatures<'a> {
    /// Opens nothing yet.
    pub fn new(
        sets: &'a [BackupSet],
        local_copy: LocalCopy,
        storage: Arc<dyn Storage>,
        codec: Arc<Codec>,
        distrusted: HashSet<u32>,
        tempdir: PathBuf,
    ) -> Self {
        Self { sets, local_copy, storage, codec, distrusted, tempdir, open: Vec::new() }
    }

    /// Returns the signature that the set at a position has of a file, and its length; `None` if it
    /// has none. To be asked in path order.
    ///
    /// # Errors
    /// [`Error::Signatures`] when the signature file cannot be read.
    pub fn find(&mut self, position: u32, path: &EntryPath) -> Result<Option<(Spool, u64)>, Error> {
        if self.distrusted.contains(&position) {
            return Ok(None);
        }
        let mut file = match self.open.iter().position(|(known, _)| *known == position) {
            Some(index) => self.open.remove(index).1,
            None => self.open_file(position)?,
        };
        let tempdir = self.tempdir.clone();
        let found = file
            .find(path, &tempdir)
            .map_err(|cause| Error::Signatures { file: file.name.clone(), cause: cause.into() });
        if self.open.len() == OPEN {
            self.open.remove(0);
        }
        self.open.push((position, file));
        found
    }

    fn open_file(&self, position: u32) -> Result<OpenFile, Error> {
        let set = self.sets.get(position as usize);
        let missing = || Error::Signatures {
            file: format!("of set number {position}"),
            cause: SignaturesCause::Missing.into(),
        };
        let set = set.ok_or_else(missing)?;
        let (file, encoding) = match (self.local_copy.signatures(set.session), &set.signatures) {
            (Some(local), _) => (local.file.clone(), local.encoding),
            (None, Some(stored)) => {
                (StoredFile::new(self.storage.clone(), stored.listed.clone()), stored.encoding)
            }
            (None, None) => return Err(missing()),
        };
        let name = file.name().to_string();
        let failed =
            |cause: SignaturesCause| Error::Signatures { file: name.clone(), cause: cause.into() };
        let decoder =
            self.codec.decode_stored(file, encoding).map_err(|error| failed(error.into()))?;
        let mut file = OpenFile { tar: TarReader::new(decoder), member: None, name: name.clone() };
        file.next().map_err(failed)?;
        Ok(file)
    }
}

impl OpenFile {
    fn next(&mut self) -> Result<(), SignaturesCause> {
        let header = self.tar.next()?;
        let member = header.map(|header| SignatureMember::parse(&header)).transpose();
        self.member = member.map_err(ReadError::from)?;
        Ok(())
    }

    fn find(
        &mut self,
        path: &EntryPath,
        tempdir: &std::path::Path,
    ) -> Result<Option<(Spool, u64)>, SignaturesCause> {
        while self.member.as_ref().is_some_and(|member| member.path < *path) {
            self.next()?;
        }
        let Some(member) =
            self.member.as_ref().filter(|member| member.path == *path && member.length > 0)
        else {
            return Ok(None);
        };
        let length = member.length;
        let mut spool = Spool::new(tempdir);
        while let Some(bytes) = self.tar.chunk()? {
            spool.write_all(bytes).map_err(SignaturesCause::Temporary)?;
        }
        self.next()?;
        Ok(Some((spool, length)))
    }
}
