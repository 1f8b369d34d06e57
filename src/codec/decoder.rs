//! [`Decoder`]: reads a stored file from its start, and collects [`SeekPoint`]s on the way.

use super::source::Stage;
use super::state::{self, Kind};
use super::{Cause, Error};
use crate::format::ByteSource;

/// How much is copied at once, in bytes.
const COPIED: usize = 64 * 1024;

/// A place from which decoding can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekPoint {
    /// Offset of the first plain byte that it gives.
    pub plain: u64,
    /// What decoding needs there, at most some 33 KiB. Opaque; carries a version; sealed under a
    /// key made from the session key where it holds plain bytes of an encrypted file, so that it
    /// may lie on a disk.
    pub state: Vec<u8>,
}

/// The plain bytes of a stored file.
///
/// Reading ends with 0 bytes only when everything that protects the file (CRC and length, MDC, a
/// demanded signature) was right: what was read before that is not to be trusted yet. After an error
/// each further call fails with the same one.
pub struct Decoder {
    file: String,
    stage: Box<dyn Stage>,
    plain: u64,
    failed: Option<Error>,
    /// Least distance of seek points, if they are wanted.
    span: Option<u64>,
    /// Plain offset from which on the next point is wanted.
    due: u64,
    points: Vec<SeekPoint>,
    /// A point behind the bytes read so far: counts once another byte has come.
    pending: Option<SeekPoint>,
}

impl Decoder {
    pub(super) fn new(file: &str, stage: Box<dyn Stage>) -> Self {
        Self {
            file: file.to_owned(),
            stage,
            plain: 0,
            failed: None,
            span: None,
            due: u64::MAX,
            points: Vec::new(),
            pending: None,
        }
    }

    /// Collects seek points from now on, at least `span` plain bytes apart; to be called before the
    /// first read.
    pub fn collect_seek_points(&mut self, span: u64) {
        self.span = Some(span.max(1));
        self.points.push(SeekPoint { plain: self.plain, state: state::begin(Kind::Start) });
        self.set_due();
    }

    /// Returns the points collected since the last call, in rising order. The first one of a file
    /// is at 0, and none is behind the last byte: reading from a point on gives at least one byte.
    pub fn take_seek_points(&mut self) -> Vec<SeekPoint> {
        std::mem::take(&mut self.points)
    }

    /// Hands all that is left to `take`, up to the end, which proves it.
    ///
    /// # Errors
    /// [`Error`] when something cannot be decoded, and those of `take`.
    pub fn copy<E: From<Error>>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![0; COPIED];
        loop {
            match self.read_bytes(&mut buffer)? {
                0 => return Ok(()),
                count => take(&buffer[..count])?,
            }
        }
    }

    /// Returns what is left, but no more than `most` bytes: what lies behind these is not read.
    ///
    /// # Errors
    /// [`Error`] when something cannot be decoded.
    pub fn read_at_most(&mut self, most: usize) -> Result<Vec<u8>, Error> {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; COPIED.min(most)]);
        while bytes.len() < most {
            let wanted = buffer.len().min(most - bytes.len());
            match self.read_bytes(&mut buffer[..wanted])? {
                0 => break,
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(bytes)
    }

    /// Reads on to the end, which proves what was read before.
    ///
    /// # Errors
    /// [`Error`] when something cannot be decoded.
    pub fn drain(&mut self) -> Result<(), Error> {
        self.copy(|_| Ok(()))
    }

    fn set_due(&mut self) {
        let span = self.span.unwrap_or(u64::MAX);
        self.due = self.plain.saturating_add(span);
        self.stage.aim(span);
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Cause> {
        let data = self.stage.fill()?;
        if data.is_empty() {
            return Ok(0);
        }
        self.points.extend(self.pending.take());
        let until_due = usize::try_from(self.due.saturating_sub(self.plain)).unwrap_or(usize::MAX);
        let count =
            data.len().min(buffer.len()).min(if until_due == 0 { usize::MAX } else { until_due });
        buffer[..count].copy_from_slice(&data[..count]);
        self.stage.consume(count);
        self.plain += count as u64;
        if self.plain >= self.due
            && let Some(state) = self.stage.mark()?
        {
            self.pending = Some(SeekPoint { plain: self.plain, state });
            self.set_due();
        }
        Ok(count)
    }
}

impl ByteSource for Decoder {
    type Error = Error;

    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.next(buffer).map_err(|cause| {
            let error = cause.of(&self.file);
            self.failed = Some(error.clone());
            error
        })
    }
}
