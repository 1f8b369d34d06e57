//! Tar headers in the dialects that duplicity reads and writes, from a stream, at memory speed.
//!
//! Python 3.8 and later write POSIX ustar headers, with a pax extended header (`x`) in front where
//! a value does not fit; earlier ones wrote GNU tar: long names in `L` and `K` entries, large and
//! negative numbers in base 256. Both are read. Names are the stored bytes, untouched: after
//! `hdrcharset=BINARY` as without it, pax `path` holds the file name's own bytes.
//!
//! The type flag is never derived from a name: duplicity stores a source that is a single file as
//! the *regular* entry `snapshot/`.
//!
//! The end is the first block of zeros (there may be only one, and garbage after it) or the end of
//! the stream where a header could start (duplicity 0.8.22 writes gzip and plain volumes without
//! zeros, so the tar of an empty increment has 0 bytes).

use super::{ByteSource, Error, ReadError};
use std::ffi::CStr;
use std::ops::Range;

/// Size of a tar block, in bytes.
const BLOCK: usize = 512;
/// How much is read at once; a multiple of [`BLOCK`]. Small enough for a second-level cache.
const BUFFER: usize = 128 * 1024;
/// The longest pax header or GNU long name that is held in memory, in bytes. Paths are at most some
/// thousand bytes long.
const LONGEST_META: u64 = 1 << 20;

/// One tar entry's header, with what pax and GNU headers before it said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TarHeader {
    /// Name as stored.
    pub name: Vec<u8>,
    /// Type as stored: `b'0'` (or NUL, or `b'7'`) for regular, `b'5'` for directories, and so on.
    pub typeflag: u8,
    /// The 12 permission bits.
    pub mode: u16,
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// User name; may be empty.
    pub user: Vec<u8>,
    /// Group name; may be empty.
    pub group: Vec<u8>,
    /// Modification time in seconds since 1970 UTC; fractions are rounded down.
    pub mtime: i64,
    /// Bytes of data that follow the header; 0 for types that have none.
    pub size: u64,
    /// Target of a symbolic link.
    pub link: Vec<u8>,
    /// Major number of a device.
    pub major: u32,
    /// Minor number of a device.
    pub minor: u32,
    /// Where the data starts in the plain tar, in bytes.
    pub data_offset: u64,
}

impl TarHeader {
    /// Returns whether the type is regular: the old NUL and the "contiguous" `7` count too.
    pub fn is_regular(&self) -> bool {
        matches!(self.typeflag, 0 | b'0' | b'7')
    }
}

/// Reads a tar from a stream: headers by [`next`](Self::next), the data of each by
/// [`chunk`](Self::chunk).
pub struct TarReader<R> {
    source: R,
    buffer: Box<[u8]>,
    /// The part of `buffer` that is read from the source and not yet handed out.
    ready: Range<usize>,
    /// Position of `ready.start` in the tar.
    offset: u64,
    /// Bytes of the current entry's data that have not been handed out.
    data_left: u64,
    /// Bytes between the end of that data and the next header.
    padding: u64,
    ended: bool,
}

impl<R: ByteSource<Error: std::error::Error + 'static>> TarReader<R> {
    /// Starts at the beginning of a tar; nothing is read yet.
    pub fn new(source: R) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { source, buffer, ready: 0..0, offset: 0, data_left: 0, padding: 0, ended: false }
    }

    /// Returns how many bytes of the plain tar have been handed out or skipped.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Skips what is left of the current entry and returns the next one's header; `None` at the
    /// end, and ever after.
    ///
    /// # Errors
    /// [`Error::Tar`] where the bytes are no header, or the stream ends inside a header or inside
    /// data; [`ReadError::Source`] when the source fails.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator could not lend the data in between"
    )]
    pub fn next(&mut self) -> Result<Option<TarHeader>, ReadError<R::Error>> {
        self.skip()?;
        let mut extended = Extended::default();
        while let Some(at) = self.header_block()? {
            let block = &self.buffer[at..at + BLOCK];
            let start = self.offset - BLOCK as u64;
            let cause = |cause| Error::Tar { offset: start, cause };
            let (typeflag, size) = (block[156], number(&block[124..136]).map_err(cause)?);
            let size = u64::try_from(size).map_err(|_| cause("negative size"))?;
            match typeflag {
                b'x' => {
                    let records = self.meta(size)?;
                    extended.take_pax(&records).map_err(cause)?;
                }
                b'L' => extended.long_name = Some(until_nul(&self.meta(size)?).to_vec()),
                b'K' => extended.long_link = Some(until_nul(&self.meta(size)?).to_vec()),
                b'g' => {
                    self.expect_data(size).map_err(cause)?;
                    self.skip()?;
                }
                _ => {
                    let header = extended.header(block, size, self.offset).map_err(cause)?;
                    self.expect_data(header.size).map_err(cause)?;
                    return Ok(Some(header));
                }
            }
            extended.pending |= typeflag != b'g';
        }
        match extended.pending {
            true => Err(self.broken("ends after an extended header")),
            false => Ok(None),
        }
    }

    /// Returns the stream below, read at least up to the end of the tar.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// Returns the next part of the current entry's data, at most 128 KiB; `None` when all of it
    /// has been returned.
    ///
    /// # Errors
    /// [`Error::Tar`] if the stream ends inside the data; [`ReadError::Source`] when the source
    /// fails.
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, ReadError<R::Error>> {
        if self.data_left == 0 {
            return Ok(None);
        }
        if self.ready.is_empty() {
            self.fill(1)?;
        }
        if self.ready.is_empty() {
            return Err(self.broken("ends inside data"));
        }
        let taken = self.take(self.data_left);
        self.data_left -= taken.len() as u64;
        Ok(Some(&self.buffer[taken]))
    }

    /// Takes up to `limit` bytes that are ready.
    fn take(&mut self, limit: u64) -> Range<usize> {
        let length = usize::try_from(limit).unwrap_or(usize::MAX).min(self.ready.len());
        let start = self.ready.start;
        self.ready.start += length;
        self.offset += length as u64;
        start..start + length
    }

    /// Makes at least `wanted` bytes ready unless the stream ends before.
    fn fill(&mut self, wanted: usize) -> Result<(), ReadError<R::Error>> {
        if self.ready.len() >= wanted {
            return Ok(());
        }
        self.buffer.copy_within(self.ready.clone(), 0);
        self.ready = 0..self.ready.len();
        while self.ready.len() < wanted {
            let free = &mut self.buffer[self.ready.end..];
            match self.source.read_bytes(free).map_err(ReadError::Source)? {
                0 => return Ok(()),
                length => self.ready.end += length,
            }
        }
        Ok(())
    }

    /// Skips what is left of data and padding.
    fn skip(&mut self) -> Result<(), ReadError<R::Error>> {
        while self.chunk()?.is_some() {}
        while self.padding > 0 {
            self.fill(1)?;
            let taken = self.take(self.padding).len() as u64;
            if taken == 0 {
                return Err(self.broken("ends inside padding"));
            }
            self.padding -= taken;
        }
        Ok(())
    }

    /// Takes the next header block and returns where in the buffer it is; `None` at the end of the
    /// tar.
    fn header_block(&mut self) -> Result<Option<usize>, ReadError<R::Error>> {
        if !self.ended {
            self.fill(BLOCK)?;
        }
        if self.ended || self.ready.is_empty() {
            self.ended = true;
            return Ok(None);
        }
        if self.ready.len() < BLOCK {
            return Err(self.broken("ends inside a header"));
        }
        let block = &self.buffer[self.ready.start..self.ready.start + BLOCK];
        let sum = sum_of(block);
        if sum == 0 {
            self.ended = true;
            return Ok(None);
        }
        // The sum counts its own field as eight blanks. Some ancient writers added up signed bytes.
        let sum = i64::from(sum - sum_of(&block[148..156]) + 8 * u32::from(b' '));
        let signed = || sum - 256 * block.iter().filter(|&&b| b >= 0x80).count() as i64;
        let stated =
            number(&block[148..156]).map_err(|cause| Error::Tar { offset: self.offset, cause })?;
        if stated != sum && stated != signed() {
            return Err(self.broken("header checksum is wrong"));
        }
        Ok(Some(self.take(BLOCK as u64).start))
    }

    /// Says that `size` bytes of data and their padding follow.
    fn expect_data(&mut self, size: u64) -> Result<(), &'static str> {
        if size > i64::MAX as u64 - self.offset {
            return Err("size is too large");
        }
        self.data_left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// Returns the whole data of an entry that describes the next one.
    fn meta(&mut self, size: u64) -> Result<Vec<u8>, ReadError<R::Error>> {
        if size > LONGEST_META {
            return Err(self.broken("extended header is longer than 1 MiB"));
        }
        self.expect_data(size).map_err(|cause| self.broken(cause))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk()? {
            bytes.extend_from_slice(chunk);
        }
        self.skip()?;
        Ok(bytes)
    }

    fn broken(&self, cause: &'static str) -> ReadError<R::Error> {
        Error::Tar { offset: self.offset, cause }.into()
    }
}

/// What pax and GNU headers say of the entry that follows them.
#[derive(Default)]
struct Extended {
    pending: bool,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    mtime: Option<i64>,
}

impl Extended {
    /// Takes pax records, `LENGTH key=value\n` each, LENGTH counting all of it. An empty value
    /// takes a record back.
    ///
    /// Source: POSIX.1-2017, pax, "pax Extended Header".
    fn take_pax(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        const BROKEN: &str = "pax record is malformed";
        // Some writers count the padding as part of the records.
        while !records.is_empty() && records.iter().any(|&b| b != 0) {
            let blank = records.iter().position(|&b| b == b' ').ok_or(BROKEN)?;
            let length = decimal(&records[..blank])
                .and_then(|length| usize::try_from(length).ok())
                .ok_or(BROKEN)?;
            let record = records
                .get(blank + 1..length)
                .and_then(|record| record.strip_suffix(b"\n"))
                .ok_or(BROKEN)?;
            let equals = record.iter().position(|&b| b == b'=').ok_or(BROKEN)?;
            self.take_record(&record[..equals], &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(())
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const BROKEN: &str = "number in pax record is malformed";
        let bytes = (!value.is_empty()).then(|| value.to_vec());
        let number = || match value.is_empty() {
            true => Ok(None),
            false => decimal(value).map(Some).ok_or(BROKEN),
        };
        let id = || {
            number()?
                .map(u32::try_from)
                .transpose()
                .map_err(|_| "owner number in pax record is too large")
        };
        match key {
            b"path" => self.path = bytes,
            b"linkpath" => self.link = bytes,
            b"uname" => self.user = bytes,
            b"gname" => self.group = bytes,
            b"uid" => self.uid = id()?,
            b"gid" => self.gid = id()?,
            b"size" => self.size = number()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(whole_seconds(value).ok_or(BROKEN)?),
            _ => {}
        }
        Ok(())
    }

    /// Joins these with the entry's own header block, whose data starts at `data_offset`.
    fn header(self, block: &[u8], size: u64, data_offset: u64) -> Result<TarHeader, &'static str> {
        let text = |field: Range<usize>| until_nul(&block[field]).to_vec();
        let id = |field: Range<usize>| match number(&block[field])? {
            id @ 0..=0xffff_ffff => Ok(id as u32),
            // Writers with signed numbers stored 4294967294, the owner "nobody" of some systems, as
            // -2.
            id @ -0x8000_0000..0 => Ok(id as i32 as u32),
            _ => Err("owner or device number is too large"),
        };
        let typeflag = block[156];
        let device = matches!(typeflag, b'3' | b'4');
        let has_data = !matches!(typeflag, b'1'..=b'6');
        Ok(TarHeader {
            name: self.path.or(self.long_name).unwrap_or_else(|| short_name(block)),
            typeflag,
            mode: (number(&block[100..108])? & 0o7777) as u16,
            uid: self.uid.map_or_else(|| id(108..116), Ok)?,
            gid: self.gid.map_or_else(|| id(116..124), Ok)?,
            user: self.user.unwrap_or_else(|| text(265..297)),
            group: self.group.unwrap_or_else(|| text(297..329)),
            mtime: self.mtime.map_or_else(|| number(&block[136..148]), Ok)?,
            size: if has_data { self.size.unwrap_or(size) } else { 0 },
            link: self.link.or(self.long_link).unwrap_or_else(|| text(157..257)),
            major: if device { id(329..337)? } else { 0 },
            minor: if device { id(337..345)? } else { 0 },
            data_offset,
        })
    }
}

/// Returns the name in a header block, after the `prefix` field that POSIX writers other than
/// duplicity split long names with.
fn short_name(block: &[u8]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    let prefix = until_nul(&block[345..500]);
    match &block[257..263] == b"ustar\0" && !prefix.is_empty() {
        true => [prefix, b"/", name].concat(),
        false => name.to_vec(),
    }
}

/// Adds up at most 512 bytes, whole words of them: eight at once, as four 16-bit sums that cannot
/// overflow (64 * 2 * 255 < 2^16).
fn sum_of(bytes: &[u8]) -> u32 {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let (words, _) = bytes.as_chunks::<8>();
    let sums = words
        .iter()
        .map(|&word| u64::from_le_bytes(word))
        .fold(0, |sums, word| sums + (word & EVEN) + (word >> 8 & EVEN));
    (0..4).map(|lane| (sums >> (16 * lane) & 0xffff) as u32).sum()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes)
}

/// Parses a number field: octal digits between blanks and NULs, all blank for 0, or base 256 if the
/// first bit is set: two's complement without that bit.
///
/// Source: GNU tar manual, "Basic Tar Format"; POSIX.1-2017, "ustar Interchange Format".
fn number(field: &[u8]) -> Result<i64, &'static str> {
    if field[0] & 0x80 != 0 {
        let sign = if field[0] & 0x40 != 0 { -1 } else { 0 };
        let first = (sign << 6) | i128::from(field[0] & 0x3f);
        let value = field[1..].iter().fold(first, |value, &b| (value << 8) | i128::from(b));
        return i64::try_from(value).map_err(|_| "number is too large");
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|&b| b == 0 || b == b' ').unwrap_or(digits.len());
    let mut value = 0;
    for &digit in &digits[..end] {
        match digit {
            b'0'..=b'7' => value = value << 3 | i64::from(digit - b'0'),
            _ => return Err("number is malformed"),
        }
    }
    Ok(value)
}

/// Parses decimal digits, nothing else.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Parses a time like `-1700000000.25`, rounded down to whole seconds.
fn whole_seconds(text: &[u8]) -> Option<i64> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let point = text.iter().position(|&b| b == b'.').unwrap_or(text.len());
    let fraction = text.get(point + 1..).unwrap_or(b"");
    let whole = i64::try_from(decimal(&text[..point])?).ok()?;
    match fraction.iter().all(u8::is_ascii_digit) {
        false => None,
        true if negative => Some(-whole - i64::from(fraction.iter().any(|&b| b != b'0'))),
        true => Some(whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{self, Cursor, Read};

    /// Hands out one byte, two, three ... at a time, so that headers and data are cut everywhere.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 % 700 + 1;
            let length = self.1.min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    fn read_all(source: impl Read) -> Result<Vec<(TarHeader, Vec<u8>)>, ReadError<io::Error>> {
        let mut reader = TarReader::new(source);
        let mut entries = Vec::new();
        while let Some(header) = reader.next()? {
            assert_eq!(reader.offset(), header.data_offset);
            let mut data = Vec::new();
            while let Some(chunk) = reader.chunk()? {
                data.extend_from_slice(chunk);
            }
            entries.push((header, data));
        }
        assert!(reader.next()?.is_none(), "the end stays the end");
        Ok(entries)
    }

    fn only(tar: &[u8]) -> TarHeader {
        let mut entries = read_all(tar).unwrap();
        assert_eq!(entries.len(), 1);
        entries.remove(0).0
    }

    fn gnu_header(typeflag: u8, name: &[u8], size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(tar::EntryType::new(typeflag));
        header.set_size(size);
        header.set_mtime(7);
        header.set_mode(0o100644);
        header.set_uid(1);
        header.set_gid(2);
        header.set_cksum();
        header
    }

    /// Appends header and data as one entry.
    fn append(tar: &mut Vec<u8>, header: &tar::Header, data: &[u8]) {
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(data);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }

    fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (rest + 1..).find(|length| length.to_string().len() + rest == *length).unwrap();
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        let mut tar = Vec::new();
        append(&mut tar, &gnu_header(b'x', b"././@PaxHeader", body.len() as u64), &body);
        tar
    }

    fn with_pax(records: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = pax(records);
        append(&mut tar, &gnu_header(b'0', b"snapshot/short", 0), b"");
        tar
    }

    fn error_of(tar: &[u8]) -> String {
        read_all(tar).unwrap_err().to_string()
    }

    #[test]
    fn header_as_duplicity_writes_it() {
        // First entry of a volume of duplicity 0.8.22: a 12-byte file.
        let mut block = [0u8; BLOCK];
        for (at, text) in [
            (0, &b"snapshot/a.txt"[..]),
            (100, b"0000644\x000000000\x000000000\x0000000000014\x0015300601314\x00"),
            (156, b"0"),
            (257, b"ustar\x0000root"),
            (297, b"root"),
        ] {
            block[at..at + text.len()].copy_from_slice(text);
        }
        let sum = block.iter().map(|&b| u32::from(b)).sum::<u32>() + 8 * 32;
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut tar = block.to_vec();
        tar.extend_from_slice(b"hello world\n");
        tar.resize(1024, 0);

        let (header, data) = read_all(&tar[..]).unwrap().remove(0);
        assert_eq!(data, b"hello world\n");
        let expected = TarHeader {
            name: b"snapshot/a.txt".to_vec(),
            typeflag: b'0',
            mode: 0o644,
            user: b"root".to_vec(),
            group: b"root".to_vec(),
            mtime: 0o15300601314,
            size: 12,
            data_offset: 512,
            ..TarHeader::default()
        };
        assert_eq!(header, expected);
    }

    #[test]
    fn ends_are_taken_as_duplicity_writes_them() {
        let mut tar = Vec::new();
        append(&mut tar, &gnu_header(b'0', b"snapshot/a", 3), b"abc");
        for end in [
            &b""[..],
            &[0; 512],
            &[0; 10240],
            &[&[0; 512][..], b"\x8c\x0d\x04\x09garbage"].concat(),
        ] {
            let tar = [&tar[..], end].concat();
            assert_eq!(read_all(&tar[..]).unwrap().len(), 1);
        }
        assert_eq!(read_all(&b""[..]).unwrap().len(), 0);
    }

    #[test]
    fn truncation_is_an_error_everywhere() {
        let tar = with_pax(&[("path", b"snapshot/long")]);
        let mut tar = tar;
        append(&mut tar, &gnu_header(b'0', b"snapshot/a", 700), &[1; 700]);
        // Cuts before each entry are clean ends.
        let clean = [0, 1536];
        for length in (0..tar.len()).filter(|length| !clean.contains(length)) {
            assert!(read_all(&tar[..length]).is_err(), "{length}");
        }
        assert_eq!(
            error_of(&tar[..1024]),
            "cannot parse tar at byte 1024: ends after an extended header"
        );
        assert_eq!(error_of(&tar[..1000]), "cannot parse tar at byte 1000: ends inside padding");
        assert_eq!(error_of(&tar[..2100]), "cannot parse tar at byte 2100: ends inside data");
    }

    #[test]
    fn a_flipped_header_byte_is_noticed() {
        let mut tar = Vec::new();
        append(&mut tar, &gnu_header(b'0', b"snapshot/a", 0), b"");
        for at in 0..BLOCK {
            let mut damaged = tar.clone();
            damaged[at] ^= 0x41;
            assert!(read_all(&damaged[..]).is_err(), "byte {at}");
        }
    }

    #[test]
    fn pax_records_go_before_header_fields() {
        let header = only(&with_pax(&[
            ("hdrcharset", b"BINARY"),
            ("path", b"snapshot/bad\xff\xfe\nname"),
            ("linkpath", b"to\xff"),
            ("uname", "jürgen".as_bytes()),
            ("gname", b""),
            ("uid", b"4294967294"),
            ("gid", b"3000000"),
            ("mtime", b"-1.5"),
        ]));
        assert_eq!(header.name, b"snapshot/bad\xff\xfe\nname");
        assert_eq!(header.link, b"to\xff");
        assert_eq!((header.user, header.group), ("jürgen".as_bytes().to_vec(), vec![]));
        assert_eq!(
            (header.uid, header.gid, header.mtime, header.mode),
            (4294967294, 3000000, -2, 0o644)
        );
    }

    #[test]
    fn pax_size_and_global_headers() {
        let mut tar = Vec::new();
        let global = b"20 path=not/for/you\n";
        append(&mut tar, &gnu_header(b'g', b"pax_global_header", global.len() as u64), global);
        tar.extend(pax(&[("size", b"5")]));
        append(&mut tar, &gnu_header(b'g', b"pax_global_header", global.len() as u64), global);
        append(&mut tar, &gnu_header(b'0', b"snapshot/a", 0), b"hello");
        append(&mut tar, &gnu_header(b'0', b"snapshot/b", 0), b"");
        let entries = read_all(&tar[..]).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(
            (&entries[0].0.name[..], &entries[0].1[..]),
            (&b"snapshot/a"[..], &b"hello"[..])
        );
        assert_eq!(entries[1].0.name, b"snapshot/b");
        tar.truncate(tar.len() - 2 * BLOCK - BLOCK);
        assert!(error_of(&tar).ends_with("ends after an extended header"));
    }

    #[test]
    fn pax_times_are_rounded_down() {
        let cases: [(&[u8], i64); 7] = [
            (b"5", 5),
            (b"5.999", 5),
            (b"0.1", 0),
            (b"-0.1", -1),
            (b"-5.0", -5),
            (b"-5.", -5),
            (b"-0", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(
                only(&with_pax(&[("mtime", text)])).mtime,
                expected,
                "{}",
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn malformed_pax_records_are_errors() {
        let bodies: [&[u8]; 7] = [
            b"path=x\n",
            b"99 path=x\n",
            b"11 path=x\n",
            b"8 path=x",
            b"0 path=x\n",
            b"9 pathxx\n",
            b"18446744073709551616 a=b\n",
        ];
        for body in bodies {
            let mut tar = Vec::new();
            append(&mut tar, &gnu_header(b'x', b"x", body.len() as u64), body);
            append(&mut tar, &gnu_header(b'0', b"snapshot/a", 0), b"");
            assert!(read_all(&tar[..]).is_err(), "{}", body.escape_ascii());
        }
        for (key, value) in
            [("uid", &b"4294967296"[..]), ("size", b"-1"), ("mtime", b"soon"), ("gid", b"1x")]
        {
            assert!(read_all(&with_pax(&[(key, value)])[..]).is_err(), "{key}");
        }
    }

    #[test]
    fn what_is_held_in_memory_is_limited() {
        let mut tar = Vec::new();
        append(&mut tar, &gnu_header(b'L', b"././@LongLink", LONGEST_META + 1), b"");
        let endless = tar.chain(io::repeat(b'a'));
        assert!(read_all(endless).unwrap_err().to_string().ends_with("longer than 1 MiB"));
        let mut tar = Vec::new();
        append(&mut tar, &gnu_header(b'0', b"snapshot/a", u64::MAX >> 1), b"");
        assert!(error_of(&tar).ends_with("size is too large"));
    }

    #[test]
    fn gnu_long_names_and_links() {
        let name = [b"snapshot/".as_slice(), &[b'n'; 300]].concat();
        let link = [b't'; 5000];
        let mut tar = Vec::new();
        append(&mut tar, &gnu_header(b'L', b"././@LongLink", 310), &[&name[..], b"\0"].concat());
        append(&mut tar, &gnu_header(b'K', b"././@LongLink", 5001), &[&link[..], b"\0"].concat());
        append(&mut tar, &gnu_header(b'2', &name[..100], 0), b"");
        let header = only(&tar);
        assert_eq!((header.name, header.link), (name, link.to_vec()));
    }

    #[test]
    fn numbers_in_base_256() {
        let cases: [(&[u8], Option<i64>); 9] = [
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x02", Some(258)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"00000000014\0", Some(12)),
            (b"        14 \0", Some(12)),
            (b"777777777777", Some(0o777777777777)),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", Some(0)),
            (b"0000000001x\0", None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field).ok(), expected, "{}", field.escape_ascii());
        }
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Ok(-2));
    }

    #[test]
    fn prefix_field_only_in_ustar() {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..4].copy_from_slice(b"name");
        header.as_ustar_mut().unwrap().prefix[..12].copy_from_slice(b"snapshot/dir");
        header.set_cksum();
        assert_eq!(only(header.as_bytes()).name, b"snapshot/dir/name");
        let mut header = gnu_header(b'0', b"name", 0);
        header.as_gnu_mut().unwrap().atime[0] = b'1';
        header.set_cksum();
        assert_eq!(only(header.as_bytes()).name, b"name");
    }

    #[test]
    fn types_without_data_have_none() {
        for typeflag in b'1'..=b'6' {
            let mut tar = Vec::new();
            append(&mut tar, &gnu_header(typeflag, b"snapshot/a", 999), b"");
            append(&mut tar, &gnu_header(b'0', b"snapshot/b", 0), b"");
            assert_eq!(
                read_all(&tar[..])
                    .unwrap()
                    .iter()
                    .map(|(header, _)| header.size)
                    .collect::<Vec<_>>(),
                [0, 0]
            );
        }
        assert_eq!(
            only(gnu_header(b'0', b"snapshot/", 0).as_bytes()).typeflag,
            b'0',
            "a slash makes no directory"
        );
    }

    #[derive(Debug, Clone)]
    struct Written {
        name: Vec<u8>,
        link: Option<Vec<u8>>,
        ids: (u32, u32),
        mode: u16,
        mtime: u32,
        data: Vec<u8>,
    }

    fn written() -> impl Strategy<Value = Written> {
        let name = prop_oneof![
            "[a-zé]{1,12}(/[a-z]{1,30}){0,12}".prop_map(String::into_bytes),
            prop::collection::vec(1u8.., 1..150)
        ];
        let link = prop::option::of(prop::collection::vec(1u8.., 1..250));
        let data = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..1200),
            (0usize..300_000).prop_map(|length| vec![7; length])
        ];
        (name, link, any::<(u32, u32)>(), 0u16..0o10000, any::<u32>(), data).prop_map(
            |(name, link, ids, mode, mtime, data)| {
                let name = name.into_iter().map(|b| if b == b'\\' { b'_' } else { b }).collect();
                Written { name, link, ids, mode, mtime, data }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The `tar` crate writes GNU tar: long names and links, numbers in base 256; we read the
        /// same.
        #[test]
        fn reads_what_the_tar_crate_writes(entries in prop::collection::vec(written(), 0..6)) {
            use std::os::unix::ffi::OsStrExt;
            let as_path = |bytes: &[u8]| std::path::PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
            let mut builder = tar::Builder::new(Vec::new());
            let mut expected = Vec::new();
            for mut entry in entries {
                let mut header = tar::Header::new_gnu();
                header.set_mode(entry.mode.into());
                header.set_uid(entry.ids.0.into());
                header.set_gid(entry.ids.1.into());
                header.set_mtime(entry.mtime.into());
                let name = as_path(&[&b"snapshot/"[..], &entry.name].concat());
                let written = if let Some(link) = &entry.link {
                    entry.data.clear();
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    builder.append_link(&mut header, &name, as_path(link))
                } else {
                    header.set_size(entry.data.len() as u64);
                    builder.append_data(&mut header, &name, &entry.data[..])
                };
                if written.is_ok() { expected.push(entry) }
            }
            let tar = builder.into_inner().unwrap();

            let ours = read_all(Trickle(&tar, 0)).unwrap();
            let mut archive = tar::Archive::new(Cursor::new(&tar));
            let theirs: Vec<_> = archive.entries().unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(ours.len(), expected.len());
            for (((header, data), theirs), expected) in ours.iter().zip(&theirs).zip(expected) {
                prop_assert_eq!(&header.name[..], &theirs.path_bytes()[..]);
                prop_assert_eq!(&header.link[..], &theirs.link_name_bytes().unwrap_or_default()[..]);
                prop_assert_eq!(header.data_offset, theirs.raw_file_position());
                prop_assert_eq!((header.uid, header.gid), expected.ids);
                prop_assert_eq!((header.mode, header.mtime), (expected.mode, expected.mtime.into()));
                prop_assert_eq!(data, &expected.data);
            }
        }

        #[test]
        fn pax_paths_come_verbatim(path in prop::collection::vec(any::<u8>(), 1..2000)) {
            prop_assert_eq!(only(&with_pax(&[("path", &path)])).name, path);
        }

        #[test]
        fn any_bytes_end_in_headers_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..3000), flip in any::<prop::sample::Index>()) {
            let _ = read_all(&bytes[..]);
            let mut tar = with_pax(&[("path", b"snapshot/p"), ("uid", b"12")]);
            let at = flip.index(tar.len());
            tar[at] = bytes.first().copied().unwrap_or(9);
            let _ = read_all(&tar[..]);
        }
    }
}
