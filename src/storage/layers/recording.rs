//! [`RecordingStorage`]: a storage around another that notes every call and can be told to fail.

use crate::storage::{
    Abilities, ByteStream, CopyInUse, Error, ErrorKind, Listed, Staged, StagedWriter, Storage,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
    /// A file was to be streamed.
    Stream {
        /// Which file.
        name: String,
        /// First byte.
        from: u64,
    },
    /// Bytes of a stream were asked for. Only faults hear of it: it is no request of its own.
    Receive {
        /// Which file.
        name: String,
        /// Offset of the first of them in the file.
        offset: u64,
    },
    /// A stream has ended, or nobody wants more of it.
    Received {
        /// Which file.
        name: String,
        /// How many bytes of it came.
        length: u64,
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
    /// Files were deleted.
    Delete {
        /// Which files.
        names: Vec<String>,
    },
}

/// Decides whether a call fails, and how; may keep it waiting.
type Fault = dyn Fn(&Call) -> Option<ErrorKind> + Send + Sync;

/// Notes every call, so that tests count the work instead of the time; fails those that a test
/// picks, and can be as slow as a network.
pub struct RecordingStorage {
    inner: Arc<dyn Storage>,
    notes: Arc<Notes>,
    abilities: Abilities,
    delay: Duration,
}

/// What is shared with streams.
struct Notes {
    calls: Mutex<Vec<Call>>,
    fault: Box<Fault>,
    /// Beginnings and ends of calls, in the order in which they were.
    clock: AtomicU64,
    /// From when to when each call was under way, by that clock.
    spans: Mutex<Vec<(u64, u64)>>,
    location: String,
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
        let location = inner.location();
        let notes = Arc::new(Notes { calls, fault: Box::new(fault), clock, spans, location });
        Self { abilities: inner.abilities(), inner, notes, delay: Duration::ZERO }
    }

    /// Makes each request take so much longer, as behind a network, and each MiB of a stream, too: a
    /// long one is as slow as ranges of that length, one after the other. So many transfers at once
    /// count as worth while.
    pub fn far(self, delay: Duration, transfers: usize) -> Self {
        Self { delay, abilities: Abilities { transfers, rereads: false, ..self.abilities }, ..self }
    }

    /// Returns how many calls since the last time had to wait for each other: the longest row of
    /// calls of which each began when the one before had ended. That is what a network makes slow.
    pub fn take_longest_row(&self) -> usize {
        let mut spans = std::mem::take(&mut *self.notes.spans.lock());
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
        std::mem::take(&mut *self.notes.calls.lock())
    }

    /// Notes a call that goes to the storage, and does it.
    fn pass<T>(
        &self,
        call: Call,
        operation: &'static str,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let start = self.notes.tick();
        let result = self.notes.take(call, operation).and_then(|()| {
            wait(self.delay);
            work()
        });
        self.notes.spans.lock().push((start, self.notes.tick()));
        result
    }
}

/// Waits as long as the network takes.
fn wait(delay: Duration) {
    if !delay.is_zero() {
        std::thread::sleep(delay);
    }
}

impl Notes {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes a call, and fails it if it is to fail.
    fn take(&self, call: Call, operation: &'static str) -> Result<(), Error> {
        let fault = self.fail(&call, operation);
        self.calls.lock().push(call);
        fault
    }

    fn fail(&self, call: &Call, operation: &'static str) -> Result<(), Error> {
        let failed = |kind| Error {
            operation,
            place: self.location.clone(),
            kind,
            cause: "told to fail".into(),
        };
        (self.fault)(call).map_or(Ok(()), |kind| Err(failed(kind)))
    }
}

/// A stream that is under way from its request until its end, or until it is dropped.
struct Recorded {
    inner: Box<dyn ByteStream>,
    notes: Arc<Notes>,
    name: String,
    from: u64,
    length: u64,
    start: u64,
    has_ended: bool,
    delay: Duration,
}

impl Recorded {
    fn end(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            let (name, length) = (self.name.clone(), self.length);
            self.notes.calls.lock().push(Call::Received { name, length });
            self.notes.spans.lock().push((self.start, self.notes.tick()));
        }
    }
}

impl ByteStream for Recorded {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let receive = Call::Receive { name: self.name.clone(), offset: self.from + self.length };
        self.notes.fail(&receive, "read")?;
        let count = self.inner.read_bytes(buffer)?;
        let whole = |length: u64| (length >> 20) as u32;
        let before = whole(self.length);
        self.length += count as u64;
        wait(self.delay * (whole(self.length) - before));
        if count < buffer.len() {
            self.end();
        }
        Ok(count)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.end();
    }
}

impl Storage for RecordingStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn prepare(&self) -> Result<(), Error> {
        self.pass(Call::Prepare, "create", || self.inner.prepare())
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.pass(Call::List, "list", || self.inner.list())
    }

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let call = Call::Read { name: file.name.clone(), offset, length: buffer.len() };
        self.pass(call, "read", || self.inner.read_at(file, offset, buffer))
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        let (name, start) = (file.name.clone(), self.notes.tick());
        self.notes.take(Call::Stream { name: name.clone(), from }, "read")?;
        wait(self.delay);
        let (inner, notes) = (self.inner.stream(file, from)?, self.notes.clone());
        let (length, has_ended, delay) = (0, false, self.delay);
        Ok(Box::new(Recorded { inner, notes, name, from, length, start, has_ended, delay }))
    }

    fn copy_in_use(&self, file: &Listed) -> CopyInUse {
        self.inner.copy_in_use(file)
    }

    fn other_copy(&self, file: &Listed, wrong: u32) -> Result<bool, Error> {
        self.inner.other_copy(file, wrong)
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        self.notes.take(Call::Stage { name: name.into() }, "write")?;
        self.inner.stage(name)
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        let call = Call::Put { name: staged.name().into() };
        self.pass(call, "write", || self.inner.put(staged))
    }

    /// The fault is asked for each name by itself: a service, too, may delete some and not others.
    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        let start = self.notes.tick();
        let call = |names: &[&str]| Call::Delete {
            names: names.iter().map(|name| name.to_string()).collect(),
        };
        let faults = names.iter().map(|name| self.notes.fail(&call(&[name]), "delete"));
        let faults: Vec<Result<(), Error>> = faults.collect();
        self.notes.calls.lock().push(call(names));
        wait(self.delay);
        let good = names.iter().zip(&faults).filter(|(_, fault)| fault.is_ok());
        let mut done =
            self.inner.delete(&good.map(|(name, _)| *name).collect::<Vec<_>>()).into_iter();
        self.notes.spans.lock().push((start, self.notes.tick()));
        let result = |fault: Result<(), Error>| fault.and_then(|()| done.next().unwrap_or(Ok(())));
        faults.into_iter().map(result).collect()
    }
}
