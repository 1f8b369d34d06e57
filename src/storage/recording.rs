//! [`RecordingStorage`]: a storage around another that notes every call and can be told to fail.

use super::{Error, ErrorKind, Listed, Staged, StagedWriter, Storage};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One call that a [`RecordingStorage`] has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// The whole storage was listed.
    List,
    /// A range of one file was asked for.
    Read {
        /// Which file.
        name: String,
        /// First byte.
        offset: u64,
        /// Number of bytes asked for.
        length: usize,
    },
    /// The storage itself was to be made.
    Prepare,
    /// A file was begun.
    Stage {
        /// Which file.
        name: String,
    },
    /// A file was stored.
    Put {
        /// Which file.
        name: String,
    },
    /// A file was deleted.
    Delete {
        /// Which file.
        name: String,
    },
}

/// Decides whether a call fails, and how; may keep it waiting.
type Fault = dyn Fn(&Call) -> Option<ErrorKind> + Send + Sync;

/// Notes every call, so that tests count the work instead of the time, and fails those that a test
/// picks.
pub struct RecordingStorage {
    inner: Arc<dyn Storage>,
    calls: Mutex<Vec<Call>>,
    fault: Box<Fault>,
    /// Beginnings and ends of calls, in the order in which they were.
    clock: AtomicU64,
    /// From when to when each call was under way, by that clock.
    spans: Mutex<Vec<(u64, u64)>>,
}

impl RecordingStorage {
    /// Passes every call on.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self::failing(inner, |_| None)
    }

    /// Fails the calls for which `fault` names a kind of error.
    pub fn failing(
        inner: Arc<dyn Storage>,
        fault: impl Fn(&Call) -> Option<ErrorKind> + Send + Sync + 'static,
    ) -> Self {
        let (calls, clock, spans) = Default::default();
        Self { inner, calls, fault: Box::new(fault), clock, spans }
    }

    /// Returns how many calls since the last time had to wait for each other: the longest row of
    /// calls of which each began when the one before had ended. That is what a network makes slow.
    pub fn take_longest_row(&self) -> usize {
        let mut spans = std::mem::take(&mut *self.spans.lock());
        spans.sort_by_key(|(_, end)| *end);
        let (mut count, mut free) = (0, 0);
        for (start, end) in spans {
            if start >= free {
                (count, free) = (count + 1, end);
            }
        }
        count
    }

    /// Returns the calls since the last time it was asked, oldest first.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock())
    }

    /// Notes a call that goes to the storage, and does it.
    fn pass<T>(
        &self,
        call: Call,
        operation: &'static str,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let start = self.clock.fetch_add(1, Ordering::SeqCst);
        let result = self.note(call, operation).and_then(|()| work());
        let end = self.clock.fetch_add(1, Ordering::SeqCst);
        self.spans.lock().push((start, end));
        result
    }

    fn note(&self, call: Call, operation: &'static str) -> Result<(), Error> {
        let fault = (self.fault)(&call);
        self.calls.lock().push(call);
        let failed = |kind| Error {
            operation,
            place: self.inner.location(),
            kind,
            cause: "told to fail".into(),
        };
        fault.map_or(Ok(()), |kind| Err(failed(kind)))
    }
}

impl Storage for RecordingStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.pass(Call::List, "list", || self.inner.list())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let call = Call::Read { name: name.into(), offset, length: buffer.len() };
        self.pass(call, "read", || self.inner.read_at(name, offset, buffer))
    }

    fn prepare(&self) -> Result<(), Error> {
        self.pass(Call::Prepare, "create", || self.inner.prepare())
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        self.note(Call::Stage { name: name.into() }, "write")?;
        self.inner.stage(name)
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        let call = Call::Put { name: staged.name().into() };
        self.pass(call, "write", || self.inner.put(staged))
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        self.pass(Call::Delete { name: name.into() }, "delete", || self.inner.delete(name))
    }
}
