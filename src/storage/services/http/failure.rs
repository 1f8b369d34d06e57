//! [`Failure`]: what went wrong with a request, as a storage's kind of error.

use crate::storage::ErrorKind;
use std::error::Error as _;
use std::time::Duration;

/// What went wrong with a request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause}")]
pub struct Failure {
    pub kind: ErrorKind,
    /// Names no address: it may hold secrets.
    pub cause: String,
}

impl Failure {
    pub fn new(kind: ErrorKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into() }
    }
}

/// Returns the failure inside an error of OpenDAL, if it comes from here.
pub fn of(error: &opendal::Error) -> Option<&Failure> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(failure) = error.downcast_ref() {
            return Some(failure);
        }
        source = error.source();
    }
    None
}

/// Returns what is to be said where nothing went or came for so long.
pub fn no_answer(timeout: Duration) -> Failure {
    let cause = format!("no answer for {} s (--timeout)", timeout.as_secs().max(1));
    Failure::new(ErrorKind::TimedOut, cause)
}

/// Returns an error's causes, without what each repeats.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

impl From<Failure> for opendal::Error {
    fn from(failure: Failure) -> Self {
        let error = Self::new(opendal::ErrorKind::Unexpected, failure.cause.clone());
        error.with_temporary(failure.kind.is_passing()).set_source(failure)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let causes = chain(&error);
        let is_tls = causes.contains("certificate") || causes.contains("InvalidCertificate");
        let (kind, advice) = match () {
            () if error.is_timeout() => (ErrorKind::TimedOut, ""),
            () if is_tls => (
                ErrorKind::Denied,
                "; --ssl-cacert-file names the certificates of authorities that are trusted",
            ),
            () if error.is_builder() => (ErrorKind::BadUrl, ""),
            () => (ErrorKind::Unreachable, ""),
        };
        // What the library was about adds nothing to the cause.
        let words =
            ["error sending request: ", "client error (Connect): ", "client error (SendRequest): "];
        let causes = words
            .iter()
            .fold(&*causes, |causes, words| causes.strip_prefix(words).unwrap_or(causes));
        Self::new(kind, format!("{causes}{advice}"))
    }
}
