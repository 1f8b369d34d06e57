//! [`check_stored`]: what was stored is looked at once more before anything says that it is there.

use super::{Error, Listed, Storage};
use std::collections::HashMap;

/// Why a file is not in storage as it was stored.
#[derive(Debug, thiserror::Error)]
pub enum NotStored {
    /// It has another size. The first words are duplicity's.
    #[error(
        "File {name} was corrupted during upload: storage has {stored} bytes of it instead of {size}; run this again to store it anew"
    )]
    WrongSize {
        /// Its name.
        name: String,
        /// Bytes that were stored.
        size: u64,
        /// Bytes that are there.
        stored: u64,
    },
    /// It is not there. The first words are duplicity's.
    #[error(
        "File {name} was corrupted during upload: it is not in storage any more; run this again to store it anew, or look whether another disk or folder \
         has taken the place of the first"
    )]
    Missing {
        /// Its name.
        name: String,
        /// Bytes that were stored.
        size: u64,
    },
    /// It has the same size, and is another one. The first words are duplicity's.
    #[error(
        "File {name} was corrupted during upload: another program has stored a file of this name meanwhile; back up from one place at a time, and run \
         this again"
    )]
    Replaced {
        /// Its name.
        name: String,
        /// Bytes that were stored.
        size: u64,
    },
    /// The storage cannot be listed.
    #[error(transparent)]
    Storage(#[from] Error),
}

/// Makes sure that files are still there as they were stored, by size, and by time stamp where it
/// is known (not 0): a disk may have been unplugged meanwhile, and its mountpoint have taken the
/// rest; or another program, with an archive directory of its own, has begun a set in the same
/// second.
///
/// Returns the listing in which they are.
///
/// # Errors
/// [`NotStored`] for the first file that is not.
pub fn check_stored(
    storage: &dyn Storage,
    files: impl IntoIterator<Item = Listed>,
) -> Result<Vec<Listed>, NotStored> {
    let listing = storage.list()?;
    let found: HashMap<&str, &Listed> =
        listing.iter().map(|listed| (listed.name.as_str(), listed)).collect();
    for Listed { name, size, stamp } in files {
        match found.get(name.as_str()) {
            Some(stored) if stored.size != size => {
                return Err(NotStored::WrongSize { name, size, stored: stored.size });
            }
            Some(stored) if stamp != 0 && stored.stamp != 0 && stored.stamp != stamp => {
                return Err(NotStored::Replaced { name, size });
            }
            Some(_) => {}
            None => return Err(NotStored::Missing { name, size }),
        }
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LocalStorage;

    #[test]
    fn what_is_short_or_gone_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let storage = LocalStorage::new(directory.path());
        let stored = || {
            [("a", 3), ("b", 0)].map(|(name, size)| Listed {
                name: name.to_string(),
                size,
                stamp: 0,
            })
        };
        let looked =
            || check_stored(&storage, stored()).map(|_| ()).map_err(|error| error.to_string());
        for (name, content) in [("a", "abc"), ("b", ""), ("c", "foreign")] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        assert_eq!(looked(), Ok(()));
        let ours = storage.list().unwrap();
        check_stored(&storage, ours.clone()).unwrap();
        std::fs::rename(directory.path().join("a"), directory.path().join("d")).unwrap();
        std::fs::write(directory.path().join("a"), "xyz").unwrap();
        let error = check_stored(&storage, ours).unwrap_err().to_string();
        assert!(error.contains("another program has stored a file of this name"), "{error}");
        assert!(looked().is_ok());
        std::fs::write(directory.path().join("a"), "ab").unwrap();
        let error = looked().unwrap_err();
        assert!(
            error.starts_with(
                "File a was corrupted during upload: storage has 2 bytes of it instead of 3; "
            ),
            "{error}"
        );
        std::fs::write(directory.path().join("a"), "abc").unwrap();
        std::fs::remove_file(directory.path().join("b")).unwrap();
        let error = looked().unwrap_err();
        assert!(
            error.starts_with("File b was corrupted during upload: it is not in storage any more"),
            "{error}"
        );
        std::fs::remove_dir_all(directory.path()).unwrap();
        assert!(looked().unwrap_err().starts_with("cannot list '"));
    }
}
