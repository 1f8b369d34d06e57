//! Decoded frames, bounded in bytes; each is decoded once, however many ask for it at the same
//! time.

use super::VolumeKey;
use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a frame that is reckoned with: where most are smaller, the cache holds more of them.
const USUAL: usize = 256 << 10;

/// One frame: its volume, and which of its plain bytes it holds. Not its number: the same volume is
/// cut in one way by a first pass, and in another by its table, and the catalog may be filled anew
/// by the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub volume: VolumeKey,
    pub start: u64,
    pub end: u64,
}

/// Plain bytes of a frame.
type Frame = Arc<Vec<u8>>;

/// Keeps decoded frames up to a number of bytes.
pub struct FrameCache(Cache<Key, Frame, Bytes>);

/// What has become of a frame.
pub enum Found<'c> {
    /// Here it is.
    Frame(Frame),
    /// It is for whoever asked to decode it; all others wait for that.
    Claimed(Claim<'c>),
    /// Somebody else decodes it just now.
    Busy,
}

/// The duty to decode a frame. Dropped without that, it passes to the next one who asks.
pub struct Claim<'c>(PlaceholderGuard<'c, Key, Frame, Bytes, DefaultHashBuilder, Lifecycle>);

type Lifecycle = DefaultLifecycle<Key, Frame>;

impl Claim<'_> {
    /// Gives the frame to all who wait for it, and to the cache.
    pub fn fill(self, frame: Frame) {
        // What has been cleared meanwhile need not be kept.
        let _ = self.0.insert(frame);
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Frame> for Bytes {
    fn weight(&self, _: &Key, frame: &Frame) -> u64 {
        frame.len().max(1) as u64
    }
}

impl FrameCache {
    /// Makes an empty cache that holds at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Cache::with_options(
            // One shard: a frame must not be refused because its shard is too small for it.
            OptionsBuilder::new()
                .estimated_items_capacity(limit / USUAL + 1)
                .weight_capacity(limit as u64)
                .shards(1)
                .build()
                .unwrap_or_else(|_| unreachable!("both capacities are given")),
            Bytes,
            Default::default(),
            Default::default(),
        ))
    }

    /// Returns how many bytes it holds at most.
    pub fn limit(&self) -> u64 {
        self.0.capacity()
    }

    /// Returns a frame, or the duty to decode it.
    pub fn find(&self, frame: Key) -> Found<'_> {
        self.get(frame, Some(Duration::ZERO))
    }

    /// As [`FrameCache::find`], but waits while somebody else decodes it, so it is never
    /// [`Found::Busy`].
    pub fn wait_for(&self, frame: Key) -> Found<'_> {
        self.get(frame, None)
    }

    /// Claims a frame that nobody has asked for; `None` if it is here or under way. One that is here
    /// does not count as used by that.
    pub fn claim_ahead(&self, frame: Key) -> Option<Claim<'_>> {
        match (!self.0.contains_key(&frame)).then(|| self.find(frame))? {
            Found::Claimed(claim) => Some(claim),
            Found::Frame(_) | Found::Busy => None,
        }
    }

    fn get(&self, frame: Key, patience: Option<Duration>) -> Found<'_> {
        match self.0.get_value_or_guard(&frame, patience) {
            GuardResult::Value(frame) => Found::Frame(frame),
            GuardResult::Guard(guard) => Found::Claimed(Claim(guard)),
            GuardResult::Timeout => Found::Busy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key(start: u64) -> Key {
        Key { volume: 1, start, end: start + 1 }
    }

    #[test]
    fn stays_within_its_bytes_and_keeps_what_is_used() {
        let cache = FrameCache::new(100);
        let mut decoded = 0;
        let mut get = |frame: u64| match cache.find(key(frame)) {
            Found::Frame(frame) => assert_eq!(frame.len(), 30),
            Found::Claimed(claim) => {
                decoded += 1;
                claim.fill(Arc::new(vec![0; 30]));
            }
            Found::Busy => panic!("nobody else is here"),
        };
        for frame in 0..10 {
            get(frame);
            get(0);
            get(0);
        }
        // What is only read ahead pushes out nothing that is used.
        for frame in 100..200 {
            cache.claim_ahead(key(frame)).unwrap().fill(Arc::new(vec![0; 30]));
        }
        get(0);
        assert!(cache.claim_ahead(key(0)).is_none());
        assert!(cache.0.weight() <= 100, "{}", cache.0.weight());
        assert_eq!(decoded, 10, "what is used stays");
    }

    #[test]
    fn who_asks_meanwhile_waits_and_an_error_is_not_kept() {
        let cache = FrameCache::new(100);
        let decoded = AtomicUsize::new(0);
        let Found::Claimed(claim) = cache.find(key(0)) else { panic!("it is nowhere") };
        assert!(matches!(cache.find(key(0)), Found::Busy));
        assert!(cache.claim_ahead(key(0)).is_none());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| match cache.wait_for(key(0)) {
                    Found::Frame(frame) => assert_eq!(*frame, [7; 10]),
                    Found::Claimed(claim) => {
                        decoded.fetch_add(1, Ordering::Relaxed);
                        claim.fill(Arc::new(vec![7; 10]));
                    }
                    Found::Busy => panic!("it has not waited"),
                });
            }
            // Whoever had it could not.
            drop(claim);
        });
        assert_eq!(decoded.load(Ordering::Relaxed), 1);
    }
}
