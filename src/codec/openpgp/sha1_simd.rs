//! Many keys from one passphrase at once: SHA-1 in the lanes of vector registers, a hash in each.
//!
//! One SHA-1 is a chain of dependent steps, which even the CPU's own SHA-1 instructions go through
//! at 1.9 GB/s (EPYC 9004). Hashes of different salts depend on nothing of each other: 16 of them,
//! in the 16 lanes of AVX-512, take together as long as three by these instructions, or as two
//! without them. AVX2 has 8 lanes, and takes a fifth longer.
//!
//! What is hashed is salt and passphrase again and again, so the blocks of 64 bytes repeat, too,
//! after as many as salt and passphrase have bytes (or less). Their message schedules are made
//! once, and all lanes go through them: only the 80 rounds are left. Whatever does not repeat, the
//! first block (it may begin with zeros) and the last ones (padding), is left to the crate `sha1`.
//!
//! Intrinsics, because plain loops over arrays become code of an eighth of that speed (rustc 1.95).

use super::s2k::iterated_sha1;
use openpgp::crypto::{Password, SessionKey};
use sequoia_openpgp as openpgp;
use sha1::block_api::compress;
use std::arch::x86_64::*;
use zeroize::{Zeroize, Zeroizing};

/// Fewest hashes for which lanes are taken. They cost 100 ms (AVX-512) to 120 ms (AVX2) for 62 MiB,
/// however many are used; the ordinary way costs 34 ms each, the two of a file at the same time: 68
/// ms for 2 files of AES-256 (4 hashes), 102 ms for 3.
const FEWEST: usize = 5;

/// Most bytes of schedules, so that they stay in a second level cache. 21 blocks (a passphrase of
/// 13 bytes) take 105 KiB, and at most 204 blocks, so 196 bytes of passphrase, fit in any case.
/// Longer ones go the ordinary way.
const TABLE_LIMIT: usize = 1 << 20;

/// One word of each hash.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Lanes<const N: usize>([u32; N]);

impl<const N: usize> Zeroize for Lanes<N> {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// The message schedule of a block, the constants of the rounds added.
type Schedule<const N: usize> = [Lanes<N>; 80];

/// Returns how many hashes this CPU makes at once; 1 means that there is no gain.
pub fn width() -> usize {
    match () {
        () if is_x86_feature_detected!("avx512f") => 16,
        () if is_x86_feature_detected!("avx2") => 8,
        () => 1,
    }
}

/// Derives a key of `size` bytes (not 0) for each salt, by `count` bytes of salt and passphrase;
/// see [`iterated_sha1`]. Takes as long for any number of keys up to [`width`] hashes, of which a
/// key takes one for each 20 bytes.
pub fn derive_all(
    salts: &[[u8; 8]],
    passphrase: &Password,
    count: usize,
    size: usize,
) -> Vec<SessionKey> {
    passphrase.map(|passphrase| {
        let ordinary =
            || salts.iter().map(|salt| iterated_sha1(salt, passphrase, count, size)).collect();
        if salts.len() * size.div_ceil(20) < FEWEST {
            return ordinary();
        }
        by_lanes(width(), salts, passphrase, count, size).unwrap_or_else(ordinary)
    })
}

fn by_lanes(
    width: usize,
    salts: &[[u8; 8]],
    passphrase: &[u8],
    count: usize,
    size: usize,
) -> Option<Vec<SessionKey>> {
    let parts = size.div_ceil(20);
    let stream = |salt: &[u8; 8], zeros| {
        let unit: SessionKey = [salt, passphrase].concat().into();
        Stream { zeros, size: zeros + count.max(unit.len()), unit }
    };
    let streams: Vec<_> =
        salts.iter().flat_map(|salt| (0..parts).map(move |zeros| stream(salt, zeros))).collect();
    let mut states = Vec::new();
    for streams in streams.chunks(width) {
        states.extend(hash(width, streams)?);
    }
    let bytes: Zeroizing<Vec<u8>> =
        Zeroizing::new(states.iter().flatten().flat_map(|word| word.to_be_bytes()).collect());
    #[cfg(test)]
    salts.iter().for_each(super::s2k::tests::derived);
    Some(bytes.chunks(20 * parts).map(|hashes| hashes[..size].into()).collect())
}

/// Zeros, then a unit again and again: `size` bytes in all.
struct Stream {
    unit: SessionKey,
    zeros: usize,
    size: usize,
}

impl Stream {
    /// Returns 64 bytes of what SHA-1 sees: the stream, and its padding.
    fn block(&self, index: usize) -> [u8; 64] {
        let length = 64 * self.blocks() - 8;
        std::array::from_fn(|i| match 64 * index + i {
            at if at < self.zeros => 0,
            at if at < self.size => self.unit[(at - self.zeros) % self.unit.len()],
            at if at == self.size => 0x80,
            at if at < length => 0,
            at => (8 * self.size as u64).to_be_bytes()[at - length],
        })
    }

    fn blocks(&self) -> usize {
        (self.size + 9).div_ceil(64)
    }

    /// Blocks after which they repeat, the first one left aside: the length of the unit by its
    /// common divisor with 64.
    fn period(&self) -> usize {
        self.unit.len() >> self.unit.len().trailing_zeros().min(6)
    }
}

/// Hashes as many streams as there are lanes, or less, with units of one length. `None` when their
/// schedules take too much room.
fn hash(width: usize, streams: &[Stream]) -> Option<Vec<[u32; 5]>> {
    let repeating = streams.iter().map(|stream| stream.size / 64).min()?.saturating_sub(1);
    let mut states =
        vec![[0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0]; streams.len()];
    for (state, stream) in states.iter_mut().zip(streams) {
        compress(state, &[stream.block(0)]);
    }
    match width {
        // SAFETY: such a width is asked for only when the CPU has what the functions demand.
        16 => through(streams, &mut states, repeating, |s, table| unsafe {
            avx512(s, table, repeating)
        })?,
        8 => through(streams, &mut states, repeating, |s, table| unsafe {
            avx2(s, table, repeating)
        })?,
        _ => return None,
    }
    for (state, stream) in states.iter_mut().zip(streams) {
        (1 + repeating..stream.blocks()).for_each(|index| compress(state, &[stream.block(index)]));
    }
    Some(states)
}

/// Takes all states through the repeating blocks, from block 1 on.
fn through<const N: usize>(
    streams: &[Stream],
    states: &mut [[u32; 5]],
    repeating: usize,
    kernel: impl FnOnce(&mut [Lanes<N>; 5], &[Schedule<N>]),
) -> Option<()> {
    let period = streams.first()?.period().min(repeating);
    if period * size_of::<Schedule<N>>() > TABLE_LIMIT {
        return None;
    }
    let mut table = Zeroizing::new(vec![[Lanes([0; N]); 80]; period]);
    let mut lanes = [Lanes([0; N]); 5];
    for (lane, (stream, state)) in streams.iter().zip(states.iter()).enumerate() {
        for (index, words) in table.iter_mut().enumerate() {
            words
                .iter_mut()
                .zip(schedule(&stream.block(1 + index)))
                .for_each(|(words, word)| words.0[lane] = word);
        }
        lanes.iter_mut().zip(state).for_each(|(words, word)| words.0[lane] = *word);
    }
    kernel(&mut lanes, &table);
    for (lane, state) in states.iter_mut().enumerate() {
        *state = lanes.map(|words| words.0[lane]);
    }
    Some(())
}

fn schedule(block: &[u8; 64]) -> [u32; 80] {
    let mut words = [0; 80];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for i in 16..80 {
        words[i] = (words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1);
    }
    let constants = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6_u32];
    words.iter_mut().enumerate().for_each(|(i, word)| *word = word.wrapping_add(constants[i / 20]));
    words
}

/// Makes a function that takes the states through `blocks` blocks, whose schedules are `table`,
/// again and again.
macro_rules! kernel {
    ($name:ident, $feature:literal, $lanes:literal, $load:ident, $store:ident, $add:ident, $and:ident, $or:ident, $xor:ident,
     $left:ident, $right:ident) => {
        #[target_feature(enable = $feature)]
        fn $name(states: &mut [Lanes<$lanes>; 5], table: &[Schedule<$lanes>], blocks: usize) {
            // SAFETY: both functions want as many bytes as `Lanes` has, at an address divisible by
            // 64 or less.
            let load = |lanes: &Lanes<$lanes>| unsafe { $load(std::ptr::from_ref(lanes).cast()) };
            let [mut a, mut b, mut c, mut d, mut e] = states.each_ref().map(load);
            for schedule in table.iter().cycle().take(blocks) {
                let before = [a, b, c, d, e];
                macro_rules! rounds {
                    ($range:expr, $function:expr) => {
                        for word in &schedule[$range] {
                            let sum = $add(
                                $add($or($left::<5>(a), $right::<27>(a)), $add(e, load(word))),
                                $function,
                            );
                            (a, b, c, d, e) = (sum, a, $or($left::<30>(b), $right::<2>(b)), c, d);
                        }
                    };
                }
                rounds!(..20, $xor(d, $and(b, $xor(c, d))));
                rounds!(20..40, $xor($xor(b, c), d));
                rounds!(40..60, $or($and(b, c), $and(d, $or(b, c))));
                rounds!(60.., $xor($xor(b, c), d));
                [a, b, c, d, e] = [
                    $add(a, before[0]),
                    $add(b, before[1]),
                    $add(c, before[2]),
                    $add(d, before[3]),
                    $add(e, before[4]),
                ];
            }
            for (lanes, vector) in states.iter_mut().zip([a, b, c, d, e]) {
                unsafe { $store(std::ptr::from_mut(lanes).cast(), vector) };
            }
        }
    };
}

#[rustfmt::skip]
kernel!(avx512, "avx512f", 16, _mm512_load_si512, _mm512_store_si512, _mm512_add_epi32, _mm512_and_si512, _mm512_or_si512,
    _mm512_xor_si512, _mm512_slli_epi32, _mm512_srli_epi32);
#[rustfmt::skip]
kernel!(avx2, "avx2", 8, _mm256_load_si256, _mm256_store_si256, _mm256_add_epi32, _mm256_and_si256, _mm256_or_si256,
    _mm256_xor_si256, _mm256_slli_epi32, _mm256_srli_epi32);

#[cfg(test)]
mod tests {
    use super::*;
    use openpgp::crypto::S2K;
    use openpgp::types::HashAlgorithm;
    use proptest::prelude::*;

    fn widths() -> impl Iterator<Item = usize> {
        [8, 16].into_iter().filter(|lanes| *lanes <= width())
    }

    fn check(width: usize, salts: &[[u8; 8]], passphrase: &[u8], count: u32, size: usize) {
        let keys = by_lanes(width, salts, passphrase, count as usize, size).unwrap();
        assert_eq!(keys.len(), salts.len());
        for (salt, key) in salts.iter().zip(keys) {
            let s2k = S2K::Iterated { hash: HashAlgorithm::SHA1, salt: *salt, hash_bytes: count };
            let wanted = s2k.derive_key(&passphrase.into(), size).unwrap();
            assert!(
                key == wanted,
                "width {width}, {} salts, {} bytes, count {count}, size {size}",
                salts.len(),
                passphrase.len()
            );
        }
    }

    proptest! {
        #[test]
        fn equals_sequoia(
            salts in prop::collection::vec(any::<[u8; 8]>(), 1..20),
            passphrase in prop::collection::vec(any::<u8>(), 0..150),
            count in 0_u32..20_000,
            size in prop::sample::select(vec![16, 20, 24, 32, 64]),
        ) {
            widths().for_each(|width| check(width, &salts, &passphrase, count, size));
        }
    }

    /// Where the padding gets into another block, the blocks begin to repeat, and one hash has a
    /// block more than the other.
    #[test]
    fn borders() {
        for width in widths() {
            for length in [0, 5, 24, 56, 120] {
                for count in (0..200).chain(64 * 128 - 66..64 * 128 + 10) {
                    check(width, &[*b"saltsalt", *b"pepper!!"], &vec![b'x'; length], count, 32);
                }
            }
        }
    }

    #[test]
    fn long_passphrases_go_the_ordinary_way() {
        for width in widths() {
            assert!(by_lanes(width, &[[1; 8]; 8], &[b'x'; 196], 1 << 17, 32).is_some());
            assert!(by_lanes(width, &[[1; 8]; 8], &[b'x'; 1001], 1 << 17, 32).is_none());
        }
        let salts: Vec<_> = (0..8).map(|i| [i; 8]).collect();
        let keys = derive_all(&salts, &vec![b'x'; 1001].into(), 1 << 17, 32);
        let s2k = S2K::Iterated { hash: HashAlgorithm::SHA1, salt: salts[7], hash_bytes: 1 << 17 };
        assert!(keys[7] == s2k.derive_key(&vec![b'x'; 1001].into(), 32).unwrap());
    }
}
