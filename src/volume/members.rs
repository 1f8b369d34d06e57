//! The first pass: a volume decoded once from its start, each member told with its place in the
//! plain tar.

use super::check::{Checked, Hashed, hash_stored};
use super::{Error, FRAME, MAX_FRAME, SeekIndex, VolumeSource};
use crate::codec::{self, Codec, Decoder, SeekPoint};
use crate::format::{self, Member, TarReader};
use crate::storage::ReadAt;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What the first pass tells, in stored order.
pub enum Event<'a> {
    /// A member begins.
    Member(&'a Member),
    /// The next bytes of its data.
    Data(&'a [u8]),
    /// A member, passed over with its data, whose path is over the limit; what is to be said of it.
    TooLong(String),
}

/// Checks a volume against its manifest, decodes it from its start, and tells its members to
/// `listener`, which may stop it. Returns the seek index and the seek point of each frame.
///
/// What the listener heard counts only once this has returned well: the end of the stream may yet
/// show it to be forged.
///
/// # Errors
/// [`Error`] when the stored file cannot be read, is not the one of the manifest, cannot be
/// decoded, or holds no sound tar.
pub fn first_pass(
    source: &VolumeSource,
    codec: &Codec,
    mut listener: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<(SeekIndex, Vec<SeekPoint>), Error> {
    let Hashed { length: stored_length, chunks, head } = hash_stored(source)?;
    let chunks = Arc::new(chunks);
    let file = Arc::new(Checked::new(source.file.clone(), stored_length, chunks.clone()));
    let name = source.file.name();
    let mut decoder = codec.decode(file, source.encoding)?;
    decoder.collect_seek_points(FRAME);
    let mut stream = Collecting { decoder, points: Vec::new(), plain: 0 };
    emit_members(name, &mut stream, &mut listener)?;
    let mut rest = vec![0; 64 * 1024];
    while stream.read(&mut rest).map_err(codec::Error::from)? > 0 {}
    let mut frames: Vec<u64> = stream.points.iter().map(|point| point.plain).collect();
    if frames.first() != Some(&0) || !frames.is_sorted_by(|a, b| a < b) {
        return Err(Error::SeekIndex {
            name: name.into(),
            cause: "the seek points are not in order".into(),
        });
    }
    let ends = frames.iter().skip(1).chain([&stream.plain]);
    if frames.iter().zip(ends).any(|(start, end)| end - start > MAX_FRAME) {
        return Err(Error::SeekIndex {
            name: name.into(),
            cause: format!("no place to start within {MAX_FRAME} bytes"),
        });
    }
    // A point at the very end starts a frame without bytes.
    while frames.len() > 1 && frames.last() == Some(&stream.plain) {
        frames.pop();
        stream.points.pop();
    }
    let chunks = Arc::try_unwrap(chunks).unwrap_or_else(|shared| (*shared).clone());
    Ok((
        SeekIndex { frames, plain_length: stream.plain, stored_length, chunks, head },
        stream.points,
    ))
}

fn emit_members(
    name: &str,
    stream: &mut Collecting,
    listener: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<(), Error> {
    let failed = |cause: format::Error| match cause {
        format::Error::Read { source, .. } => codec::Error::from(source).into(),
        cause => Error::Members { name: name.into(), cause: cause.to_string() },
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
            member => member.map_err(failed)?,
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

impl Read for Collecting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        self.points.append(&mut self.decoder.take_seek_points());
        self.plain += count as u64;
        Ok(count)
    }
}
