//! Tar headers as duplicity on Python 3.8 and later writes them: POSIX ustar, with a pax extended
//! header in front where a value does not fit.
//!
//! A name that is longer than its field or not ASCII stands in a pax record, byte for byte; if it
//! is not UTF-8 either, the records begin with `hdrcharset=BINARY`. The field itself then holds
//! what fits of it, with `?` for each character that is not ASCII. Numbers that do not fit stand in
//! a record, and 0 in the field. The `prefix` field is never used, and the data of an entry is
//! filled up to whole blocks with zeros ([`padding`]).
//!
//! Source: headers in volumes of duplicity 0.8.22 and 3.2.1 on Python 3.11, compared byte by byte.

use super::TarHeader;

/// Size of a tar block, in bytes.
pub const BLOCK: usize = 512;

/// Returns how many zeros follow `size` bytes of data.
pub fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

impl TarHeader {
    /// Appends the header, and the pax header in front of it that it may need. `data_offset` means
    /// nothing here; a negative time is written as 0.
    pub fn print(&self, out: &mut Vec<u8>) {
        let mut records = Records::default();
        let mut block = [0; BLOCK];
        let mtime = self.mtime.max(0) as u64;
        records.text(&mut block[0..100], "path", &self.name);
        octal(&mut block[100..108], u64::from(self.mode & 0o7777));
        records.text(&mut block[157..257], "linkpath", &self.link);
        records.text(&mut block[265..297], "uname", &self.user);
        records.text(&mut block[297..329], "gname", &self.group);
        records.number(&mut block[108..116], "uid", self.uid.into());
        records.number(&mut block[116..124], "gid", self.gid.into());
        records.number(&mut block[124..136], "size", self.size);
        records.number(&mut block[136..148], "mtime", mtime);
        block[156] = self.typeflag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        if matches!(self.typeflag, b'3' | b'4') {
            octal(&mut block[329..337], self.major.into());
            octal(&mut block[337..345], self.minor.into());
        }
        records.print(out);
        finish(&mut block, out);
    }
}

/// Writes octal digits and a NUL.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    for (place, byte) in field[..digits].iter_mut().rev().enumerate() {
        *byte = b'0' + (value >> (3 * place) & 7) as u8;
    }
    field[digits] = 0;
}

/// Sets magic number and checksum, and appends the block.
fn finish(block: &mut [u8; BLOCK], out: &mut Vec<u8>) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    // Six digits, NUL, space.
    octal(&mut block[148..155], sum.into());
    out.extend_from_slice(block);
}

/// The records of a pax header.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    /// A value is not UTF-8.
    binary: bool,
}

impl Records {
    /// Writes a text to its field, and to a record if it does not fit there.
    fn text(&mut self, field: &mut [u8], key: &str, text: &[u8]) {
        if text.is_ascii() {
            let length = text.len().min(field.len());
            field[..length].copy_from_slice(&text[..length]);
            if text.len() <= field.len() {
                return;
            }
        } else {
            let characters = text.utf8_chunks().flat_map(|chunk| {
                let valid =
                    chunk.valid().chars().map(|c| if c.is_ascii() { c as u8 } else { b'?' });
                valid.chain(chunk.invalid().iter().map(|_| b'?'))
            });
            field.iter_mut().zip(characters).for_each(|(byte, character)| *byte = character);
            self.binary |= std::str::from_utf8(text).is_err();
        }
        self.record(key, text);
    }

    /// Writes a number to its field, or to a record and 0 to the field.
    fn number(&mut self, field: &mut [u8], key: &str, value: u64) {
        let fits = value >> (3 * (field.len() - 1)) == 0;
        octal(field, if fits { value } else { 0 });
        if !fits {
            self.record(key, value.to_string().as_bytes());
        }
    }

    /// Appends `LENGTH key=value\n`, LENGTH counting all of it.
    fn record(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let digits = |length: usize| length.to_string().len();
        let mut length = rest + digits(rest);
        length = rest + digits(length);
        self.bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.push(b'\n');
    }

    fn print(self, out: &mut Vec<u8>) {
        const BINARY: &[u8] = b"21 hdrcharset=BINARY\n";
        if self.bytes.is_empty() {
            return;
        }
        let charset = if self.binary { BINARY } else { &[] };
        let size = (charset.len() + self.bytes.len()) as u64;
        let mut block = [0; BLOCK];
        block[..17].copy_from_slice(b"././@PaxHeader\0\0\0");
        for field in [100..108, 108..116, 116..124, 136..148] {
            octal(&mut block[field], 0);
        }
        octal(&mut block[124..136], size);
        block[156] = b'x';
        block[257..265].copy_from_slice(b"ustar\x0000");
        finish(&mut block, out);
        out.extend_from_slice(charset);
        out.extend_from_slice(&self.bytes);
        out.resize(out.len() + padding(size), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::TarReader;
    use proptest::prelude::*;

    fn printed(header: &TarHeader) -> Vec<u8> {
        let mut out = Vec::new();
        header.print(&mut out);
        out
    }

    fn header(name: &[u8]) -> TarHeader {
        TarHeader {
            name: name.to_vec(),
            typeflag: b'0',
            mode: 0o644,
            size: 12,
            mtime: 0o15300601314,
            user: b"root".to_vec(),
            ..TarHeader::default()
        }
    }

    #[test]
    fn plain_headers_as_in_a_volume() {
        let out = printed(&header(b"snapshot/a.txt"));
        assert_eq!(out.len(), BLOCK);
        assert_eq!(&out[..15], b"snapshot/a.txt\0");
        assert_eq!(&out[100..136], b"0000644\x000000000\x000000000\x0000000000014\0");
        assert_eq!(&out[136..148], b"15300601314\0");
        assert_eq!(&out[257..270], b"ustar\x0000root\0");
        assert_eq!(out[329..345], [0; 16]);
        assert_eq!(&out[154..157], b"\0 0");
    }

    #[test]
    fn pax_records_as_in_a_volume() {
        let out = printed(&header(b"snapshot/bad\xff\xfename"));
        assert!(out.starts_with(b"././@PaxHeader\0"));
        assert_eq!(
            &out[512..560],
            b"21 hdrcharset=BINARY\n27 path=snapshot/bad\xff\xfename\n".as_slice()
        );
        assert_eq!(&out[1024..1046], b"snapshot/bad??name\0\0\0\0");
        let out = printed(&header("snapshot/na\u{ef}ve.txt".as_bytes()));
        assert_eq!(&out[512..541], "28 path=snapshot/na\u{ef}ve.txt\n\0".as_bytes());
        assert_eq!(&out[1024..1043], b"snapshot/na?ve.txt\0");
    }

    proptest! {
        /// Our reader and the crate `tar` both find what was printed.
        #[test]
        fn what_is_printed_is_read(
            name in prop::collection::vec(1u8..255, 1..300), link in prop::collection::vec(1u8..255, 0..300), user in "[a-z\u{e9}]{0,40}",
            (uid, gid) in any::<(u32, u32)>(), mode in 0u16..0o10000, mtime in 0i64..1 << 40, typeflag in prop::sample::select(b"02346".to_vec()), devices in (0u32..1 << 20, 0u32..1 << 20), line_ends in prop::bool::weighted(0.3),
        ) {
            let [name, link] = [name, link].map(|text| text.into_iter().map(|byte| if byte == b'\n' && !line_ends { b'n' } else { byte }).collect());
            let device = matches!(typeflag, b'3' | b'4');
            let (major, minor) = if device { devices } else { (0, 0) };
            let header = TarHeader { name, link, user: user.into_bytes(), uid, gid, mode, mtime, typeflag, major, minor, ..TarHeader::default() };
            let out = printed(&header);
            let mut reader = TarReader::new(&out[..]);
            let read = reader.next().unwrap().unwrap();
            prop_assert_eq!(&TarHeader { data_offset: 0, ..read }, &header);
            // That crate splits records at line ends, whatever length they state.
            if line_ends {
                return Ok(());
            }
            let mut archive = tar::Archive::new(&out[..]);
            let entry = archive.entries().unwrap().next().unwrap().unwrap();
            prop_assert_eq!(&entry.path_bytes()[..], &header.name[..]);
            prop_assert_eq!(entry.header().mtime().unwrap() as i64, if mtime >> 33 == 0 { mtime } else { 0 });
        }
    }
}
