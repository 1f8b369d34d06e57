//! Going on from the last volume of an interrupted session.
//!
//! What a session of ours has left is told by its [journal](super::journal): of each volume, where the signature file stood behind it. Volumes
//! are kept as far as they are stored whole; the signature file is cut to where it belongs to the last one kept. If that volume ends
//! inside a file, the file must still be the one that was found then, else the volume before is the last.
//!
//! A duplicity leaves no journal, and its signature file is torn. A full session of it is gone on with, too: the signatures are made
//! anew, from the volumes themselves. Of an increment this would take the sets before, so it is started over.
//!
//! Source: what duplicity 0.8.22 and 3.2.1 leave when they are killed, and do next.

use super::content::block_length;
use super::journal::{Journal, Journaled};
use super::members::{Mark, Stored};
use super::session::{Kept, Names};
use super::sigtar::SigtarWriter;
use super::spool::Spool;
use super::{BackupOptions, Error, Target};
use crate::catalog::{Chain, SourceStat};
use crate::codec::{self, Encoder};
use crate::collection::ArchiveDirectory;
use crate::format::{
    Content, Encoding, Manifest, ManifestVolume, MemberKind, Session, SignatureKind, SignatureMember, StoredName,
};
use crate::model::{Entry, EntryKind, EntryPath};
use crate::monitor::{Level, Monitor};
use crate::rsync::SignatureWriter;
use crate::source::SourceTree;
use crate::storage::{Listed, Storage, StoredFile};
use crate::volume::{Event, VolumeSource, first_pass};
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Names the set that a new session makes.
pub fn new_session(base: Option<&Arc<Chain>>, options: &BackupOptions) -> Session {
    match base.and_then(|chain| chain.sets.last()) {
        Some(last) => Session::Incremental { start: last.end(), end: options.time },
        None => Session::Full { time: options.time },
    }
}

/// Returns what is stored already, as whoever writes members needs it.
pub fn stored(kept: &Kept) -> Option<Stored> {
    let (last, (_, mark)) = (kept.volumes.last()?, kept.journaled.volumes.last()?);
    Some(Stored { last: last.last.clone(), pieces: last.last_piece, entries: mark.entries })
}

/// Returns the session to be made: the one that was interrupted, with what is kept of it, or a new one. A full session is gone on with whatever
/// was asked for; an increment only where it would be made anyway. What cannot be gone on with is removed.
///
/// # Errors
/// [`Error`] when storage or archive directory fail, or the passphrase is not that of what is stored.
pub fn find(
    target: &Target,
    source: &SourceTree,
    base: Option<&Arc<Chain>>,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<(Session, Option<Kept>), Error> {
    let new = new_session(base, options);
    let Some(session) = interrupted(target, options)? else { return Ok((new, None)) };
    let word = if new.is_full() { "full" } else { "inc" };
    let newest = target.collection.chains.last().map(|chain| chain.end());
    let fits = newest.is_none_or(|newest| newest < session.end())
        && (session.is_full() || session.start() == new.start() && !new.is_full());
    if !fits {
        monitor.message(Level::Notice, &format!("Last {word} backup left a partial set of another kind, removing it."));
        discard(target, session, options)?;
        return Ok((new, None));
    }
    monitor.message(Level::Notice, &format!("Last {word} backup left a partial set, restarting."));
    let listing = target.storage.list()?;
    let Some(kept) = keep(target, source, session, &listing, options)? else {
        let text = "RESTART: The first volume failed to upload before termination.\n         Restart is impossible...starting backup from beginning.";
        monitor.message(Level::Notice, text);
        discard(target, session, options)?;
        return Ok((new, None));
    };
    check_passphrase(target, &Names::new(session, options), &listing)?;
    say(&kept, monitor);
    trim(target, session, &kept, &listing, options)?;
    Ok((session, Some(kept)))
}

/// Tells where it goes on.
fn say(kept: &Kept, monitor: &dyn Monitor) {
    let Some(last) = kept.volumes.last() else { return };
    let next = last.number + 1;
    let text = format!(
        "RESTART: Volumes {next} to {next} failed to upload before termination.\n         Restarting backup at volume {next}."
    );
    monitor.message(Level::Notice, &text);
    let block = last.last_piece.map_or_else(|| "None".to_string(), |piece| piece.to_string());
    monitor.message(Level::Notice, &format!("Restarting after volume {}, file {}, block {block}", last.number, last.last));
}

/// Returns the newest session that the archive directory has a checkpoint of.
fn interrupted(target: &Target, options: &BackupOptions) -> Result<Option<Session>, Error> {
    let names = target.archive.list()?;
    let names = names.iter().filter_map(|listed| StoredName::parse(&listed.name, &options.prefixes));
    let sessions = names.filter(|name| name.partial && name.content == Content::Manifest).map(|name| name.session);
    Ok(sessions.max_by_key(|session| session.end()))
}

/// Tells whether a session of ours has stored all but its manifest, so that [`complete`] has something to do.
///
/// # Errors
/// [`Error`] when the archive directory cannot be listed.
pub fn is_unfinished(archive: &ArchiveDirectory, options: &BackupOptions) -> Result<bool, Error> {
    let Some(journaled) = options.journal.as_deref().and_then(Journal::read) else { return Ok(false) };
    let names = Names::new(journaled.session, options);
    let local = archive.list()?;
    let is_here = |name: String| local.iter().any(|listed| listed.name == name);
    Ok(is_here(names.local(Content::Manifest)) && !is_here(names.part(Content::Signatures)))
}

/// Stores the manifest of a session that was interrupted just before that: to be called before synchronisation, which would take the
/// manifest for one of a set that is gone.
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
    let bytes = std::fs::read(&path).map_err(|cause| Error::archive("read", &path, cause))?;
    let listing = storage.list()?;
    let is_there = |name: String, size: Option<u64>| {
        listing.iter().any(|listed| listed.name == name && size.is_none_or(|size| size == listed.size))
    };
    let volume = |(number, (size, _)): (u32, &(u64, Mark))| is_there(names.stored(Content::Volume(number)), Some(*size));
    let described = Manifest::parse(&bytes).map_or(0, |manifest| manifest.volumes().len());
    let is_whole = described == journaled.volumes.len() && (1..).zip(&journaled.volumes).all(volume);
    let manifest = names.stored(Content::Manifest);
    if is_whole && is_there(names.stored(Content::Signatures), None) && !is_there(manifest.clone(), None) {
        let encoder = manifest_encoder.as_ref().unwrap_or(encoder);
        let mut writer = encoder.writer(&manifest, storage.create(&manifest)?)?;
        writer.write_all(&bytes).map_err(codec::Error::from)?;
        writer.finish()?.finish()?;
        monitor.message(
            Level::Notice,
            &format!("Completed the backup of {}, of which only the manifest was missing.", journaled.session.end()),
        );
    }
    if let Some(path) = &options.journal {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Finds out what can be kept of an interrupted session.
fn keep(
    target: &Target,
    source: &SourceTree,
    session: Session,
    listing: &[Listed],
    options: &BackupOptions,
) -> Result<Option<Kept>, Error> {
    let names = Names::new(session, options);
    let path = target.archive.path().join(names.part(Content::Manifest));
    let Ok(manifest) = std::fs::read(&path).map_err(drop).and_then(|bytes| Manifest::parse(&bytes).map_err(drop)) else {
        return Ok(None);
    };
    let size =
        |number| listing.iter().find(|listed| listed.name == names.stored(Content::Volume(number))).map(|listed| listed.size);
    let whole: Vec<ManifestVolume> = (1..)
        .map_while(|number| manifest.volume(number).filter(|volume| volume.hash.is_some() && size(number).is_some()).cloned())
        .collect();
    let journaled = match options.journal.as_deref().and_then(Journal::read) {
        Some(journaled) if journaled.session == session => {
            unpack_signatures(target, &names)?;
            let length =
                std::fs::metadata(target.archive.path().join(names.part(Content::Signatures))).map_or(0, |data| data.len());
            let same =
                |(number, (stored, mark)): &(u32, (u64, Mark))| size(*number) == Some(*stored) && mark.signatures <= length;
            let volumes = (1..).zip(journaled.volumes).take_while(same).map(|(_, volume)| volume);
            Journaled { session, volumes: volumes.collect() }
        }
        _ if session.is_full() => rebuild(target, session, &whole, listing, options)?,
        _ => return Ok(None),
    };
    let fits = |(volume, (_, mark)): &(&ManifestVolume, &(u64, Mark))| match (volume.last_piece, mark.inside) {
        (None, None) => true,
        (Some(_), Some(stat)) => is_still(source, &volume.last, stat),
        _ => false,
    };
    let count = whole.iter().zip(&journaled.volumes).collect::<Vec<_>>().iter().rposition(fits).map_or(0, |last| last + 1);
    if count == 0 {
        return Ok(None);
    }
    let volumes = whole[..count].to_vec();
    let journaled = Journaled { session, volumes: journaled.volumes[..count].to_vec() };
    let text = Manifest::new(manifest.hostname, manifest.local_directory, volumes.clone()).print();
    Ok(Some(Kept { volumes, journaled, manifest: text }))
}

/// Brings back the checkpoint of the signature file, if the session has got so far that there is only the file itself.
fn unpack_signatures(target: &Target, names: &Names) -> Result<(), Error> {
    let [part, local] = [names.part(Content::Signatures), names.local(Content::Signatures)];
    let listing = target.archive.list()?;
    let Some(listed) = listing.iter().find(|listed| listed.name == local) else { return Ok(()) };
    if listing.iter().any(|listed| listed.name == part) {
        return Ok(());
    }
    let file = Arc::new(target.archive.file(listed));
    let mut decoder = target.codec.decode(file, Encoding::Gzip)?;
    let mut writer = target.archive.create(&part)?;
    std::io::copy(&mut decoder, &mut writer).map_err(|cause| Error::archive("write", target.archive.path(), cause))?;
    Ok(writer.finish().map(|_| ())?)
}

/// Tells whether a file of the source is the one that was found then.
fn is_still(source: &SourceTree, path: &EntryPath, stat: SourceStat) -> bool {
    use std::os::unix::fs::MetadataExt;
    let found = source.open_file(path).and_then(|file| file.metadata());
    found.is_ok_and(|data| {
        let ctime = data.ctime().saturating_mul(1_000_000_000).saturating_add(data.ctime_nsec());
        stat == SourceStat { size: data.len(), ctime, inode: data.ino() }
    })
}

/// Removes what is not kept: the end of the manifest first, then the volumes behind.
fn trim(target: &Target, session: Session, kept: &Kept, listing: &[Listed], options: &BackupOptions) -> Result<(), Error> {
    let names = Names::new(session, options);
    target.archive.write(&names.part(Content::Manifest), &kept.manifest)?;
    let count = kept.volumes.len() as u32;
    for listed in listing {
        let name = StoredName::parse(&listed.name, &options.prefixes).filter(|name| name.session == session);
        match name.map(|name| name.content) {
            Some(Content::Volume(number)) if number <= count => {}
            Some(_) => target.storage.delete(&listed.name)?,
            None => {}
        }
    }
    Ok(())
}

/// Removes an interrupted session, signature file first.
///
/// # Errors
/// [`Error`] when a file is still there.
pub fn discard(target: &Target, session: Session, options: &BackupOptions) -> Result<(), Error> {
    let is_ours =
        |listed: &&Listed| StoredName::parse(&listed.name, &options.prefixes).is_some_and(|name| name.session == session);
    let mut listing = target.storage.list()?;
    listing.retain(|listed| is_ours(&listed));
    listing
        .sort_by_key(|listed| StoredName::parse(&listed.name, &options.prefixes).map(|name| name.content != Content::Signatures));
    listing.iter().try_for_each(|listed| target.storage.delete(&listed.name))?;
    // What was being written has another name so far.
    let names = Names::new(session, options);
    let next = listing.len() as u32 + 1;
    for content in (1..=next).map(Content::Volume).chain([Content::Signatures, Content::Manifest]) {
        target.storage.delete(&names.stored(content))?;
    }
    let local = target.archive.list()?;
    Ok(local.iter().filter(is_ours).try_for_each(|listed| target.archive.delete(&listed.name))?)
}

/// Makes sure that a set does not get two passphrases.
fn check_passphrase(target: &Target, names: &Names, listing: &[Listed]) -> Result<(), Error> {
    let name = names.stored(Content::Volume(1));
    let Some(listed) = listing.iter().find(|listed| listed.name == name && name.ends_with('g')) else { return Ok(()) };
    let file = Arc::new(StoredFile::new(target.storage.clone(), listed.clone()));
    match target.codec.decode(file, Encoding::OpenPgp) {
        Err(error) if matches!(error.cause, codec::Cause::WrongPassphrase | codec::Cause::NoPassphrase) => Err(error.into()),
        // Whoever encrypts for others need not be able to read it.
        _ => Ok(()),
    }
}

/// Makes the signatures of a full session of duplicity's from its volumes.
fn rebuild(
    target: &Target,
    session: Session,
    volumes: &[ManifestVolume],
    listing: &[Listed],
    options: &BackupOptions,
) -> Result<Journaled, Error> {
    let names = Names::new(session, options);
    let path = target.archive.path().join(names.part(Content::Signatures));
    let mut rebuilt = Rebuilt { sigtar: SigtarWriter::open(&path, 0)?, options, current: None, entries: 0, trouble: None };
    let mut journaled = Journaled { session, volumes: Vec::new() };
    for volume in volumes {
        let name = names.stored(Content::Volume(volume.number));
        let Some(listed) = listing.iter().find(|listed| listed.name == name) else { break };
        let file = StoredFile::new(target.storage.clone(), listed.clone());
        let source = VolumeSource { key: 0, file, encoding: options.encode.encoding, hash: volume.hash };
        let pass = first_pass(&source, &target.codec, |event| match rebuilt.take(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                rebuilt.trouble = Some(error);
                ControlFlow::Break(())
            }
        });
        if let Some(error) = rebuilt.trouble.take() {
            return Err(error);
        }
        // A volume that cannot be read, for want of a key perhaps, and all behind it are stored anew.
        if pass.is_err() {
            break;
        }
        if volume.last_piece.is_none() {
            rebuilt.flush()?;
        }
        let mark = Mark { signatures: rebuilt.sigtar.length(), entries: rebuilt.entries, inside: None };
        journaled.volumes.push((listed.size, mark));
    }
    rebuilt.sigtar.shared().sync().map_err(|cause| Error::archive("write", &path, cause))?;
    Ok(journaled)
}

/// Signatures on their way from volumes to a signature file.
struct Rebuilt<'a> {
    sigtar: SigtarWriter,
    options: &'a BackupOptions,
    current: Option<(EntryPath, Option<Entry>, SignatureWriter<Spool>)>,
    entries: u64,
    trouble: Option<Error>,
}

impl Rebuilt<'_> {
    fn take(&mut self, event: Event<'_>) -> Result<(), Error> {
        match event {
            Event::Member(member) if self.current.as_ref().is_some_and(|(path, ..)| *path == member.path) => Ok(()),
            Event::Member(member) => {
                self.flush()?;
                let entry = member.entry.clone().filter(|_| member.kind == MemberKind::Whole);
                // Nobody knows the size beforehand: any block length will do.
                let block = block_length(member.length, self.options.max_block_size);
                let signature = SignatureWriter::new(Spool::new(&self.options.tempdir), block).map_err(Error::temporary)?;
                self.current = Some((member.path.clone(), entry, signature));
                Ok(())
            }
            Event::Data(bytes) => match &mut self.current {
                Some((_, _, signature)) => signature.update(bytes).map_err(Error::temporary),
                None => Ok(()),
            },
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some((path, entry, signature)) = self.current.take() else { return Ok(()) };
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
