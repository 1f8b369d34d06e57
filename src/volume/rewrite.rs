//! A volume in another storage: with the same bytes, or with the same members encoded anew.

use super::check::Hasher;
use super::{
    Error, Event, FrameBuilder, MAX_FRAME, PlainFrame, VolumeSource, VolumeWriter, WrittenVolume,
    first_pass,
};
use crate::codec::{Codec, Encoder};
use crate::format::{ManifestVolume, Member, Session};
use crate::storage::{ByteSink, ReadAt, Staged, StagedWriter};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Plain bytes of a frame, but for a member that is longer.
const FRAME: usize = 1 << 20;
/// How much is read at once.
const STRIDE: usize = 1 << 20;

/// Copies a volume, or any other stored file, byte by byte and by one request. Whether it is the one of its manifest
/// is checked on the way, before it can be stored; where there is no hash, nothing is checked.
///
/// # Errors
/// [`Error::Storage`] when it cannot be read or written, [`Error::Hash`] when it is not what its
/// manifest says.
pub fn copy(source: &VolumeSource, mut writer: StagedWriter) -> Result<Staged, Error> {
    let mut hasher = source.hash.map(Hasher::new);
    let mut stream = source.file.storage().stream(source.file.listed(), 0)?;
    let mut buffer = vec![0; STRIDE];
    loop {
        let count = stream.read_bytes(&mut buffer)?;
        let bytes = &buffer[..count];
        hasher.iter_mut().for_each(|hasher| hasher.update(bytes));
        writer.write_bytes(bytes)?;
        if count < STRIDE {
            break;
        }
    }
    hasher.map_or(Ok(()), |mut hasher| hasher.check(source.file.name()))?;
    Ok(writer.seal())
}

/// Writes the members of a volume anew, with a table of contents. The volume is checked first,
/// and decoded to its end, and can be stored only if all of it is sound.
///
/// `described` is what the manifest says of the volume: where a file goes on in the next one stays
/// as it was.
///
/// # Errors
/// Those of [`first_pass`]; [`Error::Members`], too, when a member is longer than any that
/// duplicity writes, or a delta is damaged; and [`Error::Decode`] and [`Error::Storage`] when the
/// new volume cannot be written.
pub fn rewrite(
    source: &VolumeSource,
    codec: &Codec,
    (session, described): (Session, &ManifestVolume),
    encoder: &Arc<Encoder>,
    writer: StagedWriter,
) -> Result<WrittenVolume, Error> {
    let volume = VolumeWriter::create(session, described.number, encoder.clone(), writer)?;
    let mut rewriting =
        Rewriting { volume, encoder, builder: FrameBuilder::new(FRAME), pending: None };
    let mut failed = None;
    let passed = first_pass(source, codec, |event| {
        let done = match event {
            Event::Member(member) => rewriting.begin(member),
            Event::Data(bytes) => rewriting.go_on(bytes, source.file.name()),
            // Copied as it is, rather than without it.
            Event::TooLong(cause) => Err(Error::Members { name: source.file.name().into(), cause }),
        };
        match done {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    failed.map_or(Ok(()), Err)?;
    passed?;
    rewriting.finish(described.last_piece.is_none())
}

/// A volume on its way from one encoding to another.
struct Rewriting<'a> {
    volume: VolumeWriter,
    encoder: &'a Encoder,
    builder: FrameBuilder,
    /// The member that is being read: whether it is the last one of its file shows at the next.
    pending: Option<(Member, Vec<u8>)>,
}

impl Rewriting<'_> {
    fn begin(&mut self, member: &Member) -> Result<(), Error> {
        let goes_on = |(before, _): &(Member, Vec<u8>)| {
            before.path == member.path && before.piece.is_some() && member.piece.is_some()
        };
        self.flush(!self.pending.as_ref().is_some_and(goes_on))?;
        self.pending = Some((member.clone(), Vec::new()));
        Ok(())
    }

    fn go_on(&mut self, bytes: &[u8], name: &str) -> Result<(), Error> {
        let Some((_, data)) = &mut self.pending else { return Ok(()) };
        if data.len() + bytes.len() > MAX_FRAME as usize {
            let cause = format!(
                "a member is longer than {MAX_FRAME} bytes, which duplicity would have split"
            );
            return Err(Error::Members { name: name.into(), cause });
        }
        data.extend_from_slice(bytes);
        Ok(())
    }

    /// Hands the pending member on; `is_last` tells that no other piece of its file follows.
    fn flush(&mut self, is_last: bool) -> Result<(), Error> {
        let Some((member, data)) = self.pending.take() else { return Ok(()) };
        let full = self.builder.push(member, is_last, &data);
        full.map_or(Ok(()), |frame| self.push(frame))
    }

    fn push(&mut self, frame: PlainFrame) -> Result<(), Error> {
        self.volume.push(frame.encode(self.encoder)?)
    }

    fn finish(mut self, is_last: bool) -> Result<WrittenVolume, Error> {
        self.flush(is_last)?;
        let rest = self.builder.take();
        if !rest.is_empty() {
            self.push(rest)?;
        }
        self.volume.finish()
    }
}
