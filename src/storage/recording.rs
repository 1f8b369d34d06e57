//! [`RecordingStorage`]: a storage around another that notes every call and can be told to fail.

use super::{Error, ErrorKind, Listed, Storage};
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
}

/// Decides whether a call fails.
type Fault = dyn Fn(&Call) -> bool + Send + Sync;

/// Notes every call, so that tests count the work instead of the time, and fails those that a test picks.
pub struct RecordingStorage {
    inner: Arc<dyn Storage>,
    calls: Mutex<Vec<Call>>,
    fault: Box<Fault>,
}

impl RecordingStorage {
    /// Passes every call on.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self::failing(inner, |_| false)
    }

    /// Fails the calls for which `fault` says so.
    pub fn failing(inner: Arc<dyn Storage>, fault: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        Self { inner, calls: Mutex::default(), fault: Box::new(fault) }
    }

    /// Returns the calls since the last time it was asked, oldest first.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn note(&self, call: Call, deed: &'static str) -> Result<(), Error> {
        let fails = (self.fault)(&call);
        self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(call);
        match fails {
            true => Err(Error { deed, place: self.location(), kind: ErrorKind::Other, cause: "told to fail".into() }),
            false => Ok(()),
        }
    }
}

impl Storage for RecordingStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.note(Call::List, "list")?;
        self.inner.list()
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        self.note(Call::Read { name: name.into(), offset, length: buffer.len() }, "read")?;
        self.inner.read_at(name, offset, buffer)
    }
}
