//! [`MessageWriter`]: an encrypted message whose frames can be entered, and whose table can be
//! found from its end.
//!
//! ```text
//! key packets │ d2 │ f0 64 KiB │ f0 64 KiB │ ... │ ed 8 KiB │ ... │ e0 1 byte │ ff length: the table, ..., MDC
//!                  └──────────── the frames ─────────────────────────────────┘ └─ one last chunk up to the file's end ─┘
//! inside, unsigned:  prefix │ a3 01 │ af 'b' 0 date │ frame │ frame │ ... │ lead, table, footer │
//! inside, signed:    prefix │ a3 01 │ one-pass │ cb │ chunks of a frame │ ... │ ff length lead, table, footer │ signature │
//! ```
//! Inner packets without end of their own need no lengths between the frames, and what ends them is
//! the end of the encryption, as with gpg's compressed packets. A signature has to stand behind the
//! literal data, so these have chunks then. Without compression `a3 01` is missing; with it, all
//! from there on is one deflate stream, flushed behind each frame.
//!
//! A first chunk has at least 512 bytes (RFC 4880 4.2.2.4). So nothing is written before there are
//! as many, and where the table follows fewer, marker packets, which all readers skip, make up for
//! it.

use super::aes::{Aes, BLOCK};
use super::cfb::PREFIX;
use super::encrypt::Encrypt;
use super::head::{Head, KeyPacket};
use super::packets::{Extent, tag, write_chunks, write_last_chunk, write_rest};
use super::seal::Seal;
use crate::codec::keys::Session;
use crate::codec::state::{self, Kind};
use crate::codec::{Cause, SeekPoint};
use zeroize::Zeroizing;

/// Size of the chunks that carry most of a message.
const CHUNK: usize = 64 << 10;
/// Least size of a first chunk.
const FIRST: usize = 512;
/// The last chunk fits whole into what is read to look for a table, so that a file without one is
/// known without its key.
const LAST: usize = 60_000;
/// Size of the chunks between, when a table is longer.
const BETWEEN: usize = 32 << 10;
const MARKER: &[u8] = b"\xca\x03PGP";

/// Bytes before the table that say nothing: the first two cipher blocks of the last chunk open only
/// with the bytes before it.
pub const LEAD: usize = 2 * BLOCK;

/// Where a frame begins.
struct Mark {
    plain: u64,
    /// Inner bytes before it, those of `lead` left out.
    inner: u64,
    /// The cipher block before the one that it begins in; `None` while nothing is encrypted.
    before: Option<[u8; BLOCK]>,
}

/// What stands around the frames.
pub struct Layout {
    /// The packets with the session key.
    pub keys: Vec<KeyPacket>,
    /// Inner bytes before the first frame.
    pub lead: Vec<u8>,
    /// Whether frames are deflated.
    pub compressed: bool,
    /// Whether frames are chunks of the literal data.
    pub chunked: bool,
}

/// Writes one message. The stored bytes come out by [`take`](Self::take).
pub struct MessageWriter {
    encrypt: Encrypt,
    head: Head,
    seal: Seal,
    table_key: Zeroizing<[u8; 32]>,
    layout: Layout,
    /// Stored bytes, ready to go.
    out: Vec<u8>,
    /// Body bytes of the encrypted packet that are in no chunk yet.
    body: Vec<u8>,
    /// Offset of the first chunk's length in the file, and body bytes that are in chunks.
    start: usize,
    done: u64,
    /// Inner bytes of frames, while they are too few to begin.
    waiting: Option<Zeroizing<Vec<u8>>>,
    inner: u64,
    marks: Vec<Mark>,
    /// Body bytes in chunks of 64 KiB.
    whole: u64,
}

impl MessageWriter {
    pub fn new(session: &Session, layout: Layout) -> Result<Self, Cause> {
        let aes = Aes::new(session.algorithm, &session.key)
            .ok_or(Cause::damaged("its session key is invalid"))?;
        let (encrypt, prefix) = Encrypt::begin(aes)?;
        let head = Head::of_new(&layout.keys, prefix);
        let seal = Seal::new(&session.key, &head);
        let table_key = super::session::table_key(session, &head);
        let mut out = Vec::new();
        layout.keys.iter().for_each(|(tag, body)| write_old_packet(*tag, body, &mut out));
        out.push(0xc0 | tag::ENCRYPTED_AND_PROTECTED);
        let body = [&[1], &prefix[..]].concat();
        let (start, waiting) = (out.len(), Some(Zeroizing::default()));
        let (marks, done, inner, whole) = Default::default();
        Ok(Self {
            encrypt,
            head,
            seal,
            table_key,
            layout,
            out,
            body,
            start,
            done,
            waiting,
            inner,
            marks,
            whole,
        })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the key of the tag of this message's table.
    pub fn table_key(&self) -> Zeroizing<[u8; 32]> {
        self.table_key.clone()
    }

    /// Returns the stored bytes that are ready, all but those of a chunk that is not full.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Returns how many bytes there are that have not been taken, lengths of chunks left out.
    pub fn pending(&self) -> usize {
        let waiting =
            self.waiting.as_ref().map_or(0, |waiting| waiting.len() + self.layout.lead.len());
        self.out.len() + self.body.len() + waiting
    }

    /// Notes that the frame that comes next begins at `plain`.
    pub fn mark(&mut self, plain: u64) {
        let before = self.waiting.is_none().then(|| self.encrypt.before());
        self.marks.push(Mark { plain, inner: self.inner, before });
    }

    /// Takes the next inner bytes.
    pub fn push(&mut self, inner: &[u8]) {
        self.inner += inner.len() as u64;
        match &mut self.waiting {
            Some(waiting) => {
                waiting.extend_from_slice(inner);
                if waiting.len() >= FIRST {
                    self.begin(0);
                }
            }
            None => self.append(inner),
        }
    }

    /// Encrypts what has been waiting, behind as many marker packets.
    fn begin(&mut self, markers: usize) {
        let Some(waiting) = self.waiting.take() else { return };
        self.layout.lead.splice(..0, MARKER.repeat(markers));
        let lead = self.layout.lead.clone();
        let inner = Zeroizing::new([&lead[..], &waiting].concat());
        let at = self.body.len();
        self.body.extend_from_slice(&inner);
        self.encrypt.update(&mut self.body[at..]);
        for mark in &mut self.marks {
            let block = (PREFIX + lead.len() + mark.inner as usize) / BLOCK * BLOCK;
            mark.before = self.body[1..][block - BLOCK..].first_chunk().copied();
        }
        self.cut();
    }

    fn append(&mut self, inner: &[u8]) {
        let at = self.body.len();
        self.body.extend_from_slice(inner);
        self.encrypt.update(&mut self.body[at..]);
        self.cut();
    }

    /// Moves full chunks to the output.
    fn cut(&mut self) {
        let full = self.body.len() / CHUNK * CHUNK;
        self.body[..full].chunks(CHUNK).for_each(|chunk| write_chunks(chunk, &mut self.out));
        self.body.drain(..full);
        self.done += full as u64;
        self.whole = self.done;
    }

    /// Lets all bytes out, so that a table may follow, and returns the seek points of the frames.
    pub fn end_frames(&mut self) -> Result<Vec<SeekPoint>, Cause> {
        if let Some(waiting) = &self.waiting {
            let length = self.body.len() + self.layout.lead.len() + waiting.len();
            self.begin(FIRST.saturating_sub(length).div_ceil(MARKER.len()));
        }
        write_chunks(&self.body, &mut self.out);
        self.done += self.body.len() as u64;
        self.body.clear();
        self.marks
            .iter()
            .map(|mark| Ok(SeekPoint { plain: mark.plain, state: self.state(mark)? }))
            .collect()
    }

    /// Returns the state of a frame's beginning, as [`Message::mark`](super::message::Message)
    /// writes it.
    fn state(&self, mark: &Mark) -> Result<Vec<u8>, Cause> {
        let Some(before) = mark.before.filter(|_| mark.plain > 0) else {
            return Ok(state::begin(Kind::Start));
        };
        let at = PREFIX as u64 + self.layout.lead.len() as u64 + mark.inner;
        let skip = at % BLOCK as u64;
        let (offset, left) = self.place(1 + at - skip);
        let mut plain = Zeroizing::new(Vec::new());
        if self.layout.chunked { Extent::in_chunk(0) } else { Extent::REST }.write(&mut plain);
        if self.layout.compressed {
            plain.push(super::message::ZIP);
            Extent::REST.write(&mut plain);
        } else {
            plain.push(super::message::DIRECT);
        }
        plain.extend_from_slice(&before);
        plain.push(skip as u8);
        plain.extend_from_slice(&offset.to_le_bytes());
        Extent::in_chunk(left).write(&mut plain);
        if self.layout.compressed {
            crate::codec::inflate::write_flushed(&mut plain);
        }
        let mut state = state::begin(Kind::Message);
        self.seal.close(&plain, &mut state)?;
        Ok(state)
    }

    /// Returns where a body byte lies in the file, and how much its chunk has from there on.
    fn place(&self, at: u64) -> (u64, u64) {
        let mut lengths = at.min(self.whole) / CHUNK as u64;
        let mut end = lengths * CHUNK as u64;
        while end <= at {
            let rest = self.done.saturating_sub(end);
            end += if end < self.whole { CHUNK as u64 } else { 1 << rest.max(1).ilog2() };
            lengths += 1;
        }
        (self.start as u64 + lengths + at, end - at)
    }

    /// Takes the last inner bytes, and returns the stored bytes that have not been taken. There is
    /// no table, and the length of the last chunk shows that.
    pub fn finish(mut self, inner: &[u8]) -> Vec<u8> {
        self.end(inner);
        write_rest(&self.body, &mut self.out);
        self.out
    }

    /// The same with a table at the end of the inner bytes, for a message whose [frames have
    /// ended](Self::end_frames).
    pub fn finish_with_table(mut self, inner: &[u8]) -> Vec<u8> {
        self.end(inner);
        let between = self.body.len().saturating_sub(LAST).next_multiple_of(BETWEEN);
        let (between, last) = self.body.split_at(between);
        between.chunks(BETWEEN).for_each(|chunk| write_chunks(chunk, &mut self.out));
        write_last_chunk(last, &mut self.out);
        self.out
    }

    fn end(&mut self, inner: &[u8]) {
        self.begin(0);
        let at = self.body.len();
        self.body.extend_from_slice(inner);
        self.encrypt.update(&mut self.body[at..]);
        self.encrypt.finish(&mut self.body);
    }
}

/// Writes the header of a packet as gpg does, and its body.
pub fn write_old_packet(tag: u8, body: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(body.len()) {
        Ok(length) => out.extend_from_slice(&[0x80 | tag << 2, length]),
        Err(_) => {
            out.push(0x81 | tag << 2);
            out.extend_from_slice(&(body.len() as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(body);
}
