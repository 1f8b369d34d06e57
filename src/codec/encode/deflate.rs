//! Frames deflated on their own; what does not shrink is stored at once.
//!
//! Media, archives and encrypted files keep a deflater busy for nothing. So each 64 KiB of a frame is looked at first: if neither the
//! frequencies of its bytes nor, as far as a sample tells, repetitions within deflate's window promise 1 %, it goes into stored
//! blocks. What shrinks well by its frequencies, as text does, is known by its first quarter.

use crate::codec::Cause;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use libdeflater::{CompressionLvl, Compressor};
use std::ops::Range;

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

/// A stretch of a frame.
struct Run {
    bytes: Range<usize>,
    deflated: bool,
}

/// Splits a frame into runs that shrink and runs that do not; one empty run for an empty frame.
fn runs(plain: &[u8]) -> Vec<Run> {
    let mut runs = vec![Run { bytes: 0..0, deflated: true }];
    let mut repetitions = Repetitions::new();
    let mut at = 0;
    while at < plain.len() {
        // What is too short for statistics goes with what stands before it.
        let end = if plain.len() - at < 2 * SEGMENT { plain.len() } else { at + SEGMENT };
        let segment = at..end;
        let deflated = segment.len() < SEGMENT || shrinks(plain, segment.clone(), &mut repetitions);
        match runs.last_mut() {
            Some(last) if last.deflated == deflated || last.bytes.is_empty() => {
                *last = Run { bytes: last.bytes.start..end, deflated };
            }
            _ => runs.push(Run { bytes: segment, deflated }),
        }
        at = end;
    }
    runs
}

fn shrinks(plain: &[u8], segment: Range<usize>, repetitions: &mut Repetitions) -> bool {
    let mut samples = plain[segment.clone()].chunks(SAMPLE).map(saved_by_frequency);
    let first = samples.next().unwrap_or(0.0);
    if first > (SAMPLE / CLEARLY) as f64 || first + samples.sum::<f64>() > (segment.len() / WORTH) as f64 {
        return true;
    }
    // With a whole window before it, in a segment of usual length.
    let middle = segment.start + WINDOW.min(segment.len() / 2);
    let sample = middle..segment.end.min(middle + SAMPLE);
    let worth = sample.len() / WORTH;
    repetitions.saved(plain, sample) > worth
}

/// Returns how many bytes fewer the entropy of the bytes stands for. A few hundred of these are what randomness itself pretends.
fn saved_by_frequency(sample: &[u8]) -> f64 {
    let mut counts = [[0u32; 256]; 4];
    let mut quads = sample.chunks_exact(4);
    for quad in &mut quads {
        counts.iter_mut().zip(quad).for_each(|(counts, byte)| counts[usize::from(*byte)] += 1);
    }
    quads.remainder().iter().for_each(|byte| counts[0][usize::from(*byte)] += 1);
    let total = sample.len() as f64;
    let counts = (0..256).map(|byte| counts.iter().map(|c| c[byte]).sum::<u32>());
    let bits: f64 = counts.filter(|count| *count > 0).map(|count| f64::from(count) * (total / f64::from(count)).log2()).sum();
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

    /// Returns how many bytes of the segment are in repetitions of seven bytes or more, which deflate writes as three.
    fn saved(&mut self, plain: &[u8], segment: Range<usize>) -> usize {
        let word = |at: usize| plain.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_le_bytes(*word));
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
            let Some(here) = word(at) else { break };
            let place = self.places[hash(here)] as usize;
            if place < at && at - place <= WINDOW && word(place) == Some(here) {
                let length = plain[place..].iter().zip(&plain[at..segment.end]).take_while(|(a, b)| a == b).count();
                saved += length.saturating_sub(3);
                at += length;
            } else {
                at += 1;
            }
        }
        saved
    }
}

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

/// Deflates a frame so that frames can be joined to one stream, each to be inflated without those before it.
pub fn flushed(plain: &[u8], level: u8) -> Result<Vec<u8>, Cause> {
    let mut out = Vec::with_capacity(plain.len() / 2 + 1024);
    let mut compress = None;
    for run in runs(plain) {
        let bytes = &plain[run.bytes];
        if level == 0 || !run.deflated {
            store(bytes, false, &mut out);
            continue;
        }
        // A full flush forgets what was before it, so it does not matter that stored bytes have come between.
        let compress = compress.get_or_insert_with(|| Compress::new(Compression::new(level.into()), false));
        let before = compress.total_in();
        loop {
            out.reserve(bytes.len() / 4 + 1024);
            let done = (compress.total_in() - before) as usize;
            let status = compress.compress_vec(&bytes[done..], &mut out, FlushCompress::Full);
            match status.map_err(|e| Cause::Other(format!("cannot deflate: {e}")))? {
                Status::Ok if out.len() == out.capacity() => {} // there may be more of the flush
                Status::Ok | Status::BufError if (compress.total_in() - before) as usize == bytes.len() => break,
                Status::Ok => {}
                status => return Err(Cause::Other(format!("cannot deflate: {status:?}"))),
            }
        }
    }
    Ok(out)
}

/// Makes gzip members of a frame; one if all of it shrinks, or nothing.
pub fn members(plain: &[u8], level: u8, time: u32) -> Result<Vec<u8>, Cause> {
    let mut out = Vec::with_capacity(plain.len() / 2 + 1024);
    for run in runs(plain) {
        let bytes = &plain[run.bytes];
        out.extend_from_slice(&gzip_header(time));
        if level == 0 || !run.deflated {
            store(bytes, true, &mut out);
        } else {
            let level = CompressionLvl::new(level.into()).map_err(|_| Cause::Other(format!("no compression level {level}")))?;
            let mut compressor = Compressor::new(level);
            let at = out.len();
            out.resize(at + compressor.deflate_compress_bound(bytes.len()), 0);
            let length = compressor.deflate_compress(bytes, &mut out[at..]);
            out.truncate(at + length.map_err(|e| Cause::Other(format!("cannot deflate: {e}")))?);
        }
        out.extend_from_slice(&gzip_trailer(bytes));
    }
    Ok(out)
}

/// Returns the header that Python's gzip module writes, which is duplicity's: no name, no flags, system unknown.
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
