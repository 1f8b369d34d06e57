//! The table behind the frames: how it is written, and how it is found from the file's end.
//!
//! ```text
//! plain    frames ─┤ table │ footer
//! gzip     frames ─┤ gzip member: header │ stored blocks: table │ stored block: footer │ CRC, length
//! OpenPGP  frames ─┤ chunk: [ff length] lead, table │ footer │ [signature] │ MDC      each │ a stored block, if deflated
//!                  └ stored start
//! ```
//! Where each part lies follows from the lengths in the footer, so no byte of the framing between
//! is believed. The footer's tag is a BLAKE3 of its fields and the table: keyed, in an encrypted
//! file, by HKDF-SHA-256 from the session key and the message's first bytes. CFB can be tampered
//! with, and the MDC says nothing to those who read a part; and all files of a session may share
//! one session key, but not their first bytes.
//!
//! A table that does not fit is no table: the file was encoded anew by another program, cut, or
//! tampered with.

use super::deflate;
use crate::codec::openpgp::{Access, BLOCK, HEAD, LEAD};
use crate::codec::state::Fields;
use crate::codec::{Cause, Codec, Encoding, Error};
use crate::storage::{self, ReadAt};
use std::ops::Range;
use std::sync::Arc;

/// How much is read of a small file to look for a table.
const TAIL: u64 = 64 << 10;
/// Stored bytes for each of which a byte more is read: a table of contents has a hash of 32 bytes
/// for each 64 KiB.
const DENSITY: u64 = 2 << 10;
/// Longest table.
pub(super) const LIMIT: usize = 64 << 20;
const MAGIC: &[u8; 8] = b"dupfsTC1";
const FIELDS: usize = 8 + 8 + 8 + 4 + 1 + 1 + 2;
const FOOTER: usize = FIELDS + 32;
const GZIP_HEADER: usize = 10;
const GZIP_TRAILER: usize = 8;

/// The table that stood behind a file's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// As it was given to
    /// [`EncodedFile::finish_with_table`](super::EncodedFile::finish_with_table).
    pub bytes: Vec<u8>,
    /// Where the stored bytes of the frames end.
    pub stored_start: u64,
    /// Where the plain bytes of the frames end.
    pub plain_start: u64,
    /// The stored bytes from there to the end of the file, in which the table is.
    pub behind: Vec<u8>,
}

/// What the bytes of the table are wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    /// Nothing.
    Direct = 0,
    /// Stored deflate blocks.
    Blocks = 1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub stored_start: u64,
    pub plain_start: u64,
    pub length: u32,
    pub form: Form,
    /// Bytes before the table in its blocks.
    pub lead: u8,
}

/// The key of the tag, in an encrypted file.
pub(super) type TagKey = Option<zeroize::Zeroizing<[u8; 32]>>;

impl Footer {
    fn fields(&self) -> [u8; FIELDS] {
        let mut fields = [0; FIELDS];
        fields[..8].copy_from_slice(MAGIC);
        fields[8..16].copy_from_slice(&self.stored_start.to_le_bytes());
        fields[16..24].copy_from_slice(&self.plain_start.to_le_bytes());
        fields[24..28].copy_from_slice(&self.length.to_le_bytes());
        fields[28] = self.form as u8;
        fields[29] = self.lead;
        fields
    }

    fn tag(&self, table: &[u8], key: &TagKey) -> blake3::Hash {
        let mut hasher =
            key.as_ref().map_or_else(blake3::Hasher::new, |key| blake3::Hasher::new_keyed(key));
        hasher.update(&self.fields()).update(table).finalize()
    }

    /// Returns the bytes of the footer.
    pub fn print(&self, table: &[u8], key: &TagKey) -> Vec<u8> {
        [&self.fields()[..], self.tag(table, key).as_bytes()].concat()
    }

    /// Takes the fields of a footer.
    fn parse(bytes: &[u8]) -> Option<(Self, blake3::Hash)> {
        let mut fields = Fields(bytes.strip_prefix(MAGIC)?);
        let mut read = || -> Result<_, Cause> {
            let (stored_start, plain_start) = (fields.u64()?, fields.u64()?);
            let length = u32::from_le_bytes(fields.array()?);
            Ok((stored_start, plain_start, length, fields.array::<4>()?, fields.array()?))
        };
        let (stored_start, plain_start, length, [form, lead, 0, 0], tag) = read().ok()? else {
            return None;
        };
        let form = [Form::Direct, Form::Blocks].into_iter().find(|known| *known as u8 == form)?;
        let known = length as usize <= LIMIT;
        known.then_some((
            Self { stored_start, plain_start, length, form, lead },
            blake3::Hash::from_bytes(tag),
        ))
    }

    /// Returns how many bytes there are from the start of the wrapped table up to the footer.
    fn before_footer(&self) -> usize {
        let bytes = usize::from(self.lead) + self.length as usize;
        match self.form {
            Form::Direct => bytes,
            Form::Blocks => bytes + 5 * bytes.div_ceil(deflate::STORED).max(1) + 5,
        }
    }

    /// Takes the table out of what stands before the footer.
    fn unwrap(&self, wrapped: &[u8]) -> Option<Vec<u8>> {
        let mut bytes: Vec<u8> = match self.form {
            Form::Direct => wrapped.to_vec(),
            Form::Blocks => {
                let blocks =
                    wrapped.get(..wrapped.len().checked_sub(5)?)?.chunks(5 + deflate::STORED);
                blocks.flat_map(|block| block.get(5..).unwrap_or_default()).copied().collect()
            }
        };
        let table = bytes.split_off(usize::from(self.lead).min(bytes.len()));
        (table.len() == self.length as usize).then_some(table)
    }
}

/// Wraps what stands before the footer, the footer, and what stands behind it; in blocks, the last
/// of which ends the deflated data.
pub(super) fn wrap(form: Form, before: &[u8], footer: &[u8], behind: &[u8]) -> Vec<u8> {
    match form {
        Form::Direct => [before, footer, behind].concat(),
        Form::Blocks => {
            let mut out =
                Vec::with_capacity(before.len() + before.len() / 4096 + behind.len() + 512);
            deflate::store(before, false, &mut out);
            deflate::store(footer, false, &mut out);
            out.extend_from_slice(&wrap_end(form, behind));
            out
        }
    }
}

/// Wraps what stands behind everything.
pub(super) fn wrap_end(form: Form, behind: &[u8]) -> Vec<u8> {
    match form {
        Form::Direct => behind.to_vec(),
        Form::Blocks => {
            let mut out = Vec::new();
            deflate::store(behind, true, &mut out);
            out
        }
    }
}

/// Wraps the table and its footer as gzip does.
pub(super) fn gzip_member(table: &[u8], footer: &[u8], time: u32) -> Vec<u8> {
    let mut out = deflate::gzip_header(time).to_vec();
    deflate::store(table, false, &mut out);
    deflate::store(footer, true, &mut out);
    out.extend_from_slice(&deflate::gzip_trailer(&[table, footer].concat()));
    out
}

impl Codec {
    /// Returns the stored ranges in which [`Codec::table`] looks first, of a file of so many bytes:
    /// whoever has them at hand saves it requests.
    pub fn table_ranges(encoding: Encoding, size: u64) -> Vec<Range<u64>> {
        let tail = tail_start(size)..size;
        match encoding {
            Encoding::Plain | Encoding::Gzip => vec![tail],
            // What lies between them is worth less than a request.
            Encoding::OpenPgp if tail.start <= TAIL => std::iter::once(0..size).collect(),
            Encoding::OpenPgp => vec![0..HEAD as u64, tail],
        }
    }

    /// Looks for the table behind a file's frames; `None` if there is none that fits. Reads the
    /// last 64 KiB, and more of a large file; if these hold a sign of one, also the first bytes of
    /// an encrypted file, where its session key is, and the rest of a longer table.
    ///
    /// # Errors
    /// [`Cause::Storage`] when the file cannot be read; those of [`Codec::reopen`] when there is no
    /// way to the session key.
    pub fn table(&self, file: Arc<dyn ReadAt>, encoding: Encoding) -> Result<Option<Table>, Error> {
        let name = file.name().to_owned();
        let found = match encoding {
            Encoding::Plain => bare(&file, 0, 0),
            Encoding::Gzip => bare(&file, GZIP_HEADER, GZIP_TRAILER),
            Encoding::OpenPgp => self.encrypted(&file),
        };
        found.map_err(|cause| cause.of(&name))
    }

    fn encrypted(&self, file: &Arc<dyn ReadAt>) -> Result<Option<Table>, Cause> {
        let tail = Tail::read(file)?;
        let Some(last) = last_chunk(&tail.bytes) else { return Ok(None) };
        let whole: Arc<dyn ReadAt> = if tail.start == 0 {
            Arc::new(Small(file.name().to_owned(), tail.bytes.clone()))
        } else {
            file.clone()
        };
        let access = match Access::new(&self.keys, &whole) {
            Err(
                Cause::Unsupported(_)
                | Cause::Damaged(_)
                | Cause::Truncated
                | Cause::NotAuthentic(_),
            ) => return Ok(None),
            access => access?,
        };
        let cipher = &tail.bytes[last + 5..];
        let mut found = None;
        for border in access.borders(cipher)? {
            let plain = access.decrypt_end(cipher, border)?;
            let footers = plain.windows(FOOTER).rev().find_map(Footer::parse);
            found = found.or(footers.map(|footer| (footer, border)));
        }
        let Some(((footer, tag), border)) = found else { return Ok(None) };
        // The table's chunks: mostly the last one only.
        let Some(body) = tail.from(file, footer.stored_start)? else { return Ok(None) };
        let Some(cipher) = join_chunks(&body).filter(|cipher| cipher.len() >= BLOCK) else {
            return Ok(None);
        };
        let plain = access.decrypt_end(&cipher, border)?;
        let key = access.table_key();
        let end = footer.before_footer();
        let fits = usize::from(footer.lead) >= LEAD
            && plain.get(end..end + FOOTER).and_then(Footer::parse) == Some((footer, tag));
        let table = plain.get(..end).filter(|_| fits).and_then(|wrapped| footer.unwrap(wrapped));
        Ok(table.and_then(|table| accept(table, footer, tag, &Some(key), body)))
    }
}

/// Looks for a table where nothing is encrypted: the footer stands `behind` bytes before the end,
/// and `header` bytes before the table.
fn bare(file: &Arc<dyn ReadAt>, header: usize, behind: usize) -> Result<Option<Table>, Cause> {
    let tail = Tail::read(file)?;
    let Some(at) = tail.bytes.len().checked_sub(FOOTER + behind) else { return Ok(None) };
    let Some((footer, tag)) = Footer::parse(&tail.bytes[at..at + FOOTER]) else { return Ok(None) };
    let length = header + footer.before_footer();
    let fits = footer.lead == 0
        && (footer.form == Form::Blocks) == (header > 0)
        && footer.stored_start.checked_add((length + FOOTER + behind) as u64) == Some(file.size());
    if !fits {
        return Ok(None);
    }
    let Some(wrapped) = tail.from(file, footer.stored_start)? else { return Ok(None) };
    let table = wrapped.get(header..length).and_then(|wrapped| footer.unwrap(wrapped));
    Ok(table.and_then(|table| accept(table, footer, tag, &None, wrapped)))
}

fn accept(
    table: Vec<u8>,
    footer: Footer,
    tag: blake3::Hash,
    key: &TagKey,
    behind: Vec<u8>,
) -> Option<Table> {
    let good = footer.tag(&table, key) == tag; // in constant time
    good.then_some(Table {
        bytes: table,
        stored_start: footer.stored_start,
        plain_start: footer.plain_start,
        behind,
    })
}

/// Returns where the last bytes of a file begin.
fn tail_start(size: u64) -> u64 {
    size.saturating_sub(TAIL + size / DENSITY)
}

/// The last bytes of a file.
struct Tail {
    start: u64,
    bytes: Vec<u8>,
}

impl Tail {
    fn read(file: &Arc<dyn ReadAt>) -> Result<Self, Cause> {
        let start = tail_start(file.size());
        Ok(Self { start, bytes: read_all(file, start, (file.size() - start) as usize)? })
    }

    /// Returns the file's bytes from an offset on, of which those that are not here yet are read;
    /// `None` if they are too many.
    fn from(&self, file: &Arc<dyn ReadAt>, start: u64) -> Result<Option<Vec<u8>>, Cause> {
        if let Some(inside) = start.checked_sub(self.start) {
            return Ok(usize::try_from(inside)
                .ok()
                .and_then(|at| self.bytes.get(at..))
                .map(<[u8]>::to_vec));
        }
        let missing = self.start - start;
        // Framing is far less than a hundredth of a table.
        if missing > (LIMIT + LIMIT / 100) as u64 {
            return Ok(None);
        }
        let mut bytes = read_all(file, start, missing as usize)?;
        bytes.extend_from_slice(&self.bytes);
        Ok(Some(bytes))
    }
}

fn read_all(file: &Arc<dyn ReadAt>, start: u64, length: usize) -> Result<Vec<u8>, Cause> {
    let mut bytes = vec![0; length];
    if length > 0 && file.read_at(start, &mut bytes)? < length {
        return Err(Cause::Truncated); // it has shrunk since it was listed
    }
    Ok(bytes)
}

/// Finds the length of five bytes that reaches just to the end: behind it is the last chunk of a
/// message.
fn last_chunk(tail: &[u8]) -> Option<usize> {
    let reaches = |at: &usize| match tail[*at..] {
        [0xff, a, b, c, d, ..] => u32::from_be_bytes([a, b, c, d]) as usize == tail.len() - at - 5,
        _ => false,
    };
    (0..tail.len().saturating_sub(4)).rev().find(reaches)
}

/// Takes the lengths out of a row of chunks; `None` if the last one does not end with the bytes.
fn join_chunks(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut joined = Vec::with_capacity(chunks.len());
    loop {
        let (&first, rest) = chunks.split_first()?;
        if first == 0xff {
            let (length, last) = rest.split_first_chunk()?;
            joined.extend_from_slice(last);
            return (u32::from_be_bytes(*length) as usize == last.len()).then_some(joined);
        }
        let length = if (224..255).contains(&first) { 1 << (first & 31) } else { return None };
        let (chunk, behind) = rest.split_at_checked(length)?;
        joined.extend_from_slice(chunk);
        chunks = behind;
    }
}

/// A file that has been read as a whole.
struct Small(String, Vec<u8>);

impl ReadAt for Small {
    fn name(&self) -> &str {
        &self.0
    }

    fn size(&self) -> u64 {
        self.1.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        let from = &self.1[usize::try_from(offset).unwrap_or(usize::MAX).min(self.1.len())..];
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }
}
