//! [`Spool`]: the lines of a set on their way to the database, which is not written before all of
//! them are at hand.

use super::Error;
use crate::catalog::Line;
use crate::model::{Entry, EntryKind, EntryPath, Owner};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use tempfile::SpooledTempFile;

/// Bytes that are kept in memory, some 200,000 lines; more go to a temporary file.
const IN_MEMORY: usize = 8 * 1024 * 1024;

/// Lines in the order in which they came. A path is kept as what differs from the one before it.
pub struct Spool {
    file: BufWriter<SpooledTempFile>,
    count: u64,
    last: Context,
}

/// What a line may have in common with the one before it.
#[derive(Default)]
struct Context {
    path: Vec<u8>,
    owner: Owner,
}

impl Spool {
    pub fn new() -> Self {
        Self {
            file: BufWriter::new(SpooledTempFile::new(IN_MEMORY)),
            count: 0,
            last: Context::default(),
        }
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`Error::Temporary`] when the temporary file cannot be written.
    pub fn push(&mut self, line: &Line) -> Result<(), Error> {
        self.write(line).map_err(Error::Temporary)?;
        self.count += 1;
        Ok(())
    }

    fn write(&mut self, line: &Line) -> std::io::Result<()> {
        let Self { file, last, .. } = self;
        let path = line.path.as_bytes();
        let same = path.iter().zip(&last.path).take_while(|(a, b)| a == b).count();
        write_number(file, same as u64)?;
        write_bytes(file, &path[same..])?;
        last.path.truncate(same);
        last.path.extend_from_slice(&path[same..]);
        let Some(entry) = &line.entry else { return file.write_all(b"-") };
        let device = |file: &mut BufWriter<_>, letter: &[u8], major: u32, minor: u32| {
            file.write_all(letter)?;
            write_number(file, u64::from(major) << 32 | u64::from(minor))
        };
        match &entry.kind {
            EntryKind::Directory => file.write_all(b"d")?,
            EntryKind::File => file.write_all(b"f")?,
            EntryKind::Fifo => file.write_all(b"p")?,
            EntryKind::Symlink { target } => {
                file.write_all(b"l")?;
                write_bytes(file, target)?;
            }
            EntryKind::CharDevice { major, minor } => device(file, b"c", *major, *minor)?,
            EntryKind::BlockDevice { major, minor } => device(file, b"b", *major, *minor)?,
        }
        file.write_all(&entry.mode.to_le_bytes())?;
        file.write_all(&entry.mtime.to_le_bytes())?;
        if entry.owner == last.owner {
            return file.write_all(b"=");
        }
        let Owner { uid, gid, user, group } = &entry.owner;
        file.write_all(b"o")?;
        [uid, gid].into_iter().try_for_each(|id| write_number(file, u64::from(*id)))?;
        [user, group].into_iter().try_for_each(|name| write_bytes(file, name))?;
        last.owner = entry.owner.clone();
        Ok(())
    }

    /// Passes all lines on, from the first.
    ///
    /// # Errors
    /// [`Error::Temporary`] when the temporary file cannot be read, and what `take` returns.
    pub fn read(&mut self, mut take: impl FnMut(&Line) -> Result<(), Error>) -> Result<(), Error> {
        self.file.rewind().map_err(Error::Temporary)?;
        let mut file = BufReader::new(self.file.get_mut());
        let mut last = Context::default();
        for _ in 0..self.count {
            take(&read_line(&mut file, &mut last).map_err(Error::Temporary)?)?;
        }
        Ok(())
    }
}

fn read_line(file: &mut impl Read, last: &mut Context) -> std::io::Result<Line> {
    let same = read_number(file)? as usize;
    last.path.truncate(same);
    last.path.extend(read_bytes(file)?);
    let path = EntryPath::parse(&last.path)
        .map_err(|invalid| std::io::Error::other(invalid.to_string()))?;
    let device = |file: &mut _| read_number(file).map(|both| ((both >> 32) as u32, both as u32));
    let kind = match read_array(file)? {
        [b'd'] => EntryKind::Directory,
        [b'f'] => EntryKind::File,
        [b'p'] => EntryKind::Fifo,
        [b'l'] => EntryKind::Symlink { target: read_bytes(file)? },
        [b'c'] => device(file).map(|(major, minor)| EntryKind::CharDevice { major, minor })?,
        [b'b'] => device(file).map(|(major, minor)| EntryKind::BlockDevice { major, minor })?,
        _ => return Ok(Line { path, entry: None }),
    };
    let (mode, mtime) =
        (u16::from_le_bytes(read_array(file)?), i64::from_le_bytes(read_array(file)?));
    if read_array(file)? == *b"o" {
        let [uid, gid] = [read_number(file)? as u32, read_number(file)? as u32];
        last.owner = Owner { uid, gid, user: read_bytes(file)?, group: read_bytes(file)? };
    }
    Ok(Line { path, entry: Some(Entry { kind, mode, owner: last.owner.clone(), mtime }) })
}

fn write_number(file: &mut impl Write, number: u64) -> std::io::Result<()> {
    // Most are small.
    match u8::try_from(number) {
        Ok(small) if small < u8::MAX => file.write_all(&[small]),
        _ => file.write_all(&[u8::MAX]).and_then(|()| file.write_all(&number.to_le_bytes())),
    }
}

fn read_number(file: &mut impl Read) -> std::io::Result<u64> {
    match read_array(file)? {
        [u8::MAX] => read_array(file).map(u64::from_le_bytes),
        [small] => Ok(small.into()),
    }
}

fn write_bytes(file: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    write_number(file, bytes.len() as u64)?;
    file.write_all(bytes)
}

fn read_bytes(file: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let length = read_number(file)?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length {
        Ok(bytes)
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

fn read_array<const LENGTH: usize>(file: &mut impl Read) -> std::io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_as_they_went_in() {
        let owner = |uid, user: &str| Owner {
            uid,
            gid: 4_000_000_000,
            user: user.into(),
            group: b"staff".to_vec(),
        };
        let kinds = [
            None,
            Some(EntryKind::Directory),
            Some(EntryKind::File),
            Some(EntryKind::Symlink { target: vec![0xff; 300] }),
            Some(EntryKind::Fifo),
            Some(EntryKind::CharDevice { major: 1, minor: u32::MAX }),
            Some(EntryKind::BlockDevice { major: u32::MAX, minor: 7 }),
        ];
        let lines: Vec<Line> = (0..5000)
            .map(|number: usize| Line {
                path: EntryPath::parse(
                    format!("d{}/{}{number}", number / 70, "long".repeat(number % 80)).as_bytes(),
                )
                .unwrap(),
                entry: kinds[number % 7].clone().map(|kind| Entry {
                    kind,
                    mode: number as u16 & 0o7777,
                    owner: owner(number as u32 / 9, ["", "anna"][number % 2]),
                    mtime: 1_700_000_000 - number as i64 * 1_000_000,
                }),
            })
            .collect();
        let mut spool = Spool::new();
        lines.iter().for_each(|line| spool.push(line).unwrap());
        for _ in 0..2 {
            let mut expected = lines.iter();
            spool
                .read(|line| {
                    let expected = expected.next().unwrap();
                    assert_eq!((&line.path, &line.entry), (&expected.path, &expected.entry));
                    Ok(())
                })
                .unwrap();
            assert!(expected.next().is_none());
        }
    }
}
