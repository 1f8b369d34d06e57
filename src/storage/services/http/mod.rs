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
//! - **Redirections are followed** for each method, with its body, a few times. Login and further
//!   headers go to the server of the URL alone, or to the same host by TLS; a signed request is sent
//!   to no other server.
//! - **Ranges are what was asked for**, of a file of the size that was listed. A server that ignores
//!   a range, and answers with the whole file, is made good for; one that answers with another range,
//!   or another file (the page of a hotel's network, say), ends with a failure that passes.
//! - **Lists are lists**: a page for people that comes with status 200 is none, a list that turns in
//!   circles ends, and no list or error is read beyond a limit.
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
    CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
    TRANSFER_ENCODING,
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
    /// The size in bytes of the file that is read, as it was listed; 0 where nobody knows it.
    pub static LISTED_SIZE: u64;
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
    /// The server of the URL, where login and headers go.
    home: Option<Url>,
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
        Ok(Self { client, timeout, login, headers, home: None, upload })
    }

    /// Sends the login and these headers to the server of an address, and to no other.
    pub fn for_server(self, home: Url, headers: HeaderMap) -> Self {
        Self { headers, home: Some(home), ..self }
    }

    /// Returns whether an address belongs to the server of the URL: the same one, or the same host
    /// by TLS.
    fn is_home(&self, target: &Url) -> bool {
        self.home.as_ref().is_some_and(|home| {
            let by_tls = target.scheme() == "https" && target.host_str() == home.host_str();
            target.origin() == home.origin() || by_tls
        })
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
        request = request.headers(parts.headers.clone());
        if self.is_home(target) {
            request = request.headers(self.headers.clone());
        }
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
        let mut login = self.login.as_ref().filter(|_| self.is_home(&target));
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
                    if next.origin() != target.origin() && is_signed(&parts.headers) {
                        let cause = "the server redirects to another one, which does not get what proves who we are";
                        return Err(Failure::new(ErrorKind::Unsupported, cause));
                    }
                    login = login.filter(|_| self.is_home(&next));
                    target = next;
                }
                401 if challenges < 2 && login.is_some_and(|login| login.learn(&answer)) => {
                    challenges += 1;
                }
                429 | 503 => return Err(busy(&answer)),
                _ => {
                    let mut answer = finish(&parts, answer, self.timeout)?;
                    if let Some(root) = list_root(&target)
                        && status.is_success()
                        && parts.method == http::Method::GET
                    {
                        answer = check_list(root, &target, answer).await?;
                    }
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

/// Returns whether a request carries what proves who sends it.
fn is_signed(headers: &HeaderMap) -> bool {
    ["authorization", "x-amz-security-token", "x-auth-token", "x-auth-key"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// Returns the name of the outermost element of a list, where an address asks for one.
///
/// Source: Amazon, ListObjectsV2; Microsoft, List Blobs.
fn list_root(target: &Url) -> Option<&'static str> {
    target.query_pairs().find_map(|(name, value)| match (&*name, &*value) {
        ("list-type", _) => Some("ListBucketResult"),
        ("comp", "list") => Some("EnumerationResults"),
        _ => None,
    })
}

/// Reads a list, and looks whether it is one that goes on: OpenDAL takes whatever comes for an empty
/// one, and what says of itself that it is cut for one that may be asked for again.
async fn check_list(
    root: &str,
    target: &Url,
    answer: http::Response<HttpBody>,
) -> Result<http::Response<HttpBody>, Failure> {
    let (parts, mut body) = answer.into_parts();
    let bytes = body.to_buffer().await.map_err(|error| match failure::of(&error) {
        Some(failure) => failure.clone(),
        None => Failure::new(ErrorKind::Unreachable, error.message()),
    })?;
    let bytes = bytes.to_bytes();
    let text = String::from_utf8_lossy(&bytes);
    let is_list =
        text.contains(&format!("<{root}")) && text.trim_end().ends_with(&format!("</{root}>"));
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once('<')?;
        Some(value.replace("&amp;", "&")).filter(|value| !value.is_empty())
    };
    let next = element("NextContinuationToken").or_else(|| element("NextMarker"));
    let is_cut = element("IsTruncated").is_some_and(|value| value == "true");
    let was_asked = |next: &String| {
        let mut markers = target
            .query_pairs()
            .filter(|(name, _)| matches!(&**name, "continuation-token" | "marker"));
        markers.any(|(_, value)| value == *next)
    };
    if !is_list || (is_cut && next.is_none()) || next.as_ref().is_some_and(was_asked) {
        let cause = "what the server answers is no list, or one without an end";
        return Err(Failure::new(ErrorKind::Other, cause));
    }
    let size = bytes.len() as u64;
    let body = futures_util::stream::iter([Ok(Buffer::from(bytes))]);
    Ok(http::Response::from_parts(parts, HttpBody::new(body, Some(size))))
}

/// The longest list, and the longest error, in bytes.
const LONGEST_LIST: u64 = 64 << 20;
const LONGEST_ERROR: u64 = 1 << 20;

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
    /// Returns how many bytes these are.
    fn length(&self) -> Option<u64> {
        self.1.checked_sub(self.0)?.checked_add(1)
    }

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
    let is_read = parts.method == http::Method::GET && answer.status().is_success();
    let listed = LISTED_SIZE.try_with(|size| *size).unwrap_or(0);
    // Where the line is the end, a line that is cut looks like one.
    let is_told = size.is_some() || head.headers().contains_key(TRANSFER_ENCODING);
    if is_read && !is_told {
        let cause = "the server does not say how long its answer is";
        return Err(Failure::new(ErrorKind::Unsupported, cause));
    }
    let another = |has: u64| {
        let cause = format!("the server shows a file of {has} bytes instead of {listed}");
        Failure::new(ErrorKind::Other, cause)
    };
    let other_bytes = || {
        let cause = "the server answers with other bytes than were asked for";
        Failure::new(ErrorKind::Other, cause)
    };
    let (mut skipped, mut length) = (0, None);
    match (range(&parts.headers), answer.status()) {
        (asked, StatusCode::OK) if is_read => {
            if let Some(has) = size.filter(|has| listed > 0 && *has != listed) {
                return Err(another(has));
            }
            // What comes in pieces is as long as what was listed.
            size = size.or((listed > 0).then_some(listed));
            if let Some((first, asked)) = asked {
                (skipped, length) = (first, asked);
                let left = size.map(|size| size.saturating_sub(first));
                size = match (left, asked) {
                    (Some(left), Some(asked)) => Some(left.min(asked)),
                    (left, _) => left,
                };
                *head.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
        }
        (Some((first, asked)), StatusCode::PARTIAL_CONTENT) => {
            let found = head.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            // Nothing is there from the end of a file on, and some servers make up a range of it.
            let total = found.and_then(|found| found.rsplit_once('/')?.1.parse::<u64>().ok());
            if let Some(has) = total.filter(|has| listed > 0 && *has != listed) {
                return Err(another(has));
            }
            let is_empty = size == Some(0) && total.is_some_and(|total| total <= first);
            if is_empty {
                head.headers_mut().remove(CONTENT_RANGE);
            } else {
                let found = found.and_then(content_range).ok_or_else(other_bytes)?;
                let held = found.length();
                if !found.answers(first, asked) || size.is_some_and(|size| Some(size) != held) {
                    return Err(other_bytes());
                }
                size = held;
            }
        }
        _ => {}
    }
    if is_read && let Some(size) = size {
        head.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    }
    let is_list = list_root(answer.url()).is_some() || parts.method.as_str() == "PROPFIND";
    let limit = match answer.status().is_success() {
        true if is_list => Some(LONGEST_LIST),
        true => size,
        false => Some(LONGEST_ERROR),
    };
    let download = Download::new(answer.bytes_stream(), timeout);
    let download = download.part(skipped, length).up_to(limit);
    Ok(head.map(|()| HttpBody::new(download, size)))
}
