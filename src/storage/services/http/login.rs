//! [`Login`]: a user and a password, given as the server asks for them: by digest where it offers
//! that, else plainly (basic). Before the server has asked, nothing is given.
//!
//! Source: RFC 7616, RFC 7617; duplicity 0.8.22, webdavbackend.py, which prefers the same.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use digest_auth::{AuthContext, HttpMethod, WwwAuthenticateHeader};
use parking_lot::Mutex;
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Response, Url};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How long a server's word is good for a request with many bytes: it may refuse an old one, and
/// then the bytes have to go twice.
const FRESH: Duration = Duration::from_secs(60);
/// A request with so many bytes is worth another one before it.
const MANY: usize = 1 << 20;

/// A user and a password.
pub struct Login {
    user: String,
    password: Zeroizing<String>,
    asked: Mutex<Option<(Challenge, Instant)>>,
}

/// What a server has asked for.
enum Challenge {
    Basic,
    Digest(Box<WwwAuthenticateHeader>),
}

impl Login {
    pub fn new(user: impl Into<String>, password: Zeroizing<String>) -> Self {
        Self { user: user.into(), password, asked: Mutex::default() }
    }

    /// Returns whether the server may not take the next answer any more, for a request with so many
    /// bytes.
    pub fn is_stale(&self, bytes: usize) -> bool {
        let asked = self.asked.lock();
        let is_old = |asked: &Option<(Challenge, Instant)>| match asked {
            Some((Challenge::Digest(_), when)) => when.elapsed() > FRESH,
            Some((Challenge::Basic, _)) | None => false,
        };
        bytes > MANY && is_old(&asked)
    }

    /// Takes what a server asks for; `false` where it asks for nothing that can be given, or has
    /// refused what it was given.
    pub fn learn(&self, answer: &Response) -> bool {
        let challenges = || {
            let values = answer.headers().get_all(WWW_AUTHENTICATE).iter();
            values.filter_map(|value| value.to_str().ok()).flat_map(split)
        };
        let digest = challenges()
            .filter(|text| has_scheme(text, "digest"))
            .find_map(|text| WwwAuthenticateHeader::parse(text).ok());
        let mut asked = self.asked.lock();
        let challenge = match digest {
            Some(digest) => {
                // The same once more, unless it was just too old: the password is wrong.
                if matches!(&*asked, Some((Challenge::Digest(_), _))) && !digest.stale {
                    let is_fresh = asked.as_ref().is_some_and(|(_, when)| when.elapsed() < FRESH);
                    if is_fresh {
                        return false;
                    }
                }
                Challenge::Digest(Box::new(digest))
            }
            None if matches!(&*asked, Some((Challenge::Basic, _))) => return false,
            None if challenges().any(|text| has_scheme(text, "basic")) => Challenge::Basic,
            None => return false,
        };
        *asked = Some((challenge, Instant::now()));
        true
    }

    /// Returns the header that a request needs; `None` before the server has asked.
    pub fn answer(&self, method: &Method, target: &Url) -> Option<HeaderValue> {
        let mut asked = self.asked.lock();
        let text = Zeroizing::new(match asked.as_mut()? {
            (Challenge::Basic, _) => {
                let login = Zeroizing::new(format!("{}:{}", self.user, &*self.password));
                format!("Basic {}", BASE64_STANDARD.encode(login.as_bytes()))
            }
            (Challenge::Digest(digest), _) => {
                let uri = match target.query() {
                    Some(query) => format!("{}?{query}", target.path()),
                    None => target.path().to_string(),
                };
                let method = HttpMethod::from(method.as_str().to_string());
                let context = AuthContext::new_with_method(
                    &self.user,
                    self.password.as_str(),
                    uri,
                    Option::<&[u8]>::None,
                    method,
                );
                digest.respond(&context).ok()?.to_header_string()
            }
        });
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Splits the challenges of one header: a scheme and its parameters each.
fn split(value: &str) -> impl Iterator<Item = &str> {
    let lower = value.to_ascii_lowercase();
    let mut starts: Vec<_> = ["basic ", "digest ", "bearer ", "negotiate"]
        .iter()
        .flat_map(|scheme| lower.match_indices(*scheme).map(|(at, _)| at).collect::<Vec<_>>())
        .filter(|&at| at == 0 || value[..at].trim_end().ends_with(','))
        .collect();
    starts.sort_unstable();
    starts.push(value.len());
    let pairs: Vec<_> = starts.windows(2).map(|pair| (pair[0], pair[1])).collect();
    pairs.into_iter().map(|(from, to)| value[from..to].trim().trim_end_matches(','))
}

fn has_scheme(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
}
