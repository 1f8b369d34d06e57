//! [`Reopened`]: reads a stored file from its seek points.

use super::gzip::Gzip;
use super::inflate::BUFFER;
use super::openpgp::{Access, BATCH};
use super::source::{SHORT, Source};
use super::state::{self, Kind};
use super::{Cause, Codec, Encoding, Error, SeekPoint};
use crate::storage::ReadAt;
use parking_lot::Mutex;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A stored file that can be read from any seek point, by many threads at once.
///
/// What it gives has not been checked against CRC or MDC, which only a whole pass can do: `file`
/// should hold the same bytes that a [`Decoder`](super::Decoder) has read to the end, or its first
/// part, up to the end of what is read.
pub struct Reopened {
    codec: Codec,
    file: Arc<dyn ReadAt>,
    encoding: Encoding,
    /// Of a message that our own reader takes.
    access: Option<Access>,
    /// The whole plain message, once somebody has needed it.
    spool: Mutex<Option<Arc<File>>>,
}

impl Codec {
    /// Prepares to read a file from seek points that a [`Decoder`](super::Decoder) of the same
    /// file has left, in this run or in another one. Derives the session key, if there is one.
    ///
    /// # Errors
    /// [`Error`] when there is no way to the session key, or the head of the message is damaged.
    pub fn reopen(&self, file: Arc<dyn ReadAt>, encoding: Encoding) -> Result<Reopened, Error> {
        let name = file.name().to_owned();
        Reopened::new(self.clone(), file, encoding).map_err(|cause| cause.of(&name))
    }
}

// It is shared between threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Reopened>();
};

impl Reopened {
    pub(super) fn new(
        codec: Codec,
        file: Arc<dyn ReadAt>,
        encoding: Encoding,
    ) -> Result<Self, Cause> {
        let access = match encoding {
            Encoding::Plain | Encoding::Gzip => None,
            Encoding::OpenPgp => match Access::new(&codec.keys, &file) {
                Err(Cause::Unsupported(_)) => None, // for another reader
                access => Some(access?),
            },
        };
        Ok(Self { codec, file, encoding, access, spool: Mutex::new(None) })
    }

    /// Returns which stored bytes it takes to decode from one seek point up to the next, or to the
    /// end of the file; `None` where the whole file has to be decoded for that. A few more than that
    /// may be read, so they are in it.
    ///
    /// # Errors
    /// [`Cause::SeekPoint`] when a point is not of this file, or has been changed.
    pub fn stored_range(
        &self,
        point: &SeekPoint,
        next: Option<&SeekPoint>,
    ) -> Result<Option<Range<u64>>, Error> {
        let find = || {
            let size = self.file.size();
            let Some(start) = self.stored_start(point)? else { return Ok(None) };
            let next = next.map(|next| self.stored_start(next)).transpose()?.flatten();
            // As much as may be decrypted and inflated behind what is needed.
            let more = match self.encoding {
                Encoding::Plain => 0,
                Encoding::Gzip => BUFFER,
                Encoding::OpenPgp => BATCH + BUFFER,
            };
            let end = next.map_or(size, |next| next.saturating_add(more as u64));
            Ok(Some(start..end.min(size).max(start)))
        };
        find().map_err(|cause: Cause| cause.of(self.file.name()))
    }

    /// Returns the offset of the stored byte at which reading from a seek point begins; `None` if it
    /// begins in the plain bytes of the whole message.
    fn stored_start(&self, point: &SeekPoint) -> Result<Option<u64>, Cause> {
        let (kind, mut fields) = state::open(&point.state)?;
        match (kind, self.encoding, &self.access) {
            (Kind::Start, Encoding::OpenPgp, None) | (Kind::Spooled, ..) => Ok(None),
            (Kind::Start, ..) => Ok(Some(0)),
            (Kind::Plain, ..) => Ok(Some(point.plain)),
            (Kind::Gzip, ..) => fields.u64().map(Some),
            (Kind::Message, _, Some(access)) => access.stored_start(fields.0).map(Some),
            (Kind::Message, _, None) => Err(Cause::SeekPoint("the message is of another kind")),
        }
    }

    /// Fills `buffer` with the plain bytes from `point.plain` on. Those end before the stored byte
    /// `end`, as far as one knows: so many are asked for at once.
    ///
    /// # Errors
    /// [`Cause::Truncated`] when there are fewer bytes; [`Cause::SeekPoint`] when the point is not
    /// of this file, or has been changed; others as in decoding.
    pub fn read(&self, point: &SeekPoint, end: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.fill(&self.file, point, end, buffer).map_err(|cause| cause.of(self.file.name()))
    }

    /// As [`Reopened::read`], from another source of the same stored bytes, of which a few are asked
    /// for at once.
    ///
    /// # Errors
    /// As [`Reopened::read`].
    pub fn read_from(
        &self,
        file: &Arc<dyn ReadAt>,
        point: &SeekPoint,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        self.fill(file, point, 0, buffer).map_err(|cause| cause.of(self.file.name()))
    }

    fn fill(
        &self,
        file: &Arc<dyn ReadAt>,
        point: &SeekPoint,
        end: u64,
        buffer: &mut [u8],
    ) -> Result<(), Cause> {
        let (kind, fields) = state::open(&point.state)?;
        match (kind, self.encoding) {
            (Kind::Message, Encoding::OpenPgp) => {
                let access = self
                    .access
                    .as_ref()
                    .ok_or(Cause::SeekPoint("the message is of another kind"))?;
                return access.enter(file.clone(), end, fields.0)?.fill_exactly(buffer);
            }
            (Kind::Gzip, Encoding::Gzip) => {
                return Gzip::enter(file.clone(), end, fields)?.fill_exactly(buffer);
            }
            _ => fields.end()?,
        }
        match (kind, self.encoding) {
            (Kind::Start | Kind::Plain, Encoding::Plain) => direct(file, point.plain, buffer),
            (Kind::Start, _) if point.plain != 0 => {
                Err(Cause::SeekPoint("its place is not the start"))
            }
            (Kind::Start, Encoding::Gzip) => Gzip::open(file.clone(), SHORT)?.fill_exactly(buffer),
            (Kind::Start, Encoding::OpenPgp) => self.start(file, buffer),
            (Kind::Spooled, Encoding::OpenPgp) => self.spooled(point.plain, buffer),
            _ => Err(Cause::SeekPoint("it is of a file with another encoding")),
        }
    }

    /// Reads a message from its first byte.
    fn start(&self, file: &Arc<dyn ReadAt>, buffer: &mut [u8]) -> Result<(), Cause> {
        match self.access.as_ref().map(|access| access.begin(file.clone(), SHORT)) {
            None | Some(Err(Cause::Unsupported(_))) => self.spooled(0, buffer),
            Some(message) => message?.fill_exactly(buffer),
        }
    }

    fn spooled(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Cause> {
        let spool = self.spool()?;
        spool.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Cause::Truncated,
            _ => Cause::Local(format!("cannot read its temporary file: {error}")),
        })
    }

    /// Returns the file with the whole plain message; the first caller makes it, others wait.
    fn spool(&self) -> Result<Arc<File>, Cause> {
        let mut spool = self.spool.lock();
        if let Some(file) = &*spool {
            return Ok(file.clone());
        }
        let directory = &*self.codec.tempdir;
        let local = |e: std::io::Error| {
            Cause::Local(format!("cannot write a temporary file in '{}': {e}", directory.display()))
        };
        let mut file = tempfile::tempfile_in(directory).map_err(local)?;
        let mut stage = self.codec.stage(self.file.clone(), self.encoding)?;
        loop {
            let data = stage.fill()?;
            let count = data.len();
            if count == 0 {
                break;
            }
            std::io::Write::write_all(&mut file, data).map_err(local)?;
            stage.consume(count);
        }
        Ok(spool.insert(Arc::new(file)).clone())
    }
}

fn direct(file: &Arc<dyn ReadAt>, offset: u64, buffer: &mut [u8]) -> Result<(), Cause> {
    let count = file.read_at(offset, buffer)?;
    if count < buffer.len() { Err(Cause::Truncated) } else { Ok(()) }
}
