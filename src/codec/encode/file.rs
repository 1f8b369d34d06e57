//! [`EncodedFile`]: one stored file in the making, and [`EncodedWriter`], which takes a stream
//! instead of frames.

use super::table::{self, Footer, Form};
use super::{Encoder, Frame, deflate};
use crate::codec::gpg::Signature;
use crate::codec::openpgp::{LEAD, MessageWriter, write_chunks, write_last_chunk};
use crate::codec::state::{self, Kind};
use crate::codec::{Cause, Encoding, Error, SeekPoint};
use crate::format::ByteSource;
use crate::storage::ByteSink;
use std::io::Read;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Plain bytes that [`EncodedWriter`] makes a frame of.
const FRAME: usize = 1 << 20;
/// Of a gzip file so many last bytes wait for those that follow: a file that is left unfinished
/// ends inside a member.
const HELD: usize = 8;
/// Least plain bytes of the first frame in a signed file, whose chunks are those of the literal
/// data: the first chunk of these needs 512 bytes with the head (RFC 4880 4.2.2.4; sequoia
/// insists).
const SIGNED_FIRST: usize = 512 - 6;

/// One stored file in the making. Dropped before it is finished, it leaves bytes in the sink that
/// are no complete file, except where [`Encoding::Plain`] has no way to tell: a sink should show
/// nothing under the file's name before the end.
pub struct EncodedFile<W: ByteSink> {
    encoder: Arc<Encoder>,
    name: String,
    /// `None` once it has been given back.
    sink: Option<W>,
    form: Layer,
    /// Bytes that the sink has taken.
    written: u64,
    plain: u64,
    points: Vec<SeekPoint>,
    ended: bool,
    failed: bool,
}

/// What stands between frames and stored bytes.
enum Layer {
    Plain,
    /// The last bytes so far.
    Gzip(Vec<u8>),
    Message(Box<MessageWriter>),
    Signed(Box<MessageWriter>, Box<Signed>),
}

/// What a signed message has besides.
struct Signed {
    signature: Signature,
    /// The frame pushed last, which may or may not be the last one, and where it begins.
    held: Option<(u64, Zeroizing<Vec<u8>>)>,
    /// Nothing of the literal data is written yet.
    fresh: bool,
}

// It is filled by a thread of its own.
const _: () = {
    const fn sent<T: Send>() {}
    sent::<EncodedFile<crate::storage::StagedWriter>>();
};

impl Encoder {
    /// Starts a stored file. `name` is for messages; what `sink` has taken is a file only after
    /// [`EncodedFile::finish`] or [`EncodedFile::finish_with_table`].
    ///
    /// # Errors
    /// [`Error`] when gpg, which signs, cannot be run, or there are no random numbers.
    pub fn create<W: ByteSink>(
        self: &Arc<Self>,
        name: &str,
        sink: W,
    ) -> Result<EncodedFile<W>, Error> {
        EncodedFile::new(self.clone(), name, sink)
    }

    /// Starts a stored file that is written as a stream, and cut into frames on the way.
    ///
    /// # Errors
    /// As [`Encoder::create`].
    pub fn writer<W: ByteSink>(
        self: &Arc<Self>,
        name: &str,
        sink: W,
    ) -> Result<EncodedWriter<W>, Error> {
        Ok(EncodedWriter::new(self.create(name, sink)?))
    }
}

impl<W: ByteSink> EncodedFile<W> {
    pub(super) fn new(encoder: Arc<Encoder>, name: &str, sink: W) -> Result<Self, Error> {
        let form = Self::layer(&encoder).map_err(|cause| cause.of(name))?;
        let (name, points) = (name.to_owned(), Vec::new());
        Ok(Self {
            encoder,
            name,
            sink: Some(sink),
            form,
            written: 0,
            plain: 0,
            points,
            ended: false,
            failed: false,
        })
    }

    fn layer(encoder: &Encoder) -> Result<Layer, Cause> {
        let message = encoder.message()?.map(Box::new);
        Ok(match (message, &encoder.signer) {
            (Some(message), None) => Layer::Message(message),
            (Some(message), Some(signer)) => Layer::Signed(
                message,
                Box::new(Signed { signature: signer.start()?, held: None, fresh: true }),
            ),
            (None, _) if encoder.encoding == Encoding::Gzip => Layer::Gzip(Vec::new()),
            (None, _) => Layer::Plain,
        })
    }

    /// Returns the number of stored bytes so far, with those that wait for others to follow;
    /// framing may add a few yet.
    pub fn stored(&self) -> u64 {
        let pending = match &self.form {
            Layer::Plain => 0,
            Layer::Gzip(held) => held.len(),
            Layer::Message(message) => message.pending(),
            Layer::Signed(message, signed) => {
                message.pending() + signed.held.as_ref().map_or(0, |(_, plain)| plain.len())
            }
        };
        self.written + pending as u64
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// [`Error`] when the sink fails, or a frame comes behind [`end_frames`](Self::end_frames).
    pub fn push(&mut self, frame: Frame) -> Result<(), Error> {
        self.attempt(|file| file.take(frame))
    }

    /// Lets all bytes of the frames go to the sink, and returns the seek point of each that is not
    /// empty, in order. No frame may follow. What begins within the first 506 bytes of a signed
    /// file is one frame with the first.
    ///
    /// # Errors
    /// [`Error`] when the sink fails.
    pub fn end_frames(&mut self) -> Result<Vec<SeekPoint>, Error> {
        self.attempt(|file| file.end())
    }

    /// Returns what the file is written to.
    pub fn sink(&self) -> Option<&W> {
        self.sink.as_ref()
    }

    /// Ends the file, and returns the sink.
    ///
    /// # Errors
    /// [`Error`] when the sink fails, or gpg does not sign.
    pub fn finish(mut self) -> Result<W, Error> {
        self.attempt(Self::close)?;
        self.give_back()
    }

    /// Ends the file with a table behind the frames, of at most 64 MiB, and returns the sink. Calls
    /// [`end_frames`](Self::end_frames) if nobody has. A signed file of fewer than 506 bytes gets
    /// no table: no tar is as short.
    ///
    /// # Errors
    /// As [`finish`](Self::finish), and when the table is too long.
    pub fn finish_with_table(mut self, table: &[u8]) -> Result<W, Error> {
        self.attempt(|file| file.close_with(table))?;
        self.give_back()
    }

    /// Does a part of the work, unless some other part has failed.
    fn attempt<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T, Cause>) -> Result<T, Error> {
        let earlier = Cause::Other("writing it has failed before".to_owned());
        let result = if self.failed { Err(earlier) } else { part(self) };
        self.failed = result.is_err();
        result.map_err(|cause| cause.of(&self.name))
    }

    fn give_back(&mut self) -> Result<W, Error> {
        self.sink.take().ok_or_else(|| Cause::Other("it is finished".to_owned()).of(&self.name))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        sink.write_bytes(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn take(&mut self, frame: Frame) -> Result<(), Cause> {
        if self.ended {
            return Err(Cause::Other("a frame comes behind the end of the frames".to_owned()));
        }
        if frame.plain == 0 {
            return Ok(());
        }
        let start = self.plain;
        self.plain += frame.plain;
        let encoder = self.encoder.clone();
        let out = match &mut self.form {
            Layer::Plain => {
                self.points.push(SeekPoint { plain: start, state: state::plain() });
                frame.bytes
            }
            Layer::Gzip(held) => {
                self.points.push(SeekPoint {
                    plain: start,
                    state: gzip_state(self.written + held.len() as u64),
                });
                let mut out = std::mem::take(held);
                out.extend_from_slice(&frame.bytes);
                *held = out.split_off(out.len().saturating_sub(HELD));
                out
            }
            Layer::Message(message) => {
                message.mark(start);
                message.push(&frame.bytes);
                message.take()
            }
            Layer::Signed(message, signed) => {
                match &mut signed.held {
                    Some((_, first)) if signed.fresh && first.len() < SIGNED_FIRST => {
                        first.extend_from_slice(&frame.bytes)
                    }
                    held => {
                        if let Some((start, plain)) = held.replace((start, frame.bytes.into())) {
                            signed.chunks(&encoder, message, start, &plain)?;
                        }
                    }
                }
                message.take()
            }
        };
        self.write(&out)
    }

    fn end(&mut self) -> Result<Vec<SeekPoint>, Cause> {
        self.ended = true;
        let encoder = self.encoder.clone();
        let out = match &mut self.form {
            Layer::Plain => Vec::new(),
            Layer::Gzip(held) => std::mem::take(held),
            Layer::Message(message) => {
                self.points = message.end_frames()?;
                message.take()
            }
            Layer::Signed(_, signed) if self.plain < SIGNED_FIRST as u64 => {
                let first = signed
                    .held
                    .iter()
                    .map(|_| SeekPoint { plain: 0, state: state::begin(Kind::Start) });
                self.points = first.collect();
                Vec::new()
            }
            Layer::Signed(message, signed) => {
                if let Some((start, plain)) = signed.held.take() {
                    signed.chunks(&encoder, message, start, &plain)?;
                }
                self.points = message.end_frames()?;
                message.take()
            }
        };
        self.write(&out)?;
        Ok(std::mem::take(&mut self.points))
    }

    fn close(&mut self) -> Result<(), Cause> {
        let encoder = self.encoder.clone();
        let form = if encoder.level.is_some() { Form::Blocks } else { Form::Direct };
        let out = match std::mem::replace(&mut self.form, Layer::Plain) {
            Layer::Plain => Vec::new(),
            Layer::Gzip(held) if self.plain == 0 && held.is_empty() => {
                deflate::members(&[], 6, encoder.time)?
            }
            Layer::Gzip(held) => held,
            Layer::Message(message) => {
                message.finish(if form == Form::Blocks { deflate::END } else { &[] })
            }
            Layer::Signed(mut message, mut signed) => {
                let mut last = Zeroizing::new(Vec::new());
                let (start, plain) = signed.held.take().unwrap_or_default();
                let head = if signed.fresh { &encoder.literal_head()[..] } else { &[] };
                write_last_chunk(&[head, &plain].concat(), &mut last);
                signed.signature.update(&plain);
                message.mark(start);
                match encoder.level {
                    Some(level) => message.push(&deflate::flushed(&last, level)?),
                    None => message.push(&last),
                }
                let signature = signed.finish(&encoder)?;
                message.finish(&table::wrap_end(form, &signature))
            }
        };
        self.write(&out)
    }

    fn close_with(&mut self, table: &[u8]) -> Result<(), Cause> {
        if table.len() > table::LIMIT {
            return Err(Cause::Other(format!(
                "its table has {} bytes, more than {}",
                table.len(),
                table::LIMIT
            )));
        }
        if !self.ended {
            self.end()?;
        }
        if matches!(self.form, Layer::Signed(..)) && self.plain < SIGNED_FIRST as u64 {
            return self.close();
        }
        let encoder = self.encoder.clone();
        let form = if encoder.level.is_some() { Form::Blocks } else { Form::Direct };
        let (stored_start, plain_start, length) = (self.written, self.plain, table.len() as u32);
        let footer =
            |lead: usize| Footer { stored_start, plain_start, length, form, lead: lead as u8 };
        let out = match std::mem::replace(&mut self.form, Layer::Plain) {
            Layer::Plain => [table, &footer(0).print(table, &None)].concat(),
            Layer::Gzip(_) => {
                table::gzip_member(table, &footer(0).print(table, &None), encoder.time)
            }
            Layer::Message(message) => {
                let footer = footer(LEAD).print(table, &Some(message.table_key()));
                message.finish_with_table(&table::wrap(
                    form,
                    &[&[0; LEAD], table].concat(),
                    &footer,
                    &[],
                ))
            }
            Layer::Signed(message, mut signed) => {
                let footer = footer(5 + LEAD).print(table, &Some(message.table_key()));
                let last = [&[0; LEAD], table, &footer].concat();
                signed.signature.update(&last);
                let signature = signed.finish(&encoder)?;
                let mut before = Vec::with_capacity(5 + last.len());
                write_last_chunk(&last, &mut before);
                before.truncate(before.len() - footer.len());
                message.finish_with_table(&table::wrap(form, &before, &footer, &signature))
            }
        };
        self.write(&out)
    }
}

impl Signed {
    /// Writes a frame as chunks of the literal data, of which more have to follow.
    fn chunks(
        &mut self,
        encoder: &Encoder,
        message: &mut MessageWriter,
        start: u64,
        plain: &[u8],
    ) -> Result<(), Cause> {
        let head = if std::mem::take(&mut self.fresh) { &encoder.literal_head()[..] } else { &[] };
        let mut chunks = Zeroizing::new(Vec::with_capacity(plain.len() + 64));
        write_chunks(&[head, plain].concat(), &mut chunks);
        self.signature.update(plain);
        if !plain.is_empty() {
            message.mark(start);
        }
        match encoder.level {
            Some(level) => message.push(&deflate::flushed(&chunks, level)?),
            None => message.push(&chunks),
        }
        Ok(())
    }

    fn finish(self, encoder: &Encoder) -> Result<Vec<u8>, Cause> {
        let packet = self.signature.finish()?;
        encoder
            .signer
            .as_ref()
            .map_or(Ok(()), |signer| signer.key.check(&packet, signer.digest))?;
        Ok(packet)
    }
}

impl<W: ByteSink> Drop for EncodedFile<W> {
    fn drop(&mut self) {
        // Behind its last member, a gzip file that lacks more looks complete; not so with half a
        // header behind it.
        if let (Layer::Gzip(_), Some(sink)) = (&self.form, &mut self.sink) {
            let _ = sink.write_bytes(&deflate::gzip_header(0)[..3]);
        }
    }
}

fn gzip_state(offset: u64) -> Vec<u8> {
    let mut state = state::begin(Kind::Gzip);
    state.extend_from_slice(&offset.to_le_bytes());
    crate::codec::inflate::write_fresh(&mut state);
    state
}

/// Writes a stored file as a stream.
pub struct EncodedWriter<W: ByteSink> {
    file: EncodedFile<W>,
    frame: Vec<u8>,
}

impl<W: ByteSink> EncodedWriter<W> {
    pub(super) fn new(file: EncodedFile<W>) -> Self {
        Self { file, frame: Vec::new() }
    }

    /// Takes all these bytes; a frame is written when it is full.
    ///
    /// # Errors
    /// As [`EncodedFile::push`].
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (next, rest) = bytes.split_at(bytes.len().min(FRAME - self.frame.len()));
            self.frame.extend_from_slice(next);
            bytes = rest;
            if self.frame.len() == FRAME {
                self.cut()?;
            }
        }
        Ok(())
    }

    /// Takes all that a reader on this machine has.
    ///
    /// # Errors
    /// [`Cause::Local`] when it cannot be read, and as [`EncodedFile::push`].
    pub fn copy(&mut self, from: &mut impl Read) -> Result<(), Error> {
        let mut buffer = vec![0; FRAME];
        loop {
            match from.read_bytes(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.write(&buffer[..count])?,
                Err(error) => {
                    let what = format!("cannot read a temporary file: {error}");
                    return Err(Cause::Local(what).of(""));
                }
            }
        }
    }

    /// Ends the file, and returns the sink.
    ///
    /// # Errors
    /// As [`EncodedFile::finish`].
    pub fn finish(mut self) -> Result<W, Error> {
        self.cut()?;
        self.file.finish()
    }

    fn cut(&mut self) -> Result<(), Error> {
        let frame = self.file.encoder.frame(std::mem::take(&mut self.frame))?;
        self.file.push(frame)
    }
}
