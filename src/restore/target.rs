//! [`Target`]: the directory that is written, and the only way to reach anything in it.

use super::{Error, RestoreOptions};
use crate::accounts::Accounts;
use crate::catalog::VersionId;
use crate::contents::{self, Incoming};
use crate::model::{Entry, EntryKind, EntryPath};
use crate::monitor::{Event, Level, Monitor};
use parking_lot::Mutex;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Directories are made with this mode, and get their own in the last round.
const WHILE_OPEN: u32 = 0o700;
/// Rights that are good for any owner.
const WITHOUT_OWNER: u16 = 0o1777;

/// Where a restore writes to.
pub struct Target<'a> {
    /// The directory that everything is below.
    top: OwnedFd,
    path: PathBuf,
    /// The path in the snapshot that becomes the target.
    base: EntryPath,
    /// Name in `top` of what stands at `base`; `None` if that is `top` itself.
    name: Option<Vec<u8>>,
    accounts: &'a Accounts,
    monitor: &'a dyn Monitor,
    /// Paths below the base, and what they become.
    renames: &'a [(EntryPath, EntryPath)],
    force: bool,
    ignore_errors: bool,
    set_owner: bool,
    /// New files belong to this user and group by themselves, if no folder or file that is there
    /// already says otherwise.
    own: (u32, u32),
    /// All that is there is new.
    is_new: bool,
    is_root: bool,
    /// Begins the names of temporary files of this run.
    prefix: String,
    next_temporary: AtomicU64,
    unowned: Mutex<Unowned>,
    /// Kinds of metadata that could not be set, with how many entries lack them and one of these,
    /// and why.
    unset: Mutex<BTreeMap<&'static str, (u64, EntryPath, Errno)>>,
    writes_zeros: bool,
    /// Names the temporary files of this run as its own for as long as the lock is held: its name
    /// in `top`.
    lock: Mutex<Option<(String, OwnedFd)>>,
}

/// Entries whose owners could not be set.
#[derive(Default)]
struct Unowned {
    count: u64,
    /// One of them, and why.
    example: Option<(EntryPath, Errno)>,
}

/// A file being written under a temporary name, next to its place.
pub struct Temporary {
    name: String,
    path: EntryPath,
    /// Closed while it waits for older sets.
    file: Option<File>,
    /// Leave zeros out.
    is_sparse: bool,
}

impl<'a> Target<'a> {
    /// Opens the target of a directory, or of a single entry, and makes what is missing on the way
    /// to it.
    pub fn open(
        path: &Path,
        base: &EntryPath,
        is_directory: bool,
        options: &'a RestoreOptions,
        accounts: &'a Accounts,
        monitor: &'a dyn Monitor,
    ) -> Result<Self, Error> {
        let failed = |cause: io::Error| Error::Target { path: path.to_path_buf(), cause };
        let (top, name) = match is_directory {
            true => (path.to_path_buf(), None),
            false => {
                let name = path.file_name().ok_or_else(|| in_the_way(path, NAMES_DIRECTORY))?;
                let parent = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty())
                    .unwrap_or(Path::new("."));
                (parent.to_path_buf(), Some(name.as_bytes().to_vec()))
            }
        };
        if check_free(path, is_directory, options.force)? == Way::EmptyDirectory {
            std::fs::remove_dir(path).map_err(failed)?;
        }
        std::fs::create_dir_all(&top).map_err(failed)?;
        if is_directory && options.force {
            open_up(fs::CWD, top.as_os_str(), OFlags::empty()).map_err(|e| failed(e.into()))?;
        }
        let top =
            fs::open(&top, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| failed(e.into()))?;
        let inherits_group =
            fs::fstat(&top).map_err(|e| failed(e.into()))?.st_mode & libc::S_ISGID != 0;
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let random: [u8; 8] = blake3::hash(
            format!("{:?}{}", std::time::SystemTime::now(), std::process::id()).as_bytes(),
        )
        .as_bytes()[..8]
            .try_into()
            .unwrap_or_default();
        let prefix = format!("{PREFIX}{:016x}", u64::from_le_bytes(random));
        let target = Self {
            lock: Mutex::new(lock(&top, &prefix)),
            top,
            path: path.to_path_buf(),
            base: base.clone(),
            name,
            accounts,
            monitor,
            renames: &options.renames,
            force: options.force,
            ignore_errors: options.ignore_errors,
            set_owner: !options.keep_own_ownership,
            own: (uid.as_raw(), gid.as_raw()),
            is_new: !inherits_group && !options.force,
            is_root: uid.is_root(),
            prefix,
            next_temporary: AtomicU64::new(0),
            unowned: Mutex::default(),
            unset: Mutex::default(),
            writes_zeros: options.writes_zeros,
        };
        target.remove_stale();
        Ok(target)
    }

    /// Removes what killed runs of this user have left, as far as it can: their locks tell, which
    /// nobody holds any more.
    fn remove_stale(&self) {
        let mut locks = Vec::new();
        for (name, _) in entries(&self.top) {
            let is_own = self.lock.lock().as_ref().is_some_and(|(own, _)| own.as_bytes() == name);
            let Some(prefix) =
                name.strip_suffix(LOCK.as_bytes()).filter(|prefix| !is_own && is_prefix(prefix))
            else {
                continue;
            };
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(lock) = fs::openat(&self.top, &name[..], flags, Mode::empty()) else { continue };
            if self.is_own_file(fs::fstat(&lock))
                && fs::flock(&lock, fs::FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                locks.push((prefix.to_vec(), name.clone(), lock));
            }
        }
        if locks.is_empty() {
            return;
        }
        let (mut sink, mut waiting) = (contents::Target::sink(self), vec![EntryPath::root()]);
        while let Some(path) = waiting.pop() {
            let Ok(directory) = sink.directory(&path) else { continue };
            for (name, kind) in entries(directory) {
                let is_directory = kind == FileType::Directory;
                if is_directory && self.name.is_none() {
                    waiting.extend(path.join(&name));
                }
                let is_theirs = |prefix: &[u8]| {
                    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(b"-"))
                };
                let stat = || fs::statat(directory, &name[..], AtFlags::SYMLINK_NOFOLLOW);
                if !is_directory
                    && locks.iter().any(|(prefix, ..)| is_theirs(prefix))
                    && self.is_own_file(stat())
                {
                    let _ = fs::unlinkat(directory, &name[..], AtFlags::empty());
                }
            }
        }
        for (_, name, _) in locks {
            let _ = fs::unlinkat(&self.top, &name[..], AtFlags::empty());
        }
    }

    fn is_own_file(&self, stat: rustix::io::Result<fs::Stat>) -> bool {
        stat.is_ok_and(|stat| {
            stat.st_uid == self.own.0
                && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        })
    }

    /// Removes the lock, when no temporary file is left.
    pub fn release(&self) {
        if let Some((name, _)) = self.lock.lock().take() {
            let _ = fs::unlinkat(&self.top, &name, AtFlags::empty());
        }
    }

    /// Sets rights and times, also where the owner could not be set: but no set-user-ID and
    /// set-group-ID then, which would be another's. What the target cannot hold is noted; a mode
    /// that it refuses is tried without its special bits, and where the sticky bit kept others from
    /// removing what is in a folder, without their right to write. Returns the first error.
    fn set_all(
        &self,
        (path, is_ours): (&EntryPath, bool),
        owned: io::Result<u16>,
        entry: &Entry,
        change: impl Fn(Mode) -> rustix::io::Result<()>,
        touch: impl FnOnce() -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        let mode = entry.mode & *owned.as_ref().unwrap_or(&WITHOUT_OWNER);
        let changed = change(Mode::from_raw_mode(mode.into())).or_else(|errno| {
            if mode & !0o777 != 0 && is_beyond(errno) {
                let safe = if mode & 0o1000 == 0 { 0o777 } else { 0o755 };
                let _ = change(Mode::from_raw_mode((mode & safe).into()));
            }
            self.note_unset("modes", path, is_ours, errno)
        });
        let touched = touch().or_else(|errno| self.note_unset("times", path, is_ours, errno));
        owned?;
        Ok(changed.and(touched)?)
    }

    /// Notes that a kind of metadata is beyond the target; passes other errors on.
    fn note_unset(
        &self,
        kind: &'static str,
        path: &EntryPath,
        is_ours: bool,
        errno: Errno,
    ) -> rustix::io::Result<()> {
        // Of somebody else's folder, the target is not to blame; and what is to be ignored is
        // reported one by one.
        if !is_beyond(errno) || !is_ours || self.ignore_errors {
            return Err(errno);
        }
        let mut unset = self.unset.lock();
        unset.entry(kind).or_insert_with(|| (0, path.clone(), errno)).0 += 1;
        Ok(())
    }

    /// Warns of the metadata that the target could not hold: once for each kind.
    pub fn report_unset(&self) {
        let unset = self.unset.lock();
        for (kind, (count, path, errno)) in &*unset {
            let text = format!(
                "the {kind} of {count} entries could not be set, among them that of '{path}': {errno}; their content is restored: for \
                 the rest, restore to a file system that holds it"
            );
            self.monitor.message(Level::Warning, &text);
        }
    }

    /// Makes an error of a target that cannot be written, being full for example.
    pub fn full(&self, cause: io::Error) -> Error {
        Error::Target { path: self.path.clone(), cause }
    }

    /// Returns where a path of the snapshot goes, relative to what becomes the target. Of several
    /// renames the longest counts.
    fn below(&self, path: &EntryPath) -> io::Result<EntryPath> {
        let below = path.strip_prefix(&self.base).ok_or(Errno::INVAL)?;
        let renames = self.renames.iter().filter(|(old, _)| !old.is_root());
        let renames = renames.filter_map(|(old, new)| Some((old, new, below.strip_prefix(old)?)));
        let Some((_, new, rest)) = renames.max_by_key(|(old, ..)| old.as_bytes().len()) else {
            return Ok(below);
        };
        let renamed = rest.components().try_fold(new.clone(), |path, name| path.join(name));
        renamed.map_err(|_| Errno::INVAL.into())
    }

    /// Passes a failure to set metadata on, or only tells it if errors are to be ignored.
    fn tolerate(&self, path: &EntryPath, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(cause) if self.ignore_errors => {
                let why = format!("cannot set the metadata of '{path}': {cause}");
                self.monitor.event(&Event::Ignored(&why));
                Ok(())
            }
            result => result,
        }
    }

    /// Splits a path of the snapshot into its parent, relative to the top, and its name there;
    /// `None` for the top itself.
    fn split(&self, path: &EntryPath) -> io::Result<Option<(EntryPath, Vec<u8>)>> {
        let below = self.below(path)?;
        Ok(match (&self.name, below.split_last()) {
            (Some(name), None) => Some((EntryPath::root(), name.clone())),
            (None, None) => None,
            (_, Some((_, name))) => Some((below.parent().unwrap_or_default(), name.to_vec())),
        })
    }

    /// Returns whether directories may be there already: because they were before, or since renames
    /// put two into one.
    fn merges(&self) -> bool {
        self.force || !self.renames.is_empty()
    }

    /// Sets the owner if that is wanted and possible; returns which of the rights are meant for
    /// whoever owns it now: not the set-user-ID of another user's program, which would make it one
    /// of ours.
    fn set_owner(
        &self,
        path: &EntryPath,
        entry: &Entry,
        chown: impl FnOnce(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
    ) -> io::Result<u16> {
        const ALL: u16 = 0o7777;
        let numbers = self.accounts.numbers(&entry.owner);
        let is_directory = entry.kind == EntryKind::Directory;
        if !self.set_owner {
            return Ok(if is_directory { ALL } else { self.own_rights(numbers) });
        }
        if self.is_new && self.own == numbers {
            return Ok(ALL);
        }
        match chown(Some(Uid::from_raw(numbers.0)), Some(Gid::from_raw(numbers.1))) {
            // Only root may give files away, and not everywhere: some file systems know no owners,
            // some namespaces not all of them.
            Err(
                errno @ (Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOTSUP | Errno::NOSYS),
            ) => {
                let mut unowned = self.unowned.lock();
                unowned.count += 1;
                unowned.example.get_or_insert_with(|| (path.clone(), errno));
                Ok(if is_directory { WITHOUT_OWNER } else { self.own_rights(numbers) })
            }
            result => Ok(result.map(|()| ALL)?),
        }
    }

    /// Returns which rights of a file of these owners are right for one of ours.
    fn own_rights(&self, (uid, gid): (u32, u32)) -> u16 {
        let as_user = if uid == self.own.0 { 0o4000 } else { 0 };
        let as_group = if gid == self.own.1 { 0o2000 } else { 0 };
        WITHOUT_OWNER | as_user | as_group
    }

    /// Warns root of owners that could not be set; everybody else expects that.
    pub fn report_unowned(&self) {
        let unowned = self.unowned.lock();
        if let Some((path, errno)) = unowned.example.as_ref().filter(|_| self.is_root) {
            let text = format!(
                "the owners of {} entries could not be set, among them that of '{path}': {errno}; they are this user's now, without \
                 their set-user-ID and set-group-ID bits: restore to a place that knows these owners, or give --no-restore-ownership",
                unowned.count
            );
            self.monitor.message(Level::Warning, &text);
        }
    }
}

/// What is in the way of a target.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// Nothing that has to go before.
    Free,
    /// An empty directory, which a single entry replaces.
    EmptyDirectory,
}

/// Refuses what is in the way of the target, unless `force` lets it be overwritten.
pub fn check_free(path: &Path, is_directory: bool, force: bool) -> Result<Way, Error> {
    let failed = |cause: io::Error| Error::Target { path: path.to_path_buf(), cause };
    // A link to a directory is as good as the directory, for a directory.
    let there =
        if is_directory { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
    let is_empty =
        || std::fs::read_dir(path).map(|mut entries| entries.next().is_none()).map_err(failed);
    match there {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Way::Free),
        Err(cause) => Err(failed(cause)),
        Ok(data) if data.is_dir() && is_directory && (force || is_empty()?) => Ok(Way::Free),
        Ok(data) if data.is_dir() && !is_directory && is_empty()? => Ok(Way::EmptyDirectory),
        // A single entry replaces it when it is complete.
        Ok(data) if !data.is_dir() && !is_directory && force => Ok(Way::Free),
        Ok(data) => Err(in_the_way(
            path,
            match (data.is_dir(), is_directory) {
                (true, true) => {
                    "exists and is not an empty directory; give --force to write into it"
                }
                (true, false) => NAMES_DIRECTORY,
                (false, true) => {
                    "is no directory, and a directory is to be restored; name another place"
                }
                (false, false) => "exists; give --force to replace it",
            },
        )),
    }
}

/// Why a single entry cannot be restored to a path.
const NAMES_DIRECTORY: &str =
    "is a directory, and a single entry is to be restored; name a path in it";

fn in_the_way(path: &Path, why: &'static str) -> Error {
    Error::TargetNotEmpty { path: path.to_path_buf(), why }
}

/// A way into the target. Entries come in path order, so it keeps the last directory open, and some
/// of those above it.
pub struct EntrySink<'a> {
    target: &'a Target<'a>,
    /// The directory that was asked for last.
    last: EntryPath,
    /// Directories on the way to it, from the top, each with the length of its path in bytes.
    open: Vec<(usize, OwnedFd)>,
}

impl EntrySink<'_> {
    /// Makes a directory, link, fifo or device.
    pub fn make(&mut self, path: &EntryPath, entry: &Entry) -> io::Result<()> {
        let Some((parent, name)) = self.target.split(path)? else {
            return if entry.kind == EntryKind::Directory {
                Ok(())
            } else {
                Err(Errno::ISDIR.into())
            };
        };
        let force = self.target.force;
        let target = self.target;
        let parent = self.directory(&parent)?;
        let name = c_string(name)?;
        let make = || -> rustix::io::Result<()> {
            match &entry.kind {
                EntryKind::Directory => fs::mkdirat(parent, &name, Mode::from_raw_mode(WHILE_OPEN)),
                EntryKind::Symlink { target } => {
                    fs::symlinkat(OsString::from_vec(target.clone()), parent, &name)
                }
                EntryKind::Fifo => {
                    fs::mknodat(parent, &name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                }
                EntryKind::CharDevice { major, minor } => fs::mknodat(
                    parent,
                    &name,
                    FileType::CharacterDevice,
                    Mode::from_raw_mode(0o600),
                    fs::makedev(*major, *minor),
                ),
                EntryKind::BlockDevice { major, minor } => fs::mknodat(
                    parent,
                    &name,
                    FileType::BlockDevice,
                    Mode::from_raw_mode(0o600),
                    fs::makedev(*major, *minor),
                ),
                EntryKind::File => Ok(()),
            }
        };
        match make() {
            Err(Errno::EXIST) if target.merges() => {
                let there = fs::statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_directory = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
                if is_directory && entry.kind == EntryKind::Directory {
                    // What is written into it must get in; its own mode comes last.
                    return Ok(open_up(parent, &name, OFlags::NOFOLLOW)?);
                }
                if !force {
                    return Err(Errno::EXIST.into());
                }
                fs::unlinkat(
                    parent,
                    &name,
                    if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() },
                )?;
                make()?;
            }
            result => result?,
        }
        if entry.kind == EntryKind::Directory {
            return Ok(());
        }
        let owned = target.set_owner(path, entry, |uid, gid| {
            fs::chownat(parent, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        });
        let change = |mode| {
            if let EntryKind::Symlink { .. } = entry.kind {
                return Ok(());
            }
            // By a handle, since somebody else might put a link in its place meanwhile, in a
            // directory that was there before.
            let made = fs::openat(
                parent,
                &name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            if FileType::from_raw_mode(fs::fstat(&made)?.st_mode) == FileType::Symlink {
                return Err(Errno::LOOP);
            }
            fs::chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), mode)
        };
        let touch = || fs::utimensat(parent, &name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW);
        target.tolerate(path, target.set_all((path, true), owned, entry, change, touch))
    }

    /// Sets the metadata of a directory in which nothing changes any more.
    pub fn finish_directory(&mut self, path: &EntryPath, entry: &Entry) -> io::Result<()> {
        let target = self.target;
        let below = target.below(path)?;
        let directory = self.directory(&below)?;
        let owned = target.set_owner(path, entry, |uid, gid| fs::fchown(directory, uid, gid));
        let touch = || fs::futimens(directory, &times(entry.mtime));
        // The top may have been there before, as an empty folder of somebody else.
        let is_made = !target.force && target.split(path)?.is_some();
        let is_ours = is_made || fs::fstat(directory)?.st_uid == target.own.0;
        target.tolerate(
            path,
            target.set_all(
                (path, is_ours),
                owned,
                entry,
                |mode| fs::fchmod(directory, mode),
                touch,
            ),
        )
    }

    /// Removes a directory that is empty.
    pub fn remove_directory(&mut self, path: &EntryPath) -> io::Result<()> {
        let Some((parent, name)) = self.target.split(path)? else { return Ok(()) };
        Ok(fs::unlinkat(self.directory(&parent)?, c_string(name)?, AtFlags::REMOVEDIR)?)
    }

    fn try_complete(&mut self, temporary: &Temporary, entry: &Entry, size: u64) -> io::Result<()> {
        let target = self.target;
        let (parent, name) = target.split(&temporary.path)?.ok_or(Errno::ISDIR)?;
        if let Some(file) = &temporary.file {
            if temporary.is_sparse {
                // Zeros at the end are holes, too.
                fs::ftruncate(file, size)?;
            }
            let owned =
                target.set_owner(&temporary.path, entry, |uid, gid| fs::fchown(file, uid, gid));
            let touch = || fs::futimens(file, &times(entry.mtime));
            let set = target.set_all(
                (&temporary.path, true),
                owned,
                entry,
                |mode| fs::fchmod(file, mode),
                touch,
            );
            target.tolerate(&temporary.path, set)?;
        }
        let parent = self.directory(&parent)?;
        let name = c_string(name)?;
        if !target.force {
            // Two names that the target takes for one must not both count as delivered.
            match fs::renameat_with(
                parent,
                &temporary.name,
                parent,
                &name,
                fs::RenameFlags::NOREPLACE,
            ) {
                Err(Errno::INVAL | Errno::NOSYS) => {}
                result => return Ok(result?),
            }
        }
        match fs::renameat(parent, &temporary.name, parent, &name) {
            Err(Errno::ISDIR) if target.force => {
                fs::unlinkat(parent, &name, AtFlags::REMOVEDIR)?;
                Ok(fs::renameat(parent, &temporary.name, parent, &name)?)
            }
            result => Ok(result?),
        }
    }

    /// Opens a directory below the top, component by component, following no link: no path can lead
    /// elsewhere. It begins at the deepest directory that is still open, so `n` nested directories
    /// cost some `n log n` steps, up or down.
    fn directory(&mut self, path: &EntryPath) -> io::Result<&OwnedFd> {
        let bytes = path.as_bytes();
        let common =
            bytes.iter().zip(self.last.as_bytes()).take_while(|(new, old)| new == old).count();
        let leads_on = |length| {
            length == 0 || length <= common && bytes.get(length).is_none_or(|&next| next == b'/')
        };
        self.open.truncate(self.open.partition_point(|(length, _)| leads_on(*length)));
        self.last = path.clone();
        let (mut length, mut directory) = match self.open.pop() {
            Some(open) => open,
            None => (0, fs::openat(&self.target.top, ".", DIRECTORY, Mode::empty())?),
        };
        // The way to a new name need not be in the backup.
        let makes = !self.target.renames.is_empty();
        while length < bytes.len() {
            let start = if length == 0 { 0 } else { length + 1 };
            let name = bytes[start..].split(|&byte| byte == b'/').next().unwrap_or_default();
            let below = descend(&directory, name, makes);
            self.keep(length, directory);
            (length, directory) = (start + name.len(), below?);
        }
        self.open.push((length, directory));
        Ok(&self.open[self.open.len() - 1].1)
    }

    /// Keeps a directory open. Of too many, each second one goes, so few are left of those far
    /// above, and many of the nearest.
    fn keep(&mut self, length: usize, directory: OwnedFd) {
        if self.open.len() + 1 >= MOST_OPEN {
            let mut kept = (0..).map(|index| index % 2 == 0);
            self.open.retain(|_| kept.next() == Some(true));
        }
        self.open.push((length, directory));
    }
}

/// What may become a hole: a block of most file systems.
const BLOCK: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Returns the bytes from an offset of a file to the end of its block, as far as they are there.
fn block_at(bytes: &[u8], offset: u64) -> Option<&[u8]> {
    let length = BLOCK - (offset % BLOCK as u64) as usize;
    Some(&bytes[..length.min(bytes.len())]).filter(|block| !block.is_empty())
}

fn is_zero(block: &[u8]) -> bool {
    *block == ZEROS[..block.len()]
}

/// Returns whether an error of setting metadata means that the target has no such thing, or none
/// for this user.
fn is_beyond(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::NOTSUP
            | Errno::NOSYS
            | Errno::RANGE
            | Errno::OVERFLOW
    )
}

/// Begins the names of temporary files, before 16 hexadecimal digits of the run, and a number
/// behind a dash.
const PREFIX: &str = ".dupfs-";
/// Ends the name of a run's lock, behind its digits.
const LOCK: &str = ".lock";

fn is_prefix(name: &[u8]) -> bool {
    let digits = name.strip_prefix(PREFIX.as_bytes()).unwrap_or_default();
    digits.len() == 16 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Makes and holds the lock of a run. Without it, all goes on as well, but nobody will know what is
/// left by it.
fn lock(top: &OwnedFd, prefix: &str) -> Option<(String, OwnedFd)> {
    let name = format!("{prefix}{LOCK}");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = fs::openat(top, &name, flags, Mode::from_raw_mode(0o600)).ok()?;
    // Another run that finds it just now takes it for one of a killed run, and removes it: nothing
    // is lost by that.
    let _ = fs::flock(&lock, fs::FlockOperation::NonBlockingLockExclusive);
    Some((name, lock))
}

/// Returns the names in a directory, and what they are, as far as it can be read.
fn entries(directory: &OwnedFd) -> Vec<(Vec<u8>, FileType)> {
    let Ok(entries) = fs::Dir::read_from(directory) else { return Vec::new() };
    let named = entries
        .filter_map(Result::ok)
        .map(|entry| (entry.file_name().to_bytes().to_vec(), entry.file_type()));
    let named = named.filter(|(name, _)| !matches!(&name[..], b"." | b".."));
    let known = named.map(|(name, kind)| match kind {
        FileType::Unknown => {
            let stat = fs::statat(directory, &name[..], AtFlags::SYMLINK_NOFOLLOW);
            (name, stat.map_or(kind, |stat| FileType::from_raw_mode(stat.st_mode)))
        }
        _ => (name, kind),
    });
    known.collect()
}

/// Lets its owner, if that is us, into a directory that is there already.
fn open_up<P: rustix::path::Arg>(
    parent: impl std::os::fd::AsFd,
    name: P,
    flags: OFlags,
) -> rustix::io::Result<()> {
    let directory = fs::openat(
        parent,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | flags,
        Mode::empty(),
    )?;
    let there = fs::fstat(&directory)?;
    let user = rustix::process::geteuid();
    if there.st_mode & WHILE_OPEN != WHILE_OPEN && there.st_uid == user.as_raw() && !user.is_root()
    {
        let mode = Mode::from_raw_mode(there.st_mode | WHILE_OPEN);
        // By the handle: a link may have taken the directory's place. Where it does not work, what
        // is written there will tell.
        let _ = fs::chmod(format!("/proc/self/fd/{}", directory.as_raw_fd()), mode);
    }
    Ok(())
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Directories that one way into the target keeps open, at most.
const MOST_OPEN: usize = 16;

/// Opens a directory in another, and makes it if it is missing and that is asked for.
fn descend(parent: &OwnedFd, name: &[u8], makes: bool) -> io::Result<OwnedFd> {
    #[cfg(test)]
    tests::OPENED.set(tests::OPENED.get() + 1);
    let name = c_string(name.to_vec())?;
    let open = || fs::openat(parent, &name, DIRECTORY, Mode::empty());
    Ok(match open() {
        Err(Errno::NOENT) if makes => {
            match fs::mkdirat(parent, &name, Mode::from_raw_mode(0o777)) {
                // Another thread may have been faster.
                Ok(()) | Err(Errno::EXIST) => open()?,
                Err(errno) => return Err(errno.into()),
            }
        }
        opened => opened?,
    })
}

fn c_string(name: Vec<u8>) -> io::Result<CString> {
    CString::new(name).map_err(|_| Errno::INVAL.into())
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

impl contents::Target for Target<'_> {
    type File = Temporary;
    type Sink<'p>
        = EntrySink<'p>
    where
        Self: 'p;

    fn sink(&self) -> EntrySink<'_> {
        EntrySink { target: self, last: EntryPath::root(), open: Vec::new() }
    }
}

impl contents::FileSink for EntrySink<'_> {
    type File = Temporary;

    fn begin(&mut self, path: &EntryPath, _: VersionId) -> io::Result<Temporary> {
        let target = self.target;
        let (parent, _) = target.split(path)?.ok_or(Errno::ISDIR)?;
        let name = format!(
            "{}-{:x}",
            target.prefix,
            target.next_temporary.fetch_add(1, Ordering::Relaxed)
        );
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(self.directory(&parent)?, &name, flags, Mode::from_raw_mode(0o600))?;
        Ok(Temporary {
            name,
            path: path.clone(),
            file: Some(file.into()),
            is_sparse: !target.writes_zeros,
        })
    }

    fn resume(&mut self, temporary: &mut Temporary) -> io::Result<()> {
        if temporary.file.is_none() {
            let (parent, _) = self.target.split(&temporary.path)?.ok_or(Errno::ISDIR)?;
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            temporary.file = Some(
                fs::openat(self.directory(&parent)?, &temporary.name, flags, Mode::empty())?.into(),
            );
        }
        Ok(())
    }

    fn complete(&mut self, mut temporary: Temporary, entry: &Entry, size: u64) -> io::Result<()> {
        self.resume(&mut temporary)?;
        let result = self.try_complete(&temporary, entry, size);
        if result.is_err() {
            self.discard(temporary);
        }
        result
    }

    fn discard(&mut self, temporary: Temporary) {
        let Ok(Some((parent, _))) = self.target.split(&temporary.path) else { return };
        if let Ok(parent) = self.directory(&parent) {
            // It is reported anyway that the file is not there; a leftover has a name that says
            // what it is.
            let _ = fs::unlinkat(parent, &temporary.name, AtFlags::empty());
        }
    }

    fn remove(&mut self, path: &EntryPath) -> io::Result<()> {
        let (parent, name) = self.target.split(path)?.ok_or(Errno::ISDIR)?;
        Ok(fs::unlinkat(self.directory(&parent)?, c_string(name)?, AtFlags::empty())?)
    }
}

impl Incoming for Temporary {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(Errno::BADF.into()) };
        if !self.is_sparse {
            return file.write_all_at(bytes, offset);
        }
        // The file is new, so what is not written is zero.
        let (mut rest, mut at) = (bytes, offset);
        while !rest.is_empty() {
            let (mut zeros, mut data) = (0, 0);
            while let Some(block) =
                block_at(&rest[zeros..], at + zeros as u64).filter(|block| is_zero(block))
            {
                zeros += block.len();
            }
            while let Some(block) = block_at(&rest[zeros + data..], at + (zeros + data) as u64)
                .filter(|block| !is_zero(block))
            {
                data += block.len();
            }
            file.write_all_at(&rest[zeros..zeros + data], at + zeros as u64)?;
            rest = &rest[zeros + data..];
            at += (zeros + data) as u64;
        }
        Ok(())
    }

    fn path(&self) -> &EntryPath {
        &self.path
    }

    fn close(&mut self) {
        self.file = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Owner;
    use crate::monitor::Silent;
    use proptest::prelude::*;
    use std::cell::Cell;

    thread_local! {
        /// Directories that were opened on the way to others.
        pub static OPENED: Cell<u64> = const { Cell::new(0) };
    }

    fn directory() -> Entry {
        let owner = Owner { uid: 0, gid: 0, user: Vec::new(), group: Vec::new() };
        Entry { kind: EntryKind::Directory, mode: 0o755, owner, mtime: 1 }
    }

    fn in_target(test: impl FnOnce(&Path, &mut EntrySink<'_>)) {
        let (space, options, accounts) =
            (tempfile::tempdir().unwrap(), RestoreOptions::default(), Accounts::new(true));
        let target =
            Target::open(space.path(), &EntryPath::root(), true, &options, &accounts, &Silent)
                .unwrap();
        test(
            space.path(),
            &mut EntrySink { target: &target, last: EntryPath::root(), open: Vec::new() },
        );
    }

    #[test]
    fn nested_directories_cost_a_few_steps_each() {
        const DEPTH: usize = 400;
        in_target(|_, sink| {
            let paths: Vec<_> = (1..=DEPTH)
                .map(|depth| EntryPath::parse(vec!["d"; depth].join("/").as_bytes()).unwrap())
                .collect();
            paths.iter().for_each(|path| sink.make(path, &directory()).unwrap());
            assert!(OPENED.take() <= DEPTH as u64);
            paths.iter().rev().for_each(|path| sink.finish_directory(path, &directory()).unwrap());
            assert!((DEPTH as u64..10 * DEPTH as u64).contains(&OPENED.get()), "{}", OPENED.get());
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        /// Whatever was open before, the directory that is opened is the one at the path.
        #[test]
        fn any_directory_is_found_from_any_other(walk in prop::collection::vec("[ab](/[ab]){0,40}", 1..20)) {
            in_target(|space, sink| {
                for path in walk {
                    std::fs::create_dir_all(space.join(&path)).unwrap();
                    let expected = fs::stat(space.join(&path)).unwrap();
                    let found = fs::fstat(sink.directory(&EntryPath::parse(path.as_bytes()).unwrap()).unwrap()).unwrap();
                    assert_eq!((found.st_dev, found.st_ino), (expected.st_dev, expected.st_ino), "{path}");
                    assert!(sink.open.len() <= MOST_OPEN);
                }
            });
        }
    }

    #[test]
    fn a_link_on_the_way_is_not_followed() {
        in_target(|space, sink| {
            std::fs::create_dir_all(space.join("a/b")).unwrap();
            std::os::unix::fs::symlink("a", space.join("link")).unwrap();
            for (path, is_found) in [
                ("a/b", true),
                ("link/b", false),
                ("a/b", true),
                ("a/c", false),
                ("a/b/c", false),
                ("a", true),
            ] {
                assert_eq!(
                    sink.directory(&EntryPath::parse(path.as_bytes()).unwrap()).is_ok(),
                    is_found,
                    "{path}"
                );
            }
        });
    }
}
