//! New content, searched for the blocks of a signature.
//!
//! The scan stands at a place of the new content and asks three questions, the cheapest first.
//!
//! 1. *Does the basis just go on?* Where a copy ends behind block i, or a literal as long as some
//!    blocks stands in for those behind it, the block after them is expected, and the seven after
//!    that one: their weak sums are compared, then all eight MD4 at once. What has not changed, or
//!    was overwritten in place, is gone through like this.
//! 2. *Is it any other block?* The weak sum of a block that starts here, rolled on by one byte from
//!    place to place, is looked up in a filter of bits, seldom in the index behind it, and only if
//!    a block has that sum the MD4 is computed.
//! 3. *Is it the end of the basis?* The last block may be shorter than the others, how much is not
//!    told. It is looked for where the new content has less than a block left.
//!
//! A byte that is in no block goes into a literal. Memory: the signature, at 12 bytes a block; 6 to
//! 12 for the filter and 5 to 11 for the index, 23 to 33 in all; twice eight blocks, or 1 MiB; up
//! to 128 KiB of delta.
//!
//! Signatures come from a place that may be hostile. Equal sums are in the index once, sums that
//! crowd only a few times (the rest is found by question 1), and MD4 that come to nothing are given
//! up where they would take far more time than reading.
//!
//! Measured on 256 MiB in memory, processor time, on an EPYC 9004 that was busy with other work, in
//! GB/s, librsync's in brackets:
//!
//! | new content | blocks of 2048 | blocks of 16384, as 3.2.1 has them |
//! |---|---|---|
//! | identical | 2.8 (0.73) | 3.2 (0.79) |
//! | 200 edits of 100 bytes | 3.1 (0.71) | 2.8 (0.71) |
//! | other noise | 0.34 (0.047) | 0.54 (0.054) |
//! | other text of the same words | 0.20 (0.045) | 0.42 (0.053) |
//!
//! In the last two rows rolling and its filter take most of the time. What has a weak sum of the
//! signature by accident costs an MD4 besides: that is the more frequent, the larger the basis is,
//! the shorter its blocks, and the less its bytes differ.
//!
//! Source: librsync 2.3.2, delta.c, for what is found; the way to it is our own.

use super::md4::{LANES, eight};
use super::signature::{CHAR_OFFSET, CheckedSignature, are_zeros, weak_sum};
use md4::{Digest, Md4};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::cell::OnceCell;
use std::io::{self, BufRead, Read};

/// Longest blocks that are scanned for: two of them are held.
pub const LONGEST_BLOCK: usize = 1 << 24;
/// Longest blocks of which eight are looked at together.
const LONGEST_IN_LANES: usize = 1 << 20;
/// Bytes of new content that are held at least.
const BUFFER: usize = 1 << 20;
/// Longest literal of one command, the longest whose length takes two bytes; also, about, what is
/// scanned and what is put out at once.
const LITERAL: usize = 0xffff;
/// What a delta begins with.
const MAGIC: [u8; 4] = [0x72, 0x73, 0x02, 0x36];

/// The delta of new content, computed while it is read.
pub struct Scan<R> {
    new: R,
    ended: bool,
    /// New content: what a literal will bring, from `position` on what is still to be scanned.
    buffer: Vec<u8>,
    position: usize,
    literal: usize,
    blocks: Blocks,
    /// The weak sum of the block at `position`, if it was rolled to.
    rolled: Option<u32>,
    /// Copy that is still to be put out, from and to in the basis. It may be empty, and still tells
    /// what is expected.
    copy: (u64, u64),
    /// Bytes that follow it and are no copy.
    since: u64,
    /// Bytes that may be summed up for nothing.
    patience: u64,
    out: Vec<u8>,
    out_position: usize,
    finished: bool,
}

impl<R: BufRead> Scan<R> {
    /// Starts; the signature must be [of our kind](super::signature::Form::is_ours), its blocks not
    /// longer than [`LONGEST_BLOCK`].
    ///
    /// # Errors
    /// Those of reading the signature.
    pub fn new(new: R, signature: &mut CheckedSignature<impl Read>) -> io::Result<Self> {
        let form = signature.form();
        let blocks = Blocks::new(signature.read_sums()?, form.block, form.strong);
        Ok(Self {
            new,
            ended: false,
            buffer: Vec::with_capacity((2 * blocks.ahead()).max(BUFFER) + LITERAL),
            position: 0,
            literal: 0,
            patience: PATIENCE.max(16 * form.block as u64),
            blocks,
            rolled: None,
            copy: (0, 0),
            since: 0,
            out: MAGIC.to_vec(),
            out_position: 0,
            finished: false,
        })
    }

    /// Goes on by some blocks, or by some bytes that are in no block.
    fn step(&mut self) -> io::Result<()> {
        if !self.ended && self.buffer.len() - self.position <= self.blocks.ahead() {
            self.refill()?;
        }
        let ahead = &self.buffer[self.position..];
        if self.blocks.count == 0 {
            self.skip(ahead.len().min(LITERAL));
            self.finished = self.ended && self.position == self.buffer.len();
        } else if ahead.len() < self.blocks.length {
            self.end();
        } else {
            self.search();
        }
        if self.finished {
            self.put_literals(1);
            self.put_copy();
            self.out.push(0);
        }
        Ok(())
    }

    /// Looks for blocks here, and goes on; there is a block of new content at least.
    fn search(&mut self) {
        let (ahead, length) = (&self.buffer[self.position..], self.blocks.length);
        let mut weak = self.rolled.take().unwrap_or_else(|| weak_sum((0, 0), &ahead[..length]).1);
        let behind = (self.since % length as u64) as usize;
        if behind == 0 {
            let expected = (self.copy.1 + self.since) / length as u64;
            let count = self.blocks.count_from(expected, weak, ahead);
            if count > 0 {
                return self.add_copy(expected, count * length);
            }
        }
        if self.blocks.may_have(weak)
            && let Some(found) = self.blocks.find(weak, &ahead[..length], &mut self.patience)
        {
            return self.add_copy(found, length);
        }
        // At the end of what is held, this is the end of all: before that there is always more.
        let steps = (ahead.len() - length).min(length - behind).min(LITERAL);
        if steps == 0 {
            return self.end();
        }
        let rolled = self.blocks.roll(&mut weak, ahead, steps);
        self.rolled = Some(weak);
        self.skip(rolled);
    }

    /// Looks for the last block where less than a whole one is left, and finishes.
    fn end(&mut self) {
        let ahead = &self.buffer[self.position..];
        let last = self.blocks.count as u64 - 1;
        let ((mut s1, mut s2), _) = weak_sum((0, 0), ahead);
        let found = (0..ahead.len()).find(|&start| {
            let left = &ahead[start..];
            let fits = self.blocks.weak(last as usize) == (s2 << 16 | s1 & 0xffff)
                && pay(&mut self.patience, left.len())
                && self.blocks.strong(last as usize) == &Md4::digest(left)[..self.blocks.strong];
            let leaving = u32::from(left[0]) + CHAR_OFFSET;
            (s1, s2) = (
                s1.wrapping_sub(leaving),
                s2.wrapping_sub(leaving.wrapping_mul(left.len() as u32)),
            );
            fits
        });
        let literal = found.unwrap_or(ahead.len());
        let copied = ahead.len() - literal;
        self.skip(literal);
        if copied > 0 {
            self.add_copy(last, copied);
        }
        self.finished = true;
    }

    /// Takes bytes that are in no block.
    fn skip(&mut self, count: usize) {
        self.position += count;
        self.since += count as u64;
        self.patience = self.patience.saturating_add(count as u64 * self.blocks.patience);
        self.put_literals(LITERAL);
    }

    /// Takes bytes that are in the basis, from the start of a block on.
    fn add_copy(&mut self, block: u64, length: usize) {
        self.put_literals(1);
        let start = block * self.blocks.length as u64;
        if self.copy.1 != start || self.since > 0 {
            self.put_copy();
            self.copy = (start, start);
        }
        self.copy.1 += length as u64;
        self.since = 0;
        self.position += length;
        self.literal = self.position;
    }

    /// Puts out literals while there are so many bytes for them.
    fn put_literals(&mut self, least: usize) {
        while self.position - self.literal >= least {
            self.put_copy();
            let bytes = &self.buffer[self.literal..self.position];
            let bytes = &bytes[..bytes.len().min(LITERAL)];
            match bytes.len() {
                length @ 0..=0x40 => self.out.push(length as u8),
                length @ 0x41..=0xff => self.out.extend([0x41, length as u8]),
                length => self.out.extend([0x42, (length >> 8) as u8, length as u8]),
            }
            self.out.extend_from_slice(bytes);
            self.literal += bytes.len();
        }
    }

    /// Puts out the copy, if there is one.
    fn put_copy(&mut self) {
        let (start, end) = self.copy;
        if start < end {
            let (a, b) = (width(start), width(end - start));
            self.out.push(0x45 + 4 * a + b);
            self.out.extend_from_slice(&start.to_be_bytes()[8 - (1 << a)..]);
            self.out.extend_from_slice(&(end - start).to_be_bytes()[8 - (1 << b)..]);
            self.copy.0 = end;
        }
    }

    /// Fills the buffer: however the new content comes, the scan sees it in the same parts.
    fn refill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.literal);
        self.position -= self.literal;
        self.literal = 0;
        while self.buffer.len() < self.buffer.capacity() {
            let bytes = self.new.fill_buf()?;
            let count = bytes.len().min(self.buffer.capacity() - self.buffer.len());
            if count == 0 {
                self.ended = true;
                break;
            }
            self.buffer.extend_from_slice(&bytes[..count]);
            self.new.consume(count);
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Scan<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.out_position == self.out.len() {
            self.out.clear();
            self.out_position = 0;
            while !self.finished && self.out.len() < LITERAL {
                self.step()?;
            }
        }
        let count = (&self.out[self.out_position..]).read(buffer)?;
        self.out_position += count;
        Ok(count)
    }
}

/// Bytes that may be summed up for nothing at the start.
const PATIENCE: u64 = 1 << 24;

/// Takes bytes off what may be summed up; tells whether there was so much left.
fn pay(patience: &mut u64, bytes: usize) -> bool {
    let left = patience.checked_sub(bytes as u64);
    *patience = left.unwrap_or(*patience);
    left.is_some()
}

/// Returns a in 2^a, the fewest bytes that a number takes.
fn width(number: u64) -> u8 {
    match number {
        0..=0xff => 0,
        0x100..=0xffff => 1,
        0x1_0000..=0xffff_ffff => 2,
        _ => 3,
    }
}

/// The signature, and ways into it.
struct Blocks {
    /// Weak and strong sum of each block, as they are stored.
    sums: Vec<u8>,
    count: usize,
    /// Bytes of a block, and of a strong sum.
    length: usize,
    strong: usize,
    /// Bytes, at least 6 a block: each weak sum clears two bits in one of them.
    filter: Vec<u8>,
    filter_shift: u32,
    /// Numbers of blocks by the hash of their weak sum, from 1, or 0; at most three of four places
    /// are taken.
    index: Vec<u32>,
    index_shift: u32,
    /// The sums of a block of zeros, once one was met.
    zeros: OnceCell<Vec<u8>>,
    /// Bytes that may be summed up for nothing for each byte of a literal.
    patience: u64,
}

/// Places of the index that are looked at.
const PROBES: usize = 32;
/// Blocks of one weak sum that are in the index.
const MOST_OF_A_SUM: usize = 4;
/// Pairs of bits that a sum may have in its byte of the filter.
const PAIRS: [u8; 16] = [
    0x03, 0x05, 0x09, 0x11, 0x21, 0x41, 0x81, 0x06, 0x0a, 0x12, 0x22, 0x42, 0x82, 0x0c, 0x30, 0xc0,
];

impl Blocks {
    fn new(sums: Vec<u8>, length: usize, strong: usize) -> Self {
        let count = (sums.len() / (4 + strong)).min(1 << 30);
        // 8 KiB at least; at most what leaves four bits of a hash to choose a pair of bits.
        let filter_bits = (6 * count).next_power_of_two().ilog2().clamp(13, 28);
        let index_bits = (count + count / 3 + 2).next_power_of_two().ilog2();
        let mut blocks = Self {
            sums,
            count,
            length,
            strong,
            filter: vec![0xff; 1 << filter_bits],
            filter_shift: 32 - filter_bits,
            index: vec![0; 1 << index_bits],
            index_shift: 32 - index_bits,
            zeros: OnceCell::new(),
            // That many are wasted on blocks of equal weak sum, as there are 2^32, and then again
            // the same.
            patience: 64 + ((count as u64 * length as u64) >> 31),
        };
        (0..count).for_each(|number| blocks.insert(number));
        blocks
    }

    fn insert(&mut self, number: usize) {
        let (weak, mut others) = (self.weak(number), 0);
        for place in self.places(weak) {
            let Some(other) = (self.index[place] as usize).checked_sub(1) else {
                self.index[place] = number as u32 + 1;
                let (byte, bits) = self.bits(weak);
                self.filter[byte] &= !bits;
                return;
            };
            others += usize::from(self.weak(other) == weak);
            if others == MOST_OF_A_SUM || self.sums(other) == self.sums(number) {
                return;
            }
        }
    }

    fn places(&self, weak: u32) -> impl Iterator<Item = usize> + use<> {
        let (first, mask) = ((hash(weak) >> self.index_shift) as usize, self.index.len() - 1);
        (0..PROBES.min(self.index.len())).map(move |probe| (first + probe) & mask)
    }

    fn sums(&self, number: usize) -> &[u8] {
        &self.sums[number * (4 + self.strong)..][..4 + self.strong]
    }

    fn weak(&self, number: usize) -> u32 {
        let sums = self.sums(number);
        u32::from_be_bytes([sums[0], sums[1], sums[2], sums[3]])
    }

    fn strong(&self, number: usize) -> &[u8] {
        &self.sums(number)[4..]
    }

    /// Bytes of new content that are looked at together.
    fn ahead(&self) -> usize {
        if self.length <= LONGEST_IN_LANES { LANES * self.length } else { self.length }
    }

    /// Returns how many blocks, of those from a number on, the content begins with: eight at most.
    /// `sum` is the weak sum of the first block.
    fn count_from(&self, number: u64, sum: u32, content: &[u8]) -> usize {
        let known = (self.count as u64).saturating_sub(number).min(LANES as u64) as usize;
        if known == 0 || self.weak(number as usize) != sum {
            return 0;
        }
        let number = number as usize;
        let strong = |block: usize| self.strong(number + block);
        if known == LANES
            && self.length <= LONGEST_IN_LANES
            && let Some(content) = content.get(..LANES * self.length)
        {
            // As in a hole of the file, where all else would only compute the same again and again.
            if are_zeros(content) {
                let digest = || Md4::digest(&content[..self.length]);
                let zeros = self
                    .zeros
                    .get_or_init(|| [&sum.to_be_bytes(), &digest()[..self.strong]].concat());
                return (0..LANES)
                    .find(|&block| self.sums(number + block) != zeros)
                    .unwrap_or(LANES);
            }
            let weak =
                |block: usize| weak_sum((0, 0), &content[block * self.length..][..self.length]).1;
            let weak_count =
                (1..LANES).find(|&block| self.weak(number + block) != weak(block)).unwrap_or(LANES);
            if weak_count > 1
                && let Some(words) = eight(content)
            {
                let fits = |block: usize| {
                    let sum: [_; 4] = std::array::from_fn(|word| words[word][block].to_le_bytes());
                    strong(block) == &sum.as_flattened()[..self.strong]
                };
                return (0..weak_count).find(|&block| !fits(block)).unwrap_or(weak_count);
            }
        }
        usize::from(strong(0) == &Md4::digest(&content[..self.length])[..self.strong])
    }

    #[inline(always)]
    fn may_have(&self, weak: u32) -> bool {
        let (place, bits) = self.bits(weak);
        self.filter[place] & bits == 0
    }

    /// Returns the byte of the filter that a weak sum belongs to, and its bits there.
    #[inline(always)]
    fn bits(&self, weak: u32) -> (usize, u8) {
        let hash = hash(weak);
        (
            (hash >> self.filter_shift) as usize,
            PAIRS[(hash >> (self.filter_shift - 4)) as usize % PAIRS.len()],
        )
    }

    /// Returns a block that is equal to the content, which has that weak sum.
    fn find(&self, weak: u32, content: &[u8], patience: &mut u64) -> Option<u64> {
        let mut sum = None;
        for place in self.places(weak) {
            let number = (self.index[place] as usize).checked_sub(1)?;
            if self.weak(number) != weak {
                continue;
            }
            if sum.is_none() && !pay(patience, self.length) {
                return None;
            }
            if self.strong(number)
                == &sum.get_or_insert_with(|| Md4::digest(content))[..self.strong]
            {
                *patience += self.length as u64;
                return Some(number as u64);
            }
        }
        None
    }

    /// Rolls the weak sum of a block at the start of the content on by some bytes, or less, if the
    /// filter knows of a block there. Returns how many: at least 1.
    fn roll(&self, weak: &mut u32, content: &[u8], steps: usize) -> usize {
        let (leaving, entering) = (&content[..steps], &content[self.length..][..steps]);
        #[cfg(target_arch = "x86_64")]
        let (rolled, is_known) = if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            unsafe { self.roll_groups(weak, leaving, entering) }
        } else {
            (0, false)
        };
        #[cfg(not(target_arch = "x86_64"))]
        let (rolled, is_known) = (0, false);
        if is_known {
            return rolled;
        }
        let (mut s1, mut s2) = (*weak, *weak >> 16);
        for (place, (&leaves, &enters)) in leaving.iter().zip(entering).enumerate().skip(rolled) {
            let (leaves, enters) = (u32::from(leaves), u32::from(enters));
            s1 = s1.wrapping_add(enters.wrapping_sub(leaves));
            s2 = s2.wrapping_add(
                s1.wrapping_sub((self.length as u32).wrapping_mul(leaves + CHAR_OFFSET)),
            );
            *weak = s2 << 16 | s1 & 0xffff;
            if self.may_have(*weak) {
                return place + 1;
            }
        }
        steps
    }

    /// Rolls by groups of 16 bytes as long as there are some. Returns the bytes, and whether the
    /// filter knows of a block there.
    ///
    /// Both sums are of 16 bits, and those of 16 places in one register: what they change by, added
    /// up over the places before.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn roll_groups(&self, weak: &mut u32, leaving: &[u8], entering: &[u8]) -> (usize, bool) {
        /// Adds to each place all those before it.
        #[target_feature(enable = "avx2")]
        fn add_up(mut places: __m256i) -> __m256i {
            places = _mm256_add_epi16(places, _mm256_slli_si256::<2>(places));
            places = _mm256_add_epi16(places, _mm256_slli_si256::<4>(places));
            places = _mm256_add_epi16(places, _mm256_slli_si256::<8>(places));
            // Until here each half for itself.
            let lower = _mm256_permute2x128_si256::<0x08>(places, places);
            _mm256_add_epi16(places, _mm256_shuffle_epi8(lower, _mm256_set1_epi16(0x0f0e)))
        }
        #[target_feature(enable = "avx2")]
        fn everywhere_last(places: __m256i) -> __m256i {
            _mm256_shuffle_epi8(_mm256_permute4x64_epi64::<0xff>(places), _mm256_set1_epi16(0x0706))
        }
        let (leaving, entering) = (leaving.as_chunks::<16>().0, entering.as_chunks::<16>().0);
        let (length, offset) =
            (_mm256_set1_epi16(self.length as i16), _mm256_set1_epi16(CHAR_OFFSET as i16));
        let counts = _mm256_setr_epi16(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
        // The sums before a group. They are added last, for one group not to wait for another.
        let (mut s1, mut s2) =
            (_mm256_set1_epi16(*weak as i16), _mm256_set1_epi16((*weak >> 16) as i16));
        let [filter_shift, pair_shift] =
            [0, 4].map(|less| _mm_cvtsi32_si128(self.filter_shift as i32 - less));
        // SAFETY: 16 bytes are read, at any address.
        let pairs = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(PAIRS.as_ptr().cast()) });
        let (mut sums, mut places, mut bits) = ([0u32; 16], [0u32; 16], [0u32; 16]);
        for (group, (leaves, enters)) in leaving.iter().zip(entering).enumerate() {
            // SAFETY: 16 bytes are read, at any address.
            let [leaves, enters] = [leaves, enters].map(|bytes| {
                _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
            });
            let change1 = add_up(_mm256_sub_epi16(enters, leaves));
            let change2 = add_up(_mm256_sub_epi16(
                change1,
                _mm256_mullo_epi16(length, _mm256_add_epi16(leaves, offset)),
            ));
            let (here1, here2) = (
                _mm256_add_epi16(s1, change1),
                _mm256_add_epi16(_mm256_add_epi16(s2, _mm256_mullo_epi16(s1, counts)), change2),
            );
            s2 = _mm256_add_epi16(
                _mm256_add_epi16(s2, _mm256_slli_epi16::<4>(s1)),
                everywhere_last(change2),
            );
            s1 = _mm256_add_epi16(s1, everywhere_last(change1));
            let (one, other) =
                (_mm256_unpacklo_epi16(here1, here2), _mm256_unpackhi_epi16(here1, here2));
            let halves = [
                _mm256_permute2x128_si256::<0x20>(one, other),
                _mm256_permute2x128_si256::<0x31>(one, other),
            ];
            for (half, sums_here) in halves.into_iter().enumerate() {
                // As in `bits`.
                let hash = _mm256_mullo_epi32(sums_here, _mm256_set1_epi32(SPREAD as i32));
                let pair =
                    _mm256_and_si256(_mm256_srl_epi32(hash, pair_shift), _mm256_set1_epi32(0x0f));
                // SAFETY: 32 bytes are written, of 64 from the first half on, at any address.
                unsafe {
                    _mm256_storeu_si256(sums[8 * half..].as_mut_ptr().cast(), sums_here);
                    _mm256_storeu_si256(
                        places[8 * half..].as_mut_ptr().cast(),
                        _mm256_srl_epi32(hash, filter_shift),
                    );
                    _mm256_storeu_si256(
                        bits[8 * half..].as_mut_ptr().cast(),
                        _mm256_shuffle_epi8(pairs, pair),
                    );
                }
            }
            let is_known =
                |(&place, &bits): (&u32, &u32)| self.filter[place as usize] & bits as u8 == 0;
            if let Some(place) = places.iter().zip(&bits).position(is_known) {
                *weak = sums[place];
                return (16 * group + place + 1, true);
            }
        }
        if !leaving.is_empty() {
            *weak = sums[15];
        }
        (16 * leaving.len(), false)
    }
}

/// What weak sums are multiplied with, for them to be spread over 32 bits: they crowd.
const SPREAD: u32 = 0x9e37_79b1;

#[inline(always)]
fn hash(weak: u32) -> u32 {
    weak.wrapping_mul(SPREAD)
}

#[cfg(test)]
mod tests {
    use super::super::{Command, DeltaParser, Error, SignatureWriter, delta};
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;
    use std::time::{Duration, Instant};

    fn signature(basis: &[u8], block: u32, strong: usize) -> Vec<u8> {
        let mut writer = SignatureWriter::new(Vec::new(), block).unwrap();
        writer.update(basis).unwrap();
        let (ours, _) = writer.finish().unwrap();
        if strong == 8 {
            return ours;
        }
        let mut theirs = Vec::new();
        let kind = librsync::SignatureType::MD4;
        librsync::Signature::with_options(basis, block as usize, strong, kind)
            .unwrap()
            .read_to_end(&mut theirs)
            .unwrap();
        theirs
    }

    fn ours(new: impl BufRead + Send, signature: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        let mut signature = CheckedSignature::new(signature, signature.len() as u64).unwrap();
        assert!(signature.form().is_ours());
        delta(new, &mut signature).unwrap().read_to_end(&mut found).unwrap();
        found
    }

    fn librsync(new: &[u8], signature: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        librsync::Delta::new(new, &mut &signature[..]).unwrap().read_to_end(&mut found).unwrap();
        found
    }

    /// Applies a delta, and checks that its commands are as long as they can be and as short as
    /// they can be written.
    fn patch(basis: &[u8], delta: &[u8]) -> Vec<u8> {
        let (mut new, mut end) = (Vec::new(), None);
        let mut parser = DeltaParser::new();
        let mut shortest = MAGIC.len() as u64 + 1;
        let told = parser.feed(delta, |command| {
            match command {
                Command::Literal { bytes, .. } => {
                    new.extend_from_slice(bytes);
                    end = None;
                    shortest += bytes.len() as u64
                        + [1, 2, 3]
                            [usize::from(bytes.len() > 0x40) + usize::from(bytes.len() > 0xff)];
                }
                Command::Copy { offset, length } => {
                    assert_ne!(end, Some(offset), "copies are joined");
                    new.extend_from_slice(&basis[offset as usize..][..length as usize]);
                    end = Some(offset + length);
                    shortest += 1 + (1 << width(offset)) + (1 << width(length));
                }
            }
            Ok::<(), Error>(())
        });
        told.unwrap();
        assert_eq!(parser.position(), delta.len() as u64);
        assert_eq!(parser.finish().unwrap(), new.len() as u64);
        assert_eq!(shortest, delta.len() as u64);
        new
    }

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
        let word = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
        };
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(word).collect();
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn examples_of_the_format() {
        let basis: Vec<u8> = (0..3000).map(|n| (n % 251) as u8).collect();
        let literal = [7; 512];
        let overwritten = [&basis[..512], &literal, &basis[1024..]].concat();
        let long =
            [&b"\x46\x00\x02\x00\x42\x02\x00"[..], &literal, b"\x4a\x04\x00\x07\xb8\x00"].concat();
        for (basis, new, commands) in [
            (&basis[..], &basis[..], &b"\x46\x00\x0b\xb8\x00"[..]),
            (&basis, b"", b"\x00"),
            (b"", b"now has content", b"\x0fnow has content\x00"),
            (&basis, &overwritten, &long),
        ] {
            let signature = signature(basis, 512, 8);
            assert_eq!(ours(new, &signature), [&MAGIC, commands].concat());
            assert_eq!(librsync(new, &signature), [&MAGIC, commands].concat());
        }
    }

    #[test]
    fn rolling_on_is_summing_up_anew() {
        for length in [16, 512, 513, 9000, 70_000] {
            let content = noise(length + 100, 1);
            let sum = |start: usize| weak_sum((0, 0), &content[start..][..length]).1;
            let nothing = Blocks::new(Vec::new(), length, 8);
            for steps in 1..=100 {
                let mut weak = sum(0);
                assert_eq!((nothing.roll(&mut weak, &content, steps), weak), (steps, sum(steps)));
                let one = Blocks::new([&sum(steps).to_be_bytes()[..], &[0; 8]].concat(), length, 8);
                let mut weak = sum(0);
                assert_eq!(
                    (one.roll(&mut weak, &content, 100), weak),
                    (steps, sum(steps)),
                    "there it stops"
                );
            }
        }
    }

    #[test]
    fn literals_are_cut_at_the_longest_of_two_bytes() {
        let new = noise(200_000, 1);
        for basis in [&b""[..], b"something else"] {
            let delta = ours(&new[..], &signature(basis, 512, 8));
            assert_eq!(delta.len(), 4 + 4 * 3 + new.len() + 1);
            assert_eq!(patch(basis, &delta), new);
        }
    }

    #[test]
    fn errors_of_the_new_content_are_passed_on_and_can_be_got_over() {
        struct Failing<'a>(&'a [u8], usize);
        impl Read for Failing<'_> {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                unreachable!("it is a BufRead")
            }
        }
        impl BufRead for Failing<'_> {
            fn fill_buf(&mut self) -> io::Result<&[u8]> {
                self.1 += 1;
                if self.1 % 2 == 1 {
                    Err(io::Error::from_raw_os_error(5))
                } else {
                    Ok(&self.0[..self.0.len().min(99_999)])
                }
            }
            fn consume(&mut self, count: usize) {
                self.0 = &self.0[count..];
            }
        }
        let (basis, new) = (noise(3_000_000, 1), noise(3_000_000, 2));
        let new = [&basis[..2_000_000], &new].concat();
        let signature = signature(&basis, 1024, 8);
        let mut checked = CheckedSignature::new(&signature[..], signature.len() as u64).unwrap();
        let mut delta = delta(Failing(&new, 0), &mut checked).unwrap();
        let (mut found, mut piece, mut errors) = (Vec::new(), [0; 5000], 0);
        loop {
            match delta.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => found.extend_from_slice(&piece[..count]),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(5));
                    errors += 1;
                }
            }
        }
        assert!(errors > 50);
        assert_eq!(found, ours(&new[..], &signature));
    }

    #[test]
    fn a_signature_that_ends_too_early_is_an_error() {
        let signature = signature(&noise(3000, 1), 512, 8);
        let mut checked =
            CheckedSignature::new(&signature[..signature.len() - 12], signature.len() as u64)
                .unwrap();
        assert_eq!(
            delta(&b"new"[..], &mut checked).err().map(|error| error.kind()),
            Some(io::ErrorKind::UnexpectedEof)
        );
    }

    #[test]
    fn other_kinds_are_left_to_librsync() {
        let (basis, mut theirs) = (noise(9000, 1), Vec::new());
        let kind = librsync::SignatureType::Blake2;
        librsync::Signature::with_options(&basis[..], 512, 32, kind)
            .unwrap()
            .read_to_end(&mut theirs)
            .unwrap();
        let mut checked = CheckedSignature::new(&theirs[..], theirs.len() as u64).unwrap();
        let mut found = Vec::new();
        delta(&basis[..], &mut checked).unwrap().read_to_end(&mut found).unwrap();
        assert_eq!(found, [&MAGIC[..], b"\x46\x00\x23\x28\x00"].concat());
        let head = [0x7273_0136u32, (LONGEST_BLOCK + 1) as u32, 8].map(u32::to_be_bytes).concat();
        let mut found = Vec::new();
        let mut checked = CheckedSignature::new(&head[..], head.len() as u64).unwrap();
        delta(&b"new"[..], &mut checked).unwrap().read_to_end(&mut found).unwrap();
        assert_eq!(found, [&MAGIC[..], b"\x03new\x00"].concat());
    }

    /// What is expected takes precedence over other blocks that are equal, so that it is one copy.
    #[test]
    fn zeros_are_one_copy() {
        for block in [512, 700] {
            let zeros = vec![0; 1 << 20];
            let delta = ours(&zeros[..], &signature(&zeros, block, 8));
            assert_eq!(delta, [&MAGIC[..], b"\x47\x00\x00\x10\x00\x00\x00"].concat());
            let middle =
                [&zeros[..600_000], &noise(35 * block as usize, 3), &zeros[600_000..]].concat();
            let delta = ours(&middle[..], &signature(&zeros, block, 8));
            assert!(delta.len() < 37 * block as usize, "{}", delta.len());
        }
    }

    #[test]
    fn the_worst_cases_end_quickly() {
        let zeros = vec![0; 8 << 20];
        let mut noisy = zeros.clone();
        noisy.iter_mut().step_by(509).for_each(|byte| *byte = 1);
        let mut hostile = signature(&zeros[..1 << 20], 1 << 19, 8);
        hostile[16..].fill(7);
        // Blocks of sums that all crowd in the same places of the index.
        let crowd: Vec<u8> = (0..1u32 << 17)
            .flat_map(|number| {
                [number.wrapping_mul(0x9e37_79b1u32.wrapping_pow(0x3fff_ffff)), number]
                    .map(u32::to_be_bytes)
            })
            .flatten()
            .collect();
        let crowd = [[0x7273_0136u32, 512, 4].map(u32::to_be_bytes).concat(), crowd].concat();
        for (new, signature, case) in [
            (
                [&zeros[..], &noise(8 << 20, 1)].concat(),
                signature(&zeros, 512, 8),
                "noise behind zeros",
            ),
            (noisy.clone(), signature(&zeros, 512, 8), "nearly zeros"),
            (zeros.clone(), signature(&noisy, 512, 8), "zeros"),
            (zeros.clone(), hostile, "weak sums of zeros, but not their strong ones"),
            (noise(8 << 20, 1), crowd, "a crowd"),
        ] {
            let start = Instant::now();
            let delta = ours(&new[..], &signature);
            // Some 1 s in the slowest build.
            assert!(start.elapsed() < Duration::from_secs(20), "{case}: {:?}", start.elapsed());
            assert!(delta.len() < new.len() + new.len() / 100 + 10);
        }
    }

    #[derive(Debug, Clone)]
    enum Edit {
        Insert(usize),
        Delete(usize),
        Overwrite(usize),
        Zero(usize),
        Duplicate(usize),
        Move(usize),
        Truncate,
    }

    fn edits() -> impl Strategy<Value = Vec<(u16, Edit)>> {
        let length = || prop_oneof![0usize..20, 0usize..3000, Just(512usize), Just(8192)];
        let edit = prop_oneof![
            length().prop_map(Edit::Insert),
            length().prop_map(Edit::Delete),
            length().prop_map(Edit::Overwrite),
            length().prop_map(Edit::Zero),
            length().prop_map(Edit::Duplicate),
            length().prop_map(Edit::Move),
            (0..1).prop_map(|_| Edit::Truncate),
        ];
        prop::collection::vec((any::<u16>(), edit), 0..10)
    }

    /// Makes an edit at a part of 65536 of the content.
    fn make(content: &mut Vec<u8>, at: u16, edit: &Edit) {
        let start = content.len() * usize::from(at) / 65536;
        let whole = content.len();
        let part = |length: &usize| start..whole.min(start + length);
        match edit {
            Edit::Insert(length) => drop(content.splice(start..start, noise(*length, at.into()))),
            Edit::Delete(length) => drop(content.drain(part(length))),
            Edit::Overwrite(length) => {
                drop(content.splice(part(length), noise(part(length).len(), at.into())))
            }
            Edit::Zero(length) => content[part(length)].fill(0),
            Edit::Duplicate(length) => {
                let copied = content[part(length)].to_vec();
                content.splice(start..start, copied);
            }
            Edit::Move(length) => {
                let moved: Vec<u8> = content.drain(part(length)).collect();
                let to = start * 7 % (content.len() + 1);
                content.splice(to..to, moved);
            }
            Edit::Truncate => content.truncate(start),
        }
    }

    fn basis() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![
            0usize..5000,
            0usize..120_000,
            (0usize..40).prop_map(|blocks| blocks * 512)
        ];
        (length, 0u8..4).prop_map(|(length, kind)| match kind {
            0 => vec![0; length],
            1 => noise(1500, 5).into_iter().cycle().take(length).collect(),
            _ => noise(length, 7),
        })
    }

    fn block() -> impl Strategy<Value = u32> {
        prop_oneof![16u32..9000, prop::sample::select(vec![16u32, 64, 512, 513, 1024, 2048, 8999])]
    }

    struct Cut<'a>(&'a [u8], usize);

    impl Read for Cut<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.fill_buf()?.read(buffer)?;
            self.consume(count);
            Ok(count)
        }
    }

    impl BufRead for Cut<'_> {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            Ok(&self.0[..self.0.len().min(self.1)])
        }

        fn consume(&mut self, count: usize) {
            self.0 = &self.0[count..];
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn as_good_as_librsync(basis in basis(), edits in edits(), block in block(), strong in 6usize..=16, cut in 1usize..70_000) {
            let mut new = basis.clone();
            edits.iter().for_each(|(at, edit)| make(&mut new, *at, edit));
            let signature = signature(&basis, block, strong);
            let found = ours(&new[..], &signature);
            prop_assert!(patch(&basis, &found) == new, "our parser");
            let mut patched = Vec::new();
            librsync::Patch::new(Cursor::new(&basis), &found[..]).unwrap().read_to_end(&mut patched).unwrap();
            prop_assert!(patched == new, "librsync's parser");
            let theirs = librsync(&new, &signature);
            prop_assert!(found.len() as f64 <= 1.1 * theirs.len() as f64 + 100.0, "{} instead of {}", found.len(), theirs.len());
            prop_assert!(ours(Cut(&new, cut), &signature) == found, "cuts make no difference");
        }

        #[test]
        fn any_sums_give_a_delta(
            block in prop_oneof![1u32..40, 1u32..100_000],
            strong in 1usize..=16,
            mut sums in prop::collection::vec(any::<u8>(), 0..400),
            known in any::<bool>(),
        ) {
            let new = [noise(20_000, 9), vec![0; 20_000]].concat();
            sums.truncate(sums.len() / (4 + strong) * (4 + strong));
            if known {
                // Weak sums that do occur.
                for (sums, content) in sums.chunks_mut(4 + strong).zip(new.chunks(block as usize)) {
                    sums[..4].copy_from_slice(&weak_sum((0, 0), content).1.to_be_bytes());
                }
            }
            let signature = [[0x7273_0136, block, strong as u32].map(u32::to_be_bytes).concat(), sums].concat();
            let delta = ours(&new[..], &signature);
            let mut parser = DeltaParser::new();
            parser.feed(&delta, |_| Ok::<(), Error>(())).unwrap();
            prop_assert_eq!(parser.finish().unwrap(), new.len() as u64);
        }
    }
}
