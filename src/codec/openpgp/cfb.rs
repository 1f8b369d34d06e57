//! [`Decrypt`]: the body of an encrypted packet (tag 18, version 1) as plain bytes, from its start
//! or from any byte.
//!
//! RFC 4880 5.13: cipher feedback with a zero start vector and without resynchronisation. Plain
//! block = cipher block XOR E(cipher block before), so any block opens by itself, and many at once,
//! which is what makes AES units fast. The plain bytes begin with 16 random ones and a repetition
//! of the last two (a first test of the key), and end with the modification detection code: `d3 14`
//! and the SHA-1 of all plain bytes up to and including these two.

use super::aes::{Aes, BLOCK};
use super::packets::{Body, Extent};
use crate::codec::Cause;
use crate::codec::source::{Source, Stored};
use crate::codec::state::Fields;
use sha1::{Digest, Sha1};

/// Random bytes and repetition at the start.
pub const PREFIX: usize = BLOCK + 2;
/// Header and hash at the end.
pub const MDC: usize = MDC_HEADER.len() + 20;
/// Header of the modification detection code: a packet of 20 bytes with tag 19.
pub const MDC_HEADER: [u8; 2] = [0xd3, 0x14];
/// Bytes decrypted at once: four of gpg's chunks, together with its ciphertext well inside the
/// second cache.
pub const BATCH: usize = 32 << 10;

/// Where a stretch of ciphertext lies in the file.
#[derive(Clone, Copy)]
struct Stretch {
    /// Index of its first byte in `plain`.
    start: usize,
    /// Offset of that byte in the file.
    offset: u64,
    /// What the packet had left before that byte.
    extent: Extent,
}

/// Decrypts, and holds back the last 22 bytes, until it is known whether they are the modification
/// detection code: they are not where a part of a file ends in the middle of the packet.
pub struct Decrypt {
    body: Body<Stored>,
    aes: Aes,
    /// The cipher block before `plain`, then the ciphertext of `plain`.
    cipher: Vec<u8>,
    /// Begins at a block border.
    plain: Vec<u8>,
    stretches: Vec<Stretch>,
    /// Next byte in `plain` to give.
    position: usize,
    /// End of what may be given.
    end: usize,
    finished: bool,
    /// Without `hash`: the stored bytes have ended before the packet did, which matters to those
    /// who want more of it.
    cut: bool,
    /// None if decoding began in the middle, or what is read is only a part: then the code can't be
    /// checked.
    hash: Option<Sha1>,
}

impl Decrypt {
    /// Starts at the first byte behind the version number of the packet. If not `whole`, the
    /// modification detection code is not checked, and the stored bytes may end early.
    pub fn open(body: Body<Stored>, aes: Aes, whole: bool) -> Result<Self, Cause> {
        let mut decrypt = Self::new(body, aes, [0; BLOCK], whole.then(Sha1::new));
        decrypt.refill()?;
        if decrypt.plain.len() < PREFIX || decrypt.end < PREFIX {
            return Err(Cause::Truncated);
        }
        if decrypt.plain[BLOCK - 2..BLOCK] != decrypt.plain[BLOCK..PREFIX] {
            return Err(Cause::damaged("its session key does not open it"));
        }
        decrypt.position = PREFIX;
        Ok(decrypt)
    }

    fn new(body: Body<Stored>, aes: Aes, before: [u8; BLOCK], hash: Option<Sha1>) -> Self {
        let (plain, stretches) = (Vec::with_capacity(BATCH + 4 * BLOCK), Vec::new());
        Self {
            body,
            aes,
            cipher: before.to_vec(),
            plain,
            stretches,
            position: 0,
            end: 0,
            finished: false,
            cut: false,
            hash,
        }
    }

    /// Writes the state of the current place.
    pub fn mark(&self, state: &mut Vec<u8>) {
        let block = self.position - self.position % BLOCK;
        let at = self.stretches.partition_point(|s| s.start <= block);
        let Some(stretch) = at.checked_sub(1).map(|i| self.stretches[i]) else { return };
        let ahead = (block - stretch.start) as u64;
        state.extend_from_slice(&self.cipher[block..block + BLOCK]);
        state.push((self.position - block) as u8);
        state.extend_from_slice(&(stretch.offset + ahead).to_le_bytes());
        stretch.extent.after(ahead).write(state);
    }

    /// Returns the offset of the stored byte at which a state begins that [`mark`](Self::mark) has
    /// written.
    pub fn stored_start(fields: &mut Fields) -> Result<u64, Cause> {
        fields.array::<BLOCK>()?;
        fields.u8()?;
        fields.u64()
    }

    /// Goes on from a state that [`mark`](Self::mark) has written; `stored` opens the file at an
    /// offset.
    pub fn enter(
        aes: Aes,
        fields: &mut Fields,
        stored: impl FnOnce(u64) -> Stored,
    ) -> Result<Self, Cause> {
        let before = fields.array()?;
        let skip = usize::from(fields.u8()?);
        let offset = fields.u64()?;
        let body = Body::new(stored(offset), Extent::read(fields)?);
        let mut decrypt = Self::new(body, aes, before, None);
        decrypt.refill()?;
        if skip >= BLOCK || skip > decrypt.end {
            return Err(Cause::SeekPoint("its place in the cipher block is invalid"));
        }
        decrypt.position = skip;
        Ok(decrypt)
    }

    /// Gets and decrypts the next batch.
    fn refill(&mut self) -> Result<(), Cause> {
        self.forget();
        let old = self.plain.len();
        self.gather()?;
        self.aes.decrypt(&self.cipher[old..], &mut self.plain);
        self.plain.truncate(self.cipher.len() - BLOCK);
        let shown = self.end;
        match self.plain.len().checked_sub(if self.cut { 0 } else { MDC }) {
            Some(end) if end >= shown => self.end = end,
            _ if self.finished => return Err(Cause::Truncated),
            _ => {}
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&self.plain[shown..self.end]);
            if self.finished {
                let (header, code) = self.plain[self.end..].split_at(MDC_HEADER.len());
                hash.update(header);
                if header != MDC_HEADER || code != hash.clone().finalize().as_slice() {
                    return Err(Cause::NotAuthentic(
                        "the modification detection code (MDC) is missing or wrong".to_owned(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Drops whole blocks that have been given.
    fn forget(&mut self) {
        let gone = self.position - self.position % BLOCK;
        self.cipher.drain(..gone);
        self.plain.drain(..gone);
        self.position -= gone;
        self.end -= gone;
        let kept = self.stretches.partition_point(|s| s.start <= gone).saturating_sub(1);
        self.stretches.drain(..kept);
        for stretch in &mut self.stretches {
            let ahead = gone.saturating_sub(stretch.start) as u64;
            stretch.offset += ahead;
            stretch.extent = stretch.extent.after(ahead);
            stretch.start = stretch.start.saturating_sub(gone);
        }
    }

    /// Appends ciphertext, a batch or up to the end of the packet, which should be that of the
    /// file.
    fn gather(&mut self) -> Result<(), Cause> {
        let full = self.plain.len() + BATCH;
        while self.cipher.len() - BLOCK < full {
            let start = self.cipher.len() - BLOCK;
            let data = match self.body.fill() {
                Err(Cause::Truncated) if self.hash.is_none() => {
                    (self.finished, self.cut) = (true, true);
                    return Ok(());
                }
                data => data?,
            };
            let count = data.len().min(full - start);
            if count == 0 {
                self.finished = true;
                if !self.body.source_mut().fill()?.is_empty() {
                    return Err(Cause::damaged("something follows the encrypted packet"));
                }
                return Ok(());
            }
            self.cipher.extend_from_slice(&data[..count]);
            let (offset, extent) = (self.body.source().offset(), self.body.extent());
            self.stretches.push(Stretch { start, offset, extent });
            self.body.consume(count);
        }
        Ok(())
    }
}

impl Source for Decrypt {
    fn fill(&mut self) -> Result<&[u8], Cause> {
        while self.position == self.end && !self.finished {
            self.refill()?;
        }
        if self.position == self.end && self.cut {
            return Err(Cause::Truncated);
        }
        Ok(&self.plain[self.position..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.end);
    }
}
