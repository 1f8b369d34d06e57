//! [`open`]: from a URL to the kind of storage that serves it.

#[cfg(feature = "sftp")]
use super::SftpStorage;
use super::{Error, ErrorKind, LocalStorage, Settings, Storage, Url};
use std::sync::Arc;

/// Schemes of storages behind SSH. However duplicity reaches them, SFTP is what such a host speaks.
const SSH: &[&str] = &[
    "sftp",
    "scp",
    "ssh",
    "fish",
    "paramiko+sftp",
    "paramiko+scp",
    "pexpect+sftp",
    "pexpect+scp",
    "lftp+sftp",
    "lftp+fish",
];

/// Opens the storage behind a URL; nothing is read yet.
///
/// # Errors
/// [`Error`] with [`ErrorKind::BadUrl`] when no storage of this kind is served.
pub fn open(url: &Url, settings: Settings) -> Result<Arc<dyn Storage>, Error> {
    let bad = |cause: &str| {
        let (place, kind) = (url.to_string(), ErrorKind::BadUrl);
        Error { operation: "use", place, kind, cause: cause.into() }
    };
    let Some(directory) = url.local_directory() else {
        return match url.scheme() {
            #[cfg(feature = "sftp")]
            scheme if SSH.contains(&scheme) => Ok(Arc::new(SftpStorage::new(url, settings)?)),
            scheme if SSH.contains(&scheme) => {
                Err(bad("this dupfs was built without its feature sftp"))
            }
            _ => Err(bad("scheme not supported; dupfs serves file:// and sftp:// so far")),
        };
    };
    // Absolute from now on: a mount in the background leaves the current directory.
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.into());
    Ok(Arc::new(LocalStorage::new(directory).with_transfers(settings.transfers.unwrap_or(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_served_is_refused_without_telling_the_password() {
        let error = open(&Url::parse("bad://user:secret@host/x").unwrap(), Settings::default())
            .err()
            .unwrap();
        assert_eq!(
            (error.kind, error.place.as_str()),
            (ErrorKind::BadUrl, "bad://user:***@host/x")
        );
    }

    /// Nothing is started before something is asked.
    #[cfg(feature = "sftp")]
    #[test]
    fn every_spelling_of_ssh_is_served() {
        for scheme in SSH {
            let url = Url::parse(format!("{scheme}://user:secret@host/x")).unwrap();
            let storage = open(&url, Settings::default()).ok().unwrap();
            assert_eq!(storage.location(), format!("{scheme}://user:***@host/x"));
        }
    }
}
