//! [`SetWriter`]: the stored files of one set, in the order that keeps a collection readable at any
//! moment.
//!
//! Volumes, then the signature file, then the manifest: a set counts as complete when its manifest
//! is stored. Meanwhile the archive directory holds what duplicity expects of an unfinished
//! session, and each step leaves a state that both versions of duplicity can read, go on with, or
//! clean up:
//!
//! | step | storage | archive directory |
//! |---|---|---|
//! | volume 1 is stored | `vol1` | `sigtar.part`, `manifest.part` |
//! | volume n is stored | … `voln` | its block is in `manifest.part` |
//! | all are stored | | both `.part` are gone |
//! | | `sigtar`; all volumes are looked for once more | |
//! | | | `sigtar` |
//! | | | `manifest` |
//! | the set is complete | `manifest` | |
//!
//! No other librsync ends a delta as the one that began it would have. A duplicity throws the last
//! volume away and goes on behind the one before it, if the archive directory knows it; if that one
//! ended inside a delta of ours, it would ruin the file. So volumes are told to the archive
//! directory only when neither the last one nor the one before it ends so; a duplicity that finds
//! less there than in storage starts over.
//!
//! When all volumes are stored, duplicity keeps its checkpoints longer than this. But 0.8.22 that
//! goes on when the signature file is stored takes it for what it has to compare with, and stores
//! nothing; and it refuses to run when a set is complete and still has its `manifest.part`. Without
//! checkpoints both versions take the set for left over, and our own next run goes on by the
//! journal.

use super::journal::{Journal, Journaled, JournaledVolume};
use super::members::{FileList, Load, Mark};
use super::sigtar::{SharedFile, SigtarWriter};
use super::spool::Spool;
use super::uploads::Uploads;
use super::{BackupOptions, Error, Target};
use crate::codec::{EncodeOptions, EncodedFile, Encoder, Frame};
use crate::collection::ArchiveDirectory;
use crate::format::{Content, Encoding, Manifest, Session, StoredName};
use crate::monitor::{Event, Monitor};
use crate::storage::{self, ByteSink, Listed, StagedWriter, check_stored, open_file};
use crate::volume::{EncodedFrame, VolumeWriter, WrittenVolume};
use crate::work::{Feed, pipeline};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// A checkpoint of the manifest is written anew for each volume, until it has so many bytes; then
/// it is appended to, which a power cut can tear.
const REWRITTEN: usize = 1 << 20;
/// Signature files are encoded in frames of so many bytes.
const FRAME: usize = 1 << 20;

/// The names of one session's files.
#[derive(Clone)]
pub struct Names<'a> {
    session: Session,
    options: &'a BackupOptions,
}

impl<'a> Names<'a> {
    /// Names the files of a session.
    pub fn new(session: Session, options: &'a BackupOptions) -> Self {
        Self { session, options }
    }

    /// Returns a name in storage.
    pub fn stored(&self, content: Content) -> String {
        let encoding = match (content, self.options.encode.encoding) {
            (Content::Manifest, Encoding::Gzip) => Encoding::Plain,
            (_, encoding) => encoding,
        };
        self.print(content, encoding, false)
    }

    /// Returns a name in the archive directory.
    pub fn local(&self, content: Content) -> String {
        self.print(
            content,
            if content == Content::Signatures { Encoding::Gzip } else { Encoding::Plain },
            false,
        )
    }

    /// Returns the name of a checkpoint in the archive directory.
    pub fn part(&self, content: Content) -> String {
        self.print(content, Encoding::Plain, true)
    }

    fn print(&self, content: Content, encoding: Encoding, partial: bool) -> String {
        StoredName { session: self.session, content, partial, encoding }
            .print_as(self.options.names, &self.options.prefixes)
    }
}

/// Returns where a signature file grows before there is a checkpoint: no duplicity takes this for
/// one of its files.
pub fn growing(archive: &ArchiveDirectory) -> PathBuf {
    archive.path().join(".dupfs-session.tmp")
}

/// A set that is stored.
pub struct StoredSet {
    /// Bytes of its volumes.
    pub size: u64,
    /// BLAKE3 of its signature file's plain bytes.
    pub signatures: [u8; 32],
    /// What is in storage.
    pub listing: Vec<Listed>,
}

/// A volume that is made, and what is to be noted once it is stored.
struct Finished {
    volume: JournaledVolume,
    /// Bytes of the source that had been met.
    met: u64,
}

/// Stores one set.
pub struct SetWriter<'a> {
    target: &'a Target<'a>,
    options: &'a BackupOptions,
    monitor: &'a dyn Monitor,
    names: Names<'a>,
    session: Session,
    /// Where the signature file grows: under its checkpoint's name as soon as there is a volume.
    sigtar: PathBuf,
    sigtar_file: SharedFile,
    journal: Option<Journal>,
    volume: Option<VolumeWriter>,
    /// Number of the volume that is open, or of the last one.
    number: u32,
    mark: Mark,
    /// Bytes of the source that have been met.
    met: u64,
    /// Head and blocks of the manifest, and how much of it the checkpoint has.
    manifest: Vec<u8>,
    told: usize,
    /// The last volume ended inside a delta.
    was_in_delta: bool,
    /// All volumes so far as they would be listed, from 1; those of an interrupted session without
    /// a time stamp.
    volumes: Vec<Listed>,
    uploads: Uploads<Finished>,
    stored_size: u64,
}

impl<'a> SetWriter<'a> {
    /// Begins a set, or goes on with one. Returns the signature file, too, to be filled.
    ///
    /// # Errors
    /// [`Error`] when the archive directory cannot be written.
    pub fn begin(
        target: &'a Target<'a>,
        options: &'a BackupOptions,
        monitor: &'a dyn Monitor,
        session: Session,
        kept: Option<&Journaled>,
    ) -> Result<(Self, SigtarWriter), Error> {
        let names = Names::new(session, options);
        let part = target.archive.path().join(names.part(Content::Signatures));
        let path = if kept.is_some() && part.exists() { part } else { growing(target.archive) };
        let known = kept.cloned().unwrap_or(Journaled { session, volumes: Vec::new() });
        let listed = |(number, volume): (u32, &JournaledVolume)| Listed {
            name: names.stored(Content::Volume(number)),
            size: volume.size,
            stamp: 0,
        };
        let volumes = (1..).zip(&known.volumes).map(listed).collect();
        let mark = known.volumes.last().map(|volume| volume.mark.clone()).unwrap_or_default();
        let length = mark.signatures;
        let sigtar = SigtarWriter::open(&path, length)?;
        let journal = options.journal.as_deref().map(|path| Journal::begin(path, &known, monitor));
        let (manifest, told) = manifest_of(&known, options);
        let writer = Self {
            target,
            options,
            monitor,
            names,
            session,
            sigtar: path,
            sigtar_file: sigtar.shared(),
            journal,
            volume: None,
            number: known.volumes.len() as u32,
            mark,
            met: 0,
            manifest,
            told,
            was_in_delta: known.volumes.last().is_some_and(|volume| volume.in_delta),
            volumes,
            uploads: Uploads::new(target.storage.clone()),
            stored_size: 0,
        };
        Ok((writer, sigtar))
    }

    /// Takes the next frame; begins and ends volumes as sizes demand.
    ///
    /// # Errors
    /// [`Error`] when nothing more can be stored.
    pub fn take(&mut self, load: Load<EncodedFrame>) -> Result<(), Error> {
        if self
            .volume
            .as_ref()
            .is_some_and(|volume| volume.is_full(&load.frame, self.options.volume_size))
        {
            self.end_volume()?;
        }
        self.open_volume()?.push(load.frame)?;
        self.mark = load.mark;
        self.met = load.met;
        Ok(())
    }

    fn open_volume(&mut self) -> Result<&mut VolumeWriter, Error> {
        if self.volume.is_none() {
            self.number += 1;
            let writer =
                self.target.storage.stage(&self.names.stored(Content::Volume(self.number)))?;
            self.volume = Some(VolumeWriter::create(
                self.session,
                self.number,
                self.target.encoder.clone(),
                writer,
            )?);
        }
        self.volume.as_mut().ok_or(Error::NoVolume)
    }

    fn end_volume(&mut self) -> Result<(), Error> {
        let Some(volume) = self.volume.take() else { return Ok(()) };
        let name = self.names.stored(Content::Volume(self.number));
        self.monitor.event(&Event::Storing(&name));
        let WrittenVolume { described, staged, in_delta } = volume.finish()?;
        let size = staged.size();
        self.stored_size += size;
        let volume = JournaledVolume { size, mark: self.mark.clone(), in_delta, described };
        let staged = Some(staged).filter(|_| self.options.skip_volume != Some(self.number));
        let stored = self.uploads.push(staged, Finished { volume, met: self.met })?;
        self.note_all(stored)
    }

    /// Notes volumes that are stored, and reports them.
    fn note_all(&mut self, stored: Vec<(Option<Listed>, Finished)>) -> Result<(), Error> {
        for (listed, Finished { volume, met }) in stored {
            let (number, size) = (volume.described.number, volume.size);
            let seems =
                || Listed { name: self.names.stored(Content::Volume(number)), size, stamp: 0 };
            self.volumes.push(listed.unwrap_or_else(seems));
            self.monitor.event(&Event::Stored);
            self.note(volume)?;
            self.monitor.event(&Event::Met { bytes: met, volume: Some(number) });
            if self.options.fail_on_volume == Some(number) {
                return Err(Error::ToldToFail(number));
            }
        }
        Ok(())
    }

    /// Notes that a volume is stored: in the journal, and for duplicity in the archive directory.
    fn note(&mut self, volume: JournaledVolume) -> Result<(), Error> {
        let archive = self.target.archive;
        self.manifest.extend_from_slice(&volume.described.print());
        self.sigtar_file.sync().map_err(|cause| Error::archive("write", &self.sigtar, cause))?;
        if let Some(journal) = &mut self.journal {
            journal.add(&volume, self.monitor);
        }
        let may_be_told = !volume.in_delta && !self.was_in_delta;
        self.was_in_delta = volume.in_delta;
        if !may_be_told {
            return Ok(());
        }
        let part = self.names.part(Content::Manifest);
        let signatures = archive.path().join(self.names.part(Content::Signatures));
        if self.sigtar != signatures {
            std::fs::rename(&self.sigtar, &signatures)
                .map_err(|cause| Error::archive("rename", &self.sigtar, cause))?;
            self.sigtar = signatures;
        }
        if self.manifest.len() < REWRITTEN {
            archive.write(&part, &self.manifest)?;
        } else {
            let path = archive.path().join(&part);
            let append = || {
                File::options()
                    .append(true)
                    .create(true)
                    .open(&path)?
                    .write_all(&self.manifest[self.told..])
            };
            append().map_err(|cause| Error::archive("write", &path, cause))?;
        }
        self.told = self.manifest.len();
        Ok(())
    }

    /// Ends the last volume and makes the set complete. Returns what is known of it.
    ///
    /// # Errors
    /// [`Error`] when something cannot be stored; the next run goes on from there.
    pub fn finish(
        mut self,
        sigtar: SigtarWriter,
        files: &mut FileList,
    ) -> Result<StoredSet, Error> {
        if self.number == 0 {
            self.open_volume()?;
        }
        self.end_volume()?;
        let stored = self.uploads.finish()?;
        self.note_all(stored)?;
        sigtar.finish()?;
        let archive = self.target.archive;
        self.take_back()?;
        let signatures = self.store_signatures()?;
        let mut listing = check_stored(self.target.storage.as_ref(), self.volumes.drain(..))?;
        let mut manifest = Spool::new(&self.options.tempdir);
        manifest
            .write_all(&self.manifest)
            .and_then(|()| files.print(&mut manifest))
            .map_err(Error::temporary)?;
        manifest.rewind().map_err(Error::temporary)?;
        let mut local = archive.stage(&self.names.local(Content::Manifest))?;
        io::copy(&mut manifest, &mut local).map_err(|error| local.failed(&error))?;
        archive.put(&local.seal())?;
        let encoder = self.target.manifest_encoder.as_ref().unwrap_or(&self.target.encoder);
        let name = self.names.stored(Content::Manifest);
        let mut writer = encoder.writer(&name, self.target.storage.stage(&name)?)?;
        manifest.rewind().map_err(Error::temporary)?;
        writer.copy(&mut manifest)?;
        listing.retain(|listed| listed.name != name);
        listing.push(self.target.storage.put(&writer.finish()?.seal())?);
        let _ = std::fs::remove_file(&self.sigtar);
        if let Some(journal) = self.journal {
            journal.end();
        }
        Ok(StoredSet { size: self.stored_size, signatures, listing })
    }

    /// Takes the checkpoints out of the archive directory: all volumes are stored, and no duplicity
    /// could go on well from here. What a duplicity was about to store when it was killed, perhaps
    /// nothing yet, goes too: each duplicity would read that in place of the copy.
    fn take_back(&mut self) -> Result<(), Error> {
        let archive = self.target.archive;
        archive.delete(&self.names.part(Content::Manifest))?;
        for Listed { name, .. } in archive.list()? {
            let parsed = StoredName::parse(&name, &self.options.prefixes)
                .filter(|parsed| parsed.session == self.session);
            let is_left = |parsed: StoredName| {
                matches!(parsed.content, Content::Manifest | Content::Signatures)
                    && !parsed.partial
                    && name != self.names.local(parsed.content)
            };
            if parsed.is_some_and(is_left) {
                archive.delete(&name)?;
            }
        }
        let growing = growing(archive);
        if self.sigtar != growing {
            std::fs::rename(&self.sigtar, &growing)
                .map_err(|cause| Error::archive("rename", &self.sigtar, cause))?;
            self.sigtar = growing;
        }
        Ok(())
    }

    /// Gives a set up of which nothing is stored.
    pub fn abandon(self) {
        let _ = std::fs::remove_file(&self.sigtar);
        if let Some(journal) = self.journal {
            journal.end();
        }
    }

    /// Stores the signature file, and keeps a compressed copy in the archive directory.
    /// Returns its BLAKE3.
    fn store_signatures(&self) -> Result<[u8; 32], Error> {
        let (name, encoder) = (self.names.stored(Content::Signatures), &self.target.encoder);
        let (storage, archive) = (&self.target.storage, self.target.archive);
        let remote = storage.stage(&name)?;
        let local = archive.stage(&self.names.local(Content::Signatures))?;
        let gzip = self
            .target
            .codec
            .encoder(EncodeOptions { encoding: Encoding::Gzip, ..EncodeOptions::default() })?;
        // The copy is what is stored, if that is only compressed.
        let same = self.options.encode.encoding == Encoding::Gzip;
        let (second, copy) = if same { (Some(local), None) } else { (None, Some(local)) };
        let mut stored = encoder.create(&name, Both(remote, second))?;
        let mut copy = copy.map(|local| gzip.create(&name, local)).transpose()?;
        let file =
            open_file(&self.sigtar).map_err(|cause| Error::archive("read", &self.sigtar, cause))?;
        let hash = encode(file, &self.sigtar, (encoder, &mut stored), (&gzip, copy.as_mut()))?;
        // In this order: a signature file here that the storage lacks is no good to anybody.
        let Both(remote, second) = stored.finish()?;
        storage.put(&remote.seal())?;
        let local = second
            .map_or_else(|| copy.map(EncodedFile::finish).transpose(), |second| Ok(Some(second)))?;
        local.map_or(Ok(()), |local| archive.put(&local.seal()))?;
        Ok(hash)
    }
}

/// Returns the manifest of what is stored so far, and how much of it duplicity may know: all of it,
/// if neither of the last two volumes ends inside a delta; else nothing.
pub fn manifest_of(known: &Journaled, options: &BackupOptions) -> (Vec<u8>, usize) {
    let mut text = Manifest::print_head(options.hostname.as_deref(), options.source.as_deref());
    known.volumes.iter().for_each(|volume| text.extend(volume.described.print()));
    let is_told = !known.volumes.is_empty()
        && !known.volumes.iter().rev().take(2).any(|volume| volume.in_delta);
    let told = if is_told { text.len() } else { 0 };
    (text, told)
}

/// Stores the statistics of a set beside it, and in the archive directory, as versions 3.x do.
///
/// # Errors
/// [`Error`] when they cannot be stored.
pub fn store_statistics(
    target: &Target,
    session: Session,
    text: &[u8],
    options: &BackupOptions,
) -> Result<(), Error> {
    let names = Names::new(session, options);
    let gzip = target
        .codec
        .encoder(EncodeOptions { encoding: Encoding::Gzip, ..EncodeOptions::default() })?;
    let encode = |encoder: &Arc<Encoder>, writer: StagedWriter| {
        let mut writer = encoder.writer("statistics", writer)?;
        writer.write(text)?;
        Ok::<_, crate::codec::Error>(writer.finish()?.seal())
    };
    target.storage.put(&encode(
        &target.encoder,
        target.storage.stage(&names.stored(Content::Statistics))?,
    )?)?;
    let local = target.archive.stage(&names.print(Content::Statistics, Encoding::Gzip, false))?;
    Ok(target.archive.put(&encode(&gzip, local)?)?)
}

/// A frame of a signature file, and the same for the archive directory.
type Encoded = Result<(Frame, Option<Frame>), Error>;

/// Encodes a file, and for the archive directory once more, if there is a second file; on all
/// cores. Returns its BLAKE3.
fn encode(
    mut file: File,
    path: &std::path::Path,
    (encoder, stored): (&Encoder, &mut EncodedFile<Both>),
    (gzip, mut copy): (&Encoder, Option<&mut EncodedFile<StagedWriter>>),
) -> Result<[u8; 32], Error> {
    let twice = copy.is_some();
    let mut hasher = blake3::Hasher::new();
    let make = |feed: &Feed<Vec<u8>, Encoded>| loop {
        let mut plain = Vec::with_capacity(FRAME);
        let count = Read::by_ref(&mut file).take(FRAME as u64).read_to_end(&mut plain);
        match count.map_err(|cause| Error::archive("read", path, cause))? {
            0 => return Ok::<_, Error>(()),
            _ => {
                hasher.update(&plain);
                feed.push(plain)?;
            }
        }
    };
    let work = |plain: Vec<u8>| {
        let copy = if twice { Some(gzip.frame(plain.clone())?) } else { None };
        Ok((encoder.frame(plain)?, copy))
    };
    pipeline(make, work, |frames| {
        let (frame, second) = frames?;
        stored.push(frame)?;
        if let (Some(copy), Some(frame)) = (&mut copy, second) {
            copy.push(frame)?;
        }
        Ok(())
    })?;
    Ok(hasher.finalize().into())
}

/// Writes everything twice.
struct Both(StagedWriter, Option<StagedWriter>);

impl ByteSink for Both {
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), storage::Error> {
        self.0.write_bytes(bytes)?;
        self.1.as_mut().map_or(Ok(()), |second| second.write_bytes(bytes))
    }
}
