//! [`Surveyor`]: lists directories, asks for what is in them, and has the selection decide on it.

use super::failure::{Failure, Operation};
use super::metadata::{Facts, Reader, Seen};
use super::open_source::OpenSource;
use super::selection::{Candidate, CandidateKind, Selection, Verdict};
use crate::model::{EntryKind, EntryPath};
use rustix::fs::{self, AtFlags, FileType, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// How many entries of a directory are asked for in one go; of a larger one the rest is held as
/// names.
pub const CHUNK: usize = 1024;

/// What stands between the source and those who look at it.
pub struct Surveyor {
    pub place: Arc<OpenSource>,
    /// What is not looked at.
    pub left_out: Arc<[EntryPath]>,
    pub selection: Option<Arc<Selection>>,
    pub reader: Reader,
}

/// A directory, or the rest of one, that is to be looked at.
pub struct Task {
    pub directory: EntryPath,
    /// The names in it, once it is listed, and the first that is to be asked for.
    rest: Option<(Arc<Names>, usize)>,
    /// The directories above, if links are followed and may lead back to them.
    above: Option<Arc<Above>>,
}

/// Where a task stands in the order of the walk: by the directory, or by the first name of its
/// rest, which comes before what lies below that name.
pub type Position = (EntryPath, bool);

/// What a task has found.
#[derive(Default)]
pub struct Batch {
    /// In the order of the walk.
    pub items: Vec<Item>,
    /// Where the rest of the directory stands, if there is one.
    pub rest: Option<Position>,
}

/// One entry of a directory.
pub enum Item {
    /// Something that has nothing below it and is stored.
    Leaf(Seen),
    /// A socket.
    Socket(EntryPath),
    /// A followed link that leads nowhere.
    Dangling(EntryPath),
    /// What could not be looked at.
    Failed(Failure),
    /// A directory that is to be entered; `is_scanned` if it is stored only for what is inside.
    Directory { seen: Seen, is_scanned: bool },
}

/// The names in a directory, sorted.
pub struct Names {
    /// All names, each ended by NUL.
    bytes: Vec<u8>,
    /// Where each begins, its length without the NUL, and the number of its inode.
    spans: Vec<(usize, usize, u64)>,
}

/// Identity of a directory, and of those above it.
struct Above {
    device: u64,
    inode: u64,
    parent: Option<Arc<Above>>,
}

impl Task {
    /// Makes the task of looking at the source's root.
    pub fn root(place: &OpenSource) -> Self {
        let facts = &place.facts;
        let above = place
            .copy_links
            .then(|| Arc::new(Above { device: facts.device, inode: facts.inode, parent: None }));
        Self { directory: EntryPath::root(), rest: None, above }
    }

    /// Makes a task for a position that has none.
    pub fn unknown(position: &Position) -> Self {
        Self { directory: position.0.clone(), rest: None, above: None }
    }

    /// Returns where this stands in the order of the walk.
    pub fn position(&self) -> Position {
        let Some((names, from)) = &self.rest else { return (self.directory.clone(), true) };
        (
            self.directory
                .join(names.get(*from).to_bytes())
                .unwrap_or_else(|_| self.directory.clone()),
            false,
        )
    }

    /// Makes what is told when this task cannot be done.
    pub fn failed(&self, cause: io::Error) -> Batch {
        Batch { items: vec![failure(self.directory.clone(), Operation::List, cause)], rest: None }
    }

    /// Makes the task of looking at a directory in this one.
    ///
    /// # Errors
    /// What is told instead, if a link leads to this directory again, or to one above.
    fn below(&self, seen: &Seen) -> Result<Self, Item> {
        let Facts { device, inode, .. } = seen.facts;
        let above = match &self.above {
            None => None,
            Some(parent) if parent.is_or_is_below(device, inode) => {
                let cause = io::Error::other("the link leads back to a directory above it");
                return Err(failure(seen.path.clone(), Operation::List, cause));
            }
            Some(parent) => Some(Arc::new(Above { device, inode, parent: Some(parent.clone()) })),
        };
        Ok(Self { directory: seen.path.clone(), rest: None, above })
    }
}

impl Above {
    fn is_or_is_below(&self, device: u64, inode: u64) -> bool {
        let chain = std::iter::successors(Some(self), |above| above.parent.as_deref());
        chain.into_iter().any(|above| (above.device, above.inode) == (device, inode))
    }
}

impl Surveyor {
    /// Looks at a directory, or at the next [`CHUNK`] entries of one; returns what is there and
    /// what is to be looked at next.
    pub fn survey(&self, task: &Task) -> (Batch, Vec<Task>) {
        let directory = match self.place.open_directory(&task.directory) {
            Ok(directory) => directory,
            Err(cause) => return (task.failed(cause), Vec::new()),
        };
        let (mut batch, mut tasks) = (Batch::default(), Vec::new());
        let (names, from) = match &task.rest {
            Some((names, from)) => (names.clone(), *from),
            None => {
                let (names, result) = self.names(&task.directory, directory.as_fd());
                let failed =
                    |cause: Errno| failure(task.directory.clone(), Operation::List, cause.into());
                batch.items.extend(result.err().map(failed));
                (Arc::new(names), 0)
            }
        };
        let to = names.len().min(from + CHUNK);
        let look = Look { surveyor: self, task, directory: directory.as_fd() };
        for (name, stat) in stats(directory.as_fd(), self.place.copy_links, &names, from..to) {
            let Some(item) = look.at(name, stat) else { continue };
            batch.items.push(match &item {
                Item::Directory { seen, .. } => match task.below(seen) {
                    Ok(below) => {
                        tasks.push(below);
                        item
                    }
                    Err(failure) => failure,
                },
                _ => item,
            });
        }
        if to < names.len() {
            let rest = Task {
                directory: task.directory.clone(),
                rest: Some((names, to)),
                above: task.above.clone(),
            };
            batch.rest = Some(rest.position());
            tasks.push(rest);
        }
        (batch, tasks)
    }

    /// Returns the names in a directory, or those of them that are listed to be saved, and how
    /// listing went.
    fn names(&self, path: &EntryPath, directory: BorrowedFd) -> (Names, rustix::io::Result<()>) {
        let (mut names, result) = match self.listed(path) {
            Some(listed) => (Names::sorted(listed.iter().map(|name| (&name[..], 0))), Ok(())),
            None => Names::read(directory),
        };
        for left_out in
            self.left_out.iter().filter(|left_out| left_out.parent().as_ref() == Some(path))
        {
            names.remove(left_out.split_last().map_or(b"", |(_, name)| name));
        }
        (names, result)
    }

    fn listed(&self, path: &EntryPath) -> Option<&[Vec<u8>]> {
        self.selection.as_ref()?.listed(path)
    }
}

/// One directory being looked at by one thread.
struct Look<'a> {
    surveyor: &'a Surveyor,
    task: &'a Task,
    directory: BorrowedFd<'a>,
}

impl Look<'_> {
    /// Reports what becomes of an entry; `None` if nothing.
    fn at(&self, name: &CStr, stat: rustix::io::Result<Stat>) -> Option<Item> {
        let path = match self.task.directory.join(name.to_bytes()) {
            Ok(path) => path,
            // No file system has a name that is none, so the path is over the limit: not all of the
            // directory can be listed.
            Err(bad) => {
                return Some(failure(
                    self.task.directory.clone(),
                    Operation::List,
                    io::Error::other(bad),
                ));
            }
        };
        let stat = match stat {
            Ok(stat) => stat,
            Err(cause) if self.is_silent(cause) || self.is_left_out(&path) => return None,
            Err(cause) if self.leads_nowhere(cause) => {
                let is_included =
                    self.verdict_by_name(&path, CandidateKind::Other) == Verdict::Include;
                return is_included.then_some(Item::Dangling(path));
            }
            Err(cause) => return Some(failure(path, Operation::Stat, cause.into())),
        };
        let facts = Facts::from(stat);
        let (file_type, name) = (facts.file_type(), name.to_bytes());
        let verdict = self.decide(&path, name, &facts);
        if verdict == Verdict::Exclude
            || verdict == Verdict::Scan && file_type != FileType::Directory
        {
            return None;
        }
        if file_type == FileType::Socket {
            return Some(Item::Socket(path));
        }
        let is_read = matches!(file_type, FileType::Directory | FileType::RegularFile);
        if is_read && !self.surveyor.reader.may_read(self.directory, name, &facts) {
            return Some(failure(path, Operation::Read, io::ErrorKind::PermissionDenied.into()));
        }
        Some(match facts.kind(|| fs::readlinkat(self.directory, name, Vec::new())) {
            Err(cause) => failure(path, Operation::Stat, cause),
            Ok(kind @ EntryKind::Directory) => Item::Directory {
                seen: Seen { path, kind, facts },
                is_scanned: verdict == Verdict::Scan,
            },
            Ok(kind) => Item::Leaf(Seen { path, kind, facts }),
        })
    }

    fn decide(&self, path: &EntryPath, name: &[u8], facts: &Facts) -> Verdict {
        let Some(selection) = &self.surveyor.selection else { return Verdict::Include };
        let kind = match facts.file_type() {
            FileType::Directory => CandidateKind::Directory,
            FileType::RegularFile => CandidateKind::File,
            FileType::CharacterDevice | FileType::BlockDevice => CandidateKind::Device,
            _ => CandidateKind::Other,
        };
        let is_foreign = facts.device != self.surveyor.place.facts.device;
        let holds = |mark: &[u8]| self.holds(name, mark);
        selection.decide(&Candidate { path, kind, mtime: facts.mtime, is_foreign, holds: &holds })
    }

    /// Returns whether an entry that cannot be asked for would be left out by its name, even if it
    /// is a directory.
    fn is_left_out(&self, path: &EntryPath) -> bool {
        self.verdict_by_name(path, CandidateKind::Directory) == Verdict::Exclude
    }

    fn verdict_by_name(&self, path: &EntryPath, kind: CandidateKind) -> Verdict {
        let candidate =
            Candidate { path, kind, mtime: i64::MAX, is_foreign: false, holds: &|_| false };
        self.surveyor
            .selection
            .as_ref()
            .map_or(Verdict::Include, |selection| selection.decide(&candidate))
    }

    /// Returns whether a directory in this one has an entry of that name.
    fn holds(&self, name: &[u8], mark: &[u8]) -> bool {
        let path = [name, b"/", mark].concat();
        match fs::statat(self.directory, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => true,
            // One may list it, but not reach what is in it.
            Err(Errno::ACCESS) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = fs::openat(self.directory, name, flags, fs::Mode::empty());
                opened.is_ok_and(|directory| Names::read(directory.as_fd()).0.contains(mark))
            }
            Err(_) => false,
        }
    }

    /// Returns whether an entry that cannot be asked for is passed over in silence.
    fn is_silent(&self, cause: Errno) -> bool {
        let is_listed =
            self.surveyor.selection.as_ref().is_some_and(|selection| selection.has_list());
        is_listed && (cause == Errno::NOENT || self.leads_nowhere(cause))
    }

    /// Returns whether an entry that cannot be asked for is a link without anything at its end.
    fn leads_nowhere(&self, cause: Errno) -> bool {
        self.surveyor.place.copy_links
            && matches!(cause, Errno::NOENT | Errno::LOOP | Errno::NOTDIR)
    }
}

impl Names {
    /// Reads the names in a directory; those until an error, if one comes.
    fn read(directory: BorrowedFd) -> (Self, rustix::io::Result<()>) {
        let mut buffer = [MaybeUninit::uninit(); 32 << 10];
        let (mut names, mut result) = (Self { bytes: Vec::new(), spans: Vec::new() }, Ok(()));
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => names.push(entry.file_name().to_bytes(), entry.ino()),
                Err(Errno::INTR) => continue,
                Err(cause) => {
                    result = Err(cause);
                    break;
                }
            }
        }
        names.sort();
        (names, result)
    }

    fn sorted<'a>(from: impl Iterator<Item = (&'a [u8], u64)>) -> Self {
        let mut names = Self { bytes: Vec::new(), spans: Vec::new() };
        from.for_each(|(name, inode)| names.push(name, inode));
        names.sort();
        names
    }

    fn push(&mut self, name: &[u8], inode: u64) {
        if name != b"." && name != b".." {
            self.spans.push((self.bytes.len(), name.len(), inode));
            self.bytes.extend_from_slice(name);
            self.bytes.push(0);
        }
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|a, b| bytes[a.0..a.0 + a.1].cmp(&bytes[b.0..b.0 + b.1]));
    }

    fn remove(&mut self, name: &[u8]) {
        let bytes = &self.bytes;
        self.spans.retain(|&(start, length, _)| bytes[start..start + length] != *name);
    }

    fn len(&self) -> usize {
        self.spans.len()
    }

    fn get(&self, index: usize) -> &CStr {
        let (start, length, _) = self.spans[index];
        CStr::from_bytes_with_nul(&self.bytes[start..=start + length]).unwrap_or_default()
    }

    fn contains(&self, name: &[u8]) -> bool {
        (0..self.len()).any(|index| self.get(index).to_bytes() == name)
    }
}

/// Asks for entries of a directory; returns the answers in the order of the names.
///
/// Asks in the order of inode numbers: a disk that turns then reads its table of inodes forwards.
fn stats<'a>(
    directory: BorrowedFd,
    copy_links: bool,
    names: &'a Names,
    range: std::ops::Range<usize>,
) -> impl Iterator<Item = (&'a CStr, rustix::io::Result<Stat>)> + use<'a> {
    let flags = if copy_links { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let mut order: Vec<usize> = range.clone().collect();
    order.sort_unstable_by_key(|&index| names.spans[index].2);
    let mut answers = vec![Err(Errno::NOENT); range.len()];
    for index in order {
        answers[index - range.start] = fs::statat(directory, names.get(index), flags);
    }
    range.map(|index| names.get(index)).zip(answers)
}

fn failure(path: EntryPath, operation: Operation, cause: io::Error) -> Item {
    Item::Failed(Failure { path, operation, cause })
}
