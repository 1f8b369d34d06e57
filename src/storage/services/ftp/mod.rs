//! [`FtpStorage`]: a folder of an FTP server, plain or with TLS.
//!
//! | file | what it holds |
//! |---|---|
//! | `line` | a control connection, and what is done over it |
//! | `listing` | what a server says about files |
//!
//! A line does one thing at a time, so there are as many as there are transfers at once; they are
//! kept. Where the server takes no more of them, one that is in use is waited for. What fails on a
//! line that was kept, because it has been cut meanwhile, is done once more on a new one.
//!
//! A range is a transfer from its offset on (`REST`) that is broken off behind its last byte. A file is
//! written under a name that no duplicity takes for its own, and looked at: only with the right size
//! is it renamed over the final name. FTP knows no order to bring a file to the server's disk.
//!
//! The stamp is the time of a file in seconds with its size, where the server lists for programs
//! (MLSD); else it is 0.

mod line;
mod listing;

use super::local::unfinished_of;
use super::{netrc, tls};
use crate::storage::{
    Abilities, ByteStream, Error, ErrorKind, Listed, Settings, Staged, StagedWriter, Storage, Url,
};
use crate::work;
use line::{Door, Failure, Line, Security, Transfer};
use parking_lot::{Condvar, Mutex};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroizing;

/// Files transferred at once where nobody says how many: many servers take few connections of one
/// user.
const TRANSFERS: usize = 3;

/// A folder behind an FTP server.
pub struct FtpStorage {
    url: Url,
    settings: Settings,
    security: Security,
    folder: String,
    /// Keeps the unfinished files of two writers apart.
    writer: u64,
    door: Mutex<Option<Arc<Door>>>,
    lines: Arc<Lines>,
}

/// The lines that are open.
#[derive(Default)]
struct Lines {
    kept: Mutex<Kept>,
    freed: Condvar,
}

#[derive(Default)]
struct Kept {
    idle: Vec<Line>,
    in_use: usize,
}

/// A line in use; not used again unless it is handed back.
struct Lease {
    line: Option<Line>,
    lines: Arc<Lines>,
    /// Whether it was in use before.
    was_kept: bool,
}

impl Lines {
    /// Returns a line: one that is kept, or a new one.
    fn take(self: &Arc<Self>, door: &Door) -> Result<Lease, Failure> {
        let begun = Instant::now();
        loop {
            let mut kept = self.kept.lock();
            kept.in_use += 1;
            let idle = kept.idle.pop();
            drop(kept);
            let mut lease = Lease { line: None, lines: self.clone(), was_kept: idle.is_some() };
            if let Some(mut line) = idle {
                if line.is_in_step() {
                    lease.line = Some(line);
                    return Ok(lease);
                }
                continue;
            }
            let busy = match door.open() {
                Ok(line) => {
                    lease.line = Some(line);
                    return Ok(lease);
                }
                Err(failure) if matches!(failure.kind, ErrorKind::Busy(_)) => failure,
                Err(failure) => return Err(failure),
            };
            drop(lease);
            // Another thread's line does as well, once that is done with it.
            let mut kept = self.kept.lock();
            let left = door.timeout.saturating_sub(begun.elapsed());
            if kept.idle.is_empty() && (kept.in_use == 0 || left.is_zero()) {
                return Err(busy);
            }
            if kept.idle.is_empty() {
                self.freed.wait_for(&mut kept, left);
            }
        }
    }
}

impl Lease {
    /// Hands the line back, to be used again.
    fn hand_back(mut self) {
        if let Some(mut line) = self.line.take() {
            line.rest(false);
            self.lines.kept.lock().idle.push(line);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lines.kept.lock().in_use -= 1;
        self.lines.freed.notify_one();
    }
}

impl FtpStorage {
    /// Names a folder; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] where the URL names no host, or a folder that is no text.
    pub fn new(url: &Url, settings: Settings) -> Result<Self, Error> {
        let bad = |cause: &str| url.bad(cause);
        if url.host().is_none() {
            return Err(bad("the URL names no host; write ftp://user@host/folder"));
        }
        let security = match url.scheme().rsplit('+').next() {
            Some("ftps") => Security::Implicit,
            Some("ftpes") => Security::Explicit,
            _ => Security::None,
        };
        // One slash is the host's, and what follows is relative to the login folder, unless it is
        // another slash; without anything it is the root, as in duplicity.
        let path = url.path().to_str().ok_or_else(|| bad("the folder's name is not UTF-8"))?;
        let folder = match path.strip_prefix('/').unwrap_or(path).trim_end_matches('/') {
            "" => "/",
            folder => folder,
        };
        let writer = RandomState::new().hash_one(std::process::id());
        Ok(Self {
            url: url.clone(),
            settings,
            security,
            folder: folder.into(),
            writer,
            door: Mutex::default(),
            lines: Arc::default(),
        })
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

    /// Returns how lines are opened, found out once.
    fn door(&self) -> Result<Arc<Door>, Failure> {
        let mut kept = self.door.lock();
        if let Some(door) = &*kept {
            return Ok(door.clone());
        }
        let host = self.url.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let (user, password) = self.login(host)?;
        let default = if self.security == Security::Implicit { 990 } else { 21 };
        let tls = match self.security {
            Security::None => None,
            _ => Some(
                tls::config(&self.settings.tls)
                    .map(Arc::new)
                    .map_err(|error| Failure::new(error.kind, error.to_string()))?,
            ),
        };
        let door = Door {
            host: host.into(),
            port: self.url.port().unwrap_or(default),
            security: self.security,
            tls,
            user,
            password,
            is_active: self.settings.is_ftp_active,
            timeout: self.settings.timeout,
        };
        Ok(kept.insert(Arc::new(door)).clone())
    }

    /// Returns who logs in, and the password. Without a name, and none in `~/.netrc`, nobody does.
    fn login(&self, host: &str) -> Result<(String, Zeroizing<String>), Failure> {
        let Some(user) = self.url.user().filter(|user| !user.is_empty()) else {
            let found = netrc::find(&self.settings, host, None);
            let nobody = || ("anonymous".into(), Zeroizing::new("anonymous@".into()));
            return Ok(
                found.map_or_else(nobody, |found| (found.user, found.password.unwrap_or_default()))
            );
        };
        if let Some(password) = self.url.password() {
            return Ok((user.into(), password.clone()));
        }
        let mut password = self.settings.set_password();
        if password.is_none() {
            password =
                netrc::find(&self.settings, host, Some(user)).and_then(|found| found.password);
        }
        if password.is_none() {
            password = (self.settings.ask)(&format!("{user}@{host}")).map_err(|error| {
                Failure::new(ErrorKind::Denied, format!("cannot ask for the password: {error}"))
            })?;
        }
        Ok((user.into(), password.unwrap_or_default()))
    }

    /// Does something over a line that is in the folder, or on its way there.
    fn on_line<T>(
        &self,
        mut work: impl FnMut(&mut Line) -> Result<T, Failure>,
    ) -> Result<(T, Lease), Failure> {
        let door = self.door()?;
        loop {
            let mut lease = self.lines.take(&door)?;
            let Some(line) = &mut lease.line else { continue };
            match work(line) {
                Ok(done) => return Ok((done, lease)),
                Err(failure) if failure.is_reply => {
                    lease.hand_back();
                    return Err(failure);
                }
                // It was cut while it was kept, as perhaps the others were.
                Err(failure) if lease.was_kept && failure.kind == ErrorKind::Unreachable => {
                    self.lines.kept.lock().idle.clear();
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Does something in the folder.
    fn over<T>(
        &self,
        operation: &'static str,
        name: &str,
        mut work: impl FnMut(&mut Line) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let done = self.on_line(|line| {
            line.enter(&self.folder)?;
            work(line)
        });
        done.map(|(done, lease)| {
            lease.hand_back();
            done
        })
        .map_err(|failure| self.error(operation, name, failure))
    }

    fn upload(&self, line: &mut Line, staged: &Staged) -> Result<Listed, Failure> {
        let unfinished = unfinished_of(staged.name(), self.writer);
        let stored = line.store(&unfinished, staged, &self.settings.upload).and_then(|()| {
            let stored = line.look(&unfinished)?.map_or(0, |found| found.size);
            if stored != staged.size() {
                let cause =
                    format!("the server has {stored} bytes of it instead of {}", staged.size());
                return Err(Failure { is_reply: true, ..Failure::new(ErrorKind::Other, cause) });
            }
            line.rename(&unfinished, staged.name())
        });
        if let Err(failure) = stored {
            if failure.is_reply {
                let _ = line.remove(&unfinished);
            }
            return Err(line::refusal(failure));
        }
        line.look(staged.name())?
            .filter(|found| found.size == staged.size())
            .ok_or_else(|| Failure::new(ErrorKind::Other, "it is not there after the upload"))
    }
}

impl Storage for FtpStorage {
    fn location(&self) -> String {
        self.url.to_string()
    }

    fn abilities(&self) -> Abilities {
        let transfers = self.settings.transfers.unwrap_or(TRANSFERS).max(1);
        Abilities { transfers, rereads: false, ..Abilities::default() }
    }

    fn prepare(&self) -> Result<(), Error> {
        let made = self.on_line(|line| line.make(&self.folder));
        made.map(|((), lease)| lease.hand_back())
            .map_err(|failure| self.error("create", "", failure))
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.over("list", "", Line::list)
    }

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        // No server knows larger offsets.
        if buffer.is_empty() || offset > i64::MAX as u64 {
            return Ok(0);
        }
        self.over("read", &file.name, |line| {
            let Some(mut transfer) = line.begin(&file.name, offset)? else { return Ok(0) };
            match Line::fill(&mut transfer, buffer) {
                Ok(count) if count == buffer.len() => {
                    // The bytes are there, whatever became of the line: it is asked before it is
                    // used again.
                    let _ = line.cut(transfer);
                    Ok(count)
                }
                Ok(count) => line.finish(transfer, Ok(())).map(|()| count),
                Err(error) => line.finish(transfer, Err(error)).map(|()| 0),
            }
        })
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        let place = self.place(&file.name);
        if from > i64::MAX as u64 {
            return Ok(Box::new(Stream { place, under_way: None }));
        }
        let begun = self.on_line(|line| {
            line.enter(&self.folder)?;
            line.begin(&file.name, from)
        });
        let (transfer, lease) = begun.map_err(|failure| self.error("read", &file.name, failure))?;
        let under_way = match transfer {
            Some(transfer) => Some((transfer, lease)),
            None => {
                lease.hand_back();
                None
            }
        };
        Ok(Box::new(Stream { place, under_way }))
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        StagedWriter::temporary(name, &self.place(name), &self.settings.tempdir)
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        self.over("write", staged.name(), |line| self.upload(line, staged))
    }

    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        work::all(names, self.abilities().transfers, |name| {
            self.over("delete", name, |line| line.remove(name))
        })
    }
}

/// The bytes of a file from an offset on, and the line over which they come.
struct Stream {
    place: String,
    /// Gone at the end.
    under_way: Option<(Transfer, Lease)>,
}

impl ByteStream for Stream {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Some((transfer, _)) = &mut self.under_way else { return Ok(0) };
        let filled = Line::fill(transfer, buffer);
        if matches!(filled, Ok(count) if count == buffer.len()) {
            return Ok(buffer.len());
        }
        let Some((transfer, mut lease)) = self.under_way.take() else { return Ok(0) };
        let Some(line) = &mut lease.line else { return Ok(0) };
        let (count, moved) = match filled {
            Ok(count) => (count, Ok(())),
            Err(error) => (0, Err(error)),
        };
        let finished = line.finish(transfer, moved);
        if finished.as_ref().map_or_else(|failure| failure.is_reply, |()| true) {
            lease.hand_back();
        }
        finished.map(|()| count).map_err(|failure| Error {
            operation: "read",
            place: self.place.clone(),
            kind: failure.kind,
            cause: failure.cause,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some((transfer, mut lease)) = self.under_way.take()
            && lease.line.as_mut().is_some_and(|line| line.cut(transfer))
        {
            lease.hand_back();
        }
    }
}
