//! [`SigtarWriter`]: the signature file of a session while it runs: plain tar in the archive
//! directory, flushed whenever a volume is stored.

use super::Error;
use crate::format::{SignatureMember, padding};
use parking_lot::{Mutex, MutexGuard};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A tar's end is filled up with zeros to a multiple of this.
const RECORD: u64 = 10240;

/// Writes members to a signature file.
pub struct SigtarWriter {
    file: SharedFile,
    length: u64,
    hasher: blake3::Hasher,
    path: PathBuf,
}

/// The file, which another thread flushes.
#[derive(Clone)]
pub struct SharedFile(Arc<Mutex<BufWriter<File>>>);

impl SharedFile {
    /// Makes sure that all that was written so far survives this process, and this machine's power.
    ///
    /// # Errors
    /// Those of the file.
    pub fn sync(&self) -> io::Result<()> {
        let mut file = self.lock();
        file.flush()?;
        file.get_ref().sync_data()
    }

    fn lock(&self) -> MutexGuard<'_, BufWriter<File>> {
        self.0.lock()
    }
}

impl SigtarWriter {
    /// Begins a file, or goes on behind the first `length` bytes of one.
    ///
    /// # Errors
    /// [`Error::Archive`] when it cannot be written.
    pub fn open(path: &Path, length: u64) -> Result<Self, Error> {
        let mut hasher = blake3::Hasher::new();
        let mut open = || -> io::Result<File> {
            let mut file =
                File::options().read(true).write(true).create(true).truncate(false).open(path)?;
            file.set_len(length)?;
            io::copy(&mut file, &mut hasher)?;
            Ok(file)
        };
        let file = open().map_err(|cause| Error::archive("write", path, cause))?;
        let file = SharedFile(Arc::new(Mutex::new(BufWriter::with_capacity(256 << 10, file))));
        Ok(Self { file, length, hasher, path: path.to_path_buf() })
    }

    /// Returns the file, for whoever flushes it.
    pub fn shared(&self) -> SharedFile {
        self.file.clone()
    }

    /// Returns how many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns a check of its bytes so far.
    pub fn check(&self) -> u64 {
        check(&self.hasher)
    }

    /// Adds a member, with the signature that `data` gives.
    ///
    /// # Errors
    /// [`Error::Archive`] when it cannot be written.
    pub fn push(
        &mut self,
        member: &SignatureMember,
        data: Option<&mut impl Read>,
    ) -> Result<(), Error> {
        let mut header = Vec::new();
        member.header().print(&mut header);
        let write = |mut out: Hashed<'_>| -> io::Result<u64> {
            out.write_all(&header)?;
            let copied = data.map_or(Ok(0), |data| io::copy(data, &mut out))?;
            out.write_all(&[0; 512][..padding(copied)])?;
            Ok(header.len() as u64 + copied + padding(copied) as u64)
        };
        let written = write(Hashed { file: &mut self.file.lock(), hasher: &mut self.hasher });
        self.length += written.map_err(|cause| Error::archive("write", &self.path, cause))?;
        Ok(())
    }

    /// Ends the tar.
    ///
    /// # Errors
    /// [`Error::Archive`] when it cannot be written.
    pub fn finish(self) -> Result<u64, Error> {
        let zeros = RECORD - self.length % RECORD;
        let zeros = if zeros < 1024 { zeros + RECORD } else { zeros };
        let mut file = self.file.lock();
        let result = file.write_all(&vec![0; zeros as usize]).and_then(|()| file.flush());
        result.map_err(|cause| Error::archive("write", &self.path, cause))?;
        Ok(self.length + zeros)
    }
}

/// Hashes what goes into the file.
struct Hashed<'a> {
    file: &'a mut BufWriter<File>,
    hasher: &'a mut blake3::Hasher,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn check(hasher: &blake3::Hasher) -> u64 {
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Returns a check of the first bytes of a signature file for each of some lengths, which ascend;
/// it ends where the file does.
///
/// # Errors
/// Those of the file.
pub fn checks(file: File, lengths: impl Iterator<Item = u64>) -> io::Result<Vec<u64>> {
    let (mut file, mut hasher) = (io::BufReader::new(file), blake3::Hasher::new());
    let mut checks = Vec::new();
    for length in lengths {
        let ahead = length.saturating_sub(hasher.count());
        if io::copy(&mut Read::by_ref(&mut file).take(ahead), &mut hasher)? < ahead {
            break;
        }
        checks.push(check(&hasher));
    }
    Ok(checks)
}
