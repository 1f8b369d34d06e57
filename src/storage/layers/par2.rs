//! [`Par2Storage`]: a storage around another that keeps recovery files beside each file, which the
//! user's own `par2` makes and mends with: `par2+SCHEME://…`.
//!
//! ```text
//! put     NAME            ─► par2 c ─► NAME.par2, NAME.vol000+200.par2, then NAME
//! list    without any name that ends with .par2
//! read    NAME; once its bytes have proved to be wrong: all of these ─► par2 r ─► a file on this machine
//! delete  all of these
//! ```
//! Nothing but a wrong hash, or what cannot be decoded, makes anybody read a recovery file. Without
//! recovery files, or without the program, a file is read as it is; but nothing is stored without the
//! program, since whoever asks for recovery files relies on them. An empty file needs none.
//!
//! Source: duplicity 0.8.22, tried with par2cmdline 0.8.1; 3.2.1 makes the same files and mends
//! nothing.

use crate::monitor::Level;
use crate::storage::{
    Abilities, ByteStream, CopyInUse, Error, ErrorKind, Listed, Par2Options, Settings, Staged,
    StagedWriter, Storage, unfinished,
};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// The number of the copy that was mended.
const MENDED: u32 = u32::MAX;
/// The exit code of par2 for options that it does not take.
const BAD_OPTIONS: i32 = 3;
/// How much is read at once, in bytes.
const STRIDE: usize = 1 << 20;

/// Keeps recovery files beside each file of another storage.
pub struct Par2Storage {
    inner: Arc<dyn Storage>,
    settings: Settings,
    /// Names of the recovery files of each file; `None` before the first listing.
    recovery: Mutex<Option<HashMap<String, Vec<Listed>>>>,
    mended: Mutex<Mended>,
    /// One file is mended at a time.
    turn: Mutex<()>,
}

/// What became of files that were to be mended.
#[derive(Default)]
struct Mended {
    files: HashMap<Listed, Arc<Whole>>,
    hopeless: HashSet<Listed>,
}

/// A file that was mended, without a name on this machine.
struct Whole {
    file: File,
    size: u64,
}

/// Returns the name of the file that a recovery file, perhaps one that was never finished, belongs
/// to.
fn protected(name: &str) -> Option<&str> {
    let stem = unfinished(name).unwrap_or(name).strip_suffix(".par2")?;
    let is_part = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'+');
    let file = stem.rsplit_once(".vol").filter(|(_, part)| is_part(part)).map(|(file, _)| file);
    Some(file.unwrap_or(stem))
}

impl Par2Storage {
    /// Keeps recovery files in `inner`.
    pub fn new(inner: Arc<dyn Storage>, settings: Settings) -> Self {
        let (recovery, mended, turn) = Default::default();
        Self { inner, settings, recovery, mended, turn }
    }

    fn report(&self, level: Level, text: &str) {
        self.settings.monitor.message(level, text);
    }

    fn folder(&self) -> Result<TempDir, Error> {
        let tempdir = &self.settings.tempdir;
        let made = tempfile::Builder::new().prefix("dupfs-par2-").tempdir_in(tempdir);
        made.map_err(|error| Error::io("write", tempdir.display().to_string(), &error))
    }

    /// Runs the program; returns its exit code. What it prints is for whoever debugs.
    fn run(&self, arguments: &[&OsStr], folder: &Path) -> io::Result<i32> {
        let mut command = Command::new("par2");
        command.envs(self.settings.variables_of_programs()).args(arguments).current_dir(folder);
        // Ctrl-C is for us to obey, and does not end it under our hands.
        let output = command.stdin(Stdio::null()).process_group(0).output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        for line in said.lines().filter(|line| !line.trim().is_empty()) {
            self.report(Level::Debug, &format!("par2: {line}"));
        }
        Ok(output.status.code().unwrap_or(-1))
    }

    /// Makes the recovery files of a file in a folder in which nothing else is.
    fn create(&self, staged: &Staged, folder: &Path) -> Result<(), Error> {
        let place = || format!("{}/{}", self.location(), staged.name());
        let failed = |error: io::Error| Error::io("write", place(), &error);
        // It keeps the name, so a link has that of the stored file.
        let file = folder.join(staged.name());
        if std::fs::hard_link(staged.path(), &file).is_err() {
            let mut copy = File::create(&file).map_err(failed)?;
            staged.read(|bytes| copy.write_all(bytes).map_err(failed))?;
        }
        let Par2Options { redundancy, volumes, options } = &self.settings.par2;
        let create = |volumes: u32| {
            let (redundancy, volumes) = (format!("-r{redundancy}"), format!("-n{volumes}"));
            let mut words: Vec<&OsStr> = vec!["c".as_ref(), redundancy.as_ref(), volumes.as_ref()];
            words.extend(options.iter().map(OsString::as_os_str));
            words.extend([OsStr::new("-q"), OsStr::new("-q"), file.as_os_str()]);
            self.run(&words, folder).map_err(|error| Error {
                operation: "write",
                place: place(),
                kind: ErrorKind::Unsupported,
                cause: format!(
                    "cannot run par2: {error}; install it (par2cmdline), or leave par2+ out of the URL"
                ),
            })
        };
        let mut code = create(*volumes)?;
        if code != 0 {
            let text = "Failed to create par2 file with requested options, retrying with -n1";
            self.report(Level::Warning, text);
            code = create(1)?;
            if code == 0 {
                self.report(Level::Warning, "Successfully created par2 file with -n1");
            }
        }
        std::fs::remove_file(&file).map_err(failed)?;
        if code != 0 {
            let text = format!("FAILED to create par2 file with returncode {code}");
            self.report(Level::Error, &text);
        }
        Ok(())
    }

    /// Stores the recovery files that are in a folder.
    fn put_recovery(&self, folder: &Path) -> Result<Vec<Listed>, Error> {
        let failed = |error: io::Error| Error::io("read", folder.display().to_string(), &error);
        let mut stored = Vec::new();
        for entry in folder.read_dir().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let mut writer = self.stage(&name)?;
            let mut file = File::open(entry.path()).map_err(failed)?;
            io::copy(&mut file, &mut writer).map_err(|error| writer.failed(&error))?;
            stored.push(self.inner.put(&writer.seal())?);
        }
        Ok(stored)
    }

    /// Returns what a storage holds, and which of it are recovery files, by the names of their files.
    fn look(&self) -> Result<Vec<Listed>, Error> {
        let mut recovery: HashMap<String, Vec<Listed>> = HashMap::new();
        let mut files = Vec::new();
        for listed in self.inner.list()? {
            match protected(&listed.name).map(str::to_string) {
                Some(name) => recovery.entry(name).or_default().push(listed),
                None => files.push(listed),
            }
        }
        *self.recovery.lock() = Some(recovery);
        Ok(files)
    }

    /// Returns the recovery files of a file.
    fn recovery_of(&self, name: &str) -> Result<Vec<Listed>, Error> {
        if self.recovery.lock().is_none() {
            self.look()?;
        }
        Ok(self.recovery.lock().as_ref().and_then(|all| all.get(name).cloned()).unwrap_or_default())
    }

    /// Copies a stored file to this machine; returns the hash of its bytes.
    fn fetch(&self, file: &Listed, path: &Path) -> Result<blake3::Hash, Error> {
        let failed = |error: io::Error| Error::io("write", path.display().to_string(), &error);
        let mut copy = File::create(path).map_err(failed)?;
        let (mut stream, mut buffer) = (self.inner.stream(file, 0)?, vec![0; STRIDE]);
        let mut hasher = blake3::Hasher::new();
        loop {
            let count = stream.read_bytes(&mut buffer)?;
            hasher.update(&buffer[..count]);
            copy.write_all(&buffer[..count]).map_err(failed)?;
            if count < STRIDE {
                return Ok(hasher.finalize());
            }
        }
    }

    /// Mends a file; returns `None` where that cannot be done.
    ///
    /// # Errors
    /// [`Error`] when it may be done another time.
    fn mend(&self, file: &Listed) -> Result<Option<Whole>, Error> {
        let recovery = self.recovery_of(&file.name)?;
        let index = format!("{}.par2", file.name);
        if file.name.contains('/') || !recovery.iter().any(|listed| listed.name == index) {
            return Ok(None);
        }
        self.report(Level::Warning, &format!("File is corrupt. Try to repair {}", file.name));
        let folder = self.folder()?;
        let path = folder.path().join(&file.name);
        let before = self.fetch(file, &path)?;
        for listed in recovery.iter().filter(|listed| unfinished(&listed.name).is_none()) {
            match self.fetch(listed, &folder.path().join(&listed.name)) {
                Err(error) if error.kind != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let index = folder.path().join(index);
        let repair = |options: &[OsString]| {
            let mut words = vec![OsStr::new("r")];
            words.extend(options.iter().map(OsString::as_os_str));
            words.extend(["-q", "-q"].map(OsStr::new));
            words.extend([index.as_os_str(), path.as_os_str()]);
            self.run(&words, folder.path())
        };
        let failed = |error: io::Error| Error::io("read", path.display().to_string(), &error);
        let repaired = match repair(&self.settings.par2.options) {
            // Some options are for making recovery files only.
            Ok(BAD_OPTIONS) => repair(&[]),
            result => result,
        };
        match repaired {
            Ok(0) => {}
            Ok(_) => {
                self.report(Level::Error, &format!("Failed to repair {}", file.name));
                return Ok(None);
            }
            Err(error) => {
                let text = format!("cannot run par2: {error}; install it to repair {}", file.name);
                self.report(Level::Error, &text);
                return Ok(None);
            }
        }
        let mut mended = File::open(&path).map_err(failed)?;
        let (mut hasher, mut buffer, mut size) = (blake3::Hasher::new(), vec![0; STRIDE], 0);
        while let count @ 1.. = mended.read(&mut buffer).map_err(failed)? {
            hasher.update(&buffer[..count]);
            size += count as u64;
        }
        // It was as wrong when it was stored.
        if hasher.finalize() == before {
            return Ok(None);
        }
        self.report(Level::Warning, &format!("Repair successful {}", file.name));
        Ok(Some(Whole { file: mended, size }))
    }

    fn whole(&self, file: &Listed) -> Option<Arc<Whole>> {
        self.mended.lock().files.get(file).cloned()
    }
}

impl Whole {
    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = (buffer.len() as u64).min(self.size.saturating_sub(offset)) as usize;
        let read = self.file.read_exact_at(&mut buffer[..length], offset);
        let place = || format!("repaired copy of {}", file.name);
        read.map(|()| length).map_err(|error| Error::io("read", place(), &error))
    }
}

impl Storage for Par2Storage {
    fn location(&self) -> String {
        format!("par2+{}", self.inner.location())
    }

    fn abilities(&self) -> Abilities {
        Abilities { copies: true, ..self.inner.abilities() }
    }

    fn prepare(&self) -> Result<(), Error> {
        self.inner.prepare()
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.look()
    }

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        match self.whole(file) {
            Some(whole) => whole.read_at(file, offset, buffer),
            None => self.inner.read_at(file, offset, buffer),
        }
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        match self.whole(file) {
            Some(whole) => Ok(Box::new(Stream { whole, file: file.clone(), offset: from })),
            None => self.inner.stream(file, from),
        }
    }

    fn copy_in_use(&self, file: &Listed) -> CopyInUse {
        match self.whole(file) {
            Some(whole) => CopyInUse { number: MENDED, size: whole.size },
            None => self.inner.copy_in_use(file),
        }
    }

    fn other_copy(&self, file: &Listed, wrong: u32) -> Result<bool, Error> {
        let _turn = self.turn.lock();
        if self.whole(file).is_some() {
            return Ok(wrong != MENDED);
        }
        if self.inner.other_copy(file, wrong)? {
            return Ok(true);
        }
        if self.mended.lock().hopeless.contains(file) {
            return Ok(false);
        }
        let whole = self.mend(file)?;
        let mut mended = self.mended.lock();
        Ok(match whole {
            Some(whole) => mended.files.insert(file.clone(), Arc::new(whole)).is_none(),
            None => !mended.hopeless.insert(file.clone()),
        })
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        let place = format!("{}/{name}", self.location());
        StagedWriter::temporary(name, &place, &self.settings.tempdir)
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        let (name, folder) = (staged.name(), self.folder()?);
        if staged.size() > 0 {
            self.create(staged, folder.path())?;
        }
        let stale = self.recovery.lock().as_ref().and_then(|all| all.get(name).cloned());
        // First, so that no file is to be seen without them.
        let recovery = self.put_recovery(folder.path())?;
        let listed = self.inner.put(staged)?;
        let is_stale = |old: &&Listed| recovery.iter().all(|new| new.name != old.name);
        let stale = stale.unwrap_or_default();
        let stale: Vec<&str> = stale.iter().filter(is_stale).map(|old| old.name.as_str()).collect();
        if !stale.is_empty() {
            // They are of an earlier file, and par2 passes them over.
            self.inner.delete(&stale);
        }
        if let Some(all) = self.recovery.lock().as_mut() {
            all.insert(name.into(), recovery);
        }
        Ok(listed)
    }

    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        let mut all: Vec<(usize, String)> = Vec::new();
        for (number, &name) in names.iter().enumerate() {
            // First, so that what is left of a deletion that breaks off is seen, and deleted again.
            match self.recovery_of(name) {
                Ok(recovery) => all.extend(recovery.into_iter().map(|file| (number, file.name))),
                Err(error) => return names.iter().map(|_| Err(error.clone())).collect(),
            }
        }
        all.extend(names.iter().enumerate().map(|(number, &name)| (number, name.to_string())));
        let mut results: Vec<Result<(), Error>> = names.iter().map(|_| Ok(())).collect();
        let everything: Vec<&str> = all.iter().map(|(_, name)| name.as_str()).collect();
        for ((number, _), result) in all.iter().zip(self.inner.delete(&everything)) {
            results[*number] = std::mem::replace(&mut results[*number], Ok(())).and(result);
        }
        if let Some(known) = self.recovery.lock().as_mut() {
            let gone = names.iter().zip(&results).filter(|(_, result)| result.is_ok());
            gone.for_each(|(name, _)| drop(known.remove(*name)));
        }
        results
    }
}

/// The rest of a file that was mended.
struct Stream {
    whole: Arc<Whole>,
    file: Listed,
    offset: u64,
}

impl ByteStream for Stream {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let count = self.whole.read_at(&self.file, self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_files_are_known_by_their_names() {
        for (name, file) in [
            ("a.par2", Some("a")),
            ("a.vol000+200.par2", Some("a")),
            ("x.vol1.difftar.gz.par2", Some("x.vol1.difftar.gz")),
            ("x.vol1.difftar.gz.vol0+8.par2", Some("x.vol1.difftar.gz")),
            (".dupfs-a.vol0+8.par2.tmp", Some("a")),
            ("a.vol1x.par2", Some("a.vol1x")),
            ("a.par2.gz", None),
            (".dupfs-a.tmp", None),
        ] {
            assert_eq!(protected(name), file, "{name}");
        }
    }
}
