//! Which folders are meant: the archive directory, our cache, that of temporary files.

use super::Common;
use dupfs::collection::{ArchiveDirectory, ArchiveOptions};
use dupfs::format::Prefixes;
use dupfs::storage::Url;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use uzers::os::unix::UserExt;

/// Returns duplicity's archive directory of a collection.
pub fn archive_directory(typed: &OsStr, common: &Common) -> Option<PathBuf> {
    let (xdg, home) = caches();
    let archive_dir = common.archive_dir.as_deref().map(expand);
    let (archive_dir, name) = (archive_dir.as_deref(), common.name.as_deref());
    ArchiveOptions {
        archive_dir,
        name,
        url: typed.as_bytes(),
        xdg_cache_home: xdg.as_deref(),
        home: home.as_deref(),
    }
    .directory()
}

/// Returns where temporary files lie.
pub fn tempdir(common: &Common) -> anyhow::Result<PathBuf> {
    match common.tempdir.as_deref().map(expand) {
        Some(tempdir) if !tempdir.is_dir() => Err(anyhow::anyhow!(
            "cannot use '{}' for temporary files: {}",
            tempdir.display(),
            if tempdir.exists() { "it is not a folder" } else { "it does not exist" }
        )),
        Some(tempdir) => Ok(std::path::absolute(tempdir)?),
        None => Ok(std::env::temp_dir()),
    }
}

/// Replaces a leading `~` by the home directory and `$NAME` by that variable, which a shell leaves
/// alone in `--archive-dir=~/backup`. Variables that are not set stay as they are.
pub fn expand(path: &Path) -> PathBuf {
    shellexpand::path::full_with_context_no_errors(path, home, |name| std::env::var_os(name))
        .into_owned()
}

/// Returns `XDG_CACHE_HOME` and the home directory.
fn caches() -> (Option<PathBuf>, Option<PathBuf>) {
    (std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from), home())
}

/// Returns the home directory: `HOME`, or that of the account as which this runs, since services of
/// systemd have no such variable.
fn home() -> Option<PathBuf> {
    let is_known = |home: &PathBuf| !home.as_os_str().is_empty();
    let of_account =
        || Some(uzers::get_user_by_uid(uzers::get_current_uid())?.home_dir().to_path_buf());
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(is_known)
        .or_else(of_account)
        .filter(is_known)
}

/// Returns our own cache directory of a collection, if anything tells where caches are.
pub fn our_cache(url: &Url, prefixes: &Prefixes, signer: Option<&String>) -> Option<PathBuf> {
    let (xdg, home) = caches();
    cache_directory(url, prefixes, signer, xdg.as_deref(), home.as_deref())
}

/// Returns our own cache directory of a collection: `dupfs/NAME` in the user's cache, NAME derived
/// from where the collection is.
///
/// What was read while a signature was demanded is kept apart: nothing in there has come from a
/// file without it.
fn cache_directory(
    url: &Url,
    prefixes: &Prefixes,
    signer: Option<&String>,
    xdg: Option<&Path>,
    home: Option<&Path>,
) -> Option<PathBuf> {
    let xdg = xdg.filter(|path| path.is_absolute()).map(Path::to_path_buf);
    let cache = xdg.or_else(|| home.map(|home| home.join(".cache")))?;
    let place = match url.local_directory() {
        Some(directory) => format!(
            "{:?}",
            std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf())
        ),
        None => format!("{:?}", url.typed()),
    };
    let Prefixes { global, archive, manifest, signature, jsonstat: _ } = prefixes;
    let signer = signer.map_or_else(String::new, |key| format!("\0signed by {key}"));
    let name = blake3::hash(
        format!("{place}\0{global}\0{archive}\0{manifest}\0{signature}{signer}").as_bytes(),
    );
    Some(cache.join("dupfs").join(&name.to_hex()[..32]))
}

/// Returns where the journal lies in our own cache directory, which is made if it is missing. Each
/// archive directory has its own: it is what is locked, so that two may save to one place at a
/// time.
pub fn journal(cache: &Path, archive: &ArchiveDirectory) -> Option<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(cache).ok()?;
    let archive = blake3::hash(archive.path().as_os_str().as_bytes()).to_hex();
    Some(cache.join(format!("session-{}", &archive[..16])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_expanded_as_far_as_known() {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        for (typed, expected) in [
            ("~/x/", home.join("x")),
            ("$HOME/x", home.join("x")),
            ("${HOME}", home),
            ("a~/$DUPFS_NO_SUCH_VARIABLE", PathBuf::from("a~/$DUPFS_NO_SUCH_VARIABLE")),
        ] {
            assert_eq!(expand(Path::new(typed)), expected, "{typed}");
        }
    }
}
