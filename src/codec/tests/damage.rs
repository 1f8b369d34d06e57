//! Damaged and hostile messages.

use crate::codec::testing::{GpgHome, check_points, codec, decode, file, text};
use crate::codec::{Cause, Encoding, SeekPoint};
use crate::format::ByteSource;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use proptest::prelude::*;
use sha1::{Digest, Sha1};

#[derive(Clone, Copy, PartialEq)]
pub enum Mdc {
    Right,
    Wrong,
    Missing,
}

/// A message with the passphrase "geheim", AES-128 and S2K mode 0, around any packets: an
/// independent, slow writer.
pub fn encrypt(inner: &[u8], mdc: Mdc) -> Vec<u8> {
    let mut plain = b"0123456789abcdefef".to_vec();
    plain.extend_from_slice(inner);
    if mdc != Mdc::Missing {
        plain.extend_from_slice(&[0xd3, 0x14]);
        let mut code = Sha1::digest(&plain).to_vec();
        code[7] ^= u8::from(mdc == Mdc::Wrong);
        plain.extend(code);
    }
    let aes = aes::Aes128Enc::new_from_slice(&Sha1::digest(b"geheim")[..16]).unwrap();
    let mut before = aes::Block::default();
    for block in plain.chunks_mut(16) {
        aes.encrypt_block(&mut before);
        for (plain, key) in block.iter_mut().zip(&before) {
            *plain ^= key;
        }
        before[..block.len()].copy_from_slice(block);
    }
    let mut message = vec![0xc3, 4, 4, 7, 0, 2, 0xd2, 0xff];
    message.extend_from_slice(&(plain.len() as u32 + 1).to_be_bytes());
    message.push(1);
    message.extend(plain);
    message
}

/// A literal packet with a length of the given kind.
pub fn literal(data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xcb, 0xff];
    packet.extend_from_slice(&(data.len() as u32 + 6).to_be_bytes());
    packet.extend_from_slice(b"b\0\0\0\0\0");
    packet.extend_from_slice(data);
    packet
}

#[test]
fn modification_detection_code() {
    let inner = literal(b"the file");
    assert_eq!(
        decode(&codec("geheim"), &encrypt(&inner, Mdc::Right), Encoding::OpenPgp).unwrap(),
        b"the file"
    );
    for mdc in [Mdc::Wrong, Mdc::Missing] {
        let error = decode(&codec("geheim"), &encrypt(&inner, mdc), Encoding::OpenPgp).unwrap_err();
        assert!(matches!(error.cause, Cause::NotAuthentic(_)), "{error}");
    }
    // Longer than what is decrypted at once.
    let inner = literal(&text(100_000));
    for mdc in [Mdc::Wrong, Mdc::Missing] {
        let error = decode(&codec("geheim"), &encrypt(&inner, mdc), Encoding::OpenPgp).unwrap_err();
        assert!(matches!(error.cause, Cause::NotAuthentic(_) | Cause::Damaged(_)), "{error}");
    }
}

#[test]
fn odd_packets_inside() {
    let data = text(5000);
    let marker = b"\xca\x03PGP";
    let indeterminate = [b"\xafb\0\0\0\0\0", &data[..]].concat();
    let mut chunks = vec![0xcb, 0xe9];
    chunks.extend_from_slice(b"b\x03abc\0\0\0\0");
    chunks.extend_from_slice(&data[..512 - 9]);
    for byte in &data[512 - 9..1000] {
        chunks.extend_from_slice(&[0xe0, *byte]); // chunks of one byte
    }
    chunks.extend_from_slice(&[0xcf + 8, 0]); // two-byte length
    chunks.pop();
    chunks.pop();
    let rest = data.len() - 1000;
    chunks.extend_from_slice(&[((rest - 192) >> 8) as u8 + 192, (rest - 192) as u8]);
    chunks.extend_from_slice(&data[1000..]);
    for inner in [
        [&marker[..], &literal(&data)].concat(),
        [&literal(&data)[..], marker].concat(),
        indeterminate,
        chunks,
    ] {
        check_points(&codec("geheim"), &encrypt(&inner, Mdc::Right), Encoding::OpenPgp, 100, &data);
    }
    let twice = literal(&data).repeat(2);
    let garbage = [&literal(&data)[..], b"garbage"].concat();
    for inner in [&twice[..], &garbage, b"", marker, &literal(b"")[..5]] {
        assert!(decode(&codec("geheim"), &encrypt(inner, Mdc::Right), Encoding::OpenPgp).is_err());
    }
}

/// Nothing that is not encrypted and protected passes for a message that is.
#[test]
fn unprotected_messages() {
    let home = GpgHome::new();
    let plain = text(100);
    home.key("k", "", "ed25519", &[]);
    let mut unprotected = encrypt(&literal(&plain), Mdc::Missing);
    unprotected[6] = 0xc9;
    for stored in [
        literal(&plain),
        home.run(&["--local-user", "k", "--sign"], &plain),
        home.run(&["--store"], &plain),
        unprotected,
    ] {
        let error = decode(&codec("geheim"), &stored, Encoding::OpenPgp).unwrap_err();
        assert!(matches!(error.cause, Cause::NotAuthentic(_)), "{error}");
    }
    let armored = home.run(&["--armor", "--store"], &plain);
    let error = decode(&codec("geheim"), &armored, Encoding::OpenPgp).unwrap_err();
    assert!(matches!(error.cause, Cause::NotAuthentic(_)), "{error}");
}

#[test]
fn kinds_that_nobody_reads_here() {
    let home = GpgHome::new();
    let codec = crate::codec::Codec::new(home.options(crate::codec::testing::fixed("geheim")));
    let mut aead = encrypt(&literal(b"x"), Mdc::Right);
    aead[6] = 0xd4; // tag 20
    let mut version = encrypt(&literal(b"x"), Mdc::Right);
    version[12] = 3;
    for (stored, what) in [(aead, "tag 20"), (version, "tag 18, version 3")] {
        let error = decode(&codec, &stored, Encoding::OpenPgp).unwrap_err();
        assert!(
            matches!(&error.cause, Cause::Unsupported(why) if why.contains(what) && why.contains("gpg")),
            "{error}"
        );
    }
    for stored in
        [&b""[..], b"x", b"\xd8\x01x", b"\xc3\x04", &[0xc3, 0xff, 0xff, 0xff, 0xff, 0xff, 4]]
    {
        let error = decode(&codec, stored, Encoding::OpenPgp).unwrap_err();
        assert!(matches!(error.cause, Cause::Damaged(_) | Cause::Truncated), "{error}");
    }
    // Endless session key packets.
    let many = b"\xc3\x04\x04\x07\x00\x02".repeat(100_000);
    let error = decode(&codec, &many, Encoding::OpenPgp).unwrap_err();
    assert!(matches!(error.cause, Cause::Damaged(_)), "{error}");
}

/// A bomb is long, but that is all: it is read in bounded memory.
#[test]
fn bomb() {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&literal(&vec![0; 50 << 20])).unwrap();
    let inner = [&b"\xa3\x01"[..], &encoder.finish().unwrap()].concat();
    let stored = encrypt(&inner, Mdc::Right);
    assert!(stored.len() < 100 << 10);
    let mut decoder = codec("geheim").decode(file(&stored[..]), Encoding::OpenPgp).unwrap();
    let mut length = 0;
    let count = |bytes: &[u8]| {
        length += bytes.len();
        Ok::<_, crate::codec::Error>(())
    };
    decoder.copy(count).unwrap();
    assert_eq!(length, 50 << 20);
}

/// Every message cut anywhere, and with any bit flipped, is an error, or the same data.
#[test]
fn cut_and_flipped() {
    let home = GpgHome::new();
    let plain = text(600);
    home.key("k", "", "ed25519", &[]);
    let mode = ["--s2k-mode", "0"];
    let mut messages = vec![encrypt(&literal(&plain), Mdc::Right)];
    for arguments in [
        &["--compress-algo", "0"][..],
        &["--compress-algo", "1"],
        &["--compress-algo", "2"],
        &["--local-user", "k", "--sign"],
    ] {
        messages.push(home.symmetric(&[&mode, arguments].concat(), &plain));
    }
    let codec = codec("geheim");
    for stored in &messages {
        assert!(decode(&codec, stored, Encoding::OpenPgp).unwrap() == plain);
        for length in 0..stored.len() {
            let error = decode(&codec, &stored[..length], Encoding::OpenPgp).unwrap_err();
            assert!(
                matches!(error.cause, Cause::Truncated),
                "{length} of {}: {error}",
                stored.len()
            );
        }
        for index in 0..stored.len() {
            for bit in 0..8 {
                let mut broken = stored.clone();
                broken[index] ^= 1u8 << bit;
                if let Ok(decoded) = decode(&codec, &broken, Encoding::OpenPgp) {
                    assert!(decoded == plain, "byte {index} bit {bit}");
                }
            }
        }
        let longer = [&stored[..], b"\xca\x03PGP"].concat();
        assert!(decode(&codec, &longer, Encoding::OpenPgp).is_err());
    }
}

#[test]
fn errors_repeat() {
    let stored = encrypt(&literal(b"x"), Mdc::Wrong);
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\0xxxxxxxxx";
    for (stored, encoding) in [(&stored[..], Encoding::OpenPgp), (gzip, Encoding::Gzip)] {
        let Ok(mut decoder) = codec("geheim").decode(file(stored), encoding) else { continue };
        let first = decoder.read_bytes(&mut [0; 100]).unwrap_err().to_string();
        assert_eq!(decoder.read_bytes(&mut [0; 100]).unwrap_err().to_string(), first);
    }
}

fn points_of(stored: &[u8], encoding: Encoding, plain: &[u8]) -> Vec<SeekPoint> {
    let points = check_points(&codec("geheim"), stored, encoding, 100_000, plain);
    assert!(points.len() > 3);
    points
}

#[test]
fn points_of_other_messages() {
    let home = GpgHome::new();
    let plain = text(1_000_000);
    let (one, two) = (home.symmetric(&[], &plain), home.symmetric(&[], &plain));
    let gzip = {
        let mut encoder =
            flate2::bufread::GzEncoder::new(&plain[..], flate2::Compression::default());
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut encoder, &mut bytes).unwrap();
        bytes
    };
    let points = points_of(&one, Encoding::OpenPgp, &plain);
    for (stored, encoding) in
        [(&two, Encoding::OpenPgp), (&gzip, Encoding::Gzip), (&plain, Encoding::Plain)]
    {
        let reopened = codec("geheim").reopen(file(&stored[..]), encoding).unwrap();
        let error = reopened.read(&points[1], u64::MAX, &mut [0; 100]).unwrap_err();
        assert!(matches!(error.cause, Cause::SeekPoint(_)), "{error}");
    }
    // No plain bytes lie open in a state.
    let words = |state: &[u8]| {
        plain.windows(12).step_by(5003).filter(|w| state.windows(12).any(|s| s == *w)).count()
    };
    assert!(points.iter().take(4).all(|p| words(&p.state) == 0));
    // A state that has been changed at all is refused.
    let reopened = codec("geheim").reopen(file(&one[..]), Encoding::OpenPgp).unwrap();
    for index in (0..points[1].state.len()).step_by(97).chain(0..30) {
        let mut point = points[1].clone();
        point.state[index] ^= 1;
        let error = reopened.read(&point, u64::MAX, &mut [0; 100]).unwrap_err();
        assert!(matches!(error.cause, Cause::SeekPoint(_)), "{index}: {error}");
    }
}

proptest! {
    /// Garbage instead of states, or in them, gives errors or garbage, but never a panic.
    #[test]
    fn garbled_states(garbage in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..6u8, at in any::<prop::sample::Index>(), bit in 0..8) {
        let plain = text(400_000);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, &plain).unwrap();
        let gzip = encoder.finish().unwrap();
        let message = encrypt(&literal(&plain[..1000]), Mdc::Right);
        let (_, points) = crate::codec::testing::decode_with_points(&codec(""), &gzip, Encoding::Gzip, 100_000);
        let mut flipped = points[1].state.clone();
        flipped[at.index(points[1].state.len())] ^= 1u8 << bit;
        let state = [&[1, kind], &garbage[..]].concat();
        for (stored, encoding) in [(&gzip, Encoding::Gzip), (&plain, Encoding::Plain), (&message, Encoding::OpenPgp)] {
            let reopened = codec("geheim").reopen(file(&stored[..]), encoding).unwrap();
            for state in [&state, &garbage, &flipped] {
                for plain in [0, 5000, u64::MAX] {
                    let _ = reopened.read(&SeekPoint { plain, state: state.clone() }, u64::MAX, &mut [0; 5000]);
                }
            }
        }
    }

    /// Any bytes at all, and any packets inside a right encryption, end in an error or in data, but
    /// never in a panic.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), tag in 0xc0..0xffu8) {
        let codec = codec("geheim");
        let tagged = [&[tag], &bytes[..]].concat();
        for stored in [&bytes, &tagged, &encrypt(&bytes, Mdc::Right), &encrypt(&tagged, Mdc::Right)] {
            let _ = decode(&codec, stored, Encoding::OpenPgp);
            let _ = decode(&codec, stored, Encoding::Gzip);
        }
    }
}
