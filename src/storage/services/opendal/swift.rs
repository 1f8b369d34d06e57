//! Swift of OpenStack, and OVH's Public Cloud Archive, which is one.
//!
//! The user signs in with the first request, by version 1, 2 or 3, and once more when the token is
//! too old. All comes from variables: `SWIFT_USERNAME`, `SWIFT_PASSWORD`, `SWIFT_AUTHURL` …, those of
//! the archive with `PCA_`. The container is made where it is missing.
//!
//! Source: duplicity 0.8.22 and 3.2.1, swiftbackend.py and pcabackend.py; OpenStack, "Identity API" v2
//! and v3, "Object Storage API".

use super::answer::Location;
use super::service::{Service, Stamp, Writing, over};
use crate::storage::services::http::Http;
use crate::storage::{Error, ErrorKind, Settings, Url};
use opendal::{Buffer, HttpTransporter, Operator, services};
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use zeroize::Zeroizing;

/// The largest object that goes in one piece, in bytes.
const WHOLE: usize = 5 << 30;

/// Returns the container, and what the names of the files begin with.
///
/// # Errors
/// [`Error`] with [`ErrorKind::BadUrl`] where the URL names none.
pub fn container(url: &Url) -> Result<(String, String), Error> {
    let path =
        std::str::from_utf8(url.path().as_bytes()).map_err(|_| url.bad("the path is not UTF-8"))?;
    let mut parts = url.host().into_iter().chain(path.split('/')).filter(|part| !part.is_empty());
    let container = parts.next().ok_or_else(|| {
        let cause = format!("the URL names no container; write {}://container", url.scheme());
        url.bad(cause)
    })?;
    Ok((container.into(), parts.collect::<Vec<_>>().join("/")))
}

/// The variables of a service.
struct Variables<'s> {
    url: &'s Url,
    settings: &'s Settings,
}

impl Variables<'_> {
    fn name(&self, name: &str) -> String {
        let service = if self.url.scheme() == "pca" { "PCA" } else { "SWIFT" };
        format!("{service}_{name}")
    }

    fn get(&self, name: &str) -> Option<Zeroizing<String>> {
        self.settings.variable(&self.name(name)).filter(|value| !value.is_empty())
    }

    fn need(&self, name: &str) -> Result<Zeroizing<String>, Error> {
        self.get(name).ok_or_else(|| Error {
            operation: "reach",
            place: self.url.to_string(),
            kind: ErrorKind::Denied,
            cause: format!("the variable {} is not set", self.name(name)),
        })
    }

    /// Returns a JSON object of those of these fields whose variables are set.
    fn object(&self, fields: &[(&str, &str)]) -> Value {
        let set = fields.iter().filter_map(|(field, name)| {
            Some((field.to_string(), Value::from(self.get(name)?.as_str())))
        });
        Value::Object(set.collect())
    }
}

/// Where the files of an account are, and what proves that they may be used.
struct Session {
    place: String,
    token: Zeroizing<String>,
}

/// A server that answers with what cannot be used.
fn senseless(words: impl Into<String>) -> opendal::Error {
    opendal::Error::new(opendal::ErrorKind::Unexpected, words)
}

async fn send(
    http: &HttpTransporter,
    request: http::request::Builder,
    body: Option<&Value>,
) -> opendal::Result<http::Response<Buffer>> {
    let request = match body {
        Some(body) => {
            let request = request.header("Content-Type", "application/json");
            request.body(Buffer::from(body.to_string()))
        }
        None => request.body(Buffer::new()),
    };
    let request = request.map_err(|error| senseless(error.to_string()))?;
    let answer = http.send(request).await?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    use opendal::ErrorKind as Kind;
    let kind = match status.as_u16() {
        401 | 403 => Kind::PermissionDenied,
        404 => Kind::NotFound,
        _ => Kind::Unexpected,
    };
    let words = status.canonical_reason().unwrap_or("the server fails");
    Err(opendal::Error::new(kind, words))
}

fn header(answer: &http::Response<Buffer>, name: &str) -> opendal::Result<String> {
    let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
    value.map(String::from).ok_or_else(|| senseless(format!("the answer lacks {name}")))
}

/// Finds the address of the storage in a catalog of services.
fn endpoint(
    catalog: &Value,
    region: Option<&str>,
    address: impl Fn(&Value) -> Option<String>,
) -> opendal::Result<String> {
    let services = catalog.as_array().into_iter().flatten();
    let endpoints = services
        .filter(|service| service["type"] == "object-store")
        .flat_map(|service| service["endpoints"].as_array().into_iter().flatten());
    let is_there = |endpoint: &&Value| {
        region.is_none_or(|region| endpoint["region"] == region || endpoint["region_id"] == region)
    };
    let mut found = endpoints.filter(is_there).filter_map(address);
    found.next().map(|place| place.trim_end_matches('/').to_string()).ok_or_else(|| {
        let of_region = region.map_or(String::new(), |region| format!(" in the region {region}"));
        senseless(format!("the account has no object storage{of_region}"))
    })
}

/// What to sign in by, made before anything is sent.
enum SignIn {
    /// Nothing: there is a session already.
    Done(Session),
    One {
        place: String,
        user: Zeroizing<String>,
        password: Zeroizing<String>,
    },
    Two {
        place: String,
        request: Value,
        region: Option<String>,
        kind: String,
    },
    Three {
        place: String,
        request: Value,
        region: Option<String>,
        kind: String,
    },
}

impl SignIn {
    fn new(variables: &Variables<'_>) -> Result<Self, Error> {
        if let (Some(place), Some(token)) =
            (variables.get("PREAUTHURL"), variables.get("PREAUTHTOKEN"))
        {
            let place = place.trim_end_matches('/').to_string();
            return Ok(Self::Done(Session { place, token }));
        }
        let (user, password) = (variables.need("USERNAME")?, variables.need("PASSWORD")?);
        let place = variables.need("AUTHURL")?.trim_end_matches('/').to_string();
        let text = |name: &str| variables.get(name).map(|value| value.to_string());
        let region = text("REGIONNAME");
        let kind = text("ENDPOINT_TYPE").unwrap_or_else(|| "publicURL".into());
        let usual = if variables.url.scheme() == "pca" { "2" } else { "1" };
        let version = text("AUTHVERSION").unwrap_or_else(|| usual.into());
        match version.split('.').next() {
            Some("1") => Ok(Self::One { place, user, password }),
            Some("2") => {
                let mut request =
                    variables.object(&[("tenantName", "TENANTNAME"), ("tenantId", "TENANTID")]);
                request["passwordCredentials"] =
                    json!({"username": user.as_str(), "password": password.as_str()});
                let request = json!({"auth": request});
                Ok(Self::Two { place: format!("{place}/tokens"), request, region, kind })
            }
            Some("3") => {
                let domain = |name: &str, id: &str| {
                    let domain = variables.object(&[("id", id), ("name", name)]);
                    if domain == json!({}) { json!({"id": "default"}) } else { domain }
                };
                let mut login = variables.object(&[("id", "USERID")]);
                login["password"] = json!(password.as_str());
                if login["id"].is_null() {
                    login = json!({"name": user.as_str(), "password": password.as_str()});
                    login["domain"] = domain("USER_DOMAIN_NAME", "USER_DOMAIN_ID");
                }
                let mut project = variables.object(&[("id", "TENANTID"), ("name", "TENANTNAME")]);
                let newer = variables.object(&[("id", "PROJECT_ID"), ("name", "PROJECT_NAME")]);
                if newer != json!({}) {
                    project = newer;
                }
                // An id says all; a name is one within a domain.
                if let Some(id) = project.get("id") {
                    project = json!({ "id": id });
                } else if project.get("name").is_some() {
                    project["domain"] = domain("PROJECT_DOMAIN_NAME", "PROJECT_DOMAIN_ID");
                }
                let mut request =
                    json!({"identity": {"methods": ["password"], "password": {"user": login}}});
                if project != json!({}) {
                    request["scope"] = json!({ "project": project });
                }
                let request = json!({"auth": request});
                Ok(Self::Three { place: format!("{place}/auth/tokens"), request, region, kind })
            }
            _ => Err(variables.url.bad(format!(
                "{} is '{version}'; 1, 2 and 3 are known",
                variables.name("AUTHVERSION")
            ))),
        }
    }

    async fn run(self, http: &HttpTransporter) -> opendal::Result<Session> {
        let parse = |answer: &http::Response<Buffer>| {
            serde_json::from_slice::<Value>(&answer.body().to_bytes())
                .map_err(|error| senseless(format!("the answer is no JSON: {error}")))
        };
        match self {
            Self::Done(session) => Ok(session),
            Self::One { place, user, password } => {
                let request = http::Request::get(place)
                    .header("X-Auth-User", user.as_str())
                    .header("X-Auth-Key", password.as_str());
                let answer = send(http, request, None).await?;
                let place = header(&answer, "x-storage-url")?;
                Ok(Session { place, token: header(&answer, "x-auth-token")?.into() })
            }
            Self::Two { place, request, region, kind } => {
                let answer = send(http, http::Request::post(place), Some(&request)).await?;
                let access = &parse(&answer)?["access"];
                let token = access["token"]["id"].as_str();
                let token = token.ok_or_else(|| senseless("the answer lacks a token"))?;
                let address = |endpoint: &Value| endpoint[&*kind].as_str().map(String::from);
                let catalog = &access["serviceCatalog"];
                let place = endpoint(catalog, region.as_deref(), address)?;
                Ok(Session { place, token: token.to_string().into() })
            }
            Self::Three { place, request, region, kind } => {
                let answer = send(http, http::Request::post(place), Some(&request)).await?;
                let token = header(&answer, "x-subject-token")?.into();
                let wanted = kind.strip_suffix("URL").unwrap_or(&kind);
                let address = |endpoint: &Value| {
                    let is_wanted = endpoint["interface"] == wanted;
                    endpoint["url"].as_str().filter(|_| is_wanted).map(String::from)
                };
                let place =
                    endpoint(&parse(&answer)?["token"]["catalog"], region.as_deref(), address)?;
                Ok(Session { place, token })
            }
        }
    }
}

/// Signs in, and describes the container.
///
/// # Errors
/// [`Error`] where a variable is missing, or the server does not let the user in.
pub fn connect(url: &Url, settings: &Settings) -> Result<Service, Error> {
    let (container, prefix) = container(url)?;
    let http = HttpTransporter::new(Http::new(settings, None)?);
    let sign_in = SignIn::new(&Variables { url, settings })?;
    let session = Location::of(url).ask("reach", "", sign_in.run(&http))?;
    let builder = services::Swift::default()
        .endpoint(&session.place)
        .container(&container)
        .root(&format!("/{prefix}"))
        .token(&session.token);
    let operator = Operator::new(builder).map_err(|error| url.bad(error.message()))?;
    let operator = over(operator, http.clone());
    let writer = || [operator.clone(), operator.clone()];
    let policy = settings.swift_policy.clone();
    let make = move || -> futures_util::future::BoxFuture<'static, opendal::Result<()>> {
        let mut request = http::Request::put(format!("{}/{container}", session.place))
            .header("X-Auth-Token", session.token.as_str());
        // Of a container that is there already, the policy stays what it is.
        if let Some(policy) = &policy {
            request = request.header("X-Storage-Policy", policy);
        }
        let http = http.clone();
        Box::pin(async move { send(&http, request, None).await.map(drop) })
    };
    Ok(Service {
        writers: [writer(), writer()],
        operator,
        writing: Writing::Whole { whole: WHOLE, part: 1 << 30, parts: 2 },
        stamp: Stamp::Tag,
        transfers: 8,
        has_folders: false,
        expires: true,
        list: None,
        make: Some(Box::new(make)),
        stored: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// What is sent to sign in, for these variables.
    fn request(scheme: &str, variables: &'static [(&str, &str)]) -> String {
        let environment = |name: &str| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some(value.to_string().into())
        };
        let settings = Settings { environment: Arc::new(environment), ..Settings::default() };
        let url = Url::parse(format!("{scheme}://container/a")).unwrap();
        match SignIn::new(&Variables { url: &url, settings: &settings }) {
            Ok(SignIn::Done(session)) => session.place,
            Ok(SignIn::One { place, .. }) => place,
            Ok(SignIn::Two { place, request, .. } | SignIn::Three { place, request, .. }) => {
                format!("{place} {request}")
            }
            Err(error) => error.cause,
        }
    }

    #[test]
    fn ways_to_sign_in() {
        for (scheme, variables, expected) in [
            ("swift", &[][..], "the variable SWIFT_USERNAME is not set"),
            (
                "swift",
                &[
                    ("SWIFT_USERNAME", "u"),
                    ("SWIFT_PASSWORD", "p"),
                    ("SWIFT_AUTHURL", "http://h/auth/v1.0"),
                ],
                "http://h/auth/v1.0",
            ),
            (
                "pca",
                &[
                    ("PCA_USERNAME", "u"),
                    ("PCA_PASSWORD", "p"),
                    ("PCA_AUTHURL", "http://h/v2.0/"),
                    ("PCA_TENANTNAME", "t"),
                ],
                r#"http://h/v2.0/tokens {"auth":{"passwordCredentials":{"password":"p","username":"u"},"tenantName":"t"}}"#,
            ),
            (
                "swift",
                &[
                    ("SWIFT_USERNAME", "u"),
                    ("SWIFT_PASSWORD", "p"),
                    ("SWIFT_AUTHURL", "http://h/v3"),
                    ("SWIFT_AUTHVERSION", "3"),
                    ("SWIFT_PROJECT_NAME", "n"),
                    ("SWIFT_USER_DOMAIN_NAME", "d"),
                ],
                r#"http://h/v3/auth/tokens {"auth":{"identity":{"methods":["password"],"password":{"user":{"domain":{"name":"d"},"name":"u","password":"p"}}},"scope":{"project":{"domain":{"id":"default"},"name":"n"}}}}"#,
            ),
        ] {
            assert_eq!(request(scheme, variables), expected);
        }
    }

    #[test]
    fn catalogs() {
        let catalog = json!([
            {"type": "compute", "endpoints": [{"region": "A", "publicURL": "http://no"}]},
            {"type": "object-store", "endpoints": [
                {"region": "A", "publicURL": "http://a/"}, {"region": "B", "publicURL": "http://b"}]},
        ]);
        let of = |region| {
            endpoint(&catalog, region, |found| found["publicURL"].as_str().map(String::from))
        };
        assert_eq!(of(None).unwrap(), "http://a");
        assert_eq!(of(Some("B")).unwrap(), "http://b");
        assert!(of(Some("C")).unwrap_err().message().contains("in the region C"));
    }
}
