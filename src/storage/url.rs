//! Backend URLs as duplicity spells them, and opening what they name.

use super::{Error, ErrorKind, LocalStorage, Storage};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

/// What a command line argument names: the local directory, until other schemes are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    typed: OsString,
    directory: PathBuf,
}

impl Url {
    /// Parses `file:///abs`, `file://relative`, `file:/abs`, each also behind `gio+`, or a plain path. Paths may hold any bytes.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] for another scheme, or a `file:` URL without a path.
    ///
    /// Source: duplicity 3.2.1, for which an argument is a URL when it begins with `scheme://`; it takes `file:/abs`, refuses
    /// `file:rel`, and decodes percent signs in paths.
    pub fn parse(typed: impl AsRef<OsStr>) -> Result<Self, Error> {
        let typed = typed.as_ref();
        let bad = |cause: &str| {
            let place = without_password(&typed.to_string_lossy());
            Error { deed: "use", place, kind: ErrorKind::BadUrl, cause: cause.into() }
        };
        // Déjà Dup leaves even local folders to the desktop's virtual file system.
        let plain = typed.as_bytes().strip_prefix(b"gio+").unwrap_or(typed.as_bytes());
        let rest = plain.strip_prefix(b"file://").or_else(|| plain.strip_prefix(b"file:").filter(|rest| rest.starts_with(b"/")));
        let directory = match rest {
            Some(b"") => return Err(bad("the URL has no path; write file:///folder")),
            Some(path) => PathBuf::from(OsString::from_vec(percent_decode(path))),
            None if plain.starts_with(b"file:") => return Err(bad("missing //; write file:///folder")),
            None if Self::has_scheme(typed) => return Err(bad("scheme not supported; dupfs serves file:// so far")),
            None if typed.is_empty() => return Err(bad("the URL is empty")),
            None => PathBuf::from(typed),
        };
        Ok(Self { typed: typed.to_owned(), directory })
    }

    /// Tells whether an argument is spelt as a URL, not as a path.
    pub fn has_scheme(typed: impl AsRef<OsStr>) -> bool {
        let typed = typed.as_ref().as_bytes();
        let scheme = typed.windows(3).position(|part| part == b"://").map(|end| &typed[..end]);
        let is_scheme = |s: &[u8]| !s.is_empty() && s.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b));
        scheme.is_some_and(is_scheme) || typed.starts_with(b"file:/")
    }

    /// Returns the URL exactly as it was typed: duplicity derives names from it.
    pub fn typed(&self) -> &OsStr {
        &self.typed
    }

    /// Returns the URL to be shown or stored: a password in it is replaced by `***`.
    pub fn shown(&self) -> String {
        without_password(&self.typed.to_string_lossy())
    }

    /// Returns the local directory behind the URL, where there is one.
    pub fn local_directory(&self) -> Option<&std::path::Path> {
        Some(&self.directory)
    }
}

/// Opens the storage behind a URL; nothing is read yet.
pub fn open(url: &Url) -> Arc<dyn Storage> {
    // Absolute from now on: a mount in the background leaves the current directory.
    let directory = std::path::absolute(&url.directory).unwrap_or_else(|_| url.directory.clone());
    Arc::new(LocalStorage::new(directory))
}

/// Replaces the password of a URL by `***`, for messages.
pub fn without_password(typed: &str) -> String {
    let Some((scheme, rest)) = typed.split_once("://") else { return typed.into() };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@').map(|(user, host)| (user.split_once(':'), host)) {
        Some((Some((user, _)), host)) => format!("{scheme}://{user}:***@{host}{}", &rest[authority.len()..]),
        _ => typed.into(),
    }
}

fn percent_decode(mut rest: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit())).and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_directory() {
        for (typed, path) in [
            ("file:///srv/b", "/srv/b"),
            ("file:/srv/b", "/srv/b"),
            ("gio+file:///srv/b", "/srv/b"),
            ("file://rel/b", "rel/b"),
            ("/srv/b/", "/srv/b/"),
            ("rel", "rel"),
            ("file:///a%20b%2", "/a b%2"),
        ] {
            assert_eq!(Url::parse(typed).unwrap().directory, PathBuf::from(path), "{typed}");
        }
        for prefix in ["", "file://", "gio+file://"] {
            let typed = OsString::from_vec([prefix.as_bytes(), b"/srv/\xff"].concat());
            assert_eq!(Url::parse(&typed).unwrap().directory.as_os_str().as_bytes(), b"/srv/\xff");
            assert_eq!(Url::has_scheme(&typed), !prefix.is_empty());
        }
    }

    #[test]
    fn other_schemes_are_refused_without_telling_the_password() {
        for typed in ["bad://user:secret@host/x", "file:rel", "file://", ""] {
            let error = Url::parse(typed).unwrap_err();
            assert_eq!(error.kind, ErrorKind::BadUrl);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
