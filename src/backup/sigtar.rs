//! [`SigtarWriter`]: the signature file of a session while it runs: plain tar in the archive directory, flushed whenever a volume is stored.

use super::Error;
use crate::format::{SignatureMember, padding};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A tar's end is filled up with zeros to a multiple of this.
const RECORD: u64 = 10240;

/// Writes members to a signature file.
pub struct SigtarWriter {
    file: SharedFile,
    length: u64,
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SigtarWriter {
    /// Begins a file, or goes on behind the first `length` bytes of one.
    ///
    /// # Errors
    /// [`Error::Archive`] when it cannot be written.
    pub fn open(path: &Path, length: u64) -> Result<Self, Error> {
        let open = || -> io::Result<File> {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
            file.set_len(length)?;
            io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(|cause| Error::archive("write", path, cause))?;
        let file = SharedFile(Arc::new(Mutex::new(BufWriter::with_capacity(256 << 10, file))));
        Ok(Self { file, length, path: path.to_path_buf() })
    }

    /// Returns the file, for whoever flushes it.
    pub fn shared(&self) -> SharedFile {
        self.file.clone()
    }

    /// Returns how many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds a member, with the signature that `data` gives.
    ///
    /// # Errors
    /// [`Error::Archive`] when it cannot be written.
    pub fn push(&mut self, member: &SignatureMember, data: Option<&mut impl Read>) -> Result<(), Error> {
        let mut header = Vec::new();
        member.header().print(&mut header);
        let write = |file: &mut BufWriter<File>| -> io::Result<u64> {
            file.write_all(&header)?;
            let copied = data.map_or(Ok(0), |data| io::copy(data, file))?;
            file.write_all(&[0; 512][..padding(copied)])?;
            Ok(header.len() as u64 + copied + padding(copied) as u64)
        };
        self.length += write(&mut self.file.lock()).map_err(|cause| Error::archive("write", &self.path, cause))?;
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
