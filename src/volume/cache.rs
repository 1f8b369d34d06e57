//! Decoded frames, least recently used first out, bounded in bytes.

use super::VolumeKey;
use lru::LruCache;
use std::sync::{Arc, Mutex};

/// Keeps decoded frames up to a number of bytes.
pub struct FrameCache {
    inner: Mutex<Inner>,
}

struct Inner {
    frames: LruCache<(VolumeKey, usize), Arc<Vec<u8>>>,
    bytes: usize,
    limit: usize,
}

impl FrameCache {
    /// Makes an empty cache that holds at most `limit` bytes, or a single frame.
    pub fn new(limit: usize) -> Self {
        Self { inner: Mutex::new(Inner { frames: LruCache::unbounded(), bytes: 0, limit }) }
    }

    /// Returns a frame and counts it as used now.
    pub fn get(&self, volume: VolumeKey, frame: usize) -> Option<Arc<Vec<u8>>> {
        self.lock().frames.get(&(volume, frame)).cloned()
    }

    /// Adds a frame and drops the oldest ones that no longer fit.
    pub fn put(&self, volume: VolumeKey, frame: usize, bytes: Arc<Vec<u8>>) {
        let mut inner = self.lock();
        inner.bytes += bytes.len();
        if let Some((_, old)) = inner.frames.push((volume, frame), bytes) {
            inner.bytes -= old.len();
        }
        while inner.bytes > inner.limit && inner.frames.len() > 1 {
            if let Some((_, old)) = inner.frames.pop_lru() {
                inner.bytes -= old.len();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_bytes_and_keeps_what_is_used() {
        let cache = FrameCache::new(100);
        for frame in 0..10 {
            cache.put(1, frame, Arc::new(vec![0; 30]));
            cache.get(1, 0);
        }
        assert!(cache.get(1, 0).is_some() && cache.get(1, 9).is_some());
        assert!(cache.get(1, 5).is_none());
        assert_eq!(cache.lock().bytes, 90);
        cache.put(1, 0, Arc::new(vec![0; 10]));
        assert_eq!(cache.lock().bytes, 70);
    }
}
