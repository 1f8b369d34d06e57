//! The table is found, or nothing is taken for it.

use super::*;
use crate::codec::testing::{Random, codec};
use crate::codec::{Cause, Options, PassphraseSource};
use crate::storage;
use parking_lot::Mutex;
use proptest::prelude::*;

fn kinds() -> [(EncodeOptions, Encoding); 5] {
    [
        (bare(Encoding::Plain, None), Encoding::Plain),
        (bare(Encoding::Gzip, Some(6)), Encoding::Gzip),
        (symmetric(Some(6)), Encoding::OpenPgp),
        (symmetric(None), Encoding::OpenPgp),
        (symmetric(Some(1)), Encoding::OpenPgp),
    ]
}

/// A file that notes where it is read.
struct Counting(Memory, Mutex<Vec<(u64, usize)>>);

impl ReadAt for Counting {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        self.1.lock().push((offset, buffer.len()));
        self.0.read_at(offset, buffer)
    }
}

fn reads(codec: &Codec, stored: &[u8], encoding: Encoding) -> (bool, usize) {
    let counting = Arc::new(Counting(Memory(stored.to_vec()), Mutex::default()));
    let found = codec.table(counting.clone(), encoding).unwrap().is_some();
    let reads = counting.1.lock();
    let tail = (64 << 10) + stored.len() / 2048;
    assert!(reads.iter().all(|(_, length)| *length <= tail || found));
    // Only the rest of a long table is looked for anywhere else than was said before.
    let ranges = Codec::table_ranges(encoding, stored.len() as u64);
    let is_near = |(offset, length): &&(u64, usize)| {
        ranges.iter().any(|near| near.start <= *offset && offset + *length as u64 <= near.end)
    };
    let near = reads.iter().filter(is_near).count();
    assert!(near == reads.len().min(1 + usize::from(encoding == Encoding::OpenPgp)));
    (found, reads.len())
}

#[test]
fn requests() {
    let home = GpgHome::new();
    let plain: Vec<u8> = text(500_000);
    for (options, encoding) in kinds() {
        let writer = codec("geheim");
        let encoder = writer.encoder(options).unwrap();
        let reader = codec("geheim");
        let key = usize::from(encoding == Encoding::OpenPgp);
        assert_eq!(
            reads(&reader, &write(&encoder, &plain, &[], &text(10_000)).stored, encoding),
            (true, 1 + key)
        );
        assert_eq!(
            reads(&reader, &write(&encoder, &plain, &[], &text(200_000)).stored, encoding),
            (true, 2 + key)
        );
        assert_eq!(
            reads(&reader, &write(&encoder, b"short", &[], &text(10_000)).stored, encoding),
            (true, 1)
        );
        let mut without = encoder.create("made", Vec::new()).unwrap();
        without.push(encoder.frame(plain.clone()).unwrap()).unwrap();
        assert_eq!(reads(&reader, &without.finish().unwrap(), encoding), (false, 1));
    }
    // Of gpg's files the key is not even asked for.
    let keyless = Codec::new(Options::default());
    assert_eq!(reads(&keyless, &home.symmetric(&[], &plain), Encoding::OpenPgp), (false, 1));
    assert_eq!(
        reads(&keyless, &home.symmetric(&["--compress-algo", "0"], &plain), Encoding::OpenPgp),
        (false, 1)
    );
}

#[test]
fn tampered_with_anywhere() {
    for (options, encoding) in kinds() {
        let codec = codec("geheim");
        let encoder = codec.encoder(options).unwrap();
        let written = write(&encoder, &text(3000), &[1000], &text(200));
        let length = written.stored.len();
        // The framing is not protected, and not used either.
        for at in written.start as usize..length {
            for bit in [0, 5] {
                let mut stored = written.stored.clone();
                stored[at] ^= 1 << bit;
                let found = codec.table(file(stored), encoding).unwrap();
                assert!(
                    found.is_none_or(|table| table.bytes == text(200)),
                    "{encoding:?}: {at} of {length}"
                );
            }
        }
        for cut in written.start as usize..length {
            assert_eq!(
                codec.table(file(&written.stored[..cut]), encoding).unwrap(),
                None,
                "{cut} of {length}"
            );
        }
        for cut in [0, 1, 63, 100] {
            assert_eq!(codec.table(file(&written.stored[..cut]), encoding).unwrap(), None);
        }
        let longer = [&written.stored[..], b"x"].concat();
        assert_eq!(codec.table(file(longer), encoding).unwrap(), None);
    }
}

/// Every byte of the table and of its footer counts.
#[test]
fn each_byte_counts() {
    for (options, encoding) in kinds() {
        let codec = codec("geheim");
        let encoder = codec.encoder(options.clone()).unwrap();
        let table = text(200);
        let written = write(&encoder, &text(3000), &[], &table);
        let (before, blocks) = match (encoding, options.level) {
            (Encoding::Plain, _) => (0, 0),
            (Encoding::Gzip, _) => (10, 5),
            (Encoding::OpenPgp, None) => (5 + 32, 0),
            (Encoding::OpenPgp, _) => (5 + 32 + 5, 5),
        };
        let first =
            written.start as usize + before + if encoding == Encoding::Gzip { 5 } else { 0 };
        let footer = first + table.len() + blocks;
        for at in (first..first + table.len()).chain(footer..footer + 64) {
            let mut stored = written.stored.clone();
            stored[at] ^= 0x10;
            assert_eq!(codec.table(file(stored), encoding).unwrap(), None, "{encoding:?}: {at}");
        }
    }
}

#[test]
fn made_anew_by_others() {
    let home = GpgHome::new();
    let reader = || Codec::new(home.options(fixed("geheim")));
    for (options, encoding) in kinds() {
        let encoder = codec("geheim").encoder(options).unwrap();
        let written = write(&encoder, &text(100_000), &[], &text(2000));
        let decoded = decode(&codec("geheim"), &written.stored, encoding).unwrap();
        for compression in ["0", "1", "2"] {
            let path = home.path().join("decoded");
            std::fs::write(&path, &decoded).unwrap();
            let arguments = [
                "--passphrase",
                "geheim",
                "--s2k-count",
                "65536",
                "--compress-algo",
                compression,
                "--output",
                "-",
            ];
            let by_gpg =
                home.run(&[&arguments[..], &["--symmetric", path.to_str().unwrap()]].concat(), b"");
            assert_eq!(reader().table(file(by_gpg), Encoding::OpenPgp).unwrap(), None);
        }
        let mut by_gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut by_gzip, &decoded).unwrap();
        let by_gzip = by_gzip.finish().unwrap();
        assert_eq!(reader().table(file(by_gzip), Encoding::Gzip).unwrap(), None);
        if encoding != Encoding::Plain {
            assert_eq!(reader().table(file(decoded), Encoding::Plain).unwrap(), None);
        }
    }
}

/// A table does not pass for another file's, though both have the same session key.
#[test]
fn of_another_file() {
    let codec = codec("geheim");
    let encoder = codec.encoder(symmetric(None)).unwrap();
    let (one, two) = (
        write(&encoder, &text(3000), &[], b"table 1"),
        write(&encoder, &text(3000), &[], b"table 2"),
    );
    assert_eq!(one.start, two.start);
    let mixed = [&one.stored[..one.start as usize], &two.stored[two.start as usize..]].concat();
    assert_eq!(codec.table(file(mixed), Encoding::OpenPgp).unwrap(), None);
}

#[test]
fn keys_that_are_missing() {
    let encoder = codec("geheim").encoder(symmetric(Some(6))).unwrap();
    let written = write(&encoder, &text(3000), &[], b"table");
    let none = Codec::new(Options { passphrase: PassphraseSource::None, ..Options::default() });
    let error = none.table(file(&written.stored[..]), Encoding::OpenPgp).unwrap_err();
    assert!(matches!(error.cause, Cause::NoPassphrase), "{error}");
    let error = codec("falsch").table(file(&written.stored[..]), Encoding::OpenPgp).unwrap_err();
    assert!(matches!(error.cause, Cause::WrongPassphrase), "{error}");
}

#[test]
fn tables_of_every_size_around_the_borders() {
    let codec = codec("geheim");
    let mut random = Random(1);
    let noise: Vec<u8> = (0..140_000).map(|_| random.below(256) as u8).collect();
    for (options, encoding) in kinds() {
        let encoder = codec.encoder(options).unwrap();
        for border in [60_000usize, 65_535, 65_536, 60_000 + 32_768, 131_070] {
            for length in (border - 190..border + 80).step_by(9) {
                let written = write(&encoder, b"plain", &[], &noise[..length]);
                check_table(&codec, &written, encoding, b"plain", &noise[..length]);
            }
        }
        let written = encoder.create("made", Vec::new()).unwrap();
        assert!(written.finish_with_table(&vec![0; (64 << 20) + 1]).is_err());
    }
}

proptest! {
    #[test]
    fn garbage(bytes: Vec<u8>, at in 0..400usize, change: Vec<u8>) {
        let codec = codec("geheim");
        for (options, encoding) in kinds() {
            let _ = codec.table(file(bytes.clone()), encoding);
            let encoder = codec.encoder(options).unwrap();
            let mut stored = write(&encoder, &text(1000), &[], &text(100)).stored;
            let from = stored.len().saturating_sub(at);
            stored.iter_mut().skip(from).zip(&change).for_each(|(byte, change)| *byte = *change);
            stored.extend_from_slice(&bytes);
            if let Ok(Some(table)) = codec.table(file(stored), encoding) {
                prop_assert!(table.bytes == text(100));
            }
        }
    }
}
