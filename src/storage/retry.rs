//! [`RetryingStorage`]: a storage around another that tries again when that can help.

use super::{Error, ErrorKind, Listed, Storage, StoredWriter};
use crate::monitor::{Level, Monitor};
use std::sync::Arc;
use std::time::Duration;

/// Repeats failed calls, as `--num-retries` and `--backend-retry-delay` ask. What is not there, or not allowed, is not tried again.
pub struct RetryingStorage {
    inner: Arc<dyn Storage>,
    tries: u32,
    delay: Duration,
    monitor: Arc<dyn Monitor>,
}

impl RetryingStorage {
    /// Tries each call of `inner` up to `tries` times (at least once), with `delay` in between.
    /// `monitor` hears of each failure that is not the last.
    pub fn new(inner: Arc<dyn Storage>, tries: u32, delay: Duration, monitor: Arc<dyn Monitor>) -> Self {
        Self { inner, tries: tries.max(1), delay, monitor }
    }

    fn retry<T>(&self, call: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            match call() {
                Err(error) if error.kind == ErrorKind::Other && attempt < self.tries => {
                    let text = format!("Attempt of {} Nr. {attempt} failed. {error}", error.deed);
                    self.monitor.message(Level::Warning, &text);
                    attempt += 1;
                    std::thread::sleep(self.delay);
                }
                result => return result,
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

    /// Tries again to begin a file. Bytes that are gone cannot be written again: a storage that can lose them keeps them itself.
    fn create(&self, name: &str) -> Result<Box<dyn StoredWriter>, Error> {
        self.retry(|| self.inner.create(name))
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        self.retry(|| self.inner.delete(name))
    }
}
