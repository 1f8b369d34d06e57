//! [`OpendalStorage`]: the services that OpenDAL knows, over our own HTTP transport.
//!
//! | file | what it holds |
//! |---|---|
//! | `service` | how one kind of service is used |
//! | `s3`, `webdav` … | from a URL and settings to such a service |
//! | `multistatus` | lists of WebDAV |
//! | `answer` | waiting for an answer, and what is said of errors |
//! | `runtime` | the asynchronous runtime under it |
//!
//! The connection is described with the first request: only then is a password asked for, or the
//! region of a bucket.
//!
//! OpenDAL does not try again by itself, cache or limit anything here: that is up to the layers
//! around each storage. What is staged is mapped into memory, not read, since some services take a
//! file only as a whole: its pages are the system's to drop.

mod answer;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "webdav")]
mod multistatus;
mod runtime;
#[cfg(feature = "s3")]
mod s3;
mod service;
#[cfg(feature = "swift")]
mod swift;
#[cfg(feature = "webdav")]
mod webdav;

use super::http::LISTED_SIZE;
use super::local::unfinished_of;
use crate::storage::{
    Abilities, ByteStream, Error, ErrorKind, Listed, Settings, Staged, StagedWriter, Storage, Url,
};
use answer::{Location, is_behind_the_end};
use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use opendal::options::WriteOptions;
use opendal::{Buffer, BufferStream};
use parking_lot::Mutex;
use service::{Service, Stamp, Writing};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use sync_wrapper::SyncWrapper;

/// Describes a service; may ask for a password.
type Connect = fn(&Url, &Settings) -> Result<Service, Error>;

/// A folder, or what stands for one, at a service that OpenDAL knows.
pub struct OpendalStorage {
    url: Url,
    settings: Settings,
    connect: Connect,
    location: Location,
    /// Keeps the unfinished files of two writers apart.
    writer: u64,
    service: Mutex<Option<Arc<Service>>>,
}

impl OpendalStorage {
    fn new(url: &Url, settings: Settings, connect: Connect) -> Self {
        let writer = RandomState::new().hash_one(std::process::id());
        let (location, service) = (Location::of(url), Mutex::default());
        Self { url: url.clone(), settings, connect, location, writer, service }
    }

    /// Names a place in a bucket of S3; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] where the URL names no bucket.
    #[cfg(feature = "s3")]
    pub fn s3(url: &Url, settings: Settings) -> Result<Self, Error> {
        s3::Address::of(url, &settings.s3)?;
        Ok(Self::new(url, settings, s3::connect))
    }

    /// Names a container of Azure; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] where the URL names no container.
    #[cfg(feature = "azure")]
    pub fn azure(url: &Url, settings: Settings) -> Result<Self, Error> {
        azure::container(url)?;
        Ok(Self::new(url, settings, azure::connect))
    }

    /// Names a container of Swift; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] where the URL names no container.
    #[cfg(feature = "swift")]
    pub fn swift(url: &Url, settings: Settings) -> Result<Self, Error> {
        swift::container(url)?;
        Ok(Self::new(url, settings, swift::connect))
    }

    /// Names a folder at a WebDAV server; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] where the URL names no host.
    #[cfg(feature = "webdav")]
    pub fn webdav(url: &Url, settings: Settings) -> Result<Self, Error> {
        webdav::endpoint(url)?;
        Ok(Self::new(url, settings, webdav::connect))
    }

    /// Returns the service. Who else needs it waits while it is described.
    fn service(&self) -> Result<Arc<Service>, Error> {
        let mut kept = self.service.lock();
        if let Some(service) = &*kept {
            return Ok(service.clone());
        }
        let service = (self.connect)(&self.url, &self.settings)?;
        Ok(kept.insert(Arc::new(service)).clone())
    }

    /// Uses the service: once more after signing in anew, where a refusal may mean no more than that
    /// it was too long ago.
    fn using<T>(&self, mut work: impl FnMut(&Service) -> Result<T, Error>) -> Result<T, Error> {
        let service = self.service()?;
        match work(&service) {
            Err(error) if error.kind == ErrorKind::Denied && service.expires => {
                let mut kept = self.service.lock();
                // Somebody else may have signed in meanwhile.
                if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &service)) {
                    *kept = None;
                }
                drop(kept);
                work(&*self.service()?)
            }
            result => result,
        }
    }

    fn upload(&self, service: &Service, staged: &Staged) -> Result<Listed, Error> {
        let (name, bytes) = (staged.name(), self.mapped(staged)?);
        match service.writing {
            Writing::Whole { whole, part, parts } => {
                let in_parts = bytes.len() > whole;
                let operator = service.writer(is_volume(name), in_parts);
                let options = WriteOptions {
                    chunk: in_parts.then_some(part),
                    concurrent: parts,
                    ..WriteOptions::default()
                };
                let write = operator.write_options(name, Buffer::from(bytes), options);
                let stored = self.location.ask("write", name, write)?;
                if let Some(after) = &service.stored {
                    self.location.ask("write", name, after(name))?;
                }
                if service.stamp == Stamp::Tag && stored.etag().is_some() {
                    let stamp = Stamp::Tag.of(&stored, staged.size());
                    return Ok(Listed { name: name.into(), size: staged.size(), stamp });
                }
                self.look(service, name, staged)
            }
            Writing::Renamed => {
                let unfinished = unfinished_of(name, self.writer);
                let operator = service.writer(is_volume(name), false);
                let store = || {
                    let write = operator.write(&unfinished, Buffer::from(bytes));
                    self.location.ask("write", name, write)?;
                    self.look(service, &unfinished, staged)?;
                    self.location.ask("write", name, operator.rename(&unfinished, name))?;
                    self.look(service, name, staged)
                };
                store().inspect_err(|error| {
                    if !error.kind.is_connection() {
                        let _ = self.location.ask("delete", name, operator.delete(&unfinished));
                    }
                })
            }
        }
    }

    /// Looks at a file that was written, and holds its size against what it should be.
    fn look(&self, service: &Service, name: &str, staged: &Staged) -> Result<Listed, Error> {
        let found = self.location.ask("check", name, service.operator.stat(name))?;
        if found.content_length() != staged.size() {
            return Err(Error {
                operation: "write",
                place: self.location.place(name),
                kind: ErrorKind::Other,
                cause: format!(
                    "the server has {} bytes of it instead of {}",
                    found.content_length(),
                    staged.size()
                ),
            });
        }
        let stamp = service.stamp.of(&found, staged.size());
        Ok(Listed { name: staged.name().into(), size: staged.size(), stamp })
    }

    /// Maps what is staged into memory.
    fn mapped(&self, staged: &Staged) -> Result<Bytes, Error> {
        if staged.size() == 0 {
            return Ok(Bytes::new());
        }
        // SAFETY: the file is sealed, and lies under a name of ours among the temporary files:
        // nobody writes it or makes it shorter while it is mapped.
        let map = unsafe { memmap2::Mmap::map(staged.file()) };
        let map =
            map.map_err(|error| Error::io("write", self.location.place(staged.name()), &error))?;
        Ok(Bytes::from_owner(map))
    }
}

impl Storage for OpendalStorage {
    fn location(&self) -> String {
        self.location.place("")
    }

    fn abilities(&self) -> Abilities {
        let usual = self.service.lock().as_ref().map_or(TRANSFERS, |service| service.transfers);
        Abilities {
            transfers: self.settings.transfers.unwrap_or(usual),
            rereads: false,
            ..Abilities::default()
        }
    }

    fn prepare(&self) -> Result<(), Error> {
        self.using(|service| match &service.make {
            Some(make) => self.location.ask("create", "", make()),
            None if service.has_folders => {
                self.location.ask("create", "", service.operator.create_dir("/"))
            }
            None => Ok(()),
        })
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        let found = self.using(|service| match &service.list {
            Some(list) => self.location.ask("list", "", list()),
            None => self.location.ask("list", "", async {
                let found = service.operator.list("/").await?;
                let files = found.into_iter().filter(|entry| entry.metadata().is_file());
                let listed = files.map(|entry| {
                    let size = entry.metadata().content_length();
                    let stamp = service.stamp.of(entry.metadata(), size);
                    Listed { name: entry.name().into(), size, stamp }
                });
                Ok(listed.collect())
            }),
        });
        let mut found = found.map_err(|error| {
            // What `prepare` does not make has to be there.
            let is_made = self
                .service
                .lock()
                .as_ref()
                .is_some_and(|service| service.has_folders || service.make.is_some());
            if error.kind == ErrorKind::NotFound && !is_made {
                let cause = format!("{}; make it at the service first", error.cause);
                return Error { operation: "reach", cause, ..error };
            }
            error
        })?;
        found.retain(|file: &Listed| is_flat(&file.name));
        Ok(found)
    }

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = buffer.len() as u64;
        let Some(end) = offset.checked_add(length).filter(|end| *end <= i64::MAX as u64) else {
            return Ok(0);
        };
        if length == 0 {
            return Ok(0);
        }
        let read = |service: &Service| {
            let read = async {
                let reader = service.operator.reader(&file.name).await?;
                let mut pieces = reader.into_stream(offset..end).await?;
                let mut filled = 0;
                loop {
                    let mut piece = match pieces.next().await.transpose() {
                        Ok(Some(piece)) => piece,
                        Ok(None) => break,
                        Err(error) if error.message() == SHORT || is_behind_the_end(&error) => {
                            break;
                        }
                        Err(error) => return Err(error),
                    };
                    let count = piece.len().min(buffer.len() - filled);
                    piece.copy_to_slice(&mut buffer[filled..filled + count]);
                    filled += count;
                    // To the end, so that the connection can be used again; but not beyond.
                    if count == 0 {
                        break;
                    }
                }
                Ok(filled)
            };
            self.location.ask("read", &file.name, LISTED_SIZE.scope(file.size, read))
        };
        self.using(read)
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        if from > i64::MAX as u64 {
            return Ok(Box::new(Stream::empty(self.location.clone(), &file.name)));
        }
        let begin = |service: &Service| {
            let begin = async {
                let reader = service.operator.reader(&file.name).await?;
                let mut rest = reader.into_stream(from..).await?;
                // The request goes out with the first bytes.
                match rest.next().await.transpose() {
                    Ok(first) => Ok((first.unwrap_or_default(), Some(rest))),
                    Err(error) if is_behind_the_end(&error) => Ok((Buffer::new(), None)),
                    Err(error) => Err(error),
                }
            };
            self.location.ask("read", &file.name, LISTED_SIZE.scope(file.size, begin))
        };
        let (left, rest) = self.using(begin)?;
        let stream = Stream::empty(self.location.clone(), &file.name);
        Ok(Box::new(Stream { left, rest: rest.map(SyncWrapper::new), ..stream }))
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        StagedWriter::temporary(name, &self.location.place(name), &self.settings.tempdir)
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        self.using(|service| self.upload(service, staged))
    }

    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        if names.is_empty() {
            return Vec::new();
        }
        let service = match self.service() {
            Ok(service) => service,
            Err(error) => return names.iter().map(|_| Err(error.clone())).collect(),
        };
        let one = |name: &&str| {
            let delete = |service: &Service| {
                self.location.ask("delete", name, service.operator.delete(name))
            };
            match self.using(delete) {
                Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
                result => result,
            }
        };
        let batch = service.operator.info().capability().delete_max_size.unwrap_or(1);
        if batch > 1 && names.len() > 1 {
            let all = names.iter().map(|name| name.to_string());
            match self.location.ask("delete", "", service.operator.delete_iter(all)) {
                Ok(()) => return names.iter().map(|_| Ok(())).collect(),
                Err(error) if error.kind.is_connection() => {
                    return names.iter().map(|_| Err(error.clone())).collect();
                }
                // Which of them it was is found out one by one.
                Err(_) => {}
            }
        }
        crate::work::all(names, self.abilities().transfers, one)
    }
}

/// The bytes of a file, as they come in.
struct Stream {
    location: Location,
    name: String,
    left: Buffer,
    rest: Option<SyncWrapper<BufferStream>>,
}

impl Stream {
    fn empty(location: Location, name: &str) -> Self {
        Self { location, name: name.into(), left: Buffer::new(), rest: None }
    }
}

impl ByteStream for Stream {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.left.is_empty() {
                let Some(rest) = &mut self.rest else { break };
                let next = async { rest.get_mut().next().await.transpose() };
                match self.location.ask("read", &self.name, next)? {
                    Some(next) => self.left = next,
                    None => self.rest = None,
                }
                continue;
            }
            let count = self.left.len().min(buffer.len() - filled);
            self.left.copy_to_slice(&mut buffer[filled..filled + count]);
            filled += count;
        }
        Ok(filled)
    }
}

/// What OpenDAL says of an answer that is whole, and shorter than the range: the file ends there,
/// as our transport has seen.
const SHORT: &str = "reader got too little data";
/// Files transferred at once where nobody says how many.
const TRANSFERS: usize = 4;

/// Returns whether a stored file is a volume, by its name.
///
/// Source: duplicity 0.8.22, s3_boto3_backend.py and others, go by the names, too.
fn is_volume(name: &str) -> bool {
    !name.contains("manifest") && !name.contains("sigtar") && !name.contains("signatures")
}

/// Returns whether a name stays in its folder, and can be ours.
fn is_flat(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}
