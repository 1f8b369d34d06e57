//! Any range of the plain tar of volumes, decoded frame by frame from the nearest seek points.
//!
//! ```text
//! wanted ranges ─► frames ─┬─ in the cache, or under way elsewhere
//!                          └─ claimed ─► stored ranges, those of neighbours as one ─► one read_many
//!                                                   chunks checked, frames decoded, cached ◄──┘
//! ```
//! Where a volume is read in sequence, the frames behind are claimed, too, and more of them each
//! time: it does not matter to which files they belong, so a directory that is read in the order of
//! the volume is read ahead across files.
//!
//! Nobody waits for a frame of others while others may wait for one that he has claimed: he fetches
//! his first.

use super::cache::{Claim, Found, FrameCache, Key};
use super::check::Checked;
use super::memory_budget::{MemoryBudget, Reservation};
use super::streams::Streams;
use super::{Error, SeekIndex, VolumeKey, VolumeSource};
use crate::codec::{Codec, Reopened, SeekPoint};
use crate::storage::{self, ReadAt, StoredFile};
use crate::work;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Volumes that are kept ready for reading: session key, chunk hashes (2 KiB for each MiB of the
/// stored file), frame offsets.
const OPEN_VOLUMES: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// Bytes, stored and plain, that are held by all reads of the process together, besides caches and
/// their buffers: 32 frames that compression does not make smaller.
const HELD: u64 = 64 << 20;

/// What may be read ahead at once is so much smaller than the cache.
const AHEAD: u64 = 4;

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
    memory: MemoryBudget,
    decoded: AtomicU64,
}

/// Plain bytes of one volume that are wanted.
pub struct Wanted<'b> {
    /// The volume.
    pub source: VolumeSource,
    /// Where they begin in its plain tar.
    pub offset: u64,
    /// Where they go.
    pub buffer: &'b mut [u8],
}

impl Wanted<'_> {
    fn again(&mut self) -> Wanted<'_> {
        Wanted { source: self.source.clone(), offset: self.offset, buffer: self.buffer }
    }
}

struct OpenVolume {
    source: VolumeSource,
    seek_index: SeekIndex,
    file: Arc<Checked>,
    /// Opened by whoever first needs a frame; the session key may take a while.
    reopened: OnceLock<Reopened>,
    /// Makes those who need it meanwhile wait, instead of deriving the key again.
    opening: Mutex<()>,
    streams: Mutex<Streams>,
}

/// A frame that is wanted.
struct Need<'b> {
    volume: Arc<OpenVolume>,
    number: usize,
    /// Offsets within the frame, and where the bytes from there on go.
    parts: Vec<(usize, &'b mut [u8])>,
}

/// How to decode a frame.
struct Plan {
    volume: Arc<OpenVolume>,
    number: usize,
    point: SeekPoint,
    /// Plain bytes of the frame.
    length: usize,
    /// Where its stored bytes are; empty where it takes the whole file.
    stored: Range<u64>,
}

/// Frames that are fetched together.
#[derive(Default)]
struct Batch<'r, 'b> {
    plans: Vec<Plan>,
    /// For each plan the claim, and what is wanted of the frame; nothing if it is read ahead.
    claims: Vec<(Claim<'r>, Option<Need<'b>>)>,
    reserved: Option<Reservation<'r>>,
}

impl OpenVolume {
    fn key(&self) -> VolumeKey {
        self.source.key
    }

    /// Names a frame for the cache.
    fn frame(&self, number: usize) -> Key {
        let Range { start, end } = self.seek_index.frame(number);
        Key { volume: self.key(), start, end }
    }

    fn error(&self, cause: impl Into<String>) -> Error {
        seek_error(&self.source, cause)
    }
}

impl Need<'_> {
    fn key(&self) -> Key {
        self.volume.frame(self.number)
    }

    fn take_from(&mut self, frame: &[u8]) -> Result<(), Error> {
        for (at, buffer) in &mut self.parts {
            let bytes = frame.get(*at..*at + buffer.len());
            let bytes = bytes.ok_or_else(|| self.volume.error("a frame of it is too short"))?;
            buffer.copy_from_slice(bytes);
        }
        Ok(())
    }
}

impl Plan {
    /// Returns how many bytes are held for it at once.
    fn cost(&self) -> u64 {
        (self.stored.end - self.stored.start).saturating_add(self.length as u64)
    }
}

impl VolumeReader {
    /// Makes a reader that keeps at most `cache_bytes` of decoded frames.
    pub fn new(codec: Arc<Codec>, store: Arc<dyn SeekIndexStore>, cache_bytes: usize) -> Self {
        Self {
            codec,
            store,
            frames: FrameCache::new(cache_bytes),
            open: Mutex::new(LruCache::new(OPEN_VOLUMES)),
            memory: MemoryBudget::new(HELD),
            decoded: AtomicU64::new(0),
        }
    }

    /// Returns how many frames have been decoded so far.
    pub fn frames_decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Fills `buffer` with the plain bytes of one volume from `offset` on.
    ///
    /// # Errors
    /// [`Error`] when the volume has had no first pass, ends before the range does, or any byte of
    /// it cannot be read or checked.
    pub fn read(&self, source: &VolumeSource, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.read_all(vec![Wanted { source: source.clone(), offset, buffer }])
    }

    /// Fills all buffers, whatever volumes they come from: what is not in the cache is fetched
    /// together.
    ///
    /// # Errors
    /// As [`VolumeReader::read`].
    pub fn read_all(&self, mut wanted: Vec<Wanted<'_>>) -> Result<(), Error> {
        match self.try_read_all(wanted.iter_mut().map(Wanted::again).collect()) {
            // The catalog may have been filled anew since the volumes were opened, and cut them in
            // another way: by a table instead of a first pass, or the other way round.
            Err(Error::SeekIndex { .. }) => {
                for Wanted { source, .. } in &wanted {
                    self.open.lock().pop(&source.key);
                }
                self.try_read_all(wanted)
            }
            result => result,
        }
    }

    fn try_read_all(&self, wanted: Vec<Wanted<'_>>) -> Result<(), Error> {
        let mut needs = self.needs(wanted)?;
        let going_on = going_on(&needs);
        let mut waits = false;
        while !needs.is_empty() {
            let (mut batch, left) = self.claim(needs, waits)?;
            needs = left;
            // All that is left is under way elsewhere.
            waits = batch.plans.is_empty();
            going_on.iter().for_each(|volume| self.claim_ahead(volume, &mut batch));
            self.fetch(batch)?;
        }
        Ok(())
    }

    /// Gets the volume ready: derives its session key, so that the first read need not.
    ///
    /// # Errors
    /// As [`VolumeReader::read`].
    pub fn prepare(&self, source: &VolumeSource) -> Result<(), Error> {
        let volume = self.volume(source)?;
        self.reopened(&volume).map(|_| ())
    }

    /// Returns the frames in which the wanted bytes lie, in the order of these.
    fn needs<'b>(&self, wanted: Vec<Wanted<'b>>) -> Result<Vec<Need<'b>>, Error> {
        let (mut needs, mut known) = (Vec::<Need<'b>>::new(), HashMap::new());
        for Wanted { source, offset, mut buffer } in wanted {
            let volume = self.volume(&source)?;
            let seek_index = &volume.seek_index;
            let mut at = offset;
            while !buffer.is_empty() {
                if at >= seek_index.plain_length {
                    return Err(volume.error(format!(
                        "byte {at} lies behind the end at {}",
                        seek_index.plain_length
                    )));
                }
                let number = seek_index.frames.partition_point(|&start| start <= at) - 1;
                let Range { start, end } = seek_index.frame(number);
                let here = (end - at).min(buffer.len() as u64) as usize;
                let (part, rest) = buffer.split_at_mut(here);
                let need = *known.entry(volume.frame(number)).or_insert_with(|| {
                    needs.push(Need { volume: volume.clone(), number, parts: Vec::new() });
                    needs.len() - 1
                });
                needs[need].parts.push(((at - start) as usize, part));
                (buffer, at) = (rest, end);
            }
        }
        Ok(needs)
    }

    /// Takes what is in the cache, and claims what is nowhere, as far as its bytes may be held.
    /// Returns what is claimed, and all that is left over. If it `waits`, the first frame is had
    /// in any case.
    fn claim<'b>(
        &self,
        needs: Vec<Need<'b>>,
        mut waits: bool,
    ) -> Result<(Batch<'_, 'b>, Vec<Need<'b>>), Error> {
        let (mut batch, mut left, mut is_full) = (Batch::default(), Vec::new(), false);
        for mut need in needs {
            let found = match std::mem::take(&mut waits) {
                true => self.frames.wait_for(need.key()),
                false if is_full => Found::Busy,
                false => self.frames.find(need.key()),
            };
            match found {
                Found::Frame(frame) => need.take_from(&frame)?,
                Found::Busy => left.push(need),
                Found::Claimed(claim) => {
                    let plan = self.plan(&need.volume, need.number)?;
                    let fits = match &mut batch.reserved {
                        Some(reserved) => reserved.grow(plan.cost()),
                        none => {
                            *none = Some(self.memory.reserve(plan.cost()));
                            true
                        }
                    };
                    if fits {
                        batch.plans.push(plan);
                        batch.claims.push((claim, Some(need)));
                    } else {
                        is_full = true;
                        left.push(need);
                    }
                }
            }
        }
        Ok((batch, left))
    }

    /// Claims frames behind the last one that is fetched of a volume. What goes wrong with them is
    /// for whoever needs them.
    fn claim_ahead<'r>(&'r self, volume: &Arc<OpenVolume>, batch: &mut Batch<'r, '_>) {
        let fetched = batch.plans.iter().filter(|plan| plan.volume.key() == volume.key());
        let (count, last) =
            fetched.fold((0, 0), |(count, last), plan| (count + 1, plan.number.max(last)));
        let Some(reserved) = batch.reserved.as_mut().filter(|_| count > 0) else { return };
        let window = volume.streams.lock().widen();
        let mut bytes = self.frames.limit() / AHEAD;
        let behind = last + 1..volume.seek_index.frames.len();
        for number in behind.take(window.saturating_sub(count)) {
            let Some(claim) = self.frames.claim_ahead(volume.frame(number)) else { return };
            let Ok(plan) = self.plan(volume, number) else { return };
            let Some(left) = bytes.checked_sub(plan.length as u64) else { return };
            if !reserved.grow(plan.cost()) {
                return;
            }
            bytes = left;
            batch.plans.push(plan);
            batch.claims.push((claim, None));
        }
    }

    /// Finds out how a frame is decoded.
    fn plan(&self, volume: &Arc<OpenVolume>, number: usize) -> Result<Plan, Error> {
        let seek_index = &volume.seek_index;
        let Range { start, end } = seek_index.frame(number);
        let find = |number| {
            let point = self.store.seek_point(volume.key(), number);
            point.map_err(|cause| volume.error(cause))
        };
        let point = find(number)?
            .ok_or_else(|| volume.error(format!("frame {number} has no seek point")))?;
        if point.plain != start {
            return Err(
                volume.error(format!("frame {number} does not start where its seek point does"))
            );
        }
        // Where the next frame begins, this one has ended.
        let is_last = number + 1 == seek_index.frames.len();
        let next = if is_last { None } else { find(number + 1)? };
        let stored = self.reopened(volume)?.stored_range(&point, next.as_ref())?;
        let (volume, length) = (volume.clone(), (end - start) as usize);
        Ok(Plan { volume, number, point, length, stored: stored.unwrap_or_default() })
    }

    /// Fetches and decodes frames, and gives them to all who want them.
    fn fetch(&self, batch: Batch<'_, '_>) -> Result<(), Error> {
        let Batch { plans, claims, reserved } = batch;
        let stretches = Stretches::fetch(&plans);
        let frames = work::all(&plans, work::cores(), |plan| self.decode(plan, &stretches));
        let mut result = Ok(());
        for ((claim, need), frame) in claims.into_iter().zip(frames) {
            match (frame, need) {
                (Ok(frame), need) => {
                    let taken = need.map_or(Ok(()), |mut need| need.take_from(&frame));
                    result = result.and(taken);
                    claim.fill(frame);
                }
                (Err(error), Some(_)) => result = result.and(Err(error)),
                (Err(_), None) => {}
            }
        }
        drop(reserved);
        result
    }

    fn decode(&self, plan: &Plan, stretches: &Stretches) -> Result<Arc<Vec<u8>>, Error> {
        let volume = &plan.volume;
        let file: Arc<dyn ReadAt> = match stretches.of(plan) {
            Some(Stretch { stored, bytes, .. }) => {
                match volume.file.fetched(stored.start, bytes.clone()?, &plan.stored) {
                    Ok(fetched) => Arc::new(fetched),
                    // From another copy, if there is one.
                    Err(error) if error.is_damage() => {
                        Arc::new(volume.file.fetch_again(&plan.stored)?)
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            None => volume.file.clone(),
        };
        let mut bytes = vec![0; plan.length];
        self.reopened(&plan.volume)?.read_from(&file, &plan.point, &mut bytes)?;
        self.decoded.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(bytes))
    }

    fn volume(&self, source: &VolumeSource) -> Result<Arc<OpenVolume>, Error> {
        let lock = || self.open.lock();
        if let Some(volume) = lock().get(&source.key) {
            return Ok(volume.clone());
        }
        let seek_index =
            self.store.seek_index(source.key).map_err(|cause| seek_error(source, cause))?;
        let seek_index =
            seek_index.ok_or_else(|| seek_error(source, "it has had no first pass"))?;
        if !seek_index.is_sound() {
            return Err(seek_error(source, "its seek index is damaged"));
        }
        let chunks = Arc::new(seek_index.chunks.clone());
        let file = Checked::new(source.file.clone(), seek_index.stored_length, chunks);
        let file = Arc::new(file.with_head(seek_index.head.clone()));
        let volume = Arc::new(OpenVolume {
            source: source.clone(),
            seek_index: SeekIndex { chunks: Vec::new(), head: Vec::new(), ..seek_index },
            file,
            reopened: OnceLock::new(),
            opening: Mutex::default(),
            streams: Mutex::default(),
        });
        lock().put(source.key, volume.clone());
        Ok(volume)
    }

    fn reopened<'a>(&self, volume: &'a OpenVolume) -> Result<&'a Reopened, Error> {
        if let Some(reopened) = volume.reopened.get() {
            return Ok(reopened);
        }
        let _only_one = volume.opening.lock();
        if let Some(reopened) = volume.reopened.get() {
            return Ok(reopened);
        }
        let encoding = volume.source.encoding;
        let reopened = self.codec.reopen(volume.file.clone(), encoding).or_else(|error| {
            // What is known of the first bytes was read beside a table, and no hash has matched yet.
            match error.is_of_content() {
                true => self.codec.reopen(Arc::new(volume.file.without_head()), encoding),
                false => Err(error),
            }
        })?;
        Ok(volume.reopened.get_or_init(|| reopened))
    }
}

/// Takes note of what is wanted of each volume; returns those that are read on where they were left.
fn going_on(needs: &[Need<'_>]) -> Vec<Arc<OpenVolume>> {
    let mut volumes: BTreeMap<VolumeKey, (&Arc<OpenVolume>, usize, usize)> = BTreeMap::new();
    for Need { volume, number, .. } in needs {
        let (_, first, last) = volumes.entry(volume.key()).or_insert((volume, *number, *number));
        (*first, *last) = ((*first).min(*number), (*last).max(*number));
    }
    let goes_on = |(volume, first, last): (&Arc<OpenVolume>, usize, usize)| {
        volume.streams.lock().go_on(first, last).then(|| volume.clone())
    };
    volumes.into_values().filter_map(goes_on).collect()
}

/// Stored bytes of several volumes that came together.
struct Stretches(Vec<Stretch>);

struct Stretch {
    volume: VolumeKey,
    stored: Range<u64>,
    bytes: Result<Arc<Vec<u8>>, storage::Error>,
}

impl Stretches {
    /// Reads what frames need, in whole chunks; those of neighbours by one range.
    fn fetch(plans: &[Plan]) -> Self {
        let mut wanted: Vec<(&Plan, Range<u64>)> = plans
            .iter()
            .filter(|plan| !plan.stored.is_empty())
            .map(|plan| (plan, plan.volume.file.whole_chunks(&plan.stored)))
            .collect();
        wanted.sort_by_key(|(plan, range)| (plan.volume.key(), range.start));
        let mut stretches: Vec<(&Plan, Range<u64>)> = Vec::new();
        for (plan, range) in wanted {
            match stretches.last_mut() {
                Some((before, stretch))
                    if before.volume.key() == plan.volume.key() && range.start <= stretch.end =>
                {
                    stretch.end = stretch.end.max(range.end);
                }
                _ => stretches.push((plan, range)),
            }
        }
        let ranges: Vec<_> = stretches
            .iter()
            .map(|(plan, range)| (&plan.volume.source.file, range.clone()))
            .collect();
        let bytes = StoredFile::read_many(&ranges).into_iter();
        let stretch = |((plan, stored), bytes): ((&Plan, _), Result<_, _>)| Stretch {
            volume: plan.volume.key(),
            stored,
            bytes: bytes.map(Arc::new),
        };
        Self(stretches.into_iter().zip(bytes).map(stretch).collect())
    }

    /// Returns the one in which the bytes of a frame are; `None` if it takes the whole file.
    fn of(&self, plan: &Plan) -> Option<&Stretch> {
        let holds = |stretch: &&Stretch| {
            stretch.volume == plan.volume.key()
                && stretch.stored.start <= plan.stored.start
                && plan.stored.end <= stretch.stored.end
        };
        self.0.iter().find(holds).filter(|_| !plan.stored.is_empty())
    }
}

fn seek_error(source: &VolumeSource, cause: impl Into<String>) -> Error {
    Error::SeekIndex { name: source.file.name().into(), cause: cause.into() }
}
