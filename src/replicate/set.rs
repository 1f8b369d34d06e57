//! [`SetReplicator`]: the stored files of one set, from one storage to another.

use super::{Error, ReplicateOptions, Source, Target};
use crate::codec::{self, Cause, Codec, Encoder};
use crate::collection::{BackupSet, SetFile};
use crate::format::{Content, Encoding, Manifest, ReadError, StoredName, VolumeHash};
use crate::monitor::{Event, Level, Monitor};
use crate::storage::{Listed, ReadAt, StagedWriter, StoredFile, check_stored};
use crate::volume::{self, VolumeSource};
use crate::work::{cores, each};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Replicates one set.
pub struct SetReplicator<'a> {
    source: &'a Source<'a>,
    target: &'a Target<'a>,
    options: &'a ReplicateOptions,
    monitor: &'a dyn Monitor,
    set: &'a BackupSet,
    /// What an earlier run has left of this set in the target.
    left: &'a [&'a Listed],
}

/// A file that is in the target now.
struct Replica {
    content: Content,
    listed: Listed,
    /// The volume's new hash, if it was encoded anew.
    hash: Option<VolumeHash>,
}

impl<'a> SetReplicator<'a> {
    /// Takes a set that the target lacks, and what there is of it all the same.
    pub fn new(
        source: &'a Source<'a>,
        target: &'a Target<'a>,
        options: &'a ReplicateOptions,
        monitor: &'a dyn Monitor,
        set: &'a BackupSet,
        left: &'a [&'a Listed],
    ) -> Self {
        Self { source, target, options, monitor, set, left }
    }

    /// Stores all its files, the manifest last.
    pub fn run(&self) -> Result<(), Error> {
        let manifest = self.manifest();
        // Without a key there may be nothing to decode either.
        let manifest = match manifest {
            Err(error) if !is_locked(&error) => return Err(error),
            manifest => manifest,
        };
        let files = self.files(manifest.as_ref().ok())?;
        if self.options.dry_run {
            files.iter().for_each(|(_, file)| self.report(file));
            return Ok(());
        }
        self.clear(&files)?;
        let replicas = each(&files, cores(), |(content, file)| {
            let replicate = || match content {
                _ if self.monitor.is_interrupted() => Err(Error::Interrupted),
                Content::Volume(number) => self.volume(*number, file, &manifest),
                _ => self.stream(*content, file),
            };
            self.stored_file(file).with_copies(Error::is_of_content, replicate)
        })?;
        let stored = replicas.iter().map(|Replica { listed, .. }| listed.clone());
        check_stored(self.target.storage.as_ref(), stored)?;
        if let (Err(error), Some(file)) = (&manifest, &self.set.manifest) {
            let text = format!(
                "the volumes of '{}' were copied as they are and not checked, since their hashes cannot be read: {error}",
                file.listed.name
            );
            self.monitor.message(Level::Warning, &text);
        }
        self.store_manifest(&replicas)
    }

    /// Reads the manifest; that of the archive directory, if there is no key for the other.
    fn manifest(&self) -> Result<Manifest, Error> {
        let Some(stored) = &self.set.manifest else { return Ok(Manifest::default()) };
        let read = || self.read_manifest(self.stored(stored), stored.encoding);
        match self.stored_file(stored).with_copies(Error::is_of_content, read) {
            Err(error) if is_locked(&error) => {
                let copy = self
                    .source
                    .local_copy
                    .as_ref()
                    .and_then(|copy| copy.manifest(self.set.session));
                copy.map_or(Err(error), |copy| {
                    self.read_manifest(Arc::new(copy.file.clone()), copy.encoding)
                })
            }
            manifest => manifest,
        }
    }

    fn read_manifest(&self, file: Arc<dyn ReadAt>, encoding: Encoding) -> Result<Manifest, Error> {
        let name = file.name().to_string();
        let decoder = self.source.codec.decode(file, encoding)?;
        Manifest::read(decoder).map_err(|cause| broken(&name, cause))
    }

    /// Returns the set's files but for the manifest: the signature file first, as duplicity does;
    /// volumes as far as the manifest names them.
    fn files(&self, manifest: Option<&Manifest>) -> Result<Vec<(Content, &'a SetFile)>, Error> {
        let set = self.set;
        let numbers: Vec<u32> = match manifest {
            Some(manifest) => manifest.volumes().map(|volume| volume.number).collect(),
            // If one is missing, it is among as many numbers as there are volumes, whatever the
            // highest is.
            None => (1..).take(set.volumes.len()).collect(),
        };
        let volume = |number: &u32| match set.volumes.get(number) {
            Some(file) => Ok((Content::Volume(*number), file)),
            None => Err(Error::MissingVolume { set: set.end(), number: *number }),
        };
        let signatures = set.signatures.iter().map(|file| (Content::Signatures, file));
        let others =
            signatures.chain(set.statistics.iter().map(|file| (Content::Statistics, file)));
        others.map(Ok).chain(numbers.iter().map(volume)).collect()
    }

    /// Deletes what an earlier run has left of this set under names that will not be written:
    /// duplicity refuses two volumes of one number. And what the archive directory remembers of
    /// another set of this name: its hashes are not those of this one.
    fn clear(&self, files: &[(Content, &SetFile)]) -> Result<(), Error> {
        let content = |listed: &Listed| {
            let name = StoredName::parse(&listed.name, &self.options.prefixes)?;
            (name.session == self.set.session).then_some(name.content)
        };
        let archive = self.target.archive;
        let mut remembered = archive.list()?.into_iter().filter(|listed| content(listed).is_some());
        remembered.try_for_each(|listed| archive.delete(&listed.name))?;
        for &left in self.left {
            let same = files.iter().find(|(of, _)| Some(*of) == content(left));
            let is_kept =
                match same.filter(|(content, file)| self.is_there(*content, file) == Some(left)) {
                    Some((_, file)) => {
                        self.target.encoder.could_have_made(&self.stored(file), file.encoding)?
                    }
                    None => false,
                };
            if !is_kept {
                self.target.storage.delete(&[&left.name]).into_iter().collect::<Result<(), _>>()?;
            }
        }
        Ok(())
    }

    /// Returns the target's own volume, if it has one of the same name and size.
    fn is_there(&self, content: Content, file: &SetFile) -> Option<&Listed> {
        let name = self.name(content, file.encoding);
        let mut left = self.left.iter().copied();
        left.find(|there| {
            matches!(content, Content::Volume(_))
                && there.name == name
                && there.size == file.listed.size
        })
    }

    /// Stores a volume.
    fn volume(
        &self,
        number: u32,
        file: &SetFile,
        manifest: &Result<Manifest, Error>,
    ) -> Result<Replica, Error> {
        let content = Content::Volume(number);
        let described = manifest.as_ref().ok().and_then(|manifest| manifest.volume(number));
        let hash = described.as_ref().and_then(|volume| volume.hash);
        let encoder = &self.target.encoder;
        let source =
            VolumeSource { key: 0, file: self.stored_file(file), encoding: file.encoding, hash };
        if self.may_stay(encoder, file)? {
            if let Some(there) = self.is_there(content, file) {
                return Ok(Replica { content, listed: there.clone(), hash: None });
            }
            self.report(file);
            let staged = volume::copy(&source, self.stage(content, file.encoding)?)?;
            return Ok(Replica { content, listed: self.target.storage.put(&staged)?, hash: None });
        }
        self.report(file);
        let Some(described) = described else {
            // The reason why there is no manifest is why this cannot be decoded either.
            self.source.codec.decode(self.stored(file), file.encoding)?;
            return Err(volume::Error::NoHash(file.listed.name.clone()).into());
        };
        let (work, writer) =
            ((self.set.session, &described), self.stage(content, encoder.encoding())?);
        let written = volume::rewrite(&source, &self.source.codec, work, encoder, writer)?;
        Ok(Replica {
            content,
            listed: self.target.storage.put(&written.staged)?,
            hash: written.described.hash,
        })
    }

    /// Stores a file that is no volume and no manifest.
    fn stream(&self, content: Content, file: &SetFile) -> Result<Replica, Error> {
        self.report(file);
        let encoder = &self.target.encoder;
        let listed = match self.may_stay(encoder, file)? {
            true => {
                self.check(file)?;
                self.copy(content, file)?
            }
            false => {
                let mut decoder = self.source.codec.decode(self.stored(file), file.encoding)?;
                let mut writer =
                    encoder.writer(&file.listed.name, self.stage(content, encoder.encoding())?)?;
                decoder.copy(|bytes| writer.write(bytes))?;
                self.target.storage.put(&writer.finish()?.seal())?
            }
        };
        Ok(Replica { content, listed, hash: None })
    }

    /// Decodes a file to its end, which shows damage; unless there is no key.
    fn check(&self, file: &SetFile) -> Result<(), Error> {
        match decode_all(&self.source.codec, self.stored(file), file.encoding) {
            Err(error) if is_without_key(&error.cause) => Ok(()),
            checked => Ok(checked?),
        }
    }

    /// Returns whether the bytes of a file are as good as any that the target's encoder would make.
    fn may_stay(&self, encoder: &Encoder, file: &SetFile) -> Result<bool, Error> {
        if !encoder.could_have_made(&self.stored(file), file.encoding)? {
            return Ok(false);
        }
        let Some(signed) =
            self.source.signed.as_ref().filter(|_| file.encoding == Encoding::OpenPgp)
        else {
            return Ok(true);
        };
        match decode_all(signed, self.stored(file), file.encoding) {
            Err(codec::Error { cause: Cause::Signature(_), .. }) => Ok(false),
            decoded => Ok(decoded.map(|()| true)?),
        }
    }

    /// Copies a file byte by byte, without a hash to check.
    fn copy(&self, content: Content, file: &SetFile) -> Result<Listed, Error> {
        let source = VolumeSource {
            key: 0,
            file: self.stored_file(file),
            encoding: file.encoding,
            hash: None,
        };
        let staged = volume::copy(&source, self.stage(content, file.encoding)?)?;
        Ok(self.target.storage.put(&staged)?)
    }

    /// Stores the manifest: the same, unless volumes or its own encoding have changed.
    fn store_manifest(&self, replicas: &[Replica]) -> Result<(), Error> {
        let Some(file) = &self.set.manifest else { return Ok(()) };
        let of_volume = |replica: &Replica| match replica.content {
            Content::Volume(number) => Some((number, replica.hash?)),
            _ => None,
        };
        let hashes: BTreeMap<u32, VolumeHash> = replicas.iter().filter_map(of_volume).collect();
        let encoder = self.target.manifest_encoder.as_ref().unwrap_or(&self.target.encoder);
        if hashes.is_empty() && self.may_stay(encoder, file)? {
            self.copy(Content::Manifest, file)?;
            return Ok(());
        }
        let decoder = self.source.codec.decode(self.stored(file), file.encoding)?;
        let mut writer = encoder
            .writer(&file.listed.name, self.stage(Content::Manifest, encoder.encoding())?)?;
        let write = |bytes: &[u8]| writer.write(bytes).map_err(ReadError::Source);
        Manifest::copy(decoder, write, |number| hashes.get(&number).copied())
            .map_err(|cause| broken(&file.listed.name, cause))?;
        self.target.storage.put(&writer.finish()?.seal())?;
        Ok(())
    }

    fn stage(&self, content: Content, encoding: Encoding) -> Result<StagedWriter, Error> {
        Ok(self.target.storage.stage(&self.name(content, encoding))?)
    }

    fn name(&self, content: Content, encoding: Encoding) -> String {
        let name = StoredName { session: self.set.session, content, partial: false, encoding };
        name.print_as(self.options.names, &self.options.prefixes)
    }

    fn report(&self, file: &SetFile) {
        self.monitor.event(&Event::Replicating(&file.listed.name));
    }

    fn stored_file(&self, file: &SetFile) -> StoredFile {
        StoredFile::new(self.source.storage.clone(), file.listed.clone())
    }

    fn stored(&self, file: &SetFile) -> Arc<dyn ReadAt> {
        Arc::new(self.stored_file(file))
    }
}

/// Makes an error of a manifest; the codec's own stays one.
fn broken(file: &str, cause: ReadError<codec::Error>) -> Error {
    match cause {
        ReadError::Source(error) => error.into(),
        ReadError::Format(cause) => Error::Manifest { file: file.into(), cause },
    }
}

/// Decodes a file to its end.
fn decode_all(
    codec: &Codec,
    file: Arc<dyn ReadAt>,
    encoding: Encoding,
) -> Result<(), codec::Error> {
    codec.decode(file, encoding)?.drain()
}

/// Returns whether all that lacks is a key.
fn is_locked(error: &Error) -> bool {
    matches!(error, Error::Codec(error) if is_without_key(&error.cause))
}

fn is_without_key(cause: &Cause) -> bool {
    matches!(cause, Cause::NoSecretKey(_) | Cause::Gpg(_) | Cause::NoPassphrase)
}
