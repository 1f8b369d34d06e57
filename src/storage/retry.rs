//! [`RetryingStorage`]: a storage around another that tries again when that can help.

use super::{Error, ErrorKind, Listed, Staged, StagedWriter, Storage};
use crate::monitor::{Level, Monitor};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::sync::Arc;
use std::time::Duration;

/// Repeats failed calls, as `--num-retries` and `--backend-retry-delay` ask. What is not there, or
/// not allowed, is not tried again. Pauses begin short and grow, so that what is back soon costs
/// little; the delay is the longest of them.
pub struct RetryingStorage {
    inner: Arc<dyn Storage>,
    tries: u32,
    delay: Duration,
    monitor: Arc<dyn Monitor>,
}

impl RetryingStorage {
    /// Tries each call of `inner` up to `tries` times (at least once), with pauses of up to `delay`
    /// in between. `monitor` hears of each failure that is not the last.
    pub fn new(
        inner: Arc<dyn Storage>,
        tries: u32,
        delay: Duration,
        monitor: Arc<dyn Monitor>,
    ) -> Self {
        Self { inner, tries: tries.max(1), delay, monitor }
    }

    /// Returns a sixteenth of the delay, a quarter of it, then all of it, each with a random
    /// addition.
    fn pauses(&self) -> impl Iterator<Item = Duration> {
        let growing = ExponentialBuilder::new()
            .with_min_delay(self.delay / 16)
            .with_factor(4.0)
            .with_max_delay(self.delay);
        growing.with_jitter().without_max_times().build()
    }

    fn retry<T>(&self, call: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        let mut attempt = 1;
        let mut pauses = self.pauses();
        loop {
            match call() {
                Err(error) if error.kind == ErrorKind::Other && attempt < self.tries => {
                    let text =
                        format!("Attempt of {} Nr. {attempt} failed. {error}", error.operation);
                    self.monitor.message(Level::Warning, &text);
                    attempt += 1;
                    std::thread::sleep(pauses.next().unwrap_or(self.delay).min(self.delay));
                }
                // The words that monitoring scripts look for.
                result => {
                    return result.map_err(|error| match error.kind {
                        ErrorKind::Other => Error {
                            cause: format!("Giving up after {attempt} attempts. {}", error.cause),
                            ..error
                        },
                        _ => error,
                    });
                }
            }
        }
    }
}

impl Storage for RetryingStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.retry(|| self.inner.list())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        // Borrowed mutably once per try, never by two at a time.
        let buffer = std::cell::RefCell::new(buffer);
        self.retry(|| self.inner.read_at(name, offset, &mut buffer.borrow_mut()))
    }

    fn prepare(&self) -> Result<(), Error> {
        self.retry(|| self.inner.prepare())
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        self.retry(|| self.inner.stage(name))
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        self.retry(|| self.inner.put(staged))
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        self.retry(|| self.inner.delete(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Call, MemoryStorage, RecordingStorage};
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Monitor for Heard {
        fn message(&self, _: Level, text: &str) {
            self.0.lock().push(text.into());
        }
    }

    #[test]
    fn tries_again_where_that_can_help() {
        let list = |kind, failures: u32, tries| {
            let heard = Arc::new(Heard::default());
            let left = AtomicU32::new(failures);
            let fails = move |_: &Call| {
                left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).ok().map(|_| kind)
            };
            let failing =
                Arc::new(RecordingStorage::failing(Arc::new(MemoryStorage::default()), fails));
            let result = RetryingStorage::new(failing, tries, Duration::ZERO, heard.clone()).list();
            (result.map_err(|error| error.to_string()), heard.0.lock().clone())
        };
        let attempt = |number: u32| {
            format!("Attempt of list Nr. {number} failed. cannot list 'memory:': told to fail")
        };
        assert_eq!(list(ErrorKind::Other, 2, 3), (Ok(Vec::new()), vec![attempt(1), attempt(2)]));
        let given_up =
            "cannot list 'memory:': Giving up after 2 attempts. told to fail".to_string();
        assert_eq!(list(ErrorKind::Other, 2, 2), (Err(given_up), vec![attempt(1)]));
        assert_eq!(
            list(ErrorKind::NotFound, 1, 3),
            (Err("cannot list 'memory:': told to fail".into()), vec![])
        );
        // duplicity's own code fails on this number of tries.
        assert_eq!(list(ErrorKind::Other, 0, 0), (Ok(Vec::new()), vec![]));
    }
}
