//! Azure Blob Storage.
//!
//! The account comes from `AZURE_CONNECTION_STRING`, or from `AZURE_ACCOUNT_NAME` with
//! `AZURE_ACCOUNT_KEY` or `AZURE_SHARED_ACCESS_SIGNATURE`. The container is made where it is missing.
//!
//! Source: duplicity 0.8.22 and 3.2.1, azurebackend.py, and its manual of 0.8; Microsoft, "Configure
//! Azure Storage connection strings", "Create Container", "Set Blob Tier".

use super::service::{PATH, Service, Stamp, Stored, Writing, over};
use crate::storage::services::http::Http;
use crate::storage::{Error, ErrorKind, Settings, Url};
use opendal::{Buffer, HttpTransporter, Operator, services};
use reqsign_azure_storage::{Credential, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use std::os::unix::ffi::OsStrExt;
use zeroize::Zeroizing;

/// Files above so many bytes go in parts, whatever the command line says.
const WHOLE: usize = 1 << 30;
/// Size of these parts.
const PART: usize = 64 << 20;
/// The version of the interface that is spoken here.
const VERSION: &str = "2021-12-02";
/// The account of Microsoft's own emulators, which is no secret.
const DEVELOPMENT: [&str; 3] = [
    "http://127.0.0.1:10000/devstoreaccount1",
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
];

/// Where an account is, and how it is proved to be ours.
#[derive(Default)]
struct Account {
    endpoint: String,
    name: String,
    key: Option<Zeroizing<String>>,
    signature: Option<Zeroizing<String>>,
}

/// Returns the container, and what the names of the files begin with.
///
/// # Errors
/// [`Error`] with [`ErrorKind::BadUrl`] where the URL names none, or one that cannot be.
pub fn container(url: &Url) -> Result<(String, String), Error> {
    let path =
        std::str::from_utf8(url.path().as_bytes()).map_err(|_| url.bad("the path is not UTF-8"))?;
    let mut parts = url.host().into_iter().chain(path.split('/')).filter(|part| !part.is_empty());
    let container = parts
        .next()
        .ok_or_else(|| url.bad("the URL names no container; write azure://container"))?;
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_valid = (3..=63).contains(&container.len())
        && container.chars().all(is_good)
        && !container.contains("--")
        && !container.starts_with('-')
        && !container.ends_with('-');
    if !is_valid {
        let cause =
            "a container's name has 3 to 63 characters of a-z, 0-9 and single dashes between them";
        return Err(url.bad(cause));
    }
    Ok((container.into(), parts.collect::<Vec<_>>().join("/")))
}

/// Returns the account that the variables name.
fn account(url: &Url, settings: &Settings) -> Result<Account, Error> {
    let variable = |name: &str| settings.variable(name).filter(|value| !value.is_empty());
    if let Some(text) = variable("AZURE_CONNECTION_STRING") {
        return parse(&text).ok_or_else(|| {
            url.bad("AZURE_CONNECTION_STRING names no account, or no key or signature for it")
        });
    }
    let account = variable("AZURE_ACCOUNT_NAME").map(|name| Account {
        endpoint: format!("https://{}.blob.core.windows.net", &*name),
        name: name.to_string(),
        key: variable("AZURE_ACCOUNT_KEY"),
        signature: variable("AZURE_SHARED_ACCESS_SIGNATURE"),
    });
    account.filter(|account| account.key.is_some() || account.signature.is_some()).ok_or_else(|| {
        Error {
            operation: "reach",
            place: url.to_string(),
            kind: ErrorKind::Denied,
            cause: "there are no keys: set AZURE_CONNECTION_STRING, or AZURE_ACCOUNT_NAME and AZURE_ACCOUNT_KEY".into(),
        }
    })
}

/// Takes a connection string apart: `Name=value;Name=value`.
fn parse(text: &str) -> Option<Account> {
    let field = |wanted: &str| {
        let pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        values.next().map(|(_, value)| value.to_string()).filter(|value| !value.is_empty())
    };
    if field("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        let [endpoint, name, key] = DEVELOPMENT.map(String::from);
        return Some(Account { endpoint, name, key: Some(key.into()), signature: None });
    }
    let name = field("AccountName").unwrap_or_default();
    let endpoint = field("BlobEndpoint").or_else(|| {
        let protocol = field("DefaultEndpointsProtocol").unwrap_or_else(|| "https".into());
        let suffix = field("EndpointSuffix").unwrap_or_else(|| "core.windows.net".into());
        (!name.is_empty()).then(|| format!("{protocol}://{name}.blob.{suffix}"))
    })?;
    let endpoint = endpoint.trim_end_matches('/').to_string();
    let key = field("AccountKey").filter(|_| !name.is_empty()).map(Zeroizing::new);
    let signature = field("SharedAccessSignature").map(Zeroizing::new);
    (key.is_some() || signature.is_some()).then_some(Account { endpoint, name, key, signature })
}

/// Requests that OpenDAL does not send.
#[derive(Clone)]
struct Direct {
    http: HttpTransporter,
    signer: Signer<Credential>,
    container: String,
}

impl Direct {
    /// Changes something: the container, or a file in it.
    async fn put(
        self,
        place: String,
        header: Option<(&'static str, String)>,
        is_done: fn(u16) -> bool,
    ) -> opendal::Result<()> {
        use opendal::ErrorKind as Kind;
        let failed = |error: String| opendal::Error::new(Kind::Unexpected, error);
        let mut request =
            http::Request::put(place).header("x-ms-version", VERSION).header("Content-Length", "0");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Buffer::new()).map_err(|error| failed(error.to_string()))?;
        let (mut parts, body) = request.into_parts();
        self.signer
            .sign(&mut parts, None)
            .await
            .map_err(|error| failed(format!("the request cannot be signed: {error}")))?;
        let answer = self.http.send(http::Request::from_parts(parts, body)).await?;
        let status = answer.status();
        if is_done(status.as_u16()) {
            return Ok(());
        }
        let kind = match status.as_u16() {
            401 | 403 => Kind::PermissionDenied,
            404 => Kind::NotFound,
            _ => Kind::Unexpected,
        };
        Err(opendal::Error::new(kind, status.canonical_reason().unwrap_or("the server fails")))
    }
}

/// Describes the container.
///
/// # Errors
/// [`Error`] where the variables name no account.
pub fn connect(url: &Url, settings: &Settings) -> Result<Service, Error> {
    let (container, prefix) = container(url)?;
    let account = account(url, settings)?;
    let http = HttpTransporter::new(Http::new(settings, None)?);
    let mut builder = services::Azblob::default()
        .endpoint(&account.endpoint)
        .container(&container)
        .root(&format!("/{prefix}"));
    if !account.name.is_empty() {
        builder = builder.account_name(&account.name);
    }
    let provider = match (&account.key, &account.signature) {
        (Some(key), _) => {
            builder = builder.account_key(key);
            StaticCredentialProvider::new_shared_key(&account.name, key)
        }
        (None, signature) => {
            let signature =
                signature.as_deref().map_or("", |signature| signature.trim_start_matches('?'));
            builder = builder.sas_token(signature);
            StaticCredentialProvider::new_sas_token(signature)
        }
    };
    let operator = Operator::new(builder).map_err(|error| url.bad(error.message()))?;
    let operator = over(operator, http.clone());
    let signer = Signer::new(Context::new(), provider, RequestSigner::new());
    let direct = Direct { http, signer, container: format!("{}/{container}", account.endpoint) };
    let (given, maker) = (&settings.azure, direct.clone());
    let tier = given.tier.clone();
    let writer = || [operator.clone(), operator.clone()];
    Ok(Service {
        writers: [writer(), writer()],
        operator,
        writing: Writing::Whole {
            whole: given.whole.unwrap_or(WHOLE),
            part: given.part.unwrap_or(PART).max(1),
            parts: given.parts.unwrap_or(4).max(1),
        },
        stamp: Stamp::Tag,
        transfers: 8,
        has_folders: false,
        expires: false,
        list: None,
        make: Some(Box::new(move || {
            let place = format!("{}?restype=container", maker.container);
            // It may be there already.
            Box::pin(maker.clone().put(place, None, |status| matches!(status, 201 | 409)))
        })),
        stored: tier.map(|tier| -> Stored {
            let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
            Box::new(move |name| {
                let path = percent_encoding::utf8_percent_encode(name, PATH);
                let place = format!("{}/{prefix}{path}?comp=tier", direct.container);
                let header = Some(("x-ms-access-tier", tier.clone()));
                Box::pin(direct.clone().put(place, header, |status| matches!(status, 200 | 202)))
            })
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_have_names_of_their_own_kind() {
        for (typed, expected) in [
            ("azure://con-1/a/b", Some(("con-1", "a/b"))),
            ("azure:///container", Some(("container", ""))),
            ("azure://ab", None),
            ("azure://a--b", None),
            ("azure://Container", None),
            ("azure://", None),
        ] {
            let found = container(&Url::parse(typed).unwrap()).ok();
            let expected = expected.map(|(one, two)| (one.to_string(), two.to_string()));
            assert_eq!(found, expected, "{typed}");
        }
    }

    #[test]
    fn connection_strings() {
        let account =
            parse("DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5==").unwrap();
        assert_eq!(account.endpoint, "http://a.blob.core.windows.net");
        assert_eq!(account.key.unwrap().as_str(), "a2V5==");
        let account = parse("BlobEndpoint=https://h/a/;SharedAccessSignature=sv=1&sig=x").unwrap();
        assert_eq!(account.endpoint, "https://h/a");
        assert_eq!(account.signature.unwrap().as_str(), "sv=1&sig=x");
        assert!(parse("UseDevelopmentStorage=true").is_some());
        assert!(parse("AccountName=a").is_none() && parse("").is_none());
    }
}
