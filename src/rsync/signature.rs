//! Signatures: a weak and a strong sum of each block of a file, from which a later session tells
//! which blocks are still there.
//!
//! `72730136`, the block length and the length of a strong sum as 32-bit numbers, then for each
//! block its weak sum and the first bytes of its MD4. All numbers are unsigned and big-endian. The
//! last block may be shorter; an empty file has the 12 bytes of the head only.
//!
//! The weak sum of the bytes x1 to xn, in 16-bit arithmetic: `s1` is the sum of all x + 31, `s2`
//! the sum of the values that `s1` takes after each byte; the sum is `s2 << 16 | s1`.
//!
//! Source: librsync 2.3.2, checksum.h and rollsum.h; signatures of duplicity 0.8.22 and 3.2.1,
//! which always ask for this kind.

use super::Error;
use super::md4::{LANES, eight};
use ::md4::{Digest, Md4};
use std::io::{self, Read, Write};

/// What duplicity writes: rolling sums and MD4.
const MAGIC: u32 = 0x7273_0136;
/// The other kinds that librsync knows: BLAKE2 instead of MD4, and another rolling sum with either.
const OTHER_MAGICS: [u32; 3] = [0x7273_0137, 0x7273_0146, 0x7273_0147];
/// Bytes before the first block.
const HEAD: usize = 12;
/// Bytes of a strong sum that duplicity keeps.
const STRONG: usize = 8;
/// Bytes of a strong sum at most: those of BLAKE2b as librsync takes it.
const MOST_STRONG: u32 = 32;
/// Bytes of an MD4.
const MD4: usize = 16;
/// Bytes of sums that a head is believed to announce.
const LARGEST_ALLOCATION: u64 = 1 << 26;
/// What librsync adds to each byte.
pub const CHAR_OFFSET: u32 = 31;

/// Computes the signature of what is written to it, and writes that on. Holds no block: they may be
/// large.
pub struct SignatureWriter<W> {
    sink: W,
    block_length: usize,
    block: Block,
    length: u64,
    /// The sums of a block of zeros, once there was one: files with holes are full of them.
    zeros: Option<[u8; 4 + STRONG]>,
}

impl<W: Write> SignatureWriter<W> {
    /// Writes the head. `block_length` is in bytes, at least 1.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn new(mut sink: W, block_length: u32) -> io::Result<Self> {
        sink.write_all(&[MAGIC, block_length, STRONG as u32].map(u32::to_be_bytes).concat())?;
        Ok(Self {
            sink,
            block_length: block_length.max(1) as usize,
            block: Block::default(),
            length: HEAD as u64,
            zeros: None,
        })
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn update(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.block.length == 0
                && let Some((block, rest)) = bytes.split_at_checked(self.block_length)
                && are_zeros(block)
            {
                self.add_zeros(block)?;
                bytes = rest;
                continue;
            }
            if self.block.length == 0
                && let Some((blocks, rest)) = bytes.split_at_checked(LANES * self.block_length)
                && let Some(strong) = eight(blocks)
            {
                self.add_eight(blocks, strong)?;
                bytes = rest;
                continue;
            }
            let (now, rest) =
                bytes.split_at(bytes.len().min(self.block_length - self.block.length));
            self.block.update(now);
            bytes = rest;
            if self.block.length == self.block_length {
                self.end_block()?;
            }
        }
        Ok(())
    }

    fn add_zeros(&mut self, block: &[u8]) -> io::Result<()> {
        let sums = *self.zeros.get_or_insert_with(|| {
            let mut zeros = Block::default();
            zeros.update(block);
            zeros.sums()
        });
        self.length += sums.len() as u64;
        self.sink.write_all(&sums)
    }

    fn add_eight(&mut self, blocks: &[u8], strong: [[u32; LANES]; 4]) -> io::Result<()> {
        let mut sums = [[0; 4 + STRONG]; LANES];
        for (lane, (sums, block)) in
            sums.iter_mut().zip(blocks.chunks(self.block_length)).enumerate()
        {
            sums[..4].copy_from_slice(&weak_sum((0, 0), block).1.to_be_bytes());
            sums[4..8].copy_from_slice(&strong[0][lane].to_le_bytes());
            sums[8..].copy_from_slice(&strong[1][lane].to_le_bytes());
        }
        self.length += sums.as_flattened().len() as u64;
        self.sink.write_all(sums.as_flattened())
    }

    /// Ends the file; returns the sink and the length of the signature in bytes.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        if self.block.length > 0 {
            self.end_block()?;
        }
        Ok((self.sink, self.length))
    }

    fn end_block(&mut self) -> io::Result<()> {
        let sums = std::mem::take(&mut self.block).sums();
        self.length += sums.len() as u64;
        self.sink.write_all(&sums)
    }
}

/// Reports whether bytes, of which there is one at least, are all zeros: the first one is, and each
/// equals the one before.
pub fn are_zeros(bytes: &[u8]) -> bool {
    bytes[0] == 0 && bytes[1..] == bytes[..bytes.len() - 1]
}

/// Bytes whose weak sums are added up at once, and how often each of them counts in the second one.
const LANE: usize = 32;
const WEIGHTS: [i16; LANE] = {
    let mut weights = [0; LANE];
    let mut at = 0;
    while at < LANE {
        weights[at] = (LANE - at) as i16;
        at += 1;
    }
    weights
};

/// The sums of a block so far.
#[derive(Default)]
struct Block {
    length: usize,
    weak: (u32, u32),
    strong: Md4,
}

impl Block {
    fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.strong.update(bytes);
        self.weak = weak_sum(self.weak, bytes).0;
    }

    fn sums(self) -> [u8; 4 + STRONG] {
        let mut sums = [0; 4 + STRONG];
        sums[..4].copy_from_slice(&weak_sum(self.weak, &[]).1.to_be_bytes());
        sums[4..].copy_from_slice(&self.strong.finalize()[..STRONG]);
        sums
    }
}

/// Goes on with the two sums of a block; returns them, and the weak sum that they make.
pub fn weak_sum(sums: (u32, u32), bytes: &[u8]) -> ((u32, u32), u32) {
    let (lanes, rest) = bytes.as_chunks();
    let (s1, s2) = add_weakly(add_lanes(sums, lanes), rest);
    ((s1, s2), s2 << 16 | s1 & 0xffff)
}

/// Goes on with the two sums by whole lanes.
fn add_lanes(sums: (u32, u32), lanes: &[[u8; LANE]]) -> (u32, u32) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { add_lanes_avx2(sums, lanes) };
    }
    add_weakly(sums, lanes.as_flattened())
}

/// Goes on with the two sums by whole lanes, at several times the speed of what a compiler makes of
/// [`add_weakly`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_lanes_avx2((s1, s2): (u32, u32), lanes: &[[u8; LANE]]) -> (u32, u32) {
    use std::arch::x86_64::*;
    const BYTES: [u8; LANE] = {
        let mut bytes = [0; LANE];
        let mut at = 0;
        while at < LANE {
            bytes[at] = WEIGHTS[at] as u8;
            at += 1;
        }
        bytes
    };
    // SAFETY: 32 bytes are read, at any address.
    let load = |bytes: &[u8; LANE]| unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    let (weights, ones, zero) = (load(&BYTES), _mm256_set1_epi16(1), _mm256_setzero_si256());
    // Of the bytes as such: their sum, the sum of what that was before each lane, and the weighted
    // sums of the lanes.
    let (mut sum, mut before, mut weighted) = (zero, zero, zero);
    for lane in lanes {
        let bytes = load(lane);
        before = _mm256_add_epi64(before, sum);
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(bytes, zero));
        weighted = _mm256_add_epi32(
            weighted,
            _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, weights), ones),
        );
    }
    let total = |parts| {
        let mut words = [0u32; 8];
        // SAFETY: 32 bytes are written, at any address.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), parts) };
        words.into_iter()
    };
    let add_up = |words: &mut dyn Iterator<Item = u32>| words.fold(0, u32::wrapping_add);
    let (sum, before) = (add_up(&mut total(sum).step_by(2)), add_up(&mut total(before).step_by(2)));
    let length = (LANE * lanes.len()) as u64;
    let offsets = u64::from(CHAR_OFFSET).wrapping_mul(length * (length + 1) / 2) as u32;
    let s2 = s2
        .wrapping_add(s1.wrapping_mul(length as u32))
        .wrapping_add(before.wrapping_mul(LANE as u32));
    (
        s1.wrapping_add(sum).wrapping_add((length as u32).wrapping_mul(CHAR_OFFSET)),
        s2.wrapping_add(add_up(&mut total(weighted))).wrapping_add(offsets),
    )
}

/// Goes on with the two sums of a block, on any processor.
fn add_weakly((mut s1, mut s2): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let (lanes, rest) = bytes.as_chunks::<LANE>();
    for lane in lanes {
        // Products and sums of 16 and 32 bits, as vector units have them: at most 32 * 33 / 2 *
        // 255.
        let sum: u32 = lane.iter().map(|&byte| u32::from(byte)).sum();
        let weighted: i32 = lane
            .iter()
            .zip(WEIGHTS)
            .map(|(&byte, weight)| i32::from(i16::from(byte)) * i32::from(weight))
            .sum();
        let sum_of_weights = LANE as u32 * (LANE as u32 + 1) / 2;
        s2 = s2
            .wrapping_add(s1.wrapping_mul(LANE as u32))
            .wrapping_add(weighted as u32 + CHAR_OFFSET * sum_of_weights);
        s1 = s1.wrapping_add(sum + CHAR_OFFSET * LANE as u32);
    }
    for &byte in rest {
        s1 = s1.wrapping_add(u32::from(byte) + CHAR_OFFSET);
        s2 = s2.wrapping_add(s1);
    }
    (s1, s2)
}

/// A stored signature whose form has been checked, to be read by librsync, which believes what it
/// reads, or by our own scan.
pub struct CheckedSignature<R> {
    head: io::Cursor<[u8; HEAD]>,
    form: Form,
    body: R,
}

/// What the head of a signature tells, and its length.
#[derive(Clone, Copy)]
pub struct Form {
    magic: u32,
    /// Bytes of a block: 1 to 2^30.
    pub block: usize,
    /// Bytes of a strong sum: 1 to 32.
    pub strong: usize,
    /// Bytes behind the head: a multiple of those of one block.
    length: u64,
}

impl Form {
    /// Returns whether the sums are those of [`SignatureWriter`], perhaps with another length of
    /// strong sums.
    pub fn is_ours(&self) -> bool {
        self.magic == MAGIC && self.strong <= MD4
    }

    /// Returns whether [`SignatureWriter`] makes the same signature of the same content and block
    /// length.
    pub fn is_just_ours(&self) -> bool {
        self.magic == MAGIC && self.strong == STRONG
    }
}

impl<R: Read> CheckedSignature<R> {
    /// Takes a signature of `length` bytes.
    ///
    /// # Errors
    /// [`Error`] when it is none, inside an [`io::Error`], or those of `body`.
    pub fn new(mut body: R, length: u64) -> io::Result<Self> {
        let failed = |cause| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                Error { what: "signature", offset: 0, cause },
            )
        };
        let mut head = [0; HEAD];
        body.read_exact(&mut head)?;
        let number =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (magic, block, strong) = (number(0), number(4), number(8));
        if magic != MAGIC && !OTHER_MAGICS.contains(&magic) {
            return Err(failed("no magic number of a signature"));
        }
        if block == 0 || block > 1 << 30 || strong == 0 || strong > MOST_STRONG {
            return Err(failed("its lengths make no sense"));
        }
        let length = length.saturating_sub(HEAD as u64);
        if !length.is_multiple_of(u64::from(4 + strong)) {
            return Err(failed("it does not end behind a block"));
        }
        Ok(Self {
            head: io::Cursor::new(head),
            form: Form { magic, block: block as usize, strong: strong as usize, length },
            body,
        })
    }

    /// Returns what the head tells.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Reads what is behind the head: weak and strong sum of each block.
    ///
    /// # Errors
    /// Those of the body, also when it ends too early.
    pub fn read_sums(&mut self) -> io::Result<Vec<u8>> {
        // What is not there should not be allocated either.
        let mut sums = Vec::with_capacity(self.form.length.min(LARGEST_ALLOCATION) as usize);
        if (&mut self.body).take(self.form.length).read_to_end(&mut sums)? as u64
            != self.form.length
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(sums)
    }
}

impl<R: Read> Read for CheckedSignature<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => self.body.read(buffer),
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signature(pieces: &[&[u8]], block_length: u32) -> Vec<u8> {
        let mut writer = SignatureWriter::new(Vec::new(), block_length).unwrap();
        pieces.iter().for_each(|piece| writer.update(piece).unwrap());
        let (signature, length) = writer.finish().unwrap();
        assert_eq!(signature.len() as u64, length);
        signature
    }

    fn librsync(content: &[u8], block_length: u32) -> Vec<u8> {
        let mut theirs = Vec::new();
        let kind = librsync::SignatureType::MD4;
        librsync::Signature::with_options(content, block_length as usize, 8, kind)
            .unwrap()
            .read_to_end(&mut theirs)
            .unwrap();
        theirs
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn weak_sums_by_lanes_are_the_same() {
        let bytes: Vec<u8> = (0..1u32 << 20)
            .map(|n| if n < 1 << 19 { 255 } else { (n.wrapping_mul(n) >> 7) as u8 })
            .collect();
        for length in [0, 32, 64, 1 << 10, 1 << 20] {
            let bytes = &bytes[bytes.len() - length..];
            if is_x86_feature_detected!("avx2") {
                let sums = (0xffff_fff0, 0x1234_5678);
                // SAFETY: the processor has AVX2.
                assert_eq!(
                    unsafe { add_lanes_avx2(sums, bytes.as_chunks().0) },
                    add_weakly(sums, bytes)
                );
            }
        }
    }

    #[test]
    fn as_duplicity_writes_them() {
        let hello = signature(&[b"hello world\n"], 512);
        assert_eq!(
            hello,
            b"\x72\x73\x01\x36\0\0\x02\0\0\0\0\x08\x27\xd8\x05\xda\x97\x66\x8a\xb2\xf2\x9d\x01\x15"
        );
        assert_eq!(signature(&[], 512), b"\x72\x73\x01\x36\0\0\x02\0\0\0\0\x08");
    }

    proptest! {
        #[test]
        fn equal_librsync(content in prop::collection::vec(any::<u8>(), 1..20_000), cut in 1usize..5000, block in prop::sample::select(vec![16u32, 512, 513, 1024, 9000])) {
            let pieces: Vec<_> = content.chunks(cut).collect();
            prop_assert_eq!(signature(&pieces, block), librsync(&content, block));
        }

        #[test]
        fn any_bytes_are_a_signature_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60), keep in any::<bool>()) {
            let bytes = if keep { [&MAGIC.to_be_bytes()[..], &bytes].concat() } else { bytes };
            if let Ok(mut checked) = CheckedSignature::new(&bytes[..], bytes.len() as u64) {
                let mut delta = Vec::new();
                if let Ok(mut job) = librsync::Delta::new(&b"something new"[..], &mut checked) {
                    let _ = job.read_to_end(&mut delta);
                }
            }
        }
    }
}
