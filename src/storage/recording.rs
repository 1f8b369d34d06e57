//! [`RecordingStorage`]: a storage around another that notes every call and can be told to fail.

use super::{Error, ErrorKind, Listed, Storage, StoredWriter};
use std::io::Write;
use std::sync::{Arc, Mutex};

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
    Create {
        /// Which file.
        name: String,
    },
    /// Bytes were given for a file.
    Write {
        /// Which file.
        name: String,
        /// How many.
        length: usize,
    },
    /// A file was ended.
    Finish {
        /// Which file.
        name: String,
    },
    /// A file was deleted.
    Delete {
        /// Which file.
        name: String,
    },
}

/// Decides whether a call fails.
type Fault = dyn Fn(&Call) -> bool + Send + Sync;

/// What is shared with the writers.
struct Notes {
    calls: Mutex<Vec<Call>>,
    fault: Box<Fault>,
    location: String,
}

impl Notes {
    fn note(&self, call: Call, deed: &'static str) -> Result<(), Error> {
        let fails = (self.fault)(&call);
        self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(call);
        match fails {
            true => Err(Error { deed, place: self.location.clone(), kind: ErrorKind::Other, cause: "told to fail".into() }),
            false => Ok(()),
        }
    }
}

/// Notes every call, so that tests count the work instead of the time, and fails those that a test picks.
pub struct RecordingStorage {
    inner: Arc<dyn Storage>,
    notes: Arc<Notes>,
}

impl RecordingStorage {
    /// Passes every call on.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self::failing(inner, |_| false)
    }

    /// Fails the calls for which `fault` says so.
    pub fn failing(inner: Arc<dyn Storage>, fault: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        let notes = Notes { calls: Mutex::default(), fault: Box::new(fault), location: inner.location() };
        Self { inner, notes: Arc::new(notes) }
    }

    /// Returns the calls since the last time it was asked, oldest first.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.notes.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

impl Storage for RecordingStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.notes.note(Call::List, "list")?;
        self.inner.list()
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        self.notes.note(Call::Read { name: name.into(), offset, length: buffer.len() }, "read")?;
        self.inner.read_at(name, offset, buffer)
    }

    fn prepare(&self) -> Result<(), Error> {
        self.notes.note(Call::Prepare, "create")?;
        self.inner.prepare()
    }

    fn create(&self, name: &str) -> Result<Box<dyn StoredWriter>, Error> {
        self.notes.note(Call::Create { name: name.into() }, "write")?;
        let inner = self.inner.create(name)?;
        Ok(Box::new(RecordingWriter { inner, notes: self.notes.clone(), name: name.into() }))
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        self.notes.note(Call::Delete { name: name.into() }, "delete")?;
        self.inner.delete(name)
    }
}

struct RecordingWriter {
    inner: Box<dyn StoredWriter>,
    notes: Arc<Notes>,
    name: String,
}

impl Write for RecordingWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.notes.note(Call::Write { name: self.name.clone(), length: bytes.len() }, "write")?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl StoredWriter for RecordingWriter {
    fn finish(self: Box<Self>) -> Result<Listed, Error> {
        self.notes.note(Call::Finish { name: self.name.clone() }, "write")?;
        self.inner.finish()
    }
}
