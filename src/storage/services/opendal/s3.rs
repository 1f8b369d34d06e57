//! Amazon S3, and services that speak its protocol.
//!
//! | URL | bucket | server |
//! |---|---|---|
//! | `s3://bucket/prefix`, `s3:///bucket/prefix`, `boto3+s3://bucket/prefix` | `bucket` | Amazon's, or `--s3-endpoint-url` |
//! | `s3+http://bucket/prefix` | `bucket` | the same |
//! | `s3://host/bucket/prefix`, where `host` has a port, is known to be S3's, or is that of `--s3-endpoint-url` | `bucket` | `host` |
//! | `gs://bucket/prefix` | `bucket` | `storage.googleapis.com` |
//!
//! Keys come from where the service's own programs look for them, in their order: the environment,
//! the profiles below `~/.aws`, roles; before them `~/.boto` and `/etc/boto.cfg` where there are no
//! variables. Google's interoperable keys come from `GS_ACCESS_KEY_ID` and `GS_SECRET_ACCESS_KEY`.
//!
//! The region is that of the command line, of the environment, of the profile, of the server's name,
//! or else the one that Amazon names for the bucket.
//!
//! Buckets are not made. A file goes up in one piece: nothing is ever left of one that was cut off.
//! Only very large ones, or those above `--s3-multipart-chunk-size`, go in parts. The server checks
//! the MD5 of what goes in one piece.
//!
//! Source: duplicity 0.8.22 and 3.2.1, s3_boto3_backend.py, _boto_single.py; boto3's addressing.

use super::answer::Location;
use super::service::{Service, Stamp, Writing, over};
use crate::storage::services::http::Http;
use crate::storage::{Error, S3Settings, Settings, Url};
use opendal::{HttpTransporter, Operator, services};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Files above so many bytes go in parts, whatever the command line says.
const WHOLE: usize = 1 << 30;
/// Size of these parts.
const PART: usize = 64 << 20;
/// The smallest part that the service takes.
const SMALLEST_PART: usize = 5 << 20;
const GOOGLE: &str = "storage.googleapis.com";
/// Ends of names of hosts that are S3's.
const HOSTS: &[&str] = &[
    "amazonaws.com",
    "amazonaws.com.cn",
    GOOGLE,
    "digitaloceanspaces.com",
    "wasabisys.com",
    "backblazeb2.com",
    "r2.cloudflarestorage.com",
    "scw.cloud",
    "linodeobjects.com",
    "ovh.net",
    "ovh.us",
    "your-objectstorage.com",
];

/// Where a bucket is, and what in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// Scheme, host and port; `None` for Amazon's own, which the region names.
    endpoint: Option<String>,
    bucket: String,
    /// What the names of the files begin with, without slashes at its ends.
    prefix: String,
}

impl Address {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`](crate::storage::ErrorKind::BadUrl) where it names no bucket.
    pub fn of(url: &Url, settings: &S3Settings) -> Result<Self, Error> {
        let path = std::str::from_utf8(url.path().as_bytes())
            .map_err(|_| url.bad("the path is not UTF-8"))?;
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let given = settings.endpoint.as_deref().map(|endpoint| endpoint.trim_end_matches('/'));
        let scheme = if settings.unencrypted { "http" } else { "https" };
        let host = url.host().filter(|host| is_server(host, url, given));
        let endpoint = match host {
            Some(host) if given.is_none() && is_of_amazon(host) => None,
            Some(host) if given.is_none() => {
                let port = url.port().map_or(String::new(), |port| format!(":{port}"));
                Some(format!("{scheme}://{host}{port}"))
            }
            _ => match given {
                Some(given) if given.contains("://") => Some(given.to_string()),
                Some(given) => Some(format!("{scheme}://{given}")),
                None if url.scheme() == "gs" => Some(format!("{scheme}://{GOOGLE}")),
                None => None,
            },
        };
        let bucket = match (host, url.host()) {
            (None, Some(bucket)) => Some(bucket),
            _ => parts.next(),
        };
        let bucket = bucket
            .ok_or_else(|| url.bad("the URL names no bucket; write s3://bucket/folder"))?
            .to_string();
        Ok(Self { endpoint, bucket, prefix: parts.collect::<Vec<_>>().join("/") })
    }
}

/// Returns whether what stands in a URL's place of a host is a server, not a bucket.
fn is_server(host: &str, url: &Url, endpoint: Option<&str>) -> bool {
    if url.scheme() != "s3" && url.scheme() != "boto+s3" {
        return false;
    }
    let of_endpoint = endpoint.map(|endpoint| {
        let place = endpoint.split_once("://").map_or(endpoint, |(_, place)| place);
        place.split(['/', ':']).next().unwrap_or_default()
    });
    url.port().is_some()
        || of_endpoint == Some(host)
        || HOSTS.iter().any(|end| host == *end || host.ends_with(&format!(".{end}")))
}

fn is_of_amazon(host: &str) -> bool {
    host == "s3.amazonaws.com" || host == "amazonaws.com"
}

/// Returns the region that a server's name holds.
fn region_of(endpoint: &str) -> Option<String> {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, place)| place);
    let host = host.split(['/', ':']).next()?;
    let name = host.strip_suffix(".amazonaws.com").or(host.strip_suffix(".amazonaws.com.cn"))?;
    let region = name.strip_prefix("s3.").or(name.strip_prefix("s3-"))?;
    let region = region.strip_prefix("dualstack.").unwrap_or(region);
    (!region.contains('.')).then(|| region.to_string())
}

/// A key, and what proves that it is held rightly.
struct Key {
    id: String,
    secret: Zeroizing<String>,
}

/// Returns keys that OpenDAL does not look for.
fn key(url: &Url, settings: &Settings) -> Option<Key> {
    let variable = |name: &str| settings.variable(name).filter(|value| !value.is_empty());
    let pair = |id: Option<Zeroizing<String>>, secret: Option<Zeroizing<String>>| {
        Some(Key { id: id?.to_string(), secret: secret? })
    };
    if let (Some(id), Some(secret)) = (url.user(), url.password()) {
        return Some(Key { id: id.into(), secret: secret.clone() });
    }
    let section = "Credentials";
    if url.scheme() == "gs" {
        return pair(variable("GS_ACCESS_KEY_ID"), variable("GS_SECRET_ACCESS_KEY")).or_else(
            || {
                let of_boto = |name: &str| of_boto(settings, section, name);
                pair(of_boto("gs_access_key_id"), of_boto("gs_secret_access_key"))
            },
        );
    }
    let own = pair(variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
    // A session's token belongs to the keys beside it, and OpenDAL takes the three together.
    if own.is_some() || variable("AWS_PROFILE").is_some() {
        return own.filter(|_| variable("AWS_SESSION_TOKEN").is_none());
    }
    let of_boto = |name: &str| of_boto(settings, section, name);
    pair(of_boto("aws_access_key_id"), of_boto("aws_secret_access_key"))
}

/// Returns a value of the settings of boto, which 0.8 read.
fn of_boto(settings: &Settings, section: &str, name: &str) -> Option<Zeroizing<String>> {
    let home = settings.variable("HOME").map(|home| PathBuf::from(home.as_str()).join(".boto"));
    let files = [home, Some("/etc/boto.cfg".into())];
    let mut values = files.into_iter().flatten().filter_map(|file: PathBuf| {
        let text = Zeroizing::new(std::fs::read_to_string(file).ok()?);
        ini(&text, section, name).map(Zeroizing::new)
    });
    values.next()
}

/// Returns a value of the profile below `~/.aws/config`.
fn of_profile(settings: &Settings, name: &str) -> Option<String> {
    let variable = |name: &str| settings.variable(name).filter(|value| !value.is_empty());
    let profile = variable("AWS_PROFILE").map_or("default".into(), |name| name.to_string());
    let file = variable("AWS_CONFIG_FILE").map(|file| PathBuf::from(file.as_str()));
    let of_home = || Some(PathBuf::from(variable("HOME")?.as_str()).join(".aws/config"));
    let text = std::fs::read_to_string(file.or_else(of_home)?).ok()?;
    ini(&text, &format!("profile {profile}"), name).or_else(|| ini(&text, &profile, name))
}

/// Returns a value of a file with sections. A line that begins with a space belongs to the value
/// above it: `s3 =` and below it `  addressing_style = path`.
fn ini(text: &str, section: &str, name: &str) -> Option<String> {
    let mut is_inside = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_inside = title.trim() == section;
        } else if let Some((found, value)) = line.split_once('=')
            && is_inside
            && found.trim() == name
        {
            return Some(value.trim().into());
        }
    }
    None
}

/// Returns whether a bucket's name can be part of a host's, under a certificate for any of them.
fn can_be_host(bucket: &str) -> bool {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (3..=63).contains(&bucket.len()) && bucket.chars().all(is_good)
}

/// Asks Amazon for the region of a bucket.
fn ask_region(url: &Url, http: &HttpTransporter, bucket: &str) -> Result<String, Error> {
    let request = http::Request::head(format!("https://s3.amazonaws.com/{bucket}"));
    let request =
        request.body(opendal::Buffer::new()).map_err(|error| url.bad(error.to_string()))?;
    let answer = async {
        let answer = http.fetch(request).await?;
        let region = answer.headers().get("x-amz-bucket-region");
        Ok(region.and_then(|region| region.to_str().ok()).map(String::from))
    };
    let region = Location::of(url).ask("find the region of", "", answer)?;
    Ok(region.unwrap_or_else(|| "us-east-1".into()))
}

/// Describes the bucket.
///
/// # Errors
/// [`Error`] where the URL or the settings make no sense, or the region cannot be found out.
pub fn connect(url: &Url, settings: &Settings) -> Result<Service, Error> {
    let given = &settings.s3;
    let address = Address::of(url, given)?;
    let variable = |name: &str| settings.variable(name).filter(|value| !value.is_empty());
    let endpoint = address.endpoint.clone().or_else(|| {
        let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
        let endpoint = names.iter().find_map(|name| variable(name)).map(|value| value.to_string());
        endpoint.or_else(|| of_profile(settings, "endpoint_url"))
    });
    let transporter = || Ok(HttpTransporter::new(Http::new(settings, None)?));
    let http = transporter()?;
    let region = given
        .region
        .clone()
        .or_else(|| variable("AWS_REGION").map(|value| value.to_string()))
        .or_else(|| variable("AWS_DEFAULT_REGION").map(|value| value.to_string()))
        .or_else(|| of_profile(settings, "region"))
        .or_else(|| region_of(endpoint.as_deref()?));
    let region = match (region, &endpoint) {
        (Some(region), _) => region,
        (None, Some(_)) => "us-east-1".into(),
        (None, None) => ask_region(url, &http, &address.bucket)?,
    };
    let style = of_profile(settings, "addressing_style");
    let by_host = match style.as_deref() {
        Some("virtual") => true,
        Some("path") => false,
        _ => endpoint.is_none() && can_be_host(&address.bucket),
    };
    let key = key(url, settings);
    let build = |class: Option<&str>, in_parts: bool| {
        let mut builder = services::S3::default()
            .root(&format!("/{}", address.prefix))
            .bucket(&address.bucket)
            .region(&region);
        if !in_parts {
            builder = builder.checksum_algorithm("md5");
        }
        match &endpoint {
            Some(endpoint) => builder = builder.endpoint(endpoint),
            None if given.unencrypted => builder = builder.endpoint("http://s3.amazonaws.com"),
            None => {}
        }
        if by_host {
            builder = builder.enable_virtual_host_style();
        }
        if let Some(profile) = variable("AWS_PROFILE") {
            builder = builder.profile(&profile);
        }
        if let Some(key) = &key {
            builder = builder.access_key_id(&key.id).secret_access_key(&key.secret);
        }
        if let Some(class) = class {
            builder = builder.default_storage_class(class);
        }
        match (&given.kms_key, given.kms, given.encrypted) {
            (Some(key), true, _) => {
                builder = builder.server_side_encryption_with_customer_managed_kms_key(key);
            }
            (None, true, _) => {
                builder = builder.server_side_encryption_with_aws_managed_kms_key();
            }
            (_, false, true) => builder = builder.server_side_encryption_with_s3_key(),
            (_, false, false) => {}
        }
        let operator = Operator::new(builder).map_err(|error| url.bad(error.message()))?;
        Ok::<_, Error>(over(operator, http.clone()))
    };
    let class = given.class.as_deref();
    let writers = |class| Ok([build(class, false)?, build(class, true)?]);
    Ok(Service {
        operator: build(None, false)?,
        writers: [writers(class.filter(|_| given.class_for_all))?, writers(class)?],
        writing: Writing::Whole {
            whole: given.part.map_or(WHOLE, |part| part.max(SMALLEST_PART)),
            part: given.part.unwrap_or(PART).max(SMALLEST_PART),
            parts: given.parts.unwrap_or(4).max(1),
        },
        stamp: Stamp::Tag,
        transfers: 8,
        has_folders: false,
        expires: false,
        list: None,
        make: None,
        stored: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ErrorKind;

    #[test]
    fn spellings_of_a_bucket() {
        let with = |endpoint: Option<&str>| S3Settings {
            endpoint: endpoint.map(Into::into),
            ..S3Settings::default()
        };
        let none = with(None);
        let given = with(Some("http://minio:9000/"));
        for (typed, settings, endpoint, bucket, prefix) in [
            ("s3://b/p/q", &none, None, "b", "p/q"),
            ("s3:///b/p/", &none, None, "b", "p"),
            ("boto3+s3://b", &none, None, "b", ""),
            ("s3+http://b//p", &none, None, "b", "p"),
            ("s3://h:9000/b/p", &none, Some("https://h:9000"), "b", "p"),
            ("boto+s3://s3.amazonaws.com/b", &none, None, "b", ""),
            (
                "s3://s3.eu-central-1.amazonaws.com/b/p",
                &none,
                Some("https://s3.eu-central-1.amazonaws.com"),
                "b",
                "p",
            ),
            ("s3://b/p", &given, Some("http://minio:9000"), "b", "p"),
            ("s3://minio/b/p", &given, Some("http://minio:9000"), "b", "p"),
            ("gs://b/p", &none, Some("https://storage.googleapis.com"), "b", "p"),
        ] {
            let address = Address::of(&Url::parse(typed).unwrap(), settings).unwrap();
            let expected = (endpoint.map(String::from), bucket.into(), prefix.into());
            assert_eq!((address.endpoint, address.bucket, address.prefix), expected, "{typed}");
        }
        for typed in ["s3://", "s3:///", "s3://h:9000/"] {
            let url = Url::parse(typed).unwrap();
            assert_eq!(Address::of(&url, &none).unwrap_err().kind, ErrorKind::BadUrl, "{typed}");
        }
    }

    #[test]
    fn the_region_stands_in_the_name_of_a_server() {
        for (endpoint, region) in [
            ("https://s3.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("https://s3-eu-west-1.amazonaws.com/", Some("eu-west-1")),
            ("https://s3.dualstack.us-east-2.amazonaws.com", Some("us-east-2")),
            ("https://s3.amazonaws.com", None),
            ("https://storage.googleapis.com", None),
        ] {
            assert_eq!(region_of(endpoint).as_deref(), region, "{endpoint}");
        }
    }

    #[test]
    fn sections_of_a_file() {
        let text =
            "[default]\nregion = a\n[profile x]\nregion=b\ns3 =\n  addressing_style = path\n";
        assert_eq!(ini(text, "default", "region").as_deref(), Some("a"));
        assert_eq!(ini(text, "profile x", "region").as_deref(), Some("b"));
        assert_eq!(ini(text, "profile x", "addressing_style").as_deref(), Some("path"));
        assert_eq!(ini(text, "x", "region"), None);
    }
}
