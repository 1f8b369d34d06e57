//! [`SftpStorage`]: a folder that an SFTP server shows, reached by the user's own `ssh` or `rclone`.
//!
//! | file | what it holds |
//! |---|---|
//! | `packets` | the protocol's bytes |
//! | `wire` | requests and answers over the pipes of a child |
//! | `ssh`, `rclone` | the child |
//! | `transfer` | files read and written by many requests at once |
//!
//! One child serves all threads. It is started with the first request, and once more with the first
//! after it has ended: whether and when to try again is up to the caller. Open files are kept, so a
//! read of a file that was read before is one request.
//!
//! A file is written under a name that no duplicity takes for its own, flushed to the server's disk
//! where the server can, and looked at: only with the right size is it renamed over the final name,
//! so that nothing short ever stands there. The protocol's times are whole seconds, so a file is given the time
//! at which its staged bytes were written; together with the size it is the file's stamp.
//!
//! rclone's server is a relay: it passes on to another service what it is asked for. What follows
//! from that stands in `rclone`.

mod packets;
#[cfg(feature = "rclone")]
mod rclone;
mod ssh;
mod transfer;
mod wire;

pub use ssh::answer_ssh;
#[cfg(feature = "rsync")]
pub use wire::printable;

use super::local::unfinished_of;
use super::stamp_of;
use crate::storage::{
    Abilities, ByteStream, Error, ErrorKind, Listed, Settings, Staged, StagedWriter, Storage, Url,
};
use lru::LruCache;
use packets::{Attributes, Reply, Type, kind, status};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use transfer::{Handle, Stream};
use wire::{Failure, Pending, Wire, senseless};
use zeroize::Zeroizing;

/// Open files that are kept.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(32).unwrap();
/// Files transferred at once where nobody says how many.
const TRANSFERS: usize = 4;
/// Requests for one file each that are under way at once.
const WINDOW: usize = 64;
/// Requests for more of a folder that are under way at once.
const LIST_WINDOW: usize = 8;

/// A folder behind an SFTP server.
pub struct SftpStorage {
    url: Url,
    settings: Settings,
    way: Way,
    /// As the server spells it.
    folder: Vec<u8>,
    /// Keeps the unfinished files of two writers apart.
    writer: u64,
    password: Mutex<Option<Zeroizing<String>>>,
    session: Mutex<Option<Arc<Session>>>,
}

/// How the server is reached.
enum Way {
    Ssh,
    /// By a relay, which shows a remote's folder as its root.
    #[cfg(feature = "rclone")]
    Rclone(std::ffi::OsString),
}

/// A connection, and the files that are open over it.
struct Session {
    wire: Arc<Wire>,
    open: Mutex<LruCache<Listed, Arc<Handle>>>,
}

impl SftpStorage {
    /// Names a folder; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] where the URL names no host.
    pub fn new(url: &Url, settings: Settings) -> Result<Self, Error> {
        if url.host().is_none() {
            return Err(url.bad("the URL names no host; write sftp://user@host/folder"));
        }
        // One slash is the host's, and what follows is relative to the login folder, unless it is
        // another slash.
        let path = url.path().as_bytes();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        let folder = match &path[..end] {
            b"" if path.is_empty() => b".".to_vec(),
            b"" => b"/".to_vec(),
            folder => folder.to_vec(),
        };
        Ok(Self::by(Way::Ssh, url, settings, folder))
    }

    /// Names a folder of a remote of rclone; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] where the URL names no remote, or holds a secret that
    /// rclone could not be given unseen.
    #[cfg(feature = "rclone")]
    pub fn by_rclone(url: &Url, settings: Settings) -> Result<Self, Error> {
        Ok(Self::by(Way::Rclone(rclone::remote(url)?), url, settings, Vec::new()))
    }

    fn by(way: Way, url: &Url, settings: Settings, folder: Vec<u8>) -> Self {
        let writer = RandomState::new().hash_one(std::process::id());
        let (password, session) = (Mutex::default(), Mutex::default());
        Self { url: url.clone(), settings, way, folder, writer, password, session }
    }

    fn path(&self, name: &str) -> Vec<u8> {
        [&self.folder, &b"/"[..], name.as_bytes()].concat()
    }

    fn place(&self, name: &str) -> String {
        match name {
            "" => self.location(),
            _ => format!("{}/{name}", self.location().trim_end_matches('/')),
        }
    }

    fn error(&self, operation: &'static str, name: &str, failure: Failure) -> Error {
        Error { operation, place: self.place(name), kind: failure.kind, cause: failure.cause }
    }

    /// Returns the connection, or makes one. Who else needs it waits meanwhile.
    fn session(&self) -> Result<Arc<Session>, Error> {
        let mut kept = self.session.lock();
        if let Some(session) = kept.as_ref().filter(|session| !session.wire.has_ended()) {
            return Ok(session.clone());
        }
        *kept = None;
        let (command, guide) = match &self.way {
            Way::Ssh => {
                let password = self.password()?;
                (ssh::command(&self.url, &self.settings, password.as_ref()), ssh::GUIDE)
            }
            #[cfg(feature = "rclone")]
            Way::Rclone(remote) => (rclone::server(remote, &self.settings), rclone::GUIDE),
        };
        let wire = Wire::start(command, self.settings.timeout, guide)
            .map_err(|failure| self.error("reach", "", failure))?;
        let session =
            Arc::new(Session { wire: Arc::new(wire), open: Mutex::new(LruCache::new(OPEN_FILES)) });
        Ok(kept.insert(session).clone())
    }

    /// Returns the password, asked for once.
    fn password(&self) -> Result<Option<Zeroizing<String>>, Error> {
        if let Some(password) = self.url.password() {
            return Ok(Some(password.clone()));
        }
        let mut kept = self.password.lock();
        if kept.is_none() {
            let host = self.url.host().unwrap_or_default();
            let login = match self.url.user() {
                Some(user) => format!("{user}@{host}"),
                None => host.to_string(),
            };
            let failed = |error: std::io::Error| {
                let cause = format!("cannot ask for the password: {error}");
                self.error("reach", "", Failure::new(ErrorKind::Denied, cause))
            };
            *kept = if self.settings.ssh_askpass {
                self.settings.password(&login).map_err(failed)?
            } else {
                self.settings.set_password()
            };
        }
        Ok(kept.clone())
    }

    /// Does something over the connection. A relay may not know what has changed since: it is asked
    /// no more once it has reported a failure, and another one is asked for what is missing.
    fn over<T>(
        &self,
        operation: &'static str,
        name: &str,
        mut work: impl FnMut(&Session) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let session = self.session()?;
        let mut result = work(&session);
        if session.wire.guide.is_relay
            && let Err(failure) = &result
            && failure.status.is_some()
        {
            self.leave(&session);
            if failure.status == Some(status::NO_SUCH_FILE) {
                result = work(&*self.session()?);
            }
        }
        result.map_err(|failure| self.error(operation, name, failure))
    }

    /// Has whoever needs a connection from now on take another one.
    fn leave(&self, session: &Arc<Session>) {
        let mut kept = self.session.lock();
        *kept = kept.take().filter(|kept| !Arc::ptr_eq(kept, session));
    }

    /// Begins with a relay that remembers nothing.
    fn renew(&self) {
        if !matches!(self.way, Way::Ssh) {
            *self.session.lock() = None;
        }
    }

    /// Removes files, many at once.
    fn remove_all(&self, names: &[&str]) -> Result<Vec<Result<(), Failure>>, Error> {
        let session = self.session()?;
        let replies = each(&session.wire, names, |name| {
            session.forget(name);
            let path = self.path(name);
            session.wire.begin(kind::REMOVE, |request| request.bytes(&path))
        });
        let results: Vec<_> = replies.into_iter().map(|reply| reply.and_then(wire::done)).collect();
        if session.wire.guide.is_relay && results.iter().any(Result::is_err) {
            self.leave(&session);
        }
        Ok(results)
    }

    fn upload(&self, session: &Session, staged: &Staged) -> Result<Listed, Failure> {
        let wire = &session.wire;
        let unfinished_name = unfinished_of(staged.name(), self.writer);
        let (path, unfinished) = (self.path(staged.name()), self.path(&unfinished_name));
        let full = |failure: Failure| match &self.way {
            Way::Ssh => self.explain_full(session, staged.size(), failure),
            #[cfg(feature = "rclone")]
            Way::Rclone(_) => rclone::explain_file(&wire.said(), &unfinished_name, failure),
        };
        let handle = match Handle::create(wire, &unfinished) {
            // Left by an earlier try, or there is no room for it.
            Err(failure) if failure.status == Some(status::FAILURE) => {
                remove(wire, &unfinished).map_err(|_| full(failure))?;
                Handle::create(wire, &unfinished)?
            }
            handle => handle?,
        };
        let store = || -> Result<Listed, Failure> {
            handle.write_all(staged, &self.settings.upload).map_err(full)?;
            if !wire.guide.is_relay {
                set_time(wire, &handle, staged)?;
            }
            handle.flush().and_then(|()| handle.close()).map_err(full)?;
            let stored = attributes(wire, &unfinished)?;
            let listed = listed(wire, staged.name().into(), stored).ok_or_else(senseless)?;
            if listed.size != staged.size() {
                let cause = format!(
                    "the server has {} bytes of it instead of {}",
                    listed.size,
                    staged.size()
                );
                return Err(Failure::new(ErrorKind::Other, cause));
            }
            rename(wire, &unfinished, &path)?;
            Ok(listed)
        };
        let stored = store();
        if stored.is_err() && !wire.has_ended() {
            let _ = remove(wire, &unfinished);
        }
        session.forget(staged.name());
        stored
    }

    /// The protocol has no code for a disk that is full: the server is asked for the room that is
    /// left.
    fn explain_full(&self, session: &Session, size: u64, failure: Failure) -> Failure {
        const STATVFS: &[u8] = b"statvfs@openssh.com";
        if failure.status != Some(status::FAILURE) || !session.wire.offers(STATVFS) {
            return failure;
        }
        let asked =
            session.wire.ask(kind::EXTENDED, |request| request.bytes(STATVFS).bytes(&self.folder));
        let Ok(Reply::Extended(numbers)) = asked else { return failure };
        // Block, fragment, then in fragments: all, free, free for the user.
        let mut fields = packets::Fields(&numbers);
        let numbers: Vec<_> = std::iter::from_fn(|| fields.long()).take(5).collect();
        let &[_, fragment, _, _, free] = &numbers[..] else { return failure };
        if fragment.saturating_mul(free) >= size {
            return failure;
        }
        Failure {
            kind: ErrorKind::NoSpace,
            cause: "no room is left on the server".into(),
            ..failure
        }
    }

    fn make_folders(&self, wire: &Wire) -> Result<(), Failure> {
        let is_folder = || match attributes(wire, &self.folder) {
            Ok(found) if matches!(found.kind(), Type::Folder | Type::Unknown) => Ok(()),
            Ok(_) => {
                Err(Failure::new(ErrorKind::NotFound, "something else than a folder is there"))
            }
            Err(failure) => Err(failure),
        };
        match is_folder() {
            Err(failure) if failure.status == Some(status::NO_SUCH_FILE) => {}
            result => return result,
        }
        let inner = self.folder.iter().enumerate().filter(|(at, byte)| *at > 0 && **byte == b'/');
        let ends = inner.map(|(at, _)| at).chain([self.folder.len()]);
        // Those that are there already cannot be made: what counts is that the last is there.
        let failures: Vec<_> =
            ends.filter_map(|end| make_folder(wire, &self.folder[..end]).err()).collect();
        let denied = failures.iter().find(|failure| failure.kind == ErrorKind::Denied);
        is_folder().map_err(|missing| denied.or(failures.last()).cloned().unwrap_or(missing))
    }
}

impl Session {
    /// Returns an open file, opened now if it was not.
    fn open(&self, path: &[u8], file: &Listed) -> Result<Arc<Handle>, Failure> {
        if let Some(handle) = self.open.lock().get(file) {
            return Ok(handle.clone());
        }
        let handle = Arc::new(Handle::open(&self.wire, path)?);
        // What is pushed out is closed when nobody reads it any more.
        let pushed = self.open.lock().push(file.clone(), handle.clone());
        drop(pushed);
        Ok(handle)
    }

    /// Closes a file whose name leads elsewhere from now on.
    fn forget(&self, name: &str) {
        let mut open = self.open.lock();
        let stale: Vec<_> =
            open.iter().map(|(file, _)| file).filter(|file| file.name == name).cloned().collect();
        stale.iter().for_each(|file| drop(open.pop(file)));
    }
}

/// Explains the end of an ssh from what it has reported: what kind of failure it is, and words for
/// the user.
#[cfg(feature = "rsync")]
pub fn explain_ssh(said: &str) -> (ErrorKind, String) {
    let failure = (ssh::GUIDE.explain)(said, None);
    (failure.kind, failure.cause)
}

/// Takes for done what a server refuses to do; the failures of the line stay.
fn passable(result: Result<(), Failure>) -> Result<(), Failure> {
    result.or_else(|failure| if failure.status.is_some() { Ok(()) } else { Err(failure) })
}

/// Gives a file the time at which its bytes were staged. A server that keeps its own time is as
/// good.
fn set_time(wire: &Wire, handle: &Handle, staged: &Staged) -> Result<(), Failure> {
    let modified = staged.file().metadata().map(|data| data.mtime()).unwrap_or_default();
    let modified = u32::try_from(modified).unwrap_or_default();
    passable(wire.order(kind::FSETSTAT, |request| request.bytes(handle.bytes()).modified(modified)))
}

fn make_folder(wire: &Wire, path: &[u8]) -> Result<(), Failure> {
    wire.order(kind::MKDIR, |request| request.bytes(path).no_attributes())
}

fn remove(wire: &Wire, path: &[u8]) -> Result<(), Failure> {
    wire.order(kind::REMOVE, |request| request.bytes(path))
}

fn rename(wire: &Wire, from: &[u8], to: &[u8]) -> Result<(), Failure> {
    const POSIX: &[u8] = b"posix-rename@openssh.com";
    if wire.offers(POSIX) {
        let fill = |request: packets::Request| request.bytes(POSIX).bytes(from).bytes(to);
        return wire.order(kind::EXTENDED, fill);
    }
    let plain = || wire.order(kind::RENAME, |request| request.bytes(from).bytes(to));
    match plain() {
        // The plain one may go over no file; what is there is a file of the same name that is to be
        // replaced.
        Err(failure) if failure.status == Some(status::FAILURE) => {
            remove(wire, to).map_err(|_| failure)?;
            plain()
        }
        result => result,
    }
}

fn attributes(wire: &Wire, path: &[u8]) -> Result<Attributes, Failure> {
    match wire.ask(kind::STAT, |request| request.bytes(path))? {
        Reply::Attributes(attributes) => Ok(attributes),
        _ => Err(senseless()),
    }
}

/// Lists a file; `None` without a size.
fn listed(wire: &Wire, name: String, attributes: Attributes) -> Option<Listed> {
    let size = attributes.size?;
    let modified = attributes.modified.filter(|_| !wire.guide.is_relay);
    let stamp = modified.map_or(0, |seconds| stamp_of(seconds.into(), size));
    Some(Listed { name, size, stamp })
}

/// Returns whether a name stays in its folder, and can be ours.
fn is_flat(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// Lists a folder: several requests for more of it are under way at once.
fn list(wire: &Arc<Wire>, folder: &[u8]) -> Result<Vec<Listed>, Failure> {
    let handle = Handle::of_folder(wire, folder)?;
    let more = || wire.begin(kind::READDIR, |request| request.bytes(handle.bytes()));
    // A short folder takes two requests; a long one more and more at once.
    let (mut under_way, mut window) = (VecDeque::from([more()?, more()?]), 2);
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    while let Some(next) = under_way.pop_front() {
        let names = match wire.wait(next) {
            Ok(Reply::Names(names)) => names,
            Ok(_) => return Err(senseless()),
            Err(failure) if failure.status == Some(status::EOF) => break,
            Err(failure) => return Err(failure),
        };
        for (name, attributes) in names {
            let Ok(name) = String::from_utf8(name) else { continue };
            match attributes.kind() {
                _ if !is_flat(&name) => {}
                Type::File if attributes.size.is_some() => {
                    found.extend(listed(wire, name, attributes))
                }
                Type::File | Type::Unknown => unknown.push(name),
                Type::Folder | Type::Other => {}
            }
        }
        window = (window * 2).min(LIST_WINDOW);
        while under_way.len() < window {
            under_way.push_back(more()?);
        }
    }
    // Links are followed: a volume may have been moved to another disk and linked.
    let asked = each(wire, &unknown, |name| {
        let path = [folder, b"/", name.as_bytes()].concat();
        wire.begin(kind::STAT, |request| request.bytes(&path))
    });
    for (name, reply) in unknown.into_iter().zip(asked) {
        match reply {
            Ok(Reply::Attributes(attributes)) if attributes.kind() == Type::File => {
                found.extend(listed(wire, name, attributes));
            }
            // A link to a folder, or to nothing, or a file that went away meanwhile.
            Ok(_) => {}
            Err(failure) if failure.status.is_some() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

/// Asks once for each, many at once.
fn each<T>(
    wire: &Wire,
    things: &[T],
    begin: impl Fn(&T) -> Result<Pending, Failure>,
) -> Vec<Result<Reply, Failure>> {
    let mut replies = Vec::with_capacity(things.len());
    for things in things.chunks(WINDOW) {
        let begun: Vec<_> = things.iter().map(&begin).collect();
        replies.extend(begun.into_iter().map(|begun| wire.wait(begun?)));
    }
    replies
}

impl Storage for SftpStorage {
    fn location(&self) -> String {
        self.url.to_string()
    }

    fn abilities(&self) -> Abilities {
        let transfers = self.settings.transfers.unwrap_or(TRANSFERS).max(1);
        Abilities { transfers, rereads: false, ..Abilities::default() }
    }

    fn prepare(&self) -> Result<(), Error> {
        match &self.way {
            Way::Ssh => self.over("create", "", |session| self.make_folders(&session.wire)),
            #[cfg(feature = "rclone")]
            Way::Rclone(remote) => rclone::make_folder(remote, &self.settings)
                .map_err(|failure| self.error("create", "", failure)),
        }
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.renew();
        let found = self.over("list", "", |session| list(&session.wire, &self.folder))?;
        match &self.way {
            #[cfg(feature = "rclone")]
            Way::Rclone(remote) if found.is_empty() => {
                let missing = || Failure::new(ErrorKind::NotFound, "no such folder");
                let there = rclone::has_folder(remote, &self.settings)
                    .and_then(|is_there| if is_there { Ok(found) } else { Err(missing()) });
                there.map_err(|failure| self.error("list", "", failure))
            }
            _ => Ok(found),
        }
    }

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        self.over("read", &file.name, |session| {
            session.open(&self.path(&file.name), file)?.read_at(offset, buffer)
        })
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        self.over("read", &file.name, |session| {
            let path = self.path(&file.name);
            // A file that is read in one pass is read by one reader.
            let handle = match session.wire.guide.is_relay {
                true => Arc::new(Handle::open(&session.wire, &path)?),
                false => session.open(&path, file)?,
            };
            let stream = Stream::begin(handle, from, self.place(&file.name))?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        StagedWriter::temporary(name, &self.place(name), &self.settings.tempdir)
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        self.over("write", staged.name(), |session| self.upload(session, staged))
    }

    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        if names.is_empty() {
            return Vec::new();
        }
        let again = |missing: &[&str]| {
            if matches!(self.way, Way::Ssh) { Ok(Vec::new()) } else { self.remove_all(missing) }
        };
        let is_missing = |result: &Result<(), Failure>| {
            result.as_ref().is_err_and(|failure| failure.status == Some(status::NO_SUCH_FILE))
        };
        let removed = self.remove_all(names).and_then(|mut results| {
            let missing: Vec<_> = (0..names.len()).filter(|at| is_missing(&results[*at])).collect();
            let missed: Vec<_> = missing.iter().map(|at| names[*at]).collect();
            for (at, result) in missing.into_iter().zip(again(&missed)?) {
                results[at] = result;
            }
            Ok(results)
        });
        let results = match removed {
            Ok(results) => results,
            Err(error) => return names.iter().map(|_| Err(error.clone())).collect(),
        };
        let result = |(name, result): (&&str, Result<(), Failure>)| match result {
            result if is_missing(&result) => Ok(()),
            result => result.map_err(|failure| self.error("delete", name, failure)),
        };
        names.iter().zip(results).map(result).collect()
    }
}
