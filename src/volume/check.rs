//! The hashes of a stored volume: the manifest's over all of it on the first pass, a BLAKE3 per
//! chunk on every other read.

use super::{CHUNK, Error, VolumeSource};
use crate::codec::HEAD;
use crate::format::{StoredFrames, VolumeHash};
use crate::storage::{self, ByteStream, ErrorKind, ReadAt, StoredFile};
use parking_lot::Mutex;
use sha1::digest::DynDigest;
use sha1::digest::common::hazmat::SerializableState;
use sha1::{Digest, Sha1};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// How much is read at once, in bytes.
const STRIDE: usize = 8 * CHUNK;

/// What has been found about all of a stored file.
#[derive(Default)]
pub struct Hashed {
    /// Its size in bytes.
    pub length: u64,
    /// BLAKE3 of each chunk.
    pub chunks: Vec<[u8; 32]>,
    /// The first bytes, at most [`HEAD`].
    pub head: Vec<u8>,
}

/// A stored file that is hashed while it is read, by one request.
///
/// What is read in order from its start is hashed on the way. Whatever else is asked for is read
/// once more, and checked against the hashes of its chunks.
pub struct Hashing {
    file: StoredFile,
    pass: Arc<Mutex<Pass>>,
    is_begun: AtomicBool,
    checked: OnceLock<Checked>,
}

/// How far the hashing has come.
struct Pass {
    stream: Box<dyn ByteStream>,
    hasher: Hasher,
    /// The chunk that is not complete yet, and how many bytes of it there are.
    chunk: blake3::Hasher,
    filled: usize,
    hashed: Hashed,
    has_ended: bool,
}

impl Hashing {
    /// Begins to read a volume.
    ///
    /// # Errors
    /// [`Error::NoHash`] when the manifest gives none; [`Error::Storage`] when the file cannot be
    /// read.
    pub fn open(source: &VolumeSource) -> Result<Self, Error> {
        let file = source.file.clone();
        let hash = source.hash.ok_or_else(|| Error::NoHash(file.name().to_string()))?;
        let pass = Pass {
            stream: file.storage().stream(file.listed(), 0)?,
            hasher: Hasher::new(hash),
            chunk: blake3::Hasher::new(),
            filled: 0,
            hashed: Hashed { length: 0, chunks: Vec::new(), head: Vec::new() },
            has_ended: false,
        };
        let (pass, is_begun) = (Arc::new(Mutex::new(pass)), AtomicBool::new(false));
        Ok(Self { file, pass, is_begun, checked: OnceLock::new() })
    }

    /// Reads what nobody has read yet, passes all of it to `copy`, and compares the whole with the
    /// manifest.
    ///
    /// # Errors
    /// [`Error::Hash`] when it is not what the manifest says, [`Error::Storage`] when it cannot be
    /// read.
    pub fn finish(self, mut copy: impl FnMut(&[u8])) -> Result<Hashed, Error> {
        let pass = &mut *self.pass.lock();
        let mut buffer = vec![0; STRIDE];
        while !pass.has_ended {
            let count = pass.read_bytes(&mut buffer)?;
            copy(&buffer[..count]);
        }
        pass.hasher.check(self.file.name())?;
        Ok(std::mem::take(&mut pass.hashed))
    }

    /// Returns the file for reading any part of it: the rest is hashed first.
    fn checked(&self) -> Result<&Checked, storage::Error> {
        if let Some(checked) = self.checked.get() {
            return Ok(checked);
        }
        let pass = &mut *self.pass.lock();
        let mut buffer = vec![0; STRIDE];
        while !pass.has_ended {
            pass.read_bytes(&mut buffer)?;
        }
        let (length, chunks) = (pass.hashed.length, Arc::new(pass.hashed.chunks.clone()));
        Ok(self.checked.get_or_init(|| Checked::new(self.file.clone(), length, chunks)))
    }
}

impl Pass {
    fn take(&mut self, mut bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hashed.length += bytes.len() as u64;
        let head = &mut self.hashed.head;
        head.extend_from_slice(&bytes[..bytes.len().min(HEAD - head.len())]);
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(CHUNK - self.filled));
            self.chunk.update(part);
            self.filled += part.len();
            bytes = rest;
            if self.filled == CHUNK {
                self.end_chunk();
            }
        }
    }

    fn end_chunk(&mut self) {
        self.hashed.chunks.push(*self.chunk.finalize().as_bytes());
        self.chunk.reset();
        self.filled = 0;
    }
}

impl ByteStream for Pass {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        if self.has_ended {
            return Ok(0);
        }
        let count = self.stream.read_bytes(buffer)?;
        self.take(&buffer[..count]);
        if count < buffer.len() {
            self.has_ended = true;
            if self.filled > 0 {
                self.end_chunk();
            }
        }
        Ok(count)
    }
}

impl ReadAt for Hashing {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        self.checked()?.read_at(offset, buffer)
    }

    fn stream(&self, from: u64) -> Result<Option<Box<dyn ByteStream>>, storage::Error> {
        if from == 0 && !self.is_begun.swap(true, Ordering::Relaxed) {
            return Ok(Some(Box::new(Tap(self.pass.clone()))));
        }
        Ok(None)
    }
}

/// Lets one reader take part in a pass.
struct Tap(Arc<Mutex<Pass>>);

impl ByteStream for Tap {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        self.0.lock().read_bytes(buffer)
    }
}

/// A copy of a stored file on this machine, whose hash has matched.
pub struct LocalCopy {
    name: String,
    length: u64,
    file: File,
}

impl LocalCopy {
    /// Takes a file, and the name of what it is a copy of.
    pub fn new(name: &str, length: u64, file: File) -> Self {
        Self { name: name.into(), length, file }
    }
}

impl ReadAt for LocalCopy {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        let length = (buffer.len() as u64).min(self.length.saturating_sub(offset)) as usize;
        let read = self.file.read_exact_at(&mut buffer[..length], offset);
        read.map(|()| length).map_err(|error| storage::Error {
            operation: "read",
            place: format!("temporary copy of {}", self.name),
            kind: ErrorKind::Other,
            cause: error.to_string(),
        })
    }
}

/// Hashes a stored file as its manifest has it.
pub struct Hasher {
    expected: VolumeHash,
    digest: Box<dyn DynDigest + Send + Sync>,
}

impl Hasher {
    /// Expects this hash.
    pub fn new(expected: VolumeHash) -> Self {
        let digest: Box<dyn DynDigest + Send + Sync> = match expected {
            VolumeHash::Sha1(_) => Box::new(Sha1::new()),
            VolumeHash::Md5(_) => Box::new(md5::Md5::new()),
        };
        Self { expected, digest }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// Fails if the bytes are not those that were expected; begins anew.
    pub fn check(&mut self, name: &str) -> Result<(), Error> {
        let found = self.digest.finalize_reset();
        let expected: &[u8] = match &self.expected {
            VolumeHash::Sha1(hash) => hash,
            VolumeHash::Md5(hash) => hash,
        };
        match found[..] == *expected {
            true => Ok(()),
            false => {
                Err(Error::Hash { name: name.into(), found: hex(&found), expected: hex(expected) })
            }
        }
    }
}

/// Returns whether a stored volume has the manifest's hash, by the state of SHA-1 over its frames,
/// and the bytes `behind` them up to the end of the file.
pub fn has_hash(source: &VolumeSource, frames: &StoredFrames, behind: &[u8]) -> bool {
    let Some(VolumeHash::Sha1(expected)) = &source.hash else { return false };
    // What it says of its length is believed by the hasher, which could overflow.
    let is_as_long = frames.sha1.get(20..28) == Some(&(frames.length / 64).to_le_bytes()[..]);
    let Some(mut hasher) = Sha1::deserialize(&frames.sha1.into()).ok().filter(|_| is_as_long)
    else {
        return false;
    };
    sha1::Digest::update(&mut hasher, behind);
    hasher.finalize()[..] == expected[..]
}

/// Prints bytes in lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A stored file whose bytes count only after the hash of their chunk matched.
pub struct Checked {
    file: StoredFile,
    length: u64,
    chunks: Arc<Vec<[u8; 32]>>,
    /// The first bytes, as far as they are known.
    head: Vec<u8>,
    /// The chunk read last, since decoders read in smaller steps.
    last: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

impl Checked {
    /// Takes the hashes of all chunks of the first `length` bytes of a file; nothing behind them
    /// can be read.
    pub fn new(file: StoredFile, length: u64, chunks: Arc<Vec<[u8; 32]>>) -> Self {
        Self { file, length, chunks, head: Vec::new(), last: Mutex::default() }
    }

    /// Takes the first bytes from what is known of them.
    pub fn with_head(self, head: Vec<u8>) -> Self {
        Self { head, ..self }
    }

    /// Returns the same file, the first bytes of which are read and checked like all others.
    pub fn without_head(&self) -> Self {
        Self::new(self.file.clone(), self.length, self.chunks.clone())
    }

    /// Holds chunks, which are in `bytes`, against the hashes that were kept; `start` is the offset
    /// of the first byte in the file.
    ///
    /// # Errors
    /// One of kind [`ErrorKind::Corrupt`] when a chunk is another one, or is not there.
    pub fn check_chunks(
        &self,
        numbers: Range<u64>,
        start: u64,
        bytes: &[u8],
    ) -> Result<(), storage::Error> {
        for number in numbers {
            let at = number * CHUNK as u64;
            let end = (at + CHUNK as u64).min(self.length);
            let place = |offset: u64| usize::try_from(offset.checked_sub(start)?).ok();
            let chunk = place(at).zip(place(end)).and_then(|(from, to)| bytes.get(from..to));
            let kept = usize::try_from(number).ok().and_then(|number| self.chunks.get(number));
            if chunk.map(|chunk| *blake3::hash(chunk).as_bytes()).as_ref() != kept || kept.is_none()
            {
                return Err(storage::Error {
                    operation: "trust",
                    place: self.file.name().to_string(),
                    kind: ErrorKind::Corrupt,
                    cause: format!("the bytes from {at} on are not those whose hash was kept"),
                });
            }
        }
        Ok(())
    }

    /// Returns the chunk that was read last, if it is this one.
    fn last(&self, number: usize) -> Option<Arc<Vec<u8>>> {
        let last = self.last.lock();
        last.as_ref().filter(|(last, _)| *last == number).map(|(_, bytes)| bytes.clone())
    }

    /// Reads chunks in one go, and checks each.
    pub(super) fn chunks(&self, numbers: Range<usize>) -> Result<Vec<u8>, storage::Error> {
        let start = numbers.start as u64 * CHUNK as u64;
        let end = (numbers.end as u64 * CHUNK as u64).min(self.length);
        let bytes = self.file.with_copies(storage::Error::is_damage, || {
            let mut bytes = vec![0; (end - start) as usize];
            let count = self.file.read_at(start, &mut bytes)?;
            bytes.truncate(count);
            self.check_chunks(numbers.start as u64..numbers.end as u64, start, &bytes)?;
            Ok(bytes)
        })?;
        let last = (bytes.len().saturating_sub(1)) / CHUNK;
        let kept = (numbers.start + last, Arc::new(bytes[last * CHUNK..].to_vec()));
        *self.last.lock() = Some(kept);
        Ok(bytes)
    }
}

impl ReadAt for Checked {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn size(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        let length = (buffer.len() as u64).min(self.length.saturating_sub(offset)) as usize;
        if length == 0 {
            return Ok(0);
        }
        let known = usize::try_from(offset)
            .ok()
            .and_then(|start| self.head.get(start..start.checked_add(length)?));
        if let Some(known) = known {
            buffer[..length].copy_from_slice(known);
            return Ok(length);
        }
        let mut filled = 0;
        let mut copy = |from: &[u8]| {
            let count = from.len().min(length - filled);
            buffer[filled..filled + count].copy_from_slice(&from[..count]);
            filled += count;
            filled
        };
        let (first, skip) = ((offset / CHUNK as u64) as usize, (offset % CHUNK as u64) as usize);
        let end = (offset + length as u64).div_ceil(CHUNK as u64) as usize;
        let (next, skip) = match self.last(first) {
            Some(chunk) if copy(&chunk[skip.min(chunk.len())..]) < length => (first + 1, 0),
            Some(_) => return Ok(length),
            None => (first, skip),
        };
        copy(&self.chunks(next..end)?[skip..]);
        Ok(length)
    }
}
