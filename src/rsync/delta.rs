//! Deltas, read as they stream by.
//!
//! A delta is the magic number `72730236`, then commands. All numbers are unsigned and big-endian.
//!
//! | opcode | command |
//! |---|---|
//! | `00` | end; whatever follows is ignored |
//! | `01` to `40` | literal of 1 to 64 bytes, which follow |
//! | `41` to `44` | literal; its length follows in 1, 2, 4 or 8 bytes, then its bytes |
//! | `45` to `54` | copy: `45` + 4 a + b has an offset of 2^a bytes and a length of 2^b bytes |
//! | others | reserved |
//!
//! Literals and copies of length 0 are errors in librsync, and so is a delta without end. Whether a
//! copy lies inside the basis is for the caller to check: only it knows the basis.
//!
//! Source: librsync 2.3.2, prototab.h and rdiff; deltas in volumes of duplicity 0.8.22 and 3.2.1.

use super::scan::{LONGEST_BLOCK, Scan};
use super::{CheckedSignature, Error};
use std::io::{self, BufRead, Read};

const MAGIC: [u8; 4] = [0x72, 0x73, 0x02, 0x36];

/// Returns the delta that makes `new` of what `signature` was made of. `new` is read as the delta
/// is, each byte once, in order; the signature is held in memory, at some 30 bytes a block.
///
/// Signatures of another kind than [`SignatureWriter`](super::SignatureWriter) makes, or with
/// blocks of more than 16 MiB, are librsync's work.
///
/// # Errors
/// Those of reading the signature; while the delta is read, those of `new`.
pub fn delta<'a>(
    new: impl BufRead + Send + 'a,
    signature: &mut CheckedSignature<impl Read>,
) -> io::Result<impl Read + Send + 'a> {
    let form = signature.form();
    let delta: Box<dyn Read + Send + 'a> = if form.is_ours() && form.block <= LONGEST_BLOCK {
        Box::new(Scan::new(new, signature)?)
    } else {
        Box::new(librsync::Delta::with_buf_read(new, signature).map_err(|error| match error {
            librsync::Error::Io(error) => error,
            other => io::Error::new(
                io::ErrorKind::InvalidData,
                format!("librsync cannot take the signature: {other}"),
            ),
        })?)
    };
    Ok(delta)
}

/// One step in making new content. A long literal may come in several commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// Appends these bytes.
    Literal {
        /// The bytes; never none.
        bytes: &'a [u8],
        /// Where they start in the delta, in bytes from its first.
        offset: u64,
    },
    /// Appends a range of the basis.
    Copy {
        /// Where the range starts in the basis, in bytes.
        offset: u64,
        /// Its length in bytes; never 0, and offset + length never overflows.
        length: u64,
    },
}

/// Parses a delta that comes in slices cut anywhere.
#[derive(Debug)]
pub struct DeltaParser {
    state: ParserState,
    /// How much of the delta has been taken.
    offset: u64,
    /// How long the new content is so far.
    length: u64,
}

#[derive(Debug, Clone, Copy)]
enum ParserState {
    /// Inside the magic number, of which this many bytes are taken.
    Magic(usize),
    /// Before an opcode.
    Opcode,
    /// Inside a literal, of which this many bytes are missing.
    Literal(u64),
    /// Inside the numbers behind an opcode.
    Numbers(Numbers),
    /// Behind the end.
    End,
}

/// The numbers behind an opcode: an offset, if it is a copy, and a length.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    /// Bytes of offset and length that are missing.
    missing: (u8, u8),
    offset: u64,
    length: u64,
    copy: bool,
}

impl Default for DeltaParser {
    fn default() -> Self {
        Self::new()
    }
}

impl DeltaParser {
    /// Starts before the first byte of a delta.
    pub fn new() -> Self {
        Self { state: ParserState::Magic(0), offset: 0, length: 0 }
    }

    /// Returns how much of the delta has been taken, in bytes.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes of the delta and tells `sink` the commands in them, in order.
    ///
    /// # Errors
    /// [`Error`] where the bytes are no delta, or the new content's length overflows; whatever
    /// `sink` returns. After an error the parser is of no more use.
    pub fn feed<E: From<Error>>(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(Command<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some((&first, rest)) = bytes.split_first() {
            if let ParserState::Literal(missing) = self.state {
                let taken = usize::try_from(missing).unwrap_or(usize::MAX).min(bytes.len());
                let (literal, rest) = bytes.split_at(taken);
                sink(Command::Literal { bytes: literal, offset: self.offset })?;
                self.offset += taken as u64;
                let missing = missing - taken as u64;
                self.state =
                    if missing == 0 { ParserState::Opcode } else { ParserState::Literal(missing) };
                bytes = rest;
                continue;
            }
            if matches!(self.state, ParserState::End) {
                return Ok(());
            }
            if let Some((offset, length)) = self.take_byte(first)? {
                sink(Command::Copy { offset, length })?;
            }
            self.offset += 1;
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the delta and returns the length of the new content in bytes.
    ///
    /// # Errors
    /// [`Error`] if the delta has not come to its end.
    pub fn finish(self) -> Result<u64, Error> {
        match self.state {
            ParserState::End => Ok(self.length),
            _ => Err(self.error("it ends too early")),
        }
    }

    /// Takes a byte that belongs to no literal; returns offset and length of the copy that it
    /// completes, if it does.
    fn take_byte(&mut self, byte: u8) -> Result<Option<(u64, u64)>, Error> {
        match self.state {
            ParserState::Magic(taken) => {
                if MAGIC.get(taken) != Some(&byte) {
                    return Err(self.error("no magic number of a delta"));
                }
                self.state = if taken + 1 == MAGIC.len() {
                    ParserState::Opcode
                } else {
                    ParserState::Magic(taken + 1)
                };
            }
            ParserState::Opcode => match byte {
                0 => self.state = ParserState::End,
                0x01..=0x40 => self.begin_literal(byte.into())?,
                0x41..=0x44 => {
                    self.state = ParserState::Numbers(Numbers::behind(0, 1 << (byte - 0x41), false))
                }
                0x45..=0x54 => {
                    let (a, b) = ((byte - 0x45) / 4, (byte - 0x45) % 4);
                    self.state = ParserState::Numbers(Numbers::behind(1 << a, 1 << b, true));
                }
                _ => return Err(self.error("reserved opcode")),
            },
            ParserState::Numbers(mut numbers) => {
                numbers.take_byte(byte);
                self.state = ParserState::Numbers(numbers);
                if numbers.missing == (0, 0) {
                    return self.end_numbers(numbers);
                }
            }
            ParserState::Literal(_) | ParserState::End => {}
        }
        Ok(None)
    }

    fn end_numbers(&mut self, numbers: Numbers) -> Result<Option<(u64, u64)>, Error> {
        let Numbers { offset, length, copy, .. } = numbers;
        if !copy {
            return self.begin_literal(length).map(|()| None);
        }
        self.count(length)?;
        if offset.checked_add(length).is_none() {
            return Err(self.error("a copy ends beyond all files"));
        }
        self.state = ParserState::Opcode;
        Ok(Some((offset, length)))
    }

    fn begin_literal(&mut self, length: u64) -> Result<(), Error> {
        self.count(length)?;
        self.state = ParserState::Literal(length);
        Ok(())
    }

    /// Adds to the length of the new content.
    fn count(&mut self, length: u64) -> Result<(), Error> {
        if length == 0 {
            return Err(self.error("a command of length 0"));
        }
        self.length = self
            .length
            .checked_add(length)
            .ok_or_else(|| self.error("the new content is longer than any file"))?;
        Ok(())
    }

    fn error(&self, cause: &'static str) -> Error {
        Error { what: "delta", offset: self.offset, cause }
    }
}

impl Numbers {
    fn behind(offset_bytes: u8, length_bytes: u8, copy: bool) -> Self {
        Self { missing: (offset_bytes, length_bytes), offset: 0, length: 0, copy }
    }

    fn take_byte(&mut self, byte: u8) {
        let (missing, number) = match self.missing {
            (0, _) => (&mut self.missing.1, &mut self.length),
            _ => (&mut self.missing.0, &mut self.offset),
        };
        *number = *number << 8 | u64::from(byte);
        *missing -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Cursor, Read};

    /// Applies a delta that comes in slices of `cut` bytes.
    fn patch(basis: &[u8], delta: &[u8], cut: usize) -> Result<Vec<u8>, Error> {
        let mut parser = DeltaParser::new();
        let mut new = Vec::new();
        for slice in delta.chunks(cut) {
            parser.feed(slice, |command| {
                match command {
                    Command::Literal { bytes, offset } => {
                        assert_eq!(
                            &delta[offset as usize..][..bytes.len()],
                            bytes,
                            "offsets are those in the delta"
                        );
                        new.extend_from_slice(bytes);
                    }
                    Command::Copy { offset, length } => {
                        let range = offset as usize..(offset + length) as usize;
                        new.extend_from_slice(basis.get(range).ok_or(Error {
                            what: "delta",
                            offset,
                            cause: "beyond the basis",
                        })?);
                    }
                }
                Ok::<(), Error>(())
            })?;
        }
        assert_eq!(parser.finish()?, new.len() as u64);
        Ok(new)
    }

    fn with_magic(commands: &[u8]) -> Vec<u8> {
        [&MAGIC, commands].concat()
    }

    #[test]
    fn deltas_of_duplicity() {
        let basis: Vec<u8> = (0..3000).map(|n| (n % 251) as u8).collect();
        let literal = [7; 512];
        let long =
            [&b"\x46\x00\x02\x00\x42\x02\x00"[..], &literal, b"\x4a\x04\x00\x07\xb8\x00"].concat();
        let cases: [(&[u8], Vec<u8>); 4] = [
            (b"\x46\x00\x0b\xb8\x00", basis.clone()),
            (b"\x00", vec![]),
            (b"\x0fnow has content\x00", b"now has content".to_vec()),
            (&long, [&basis[..512], &literal, &basis[1024..3000]].concat()),
        ];
        for (commands, expected) in cases {
            for cut in [1, 2, 3, 7, 4096] {
                assert_eq!(patch(&basis, &with_magic(commands), cut).as_ref(), Ok(&expected));
            }
        }
    }

    #[test]
    fn every_width_of_number() {
        let basis: Vec<u8> = (0..=255).collect();
        for (a, offset_bytes) in [1, 2, 4, 8].into_iter().enumerate() {
            for (b, length_bytes) in [1, 2, 4, 8].into_iter().enumerate() {
                let mut commands = vec![0x45 + 4 * a as u8 + b as u8];
                commands.extend_from_slice(&100u64.to_be_bytes()[8 - offset_bytes..]);
                commands.extend_from_slice(&50u64.to_be_bytes()[8 - length_bytes..]);
                commands.push(0);
                assert_eq!(patch(&basis, &with_magic(&commands), 3).unwrap(), &basis[100..150]);
            }
            let commands =
                [&[0x41 + a as u8][..], &3u64.to_be_bytes()[8 - offset_bytes..], b"abc\0"].concat();
            assert_eq!(patch(&basis, &with_magic(&commands), 3).unwrap(), b"abc");
        }
    }

    #[test]
    fn what_follows_the_end_is_ignored() {
        for cut in [1, 100] {
            assert_eq!(patch(b"", &with_magic(b"\x01a\x00\xff\xff\x41"), cut).unwrap(), b"a");
        }
    }

    #[test]
    fn what_librsync_refuses_is_refused() {
        let most = u64::MAX.to_be_bytes();
        let huge_twice = [&b"\x48\x00"[..], &most, b"\x48\x00", &most].concat();
        let far = [&b"\x51"[..], &most, b"\x01\x00"].concat();
        for (commands, offset, cause) in [
            (&b"\x55"[..], 4, "reserved opcode"),
            (b"\xff", 4, "reserved opcode"),
            (b"\x41\x00", 5, "a command of length 0"),
            (b"\x45\x00\x00\x00", 6, "a command of length 0"),
            (b"\x01a", 6, "it ends too early"),
            (b"\x02a", 6, "it ends too early"),
            (b"\x46\x00\x0b", 7, "it ends too early"),
            (b"", 4, "it ends too early"),
            (&far, 13, "a copy ends beyond all files"),
        ] {
            assert_eq!(
                patch(b"", &with_magic(commands), 1),
                Err(Error { what: "delta", offset, cause }),
                "{commands:?}"
            );
        }
        let mut parser = DeltaParser::new();
        let result = parser.feed(&with_magic(&huge_twice), |_| Ok::<(), Error>(()));
        assert_eq!(result.unwrap_err().cause, "the new content is longer than any file");
        assert_eq!(
            patch(b"", b"rs\x01\x36\0", 1),
            Err(Error { what: "delta", offset: 2, cause: "no magic number of a delta" })
        );
        assert_eq!(
            patch(b"", b"", 1),
            Err(Error { what: "delta", offset: 0, cause: "it ends too early" })
        );
    }

    #[test]
    fn the_sink_can_stop() {
        let stop = Error { what: "delta", offset: 99, cause: "enough" };
        let result = DeltaParser::new().feed(&with_magic(b"\x01a\x00"), |_| Err(stop.clone()));
        assert_eq!(result, Err(stop));
    }

    /// Contents of some hundred kilobytes that share parts.
    fn related() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let piece = (any::<u8>(), 0usize..40_000, any::<bool>());
        prop::collection::vec(piece, 0..8).prop_map(|pieces| {
            let (mut old, mut new) = (Vec::new(), Vec::new());
            let mut state = 1u32;
            for (seed, length, changed) in pieces {
                let bytes: Vec<u8> = (0..length)
                    .map(|_| {
                        state = state
                            .wrapping_mul(1_664_525)
                            .wrapping_add(u32::from(seed) + 1_013_904_223);
                        (state >> 24) as u8
                    })
                    .collect();
                if changed {
                    new.extend(bytes.iter().rev());
                    old.extend(&bytes[..length / 2]);
                } else {
                    old.extend(&bytes);
                    // What comes later in the new content may come earlier in the old one.
                    new.splice(0..0, bytes);
                }
            }
            (old, new)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn applies_deltas_like_librsync((old, new) in related(), cut in 1usize..70_000) {
            let mut signature = Vec::new();
            librsync::Signature::with_options(Cursor::new(&old), 512, 8, librsync::SignatureType::MD4)
                .unwrap()
                .read_to_end(&mut signature)
                .unwrap();
            let mut delta = Vec::new();
            librsync::Delta::new(Cursor::new(&new), &mut Cursor::new(&signature)).unwrap().read_to_end(&mut delta).unwrap();
            let mut theirs = Vec::new();
            librsync::Patch::new(Cursor::new(&old), Cursor::new(&delta)).unwrap().read_to_end(&mut theirs).unwrap();
            prop_assert_eq!(&theirs, &new);
            prop_assert!(patch(&old, &delta, cut).unwrap() == new);
        }

        #[test]
        fn any_bytes_are_a_delta_or_an_error(commands in prop::collection::vec(any::<u8>(), 0..60), cut in 1usize..9) {
            let delta = with_magic(&commands);
            let outcome = |cut| {
                let mut parser = DeltaParser::new();
                delta.chunks(cut).try_for_each(|slice| parser.feed(slice, |_| Ok::<(), Error>(()))).and_then(|()| parser.finish())
            };
            prop_assert_eq!(outcome(cut), outcome(100), "cuts make no difference");
        }
    }
}
