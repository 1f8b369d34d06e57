//! Gzip files, and plain ones.

use crate::codec::testing::{check_points, codec, decode, text};
use crate::codec::{Cause, Encoding};
use flate2::{Compression, GzBuilder};
use std::io::Write;

fn gzip(plain: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn plain_files_have_points_everywhere() {
    let plain = text(300_000);
    let points = check_points(&codec(""), &plain, Encoding::Plain, 1000, &plain);
    assert_eq!(points.len(), 300);
    check_points(&codec(""), b"", Encoding::Plain, 1000, b"");
}

#[test]
fn one_member() {
    for level in [0, 1, 6, 9] {
        let plain = text(3_000_000);
        let points =
            check_points(&codec(""), &gzip(&plain, level), Encoding::Gzip, 100_000, &plain);
        let least = if level == 1 { 1 } else { 8 }; // at level 1 zlib-rs makes blocks of any length
        assert!(points.len() >= least, "{} points at level {level}", points.len());
    }
    check_points(&codec(""), &gzip(b"", 6), Encoding::Gzip, 1, b"");
    check_points(&codec(""), &gzip(b"x", 6), Encoding::Gzip, 1, b"x");
}

#[test]
fn many_members_headers_and_padding() {
    let plain = text(1_000_000);
    let mut stored = Vec::new();
    for (i, part) in plain.chunks(10_000).enumerate() {
        let header =
            GzBuilder::new().filename("name").comment("comment").extra(vec![b'x'; i]).mtime(5);
        let mut encoder = header.write(&mut stored, Compression::default());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap();
        stored.extend(gzip(b"", 6)); // an empty member between
    }
    for padding in [0, 1, 100_000] {
        let padded = [&stored[..], &vec![0; padding]].concat();
        let points = check_points(&codec(""), &padded, Encoding::Gzip, 20_000, &plain);
        assert!(points.len() > 30, "{} points", points.len());
        let bytes: usize = points.iter().map(|p| p.state.len()).sum();
        assert!(bytes < 20 * points.len(), "points between members need no window: {bytes} bytes");
    }
    for garbage in [&b"x"[..], b"\0\0x", b"\x1f\x8b", b"\x1f\x8b\x08"] {
        let error = decode(&codec(""), &[&stored, garbage].concat(), Encoding::Gzip).unwrap_err();
        assert!(matches!(error.cause, Cause::Damaged(_) | Cause::Truncated), "{error}");
    }
}

#[test]
fn truncated_anywhere() {
    let stored = gzip(&text(5000), 6);
    for length in 0..stored.len() {
        let error = decode(&codec(""), &stored[..length], Encoding::Gzip).unwrap_err();
        assert!(matches!(error.cause, Cause::Truncated), "{length}: {error}");
    }
}

#[test]
fn flipped_anywhere() {
    let plain = text(2000);
    let stored = gzip(&plain, 6);
    for index in 0..stored.len() {
        for bit in 0..8 {
            let mut broken = stored.clone();
            broken[index] ^= 1 << bit;
            if let Ok(decoded) = decode(&codec(""), &broken, Encoding::Gzip) {
                assert!(decoded == plain, "byte {index} bit {bit}");
            }
        }
    }
}
