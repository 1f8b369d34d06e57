//! duplicity's archive directory: manifests and signature files kept at hand, decrypted.
//!
//! duplicity keeps `*.manifest` as plain text and `*.sigtar.gz` compressed (`.st.z` for short names
//! of 0.8) under the names, prefixes included, that the stored files have. Beside them lie things
//! that are of no use here: `.part` checkpoints of an unfinished session, `.gpg` files on their way
//! to the storage, statistics, a lock file. The directory is only ever read.
//!
//! A file here is a copy as of duplicity's last run. Its set may be gone from the storage since,
//! and a restarted session may have replaced it; whoever uses it checks what it says against the
//! storage.
//!
//! Source: archive directories of duplicity 0.8.22 and 3.2.1.

use crate::format::{Content, Encoding, Prefixes, Session, StoredName};
use crate::storage::{self, ErrorKind, LocalStorage, Storage, StoredFile};
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What decides where the archive directory is. Paths are final: `~` and variables in them are
/// expanded before.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArchiveOptions<'a> {
    /// `--archive-dir`.
    pub archive_dir: Option<&'a Path>,
    /// `--name`; may hold `/`.
    pub name: Option<&'a str>,
    /// The URL exactly as typed, password and trailing slash included.
    pub url: &'a [u8],
    /// The variable `XDG_CACHE_HOME`; empty counts as unset.
    pub xdg_cache_home: Option<&'a Path>,
    /// The home directory.
    pub home: Option<&'a Path>,
}

impl ArchiveOptions<'_> {
    /// Returns the archive directory of one collection: ARCHIVE/NAME. ARCHIVE is by default
    /// `duplicity` in the cache directory, NAME the MD5 of the URL. `None` if nothing tells where
    /// caches are.
    pub fn directory(&self) -> Option<PathBuf> {
        let cache = || {
            let xdg = self
                .xdg_cache_home
                .filter(|path| !path.as_os_str().is_empty())
                .map(Path::to_path_buf);
            Some(xdg.or_else(|| self.home.map(|home| home.join(".cache")))?.join("duplicity"))
        };
        let archive = self.archive_dir.map(Path::to_path_buf).or_else(cache)?;
        Some(archive.join(self.name.map_or_else(|| hex_md5(self.url), str::to_string)))
    }
}

fn hex_md5(text: &[u8]) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A decrypted manifest or signature file.
#[derive(Clone)]
pub struct LocalFile {
    /// The file.
    pub file: StoredFile,
    /// How it is stored: plain or compressed, never encrypted.
    pub encoding: Encoding,
}

/// The manifests and signature files in an archive directory.
pub struct LocalCopy {
    files: BTreeMap<(Session, Content), LocalFile>,
}

impl LocalCopy {
    /// Looks what is in an archive directory; one that does not exist holds nothing.
    ///
    /// # Errors
    /// [`storage::Error`] when the directory cannot be listed.
    pub fn open(directory: &Path, prefixes: &Prefixes) -> Result<Self, storage::Error> {
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(directory));
        let listing = match storage.list() {
            Err(error) if error.kind == ErrorKind::NotFound => Vec::new(),
            listing => listing?,
        };
        let mut files = BTreeMap::new();
        for listed in listing {
            let Some(name) = StoredName::parse(&listed.name, prefixes) else { continue };
            let kept = matches!(name.content, Content::Manifest | Content::Signatures);
            if !kept || name.partial || name.encoding == Encoding::OpenPgp {
                continue;
            }
            let local = LocalFile {
                file: StoredFile::new(Arc::clone(&storage), listed),
                encoding: name.encoding,
            };
            let usual =
                if name.content == Content::Manifest { Encoding::Plain } else { Encoding::Gzip };
            if name.encoding == usual || !files.contains_key(&(name.session, name.content)) {
                files.insert((name.session, name.content), local);
            }
        }
        Ok(Self { files })
    }

    /// Returns the copy of a set's manifest.
    pub fn manifest(&self, session: Session) -> Option<&LocalFile> {
        self.files.get(&(session, Content::Manifest))
    }

    /// Returns the copy of a set's signature file.
    pub fn signatures(&self, session: Session) -> Option<&LocalFile> {
        self.files.get(&(session, Content::Signatures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BackupTime;
    use crate::storage::ReadAt;

    #[test]
    fn directories_as_duplicity_finds_them() {
        let url = "file:///srv/backup";
        let home = Some(Path::new("/home/me"));
        let directory =
            |options: ArchiveOptions| options.directory().map(|path| path.display().to_string());
        let md5 = "018b63a28f536acd92d887ced9519d4d";
        let base = ArchiveOptions { url: url.as_bytes(), home, ..ArchiveOptions::default() };
        let (xdg, arch) = (Some(Path::new("/x")), Some(Path::new("/arch")));
        for (options, expected) in [
            (base, format!("/home/me/.cache/duplicity/{md5}")),
            (
                ArchiveOptions { url: b"file:///srv/backup/", ..base },
                "/home/me/.cache/duplicity/9f1201731aae6399ea03b8c1208082ec".into(),
            ),
            (ArchiveOptions { xdg_cache_home: xdg, ..base }, format!("/x/duplicity/{md5}")),
            (
                ArchiveOptions { xdg_cache_home: Some(Path::new("")), ..base },
                format!("/home/me/.cache/duplicity/{md5}"),
            ),
            (
                ArchiveOptions { archive_dir: arch, xdg_cache_home: xdg, ..base },
                format!("/arch/{md5}"),
            ),
            (ArchiveOptions { name: Some("foo"), ..base }, "/home/me/.cache/duplicity/foo".into()),
            (
                ArchiveOptions { archive_dir: arch, name: Some("a/b"), home: None, ..base },
                "/arch/a/b".into(),
            ),
        ] {
            assert_eq!(directory(options), Some(expected));
        }
        assert_eq!(directory(ArchiveOptions { home: None, ..base }), None);
    }

    #[test]
    fn only_final_decrypted_files_count() {
        let directory = tempfile::tempdir().unwrap();
        let (t, u) = ("20261122T150210Z", "20261122T150213Z");
        for name in [
            format!("p-duplicity-full.{t}.manifest"),
            format!("p-duplicity-full-signatures.{t}.sigtar.gz"),
            format!("p-duplicity-inc.{t}.to.{u}.manifest.part"),
            format!("p-duplicity-new-signatures.{t}.to.{u}.sigtar.part"),
            format!("p-duplicity-new-signatures.{t}.to.{u}.sigtar.gpg"),
            format!("p-duplicity-full.{u}.jsonstat.gz"),
            format!("p-duplicity-full.{u}.vol1.difftar"),
            "p-dfs.towsfp.st.z".to_string(),
            "p-dfs.towsfp.st".to_string(),
            "lockfile".to_string(),
        ] {
            std::fs::write(directory.path().join(name), "x").unwrap();
        }
        let prefixes = Prefixes { global: "p-".into(), ..Prefixes::default() };
        let local = LocalCopy::open(directory.path(), &prefixes).unwrap();
        let [t, u] = [1795359730, 1795359733].map(BackupTime::from_seconds);
        let (full, later, inc) = (
            Session::Full { time: t },
            Session::Full { time: u },
            Session::Incremental { start: t, end: u },
        );
        assert_eq!(local.files.len(), 3);
        assert_eq!(local.manifest(full).unwrap().encoding, Encoding::Plain);
        assert_eq!(local.signatures(full).unwrap().encoding, Encoding::Gzip);
        assert_eq!(local.signatures(later).unwrap().file.name(), "p-dfs.towsfp.st.z");
        assert!(local.manifest(inc).is_none() && local.signatures(inc).is_none());
    }

    #[test]
    fn a_missing_directory_holds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalCopy::open(&directory.path().join("none"), &Prefixes::default()).unwrap();
        assert!(local.files.is_empty());
    }
}
