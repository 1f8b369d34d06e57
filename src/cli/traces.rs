//! What this program itself leaves in a source: mounts of backups, which would be saved once more
//! by each backup, and its cache, which changes with each and can be made anew. Both are left out,
//! and named.
//!
//! Mounts are found in the kernel's table, and nothing is asked of them: one whose server is
//! stopped never answers. Temporary files have no names, wherever `--tempdir` is, so that nothing
//! of them can be met.

use super::arguments::{Common, folders, names};
use dupfs::model::EntryPath;
use dupfs::monitor::{Level, Monitor};
use dupfs::source::Selection;
use dupfs::storage::Url;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Returns what is to be left out of a source, and reports it as far as it would be saved
/// otherwise.
pub fn find(
    name: &[u8],
    url: &Url,
    common: &Common,
    selection: Option<&Selection>,
    monitor: &dyn Monitor,
) -> Vec<EntryPath> {
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    let is_link = !common.writing.copy_links && name.is_symlink();
    let Some(root) = name.canonicalize().ok().filter(|_| !is_link) else { return Vec::new() };
    let mounts = mounts(&std::fs::read("/proc/self/mountinfo").unwrap_or_default());
    let cache = folders::our_cache(url, &names::prefixes(common), None);
    let cache = cache.and_then(|cache| cache.parent()?.canonicalize().ok());
    let traces =
        mounts.into_iter().map(|mount| (mount, true)).chain(cache.map(|cache| (cache, false)));
    let mut found = Vec::new();
    for (place, is_mount) in traces {
        let Some(inside) =
            place.strip_prefix(&root).ok().filter(|inside| !inside.as_os_str().is_empty())
        else {
            continue;
        };
        let Ok(path) = EntryPath::parse(inside.as_os_str().as_bytes()) else { continue };
        if !found.contains(&path)
            && selection.is_none_or(|selection| selection.takes_folder(&root, inside, is_mount))
        {
            let what = if is_mount {
                "backups are mounted there"
            } else {
                "it is the cache of this program"
            };
            monitor.message(
                Level::Notice,
                &format!("Leaving out '{}': {what}.", name.join(inside).display()),
            );
        }
        found.push(path);
    }
    found
}

/// Returns where backups are mounted, from the kernel's table of mounts.
fn mounts(table: &[u8]) -> Vec<PathBuf> {
    let mount = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let kind = fields
            .iter()
            .skip(6)
            .position(|field| field == b"-")
            .and_then(|end| fields.get(6 + end + 1))?;
        (*kind == b"fuse.dupfs").then(|| unescape(fields[4]))
    };
    table.split(|&byte| byte == b'\n').filter_map(mount).collect()
}

/// Returns a path of the table, in which spaces and the like are three octal digits behind a
/// backslash.
fn unescape(path: &[u8]) -> PathBuf {
    let mut plain = Vec::new();
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let byte =
            digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_from_the_kernels_table() {
        let table = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            90 22 0:51 / /home/me/my\\040back\\134ups ro,nosuid shared:7 master:2 - fuse.dupfs file:///x ro,user_id=0\n\
            91 22 0:52 / /mnt ro - fuse.sshfs fuse.dupfs ro\n92 22 0:53 / /m ro - fuse.dupfs - ro\n\ntorn 1";
        assert_eq!(mounts(table), [PathBuf::from("/home/me/my back\\ups"), PathBuf::from("/m")]);
    }
}
