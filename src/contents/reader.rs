//! [`Contents`]: sizes, and any range of any version.

use super::{Error, ExtentMap, Piece};
use crate::catalog::{Chain, Version, VersionId};
use crate::codec::Codec;
use crate::sets::Sets;
use crate::volume::{VolumeReader, Wanted};
use lru::LruCache;
use parking_lot::Mutex;
use std::sync::Arc;

/// Compiled maps that are kept, in bytes: some 200,000 pieces, or 20,000 small files.
const MAP_BYTES: usize = 8 * 1024 * 1024;

/// Sizes and bytes of versions. All methods may be called from many threads at once.
pub struct Contents {
    sets: Arc<Sets>,
    volumes: VolumeReader,
    maps: Mutex<Maps>,
}

#[derive(Default)]
struct Maps {
    known: Option<LruCache<VersionId, Arc<ExtentMap>>>,
    bytes: usize,
}

/// A file that is open for reading: its map stays, whatever becomes of the catalog.
#[derive(Clone)]
pub struct File {
    chain: Arc<Chain>,
    map: Arc<ExtentMap>,
}

impl File {
    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.map.size()
    }
}

impl Contents {
    /// Reads through a cache of at most `cache_bytes` of decoded frames.
    pub fn new(sets: Arc<Sets>, codec: Arc<Codec>, cache_bytes: usize) -> Self {
        let volumes = VolumeReader::new(codec, sets.seek_indexes(), cache_bytes);
        Self { sets, volumes, maps: Mutex::default() }
    }

    /// Returns the sets behind.
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// Returns the reader of volumes behind.
    pub fn volumes(&self) -> &VolumeReader {
        &self.volumes
    }

    /// Returns the exact size of a file in bytes; needs the volumes of its own set only.
    ///
    /// # Errors
    /// [`Error`] when a volume cannot be read, or the version does not add up to a file.
    pub fn size(&self, chain: &Chain, version: &Version) -> Result<u64, Error> {
        match version.kind {
            crate::catalog::VersionKind::Present { size: Some(size), .. } => Ok(size),
            _ => Ok(self.own_part(chain, version)?.length()),
        }
    }

    /// Opens a file: finds out where all its bytes lie.
    ///
    /// # Errors
    /// As [`Contents::size`], for each set down to the last whole member.
    pub fn open(&self, chain: &Arc<Chain>, version: &Version) -> Result<File, Error> {
        if let Some(map) = self.lock().known.as_mut().and_then(|known| known.get(&version.id)) {
            return Ok(File { chain: chain.clone(), map: map.clone() });
        }
        let map = Arc::new(self.compile(chain, version)?);
        let mut maps = self.lock();
        maps.bytes += map.weight();
        let known = maps.known.get_or_insert_with(LruCache::unbounded);
        let mut dropped = known.push(version.id, map.clone()).map_or(0, |(_, old)| old.weight());
        while maps.bytes - dropped > MAP_BYTES
            && let Some((_, old)) = maps.known.as_mut().and_then(LruCache::pop_lru)
        {
            dropped += old.weight();
        }
        maps.bytes -= dropped;
        Ok(File { chain: chain.clone(), map })
    }

    /// Fills `buffer` with the bytes of a file from `offset` on; returns how many, fewer only at
    /// its end.
    ///
    /// # Errors
    /// [`Error`] when any of these bytes cannot be read or trusted.
    pub fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = buffer.len();
        let (mut wanted, mut rest) = (Vec::new(), buffer);
        for piece in file.map.slice(offset, length as u64) {
            let (buffer, behind) = rest.split_at_mut(piece.length as usize);
            let source = self.sets.volume(&file.chain, piece.position, piece.volume)?;
            wanted.push(Wanted { source, offset: piece.offset, buffer });
            rest = behind;
        }
        let filled = length - rest.len();
        self.volumes.read_all(wanted)?;
        Ok(filled)
    }

    pub(super) fn read_piece(
        &self,
        chain: &Chain,
        piece: &Piece,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let source = self.sets.volume(chain, piece.position, piece.volume)?;
        Ok(self.volumes.read(&source, piece.offset, buffer)?)
    }

    pub(super) fn path_for_message(&self, version: &Version) -> String {
        self.sets
            .path(version)
            .map_or_else(|_| version.name.escape_ascii().to_string(), |path| path.to_string())
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Maps> {
        self.maps.lock()
    }
}
