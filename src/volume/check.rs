//! The hashes of a stored volume: the manifest's over all of it on the first pass, a BLAKE3 per
//! chunk on every other read.

use super::{CHUNK, Error, VolumeSource};
use crate::codec::HEAD;
use crate::format::{StoredFrames, VolumeHash};
use crate::storage::{self, ErrorKind, ReadAt, StoredFile};
use parking_lot::Mutex;
use sha1::digest::DynDigest;
use sha1::digest::common::hazmat::SerializableState;
use sha1::{Digest, Sha1};
use std::ops::Range;
use std::sync::Arc;

/// What has been found about all of a stored file.
pub struct Hashed {
    /// Its size in bytes.
    pub length: u64,
    /// BLAKE3 of each chunk.
    pub chunks: Vec<[u8; 32]>,
    /// The first bytes, at most [`HEAD`].
    pub head: Vec<u8>,
}

/// Hashes the whole stored file and compares it with the manifest.
pub fn hash_stored(source: &VolumeSource) -> Result<Hashed, Error> {
    let name = source.file.name();
    let mut hasher = Hasher::new(source.hash.ok_or_else(|| Error::NoHash(name.to_string()))?);
    let mut chunks = Vec::new();
    let (mut length, mut head) = (0, Vec::new());
    let mut buffer = vec![0; 8 * CHUNK];
    loop {
        let count = source.file.read_at(length, &mut buffer)?;
        if length == 0 {
            head = buffer[..count.min(HEAD)].to_vec();
        }
        length += count as u64;
        hasher.update(&buffer[..count]);
        chunks.extend(buffer[..count].chunks(CHUNK).map(|chunk| *blake3::hash(chunk).as_bytes()));
        if count < buffer.len() {
            hasher.check(name)?;
            return Ok(Hashed { length, chunks, head });
        }
    }
}

/// Hashes a stored file as its manifest has it.
pub struct Hasher {
    expected: VolumeHash,
    digest: Box<dyn DynDigest>,
}

impl Hasher {
    /// Expects this hash.
    pub fn new(expected: VolumeHash) -> Self {
        let digest: Box<dyn DynDigest> = match expected {
            VolumeHash::Sha1(_) => Box::new(Sha1::new()),
            VolumeHash::Md5(_) => Box::new(md5::Md5::new()),
        };
        Self { expected, digest }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// Fails if the bytes are not those that were expected.
    pub fn check(self, name: &str) -> Result<(), Error> {
        let found = self.digest.finalize();
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

    /// Returns the hash that was kept of a chunk.
    pub fn hash(&self, number: usize) -> Option<&[u8; 32]> {
        self.chunks.get(number)
    }

    /// Returns the chunk that was read last, if it is this one.
    fn last(&self, number: usize) -> Option<Arc<Vec<u8>>> {
        let last = self.last.lock();
        last.as_ref().filter(|(last, _)| *last == number).map(|(_, bytes)| bytes.clone())
    }

    /// Reads chunks in one go, and checks each.
    fn chunks(&self, numbers: Range<usize>) -> Result<Vec<u8>, storage::Error> {
        let start = numbers.start as u64 * CHUNK as u64;
        let end = (numbers.end as u64 * CHUNK as u64).min(self.length);
        let mut bytes = vec![0; (end - start) as usize];
        let count = self.file.read_at(start, &mut bytes)?;
        bytes.truncate(count);
        for (number, at) in numbers.clone().zip((start..end).step_by(CHUNK)) {
            let chunk = bytes.get(
                (at - start) as usize..((at - start) as usize + CHUNK).min((end - start) as usize),
            );
            if chunk
                .is_none_or(|chunk| self.chunks.get(number) != Some(blake3::hash(chunk).as_bytes()))
            {
                return Err(storage::Error {
                    operation: "trust",
                    place: self.file.name().to_string(),
                    kind: ErrorKind::Corrupt,
                    cause: format!("the bytes from {at} on are not those whose hash was kept"),
                });
            }
        }
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
