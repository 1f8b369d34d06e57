//! Going on from the last volume of an interrupted session.
//!
//! What a session of ours has left is told by its [journal](super::journal): of each volume, where
//! the signature file stood behind it. Volumes are kept as far as they are stored whole; the
//! signature file is cut to where it belongs to the last one kept. If that volume ends inside a
//! file, the file must still be the one that was found then, else the volume before is the last.
//!
//! A duplicity leaves no journal, and its signature file is torn. A full session of it is gone on
//! with, too: the signatures are made anew, from the volumes themselves. Of an increment this would
//! take the sets before, so it is started over.
//!
//! Source: what duplicity 0.8.22 and 3.2.1 leave when they are killed, and do next.

use super::content::block_length;
use super::journal::{Journal, Journaled, JournaledVolume};
use super::members::{Mark, Stored};
use super::session::{Names, growing, manifest_of};
use super::sigtar::{SigtarWriter, checks};
use super::spool::Spool;
use super::{BackupOptions, Error, Target};
use crate::catalog::{Chain, SourceStat};
use crate::codec::{self, Encoder};
use crate::collection::ArchiveDirectory;
use crate::format::{
    Content, Encoding, Manifest, MemberKind, Session, SignatureKind, SignatureMember, StoredName,
};
use crate::model::{Entry, EntryKind, EntryPath};
use crate::monitor::{self, Level, Monitor};
use crate::rsync::SignatureWriter;
use crate::source::SourceTree;
use crate::storage::{
    Listed, Storage, StoredFile, open_file, read_file, unfinished as unfinished_file,
};
use crate::volume::{Event, VolumeSource, checked_pass};
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Names the set that a new session makes.
pub fn new_session(base: Option<&Arc<Chain>>, options: &BackupOptions) -> Session {
    match base.and_then(|chain| chain.sets.last()) {
        Some(last) => Session::Incremental { start: last.end(), end: options.time },
        None => Session::Full { time: options.time },
    }
}

/// Returns what is stored already, as whoever writes members needs it.
pub fn stored(kept: &Journaled) -> Option<Stored> {
    let JournaledVolume { described, mark, .. } = kept.volumes.last()?;
    Some(Stored {
        last: described.last.clone(),
        pieces: described.last_piece,
        entries: mark.entries,
    })
}

/// Returns the session to be made: the one that was interrupted, with what is kept of it, or a new
/// one. A full session is gone on with whatever was asked for; an increment only where it would be
/// made anyway. What cannot be gone on with is removed.
///
/// # Errors
/// [`Error`] when storage or archive directory fail, or the passphrase is not that of what is
/// stored.
pub fn find(
    target: &Target,
    source: &SourceTree,
    base: Option<&Arc<Chain>>,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<(Session, Option<Journaled>), Error> {
    let new = new_session(base, options);
    let listing = target.listing;
    let mut found = None;
    for session in interrupted(target, listing, options)? {
        if found.is_none() {
            found = go_on(target, source, session, new, listing, options, monitor)?
                .map(|kept| (session, Some(kept)));
        }
        // To a duplicity each of them is a set, though none is whole.
        if found.as_ref().is_none_or(|(found, _)| *found != session) {
            discard(target, session, options)?;
        }
    }
    Ok(found.unwrap_or((new, None)))
}

/// Returns what can be kept of an interrupted session, if it is to be gone on with instead of a new
/// one. Nothing else of it is left then.
fn go_on(
    target: &Target,
    source: &SourceTree,
    session: Session,
    new: Session,
    listing: &[Listed],
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<Option<Journaled>, Error> {
    let is_full = new.is_full();
    let newest = target.collection.chains.last().map(|chain| chain.end());
    let fits = newest.is_none_or(|newest| newest < session.end())
        && (session.is_full() || session.start() == new.start() && !new.is_full());
    if !fits {
        monitor.event(&monitor::Event::PartialRemoved { is_full });
        return Ok(None);
    }
    monitor.event(&monitor::Event::PartialFound { is_full });
    let Some(kept) = keep(target, source, session, None, listing, options)? else {
        monitor.event(&monitor::Event::PartialUseless);
        return Ok(None);
    };
    check_passphrase(target, &Names::new(session, options), listing)?;
    report_restart(&kept, monitor);
    trim(target, session, &kept, listing, options)?;
    Ok(Some(kept))
}

/// Goes back to the end of the last volume before a path, of which a part is stored. Returns what
/// is kept; of none nothing is left.
///
/// # Errors
/// [`Error`] when storage or archive directory fail.
pub fn go_back(
    target: &Target,
    source: &SourceTree,
    session: Session,
    path: &EntryPath,
    options: &BackupOptions,
) -> Result<Option<Journaled>, Error> {
    let listing = target.storage.list()?;
    match keep(target, source, session, Some(path), &listing, options)? {
        Some(kept) => {
            trim(target, session, &kept, &listing, options)?;
            Ok(Some(kept))
        }
        None => {
            discard(target, session, options)?;
            Ok(None)
        }
    }
}

/// Reports where it goes on.
fn report_restart(kept: &Journaled, monitor: &dyn Monitor) {
    let Some(last) = kept.volumes.last().map(|volume| &volume.described) else { return };
    monitor.event(&monitor::Event::Restarting(last.number + 1));
    monitor.event(&monitor::Event::RestartingAfter {
        volume: last.number,
        path: &last.last,
        piece: last.last_piece,
    });
}

/// Returns the sessions that were interrupted, newest first: that of the journal, and those that
/// the archive directory has checkpoints of. Removes one of ours that has not got as far as a
/// volume, and checkpoints of sets that are complete.
fn interrupted(
    target: &Target,
    listing: &[Listed],
    options: &BackupOptions,
) -> Result<Vec<Session>, Error> {
    let local = target.archive.list()?;
    let names =
        local.iter().filter_map(|listed| StoredName::parse(&listed.name, &options.prefixes));
    let checkpoints = names.filter(|name| name.partial && name.content == Content::Manifest);
    let mut sessions: Vec<Session> = checkpoints.map(|name| name.session).collect();
    if let Some(Journaled { session, volumes }) = options.journal.as_deref().and_then(Journal::read)
        && !sessions.contains(&session)
        && !is_complete(listing, session, options)
    {
        match volumes.is_empty() {
            true => discard(target, session, options)?,
            false => sessions.push(session),
        }
    }
    sessions.sort_by_key(|session| std::cmp::Reverse(session.end()));
    let (complete, interrupted): (Vec<_>, Vec<_>) =
        sessions.into_iter().partition(|session| is_complete(listing, *session, options));
    for session in complete {
        // Somebody was killed when all was stored.
        let names = Names::new(session, options);
        target.archive.delete(&names.part(Content::Manifest))?;
        target.archive.delete(&names.part(Content::Signatures))?;
    }
    Ok(interrupted)
}

/// Returns whether the manifest of a session is stored.
fn is_complete(listing: &[Listed], session: Session, options: &BackupOptions) -> bool {
    let names =
        listing.iter().filter_map(|listed| StoredName::parse(&listed.name, &options.prefixes));
    names.filter(|name| name.session == session).any(|name| name.content == Content::Manifest)
}

/// Returns the session that a run of ours has left, as the journal tells.
pub fn unfinished(journal: &Path) -> Option<Session> {
    Journal::read(journal).map(|journaled| journaled.session)
}

/// Forgets a session that a run of ours has left: nothing can go on with it then.
///
/// # Errors
/// [`Error`] when journal or signature file are still there.
pub fn forget(journal: &Path, archive: &ArchiveDirectory) -> Result<(), Error> {
    for path in [journal, growing(archive).as_path()] {
        match std::fs::remove_file(path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::archive("delete", path, cause));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns whether a session of ours has stored all but its manifest, so that [`complete`] has
/// something to do.
///
/// # Errors
/// [`Error`] when the archive directory cannot be listed.
pub fn is_unfinished(archive: &ArchiveDirectory, options: &BackupOptions) -> Result<bool, Error> {
    let Some(journaled) = options.journal.as_deref().and_then(Journal::read) else {
        return Ok(false);
    };
    let names = Names::new(journaled.session, options);
    let local = archive.list()?;
    let is_here = |name: String| local.iter().any(|listed| listed.name == name);
    Ok(is_here(names.local(Content::Manifest)) && !is_here(names.part(Content::Signatures)))
}

/// Stores the manifest of a session that was interrupted just before that: to be called before
/// synchronisation, which would take the manifest for one of a set that is gone.
///
/// # Errors
/// [`Error`] when it cannot be stored.
pub fn complete(
    archive: &ArchiveDirectory,
    storage: &Arc<dyn Storage>,
    (encoder, manifest_encoder): &(Arc<Encoder>, Option<Arc<Encoder>>),
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    let Some(journaled) = options.journal.as_deref().and_then(Journal::read) else { return Ok(()) };
    let names = Names::new(journaled.session, options);
    let path = archive.path().join(names.local(Content::Manifest));
    let bytes = read_file(&path).map_err(|cause| Error::archive("read", &path, cause))?;
    let listing = storage.list()?;
    let is_there = |name: String, size: Option<u64>| {
        listing
            .iter()
            .any(|listed| listed.name == name && size.is_none_or(|size| size == listed.size))
    };
    let volume = |(number, volume): (u32, &JournaledVolume)| {
        is_there(names.stored(Content::Volume(number)), Some(volume.size))
    };
    let described = Manifest::parse(&bytes).map_or(0, |manifest| manifest.volumes().len());
    let is_whole =
        described == journaled.volumes.len() && (1..).zip(&journaled.volumes).all(volume);
    let manifest = names.stored(Content::Manifest);
    if !is_there(manifest.clone(), None) {
        if !is_whole || !is_there(names.stored(Content::Signatures), None) {
            // Then it is gone on with.
            return Ok(());
        }
        let encoder = manifest_encoder.as_ref().unwrap_or(encoder);
        let mut writer = encoder.writer(&manifest, storage.stage(&manifest)?)?;
        writer.write(&bytes)?;
        storage.put(&writer.finish()?.seal())?;
        monitor.message(
            Level::Notice,
            &format!(
                "Completed the backup of {}, of which only the manifest was missing.",
                journaled.session.end()
            ),
        );
    }
    if let Some(path) = &options.journal {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Finds out what can be kept of an interrupted session, of its part before a path if there is one.
fn keep(
    target: &Target,
    source: &SourceTree,
    session: Session,
    before: Option<&EntryPath>,
    listing: &[Listed],
    options: &BackupOptions,
) -> Result<Option<Journaled>, Error> {
    let names = Names::new(session, options);
    let size = |number| {
        listing
            .iter()
            .find(|listed| listed.name == names.stored(Content::Volume(number)))
            .map(|listed| listed.size)
    };
    let journaled = options
        .journal
        .as_deref()
        .and_then(Journal::read)
        .filter(|journaled| journaled.session == session);
    let mut volumes = journaled.map_or(Vec::new(), |journaled| journaled.volumes);
    let checks = signature_checks(target, &names, &volumes).unwrap_or_default();
    let is_there = |(number, (volume, check)): &(u32, (JournaledVolume, u64))| {
        volume.described.number == *number
            && size(*number) == Some(volume.size)
            && volume.mark.check == *check
    };
    volumes = (1..)
        .zip(volumes.into_iter().zip(checks))
        .take_while(is_there)
        .map(|(_, (volume, _))| volume)
        .collect();
    if volumes.is_empty() && session.is_full() {
        volumes = rebuild(target, source, &names, listing, options)?;
    }
    let fits = |volume: &JournaledVolume| match (volume.described.last_piece, volume.mark.inside) {
        (None, None) => true,
        (Some(_), Some(stat)) => stat_of(source, &volume.described.last) == Some(stat),
        _ => false,
    };
    let is_before =
        |volume: &JournaledVolume| before.is_none_or(|path| volume.described.last < *path);
    let count = volumes
        .iter()
        .rposition(|volume| is_before(volume) && fits(volume))
        .map_or(0, |last| last + 1);
    volumes.truncate(count);
    Ok((count > 0).then_some(Journaled { session, volumes }))
}

/// Returns checks of the signature file of a session of ours, wherever it lies, for where each
/// volume ends. A duplicity that has gone on with the session meanwhile has written another one.
fn signature_checks(
    target: &Target,
    names: &Names,
    volumes: &[JournaledVolume],
) -> std::io::Result<Vec<u64>> {
    let part = target.archive.path().join(names.part(Content::Signatures));
    let file = open_file(&part).or_else(|_| open_file(&growing(target.archive)))?;
    checks(file, volumes.iter().map(|volume| volume.mark.signatures))
}

/// Returns what is to be remembered of a file of the source.
fn stat_of(source: &SourceTree, path: &EntryPath) -> Option<SourceStat> {
    use std::os::unix::fs::MetadataExt;
    let data = source.open_file(path).and_then(|file| file.metadata()).ok()?;
    let ctime = data.ctime().saturating_mul(1_000_000_000).saturating_add(data.ctime_nsec());
    Some(SourceStat { size: data.len(), ctime, inode: data.ino() })
}

/// Removes what is not kept: the end of the manifest first, then the volumes behind.
fn trim(
    target: &Target,
    session: Session,
    kept: &Journaled,
    listing: &[Listed],
    options: &BackupOptions,
) -> Result<(), Error> {
    let names = Names::new(session, options);
    let (manifest, told) = manifest_of(kept, options);
    let part = target.archive.path().join(names.part(Content::Signatures));
    let (from, to) =
        if told > 0 { (growing(target.archive), part) } else { (part, growing(target.archive)) };
    if told > 0 {
        target.archive.write(&names.part(Content::Manifest), &manifest[..told])?;
    } else {
        target.archive.delete(&names.part(Content::Manifest))?;
    }
    if from.exists() && (told == 0 || !to.exists()) {
        std::fs::rename(&from, &to).map_err(|cause| Error::archive("rename", &from, cause))?;
    }
    let count = kept.volumes.len() as u32;
    let is_behind = |listed: &&Listed| {
        let name = StoredName::parse(&listed.name, &options.prefixes)
            .filter(|name| name.session == session);
        name.is_some_and(|name| !matches!(name.content, Content::Volume(n) if n <= count))
    };
    let behind: Vec<&str> =
        listing.iter().filter(is_behind).map(|listed| listed.name.as_str()).collect();
    Ok(target.storage.delete(&behind).into_iter().collect::<Result<(), _>>()?)
}

/// Removes an interrupted session, signature file first.
///
/// # Errors
/// [`Error`] when a file is still there.
pub fn discard(target: &Target, session: Session, options: &BackupOptions) -> Result<(), Error> {
    // What was being written, or on its way to the storage, has another name so far.
    let content = |listed: &Listed| {
        let name = unfinished_file(&listed.name).unwrap_or(&listed.name);
        let name = StoredName::parse(name, &options.prefixes)?;
        (name.session == session).then_some(name.content)
    };
    let listing = target.storage.list()?;
    if is_complete(&listing, session, options) {
        return Err(Error::Complete(session.end()));
    }
    let ours = listing.iter().filter_map(|listed| Some((content(listed)?, listed.name.as_str())));
    let (first, others): (Vec<_>, Vec<_>) =
        ours.partition(|(content, _)| *content == Content::Signatures);
    for wave in [first, others].into_iter().filter(|wave| !wave.is_empty()) {
        let names: Vec<&str> = wave.into_iter().map(|(_, name)| name).collect();
        target.storage.delete(&names).into_iter().collect::<Result<(), _>>()?;
    }
    for listed in target.archive.list()?.iter().filter(|listed| content(listed).is_some()) {
        target.archive.delete(&listed.name)?;
    }
    Ok(())
}

/// Makes sure that a set does not get two passphrases.
fn check_passphrase(target: &Target, names: &Names, listing: &[Listed]) -> Result<(), Error> {
    let name = names.stored(Content::Volume(1));
    let Some(listed) = listing.iter().find(|listed| listed.name == name && name.ends_with('g'))
    else {
        return Ok(());
    };
    let file = Arc::new(StoredFile::new(target.storage.clone(), listed.clone()));
    match target.codec.decode(file, Encoding::OpenPgp) {
        Err(error)
            if matches!(
                error.cause,
                codec::Cause::WrongPassphrase | codec::Cause::NoPassphrase
            ) =>
        {
            Err(error.into())
        }
        // Whoever encrypts for others need not be able to read it.
        _ => Ok(()),
    }
}

/// Makes the signatures of a full session of duplicity's from its volumes.
fn rebuild(
    target: &Target,
    source: &SourceTree,
    names: &Names,
    listing: &[Listed],
    options: &BackupOptions,
) -> Result<Vec<JournaledVolume>, Error> {
    let manifest = target.archive.path().join(names.part(Content::Manifest));
    let parsed =
        read_file(&manifest).map_err(drop).and_then(|bytes| Manifest::parse(&bytes).map_err(drop));
    let Ok(manifest) = parsed else { return Ok(Vec::new()) };
    let path = target.archive.path().join(names.part(Content::Signatures));
    let mut rebuilt = Rebuilt {
        sigtar: SigtarWriter::open(&path, 0)?,
        options,
        current: None,
        entries: 0,
        trouble: None,
    };
    let mut volumes = Vec::new();
    for number in 1.. {
        let name = names.stored(Content::Volume(number));
        let Some(described) = manifest.volume(number) else { break };
        let Some(listed) = listing.iter().find(|listed| listed.name == name) else { break };
        let file = StoredFile::new(target.storage.clone(), listed.clone());
        let volume =
            VolumeSource { key: 0, file, encoding: options.encode.encoding, hash: described.hash };
        let mut take = |event: Event<'_>| match rebuilt.take(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                rebuilt.trouble = Some(error);
                ControlFlow::Break(())
            }
        };
        let pass = || checked_pass(&volume, &target.codec, &mut take);
        let pass = volume.file.with_copies(crate::volume::Error::is_other_bytes, pass);
        if let Some(error) = rebuilt.trouble.take() {
            return Err(error);
        }
        // A volume that cannot be read, for want of a key perhaps, and all behind it are stored
        // anew.
        if pass.is_err() {
            break;
        }
        if described.last_piece.is_none() {
            rebuilt.flush()?;
        }
        let inside = described.last_piece.and_then(|_| rebuilt.same_so_far(source));
        let (signatures, check) = (rebuilt.sigtar.length(), rebuilt.sigtar.check());
        let mark = Mark { signatures, check, entries: rebuilt.entries, inside };
        volumes.push(JournaledVolume {
            size: listed.size,
            mark,
            in_delta: false,
            described: described.clone(),
        });
    }
    rebuilt.sigtar.shared().sync().map_err(|cause| Error::archive("write", &path, cause))?;
    Ok(volumes)
}

/// Signatures on their way from volumes to a signature file.
struct Rebuilt<'a> {
    sigtar: SigtarWriter,
    options: &'a BackupOptions,
    current: Option<Current>,
    entries: u64,
    trouble: Option<Error>,
}

/// The path whose members come in.
struct Current {
    path: EntryPath,
    entry: Option<Entry>,
    signature: SignatureWriter<Spool>,
    /// Hash and length of its content so far.
    content: blake3::Hasher,
}

impl Rebuilt<'_> {
    fn take(&mut self, event: Event<'_>) -> Result<(), Error> {
        match event {
            Event::Member(member)
                if self.current.as_ref().is_some_and(|current| current.path == member.path) =>
            {
                Ok(())
            }
            Event::Member(member) => {
                self.flush()?;
                let entry = member.entry.clone().filter(|_| member.kind == MemberKind::Whole);
                // Nobody knows the size beforehand: any block length will do.
                let block = block_length(member.length, self.options.max_block_size);
                let signature = SignatureWriter::new(Spool::new(&self.options.tempdir), block)
                    .map_err(Error::temporary)?;
                self.current = Some(Current {
                    path: member.path.clone(),
                    entry,
                    signature,
                    content: blake3::Hasher::new(),
                });
                Ok(())
            }
            Event::Data(bytes) => match &mut self.current {
                Some(current) => {
                    current.content.update(bytes);
                    current.signature.update(bytes).map_err(Error::temporary)
                }
                None => Ok(()),
            },
            // Nothing that this program or duplicity can have stored.
            Event::TooLong(_) => Ok(()),
        }
    }

    /// Returns what is to be remembered of the current file, if the source begins with what is
    /// stored of it.
    fn same_so_far(&self, source: &SourceTree) -> Option<SourceStat> {
        let current = self.current.as_ref()?;
        let stat = stat_of(source, &current.path)?;
        let file = source.open_file(&current.path).ok()?;
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut file.take(current.content.count()), &mut hasher).ok()?;
        (hasher.finalize() == current.content.finalize()).then_some(stat)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some(Current { path, entry, signature, .. }) = self.current.take() else {
            return Ok(());
        };
        let (mut signature, length) = signature.finish().map_err(Error::temporary)?;
        signature.rewind().map_err(Error::temporary)?;
        let is_file = entry.as_ref().is_some_and(|entry| entry.kind == EntryKind::File);
        let kind = entry.map_or(SignatureKind::Deleted, SignatureKind::Present);
        let member = SignatureMember { path, kind, length: if is_file { length } else { 0 } };
        self.sigtar.push(&member, is_file.then_some(&mut signature))?;
        self.entries += 1;
        Ok(())
    }
}
