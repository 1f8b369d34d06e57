//! [`Comparison`]: the local counterpart of a snapshot, compared piece by piece.

use super::VerifyOptions;
use crate::accounts::Accounts;
use crate::catalog::{Version, VersionId};
use crate::contents::{FileSink, Incoming, Target, VersionSet};
use crate::model::{BackupTime, Entry, EntryKind, EntryPath};
use crate::source::Found;
use std::io;
use std::os::unix::fs::FileExt;

/// What the reader brings is compared with the local files, if these are to be looked at.
pub struct Comparison<'a> {
    options: &'a VerifyOptions,
    /// Versions whose local files hold something else, or cannot be read.
    different: VersionSet,
}

impl<'a> Comparison<'a> {
    /// Compares versions with numbers below `limit`.
    pub fn new(options: &'a VerifyOptions, limit: u64) -> Self {
        Self { options, different: VersionSet::new(limit) }
    }

    /// Says how a path differs, if it does. The content of a damaged file is not known, and so is
    /// not compared.
    ///
    /// Source of the words: duplicity 0.8.22, which writes link targets as `b'…'`.
    pub fn difference(
        &self,
        path: &EntryPath,
        version: Option<&Version>,
        found: Option<&Found>,
        is_damaged: bool,
        accounts: &Accounts,
    ) -> Option<String> {
        let (version, found) = match (version, found) {
            (Some(version), Some(found)) => (version, found),
            (None, Some(_)) => return Some(format!("New file {path}")),
            (Some(_), None) => return Some(format!("File {path} is missing")),
            (None, None) => return None,
        };
        let (entry, found) = (version.entry()?, &found.entry);
        metadata(path, entry, found, accounts).or_else(|| match (&entry.kind, &found.kind) {
            (EntryKind::Symlink { target: expected }, EntryKind::Symlink { target })
                if expected != target =>
            {
                Some(format!(
                    "Symlink {path} points to {}, expected {}",
                    target.escape_ascii(),
                    expected.escape_ascii()
                ))
            }
            (EntryKind::File, _) if !is_damaged && self.different.contains(version.id.number()) => {
                Some(format!("Data for file {path} is different"))
            }
            _ => {
                let (numbers, expected) = (device(&found.kind), device(&entry.kind));
                (numbers != expected).then(|| {
                    format!("Device file {path} has numbers {numbers:?}, expected {expected:?}")
                })
            }
        })
    }
}

/// Compares what all types have, or most.
fn metadata(
    path: &EntryPath,
    expected: &Entry,
    found: &Entry,
    accounts: &Accounts,
) -> Option<String> {
    let (kind, expected_kind) = (found.kind.word(), expected.kind.word());
    if kind != expected_kind {
        return Some(format!("File {path} has type {kind}, expected {expected_kind}"));
    }
    let (uid, gid) = accounts.numbers(&expected.owner);
    let of = |(uid, gid): (u32, u32), mode: u16| format!("{uid}:{gid} {mode:o}");
    let (rights, expected_rights) =
        (of((found.owner.uid, found.owner.gid), found.mode), of((uid, gid), expected.mode));
    if kind != "sym" && rights != expected_rights {
        return Some(format!("File {path} has permissions {rights}, expected {expected_rights}"));
    }
    // Times before 1970 are saved as 1970.
    let times = [found.mtime.max(0), expected.mtime.max(0)];
    if matches!(kind, "reg" | "dir" | "fifo") && times[0] != times[1] {
        let [time, expected] = times.map(|time| BackupTime::from_seconds(time).print_asctime());
        return Some(format!("File {path} has mtime {time}, expected {expected}"));
    }
    None
}

fn device(kind: &EntryKind) -> (u32, u32) {
    match kind {
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            (*major, *minor)
        }
        _ => (0, 0),
    }
}

/// One file of the snapshot as it comes in, beside the local one.
pub struct Compared {
    /// In the snapshot.
    path: EntryPath,
    version: VersionId,
    /// Closed while the file waits for older sets, and when nothing is left to be compared.
    local: Option<std::fs::File>,
    is_different: bool,
    buffer: Vec<u8>,
}

impl Comparison<'_> {
    fn open(&self, path: &EntryPath) -> io::Result<std::fs::File> {
        let local = path.strip_prefix(&self.options.path).ok_or(io::ErrorKind::InvalidInput)?;
        self.options.source.open_file(&local)
    }
}

impl Target for Comparison<'_> {
    type File = Compared;
    type Sink<'p>
        = &'p Self
    where
        Self: 'p;

    fn sink(&self) -> &Self {
        self
    }
}

impl FileSink for &Comparison<'_> {
    type File = Compared;

    fn begin(&mut self, path: &EntryPath, version: VersionId) -> io::Result<Compared> {
        let mut file = Compared {
            path: path.clone(),
            version,
            local: None,
            is_different: !self.options.compares,
            buffer: Vec::new(),
        };
        self.resume(&mut file)?;
        Ok(file)
    }

    /// A local file that cannot be opened is different; why it cannot is told when it is walked to.
    fn resume(&mut self, file: &mut Compared) -> io::Result<()> {
        if !file.is_different && file.local.is_none() {
            file.local = self.open(&file.path).ok();
            file.is_different = file.local.is_none();
        }
        Ok(())
    }

    fn complete(&mut self, mut file: Compared, _: &Entry, size: u64) -> io::Result<()> {
        self.resume(&mut file)?;
        // Its size is only what the system says: files of procfs have none.
        let ends_here =
            |local: &std::fs::File| local.read_at(&mut [0], size).is_ok_and(|count| count == 0);
        if file.is_different || !file.local.as_ref().is_some_and(ends_here) {
            self.different.set(file.version.number());
        }
        Ok(())
    }

    fn discard(&mut self, _: Compared) {}

    fn remove(&mut self, _: &EntryPath) -> io::Result<()> {
        Ok(())
    }
}

impl Incoming for Compared {
    fn path(&self) -> &EntryPath {
        &self.path
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(local) = self.local.as_ref().filter(|_| !self.is_different) {
            self.buffer.resize(bytes.len(), 0);
            self.is_different =
                local.read_exact_at(&mut self.buffer, offset).is_err() || self.buffer != bytes;
        }
        Ok(())
    }

    fn close(&mut self) {
        self.local = None;
        self.buffer = Vec::new();
    }
}
