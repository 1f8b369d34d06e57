//! [`Reopened`]: reads a stored file from its seek points.

use super::gzip::Gzip;
use super::openpgp::Access;
use super::source::{SHORT, Source};
use super::state::{self, Kind};
use super::{Cause, Codec, Encoding, Error, SeekPoint};
use crate::storage::ReadAt;
use parking_lot::Mutex;
use std::fs::File;
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

    /// Returns the offset of the stored byte at which reading from a seek point begins.
    ///
    /// # Errors
    /// [`Cause::SeekPoint`] when the point is not of this file, or has been changed.
    pub fn stored_start(&self, point: &SeekPoint) -> Result<u64, Error> {
        let find = || {
            let (kind, mut fields) = state::open(&point.state)?;
            match (kind, &self.access) {
                (Kind::Start, _) => Ok(0),
                (Kind::Plain | Kind::Spooled, _) => Ok(point.plain),
                (Kind::Gzip, _) => fields.u64(),
                (Kind::Message, Some(access)) => access.stored_start(fields.0),
                (Kind::Message, None) => Err(Cause::SeekPoint("the message is of another kind")),
            }
        };
        find().map_err(|cause: Cause| cause.of(self.file.name()))
    }

    /// Fills `buffer` with the plain bytes from `point.plain` on. Those end before the stored byte
    /// `end`, as far as one knows: so many are asked for at once.
    ///
    /// # Errors
    /// [`Cause::Truncated`] when there are fewer bytes; [`Cause::SeekPoint`] when the point is not
    /// of this file, or has been changed; others as in decoding.
    pub fn read(&self, point: &SeekPoint, end: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.fill(point, end, buffer).map_err(|cause| cause.of(self.file.name()))
    }

    fn fill(&self, point: &SeekPoint, end: u64, buffer: &mut [u8]) -> Result<(), Cause> {
        let (kind, fields) = state::open(&point.state)?;
        match (kind, self.encoding) {
            (Kind::Message, Encoding::OpenPgp) => {
                let access = self
                    .access
                    .as_ref()
                    .ok_or(Cause::SeekPoint("the message is of another kind"))?;
                return access.enter(self.file.clone(), end, fields.0)?.fill_exactly(buffer);
            }
            (Kind::Gzip, Encoding::Gzip) => {
                return Gzip::enter(self.file.clone(), end, fields)?.fill_exactly(buffer);
            }
            _ => fields.end()?,
        }
        match (kind, self.encoding) {
            (Kind::Start | Kind::Plain, Encoding::Plain) => self.direct(point.plain, buffer),
            (Kind::Start, _) if point.plain != 0 => {
                Err(Cause::SeekPoint("its place is not the start"))
            }
            (Kind::Start, Encoding::Gzip) => {
                Gzip::open(self.file.clone(), SHORT)?.fill_exactly(buffer)
            }
            (Kind::Start, Encoding::OpenPgp) => self.start(buffer),
            (Kind::Spooled, Encoding::OpenPgp) => self.spooled(point.plain, buffer),
            _ => Err(Cause::SeekPoint("it is of a file with another encoding")),
        }
    }

    fn direct(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Cause> {
        let count = self.file.read_at(offset, buffer)?;
        if count < buffer.len() { Err(Cause::Truncated) } else { Ok(()) }
    }

    /// Reads a message from its first byte.
    fn start(&self, buffer: &mut [u8]) -> Result<(), Cause> {
        match self.access.as_ref().map(|access| access.begin(self.file.clone(), SHORT)) {
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
