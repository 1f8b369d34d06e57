//! What a new set is to be, by names and by the newest manifest: full or an increment, of which
//! time, and whether it is of the source that the set before is of.

use super::Error;
use crate::catalog::Chain;
use crate::collection::{ArchiveDirectory, Collection};
use crate::format::{Content, Manifest, Prefixes, StoredName};
use crate::model::BackupTime;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds that the newest set may lie ahead, at most: so long a session waits for its own time.
const LONGEST_WAIT: i64 = 5;

/// Which set was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// An increment if there is something to build on, else a full set.
    Either,
    /// A full set.
    Full,
    /// An increment.
    Increment,
}

/// What a new set builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// On nothing: a full set, and why, if it was not asked for.
    Nothing(Option<WhyFull>),
    /// On so many sets of the newest chain.
    Sets(usize),
}

/// Why a set is full though that was not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyFull {
    /// The newest full set is too old, or there is none.
    TooOld,
    /// There are no signatures to build on.
    NoSignatures,
    /// Too many increments stand on the newest full set.
    TooManyIncrements,
}

impl Basis {
    /// Decides whether to build on the newest chain, and on how many of its sets; by names alone. A
    /// chain that begins before `oldest` is too old; one of more sets than `most` is too long.
    /// Returns none where there is nothing to build an increment on, and only that will do.
    pub fn choose(
        wanted: Wanted,
        collection: &Collection,
        oldest: Option<BackupTime>,
        most: Option<usize>,
    ) -> Option<Self> {
        if wanted == Wanted::Full {
            return Some(Self::Nothing(None));
        }
        let newest = collection.chains.last();
        // No full backup at all is too old, too, whatever was asked for: the first run of a line
        // for cron is a full one.
        if oldest.is_some_and(|oldest| newest.is_none_or(|chain| chain.start() < oldest)) {
            return Some(Self::Nothing(Some(WhyFull::TooOld)));
        }
        match collection.buildable() {
            None if wanted == Wanted::Increment => None,
            None => Some(Self::Nothing(Some(WhyFull::NoSignatures))),
            Some(count) if most.is_some_and(|most| count > most) => {
                Some(Self::Nothing(Some(WhyFull::TooManyIncrements)))
            }
            Some(count) => Some(Self::Sets(count)),
        }
    }
}

/// The newest set is of a time that is not in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the newest backup is of {}, which is not in the past: check this machine's clock",
    .0.print_asctime()
)]
pub struct ClockBehind(pub BackupTime);

/// Returns a time for a new set, later than those of all others, since names carry whole seconds;
/// and how long to wait until then. A time that is only pretended never comes.
///
/// # Errors
/// [`ClockBehind`] where waiting would take long, or be in vain.
pub fn free_time(
    collection: &Collection,
    now: BackupTime,
    is_pretended: bool,
) -> Result<(BackupTime, Duration), ClockBehind> {
    let newest = collection.chains.iter().map(|chain| chain.end()).max();
    let Some(newest) = newest.filter(|newest| *newest >= now) else {
        return Ok((now, Duration::ZERO));
    };
    let ahead = newest.seconds() - now.seconds();
    if is_pretended || ahead > LONGEST_WAIT {
        return Err(ClockBehind(newest));
    }
    let wait = Duration::from_secs(ahead as u64 + 1);
    Ok((BackupTime::from_seconds(newest.seconds() + 1), wait))
}

/// In what a source is not the one that a set was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch<'m> {
    /// It is on another machine than this one.
    Host(&'m [u8]),
    /// It is another folder than this one.
    Source(&'m [u8]),
}

/// Compares a source with that of a set: the name of the machine, then the folder as it was typed.
/// A host name and its fully qualified form are the same, and so are different spellings of one
/// folder.
pub fn mismatch<'m>(manifest: &'m Manifest, host: &[u8], source: &Path) -> Option<Mismatch<'m>> {
    let known_host = manifest.hostname.as_deref().filter(|known| !is_same_host(known, host));
    let known_source =
        manifest.local_directory.as_deref().filter(|known| !is_same_source(known, source));
    known_host.map(Mismatch::Host).or(known_source.map(Mismatch::Source))
}

fn is_same_host(known: &[u8], host: &[u8]) -> bool {
    let first = |name: &[u8]| name.split(|&b| b == b'.').next().map(<[u8]>::to_vec);
    known == host || (known.contains(&b'.') != host.contains(&b'.')) && first(known) == first(host)
}

fn is_same_source(known: &[u8], typed: &Path) -> bool {
    let known = Path::new(OsStr::from_bytes(known));
    let plain = |path: &Path| path.components().collect::<PathBuf>();
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    plain(known) == plain(typed) || real(known).is_some_and(|known| real(typed) == Some(known))
}

/// Returns whether two manifests are of the same set, as duplicity compares them.
pub fn is_same_set(one: &Manifest, other: &Manifest) -> bool {
    let numbers =
        |manifest: &Manifest| manifest.volumes().map(|volume| volume.number).collect::<Vec<_>>();
    numbers(one) == numbers(other)
        && one.hostname == other.hostname
        && one.local_directory == other.local_directory
}

/// Returns for each set of a chain the name of its statistics in the archive directory, if they are
/// there.
///
/// # Errors
/// [`Error::Storage`] when the directory cannot be listed.
pub fn stored_statistics(
    chain: &Chain,
    archive: &ArchiveDirectory,
    prefixes: &Prefixes,
) -> Result<Vec<Option<String>>, Error> {
    let listing = archive.list()?;
    let is_of = |name: &str, session| {
        StoredName::parse(name, prefixes).is_some_and(|name| {
            name.content == Content::Statistics && name.session == session && !name.partial
        })
    };
    let find = |session| {
        listing.iter().map(|listed| &listed.name).find(|name| is_of(name, session)).cloned()
    };
    Ok(chain.sets.iter().map(|set| find(set.session)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_its_short_name_too() {
        for (known, host, is_same) in [
            ("a", "a", true),
            ("a", "a.example", true),
            ("a.example", "a", true),
            ("a.example", "a.test", false),
            ("a", "b", false),
            ("a", "b.a", false),
        ] {
            assert_eq!(is_same_host(known.as_bytes(), host.as_bytes()), is_same, "{known} {host}");
        }
    }

    #[test]
    fn a_folder_is_known_in_any_spelling() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, directory.path().join("link")).unwrap();
        let known = real.as_os_str().as_bytes();
        assert!(is_same_source(known, &real));
        assert!(is_same_source(known, &directory.path().join("link")));
        assert!(is_same_source(b"gone/./a", Path::new("gone/a/")));
        assert!(!is_same_source(known, directory.path()));
    }
}
