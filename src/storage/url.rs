//! Backend URLs as duplicity spells them, and opening what they name.

use super::{Error, ErrorKind, LocalStorage, Storage};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

/// What a command line argument names: the local directory, until other schemes are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    typed: String,
    directory: PathBuf,
}

impl Url {
    /// Parses `file:///abs`, `file://relative`, `file:/abs`, each also behind `gio+`, or a plain path.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] for another scheme, or a `file:` URL without a path.
    ///
    /// Source: duplicity 3.2.1, for which an argument is a URL when it begins with `scheme://`; it takes `file:/abs`, refuses
    /// `file:rel`, and decodes percent signs in paths.
    pub fn parse(typed: &str) -> Result<Self, Error> {
        let bad =
            |cause: &str| Error { deed: "use", place: without_password(typed), kind: ErrorKind::BadUrl, cause: cause.into() };
        // Déjà Dup leaves even local folders to the desktop's virtual file system.
        let plain = typed.strip_prefix("gio+").unwrap_or(typed);
        let rest = plain.strip_prefix("file://").or_else(|| plain.strip_prefix("file:").filter(|rest| rest.starts_with('/')));
        let directory = match rest {
            Some("") => return Err(bad("the URL has no path; write file:///folder")),
            Some(path) => PathBuf::from(OsString::from_vec(percent_decode(path))),
            None if plain.starts_with("file:") => return Err(bad("missing //; write file:///folder")),
            None if Self::has_scheme(typed) => return Err(bad("scheme not supported; dupfs serves file:// so far")),
            None if typed.is_empty() => return Err(bad("the URL is empty")),
            None => PathBuf::from(typed),
        };
        Ok(Self { typed: typed.to_string(), directory })
    }

    /// Tells whether an argument is spelt as a URL, not as a path.
    pub fn has_scheme(typed: &str) -> bool {
        typed.split_once("://").is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        }) || typed.starts_with("file:/")
    }

    /// Returns the URL exactly as it was typed: duplicity derives names from it.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// Returns the URL to be shown or stored: a password in it is replaced by `***`.
    pub fn shown(&self) -> String {
        without_password(&self.typed)
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

fn percent_decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
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
