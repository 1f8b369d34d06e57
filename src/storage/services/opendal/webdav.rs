//! WebDAV servers, by user and password where they ask for them.
//!
//! Source: duplicity 0.8.22 and 3.2.1, webdavbackend.py, whose `http` and `https` mean the same.

use super::answer::Location;
use super::multistatus;
use super::service::{PATH, Service, Stamp, Writing, over};
use crate::storage::services::http::{AnsweredBy, Http, Login};
use crate::storage::{Error, ErrorKind, Listed, Settings, Url};
use opendal::{Buffer, HttpTransporter, Operator, services};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::os::unix::ffi::OsStrExt;
use zeroize::Zeroizing;

/// Returns scheme, host and port of a server.
///
/// # Errors
/// [`Error`] with [`ErrorKind::BadUrl`] where the URL names no host.
pub fn endpoint(url: &Url) -> Result<String, Error> {
    let host = url
        .host()
        .ok_or_else(|| url.bad("the URL names no host; write webdavs://user@host/folder"))?;
    let scheme = match url.scheme().rsplit('+').next() {
        Some("webdavs" | "https") => "https",
        _ => "http",
    };
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    Ok(format!("{scheme}://{host}{port}"))
}

/// Returns the password of the URL's user.
fn password(url: &Url, settings: &Settings) -> Result<Option<Zeroizing<String>>, Error> {
    if let Some(password) = url.password() {
        return Ok(Some(password.clone()));
    }
    let login = format!("{}@{}", url.user().unwrap_or_default(), url.host().unwrap_or_default());
    settings.password(&login).map_err(|error| Error {
        operation: "reach",
        place: url.to_string(),
        kind: ErrorKind::Denied,
        cause: format!("cannot ask for the password: {error}"),
    })
}

/// Asks a server for what is at an address: the thing itself, or also what is in it.
async fn propfind(
    http: &HttpTransporter,
    place: &str,
    depth: &'static str,
) -> opendal::Result<http::Response<Buffer>> {
    const WANTED: &str = r#"<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:resourcetype/><D:getcontentlength/><D:getlastmodified/></D:prop></D:propfind>"#;
    let request = http::Request::builder()
        .method("PROPFIND")
        .uri(place)
        .header("Depth", depth)
        .header("Content-Type", "application/xml")
        .body(Buffer::from(WANTED));
    let request = request.map_err(|error| {
        opendal::Error::new(opendal::ErrorKind::ConfigInvalid, error.to_string())
    })?;
    http.send(request).await
}

/// Lists a folder.
async fn list(http: HttpTransporter, folder: reqwest::Url) -> opendal::Result<Vec<Listed>> {
    use opendal::ErrorKind as Kind;
    let answer = propfind(&http, folder.as_str(), "1").await?;
    let kind = match answer.status().as_u16() {
        207 => {
            let text = answer.into_body().to_bytes();
            return multistatus::files(&text, &folder).ok_or_else(|| {
                opendal::Error::new(Kind::Unexpected, "the server's list makes no sense")
            });
        }
        404 => Kind::NotFound,
        401 | 403 => Kind::PermissionDenied,
        200..=299 | 405 | 501 => {
            let words = "the server does not speak WebDAV there";
            return Err(opendal::Error::new(Kind::Unsupported, words));
        }
        _ => Kind::Unexpected,
    };
    let words = answer.status().canonical_reason().unwrap_or("the server fails");
    Err(opendal::Error::new(kind, words))
}

/// Describes the server. Asks for the password of the URL's user, and the server for where the
/// folder is: what redirections lead to is used from then on.
///
/// # Errors
/// [`Error`] where the password, the headers or the certificates cannot be had, or the server
/// cannot be reached.
pub fn connect(url: &Url, settings: &Settings) -> Result<Service, Error> {
    let path = url.path().as_bytes();
    let typed = percent_encoding::percent_encode(path, PATH).to_string();
    let typed = format!("{}{}/", endpoint(url)?, typed.trim_end_matches('/'));
    let login = match url.user() {
        Some(user) => password(url, settings)?.map(|password| Login::new(user, password)),
        None => None,
    };
    let home = reqwest::Url::parse(&typed).map_err(|error| url.bad(error.to_string()))?;
    let http = Http::new(settings, login)?.for_server(home.clone(), headers(url, settings)?);
    let http = HttpTransporter::new(http);
    let found = Location::of(url).ask("reach", "", propfind(&http, &typed, "0"))?;
    let folder = match found.extensions().get::<AnsweredBy>() {
        Some(AnsweredBy(folder)) => folder.clone(),
        None => home,
    };
    let path = percent_encoding::percent_decode_str(folder.path()).decode_utf8();
    let path = path.map_err(|_| url.bad("the path is not UTF-8"))?;
    // Folders are made by `prepare` alone: OpenDAL would look for them before each file.
    let builder = services::Webdav::default()
        .endpoint(&folder.origin().ascii_serialization())
        .root(&path)
        .disable_create_dir(true);
    let operator = Operator::new(builder).map_err(|error| url.bad(error.message()))?;
    let operator = over(operator, http.clone());
    let writer = || [operator.clone(), operator.clone()];
    Ok(Service {
        writers: [writer(), writer()],
        operator,
        writing: Writing::Renamed,
        stamp: Stamp::Time,
        transfers: 4,
        has_folders: true,
        expires: false,
        list: Some(Box::new(move || Box::pin(list(http.clone(), folder.clone())))),
        make: None,
        stored: None,
    })
}

/// Returns the further headers.
fn headers(url: &Url, settings: &Settings) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let row = settings.webdav_headers.as_deref().map(fields).unwrap_or_default();
    for pair in row.chunks(2) {
        let parsed = match pair {
            [name, value] => HeaderName::from_bytes(name.trim().as_bytes())
                .ok()
                .zip(HeaderValue::from_str(value.trim()).ok()),
            _ => None,
        };
        let Some((name, mut value)) = parsed else {
            let cause = "--webdav-headers takes pairs: 'name,value,name,value', with quotes around what has a comma";
            return Err(url.bad(cause));
        };
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Splits a row of comma separated values; `""` between quotes is a quote.
fn fields(row: &str) -> Vec<String> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut characters = row.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if !row.is_empty() {
        fields.push(field);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_in_pairs() {
        for (row, expected) in [
            ("", vec![]),
            ("X-A,b", vec!["X-A", "b"]),
            ("X-A,\"b, \"\"c\"\"\",X-D,e", vec!["X-A", "b, \"c\"", "X-D", "e"]),
        ] {
            assert_eq!(fields(row), expected, "{row}");
        }
    }
}
