//! Level 1, the sources: the lines of a set from its signature file, or else from its volumes, on
//! their way to the writer.

use super::manifests::undescribed;
use super::sets::Sets;
use super::spool::Spool;
use super::tables::TABLES_TOGETHER;
use super::{Cause, Error};
use crate::catalog::{self, Chain, Line, Source, copy_identity};
use crate::codec;
use crate::collection::{BackupSet, SetFile};
use crate::format::{
    Encoding, Manifest, ManifestVolume, SignatureKind, SignatureMember, TarReader,
};
use crate::model::{Entry, EntryPath};
use crate::monitor::Level;
use crate::storage::ReadAt;
use crate::volume::{self, Event, checked_pass};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Lines that travel together from the thread that decodes a signature file to the one that writes
/// rows.
const BATCH: usize = 512;
/// Batches that may wait for the writer, of all signature files together.
const WAITING: usize = 32;
/// Sets whose manifests are read together, and the session keys of their signature files derived.
const KEYS_TOGETHER: usize = 16;
/// Signature files that are decoded at the same time, at least, and at most: as many as there may be
/// transfers.
const AHEAD: std::ops::RangeInclusive<usize> = 2..=32;

impl Sets {
    /// Fills the first sets of a chain, so many and from `filled` on, a few signature files being
    /// decoded ahead.
    pub(super) fn fill_from(
        &self,
        chain: &Chain,
        sets: u32,
        generation: u64,
        filled: &mut u32,
    ) -> Result<(), Error> {
        let (first, end) = (*filled as usize, chain.sets.len().min(sets as usize));
        chain.progress.reach(*filled, generation);
        let ahead = self.abilities().transfers.clamp(*AHEAD.start(), *AHEAD.end());
        std::thread::scope(|scope| {
            let (mut receivers, mut started) = (VecDeque::new(), first);
            for position in first..end {
                while started < end && started < position + ahead {
                    if (started - first).is_multiple_of(KEYS_TOGETHER) {
                        let coming = started..end.min(started + KEYS_TOGETHER);
                        let sets = &chain.sets[coming.clone()];
                        let signatures: Vec<_> =
                            sets.iter().filter_map(|set| self.stored_signatures(set)).collect();
                        let positions = coming.start as u32..coming.end as u32;
                        self.fetch_manifests_and_keys(chain, positions, &signatures);
                    }
                    let (sender, receiver) = bounded(WAITING.div_ceil(ahead));
                    let number = started as u32;
                    let is_distrusted = self.distrusts(chain.set_at(number)?)?;
                    let thread = std::thread::Builder::new().name("signatures".into());
                    let send = move || self.send_lines(chain, number, is_distrusted, &sender);
                    thread.spawn_scoped(scope, send).map_err(Error::Thread)?;
                    receivers.push_back(receiver);
                    started += 1;
                }
                let Some(receiver) = receivers.pop_front() else { break };
                // Nobody who writes waits for a storage meanwhile, or for a process that was
                // stopped.
                let mut collected = collect(&receiver)?;
                let Collected { lines, source, left_out } = &mut collected;
                let what = (&*source, left_out.as_deref());
                let left_out = self.catalog.write(|rows| {
                    rows.fill_set(chain, position as u32, what, |writer| {
                        lines.read(|line| Ok(writer.add(line)?))
                    })
                })?;
                if let Some(left_out) = left_out {
                    let (count, first, set) =
                        (left_out.count, left_out.start(), chain.sets[position].end());
                    let text = format!(
                        "set {set}: {count} paths are not shown, since folders above them are not in it, among them '{first}'"
                    );
                    self.log_once(Level::Error, text);
                }
                *filled = position as u32 + 1;
                chain.progress.reach(*filled, generation);
            }
            Ok(())
        })
    }

    /// Returns the stored signature file of a set, where there is no copy at hand.
    fn stored_signatures<'s>(&self, set: &'s BackupSet) -> Option<&'s SetFile> {
        let copy = self.local_copy();
        let has_copy = copy.is_some_and(|copy| copy.signatures(set.session).is_some());
        set.signatures.as_ref().filter(|_| !has_copy)
    }

    /// Sends the lines of one set, from its signature file or else from its volumes; at the end
    /// what went wrong. Nothing here asks the database, which is being written meanwhile.
    fn send_lines(
        &self,
        chain: &Chain,
        position: u32,
        is_distrusted: bool,
        sender: &Sender<Message>,
    ) {
        let volumes = || {
            // What came so far is void.
            let _ = sender.send(Message::Again);
            self.volume_lines(chain, position, sender).map(|()| Source::Volumes)
        };
        let result = match is_distrusted {
            true => volumes(),
            false => self.signature_lines(chain, position, sender),
        };
        let result = match result {
            Err(error @ Error::Set { .. })
                if !is_distrusted && !error.is_locked() && !is_cut_off(&error) =>
            {
                let set = chain
                    .sets
                    .get(position as usize)
                    .map_or_else(String::new, |set| set.end().to_string());
                self.log_once(
                    Level::Warning,
                    format!("{error}; reading the volumes of set {set} instead"),
                );
                volumes().or_else(|error| self.unconfirmed_lines(chain, position, error, sender))
            }
            result => result,
        };
        let _ = sender.send(Message::End(result));
    }

    /// Sends the lines of the signature file, if it fits the manifest. What is stored as it is counts
    /// before any copy; where it is encrypted, the copy saves the decryption.
    fn signature_lines(
        &self,
        chain: &Chain,
        position: u32,
        sender: &Sender<Message>,
    ) -> Result<Source, Error> {
        let set = chain.set_at(position)?;
        // Whoever reads the volumes hears what is wrong with the manifest; but while it cannot be
        // read, nothing is taken over that might not fit it.
        let manifest = match self.manifest(chain, position) {
            Err(error) if error.is_passing() && !error.is_locked() => return Err(error),
            manifest => manifest.ok(),
        };
        self.lines_of_file(set, || Fit::new(set, manifest.as_deref()), sender)
    }

    /// Sends the lines of the signature file though it does not fit the manifest, where the volumes
    /// have proved not to fit it either: it may be the manifest that is wrong, and names are better
    /// than nothing. They are not taken for more than that ([`Source::Unconfirmed`]).
    fn unconfirmed_lines(
        &self,
        chain: &Chain,
        position: u32,
        error: Error,
        sender: &Sender<Message>,
    ) -> Result<Source, Error> {
        // Volumes without a key prove nothing either.
        if error.is_passing() || error.is_locked() {
            return Err(error);
        }
        let set = chain.set_at(position)?;
        if self.lines_of_file(set, || Ok(Fit::default()), sender).is_err() {
            return Err(error);
        }
        let cause = "the names are those of its signature file, which nothing confirms";
        self.log_once(Level::Error, format!("set {}: {cause}: {error}", set.end()));
        let _ = sender.send(Message::LeftOut(cause.into()));
        Ok(Source::Unconfirmed)
    }

    /// Sends the lines of the signature file if it fits.
    fn lines_of_file<'m>(
        &self,
        set: &BackupSet,
        fit: impl Fn() -> Result<Fit<'m>, &'static str>,
        sender: &Sender<Message>,
    ) -> Result<Source, Error> {
        let copy = self.local_copy();
        let decode = |file, encoding| {
            let _ = sender.send(Message::Again);
            self.decode_lines(file, encoding, fit(), sender)
        };
        let local = || {
            let local = copy.as_ref().and_then(|copy| copy.signatures(set.session))?;
            decode(Arc::new(local.file.clone()), local.encoding).ok()?;
            Some(if self.trusts_copies(set) {
                Source::Signatures
            } else {
                Source::Copy(copy_identity(local))
            })
        };
        let stored = || {
            let stored = set.signatures.as_ref().ok_or(Cause::Missing)?;
            let decode = || decode(self.open_file(stored), stored.encoding);
            self.stored(stored).with_copies(Cause::is_of_content, decode)?;
            Ok(Source::Signatures)
        };
        let found = match !self.trusts_copies(set)
            && set.signatures.as_ref().is_some_and(|stored| stored.encoding != Encoding::OpenPgp)
        {
            true => stored().or_else(|cause| local().ok_or(cause)),
            false => local().map_or_else(stored, Ok),
        };
        let what = || format!("the signature file of set {}", set.end());
        found.map_err(|cause| Error::Set { what: what(), cause })
    }

    /// Sends the lines of a signature file that fits.
    fn decode_lines(
        &self,
        file: Arc<dyn ReadAt>,
        encoding: Encoding,
        fit: Result<Fit<'_>, &'static str>,
        sender: &Sender<Message>,
    ) -> Result<(), Cause> {
        let mut fit = fit?;
        let mut tar = TarReader::new(self.codec.decode(file, encoding)?);
        let mut batch = Batch::new(sender);
        while let Some(header) = tar.next()? {
            let member = SignatureMember::parse(&header)?;
            fit.line(&member.path)?;
            let entry = match member.kind {
                SignatureKind::Present(entry) => Some(entry),
                SignatureKind::Deleted => None,
            };
            batch.push(Line { path: member.path, entry });
        }
        // The end of the stream proves what came before it.
        tar.into_inner().drain()?;
        fit.finish()?;
        batch.flush();
        Ok(())
    }

    /// Sends the lines of a set as its volumes give them: by their tables, or by the headers in
    /// them.
    fn volume_lines(
        &self,
        chain: &Chain,
        position: u32,
        sender: &Sender<Message>,
    ) -> Result<(), Error> {
        let set = chain.set_at(position)?;
        let manifest = self.manifest(chain, position)?;
        if let Some(number) = undescribed(set, &manifest) {
            // It may have been cut, and then the volumes are not all.
            let what = format!("the manifest of set {}", set.end());
            return Err(Error::Set {
                what,
                cause: format!("it does not describe volume {number}, which is stored").into(),
            });
        }
        let mut batch = Batch::new(sender);
        let mut last: Option<EntryPath> = None;
        let mut emit = |path: &EntryPath, entry: &Option<Entry>| {
            if last.as_ref() != Some(path) {
                last = Some(path.clone());
                batch.push(Line { path: path.clone(), entry: entry.clone() });
            }
        };
        let volumes: Vec<ManifestVolume> = manifest.volumes().collect();
        let (mut near, mut has_tables) = (VecDeque::new(), true);
        for (index, volume) in volumes.iter().enumerate() {
            if near.is_empty() && has_tables {
                let most = if index == 0 { 1 } else { TABLES_TOGETHER };
                let names = volumes[index..].iter().map(|volume| (position, volume.number));
                near.extend(self.near_tables(chain, &names.take(most).collect::<Vec<_>>()));
            }
            let file = near.pop_front().flatten();
            let table = file.and_then(|file| self.table_in(chain, position, volume, &file));
            if let Some((toc, _)) = table {
                toc.rows().for_each(|row| emit(&row.path, &row.entry));
                continue;
            }
            // If the first one has none, neither have the others.
            has_tables &= index > 0;
            let mut source = self.volume(chain, position, volume.number)?;
            source.hash = volume.hash;
            let mut listener = |event: Event<'_>| {
                match event {
                    Event::Member(member) => emit(&member.path, &member.entry),
                    Event::TooLong(cause) => {
                        self.log_once(Level::Error, format!("set {}: {cause}", set.end()));
                        let _ = sender.send(Message::LeftOut(cause));
                    }
                    Event::Data(_) => {}
                }
                ControlFlow::Continue(())
            };
            let pass = || checked_pass(&source, &self.codec, &mut listener);
            let passed = source.file.with_copies(volume::Error::is_other_bytes, pass);
            passed.map_err(|cause| Error::Volume { set: set.end(), cause })?;
        }
        batch.flush();
        Ok(())
    }
}

/// What a signature file must hold to be that of a set, as far as can be told without a volume: a
/// full set has its top, each volume's first and last path is listed, and nothing outside of all
/// volumes.
#[derive(Default)]
struct Fit<'m> {
    manifest: Option<&'m Manifest>,
    /// Paths that are still to come.
    missing: BTreeSet<EntryPath>,
}

impl<'m> Fit<'m> {
    fn new(set: &BackupSet, manifest: Option<&'m Manifest>) -> Result<Self, &'static str> {
        if manifest.is_some_and(|manifest| !manifest.is_ordered()) {
            return Err("the set's volumes do not follow each other in path order");
        }
        let volumes = manifest.into_iter().flat_map(Manifest::volumes);
        let mut missing: BTreeSet<_> =
            volumes.flat_map(|volume| [volume.first, volume.last]).collect();
        // Of an increment that has nothing in it, the manifest says that its only volume begins and
        // ends with the top.
        match set.session.is_full() {
            true => missing.insert(EntryPath::root()),
            false => missing.remove(&EntryPath::root()),
        };
        Ok(Self { manifest, missing })
    }

    fn line(&mut self, path: &EntryPath) -> Result<(), String> {
        self.missing.remove(path);
        match self.manifest.is_none_or(|manifest| manifest.volumes_with(path).next().is_some()) {
            true => Ok(()),
            false => Err(format!("it lists '{path}', which is in none of the set's volumes")),
        }
    }

    fn finish(self) -> Result<(), String> {
        self.missing.first().map_or(Ok(()), |path| {
            Err(format!("it does not list '{path}', which is in the set's volumes"))
        })
    }
}

/// Returns whether there was no connection when a file of a set was to be read: then its volumes
/// can no more be read in its place, and would be long.
fn is_cut_off(error: &Error) -> bool {
    let Error::Set { cause: Cause::Decode(error), .. } = error else { return false };
    matches!(&error.cause, codec::Cause::Storage(error) if error.kind.is_connection())
}

/// What comes from the thread that decodes.
enum Message {
    Lines(Vec<Line>),
    /// A path is passed over, for this reason.
    LeftOut(String),
    /// The lines so far are void.
    Again,
    End(Result<Source, Error>),
}

struct Batch<'a> {
    sender: &'a Sender<Message>,
    lines: Vec<Line>,
}

impl<'a> Batch<'a> {
    fn new(sender: &'a Sender<Message>) -> Self {
        Self { sender, lines: Vec::with_capacity(BATCH) }
    }

    fn push(&mut self, line: Line) {
        self.lines.push(line);
        if self.lines.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        // The receiver is gone only when it has failed for a reason of its own.
        let _ = self
            .sender
            .send(Message::Lines(std::mem::replace(&mut self.lines, Vec::with_capacity(BATCH))));
    }
}

/// All that has come of a set.
struct Collected {
    lines: Spool,
    source: Source,
    left_out: Option<String>,
}

/// Takes all lines of a set, with where they come from.
fn collect(receiver: &Receiver<Message>) -> Result<Collected, Error> {
    let (mut spool, mut left_out) = (Spool::new(), None);
    loop {
        match receiver.recv() {
            Ok(Message::Lines(lines)) => lines.iter().try_for_each(|line| spool.push(line))?,
            Ok(Message::LeftOut(cause)) => drop(left_out.get_or_insert(cause)),
            Ok(Message::Again) => (spool, left_out) = (Spool::new(), None),
            Ok(Message::End(result)) => {
                return result.map(|source| Collected { lines: spool, source, left_out });
            }
            Err(_) => return Err(catalog::Error::Gone("the lines of a set".into()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Files, Item, PathState, World, path};
    use crate::codec::Options;
    use crate::storage::{Call, ErrorKind, RecordingStorage};
    use PathState::{Directory, File};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    /// A set of two volumes, beside the signature file of another one.
    fn files() -> Arc<Files> {
        let [files, other] = [("b", "c"), ("lie", "lied")].map(|(second, third)| {
            let files = Arc::new(Files::default());
            let first: &[Item] = &[(".", Directory), ("a", File(vec![1; 3000]))];
            let rest: &[Item] = &[(second, File(vec![2; 3000])), (third, File(vec![3; 9]))];
            files.write(0, &[first, rest], false);
            files
        });
        other.change("sigtar", |lie| files.change("sigtar", |bytes| bytes.clone_from(lie)));
        files
    }

    fn names(world: &World) -> Vec<String> {
        let snapshot = world.sets.snapshot(&world.chain(), 0).unwrap();
        let walk = snapshot.walk(&world.sets, &path("")).unwrap();
        walk.map(|item| item.unwrap().0.to_string()).collect()
    }

    #[test]
    fn what_failed_its_check_is_not_taken_over_while_the_storage_fails() {
        let (files, directory) = (files(), tempfile::tempdir().unwrap());
        let is_away = Arc::new(AtomicBool::new(true));
        let fault = is_away.clone();
        let storage = RecordingStorage::failing(files, move |call| match call {
            Call::Read { name, .. } | Call::Stream { name, .. } => {
                (fault.load(Relaxed) && name.contains("vol2")).then_some(ErrorKind::Unreachable)
            }
            _ => None,
        });
        let world = World::over(storage, Some(directory.path().into()), Options::default());
        let chain = world.chain();
        let error = world.sets.snapshot(&chain, 0).err().unwrap();
        assert!(error.is_passing(), "{error}");
        is_away.store(false, Relaxed);
        assert_eq!(names(&world), [".", "a", "b", "c"]);
        assert!(world.sets.unconfirmed(&world.chain()).unwrap().is_none());
    }

    #[test]
    fn names_that_nothing_confirms_are_reported_and_not_kept() {
        let (files, directory) = (files(), tempfile::tempdir().unwrap());
        files.change("vol2", |bytes| bytes[700] ^= 1);
        let world = World::new(&files, Some(directory.path().into()), Options::default());
        assert_eq!(names(&world), [".", "a", "lie", "lied"]);
        let said = world.said.0.lock().join("\n");
        assert!(said.contains("which nothing confirms"), "{said}");
        let chain = world.chain();
        world.sets.fill(&chain).unwrap();
        assert!(world.sets.unconfirmed(&chain).unwrap().is_some());
        assert!(world.sets.left_out(&chain, 0).unwrap().is_some());
        // Mended; the names, sizes and times of the files are the same.
        files.change("vol2", |bytes| bytes[700] ^= 1);
        let world = World::new(&files, Some(directory.path().into()), Options::default());
        assert_eq!(names(&world), [".", "a", "b", "c"]);
        let chain = world.chain();
        world.sets.fill(&chain).unwrap();
        assert!(world.sets.unconfirmed(&chain).unwrap().is_none());
    }
}
