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
                // The words that monitoring scripts look for.
                result => {
                    return result.map_err(|error| match error.kind {
                        ErrorKind::Other => {
                            Error { cause: format!("Giving up after {attempt} attempts. {}", error.cause), ..error }
                        }
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

    /// Tries again to begin a file. Bytes that are gone cannot be written again: a storage that can lose them keeps them itself.
    fn create(&self, name: &str) -> Result<Box<dyn StoredWriter>, Error> {
        self.retry(|| self.inner.create(name))
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        self.retry(|| self.inner.delete(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Fails some times, then lists nothing.
    struct Failing(ErrorKind, AtomicU32);

    impl Storage for Failing {
        fn location(&self) -> String {
            "x".into()
        }

        fn list(&self) -> Result<Vec<Listed>, Error> {
            let left = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map_or(Ok(Vec::new()), |_| Err(Error { deed: "list", place: "x".into(), kind: self.0, cause: "busy".into() }))
        }

        fn read_at(&self, _: &str, _: u64, _: &mut [u8]) -> Result<usize, Error> {
            unreachable!()
        }

        fn prepare(&self) -> Result<(), Error> {
            unreachable!()
        }

        fn create(&self, _: &str) -> Result<Box<dyn StoredWriter>, Error> {
            unreachable!()
        }

        fn delete(&self, _: &str) -> Result<(), Error> {
            unreachable!()
        }
    }

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Monitor for Heard {
        fn message(&self, _: Level, text: &str) {
            self.0.lock().unwrap().push(text.into());
        }
    }

    #[test]
    fn tries_again_where_that_can_help() {
        let list = |kind, failures: u32, tries| {
            let heard = Arc::new(Heard::default());
            let failing = Arc::new(Failing(kind, failures.into()));
            let result = RetryingStorage::new(failing, tries, Duration::ZERO, heard.clone()).list();
            (result.map_err(|error| error.to_string()), heard.0.lock().unwrap().clone())
        };
        let attempt = |number: u32| format!("Attempt of list Nr. {number} failed. cannot list 'x': busy");
        assert_eq!(list(ErrorKind::Other, 2, 3), (Ok(Vec::new()), vec![attempt(1), attempt(2)]));
        let given_up = "cannot list 'x': Giving up after 2 attempts. busy".to_string();
        assert_eq!(list(ErrorKind::Other, 2, 2), (Err(given_up), vec![attempt(1)]));
        assert_eq!(list(ErrorKind::NotFound, 1, 3), (Err("cannot list 'x': busy".into()), vec![]));
        // duplicity's own code fails on this number of tries.
        assert_eq!(list(ErrorKind::Other, 0, 0), (Ok(Vec::new()), vec![]));
    }
}
