//! [`open`]: from a URL to the kind of storage that serves it, with the layers around it.
//!
//! ```text
//! multi, par2 │ throttle │ retry │ recording, if it is to be slower │ service
//! ```

#[cfg(feature = "ftp")]
use super::FtpStorage;
#[cfg(feature = "http")]
use super::OpendalStorage;
#[cfg(feature = "rsync")]
use super::RsyncStorage;
#[cfg(feature = "sftp")]
use super::SftpStorage;
use super::{
    Error, LocalStorage, MultiConfig, MultiStorage, Par2Storage, RecordingStorage, RetryingStorage,
    Settings, Storage, ThrottledStorage, Url,
};
use std::sync::Arc;

/// Transfers at once that suit a storage that is to be slower.
const FAR_TRANSFERS: usize = 4;

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

/// Schemes of storages behind FTP.
const FTP: &[&str] = &["ftp", "ftps", "ftpes", "lftp+ftp", "lftp+ftps", "lftp+ftpes", "ncftp+ftp"];

/// Schemes of buckets of S3, or of what speaks its protocol.
const S3: &[&str] = &["s3", "s3+http", "boto+s3", "boto3+s3", "gs", "boto+gs"];

/// Schemes of WebDAV servers.
const WEBDAV: &[&str] = &[
    "webdav",
    "webdavs",
    "http",
    "https",
    "lftp+webdav",
    "lftp+webdavs",
    "lftp+http",
    "lftp+https",
];

/// Schemes of services that duplicity has served and that are no more, and why.
///
/// Source: the announcements of the services.
const ENDED: &[(&[&str], &str)] = &[
    (&["ad"], "Amazon Drive ended on 31 December 2023"),
    (&["cf+hubic"], "hubiC closed in 2022"),
    (&["gdata+gdocs"], "Google switched this interface off in 2015"),
    (&["copy", "slate", "sx", "u1"], "this service has ended"),
];

/// Returns why a scheme is not served, and what can be done.
fn unserved(scheme: &str) -> String {
    let ended = ENDED.iter().find(|(schemes, _)| schemes.contains(&scheme));
    let why = ended.map_or("scheme not supported", |(_, why)| why);
    format!(
        "{why}; the README lists what dupfs serves; what rclone knows is reached by rclone://remote:/folder, once 'rclone config' has made the remote, or read from a copy in a folder"
    )
}

/// Opens the storage behind a URL; nothing is read of it yet. Failed calls are tried again.
///
/// # Errors
/// [`Error`] with [`ErrorKind::BadUrl`](crate::storage::ErrorKind::BadUrl) when no storage of this kind is served, or the URL makes no
/// sense.
pub fn open(url: &Url, settings: Settings) -> Result<Arc<dyn Storage>, Error> {
    if url.scheme() == "multi" {
        return open_several(url, &settings);
    }
    if let Some(inner) = url.scheme().strip_prefix("par2+") {
        let inner = url.with_scheme(inner)?;
        return Ok(Arc::new(Par2Storage::new(open(&inner, settings.clone())?, settings)));
    }
    let (tries, delay, slower) = (settings.tries, settings.delay, settings.slower);
    let (transfers, monitor) = (settings.transfers, settings.monitor.clone());
    let download = settings.download.clone();
    let mut storage = service(url, settings)?;
    if let Some(slower) = slower {
        let recording = RecordingStorage::new(storage);
        storage = Arc::new(recording.far(slower, transfers.unwrap_or(FAR_TRANSFERS)));
    }
    let storage = Arc::new(RetryingStorage::new(storage, tries, delay, monitor));
    // What rsync fetches it limits by itself, and has here before any of it is read.
    let is_fast = url.scheme() == "rsync" || storage.abilities().rereads;
    Ok(match download.is_limited() && !is_fast {
        true => Arc::new(ThrottledStorage::new(storage, download)),
        false => storage,
    })
}

/// Opens all stores of a `multi://`.
fn open_several(url: &Url, settings: &Settings) -> Result<Arc<dyn Storage>, Error> {
    let config = MultiConfig::read(url)?;
    let stores = config.stores.into_iter().map(|store| {
        let mut settings = settings.clone();
        settings.own_variables.extend(store.variables);
        Ok((open(&store.url, settings)?, store.prefixes))
    });
    let stores = stores.collect::<Result<Vec<_>, Error>>()?;
    let how = (config.is_mirror, config.goes_on);
    Ok(Arc::new(MultiStorage::new(url, how, stores, settings)))
}

/// Opens the service itself.
fn service(url: &Url, settings: Settings) -> Result<Arc<dyn Storage>, Error> {
    let bad = |cause: &str| url.bad(cause);
    let Some(directory) = url.local_directory() else {
        return match url.scheme() {
            #[cfg(feature = "sftp")]
            scheme if SSH.contains(&scheme) => Ok(Arc::new(SftpStorage::new(url, settings)?)),
            scheme if SSH.contains(&scheme) => {
                Err(bad("this dupfs was built without its feature sftp"))
            }
            #[cfg(feature = "ftp")]
            scheme if FTP.contains(&scheme) => Ok(Arc::new(FtpStorage::new(url, settings)?)),
            scheme if FTP.contains(&scheme) => {
                Err(bad("this dupfs was built without its feature ftp"))
            }
            #[cfg(feature = "s3")]
            scheme if S3.contains(&scheme) => Ok(Arc::new(OpendalStorage::s3(url, settings)?)),
            scheme if S3.contains(&scheme) => {
                Err(bad("this dupfs was built without its feature s3"))
            }
            #[cfg(feature = "swift")]
            "swift" | "pca" => Ok(Arc::new(OpendalStorage::swift(url, settings)?)),
            #[cfg(not(feature = "swift"))]
            "swift" | "pca" => Err(bad("this dupfs was built without its feature swift")),
            #[cfg(feature = "azure")]
            "azure" => Ok(Arc::new(OpendalStorage::azure(url, settings)?)),
            #[cfg(not(feature = "azure"))]
            "azure" => Err(bad("this dupfs was built without its feature azure")),
            #[cfg(feature = "webdav")]
            scheme if WEBDAV.contains(&scheme) => {
                Ok(Arc::new(OpendalStorage::webdav(url, settings)?))
            }
            scheme if WEBDAV.contains(&scheme) => {
                Err(bad("this dupfs was built without its feature webdav"))
            }
            #[cfg(feature = "rsync")]
            "rsync" => Ok(Arc::new(RsyncStorage::new(url, settings)?)),
            #[cfg(not(feature = "rsync"))]
            "rsync" => Err(bad("this dupfs was built without its feature rsync")),
            #[cfg(feature = "rclone")]
            "rclone" => Ok(Arc::new(SftpStorage::by_rclone(url, settings)?)),
            #[cfg(not(feature = "rclone"))]
            "rclone" => Err(bad("this dupfs was built without its feature rclone")),
            scheme => Err(bad(&unserved(scheme))),
        };
    };
    // Absolute from now on: a mount in the background leaves the current directory.
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.into());
    Ok(Arc::new(LocalStorage::new(directory).with_transfers(settings.transfers.unwrap_or(1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ErrorKind;

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

    #[test]
    fn what_has_ended_is_named() {
        for (scheme, words) in [
            ("u1", "ended"),
            ("cf+hubic", "hubiC"),
            ("xorriso", "scheme not supported; the README"),
        ] {
            let url = Url::parse(format!("{scheme}://host/x")).unwrap();
            let error = open(&url, Settings::default()).err().unwrap();
            assert!(error.cause.contains(words) && error.cause.contains("rclone"), "{error}");
        }
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
