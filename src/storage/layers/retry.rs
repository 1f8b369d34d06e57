//! [`RetryingStorage`]: a storage around another that tries again when that can help.

use crate::monitor::{Level, Monitor};
use crate::storage::{
    Abilities, ByteStream, CopyInUse, Error, ErrorKind, Listed, Staged, StagedWriter, Storage,
};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::sync::Arc;
use std::time::Duration;

/// Repeats failed calls, as `--num-retries` and `--backend-retry-delay` ask, where that can help
/// ([`ErrorKind::is_passing`](crate::storage::ErrorKind::is_passing)). Pauses begin short and grow, so that
/// what is back soon costs little; the delay is the longest of them, unless the storage asks for a
/// longer one. A stream goes on where it
/// broke off, and only tries without any progress count.
pub struct RetryingStorage {
    inner: Arc<dyn Storage>,
    patience: Patience,
}

/// How often, and how fast, a call is tried.
#[derive(Clone)]
struct Patience {
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
        Self { inner, patience: Patience { tries: tries.max(1), delay, monitor } }
    }
}

/// The longest pause that a storage can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// Returns the pause that a storage asks for.
fn asked_for(kind: ErrorKind) -> Duration {
    match kind {
        ErrorKind::Busy(Some(seconds)) => {
            Duration::from_secs(u64::from(seconds)).min(LONGEST_ASKED)
        }
        _ => Duration::ZERO,
    }
}

impl Patience {
    /// Returns a sixteenth of the delay, a quarter of it, then all of it, each with a random
    /// addition.
    fn pauses(&self) -> impl Iterator<Item = Duration> {
        let growing = ExponentialBuilder::new()
            .with_min_delay(self.delay / 16)
            .with_factor(4.0)
            .with_max_delay(self.delay);
        growing.with_jitter().without_max_times().build()
    }

    fn retry<T>(&self, mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut attempt = 1;
        let mut pauses = self.pauses();
        loop {
            match call() {
                Err(error) if error.kind.is_passing() && attempt < self.tries => {
                    let text =
                        format!("Attempt of {} Nr. {attempt} failed. {error}", error.operation);
                    self.monitor.message(Level::Warning, &text);
                    attempt += 1;
                    let pause = pauses.next().unwrap_or(self.delay).min(self.delay);
                    std::thread::sleep(pause.max(asked_for(error.kind)));
                }
                // The words that monitoring scripts look for.
                Err(error) if error.kind.is_passing() => {
                    let cause = format!("Giving up after {attempt} attempts. {}", error.cause);
                    return Err(Error { cause, ..error });
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

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn prepare(&self) -> Result<(), Error> {
        self.patience.retry(|| self.inner.prepare())
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.patience.retry(|| self.inner.list())
    }

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        self.patience.retry(|| self.inner.read_at(file, offset, buffer))
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        let current = Some(self.patience.retry(|| self.inner.stream(file, from))?);
        let (inner, patience) = (self.inner.clone(), self.patience.clone());
        Ok(Box::new(Resuming { inner, patience, file: file.clone(), offset: from, current }))
    }

    fn copy_in_use(&self, file: &Listed) -> CopyInUse {
        self.inner.copy_in_use(file)
    }

    fn other_copy(&self, file: &Listed, wrong: u32) -> Result<bool, Error> {
        self.inner.other_copy(file, wrong)
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        self.patience.retry(|| self.inner.stage(name))
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        self.patience.retry(|| self.inner.put(staged))
    }

    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        let mut results = self.inner.delete(names);
        // Those that failed, once more one by one: each is given its own number of tries.
        for (name, result) in names.iter().zip(&mut results) {
            let mut failed = Some(std::mem::replace(result, Ok(())));
            let again = || self.inner.delete(&[name]).pop().unwrap_or(Ok(()));
            *result = self.patience.retry(|| failed.take().unwrap_or_else(again));
        }
        results
    }
}

/// A stream that is begun again, at its offset, when it breaks off.
struct Resuming {
    inner: Arc<dyn Storage>,
    patience: Patience,
    file: Listed,
    offset: u64,
    current: Option<Box<dyn ByteStream>>,
}

impl ByteStream for Resuming {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Self { inner, patience, file, offset, current } = self;
        let count = patience.retry(|| {
            let stream = match current {
                Some(stream) => stream,
                None => current.insert(inner.stream(file, *offset)?),
            };
            stream.read_bytes(buffer).inspect_err(|_| *current = None)
        })?;
        *offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{ByteSink, Call, MemoryStorage, RecordingStorage};
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
        // The storage names the time.
        let begun = std::time::Instant::now();
        assert_eq!(list(ErrorKind::Busy(Some(1)), 1, 2).0, Ok(Vec::new()));
        assert!(begun.elapsed() >= Duration::from_secs(1));
        // duplicity's own code fails on this number of tries.
        assert_eq!(list(ErrorKind::Other, 0, 0), (Ok(Vec::new()), vec![]));
    }

    #[test]
    fn a_stream_goes_on_where_it_broke_off() {
        let memory = Arc::new(MemoryStorage::default());
        let mut writer = memory.stage("a").unwrap();
        writer.write_bytes(&(0..=255).collect::<Vec<u8>>()).unwrap();
        let listed = memory.put(&writer.seal()).unwrap();
        let breaks = Mutex::new(vec![0, 64, 64, 192]);
        let cut = move |call: &Call| {
            let Call::Receive { offset, .. } = call else { return None };
            let mut breaks = breaks.lock();
            let at = breaks.iter().position(|at| at == offset)?;
            breaks.remove(at);
            Some(ErrorKind::Unreachable)
        };
        let recording = Arc::new(RecordingStorage::failing(memory, cut));
        let heard = Arc::new(Heard::default());
        let retrying = RetryingStorage::new(recording.clone(), 3, Duration::ZERO, heard);
        let mut stream = retrying.stream(&listed, 0).unwrap();
        let (mut all, mut piece) = (Vec::new(), [0; 64]);
        while let count @ 1.. = stream.read_bytes(&mut piece).unwrap() {
            all.extend_from_slice(&piece[..count]);
        }
        assert!(all == (0..=255).collect::<Vec<u8>>());
        let calls = recording.take_calls();
        let begun = |call: &Call| match call {
            Call::Stream { from, .. } => Some(*from),
            _ => None,
        };
        assert_eq!(calls.iter().filter_map(begun).collect::<Vec<_>>(), [0, 0, 64, 64, 192]);
    }

    #[test]
    fn of_many_deletions_those_that_failed_are_tried_again() {
        let memory = Arc::new(MemoryStorage::default());
        for name in ["a", "b"] {
            memory.put(&memory.stage(name).unwrap().seal()).unwrap();
        }
        let left = AtomicU32::new(2);
        let fails = move |call: &Call| match call {
            Call::Delete { .. } => left
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .ok()
                .map(|_| ErrorKind::TimedOut),
            _ => None,
        };
        let failing = Arc::new(RecordingStorage::failing(memory.clone(), fails));
        let heard = Arc::new(Heard::default());
        let retrying = RetryingStorage::new(failing, 3, Duration::ZERO, heard);
        assert!(retrying.delete(&["a", "b", "none"]).iter().all(Result::is_ok));
        assert!(memory.list().unwrap().is_empty());
    }
}
