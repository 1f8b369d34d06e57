//! [`Fetched`]: files that were fetched whole, to be read from here.
//!
//! A few are kept, those that were read last. However many wait for one file, it is fetched once.
//! None of them has a name on this machine's disk any more, so nothing of them outlives the process.

use crate::storage::Listed;
use lru::LruCache;
use parking_lot::Mutex;
use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Files that are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// A file, or the place for it, which is locked while it is fetched.
type Slot = Arc<Mutex<Option<Arc<File>>>>;

/// Files that were fetched.
pub struct Fetched(Mutex<LruCache<Listed, Slot>>);

impl Default for Fetched {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl Fetched {
    /// Returns a file, fetched now if it was not, or waited for while another thread does.
    pub fn get<E>(
        &self,
        file: &Listed,
        fetch: impl FnOnce() -> Result<File, E>,
    ) -> Result<Arc<File>, E> {
        let slot = self.0.lock().get_or_insert(file.clone(), Slot::default).clone();
        let mut kept = slot.lock();
        if let Some(found) = &*kept {
            return Ok(found.clone());
        }
        Ok(kept.insert(Arc::new(fetch()?)).clone())
    }

    /// Forgets the files of a name.
    pub fn forget(&self, name: &str) {
        let mut kept = self.0.lock();
        let stale: Vec<_> =
            kept.iter().map(|(file, _)| file).filter(|file| file.name == name).cloned().collect();
        stale.iter().for_each(|file| drop(kept.pop(file)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn a_file_is_fetched_once_however_many_wait() {
        let (fetched, count) = (Fetched::default(), AtomicUsize::new(0));
        let named = |name: &str| Listed { name: name.into(), size: 1, stamp: 2 };
        let fetch = || {
            count.fetch_add(1, Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(20));
            File::open("/dev/null")
        };
        let get = |name: &str| fetched.get(&named(name), fetch).unwrap();
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(|| get("a")))));
        assert_eq!(count.load(Relaxed), 1);
        fetched.forget("a");
        get("a");
        assert_eq!(count.load(Relaxed), 2);
        // What failed is tried again.
        assert!(fetched.get(&named("b"), || Err(())).is_err());
        for name in ["b", "c", "d", "e", "a"] {
            get(name);
        }
        assert_eq!(count.load(Relaxed), 7, "the oldest one is kept no more");
    }
}
