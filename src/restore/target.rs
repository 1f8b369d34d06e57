//! [`Target`]: the directory that is written, and the only way to reach anything in it.

use super::{Error, RestoreOptions};
use crate::accounts::Accounts;
use crate::catalog::VersionId;
use crate::contents::{self, Incoming};
use crate::model::{Entry, EntryKind, EntryPath};
use crate::monitor::{Level, Monitor};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
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
    /// New files belong to this user and group by themselves, if no folder or file that is there already says otherwise.
    own: (u32, u32),
    /// All that is there is new.
    is_new: bool,
    is_root: bool,
    /// Begins the names of temporary files of this run.
    prefix: String,
    next_temporary: AtomicU64,
    unowned: Mutex<Unowned>,
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
}

impl<'a> Target<'a> {
    /// Opens the target of a directory, or of a single entry, and makes what is missing on the way to it.
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
                let name = path.file_name().ok_or_else(|| Error::TargetNotEmpty(path.to_path_buf()))?;
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                (parent.to_path_buf(), Some(name.as_bytes().to_vec()))
            }
        };
        if check_free(path, is_directory, options.force)? == Way::EmptyDirectory {
            std::fs::remove_dir(path).map_err(failed)?;
        }
        std::fs::create_dir_all(&top).map_err(failed)?;
        let top =
            fs::open(&top, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| failed(e.into()))?;
        let inherits_group = fs::fstat(&top).map_err(|e| failed(e.into()))?.st_mode & libc::S_ISGID != 0;
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let random: [u8; 8] = blake3::hash(format!("{:?}{}", std::time::SystemTime::now(), std::process::id()).as_bytes())
            .as_bytes()[..8]
            .try_into()
            .unwrap_or_default();
        Ok(Self {
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
            prefix: format!(".dupfs-{:016x}", u64::from_le_bytes(random)),
            next_temporary: AtomicU64::new(0),
            unowned: Mutex::default(),
        })
    }

    /// Makes an error of a target that cannot be written, being full for example.
    pub fn full(&self, cause: io::Error) -> Error {
        Error::Target { path: self.path.clone(), cause }
    }

    /// Returns where a path of the snapshot goes, relative to what becomes the target. Of several renames the longest counts.
    fn below(&self, path: &EntryPath) -> io::Result<EntryPath> {
        let below = path.strip_prefix(&self.base).ok_or(Errno::INVAL)?;
        let renames = self.renames.iter().filter(|(old, _)| !old.is_root());
        let renames = renames.filter_map(|(old, new)| Some((old, new, below.strip_prefix(old)?)));
        let Some((_, new, rest)) = renames.max_by_key(|(old, ..)| old.as_bytes().len()) else { return Ok(below) };
        let renamed = rest.components().try_fold(new.clone(), |path, name| path.join(name));
        renamed.map_err(|_| Errno::INVAL.into())
    }

    /// Passes a failure to set metadata on, or only tells it if errors are to be ignored.
    fn tolerate(&self, path: &EntryPath, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(cause) if self.ignore_errors => {
                let text = format!("{}cannot set the metadata of '{path}': {cause}", super::IGNORED);
                self.monitor.message(Level::Warning, &text);
                Ok(())
            }
            result => result,
        }
    }

    /// Splits a path of the snapshot into its parent, relative to the top, and its name there; `None` for the top itself.
    fn split(&self, path: &EntryPath) -> io::Result<Option<(EntryPath, Vec<u8>)>> {
        let below = self.below(path)?;
        Ok(match (&self.name, below.split_last()) {
            (Some(name), None) => Some((EntryPath::root(), name.clone())),
            (None, None) => None,
            (_, Some((_, name))) => Some((below.parent().unwrap_or_default(), name.to_vec())),
        })
    }

    /// Tells whether directories may be there already: because they were before, or since renames put two into one.
    fn merges(&self) -> bool {
        self.force || !self.renames.is_empty()
    }

    /// Sets the owner if that is wanted and possible; returns which of the rights are meant for whoever owns it now: not the set-user-ID of
    /// another user's program, which would make it one of ours.
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
            // Only root may give files away, and not everywhere: some file systems know no owners, some namespaces not all of them.
            Err(errno @ (Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOTSUP | Errno::NOSYS)) => {
                let mut unowned = self.unowned.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
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
    pub fn tell_unowned(&self) {
        let unowned = self.unowned.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
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
    let there = if is_directory { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
    let is_empty = || std::fs::read_dir(path).map(|mut entries| entries.next().is_none()).map_err(failed);
    match there {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Way::Free),
        Err(cause) => Err(failed(cause)),
        Ok(data) if data.is_dir() && is_directory && (force || is_empty()?) => Ok(Way::Free),
        Ok(data) if data.is_dir() && !is_directory && is_empty()? => Ok(Way::EmptyDirectory),
        // A single entry replaces it when it is complete.
        Ok(data) if !data.is_dir() && !is_directory && force => Ok(Way::Free),
        Ok(_) => Err(Error::TargetNotEmpty(path.to_path_buf())),
    }
}

/// A way into the target. It keeps the last directory open, since entries come in path order.
pub struct Place<'a> {
    target: &'a Target<'a>,
    last: Option<(EntryPath, OwnedFd)>,
}

impl Place<'_> {
    /// Makes a directory, link, fifo or device.
    pub fn make(&mut self, path: &EntryPath, entry: &Entry) -> io::Result<()> {
        let Some((parent, name)) = self.target.split(path)? else {
            return if entry.kind == EntryKind::Directory { Ok(()) } else { Err(Errno::ISDIR.into()) };
        };
        let force = self.target.force;
        let target = self.target;
        let parent = self.directory(&parent)?;
        let name = c_string(name)?;
        let make = || -> rustix::io::Result<()> {
            match &entry.kind {
                EntryKind::Directory => fs::mkdirat(parent, &name, Mode::from_raw_mode(WHILE_OPEN)),
                EntryKind::Symlink { target } => fs::symlinkat(OsString::from_vec(target.clone()), parent, &name),
                EntryKind::Fifo => fs::mknodat(parent, &name, FileType::Fifo, Mode::from_raw_mode(0o600), 0),
                EntryKind::CharDevice { major, minor } => {
                    fs::mknodat(parent, &name, FileType::CharacterDevice, Mode::from_raw_mode(0o600), fs::makedev(*major, *minor))
                }
                EntryKind::BlockDevice { major, minor } => {
                    fs::mknodat(parent, &name, FileType::BlockDevice, Mode::from_raw_mode(0o600), fs::makedev(*major, *minor))
                }
                EntryKind::File => Ok(()),
            }
        };
        match make() {
            Err(Errno::EXIST) if target.merges() => {
                let there = fs::statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_directory = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
                if is_directory && entry.kind == EntryKind::Directory {
                    return Ok(());
                }
                if !force {
                    return Err(Errno::EXIST.into());
                }
                fs::unlinkat(parent, &name, if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() })?;
                make()?;
            }
            result => result?,
        }
        if entry.kind == EntryKind::Directory {
            return Ok(());
        }
        let owned = target.set_owner(path, entry, |uid, gid| fs::chownat(parent, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW));
        let change = |mode| {
            if let EntryKind::Symlink { .. } = entry.kind {
                return Ok(());
            }
            // By a handle, since somebody else might put a link in its place meanwhile, in a directory that was there before.
            let made = fs::openat(parent, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            if FileType::from_raw_mode(fs::fstat(&made)?.st_mode) == FileType::Symlink {
                return Err(Errno::LOOP);
            }
            fs::chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), mode)
        };
        let touch = || fs::utimensat(parent, &name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW);
        target.tolerate(path, set_all(owned, entry, change, touch))
    }

    /// Sets the metadata of a directory in which nothing changes any more.
    pub fn finish_directory(&mut self, path: &EntryPath, entry: &Entry) -> io::Result<()> {
        let target = self.target;
        let below = target.below(path)?;
        let directory = self.directory(&below)?;
        let owned = target.set_owner(path, entry, |uid, gid| fs::fchown(directory, uid, gid));
        let touch = || fs::futimens(directory, &times(entry.mtime));
        target.tolerate(path, set_all(owned, entry, |mode| fs::fchmod(directory, mode), touch))
    }

    /// Removes a directory that is empty.
    pub fn remove_directory(&mut self, path: &EntryPath) -> io::Result<()> {
        self.last = None;
        let Some((parent, name)) = self.target.split(path)? else { return Ok(()) };
        Ok(fs::unlinkat(self.directory(&parent)?, c_string(name)?, AtFlags::REMOVEDIR)?)
    }

    fn try_complete(&mut self, temporary: &Temporary, entry: &Entry) -> io::Result<()> {
        let target = self.target;
        let (parent, name) = target.split(&temporary.path)?.ok_or(Errno::ISDIR)?;
        if let Some(file) = &temporary.file {
            let owned = target.set_owner(&temporary.path, entry, |uid, gid| fs::fchown(file, uid, gid));
            let touch = || fs::futimens(file, &times(entry.mtime));
            target.tolerate(&temporary.path, set_all(owned, entry, |mode| fs::fchmod(file, mode), touch))?;
        }
        let parent = self.directory(&parent)?;
        let name = c_string(name)?;
        if !target.force {
            // Two names that the target takes for one must not both count as delivered.
            match fs::renameat_with(parent, &temporary.name, parent, &name, fs::RenameFlags::NOREPLACE) {
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

    /// Opens a directory below the top, component by component, following no link: no path can lead elsewhere.
    fn directory(&mut self, path: &EntryPath) -> io::Result<&OwnedFd> {
        let known = self.last.take();
        // The way to a new name need not be in the backup.
        let makes = !self.target.renames.is_empty();
        let opened = match known {
            Some((last, directory)) if last == *path => directory,
            Some((last, directory)) if !last.is_root() && path.starts_with(&last) => {
                descend(directory, &path.strip_prefix(&last).unwrap_or_default(), makes)?
            }
            _ => descend(fs::openat(&self.target.top, ".", DIRECTORY, Mode::empty())?, path, makes)?,
        };
        Ok(&self.last.insert((path.clone(), opened)).1)
    }
}

/// Sets rights and times, also where the owner could not be set: but no set-user-ID and set-group-ID then, which would be another's.
/// Returns the first error.
fn set_all(
    owned: io::Result<u16>,
    entry: &Entry,
    change: impl FnOnce(Mode) -> rustix::io::Result<()>,
    touch: impl FnOnce() -> rustix::io::Result<()>,
) -> io::Result<()> {
    let mode = entry.mode & *owned.as_ref().unwrap_or(&WITHOUT_OWNER);
    let (changed, touched) = (change(Mode::from_raw_mode(mode.into())), touch());
    owned?;
    Ok(changed.and(touched)?)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory below another, and makes what is missing on the way if asked to.
fn descend(mut directory: OwnedFd, path: &EntryPath, makes: bool) -> io::Result<OwnedFd> {
    for name in path.components() {
        let name = c_string(name.to_vec())?;
        let open = || fs::openat(directory.as_fd(), &name, DIRECTORY, Mode::empty());
        directory = match open() {
            Err(Errno::NOENT) if makes => match fs::mkdirat(&directory, &name, Mode::from_raw_mode(0o777)) {
                // Another thread may have been faster.
                Ok(()) | Err(Errno::EXIST) => open()?,
                Err(errno) => return Err(errno.into()),
            },
            opened => opened?,
        };
    }
    Ok(directory)
}

fn c_string(name: Vec<u8>) -> io::Result<CString> {
    CString::new(name).map_err(|_| Errno::INVAL.into())
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

impl contents::Target for Target<'_> {
    type File = Temporary;
    type Place<'p>
        = Place<'p>
    where
        Self: 'p;

    fn place(&self) -> Place<'_> {
        Place { target: self, last: None }
    }
}

impl contents::Place for Place<'_> {
    type File = Temporary;

    fn begin(&mut self, path: &EntryPath, _: VersionId) -> io::Result<Temporary> {
        let target = self.target;
        let (parent, _) = target.split(path)?.ok_or(Errno::ISDIR)?;
        let name = format!("{}-{:x}", target.prefix, target.next_temporary.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(self.directory(&parent)?, &name, flags, Mode::from_raw_mode(0o600))?;
        Ok(Temporary { name, path: path.clone(), file: Some(file.into()) })
    }

    fn resume(&mut self, temporary: &mut Temporary) -> io::Result<()> {
        if temporary.file.is_none() {
            let (parent, _) = self.target.split(&temporary.path)?.ok_or(Errno::ISDIR)?;
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            temporary.file = Some(fs::openat(self.directory(&parent)?, &temporary.name, flags, Mode::empty())?.into());
        }
        Ok(())
    }

    fn complete(&mut self, mut temporary: Temporary, entry: &Entry, _: u64) -> io::Result<()> {
        self.resume(&mut temporary)?;
        let result = self.try_complete(&temporary, entry);
        if result.is_err() {
            self.discard(temporary);
        }
        result
    }

    fn discard(&mut self, temporary: Temporary) {
        let Ok(Some((parent, _))) = self.target.split(&temporary.path) else { return };
        if let Ok(parent) = self.directory(&parent) {
            // It is reported anyway that the file is not there; a leftover has a name that says what it is.
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
        match &self.file {
            Some(file) => file.write_all_at(bytes, offset),
            None => Err(Errno::BADF.into()),
        }
    }

    fn path(&self) -> &EntryPath {
        &self.path
    }

    fn close(&mut self) {
        self.file = None;
    }
}
