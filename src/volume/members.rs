//! The first pass: a volume decoded once from its start, each member reported with its place in the
//! plain tar.

use super::check::{Checked, Hashed, Hashing, LocalCopy};
use super::{Error, FRAME, MAX_FRAME, SeekIndex, VolumeSource};
use crate::codec::{self, Codec, Decoder, SeekPoint};
use crate::format::{self, ByteSource, Member, ReadError, TarReader};
use crate::storage::ReadAt;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What the first pass reports, in stored order.
pub enum Event<'a> {
    /// A member begins.
    Member(&'a Member),
    /// The next bytes of its data.
    Data(&'a [u8]),
    /// A member, passed over with its data, whose path is over the limit; what is to be said of it.
    TooLong(String),
}

/// Decodes a volume from its start, while it is checked against its manifest, and reports its
/// members to `listener`, which may stop it. Returns the seek index and the seek point of each
/// frame.
///
/// What the listener heard counts only once this has returned well: before the end of the file, not
/// even its hash is known.
///
/// # Errors
/// [`Error`] when the stored file cannot be read, is not the one of the manifest, cannot be
/// decoded, or holds no sound tar.
pub fn first_pass(
    source: &VolumeSource,
    codec: &Codec,
    listener: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<(SeekIndex, Vec<SeekPoint>), Error> {
    let hashing = Arc::new(Hashing::open(source)?);
    let decoded = decode(source, codec, hashing.clone(), listener);
    if let Err(Error::Stopped) = decoded {
        return Err(Error::Stopped);
    }
    // What is wrong with a damaged volume's bytes is of no interest.
    let hashing = Arc::into_inner(hashing).ok_or(Error::Stopped)?;
    let hashed = hashing.finish(|_| {})?;
    Ok(decoded?.finish(hashed))
}

/// As [`first_pass`], but `listener` hears of nothing before all of the volume has been checked. So
/// it is read twice; or, where that would cost a second transfer, first copied to a temporary file,
/// if there is room for one.
///
/// What the listener heard counts only once this has returned well: the end of the stream may yet
/// show it to be forged.
///
/// # Errors
/// As [`first_pass`].
pub fn checked_pass(
    source: &VolumeSource,
    codec: &Codec,
    listener: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<(SeekIndex, Vec<SeekPoint>), Error> {
    let (name, hashing) = (source.file.name(), Hashing::open(source)?);
    let mut copy = match source.file.storage().abilities().rereads {
        true => None,
        false => tempfile::tempfile_in(codec.tempdir()).ok(),
    };
    let hashed = hashing.finish(|bytes| {
        // A full disk costs a second transfer, but no file of the backup.
        copy = copy.take().and_then(|mut file| file.write_all(bytes).is_ok().then_some(file));
    })?;
    let file: Arc<dyn ReadAt> = match copy {
        Some(copy) => Arc::new(LocalCopy::new(name, hashed.length, copy)),
        None => {
            let chunks = Arc::new(hashed.chunks.clone());
            Arc::new(Checked::new(source.file.clone(), hashed.length, chunks))
        }
    };
    Ok(decode(source, codec, file, listener)?.finish(hashed))
}

/// What decoding has found.
struct Decoded {
    frames: Vec<u64>,
    plain_length: u64,
    points: Vec<SeekPoint>,
}

impl Decoded {
    fn finish(self, Hashed { length, chunks, head }: Hashed) -> (SeekIndex, Vec<SeekPoint>) {
        let Self { frames, plain_length, points } = self;
        (SeekIndex { frames, plain_length, stored_length: length, chunks, head }, points)
    }
}

fn decode(
    source: &VolumeSource,
    codec: &Codec,
    file: Arc<dyn ReadAt>,
    mut listener: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Decoded, Error> {
    let name = source.file.name();
    let mut decoder = codec.decode(file, source.encoding)?;
    decoder.collect_seek_points(FRAME);
    let mut stream = Collecting { decoder, points: Vec::new(), plain: 0 };
    emit_members(name, &mut stream, &mut listener)?;
    let mut rest = vec![0; 64 * 1024];
    while (&mut stream).read_bytes(&mut rest)? > 0 {}
    let mut frames: Vec<u64> = stream.points.iter().map(|point| point.plain).collect();
    let failed = |cause: String| Error::Frames { name: name.into(), cause };
    if frames.first() != Some(&0) || !frames.is_sorted_by(|a, b| a < b) {
        return Err(failed("the seek points are not in order".into()));
    }
    let ends = frames.iter().skip(1).chain([&stream.plain]);
    if frames.iter().zip(ends).any(|(start, end)| end - start > MAX_FRAME) {
        return Err(failed(format!("no place to start within {MAX_FRAME} bytes")));
    }
    // A point at the very end starts a frame without bytes.
    while frames.len() > 1 && frames.last() == Some(&stream.plain) {
        frames.pop();
        stream.points.pop();
    }
    Ok(Decoded { frames, plain_length: stream.plain, points: stream.points })
}

fn emit_members(
    name: &str,
    stream: &mut Collecting,
    listener: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<(), Error> {
    let broken =
        |cause: format::Error| Error::Members { name: name.into(), cause: cause.to_string() };
    let failed = |cause: ReadError<codec::Error>| match cause {
        ReadError::Source(error) => error.into(),
        ReadError::Format(cause) => broken(cause),
    };
    let mut tar = TarReader::new(stream);
    while let Some(header) = tar.next().map_err(failed)? {
        let member = match Member::parse(&header) {
            Err(error @ format::Error::TooLong(_))
                if listener(Event::TooLong(error.to_string())).is_continue() =>
            {
                while tar.chunk().map_err(failed)?.is_some() {}
                continue;
            }
            Err(format::Error::TooLong(_)) => return Err(Error::Stopped),
            member => member.map_err(broken)?,
        };
        if listener(Event::Member(&member)).is_break() {
            return Err(Error::Stopped);
        }
        while let Some(bytes) = tar.chunk().map_err(failed)? {
            if listener(Event::Data(bytes)).is_break() {
                return Err(Error::Stopped);
            }
        }
    }
    Ok(())
}

/// A decoder whose seek points are gathered as they come.
struct Collecting {
    decoder: Decoder,
    points: Vec<SeekPoint>,
    plain: u64,
}

impl ByteSource for &mut Collecting {
    type Error = codec::Error;

    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, codec::Error> {
        let count = self.decoder.read_bytes(buffer)?;
        self.points.append(&mut self.decoder.take_seek_points());
        self.plain += count as u64;
        Ok(count)
    }
}
