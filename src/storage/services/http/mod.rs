//! [`Http`]: the HTTP requests of all services that OpenDAL reaches, in one place.
//!
//! | file | what it holds |
//! |---|---|
//! | `failure` | what went wrong, as a storage's kind of error |
//! | `login` | user and password: basic and digest authentication |
//! | `upload`, `download` | the bytes of a request and of an answer, watched |
//!
//! What it does beside sending:
//!
//! - **Waits are bounded.** A request during which no byte goes or comes for the timeout ends with
//!   [`ErrorKind::TimedOut`]. How long a transfer takes as a whole is not bounded.
//! - **Redirections are followed** for each method, with its body, a few times. The login is sent to
//!   no other host than the first.
//! - **Ranges are what was asked for.** A server that ignores a range, and answers with the whole
//!   file, is made good for; one that answers with another range ends with an error.
//! - **A server that is busy** (429, 503) is a failure that passes, with the time that it names.
//! - **Nothing is unpacked**: a stored file may well be called `.gz`.
//!
//! Failures travel inside OpenDAL's errors as their source; [`failure::of`] finds them.

mod download;
pub mod failure;
mod login;
mod upload;

use crate::storage::{Error, ErrorKind, Pace, Settings};
use download::Download;
use failure::Failure;
pub use login::Login;
use opendal::{Buffer, HttpBody, HttpTransport};
use reqwest::header::{
    CONTENT_RANGE, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER, TRANSFER_ENCODING,
};
use reqwest::{Response, StatusCode, Url};
use std::cell::Cell;
use std::time::Duration;
use upload::{Progress, Upload};

/// Redirections of one request that are followed.
const REDIRECTIONS: usize = 5;
/// The longest wait for the addresses at which a machine in a cloud finds its own credentials:
/// elsewhere nothing answers there.
const CLOUD_TIMEOUT: Duration = Duration::from_secs(2);
const CLOUD_HOSTS: &[&str] = &["169.254.169.254", "169.254.170.2", "metadata.google.internal"];

tokio::task_local! {
    /// The status of the last answer that was no success, 0 before there is one. OpenDAL's errors
    /// do not carry it.
    pub static STATUS: Cell<u16>;
}

/// Where an answer comes from, after redirections: among the extensions of the answer.
#[derive(Debug, Clone)]
pub struct AnsweredBy(pub Url);

/// Sends HTTP requests.
pub struct Http {
    client: reqwest::Client,
    timeout: Duration,
    login: Option<Login>,
    headers: HeaderMap,
    upload: Pace,
}

impl Http {
    /// Prepares requests; none is sent yet.
    ///
    /// # Errors
    /// [`Error`] when a certificate cannot be read.
    pub fn new(settings: &Settings, login: Option<Login>) -> Result<Self, Error> {
        let timeout = settings.timeout;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(super::tls::config(&settings.tls)?)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .tcp_keepalive(timeout / 2)
            // A connection that was not used for long may be dead without anybody's word, after a
            // change of networks say.
            .pool_idle_timeout(timeout.min(Duration::from_secs(20)))
            .user_agent(concat!("dupfs/", env!("CARGO_PKG_VERSION")));
        let client = client.build().map_err(|error| Error {
            operation: "prepare",
            place: "HTTP".into(),
            kind: ErrorKind::Other,
            cause: failure::chain(&error),
        })?;
        let (headers, upload) = (HeaderMap::new(), settings.upload.clone());
        Ok(Self { client, timeout, login, headers, upload })
    }

    /// Sends these headers with each request.
    pub fn with_headers(self, headers: HeaderMap) -> Self {
        Self { headers, ..self }
    }

    /// Sends one request, and returns the answer's head.
    async fn send(
        &self,
        parts: &http::request::Parts,
        target: &Url,
        login: Option<&Login>,
        body: &Buffer,
    ) -> Result<Response, Failure> {
        let mut request = self.client.request(parts.method.clone(), target.clone());
        request = request.headers(parts.headers.clone()).headers(self.headers.clone());
        if let Some(answer) = login.and_then(|login| login.answer(&parts.method, target)) {
            request = request.header(reqwest::header::AUTHORIZATION, answer);
        }
        let progress = Progress::default();
        if !body.is_empty() || parts.method == http::Method::PUT {
            let upload = Upload::new(body.clone(), progress.clone(), self.upload.clone());
            request = request.body(reqwest::Body::wrap(upload));
        }
        let is_of_cloud = target.host_str().is_some_and(|host| CLOUD_HOSTS.contains(&host));
        let timeout = if is_of_cloud { self.timeout.min(CLOUD_TIMEOUT) } else { self.timeout };
        tokio::select! {
            answer = request.send() => answer.map_err(Failure::from),
            () = progress.stalled(timeout) => Err(failure::no_answer(timeout)),
        }
    }

    async fn answer(
        &self,
        parts: http::request::Parts,
        body: Buffer,
    ) -> Result<http::Response<HttpBody>, Failure> {
        let mut target = Url::parse(&parts.uri.to_string()).map_err(|error| {
            Failure::new(ErrorKind::BadUrl, format!("the address makes no sense: {error}"))
        })?;
        let mut login = self.login.as_ref();
        let (mut redirections, mut challenges) = (0, 0);
        if let Some(login) = login.filter(|login| login.is_stale(body.len())) {
            // A cheap request gets what the expensive one needs.
            let (empty, _) = http::Request::builder()
                .method("OPTIONS")
                .body(())
                .map_err(|error| Failure::new(ErrorKind::Other, error.to_string()))?
                .into_parts();
            let answer = self.send(&empty, &target, Some(login), &Buffer::new()).await?;
            login.learn(&answer);
        }
        loop {
            let answer = self.send(&parts, &target, login, &body).await?;
            let status = answer.status();
            if !status.is_success() {
                let _ = STATUS.try_with(|kept| kept.set(status.as_u16()));
            }
            match status.as_u16() {
                301 | 302 | 307 | 308 if answer.headers().contains_key(LOCATION) => {
                    redirections += 1;
                    let next = redirection(&target, &answer)?;
                    if redirections > REDIRECTIONS {
                        let cause = "the server redirects again and again";
                        return Err(Failure::new(ErrorKind::Unsupported, cause));
                    }
                    if next.host_str() != target.host_str() || next.scheme() != target.scheme() {
                        login = None;
                    }
                    target = next;
                }
                401 if challenges < 2 && login.is_some_and(|login| login.learn(&answer)) => {
                    challenges += 1;
                }
                429 | 503 => return Err(busy(&answer)),
                _ => {
                    let mut answer = finish(&parts, answer, self.timeout)?;
                    answer.extensions_mut().insert(AnsweredBy(target));
                    return Ok(answer);
                }
            }
        }
    }
}

impl HttpTransport for Http {
    async fn fetch(
        &self,
        request: http::Request<Buffer>,
    ) -> opendal::Result<http::Response<HttpBody>> {
        let (parts, body) = request.into_parts();
        self.answer(parts, body).await.map_err(opendal::Error::from)
    }
}

fn redirection(from: &Url, answer: &Response) -> Result<Url, Failure> {
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| from.join(location).ok());
    let next = next.filter(|next| matches!(next.scheme(), "http" | "https"));
    // What was asked for in secret is not said aloud.
    let next = next.filter(|next| from.scheme() != "https" || next.scheme() == "https");
    next.ok_or_else(|| {
        let cause = "the server redirects to no address that can be followed";
        Failure::new(ErrorKind::Unsupported, cause)
    })
}

fn busy(answer: &Response) -> Failure {
    let seconds = answer.headers().get(RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let asked = seconds.map_or(String::new(), |seconds| format!(", for {seconds} s"));
    let cause = format!("the server asks to wait{asked} ({})", answer.status());
    Failure::new(ErrorKind::Busy(seconds), cause)
}

/// Returns the first byte of a range, and the number of bytes if the end is named.
fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(RANGE)?.to_str().ok()?;
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    let last = (!last.is_empty()).then(|| last.parse::<u64>().ok()).flatten();
    Some((first, last.and_then(|last| last.checked_sub(first)?.checked_add(1))))
}

/// The bytes that an answer holds: first, last, and how many the file has, if that is said.
struct ContentRange(u64, u64, Option<u64>);

impl ContentRange {
    /// Returns whether these bytes are those from `first` on: `asked` of them, or all up to the end
    /// of the file.
    fn answers(&self, first: u64, asked: Option<u64>) -> bool {
        let &Self(found, last, total) = self;
        let end = asked.and_then(|asked| first.checked_add(asked));
        let is_whole = end.is_some_and(|end| last.checked_add(1) == Some(end));
        found == first && (is_whole || total.is_none_or(|total| last.checked_add(1) == Some(total)))
    }
}

fn content_range(value: &str) -> Option<ContentRange> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some(ContentRange(first.trim().parse().ok()?, last.trim().parse().ok()?, total.parse().ok()))
}

/// Hands the answer on, its bytes held against the range that was asked for.
fn finish(
    parts: &http::request::Parts,
    answer: Response,
    timeout: Duration,
) -> Result<http::Response<HttpBody>, Failure> {
    let mut head = http::Response::new(());
    *head.status_mut() = answer.status();
    *head.headers_mut() = answer.headers().clone();
    let mut size = answer.content_length();
    if parts.method == http::Method::HEAD {
        size = Some(0);
    }
    // Where the line is the end, a line that is cut looks like one.
    let is_told = size.is_some() || head.headers().contains_key(TRANSFER_ENCODING);
    if parts.method == http::Method::GET && !is_told {
        let cause = "the server does not say how long its answer is";
        return Err(Failure::new(ErrorKind::Unsupported, cause));
    }
    let (mut skipped, mut length) = (0, None);
    match (range(&parts.headers), answer.status()) {
        (Some((first, asked)), StatusCode::OK) => {
            (skipped, length) = (first, asked);
            let left = size.map(|size| size.saturating_sub(first));
            size = match (left, asked) {
                (Some(left), Some(asked)) => Some(left.min(asked)),
                (left, _) => left,
            };
            *head.status_mut() = StatusCode::PARTIAL_CONTENT;
            head.headers_mut().remove(reqwest::header::CONTENT_LENGTH);
            if let Some(size) = size {
                head.headers_mut().insert(reqwest::header::CONTENT_LENGTH, HeaderValue::from(size));
            }
        }
        (Some((first, asked)), StatusCode::PARTIAL_CONTENT) => {
            let found = head.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            // Nothing is there from the end of a file on, and some servers make up a range of it.
            let total = found.and_then(|found| found.rsplit_once('/')?.1.parse::<u64>().ok());
            let is_empty = size == Some(0) && total.is_some_and(|total| total <= first);
            let answers = |found: ContentRange| found.answers(first, asked);
            if is_empty {
                head.headers_mut().remove(CONTENT_RANGE);
            } else if !found.and_then(content_range).is_some_and(answers) {
                let cause = "the server answers with other bytes than were asked for";
                return Err(Failure::new(ErrorKind::Other, cause));
            }
        }
        _ => {}
    }
    let download = Download::new(answer.bytes_stream(), timeout).part(skipped, length);
    Ok(head.map(|()| HttpBody::new(download, size)))
}
