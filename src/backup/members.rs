//! [`MemberWriter`]: from what has changed to members of volumes, members of the signature file,
//! and the list of files.

use super::compare::Change;
use super::content::{self, AHEAD, Ending, SourceReader, block_length};
use super::reports::report_found;
use super::signatures::Signatures;
use super::signing::Signing;
use super::sigtar::SigtarWriter;
use super::spool::Spool;
use super::statistics::Statistics;
use super::{BackupOptions, Error};
use crate::catalog::{SourceStat, VersionId};
use crate::format::{FileChange, Manifest, Member, MemberKind, SignatureKind, SignatureMember};
use crate::model::{Entry, EntryKind, EntryPath};
use crate::monitor::{Event, Level, Monitor};
use crate::sets::{Saved, Sets};
use crate::source::{Failure, Found};
use crate::volume::{self, EncodedFrame, FrameBuilder, PlainFrame};
use crate::work::Feed;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// A frame on its way to a volume, and where the session stands behind it.
pub struct Load<F> {
    /// The frame.
    pub frame: F,
    /// Where the session stands behind its last member.
    pub mark: Mark,
    /// Bytes of the source that had been met when it was made.
    pub met: u64,
}

/// Where a session stands between two members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// Length of the signature file: all paths before have their members there.
    pub signatures: u64,
    /// Check of its bytes so far.
    pub check: u64,
    /// Number of members in the signature file.
    pub entries: u64,
    /// The file whose next piece follows, as it was found; `None` between two paths.
    pub inside: Option<SourceStat>,
}

/// What frames are handed to.
pub type FrameFeed = Feed<Load<PlainFrame>, Result<Load<EncodedFrame>, volume::Error>>;

/// Regular files that a set has changed, as the manifest lists them.
pub struct FileList {
    count: u64,
    lines: Spool,
}

impl FileList {
    fn push(&mut self, change: FileChange, path: &EntryPath) -> Result<(), Error> {
        self.count += 1;
        self.lines.write_all(&Manifest::print_list_line(change, path)).map_err(Error::temporary)
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Those of the temporary file, and of `out`.
    pub fn print(&mut self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&Manifest::print_list_head(self.count))?;
        self.lines.rewind()?;
        io::copy(&mut self.lines, out).map(|_| ())
    }
}

/// Touched files that the catalog is told of at a time.
const TOUCHED: usize = 4096;

/// Bytes of what is kept of one member's file.
const RECORD: usize = 24;

impl Written {
    /// Returns what was found of the file of each member of the signature file, in order.
    ///
    /// # Errors
    /// Those of the temporary file.
    pub fn stats(&mut self) -> io::Result<impl Iterator<Item = Option<SourceStat>>> {
        self.stats.rewind()?;
        let mut reader = io::BufReader::new(&mut self.stats);
        Ok((0..self.entries).map(move |_| {
            let mut record = [[0; 8]; RECORD / 8];
            reader.read_exact(record.as_flattened_mut()).ok()?;
            let [size, ctime, inode] = record.map(u64::from_le_bytes);
            (inode != 0).then_some(SourceStat { size, ctime: ctime as i64, inode })
        }))
    }
}

/// What is left when all members are written.
pub struct Written {
    /// The manifest's list.
    pub files: FileList,
    /// For each member of the signature file what was found of the file: 24 bytes, all zero for
    /// what is none.
    pub stats: Spool,
    /// What was counted.
    pub statistics: Statistics,
    /// Members of the signature file.
    pub entries: u64,
}

/// Turns changes into members.
pub struct MemberWriter<'a> {
    options: &'a BackupOptions,
    monitor: &'a dyn Monitor,
    sets: &'a Sets,
    feed: &'a FrameFeed,
    frames: FrameBuilder,
    sigtar: SigtarWriter,
    bases: Option<Signatures<'a>>,
    /// Files whose content is as saved, though they look touched: the catalog has not been told
    /// yet.
    touched: Vec<(VersionId, SourceStat)>,
    written: Written,
    /// Bytes of the files that are stored.
    read: u64,
    /// Paths up to here are stored already.
    stored: Option<Stored>,
    unreadable: &'a mut Unreadable,
    /// The file that was stored in part has come.
    has_continued: bool,
}

/// What an interrupted session has stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The last path.
    pub last: EntryPath,
    /// How many of its pieces are stored, if more are to come.
    pub pieces: Option<u64>,
    /// How many members the signature file has.
    pub entries: u64,
}

/// Files that cannot be read, as far as is known. Nothing of them is stored, so that a set has them
/// as the set before has them: not at all, or as they were.
#[derive(Default)]
pub struct Unreadable {
    causes: BTreeMap<EntryPath, io::Error>,
    /// Paths before this have been met before, and told of.
    told: Option<EntryPath>,
}

impl Unreadable {
    /// Adds a file that cannot be read to its end, and may have been stored in part; nothing before
    /// it is told of again.
    pub fn insert(&mut self, path: EntryPath, cause: io::Error) {
        self.told = Some(path.clone());
        self.causes.insert(path, cause);
    }

    fn is_told(&self, path: &EntryPath) -> bool {
        self.told.as_ref().is_some_and(|told| path < told)
    }

    /// Returns whether a file has failed when a part of it was stored. Whatever made that one fail
    /// may befall others.
    fn is_wary(&self) -> bool {
        self.told.is_some()
    }
}

/// Reading a file has failed, for a reason of its own or of the temporary files; or storing it has.
enum Trouble {
    Read(io::Error),
    Other(Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl<'a> MemberWriter<'a> {
    /// Begins a set, or goes on with one. `bases` are the signatures of the sets before, if there
    /// are any.
    ///
    /// # Errors
    /// [`Error`] when a temporary file cannot be written.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a session consists of, put together in one place"
    )]
    pub fn new(
        options: &'a BackupOptions,
        monitor: &'a dyn Monitor,
        sets: &'a Sets,
        feed: &'a FrameFeed,
        sigtar: SigtarWriter,
        bases: Option<Signatures<'a>>,
        stored: Option<Stored>,
        unreadable: &'a mut Unreadable,
    ) -> Result<Self, Error> {
        let spool = || Spool::new(&options.tempdir);
        let files = FileList { count: 0, lines: spool() };
        let entries = stored.as_ref().map_or(0, |stored| stored.entries);
        let mut stats = spool();
        (0..entries).try_for_each(|_| stats.write_all(&[0; RECORD])).map_err(Error::temporary)?;
        let written = Written { files, stats, statistics: Statistics::default(), entries };
        let frames = FrameBuilder::new(options.frame_size());
        Ok(Self {
            options,
            monitor,
            sets,
            feed,
            frames,
            sigtar,
            bases,
            touched: Vec::new(),
            written,
            read: 0,
            stored,
            unreadable,
            has_continued: false,
        })
    }

    /// Does what a change asks for.
    ///
    /// # Errors
    /// [`Error`] when the session cannot go on. A file that cannot be read is reported, counted and
    /// left out.
    pub fn write(&mut self, change: Change) -> Result<(), Error> {
        self.written.statistics.meet(&change);
        self.check_continued(Some(change.path()))?;
        if self.unreadable.causes.contains_key(change.path()) {
            self.report_unreadable(change.path());
            return Ok(());
        }
        match change {
            Change::Same(_, None) => Ok(()),
            Change::Same(found, Some(version)) => {
                self.touch(version, &found);
                Ok(())
            }
            Change::Socket(path) => {
                self.monitor.event(&Event::Socket(&self.options.full_path(&path)));
                Ok(())
            }
            Change::Failed(failure) => {
                self.report(&failure);
                Ok(())
            }
            Change::Gone(saved) => self.deleted(&saved),
            Change::New(found) => self.whole(&found),
            Change::Changed(found, saved) => {
                let basis = self.basis(&found, &saved)?;
                self.delta(&found, basis)
            }
            Change::Suspect(found, saved) => {
                let mut basis = self.basis(&found, &saved)?;
                let is_touched_only = match &mut basis {
                    Some(basis) => self.is_touched_only(&found, basis)?,
                    None => false,
                };
                if !is_touched_only {
                    return self.delta(&found, basis);
                }
                self.touch(saved.version, &found);
                Ok(())
            }
        }
    }

    /// Hands over the last frame and returns what is left.
    ///
    /// # Errors
    /// [`Error::Lost`] when the rest of a file has not come whose first pieces are stored; others
    /// when the temporary files cannot be written, or nobody takes frames any more.
    pub fn finish(mut self) -> Result<(Written, SigtarWriter), Error> {
        self.check_continued(None)?;
        let frame = self.frames.take();
        if !frame.is_empty() {
            self.send(frame, None)?;
        }
        self.report_touched();
        Ok((self.written, self.sigtar))
    }

    /// Remembers what was found of a file whose content is as saved.
    fn touch(&mut self, version: VersionId, found: &Found) {
        self.touched.push((version, SourceStat::of(found)));
        if self.touched.len() >= TOUCHED {
            self.report_touched();
        }
    }

    fn report_touched(&mut self) {
        self.sets.catalog().update_stats(self.touched.drain(..));
    }

    fn report(&mut self, failure: &Failure) {
        if failure.is_gone() {
            return;
        }
        self.written.statistics.errors += 1;
        if !self.unreadable.is_told(&failure.path) {
            self.monitor.event(&failure.event(&self.options.full_path(&failure.path)));
        }
    }

    fn report_found<'f>(&self, event: fn(&'f EntryPath) -> Event<'f>, found: &'f Found) {
        if !self.unreadable.is_told(&found.path) {
            report_found(event, found, self.monitor);
        }
    }

    /// Counts a file that cannot be read, and tells of it, once.
    fn report_unreadable(&mut self, path: &EntryPath) {
        let Some(cause) = self.unreadable.causes.get(path) else { return };
        if cause.kind() != io::ErrorKind::NotFound {
            self.written.statistics.errors += 1;
        }
        if !self.unreadable.is_told(path) {
            self.monitor.event(&Event::CannotRead(&self.options.full_path(path), cause));
        }
    }

    /// Returns whether an interrupted session has stored all of a path already.
    fn is_stored(&self, path: &EntryPath) -> bool {
        self.stored.as_ref().is_some_and(|stored| {
            path < &stored.last || path == &stored.last && stored.pieces.is_none()
        })
    }

    /// Returns how many pieces of a path an interrupted session has stored.
    fn pieces_stored(&self, path: &EntryPath) -> u64 {
        self.stored
            .as_ref()
            .filter(|stored| stored.last == *path)
            .and_then(|stored| stored.pieces)
            .unwrap_or(0)
    }

    /// Fails when a path, or the end, comes before the rest of a file whose first pieces are
    /// stored.
    fn check_continued(&self, path: Option<&EntryPath>) -> Result<(), Error> {
        match &self.stored {
            Some(Stored { last, pieces: Some(_), .. })
                if path.is_none_or(|path| path > last) && !self.has_continued =>
            {
                Err(Error::Lost(last.clone()))
            }
            _ => Ok(()),
        }
    }

    fn deleted(&mut self, saved: &Saved) -> Result<(), Error> {
        self.written.statistics.add_deleted();
        if saved.entry.kind == EntryKind::File {
            self.list(FileChange::Deleted, &saved.path)?;
        }
        if self.is_stored(&saved.path) {
            return Ok(());
        }
        if !self.unreadable.is_told(&saved.path) {
            self.monitor.event(&Event::Deleted(&saved.path));
        }
        self.member(&saved.path, MemberKind::Deleted, None, None, &[], true, None)?;
        self.sign(&saved.path, SignatureKind::Deleted, None, None)
    }

    fn whole(&mut self, found: &Found) -> Result<(), Error> {
        if found.entry.kind != EntryKind::File {
            self.written.statistics.add_new(found);
            if self.is_stored(&found.path) {
                return Ok(());
            }
            self.report_found(Event::Added, found);
            self.member(&found.path, MemberKind::Whole, None, Some(&found.entry), &[], true, None)?;
            return self.sign(&found.path, SignatureKind::Present(found.entry.clone()), None, None);
        }
        if self.is_stored(&found.path) {
            self.written.statistics.add_new(found);
            return self.list(FileChange::New, &found.path);
        }
        let Some(mut reader) = self.open(found)? else { return Ok(()) };
        self.written.statistics.add_new(found);
        self.report_found(Event::Added, found);
        self.list(FileChange::New, &found.path)?;
        let mut signature = self.begin_signature(&reader)?;
        let result = content::whole(&mut reader, &mut signature, &mut |piece, bytes, is_last| {
            self.piece(found, MemberKind::Whole, piece, bytes, is_last)
        });
        self.end(found, reader, signature, result)
    }

    /// Returns the signature that a delta of a file is made against; none where there is no usable
    /// one, or no need.
    fn basis(&mut self, found: &Found, saved: &Saved) -> Result<Option<(Spool, u64)>, Error> {
        if self.is_stored(&found.path) {
            return Ok(None);
        }
        match &mut self.bases {
            Some(bases) => Ok(bases
                .find(saved.position, &found.path)?
                .filter(|(_, length)| content::is_usable(*length))),
            None => Ok(None),
        }
    }

    fn delta(&mut self, found: &Found, basis: Option<(Spool, u64)>) -> Result<(), Error> {
        if self.is_stored(&found.path) {
            self.written.statistics.add_changed(found);
            return self.list(FileChange::Changed, &found.path);
        }
        // Without a signature, or with one that is too large to be held in memory, it is stored
        // whole.
        let Some((mut basis, length)) = basis else { return self.whole(found) };
        let Some(mut reader) = self.open(found)? else { return Ok(()) };
        self.written.statistics.add_changed(found);
        self.report_found(Event::Changed, found);
        self.list(FileChange::Changed, &found.path)?;
        basis.rewind().map_err(Error::temporary)?;
        let mut signature = self.begin_signature(&reader)?;
        let result = content::changes(
            &mut reader,
            (&mut basis, length),
            &mut signature,
            &mut |piece, bytes, is_last| {
                self.piece(found, MemberKind::Delta, piece, bytes, is_last)
            },
        );
        self.end(found, reader, signature, result)
    }

    /// Returns whether a file's content still has the signature.
    fn is_touched_only(
        &mut self,
        found: &Found,
        (basis, length): &mut (Spool, u64),
    ) -> Result<bool, Error> {
        if self.pieces_stored(&found.path) > 0 {
            return Ok(false);
        }
        basis.rewind().map_err(Error::temporary)?;
        let mut same = |mut reader: SourceReader| {
            content::has_signature(&mut reader, basis, *length, &self.options.tempdir)
        };
        // What cannot be read is told by whoever tries to store it.
        Ok(SourceReader::open(found).and_then(&mut same).unwrap_or(false))
    }

    /// Opens a file; one that cannot be read is reported, and absent.
    fn open(&mut self, found: &Found) -> Result<Option<SourceReader>, Error> {
        self.has_continued |= self.pieces_stored(&found.path) > 0;
        let skim = |reader: &SourceReader| match self.unreadable.is_wary()
            && reader.size() > AHEAD as u64
        {
            true => SourceReader::open(found)?.skim(),
            false => Ok(()),
        };
        match SourceReader::open(found).and_then(|reader| skim(&reader).map(|()| reader)) {
            Ok(reader) => Ok(Some(reader)),
            Err(cause) if self.pieces_stored(&found.path) > 0 => {
                Err(Error::source(&found.path, cause))
            }
            Err(cause) => {
                self.unreadable.causes.insert(found.path.clone(), cause);
                self.report_unreadable(&found.path);
                Ok(None)
            }
        }
    }

    fn begin_signature(&self, reader: &SourceReader) -> Result<Signing, Error> {
        let block = block_length(reader.size(), self.options.max_block_size);
        Signing::new(Spool::new(&self.options.tempdir), block, reader.size())
            .map_err(Error::temporary)
    }

    /// Ends a file: its signature is kept, whatever it says of content that changed meanwhile is
    /// what was stored.
    fn end(
        &mut self,
        found: &Found,
        mut reader: SourceReader,
        signature: Signing,
        result: Result<(), Trouble>,
    ) -> Result<(), Error> {
        result.map_err(|trouble| match (trouble, reader.failure()) {
            (Trouble::Read(_), Some(cause)) => Error::source(&found.path, cause),
            (Trouble::Read(cause), None) => Error::temporary(cause),
            (Trouble::Other(error), _) => error,
        })?;
        match reader.ending() {
            Ending::Same => {}
            Ending::Changed => {
                self.monitor.message(Level::Warning, &self.options.changed(&found.path))
            }
            Ending::Short => self.monitor.message(
                Level::Warning,
                &self.options.short(&found.path, reader.length(), reader.size()),
            ),
        }
        let (signature, length) = signature.finish().map_err(Error::temporary)?;
        self.read += found.size;
        self.monitor.progress(self.read, 0);
        let stat = SourceStat::of(found);
        self.sign(
            &found.path,
            SignatureKind::Present(found.entry.clone()),
            Some((signature, length)),
            Some(stat),
        )
    }

    /// Adds a piece of a file, or all of it.
    fn piece(
        &mut self,
        found: &Found,
        kind: MemberKind,
        piece: Option<u64>,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<(), Trouble> {
        self.written.statistics.raw_delta_size += bytes.len() as u64;
        let ahead = piece
            .filter(|_| kind == MemberKind::Whole)
            .map_or(0, |piece| piece * bytes.len() as u64);
        self.monitor.progress(self.read + ahead, 0);
        if piece.is_some_and(|piece| piece <= self.pieces_stored(&found.path)) {
            return Ok(());
        }
        Ok(self.member(
            &found.path,
            kind,
            piece,
            Some(&found.entry),
            bytes,
            is_last,
            Some(SourceStat::of(found)),
        )?)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of a member, most of them constants at each call"
    )]
    fn member(
        &mut self,
        path: &EntryPath,
        kind: MemberKind,
        piece: Option<u64>,
        entry: Option<&Entry>,
        data: &[u8],
        is_last: bool,
        stat: Option<SourceStat>,
    ) -> Result<(), Error> {
        let member =
            Member { path: path.clone(), kind, piece, entry: entry.cloned(), length: 0, offset: 0 };
        // The frame that is full ends before this member: inside its file, if it is a later piece.
        let inside = stat.filter(|_| piece.is_some_and(|piece| piece > 1));
        match self.frames.push(member, is_last, data) {
            Some(full) => self.send(full, inside),
            None => Ok(()),
        }
    }

    fn send(&mut self, frame: PlainFrame, inside: Option<SourceStat>) -> Result<(), Error> {
        let mark = Mark {
            signatures: self.sigtar.length(),
            check: self.sigtar.check(),
            entries: self.written.entries,
            inside,
        };
        Ok(self.feed.push(Load { frame, mark, met: self.written.statistics.source_file_size })?)
    }

    /// Adds a member to the signature file.
    fn sign(
        &mut self,
        path: &EntryPath,
        kind: SignatureKind,
        signature: Option<(Spool, u64)>,
        stat: Option<SourceStat>,
    ) -> Result<(), Error> {
        let (mut spool, length) =
            signature.map_or((None, 0), |(spool, length)| (Some(spool), length));
        let member = SignatureMember { path: path.clone(), kind, length };
        if let Some(spool) = &mut spool {
            spool.rewind().map_err(Error::temporary)?;
        }
        self.sigtar.push(&member, spool.as_mut())?;
        self.written.entries += 1;
        let stat = stat.unwrap_or(SourceStat { size: 0, ctime: 0, inode: 0 });
        let record = [stat.size, stat.ctime as u64, stat.inode].map(u64::to_le_bytes).concat();
        self.written.stats.write_all(&record).map_err(Error::temporary)
    }

    fn list(&mut self, change: FileChange, path: &EntryPath) -> Result<(), Error> {
        if self.options.list_files { self.written.files.push(change, path) } else { Ok(()) }
    }
}
