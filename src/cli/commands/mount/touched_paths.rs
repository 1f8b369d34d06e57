//! What the server of a mount touches in the file system, in one list, and what follows from it.
//!
//! The server must never wait for itself: a question of its own about a path at or below the
//! mountpoint comes back to it as a request, and where it dies meanwhile, the kernel keeps all of
//! it for ever. So nothing on the list may lie at the mountpoint, or lead through it, by a link or
//! by `..`. Folders are told apart by device and inode, since a mount shows in all places to which
//! its folder is bound.
//!
//! Paths are made absolute before the server leaves the directory where the program was called.
//! Where others do without that, as gpg with its own folder, it stays there.

use crate::cli::arguments::decoding::gpg_words;
use crate::cli::arguments::folders::{archive_directory, expand, our_cache};
use crate::cli::arguments::{Common, names};
use crate::cli::failure::Failure;
use crate::cli::output::log;
use dupfs::codec;
use dupfs::storage::Url;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows in a path.
const MOST_LINKS: usize = 40;

/// A path, and what it is to the user.
struct Touched {
    what: &'static str,
    path: PathBuf,
    /// Files in this folder are opened by their names, and may be links.
    holds_files: bool,
}

/// All that the server of a mount touches.
pub struct TouchedPaths {
    all: Vec<Touched>,
    stays: bool,
}

impl TouchedPaths {
    /// Lists what serving a collection takes.
    pub fn new(url: &Url, typed: &std::ffi::OsStr, common: &Common) -> Self {
        let mut all = Vec::new();
        let mut add = |what, path: Option<PathBuf>, holds_files| {
            all.extend(path.map(|path| Touched { what, path, holds_files }));
        };
        let given = |path: &Option<PathBuf>| path.as_deref().map(expand);
        add("the collection", url.local_directory().map(Path::to_path_buf), true);
        let cache = our_cache(url, &names::prefixes(common), common.signer());
        add("the cache of this program (XDG_CACHE_HOME)", cache, true);
        add("the archive directory (--archive-dir)", archive_directory(typed, common), true);
        add("the folder for temporary files (--tempdir)", given(&common.tempdir), false);
        add("the folder for temporary files (TMPDIR)", Some(std::env::temp_dir()), false);
        let gpg = codec::gpg_home(&gpg_words(common));
        let stays = gpg.is_relative() || std::env::temp_dir().is_relative();
        add("the folder of GnuPG (--homedir, GNUPGHOME)", Some(gpg), true);
        // A bare name is looked up in PATH.
        let binary = Some(&common.gpg_binary).filter(|binary| binary.components().count() > 1);
        add("the program gpg (--gpg-binary)", binary.cloned(), false);
        add(
            "the file of secret keys (--encrypt-secret-keyring)",
            given(&common.encrypt_secret_keyring),
            false,
        );
        add("the file of passphrases (--passphrase-file)", given(&common.passphrase_file), false);
        add("the file of variables (--env-file)", given(&common.env_file), false);
        add("the log (--log-file)", log::path().map(Path::to_path_buf), false);
        for path in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .filter(|path| path.is_absolute())
        {
            add("a folder of programs (PATH)", Some(path), false);
        }
        Self { all, stays }
    }

    /// Returns whether the server must not leave the current directory.
    pub fn need_current_directory(&self) -> bool {
        self.stays
    }

    /// Refuses a mountpoint that any of them lies at or leads through, and one that the server
    /// comes across where it lists the collection. One that is not there is refused later.
    ///
    /// # Errors
    /// [`Failure::CommandLine`]
    pub fn check(&self, mountpoint: &Path) -> Result<(), Failure> {
        let Ok(folder) = mountpoint.metadata() else { return Ok(()) };
        let refuse = |why: String| {
            Err(Failure::CommandLine(format!("cannot mount on '{}': {why}", mountpoint.display())))
        };
        if let (Some(collection), Ok(inside)) = (self.all.first(), mountpoint.canonicalize())
            && let Ok(collection) = collection.path.canonicalize()
            && inside.starts_with(&collection)
        {
            let collection = collection.display();
            return refuse(format!(
                "it lies in the collection's own folder '{collection}'; choose an empty folder elsewhere"
            ));
        }
        let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let place = Mountpoint { folder: (folder.dev(), folder.ino()), here: &here };
        if place.is_met(&here) {
            return refuse("it is the current directory, which would go on showing what lies below; change to another".into());
        }
        match self.all.iter().find_map(|touched| Some((touched, place.way(touched)?))) {
            Some((touched, path)) => refuse(format!(
                "{}, '{}', lies there or leads through it, so that the mount would wait for itself; choose another folder for one of them",
                touched.what,
                path.display()
            )),
            None => Ok(()),
        }
    }
}

/// A mountpoint, and where relative paths begin.
struct Mountpoint<'a> {
    folder: (u64, u64),
    here: &'a Path,
}

impl Mountpoint<'_> {
    /// Returns the path that meets the mountpoint: that of the thing, or of a link in it.
    fn way(&self, touched: &Touched) -> Option<PathBuf> {
        if self.is_met(&touched.path) {
            return Some(touched.path.clone());
        }
        let entries = touched.path.read_dir().ok().filter(|_| touched.holds_files)?;
        let links =
            entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        links.map(|link| link.path()).find(|path| self.is_met(path))
    }

    /// Follows a path as the kernel would, and tells whether the mountpoint is on its way. The way
    /// ends where nothing is yet.
    fn is_met(&self, path: &Path) -> bool {
        let mut left: VecDeque<OsString> = VecDeque::new();
        let push = |left: &mut VecDeque<OsString>, path: &Path| {
            path.components()
                .rev()
                .for_each(|component| left.push_front(component.as_os_str().to_owned()));
        };
        push(&mut left, path);
        push(&mut left, self.here);
        let (mut place, mut links) = (PathBuf::new(), 0);
        while let Some(component) = left.pop_front() {
            match Path::new(&component).components().next() {
                Some(Component::ParentDir) => {
                    place.pop();
                }
                // A path from the root forgets what came before.
                _ => place.push(&component),
            }
            let Ok(found) = place.symlink_metadata() else { return false };
            if (found.dev(), found.ino()) == self.folder {
                return true;
            }
            if found.is_symlink() {
                links += 1;
                let target = place.read_link().ok().filter(|_| links <= MOST_LINKS);
                let Some(target) = target else { return false };
                place.pop();
                push(&mut left, &target);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn ways_are_followed_as_the_kernel_does() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for name in ["mount", "other/deep", "mounted"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        symlink(root.join("mount/new"), root.join("absolute")).unwrap();
        symlink("../mount/../other", root.join("other/through")).unwrap();
        symlink("deep", root.join("other/beside")).unwrap();
        symlink("absolute/..", root.join("twice")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let folder = root.join("mount").metadata().unwrap();
        let other = root.join("other");
        let place = Mountpoint { folder: (folder.dev(), folder.ino()), here: &other };
        for met in [
            "mount",
            "mount/",
            "mount/a/b",
            "other/../mount",
            "mount/..",
            "absolute",
            "other/through/deep",
            "twice",
        ] {
            assert!(place.is_met(&root.join(met)), "{met}");
        }
        for free in
            ["", "other", "mounted", "nothing/../mount", "other/beside", "loop", "loop/mount"]
        {
            assert!(!place.is_met(&root.join(free)), "{free}");
        }
        for (relative, is_met) in [
            ("../mount", true),
            ("through", true),
            ("deep", false),
            ("beside/..", false),
            ("", false),
        ] {
            assert_eq!(place.is_met(Path::new(relative)), is_met, "{relative}");
        }
    }
}
