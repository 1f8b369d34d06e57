//! What is written is read by our own readers, by gpg, gzip and sequoia.

mod gpg_options;
mod kinds;
mod table;

use crate::codec::testing::{GpgHome, Memory, decode, file, fixed, text};
use crate::codec::{
    Codec, EncodeOptions, Encoder, Encoding, GpgOptions, SeekPoint, parse_gpg_options,
};
use crate::storage::ReadAt;
use std::sync::Arc;

/// Words of `--gpg-options`.
fn words(words: &[&str]) -> GpgOptions {
    parse_gpg_options(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>()).unwrap()
}

/// Symmetric, with a cheap key derivation.
fn symmetric(level: Option<u8>) -> EncodeOptions {
    EncodeOptions {
        level,
        gpg_options: words(&["--s2k-count", "65536"]),
        ..EncodeOptions::default()
    }
}

fn bare(encoding: Encoding, level: Option<u8>) -> EncodeOptions {
    EncodeOptions { encoding, level, ..EncodeOptions::default() }
}

/// A file with a table.
struct Written {
    stored: Vec<u8>,
    points: Vec<SeekPoint>,
    /// Stored bytes before the table.
    start: u64,
}

/// Writes `plain`, cut into frames of the given sizes, the last of which takes the rest.
fn write(encoder: &Arc<Encoder>, plain: &[u8], sizes: &[usize], table: &[u8]) -> Written {
    let mut written = encoder.create("made", Vec::new()).unwrap();
    let mut rest = plain;
    for size in sizes.iter().copied().chain([usize::MAX]) {
        let (frame, later) = rest.split_at(size.min(rest.len()));
        written.push(encoder.frame(frame.to_vec()).unwrap()).unwrap();
        rest = later;
    }
    let points = written.end_frames().unwrap();
    let start = written.stored();
    let stored = written.finish_with_table(table).unwrap();
    Written { stored, points, start }
}

/// Checks that a reader with nothing but the frames' stored bytes reads each of them.
fn check_frames(codec: &Codec, written: &Written, encoding: Encoding, plain: &[u8]) {
    let frames = file(&written.stored[..written.start as usize]);
    let reopened = codec.reopen(frames, encoding).unwrap();
    let whole = codec.reopen(file(&written.stored[..]), encoding).unwrap();
    let ends = written.points.iter().skip(1).map(|point| point.plain as usize).chain([plain.len()]);
    for (point, end) in written.points.iter().zip(ends) {
        let from = point.plain as usize;
        let mut buffer = vec![0; end - from];
        reopened
            .read(point, u64::MAX, &mut buffer)
            .unwrap_or_else(|e| panic!("from {from} to {end} of {}: {e}", plain.len()));
        assert!(buffer == plain[from..end], "reading from {from} gives something else");
        let mut rest = vec![0; plain.len() - from];
        reopened.read(point, u64::MAX, &mut rest).unwrap();
        assert!(rest == plain[from..]);
        buffer.fill(0);
        whole.read(point, u64::MAX, &mut buffer).unwrap();
        assert!(buffer == plain[from..end]);
        let mut beyond = vec![0; plain.len() - from + 1];
        assert!(
            reopened.read(point, u64::MAX, &mut beyond).is_err(),
            "there is more behind the frames"
        );
    }
}

/// Checks that a decoder reads the plain bytes and, behind them, the table; returns all of them.
fn check_decoder(
    codec: &Codec,
    written: &Written,
    encoding: Encoding,
    plain: &[u8],
    table: &[u8],
) -> Vec<u8> {
    let decoded = decode(codec, &written.stored, encoding).unwrap();
    assert!(decoded.starts_with(plain));
    let behind = &decoded[plain.len()..];
    assert!(table.is_empty() || behind.windows(table.len()).any(|window| window == table));
    decoded
}

fn check_table(codec: &Codec, written: &Written, encoding: Encoding, plain: &[u8], table: &[u8]) {
    let found =
        codec.table(file(&written.stored[..]), encoding).unwrap().expect("there is a table");
    assert!(found.bytes == table);
    assert_eq!((found.stored_start, found.plain_start), (written.start, plain.len() as u64));
}
