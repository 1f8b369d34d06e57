//! Frames deflated on their own; what does not shrink is stored at once.
//!
//! Media, archives and encrypted files keep a deflater busy for nothing. So each 64 KiB of a frame
//! is looked at first: if neither the frequencies of its bytes nor, as far as a sample tells,
//! repetitions within deflate's window promise 1 %, it goes into stored blocks. What shrinks well
//! by its frequencies, as text does, is known by its first quarter.
//!
//! Long rows of zeros, as of files with holes, come from a prepared stretch: deflating them would
//! take longer than all else that is done to them.

use crate::codec::Cause;
use crate::codec::zlib::{Inflater, Met, Wrapping};
use flate2::Crc;
use libdeflater::{CompressionLvl, Compressor};
use std::ops::Range;
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// What is looked at, and decided on, as one.
const SEGMENT: usize = 64 << 10;
/// Frequencies are counted over so much at once, as blocks of deflate have tables of their own.
const SAMPLE: usize = 16 << 10;
/// A promise of less than this part of the bytes is none.
const WORTH: usize = 128;
/// A promise of more than this part of the bytes is kept, whatever the rest is.
const CLEARLY: usize = 16;
/// Most bytes of a stored block.
pub const STORED: usize = 0xffff;

/// Zeros are taken in pieces of so many bytes.
const ZEROS: usize = 32 << 10;

/// What is done with a stretch of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Deflate,
    Store,
    /// For zeros, a multiple of [`ZEROS`].
    Zeros,
}

/// A stretch of a frame.
#[derive(Debug)]
struct Run {
    bytes: Range<usize>,
    way: Way,
}

/// Splits a frame into long rows of zeros and what is between them.
fn runs(plain: &[u8]) -> Vec<Run> {
    let mut runs = Vec::new();
    let (mut done, mut at) = (0, 0);
    while at < plain.len() {
        // A row that is long enough has one of these places in it.
        let zeros = zeros_around(plain, at, done);
        at += ZEROS;
        if zeros.len() >= ZEROS {
            let end = zeros.start + zeros.len() / ZEROS * ZEROS;
            if done < zeros.start {
                runs.extend(runs_between(plain, done..zeros.start));
            }
            runs.push(Run { bytes: zeros.start..end, way: Way::Zeros });
            (done, at) = (end, end);
        }
    }
    if done < plain.len() || runs.is_empty() {
        runs.extend(runs_between(plain, done..plain.len()));
    }
    runs
}

/// Returns the row of zeros that a place is in, as far as it does not begin before `from`.
fn zeros_around(plain: &[u8], at: usize, from: usize) -> Range<usize> {
    if plain[at] != 0 {
        return at..at;
    }
    let start = at - plain[from..at].iter().rev().take_while(|&&byte| byte == 0).count();
    let (chunks, _) = plain[at..].as_chunks::<1024>();
    let whole = at + 1024 * chunks.iter().take_while(|chunk| **chunk == [0; 1024]).count();
    start..whole + plain[whole..].iter().take_while(|&&byte| byte == 0).count()
}

/// Splits a stretch without long rows of zeros into runs that shrink and runs that do not; one
/// empty run for an empty stretch.
fn runs_between(plain: &[u8], stretch: Range<usize>) -> Vec<Run> {
    let (start, plain) = (stretch.start, &plain[..stretch.end]);
    let mut runs = vec![Run { bytes: start..start, way: Way::Deflate }];
    let mut repetitions = Repetitions::new();
    let mut at = start;
    while at < plain.len() {
        // What is too short for statistics goes with what stands before it.
        let end = if plain.len() - at < 2 * SEGMENT { plain.len() } else { at + SEGMENT };
        let segment = at..end;
        let is_deflated =
            segment.len() < SEGMENT || shrinks(plain, segment.clone(), &mut repetitions);
        let way = if is_deflated { Way::Deflate } else { Way::Store };
        match runs.last_mut() {
            Some(last) if last.way == way || last.bytes.is_empty() => {
                *last = Run { bytes: last.bytes.start..end, way }
            }
            _ => runs.push(Run { bytes: segment, way }),
        }
        at = end;
    }
    runs
}

fn shrinks(plain: &[u8], segment: Range<usize>, repetitions: &mut Repetitions) -> bool {
    let mut samples = plain[segment.clone()].chunks(SAMPLE).map(saved_by_frequency);
    let first = samples.next().unwrap_or(0.0);
    if first > (SAMPLE / CLEARLY) as f64
        || first + samples.sum::<f64>() > (segment.len() / WORTH) as f64
    {
        return true;
    }
    // With a whole window before it, in a segment of usual length.
    let middle = segment.start + WINDOW.min(segment.len() / 2);
    let sample = middle..segment.end.min(middle + SAMPLE);
    let worth = sample.len() / WORTH;
    repetitions.saved(plain, sample) > worth
}

/// Returns how many bytes fewer the entropy of the bytes stands for. A few hundred of these are
/// what randomness itself pretends.
fn saved_by_frequency(sample: &[u8]) -> f64 {
    let mut counts = [[0u32; 256]; 4];
    let mut quads = sample.chunks_exact(4);
    for quad in &mut quads {
        counts.iter_mut().zip(quad).for_each(|(counts, byte)| counts[usize::from(*byte)] += 1);
    }
    quads.remainder().iter().for_each(|byte| counts[0][usize::from(*byte)] += 1);
    let total = sample.len() as f64;
    let counts = (0..256).map(|byte| counts.iter().map(|c| c[byte]).sum::<u32>());
    let bits: f64 = counts
        .filter(|count| *count > 0)
        .map(|count| f64::from(count) * (total / f64::from(count)).log2())
        .sum();
    // (256 - 1) / (2 ln 2) bits on average for bytes without any pattern.
    total - bits / 8.0 - 23.0
}

/// Looks for sequences that stood in the window before.
struct Repetitions {
    /// For each hash the last place, of every fourth one, with these four bytes.
    places: Box<[u32]>,
}

const HASH_BITS: u32 = 14;
const WINDOW: usize = 32 << 10;

impl Repetitions {
    fn new() -> Self {
        Self { places: vec![u32::MAX; 1 << HASH_BITS].into() }
    }

    /// Estimates how many bytes of the segment are in repetitions of seven bytes or more, which
    /// deflate writes as three. Looks at a quarter of the bytes, but for what stood anywhere
    /// before.
    fn saved(&mut self, plain: &[u8], segment: Range<usize>) -> usize {
        let word = |at: usize| {
            plain
                .get(at..)
                .and_then(|rest| rest.first_chunk())
                .map(|word| u32::from_le_bytes(*word))
        };
        let mut saved: usize = 0;
        let mut at = segment.start;
        let mut noted = segment.start.saturating_sub(WINDOW).next_multiple_of(4);
        while at + 4 <= segment.end {
            while noted < at {
                if let Some(word) = word(noted) {
                    self.places[hash(word)] = noted as u32;
                }
                noted += 4;
            }
            if at % (4 * LOOK) >= LOOK {
                at = at.next_multiple_of(4 * LOOK);
                continue;
            }
            let Some(here) = word(at) else { break };
            let place = self.places[hash(here)] as usize;
            if place < at && at - place <= WINDOW && word(place) == Some(here) {
                let end = segment.end.min(at.next_multiple_of(LOOK).max(at + 1));
                let length =
                    plain[place..].iter().zip(&plain[at..end]).take_while(|(a, b)| a == b).count();
                saved += length.saturating_sub(3);
                at += length;
            } else {
                at += 1;
            }
        }
        4 * saved
    }
}

/// So many bytes in a row are looked at, of four times as many.
const LOOK: usize = 512;

fn hash(word: u32) -> usize {
    (word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

/// An empty last block, which ends a deflate stream.
pub const END: &[u8] = &[1, 0, 0, 0xff, 0xff];

/// Appends stored blocks; an empty one if there are no bytes.
pub fn store(plain: &[u8], last: bool, out: &mut Vec<u8>) {
    let blocks = plain.len().div_ceil(STORED).max(1);
    for number in 0..blocks {
        let block = &plain[number * STORED..plain.len().min((number + 1) * STORED)];
        out.push(u8::from(last && number + 1 == blocks));
        out.extend_from_slice(&(block.len() as u16).to_le_bytes());
        out.extend_from_slice(&(!(block.len() as u16)).to_le_bytes());
        out.extend_from_slice(block);
    }
}

/// Deflates a frame so that frames can be joined to one stream, each to be inflated without those
/// before it.
pub fn flushed(plain: &[u8], level: u8) -> Result<Vec<u8>, Cause> {
    let mut out = Vec::with_capacity(plain.len() / 2 + 1024);
    flush(plain, runs(plain), level, &mut out)?;
    Ok(out)
}

/// Appends the runs of a frame.
fn flush(plain: &[u8], runs: Vec<Run>, level: u8, out: &mut Vec<u8>) -> Result<(), Cause> {
    for run in runs {
        let bytes = &plain[run.bytes];
        match run.way {
            Way::Zeros if level > 0 => {
                let zeros = prepared_zeros()?;
                (0..bytes.len() / ZEROS).for_each(|_| out.extend_from_slice(zeros));
            }
            Way::Deflate if level > 0 => {
                let at = out.len();
                deflate(bytes, level, out)?;
                go_on(out, at, bytes)?;
            }
            _ => store(bytes, false, out),
        }
    }
    Ok(())
}

/// Returns [`ZEROS`] zeros, deflated once: they shrink alike at all levels.
fn prepared_zeros() -> Result<&'static [u8], Cause> {
    static PREPARED: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(prepared) = PREPARED.get() {
        return Ok(prepared);
    }
    let (zeros, mut out) = (vec![0; ZEROS], Vec::new());
    deflate(&zeros, 9, &mut out)?;
    go_on(&mut out, 0, &zeros)?;
    Ok(PREPARED.get_or_init(|| out))
}

/// Appends a whole deflate stream. libdeflate takes three quarters of the time of zlib-rs, and
/// makes two percent less of it.
fn deflate(plain: &[u8], level: u8, out: &mut Vec<u8>) -> Result<(), Cause> {
    let level = CompressionLvl::new(level.into())
        .map_err(|_| Cause::Other(format!("no compression level {level}")))?;
    let mut compressor = Compressor::new(level);
    let at = out.len();
    out.resize(at + compressor.deflate_compress_bound(plain.len()), 0);
    let length = compressor.deflate_compress(plain, &mut out[at..]);
    out.truncate(at + length.map_err(|e| Cause::Other(format!("cannot deflate: {e}")))?);
    Ok(())
}

/// Makes the stream that begins at `at` one that goes on at a byte's border, as a full flush does:
/// its last block is the last one no more, and an empty stored block follows. Where blocks begin is
/// known from inflating all of it, which takes an eighth of the time that deflating took, and shows
/// at once that the stream is right.
fn go_on(out: &mut Vec<u8>, at: usize, plain: &[u8]) -> Result<(), Cause> {
    let wrong = || Cause::Other("what was deflated cannot be inflated".to_owned());
    let mut inflater = Inflater::new(Wrapping::Raw)?;
    let mut inflated = Zeroizing::new(vec![0; plain.len() + 1]);
    let (mut taken, mut made) = (0, 0);
    let (mut last, mut end) = (0, 0);
    loop {
        let step = inflater.step(&out[at + taken..], &mut inflated[made..], true)?;
        (taken, made) = (taken + step.taken, made + step.made);
        if let Some(bits) = step.bits {
            (last, end) = (end, 8 * taken - usize::from(bits));
        }
        match step.met {
            Met::End => break,
            _ if step.taken + step.made == 0 && step.bits.is_none() => return Err(wrong()),
            _ => {}
        }
    }
    // Behind the last block there are fewer bits left than a byte has.
    if taken != out.len() - at || end.div_ceil(8) != taken || inflated[..made] != *plain {
        return Err(wrong());
    }
    out[at + last / 8] &= !(1 << (last % 8));
    let left = 8 * taken - end;
    if let Some(byte) = out.last_mut() {
        *byte &= 0xff >> left;
    }
    // Three bits of zero begin the stored block; the rest of their byte is skipped.
    out.extend_from_slice(if left < 3 { &[0, 0, 0, 0xff, 0xff] } else { &[0, 0, 0xff, 0xff] });
    Ok(())
}

/// Makes gzip members of a frame; one if all of it shrinks, or nothing, or if long rows of zeros
/// are in it.
pub fn members(plain: &[u8], level: u8, time: u32) -> Result<Vec<u8>, Cause> {
    let mut out = Vec::with_capacity(plain.len() / 2 + 1024);
    let runs = runs(plain);
    if runs.iter().any(|run| run.way == Way::Zeros) {
        out.extend_from_slice(&gzip_header(time));
        flush(plain, runs, level, &mut out)?;
        out.extend_from_slice(END);
        out.extend_from_slice(&gzip_trailer(plain));
        return Ok(out);
    }
    for run in runs {
        let bytes = &plain[run.bytes];
        out.extend_from_slice(&gzip_header(time));
        if level == 0 || run.way == Way::Store {
            store(bytes, true, &mut out);
        } else {
            deflate(bytes, level, &mut out)?;
        }
        out.extend_from_slice(&gzip_trailer(bytes));
    }
    Ok(out)
}

/// Returns the header that Python's gzip module writes, which is duplicity's: no name, no flags,
/// system unknown.
pub fn gzip_header(time: u32) -> [u8; 10] {
    let [a, b, c, d] = time.to_le_bytes();
    [0x1f, 0x8b, 8, 0, a, b, c, d, 0, 0xff]
}

pub fn gzip_trailer(plain: &[u8]) -> [u8; 8] {
    let mut crc = Crc::new();
    crc.update(plain);
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc.sum().to_le_bytes());
    trailer[4..].copy_from_slice(&(plain.len() as u32).to_le_bytes());
    trailer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::{Random, text};
    use proptest::prelude::*;
    use std::io::Read;

    fn noise(length: usize) -> Vec<u8> {
        let mut random = Random(length as u64);
        std::iter::repeat_with(|| random.below(256) as u8).take(length).collect()
    }

    fn deflated(plain: &[u8]) -> Vec<(usize, bool)> {
        runs(plain).into_iter().map(|run| (run.bytes.len(), run.way != Way::Store)).collect()
    }

    /// Wherever zeros begin and end, what comes out of a frame is what went in; and they cost next
    /// to nothing.
    #[test]
    fn long_rows_of_zeros_are_prepared() {
        for (before, zeros, behind) in [
            (0, ZEROS, 0),
            (0, 2 * ZEROS + 1, 9),
            (700, 5 * ZEROS - 1, 70_000),
            (512, 65_900, 512),
            (9, ZEROS - 1, 9),
        ] {
            let plain =
                [&noise(before)[..], &vec![0; zeros], &noise(behind), &vec![0; zeros], b"end"]
                    .concat();
            let found: usize = runs(&plain)
                .iter()
                .filter(|run| run.way == Way::Zeros)
                .map(|run| run.bytes.len())
                .sum();
            assert_eq!(found, 2 * (zeros / ZEROS * ZEROS), "{before} {zeros} {behind}");
            for level in [0, 1, 6, 9] {
                let mut read = Vec::new();
                let members = members(&plain, level, 7).unwrap();
                flate2::read::MultiGzDecoder::new(&members[..]).read_to_end(&mut read).unwrap();
                assert!(read == plain, "{before} {zeros} {behind} at {level}");
                check_joined(&[&plain, b"more", &plain], level);
                let most = before + behind + 2 * (zeros / ZEROS) * 64 + 1000;
                assert!(
                    level == 0 || members.len() < most,
                    "{} bytes for {before} {zeros} {behind} at {level}",
                    members.len()
                );
            }
        }
    }

    fn check_joined(frames: &[&[u8]], level: u8) {
        let mut joined: Vec<u8> =
            frames.iter().flat_map(|frame| flushed(frame, level).unwrap()).collect();
        joined.extend_from_slice(END);
        let mut plain = Vec::new();
        let mut decoder = flate2::bufread::DeflateDecoder::new(&joined[..]);
        decoder.read_to_end(&mut plain).unwrap();
        assert!(plain == frames.concat());
        assert_eq!(decoder.into_inner(), b"");
    }

    #[test]
    fn frames_are_joined() {
        for level in [0, 1, 6, 9] {
            check_joined(&[&text(300_000), &noise(200_000), b"", b"x", &text(50)], level);
            for length in 0..300 {
                check_joined(&[&text(length), &noise(length), &vec![0; length]], level);
            }
        }
    }

    #[test]
    fn noise_is_stored_and_all_else_is_not() {
        assert_eq!(deflated(&noise(1 << 20)), [(1 << 20, false)]);
        assert_eq!(deflated(&text(1 << 20)), [(1 << 20, true)]);
        assert_eq!(deflated(&[]), [(0, true)]);
        let mixed = [noise(SEGMENT), text(2 * SEGMENT), noise(3 * SEGMENT)].concat();
        assert_eq!(deflated(&mixed), [(SEGMENT, false), (2 * SEGMENT, true), (3 * SEGMENT, false)]);
        // Noise that repeats itself, at any distance within the window.
        for period in [100, 1000, 5001, 16 << 10, 31_000] {
            assert_eq!(deflated(&noise(period).repeat((1 << 20) / period)).len(), 1, "{period}");
            assert!(deflated(&noise(period).repeat((1 << 20) / period))[0].1, "{period}");
        }
        // Seven bits of eight, and base64.
        let bits: Vec<u8> = noise(1 << 20).iter().map(|byte| byte & 0x7f).collect();
        assert!(deflated(&bits)[0].1);
        assert!(flushed(&noise(1 << 20), 6).unwrap().len() < (1 << 20) + 100);
        // What deflate itself has made shrinks no more.
        let packed = flushed(&text(4 << 20), 6).unwrap();
        assert!(!deflated(&packed[..1 << 20])[0].1);
    }

    /// Wherever bytes lose 1 % to a choice, the choice was wrong.
    #[test]
    fn what_is_stored_would_not_have_shrunk() {
        for rare in [2, 5, 10, 20, 40, 80, 160] {
            // One byte in `rare` is a zero.
            let mut random = Random(rare as u64);
            let mut plain = noise(1 << 20);
            plain
                .iter_mut()
                .for_each(|byte| *byte = if random.below(rare) == 0 { 0 } else { *byte });
            let mut by_deflate = Vec::new();
            deflate(&plain, 6, &mut by_deflate).unwrap();
            let ours = flushed(&plain, 6).unwrap();
            assert!(
                ours.len() as f64 <= by_deflate.len() as f64 * 1.01,
                "{rare}: {} {}",
                ours.len(),
                by_deflate.len()
            );
        }
    }

    proptest! {
        #[test]
        fn any_frames(frames in prop::collection::vec((any::<Vec<u8>>(), 1..3000usize), 0..5), level in 0..10u8) {
            let frames: Vec<Vec<u8>> = frames.iter().map(|(bytes, times)| bytes.repeat(*times)).collect();
            check_joined(&frames.iter().map(|frame| &frame[..]).collect::<Vec<_>>(), level);
        }
    }
}
