//! [`Url`]: where a collection lies, as duplicity's users spell it.
//!
//! ```text
//! scheme://[user[:password]@]host[:port]/path[?query]      or the path of a local folder
//! ```
//! A password is never shown: not in messages, not in the kernel's table of mounts, not by `Debug`.
//! In memory it is wiped when it is no longer needed, with the text that was typed.
//!
//! Source: duplicity 0.8.22 and 3.2.1, for which an argument is a URL when it begins with
//! `scheme://`; they take `file:/abs`, refuse `file:rel`, and decode percent signs in user,
//! password and path. duplicity derives the name of a cache from the URL exactly as typed.

use super::{Error, ErrorKind};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Words in the name of a parameter whose value is a secret.
const SECRETS: [&str; 6] = ["key", "secret", "token", "pass", "signature", "credential"];

/// Where a collection lies.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    typed: Zeroizing<Vec<u8>>,
    scheme: String,
    user: Option<String>,
    password: Option<Zeroizing<String>>,
    host: Option<String>,
    port: Option<u16>,
    path: Vec<u8>,
    query: Option<String>,
}

impl Url {
    /// Parses a URL or a plain path. Paths may hold any bytes.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] where there is no path, or something makes no sense.
    pub fn parse(typed: impl AsRef<OsStr>) -> Result<Self, Error> {
        let typed = typed.as_ref().as_bytes();
        let bad = |cause: &str| Error {
            operation: "use",
            place: mask(typed),
            kind: ErrorKind::BadUrl,
            cause: cause.into(),
        };
        let mut url = Self {
            typed: typed.to_vec().into(),
            scheme: String::new(),
            user: None,
            password: None,
            host: None,
            port: None,
            path: Vec::new(),
            query: None,
        };
        let Some((scheme, rest)) = split_scheme(typed) else {
            // Déjà Dup leaves even local folders to the desktop's virtual file system.
            let plain = typed
                .strip_prefix(b"gio+")
                .filter(|rest| rest.starts_with(b"file:"))
                .unwrap_or(typed);
            match plain.strip_prefix(b"file:") {
                Some(path) if path.starts_with(b"/") => {
                    url.scheme = "file".into();
                    url.path = decode(path);
                }
                Some(_) => return Err(bad("missing //; write file:///folder")),
                None if typed.is_empty() => return Err(bad("the URL is empty")),
                None => url.path = typed.to_vec(),
            }
            return Ok(url);
        };
        url.scheme = scheme.to_ascii_lowercase();
        if url.is_local() {
            if rest.is_empty() {
                return Err(bad("the URL has no path; write file:///folder"));
            }
            url.path = decode(rest);
            return Ok(url);
        }
        let (rest, query) = match rest.iter().position(|&byte| byte == b'?') {
            Some(mark) => {
                (&rest[..mark], Some(String::from_utf8_lossy(&rest[mark + 1..]).into_owned()))
            }
            None => (rest, None),
        };
        let (authority, path) =
            rest.split_at(rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(&decode(bytes)).into_owned();
        let host = match authority.iter().rposition(|&byte| byte == b'@') {
            Some(at) => {
                let mut login = authority[..at].splitn(2, |&byte| byte == b':');
                url.user = login.next().map(text);
                url.password = login.next().map(|password| text(password).into());
                &authority[at + 1..]
            }
            None => authority,
        };
        // A colon behind which nothing stands, or no number, belongs to whatever the service makes
        // of it, as in rsync's `host::module`.
        let port = host
            .iter()
            .rposition(|&byte| byte == b':')
            .filter(|&colon| !host.ends_with(b"]") && colon + 1 < host.len());
        let (host, port) = match port {
            Some(colon) if host[colon + 1..].iter().all(u8::is_ascii_digit) => {
                let number = std::str::from_utf8(&host[colon + 1..])
                    .ok()
                    .and_then(|digits| digits.parse().ok());
                (
                    &host[..colon],
                    Some(number.ok_or_else(|| bad("the port is no number up to 65535"))?),
                )
            }
            _ => (host, None),
        };
        url.host = Some(text(host)).filter(|host| !host.is_empty());
        url.port = port;
        url.path = decode(path);
        url.query = query;
        Ok(url)
    }

    /// Returns whether an argument is spelt as a URL, not as a path.
    pub fn has_scheme(typed: impl AsRef<OsStr>) -> bool {
        let typed = typed.as_ref().as_bytes();
        split_scheme(typed).is_some() || typed.starts_with(b"file:/")
    }

    /// Returns the URL exactly as it was typed, password included: duplicity derives names from it.
    /// Never to be shown.
    pub fn typed(&self) -> &OsStr {
        OsStr::from_bytes(&self.typed)
    }

    /// Returns the scheme in lower case, with what stands before it and a `+`; empty for a plain
    /// path.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns what this URL is behind another scheme.
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub fn with_scheme(&self, scheme: &str) -> Result<Self, Error> {
        let rest = split_scheme(&self.typed).map_or(&self.typed[..], |(_, rest)| rest);
        let typed = Zeroizing::new([scheme.as_bytes(), b"://", rest].concat());
        Self::parse(OsStr::from_bytes(&typed))
    }

    /// Returns the user's name.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the password. Never to be shown.
    pub fn password(&self) -> Option<&Zeroizing<String>> {
        self.password.as_ref()
    }

    /// Returns the host, or what stands in its place, such as the name of a bucket.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Returns the port.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns the path behind the host, with its slash, or all that follows the scheme of a local
    /// folder.
    pub fn path(&self) -> &OsStr {
        OsStr::from_bytes(&self.path)
    }

    /// Returns what stands behind the question mark.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Returns the local directory behind the URL, where there is one.
    pub fn local_directory(&self) -> Option<&Path> {
        self.is_local().then(|| Path::new(self.path()))
    }

    /// Returns the error of a URL that makes no sense to the storage that it names.
    pub(crate) fn bad(&self, cause: impl Into<String>) -> Error {
        let (place, kind) = (self.to_string(), ErrorKind::BadUrl);
        Error { operation: "use", place, kind, cause: cause.into() }
    }

    /// Returns whether another URL leads to the same place: typed the same, or another spelling of
    /// one folder.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let real = |url: &Self| std::fs::canonicalize(url.local_directory()?).ok();
        self.typed() == other.typed() || real(self).is_some_and(|own| real(other) == Some(own))
    }

    fn is_local(&self) -> bool {
        matches!(self.scheme.as_str(), "" | "file" | "gio+file")
    }
}

/// Shows the URL as it was typed, with stars in place of secrets.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(&self.typed))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{self}'")
    }
}

/// Returns an argument to be shown, with stars in place of a password or other secrets if it is a
/// URL.
pub fn without_password(typed: &OsStr) -> String {
    mask(typed.as_bytes())
}

/// Splits `scheme://rest`.
fn split_scheme(typed: &[u8]) -> Option<(String, &[u8])> {
    let end = typed.windows(3).position(|part| part == b"://")?;
    let is_scheme = |s: &[u8]| {
        !s.is_empty() && s.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
    };
    let scheme =
        std::str::from_utf8(&typed[..end]).ok().filter(|scheme| is_scheme(scheme.as_bytes()))?;
    Some((scheme.to_string(), &typed[end + 3..]))
}

/// A password may hold any character, so all is masked between the first colon behind the scheme
/// and the last `@`.
fn mask(typed: &[u8]) -> String {
    let text = String::from_utf8_lossy(typed);
    let Some((scheme, rest)) = split_scheme(typed) else { return text.into_owned() };
    let is_local = matches!(scheme.to_ascii_lowercase().as_str(), "file" | "gio+file");
    let rest = String::from_utf8_lossy(rest);
    if is_local {
        return text.into_owned();
    }
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => match login.split_once(':') {
            Some((user, _)) => (format!("{user}:***@"), place),
            None => (format!("{login}@"), place),
        },
        None => (String::new(), &rest[..]),
    };
    let shown = match place.split_once('?') {
        Some((place, query)) => {
            let parameter = |parameter: &str| match parameter.split_once('=') {
                Some((name, _)) if is_secret(name) => format!("{name}=***"),
                _ => parameter.to_string(),
            };
            format!("{place}?{}", query.split('&').map(parameter).collect::<Vec<_>>().join("&"))
        }
        None => place.to_string(),
    };
    // Parameters of a remote of rclone; a value may hold commas.
    let begins = |(comma, _)| {
        let (name, _) = shown[comma + 1..].split_once('=').filter(|(name, _)| is_secret(name))?;
        (!name.contains(',')).then_some(comma + 1 + name.len())
    };
    let secret = shown.match_indices(',').filter(|_| scheme == "rclone").find_map(begins);
    let hidden = secret.map(|end| format!("{}=***", &shown[..end]));
    format!("{scheme}://{login}{}", hidden.unwrap_or(shown))
}

/// Returns whether what a parameter of this name holds is not to be shown.
pub(super) fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|secret| name.to_ascii_lowercase().contains(secret))
}

fn decode(bytes: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn spellings_of_a_directory() {
        for (typed, path) in [
            ("file:///srv/b", "/srv/b"),
            ("file:/srv/b", "/srv/b"),
            ("gio+file:///srv/b", "/srv/b"),
            ("gio+file:/srv/b", "/srv/b"),
            ("FILE:///srv/b", "/srv/b"),
            ("file://rel/b", "rel/b"),
            ("file:///what?@is:this", "/what?@is:this"),
            ("/srv/b/", "/srv/b/"),
            ("rel", "rel"),
            ("file:///a%20b%2", "/a b%2"),
        ] {
            assert_eq!(
                Url::parse(typed).unwrap().local_directory(),
                Some(Path::new(path)),
                "{typed}"
            );
        }
        for prefix in ["", "file://", "gio+file://"] {
            let typed = OsString::from_vec([prefix.as_bytes(), b"/srv/\xff"].concat());
            assert_eq!(Url::parse(&typed).unwrap().path().as_bytes(), b"/srv/\xff");
            assert_eq!(Url::has_scheme(&typed), !prefix.is_empty());
        }
    }

    #[test]
    fn parts_of_a_url() {
        let parts = |typed: &str| {
            let url = Url::parse(typed).unwrap();
            assert_eq!((url.typed(), url.local_directory()), (OsStr::new(typed), None));
            let words =
                [url.user(), url.password().map(|password| &password[..]), url.host(), url.query()];
            let words = words.map(|word| word.unwrap_or("-").to_string());
            (
                url.scheme().to_string(),
                words.join(" "),
                url.port(),
                url.path().to_str().unwrap().to_string(),
            )
        };
        let expect = |scheme: &str, words: &str, port, path: &str| {
            (scheme.to_string(), words.to_string(), port, path.to_string())
        };
        for (typed, expected) in [
            ("sftp://h/rel", expect("sftp", "- - h -", None, "/rel")),
            ("sftp://u:p%40%2F@h:22//abs", expect("sftp", "u p@/ h -", Some(22), "//abs")),
            ("SFTP://me@x@[::1]/a", expect("sftp", "me@x - [::1] -", None, "/a")),
            ("rsync://u@h::/module/a", expect("rsync", "u - h:: -", None, "/module/a")),
            ("boto3+s3://bucket", expect("boto3+s3", "- - bucket -", None, "")),
            ("s3:///bucket/a%20b?x=%20", expect("s3", "- - - x=%20", None, "/bucket/a b")),
            ("b2://id:key@bucket/dir", expect("b2", "id key bucket -", None, "/dir")),
        ] {
            assert_eq!(parts(typed), expected, "{typed}");
        }
        let inner = Url::parse("par2+file:///a?b%20c").unwrap().with_scheme("file").unwrap();
        assert_eq!(inner.local_directory(), Some(Path::new("/a?b c")));
        assert!(Url::parse("sftp://h:70000/").unwrap_err().to_string().contains("65535"));
    }

    #[test]
    fn secrets_are_not_shown() {
        for (typed, shown) in [
            ("sftp://u:secret@h/a", "sftp://u:***@h/a"),
            ("sftp://u:se/cr@et:secret@h/a", "sftp://u:***@h/a"),
            ("sftp://u@h/a@secret", "sftp://u@h/a@secret"),
            (
                "opendal+s3://b?a=b&secret_access_key=secret&x",
                "opendal+s3://b?a=b&secret_access_key=***&x",
            ),
            ("file:///a:secret@b", "file:///a:secret@b"),
            ("rclone://:s3,env=x,secret_key=\"secret,b\":b/x", "rclone://:s3,env=x,secret_key=***"),
            ("plain:secret@path", "plain:secret@path"),
        ] {
            let url = Url::parse(typed).unwrap();
            assert_eq!(
                (url.to_string().as_str(), without_password(OsStr::new(typed)).as_str()),
                (shown, shown),
                "{typed}"
            );
            assert_eq!(format!("{url:?}"), format!("'{shown}'"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_telling_the_password() {
        for typed in ["sftp://user:secret@host:99999/x", "file:rel", "file://", ""] {
            let error = Url::parse(typed).unwrap_err();
            assert_eq!(error.kind, ErrorKind::BadUrl);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
