//! Decoded frames, bounded in bytes; each is decoded once, however many ask for it at the same
//! time.

use super::VolumeKey;
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};
use std::sync::Arc;

/// Bytes of a frame that is reckoned with: where most are smaller, the cache holds more of them.
const USUAL: usize = 256 << 10;

/// Keeps decoded frames up to a number of bytes.
pub struct FrameCache(Cache<(VolumeKey, usize), Arc<Vec<u8>>, Bytes>);

#[derive(Clone)]
struct Bytes;

impl Weighter<(VolumeKey, usize), Arc<Vec<u8>>> for Bytes {
    fn weight(&self, _: &(VolumeKey, usize), frame: &Arc<Vec<u8>>) -> u64 {
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

    /// Returns a frame, decoded by whoever asks first; the others wait. After an error, the next
    /// one tries.
    ///
    /// # Errors
    /// Those of `decode`.
    pub fn get<E>(
        &self,
        volume: VolumeKey,
        frame: usize,
        decode: impl FnOnce() -> Result<Arc<Vec<u8>>, E>,
    ) -> Result<Arc<Vec<u8>>, E> {
        self.0.get_or_insert_with(&(volume, frame), decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn stays_within_its_bytes_and_keeps_what_is_used() {
        let cache = FrameCache::new(100);
        let decoded = AtomicUsize::new(0);
        let get = |frame: usize| {
            let decode = || {
                decoded.fetch_add(1, Ordering::Relaxed);
                Ok::<_, ()>(Arc::new(vec![0; 30]))
            };
            assert_eq!(cache.get(1, frame, decode).unwrap().len(), 30);
        };
        for frame in 0..10 {
            get(frame);
            get(0);
            get(0);
        }
        assert!(cache.0.weight() <= 100, "{}", cache.0.weight());
        assert_eq!(decoded.load(Ordering::Relaxed), 10, "what is used stays");
    }

    #[test]
    fn who_asks_meanwhile_waits_and_an_error_is_not_kept() {
        let cache = FrameCache::new(100);
        let decoded = AtomicUsize::new(0);
        assert_eq!(cache.get(1, 0, || Err("away")), Err("away"));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let decode = || {
                        decoded.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        Ok::<_, &str>(Arc::new(vec![7; 10]))
                    };
                    assert_eq!(*cache.get(1, 0, decode).unwrap(), [7; 10]);
                });
            }
        });
        assert_eq!(decoded.load(Ordering::Relaxed), 1);
    }
}
