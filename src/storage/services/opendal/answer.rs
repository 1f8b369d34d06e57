//! [`Location`]: waits for answers, and says what went wrong as a storage does.

use super::runtime;
use crate::storage::services::http::{STATUS, failure};
use crate::storage::{Error, ErrorKind, Url};
use futures_util::FutureExt;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// What messages name, without secrets.
#[derive(Clone)]
pub struct Location(Arc<str>);

impl Location {
    /// Names the storage of a URL.
    pub fn of(url: &Url) -> Self {
        Self(url.to_string().into())
    }

    /// Names a file in it, or the storage itself.
    pub fn place(&self, name: &str) -> String {
        match name {
            "" => self.0.to_string(),
            _ => format!("{}/{name}", self.0.trim_end_matches('/')),
        }
    }

    /// Waits for an answer, and says what went wrong as a storage does.
    ///
    /// # Errors
    /// [`Error`] as the service, or the way to it, gives cause for.
    pub fn ask<T>(
        &self,
        operation: &'static str,
        name: &str,
        future: impl Future<Output = opendal::Result<T>>,
    ) -> Result<T, Error> {
        // What a server answers may surprise OpenDAL: it takes some of it for granted.
        let future = AssertUnwindSafe(future).catch_unwind();
        let asked = STATUS.scope(Cell::new(0), async {
            let answer = future.await;
            let answer = answer.unwrap_or_else(|_| {
                let words = "the server's answer makes no sense";
                Err(opendal::Error::new(opendal::ErrorKind::Unexpected, words))
            });
            answer.map_err(|error| explain(&error, STATUS.with(Cell::get)))
        });
        match runtime::wait(asked) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err((kind, cause))) => {
                Err(Error { operation, place: self.place(name), kind, cause })
            }
            Err(error) => Err(Error::io(operation, self.place(name), &error)),
        }
    }
}

/// Returns the kind and the cause of an error, where the last answer that was no success had this
/// status, 0 for none.
fn explain(error: &opendal::Error, status: u16) -> (ErrorKind, String) {
    use opendal::ErrorKind as Kind;
    if let Some(failure) = failure::of(error) {
        return (failure.kind, failure.cause.clone());
    }
    let cause = words(error);
    let kind = match (error.kind(), status) {
        _ if cause.contains(ARCHIVED) => ErrorKind::Denied,
        (Kind::NotFound, _) | (Kind::ConfigInvalid, 404) | (_, 410) => ErrorKind::NotFound,
        (Kind::PermissionDenied, _) | (_, 401 | 403) => ErrorKind::Denied,
        (_, 413 | 507) => ErrorKind::NoSpace,
        (Kind::RateLimited, _) => ErrorKind::Busy(None),
        (Kind::ConfigInvalid, 0) => ErrorKind::BadUrl,
        (Kind::Unsupported, _) | (_, 400 | 405 | 501) => ErrorKind::Unsupported,
        (Kind::ConditionNotMatch, _) | (_, 412) => ErrorKind::Changed,
        _ => ErrorKind::Other,
    };
    let advice = if cause.contains(ARCHIVED) {
        "; it has to be thawed first, by the service's console or command line: it lies in an archive (Glacier, Deep Archive)"
    } else if cause.contains(NO_KEYS) {
        return (
            ErrorKind::Denied,
            "there are no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile in ~/.aws".into(),
        );
    } else if kind == ErrorKind::Denied {
        "; check the user and the password, or the keys"
    } else {
        ""
    };
    let status = if status == 0 { String::new() } else { format!(" (HTTP status {status})") };
    (kind, format!("{cause}{status}{advice}"))
}

/// What S3 says of an object that is not to be read before it is thawed.
const ARCHIVED: &str = "InvalidObjectState";

/// What OpenDAL says where it finds no keys.
const NO_KEYS: &str = "failed to load signing credential";

/// Returns whether an error means that a file has no bytes there. To be asked within
/// [`Location::ask`].
pub fn is_behind_the_end(error: &opendal::Error) -> bool {
    error.kind() == opendal::ErrorKind::RangeNotSatisfied || STATUS.with(Cell::get) == 416
}

/// Returns the words of an error. Those of S3 come as `S3Error { code: "…", message: "…" … }`.
fn words(error: &opendal::Error) -> String {
    let message = error.message();
    let field = |name: &str| {
        let (_, rest) = message.split_once(&format!("{name}: \""))?;
        rest.split('"').next().filter(|value| !value.is_empty())
    };
    let text = match (field("code"), field("message")) {
        (Some(code), Some(message)) => format!("{message} ({code})"),
        (Some(code), None) => code.to_string(),
        // A page for people, of which the status is all that is of use.
        _ if message.trim_start().starts_with('<') => "the server fails".into(),
        // OpenDAL shows what it has found nothing in as a Rust program would.
        _ if message.trim().is_empty() || message.contains("Error { code: \"\"") => {
            "the server does not say why".into()
        }
        _ => match std::error::Error::source(error) {
            Some(source) => format!("{message}: {}", failure::chain(source)),
            None => message.to_string(),
        },
    };
    // Whatever a server says is shown on one line, without what moves a terminal's cursor.
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(LONGEST_WORDS).collect()
}

/// Characters of a server's words that are shown.
const LONGEST_WORDS: usize = 400;
