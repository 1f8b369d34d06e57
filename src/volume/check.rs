//! The hashes of a stored volume: the manifest's over all of it on the first pass, a BLAKE3 per chunk on every other read.

use super::{CHUNK, Error, VolumeSource};
use crate::format::{StoredFrames, VolumeHash};
use crate::storage::{self, ErrorKind, ReadAt, StoredFile};
use sha1::digest::DynDigest;
use sha1::digest::common::hazmat::SerializableState;
use sha1::{Digest, Sha1};
use std::sync::{Arc, Mutex};

/// Hashes the whole stored file and compares it with the manifest; returns the size and the BLAKE3 of each chunk.
pub fn hash_stored(source: &VolumeSource) -> Result<(u64, Vec<[u8; 32]>), Error> {
    let name = source.file.name();
    let mut hasher = Hasher::new(source.hash.ok_or_else(|| Error::NoHash(name.to_string()))?);
    let mut chunks = Vec::new();
    let mut length = 0;
    let mut buffer = vec![0; 8 * CHUNK];
    loop {
        let count = source.file.read_at(length, &mut buffer)?;
        length += count as u64;
        hasher.update(&buffer[..count]);
        chunks.extend(buffer[..count].chunks(CHUNK).map(|chunk| *blake3::hash(chunk).as_bytes()));
        if count < buffer.len() {
            hasher.check(name)?;
            return Ok((length, chunks));
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
            false => Err(Error::Hash { name: name.into(), found: hex(&found), expected: hex(expected) }),
        }
    }
}

/// Tells whether a stored volume has the manifest's hash, by the state of SHA-1 over its frames, and the bytes `behind` them up to the end of
/// the file.
pub fn has_hash(source: &VolumeSource, frames: &StoredFrames, behind: &[u8]) -> bool {
    let Some(VolumeHash::Sha1(expected)) = &source.hash else { return false };
    // What it says of its length is believed by the hasher, which could overflow.
    let is_as_long = frames.sha1.get(20..28) == Some(&(frames.length / 64).to_le_bytes()[..]);
    let Some(mut hasher) = Sha1::deserialize(&frames.sha1.into()).ok().filter(|_| is_as_long) else { return false };
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
    /// The chunk read last, since decoders read in smaller steps.
    last: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

impl Checked {
    /// Takes the hashes of all chunks of the first `length` bytes of a file; nothing behind them can be read.
    pub fn new(file: StoredFile, length: u64, chunks: Arc<Vec<[u8; 32]>>) -> Self {
        Self { file, length, chunks, last: Mutex::default() }
    }

    fn chunk(&self, number: usize) -> Result<Arc<Vec<u8>>, storage::Error> {
        let lock = || self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, bytes)) = lock().as_ref().filter(|(last, _)| *last == number) {
            return Ok(bytes.clone());
        }
        let start = number as u64 * CHUNK as u64;
        let mut bytes = vec![0; CHUNK.min((self.length - start) as usize)];
        let count = self.file.read_at(start, &mut bytes)?;
        if count < bytes.len() || self.chunks.get(number) != Some(blake3::hash(&bytes).as_bytes()) {
            return Err(storage::Error {
                deed: "trust",
                place: self.file.name().to_string(),
                kind: ErrorKind::Other,
                cause: format!("the bytes from {start} on are not those whose hash was kept"),
            });
        }
        let bytes = Arc::new(bytes);
        *lock() = Some((number, bytes.clone()));
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
        let mut filled = 0;
        while filled < buffer.len() && offset + (filled as u64) < self.length {
            let at = offset + filled as u64;
            let chunk = self.chunk((at / CHUNK as u64) as usize)?;
            let from = &chunk[(at % CHUNK as u64) as usize..];
            let count = from.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&from[..count]);
            filled += count;
        }
        Ok(filled)
    }
}
