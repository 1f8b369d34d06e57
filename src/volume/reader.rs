//! Any range of the plain tar of a volume, decoded frame by frame from the nearest seek point.

use super::cache::FrameCache;
use super::check::Checked;
use super::{Error, SeekIndex, VolumeKey, VolumeSource};
use crate::codec::{Codec, Reopened, SeekPoint};
use crate::storage::ReadAt;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Volumes that are kept ready for reading: session key, chunk hashes (2 KiB for each MiB of the
/// stored file), frame offsets.
const OPEN_VOLUMES: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// Keeps seek indexes and seek points between runs.
pub trait SeekIndexStore: Send + Sync {
    /// Returns the seek index of a volume that has had its first pass.
    fn seek_index(&self, volume: VolumeKey) -> Result<Option<SeekIndex>, String>;

    /// Returns the seek point of one frame.
    fn seek_point(&self, volume: VolumeKey, frame: usize) -> Result<Option<SeekPoint>, String>;
}

/// Reads ranges of volumes that have had their first pass. All methods may be called from many
/// threads at once.
pub struct VolumeReader {
    codec: Arc<Codec>,
    store: Arc<dyn SeekIndexStore>,
    frames: FrameCache,
    open: Mutex<LruCache<VolumeKey, Arc<OpenVolume>>>,
    decoded: AtomicU64,
}

struct OpenVolume {
    seek_index: SeekIndex,
    file: Arc<Checked>,
    /// Opened by whoever first needs a frame; the session key may take a while.
    reopened: OnceLock<Reopened>,
    /// Makes those who need it meanwhile wait, instead of deriving the key again.
    opening: Mutex<()>,
}

impl VolumeReader {
    /// Makes a reader that keeps at most `cache_bytes` of decoded frames.
    pub fn new(codec: Arc<Codec>, store: Arc<dyn SeekIndexStore>, cache_bytes: usize) -> Self {
        Self {
            codec,
            store,
            frames: FrameCache::new(cache_bytes),
            open: Mutex::new(LruCache::new(OPEN_VOLUMES)),
            decoded: AtomicU64::new(0),
        }
    }

    /// Returns how many frames have been decoded so far.
    pub fn frames_decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Fills `buffer` with the plain bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error`] when the volume has had no first pass, ends before the range does, or any byte of
    /// it cannot be read or checked.
    pub fn read(&self, source: &VolumeSource, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let (start, frame) = self.frame_at(source, at)?;
            let from = &frame[(at - start) as usize..];
            let count = from.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&from[..count]);
            filled += count;
        }
        Ok(())
    }

    /// Gets the volume ready: derives its session key, so that the first read need not.
    ///
    /// # Errors
    /// As [`VolumeReader::read`].
    pub fn prepare(&self, source: &VolumeSource) -> Result<(), Error> {
        let volume = self.volume(source)?;
        self.reopened(source, &volume).map(|_| ())
    }

    /// Returns the frame that holds the plain byte `at`, and the offset of its first byte; the byte
    /// is within it.
    fn frame_at(&self, source: &VolumeSource, at: u64) -> Result<(u64, Arc<Vec<u8>>), Error> {
        let volume = self.volume(source)?;
        let seek_index = &volume.seek_index;
        if at >= seek_index.plain_length {
            return Err(self.seek_error(
                source,
                format!("byte {at} lies behind the end at {}", seek_index.plain_length),
            ));
        }
        let number = seek_index.frames.partition_point(|&start| start <= at) - 1;
        let start = seek_index.frames[number];
        let frame = self.frames.get(source.key, number, || self.decode(source, &volume, number))?;
        Ok((start, frame))
    }

    /// Decodes one frame.
    fn decode(
        &self,
        source: &VolumeSource,
        volume: &OpenVolume,
        number: usize,
    ) -> Result<Arc<Vec<u8>>, Error> {
        let (seek_index, start) = (&volume.seek_index, volume.seek_index.frames[number]);
        let end = seek_index.frames.get(number + 1).copied().unwrap_or(seek_index.plain_length);
        let point = self
            .store
            .seek_point(source.key, number)
            .map_err(|cause| self.seek_error(source, cause))?;
        let point = point
            .ok_or_else(|| self.seek_error(source, format!("frame {number} has no seek point")))?;
        if point.plain != start {
            return Err(self.seek_error(
                source,
                format!("frame {number} does not start where its seek point does"),
            ));
        }
        let reopened = self.reopened(source, volume)?;
        // Where the next frame begins, this one has ended.
        let next = match number + 1 < seek_index.frames.len() {
            true => self
                .store
                .seek_point(source.key, number + 1)
                .map_err(|cause| self.seek_error(source, cause))?,
            false => None,
        };
        let stored_end =
            next.map_or(Ok(seek_index.stored_length), |next| reopened.stored_start(&next))?;
        let mut bytes = vec![0; (end - start) as usize];
        reopened.read(&point, stored_end, &mut bytes)?;
        self.decoded.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(bytes))
    }

    fn volume(&self, source: &VolumeSource) -> Result<Arc<OpenVolume>, Error> {
        let lock = || self.open.lock();
        if let Some(volume) = lock().get(&source.key) {
            return Ok(volume.clone());
        }
        let seek_index =
            self.store.seek_index(source.key).map_err(|cause| self.seek_error(source, cause))?;
        let seek_index =
            seek_index.ok_or_else(|| self.seek_error(source, "it has had no first pass".into()))?;
        if !seek_index.is_sound() {
            return Err(self.seek_error(source, "its seek index is damaged".into()));
        }
        let chunks = Arc::new(seek_index.chunks.clone());
        let file = Checked::new(source.file.clone(), seek_index.stored_length, chunks);
        let file = Arc::new(file.with_head(seek_index.head.clone()));
        let volume = Arc::new(OpenVolume {
            seek_index: SeekIndex { chunks: Vec::new(), head: Vec::new(), ..seek_index },
            file,
            reopened: OnceLock::new(),
            opening: Mutex::default(),
        });
        lock().put(source.key, volume.clone());
        Ok(volume)
    }

    fn reopened<'a>(
        &self,
        source: &VolumeSource,
        volume: &'a OpenVolume,
    ) -> Result<&'a Reopened, Error> {
        if let Some(reopened) = volume.reopened.get() {
            return Ok(reopened);
        }
        let _only_one = volume.opening.lock();
        if let Some(reopened) = volume.reopened.get() {
            return Ok(reopened);
        }
        let reopened = self.codec.reopen(volume.file.clone(), source.encoding)?;
        Ok(volume.reopened.get_or_init(|| reopened))
    }

    fn seek_error(&self, source: &VolumeSource, cause: String) -> Error {
        Error::SeekIndex { name: source.file.name().into(), cause }
    }
}
