//! [`Journal`]: what a session of ours has stored so far, so that the next run can go on from its
//! last volume.
//!
//! Manifest and signature file of an unfinished session lie in duplicity's archive directory as
//! `.part` files, which either program can go on with. But duplicity makes the signatures of what
//! is stored anew, from files that may have changed meanwhile, and then stores deltas against what
//! was never stored. So this program keeps the signatures that it wrote, and the journal says up to
//! where they belong to which volume. It lies in our own cache directory; without it a session is
//! not continued, but started over.
//!
//! Nor is it needed for anything else: where it cannot be written, the session goes on without.
//!
//! One line for the session, one for each volume, each with a check at its end: a torn line ends
//! the journal.

use super::members::Mark;
use crate::catalog::SourceStat;
use crate::format::{Manifest, ManifestVolume, Session};
use crate::model::BackupTime;
use crate::monitor::{Level, Monitor};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What is known of the volumes of an unfinished session.
pub struct Journal {
    path: PathBuf,
    /// `None` once it cannot be written.
    file: Option<File>,
}

/// A journal, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journaled {
    /// The session.
    pub session: Session,
    /// Its volumes, from 1.
    pub volumes: Vec<JournaledVolume>,
}

/// A volume that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournaledVolume {
    /// Its stored size in bytes.
    pub size: u64,
    /// Where the session stood behind it.
    pub mark: Mark,
    /// It ends inside a delta, which only the program that began it can end.
    pub in_delta: bool,
    /// What the manifest says of it.
    pub described: ManifestVolume,
}

impl Journal {
    /// Begins a journal; with what is known of volumes that are kept. It takes the place of another
    /// in one step. Reports if it cannot be written.
    pub fn begin(path: &Path, known: &Journaled, monitor: &dyn Monitor) -> Self {
        let file = Self::create(path, known);
        let mut journal = Self { path: path.to_path_buf(), file: None };
        match file {
            Ok(file) => journal.file = Some(file),
            Err(cause) => {
                // That of another session would lead the next run astray.
                if Self::read(path).is_some_and(|old| old.session != known.session) {
                    let _ = std::fs::remove_file(path);
                }
                journal.report(&cause, monitor);
            }
        }
        journal
    }

    fn create(path: &Path, known: &Journaled) -> io::Result<File> {
        let unfinished = path.with_extension("tmp");
        let created = Self::write_new(&unfinished, known);
        let created = created.and_then(|file| std::fs::rename(&unfinished, path).map(|()| file));
        created.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))
    }

    fn write_new(path: &Path, known: &Journaled) -> io::Result<File> {
        let mut file = File::create(path)?;
        let mut text = print(&match known.session {
            Session::Full { time } => format!("full {}", time.seconds()),
            Session::Incremental { start, end } => {
                format!("incremental {} {}", start.seconds(), end.seconds())
            }
        });
        known.volumes.iter().for_each(|volume| text.push_str(&print_volume(volume)));
        file.write_all(text.as_bytes()).map(|()| file)
    }

    /// Notes that one more volume is stored. Reports if that cannot be written: what was noted
    /// before stays.
    pub fn add(&mut self, volume: &JournaledVolume, monitor: &dyn Monitor) {
        let Some(file) = &mut self.file else { return };
        if let Err(cause) = file.write_all(print_volume(volume).as_bytes()) {
            self.file = None;
            self.report(&cause, monitor);
        }
    }

    fn report(&self, cause: &io::Error, monitor: &dyn Monitor) {
        let path = self.path.display();
        let text = format!(
            "cannot write '{path}': {cause}; if this backup is interrupted, the next run may have to begin it anew"
        );
        monitor.message(Level::Warning, &text);
    }

    /// Ends the session: there is nothing to go on with any more.
    pub fn end(self) {
        let _ = std::fs::remove_file(self.path);
    }

    /// Reads a journal; `None` if there is none.
    pub fn read(path: &Path) -> Option<Journaled> {
        let text = String::from_utf8(crate::storage::read_file(path).ok()?).ok()?;
        let mut lines = text.split_inclusive('\n').map_while(parse);
        let first = lines.next()?;
        let words: Vec<&str> = first.split(' ').collect();
        let time = |word: &str| word.parse().ok().map(BackupTime::from_seconds);
        let session = match words[..] {
            ["full", at] => Session::Full { time: time(at)? },
            ["incremental", start, end] => {
                Session::Incremental { start: time(start)?, end: time(end)? }
            }
            _ => return None,
        };
        let volumes = lines.map_while(|line| parse_volume(&line)).collect();
        Some(Journaled { session, volumes })
    }
}

fn print_volume(volume: &JournaledVolume) -> String {
    let JournaledVolume {
        size,
        mark: Mark { signatures, check, entries, inside },
        in_delta,
        described,
    } = volume;
    let inside = inside.map_or_else(String::new, |SourceStat { size, ctime, inode }| {
        format!(" {size} {ctime} {inode}")
    });
    let block: String = described.print().iter().map(|byte| format!("{byte:02x}")).collect();
    print(&format!(
        "volume {size} {signatures} {check} {entries} {} {block}{inside}",
        u8::from(*in_delta)
    ))
}

fn parse_volume(line: &str) -> Option<JournaledVolume> {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |word: &str| word.parse::<u64>().ok();
    let (fixed, rest) = words.split_first_chunk::<7>()?;
    let ["volume", size, signatures, check, entries, in_delta, block] = *fixed else { return None };
    let inside = match rest {
        [] => None,
        [size, ctime, inode] => Some(SourceStat {
            size: number(size)?,
            ctime: ctime.parse().ok()?,
            inode: number(inode)?,
        }),
        _ => return None,
    };
    let pairs = block.as_bytes().chunks(2);
    let block = pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect::<Option<Vec<u8>>>()?;
    let described = Manifest::parse(&block).ok()?.volumes().next()?;
    let mark = Mark {
        signatures: number(signatures)?,
        check: number(check)?,
        entries: number(entries)?,
        inside,
    };
    Some(JournaledVolume { size: number(size)?, mark, in_delta: in_delta == "1", described })
}

/// Returns a line with its check.
fn print(text: &str) -> String {
    format!("{text} #{}\n", &blake3::hash(text.as_bytes()).to_hex()[..8])
}

/// Returns a line without its check; `None` if it is not whole.
fn parse(line: &str) -> Option<String> {
    let (text, _) = line.rsplit_once(" #")?;
    (print(text) == line).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::VolumeHash;
    use crate::model::EntryPath;
    use crate::monitor::Silent;

    #[test]
    fn what_was_noted_is_read_up_to_a_torn_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("session");
        assert_eq!(Journal::read(&path), None);
        let (start, end) = (BackupTime::from_seconds(5), BackupTime::from_seconds(9));
        let stat = SourceStat { size: 7, ctime: -1, inode: 9 };
        let volume = |number: u32, inside: Option<SourceStat>| {
            let path = EntryPath::parse(b"a b\xff").unwrap();
            let (first_piece, last_piece, hash) = (None, Some(3), Some(VolumeHash::Sha1([7; 20])));
            let described = ManifestVolume {
                number,
                first: path.clone(),
                first_piece,
                last: path,
                last_piece,
                hash,
            };
            let mark = Mark {
                signatures: u64::from(number) * 512,
                check: u64::MAX,
                entries: number.into(),
                inside,
            };
            JournaledVolume { size: 100, mark, in_delta: inside.is_some(), described }
        };
        let volumes = vec![volume(1, Some(stat)), volume(2, None), volume(3, None)];
        let known = Journaled {
            session: Session::Incremental { start, end },
            volumes: volumes[..1].to_vec(),
        };
        let mut journal = Journal::begin(&path, &known, &Silent);
        volumes[1..].iter().for_each(|volume| journal.add(volume, &Silent));
        assert_eq!(
            Journal::read(&path),
            Some(Journaled { volumes: volumes.clone(), ..known.clone() })
        );
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(
            Journal::read(&path),
            Some(Journaled { volumes: volumes[..2].to_vec(), ..known })
        );
        journal.end();
        assert!(!path.exists());
    }
}
