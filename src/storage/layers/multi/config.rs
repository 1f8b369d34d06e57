//! [`MultiConfig`]: what `multi:///config.json?…` asks for.
//!
//! ```text
//! multi:///path/to/config.json[?mode=stripe|mirror&onfail=continue|abort&subpath=TEXT]
//!
//! [ { "url": "sftp://me@nas/backup",
//!     "env": [ { "name": "FTP_PASSWORD", "value": "secret" } ],
//!     "prefixes": [ "manifest-", "signatures-" ] },
//!   { "url": "file:///mnt/usb/backup" } ]
//! ```
//! Variables under `env` belong to their store alone. duplicity puts them into the environment of the
//! whole process, where those of a later store take the place of an earlier one's.
//!
//! Source: duplicity 0.8.22 and 3.2.1, tried; both pass over other names in the file.

use crate::storage::{Error, Url, read_file};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use zeroize::Zeroizing;

/// What is asked for: how files are dealt out, and where to.
pub struct MultiConfig {
    /// Whether each store gets every file; else each file goes to one of them.
    pub is_mirror: bool,
    /// Whether a store that takes no file is gone without.
    pub goes_on: bool,
    /// The stores, one at least.
    pub stores: Vec<StoreConfig>,
}

/// One of the stores.
pub struct StoreConfig {
    /// Where it is.
    pub url: Url,
    /// How the names of the files begin that are for it, where it is not for all.
    pub prefixes: Vec<String>,
    /// Variables for it alone.
    pub variables: Vec<(String, Zeroizing<String>)>,
}

impl MultiConfig {
    /// Reads what a URL asks for, and the file that it names.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`](crate::storage::ErrorKind::BadUrl) for what makes no sense, and for a file that cannot be
    /// read.
    pub fn read(url: &Url) -> Result<Self, Error> {
        let bad = |cause: String| url.bad(cause);
        let parsed = || -> Result<Self, String> {
            let mut config = Self { is_mirror: false, goes_on: true, stores: Vec::new() };
            let subpath = config.take_query(url.query().unwrap_or_default())?;
            if url.host().is_some() || url.path().is_empty() {
                return Err("write multi:///folder/config.json, with three slashes".into());
            }
            let path = Path::new(url.path());
            let failed =
                |cause: String| format!("Could not load config file {}: {cause}", path.display());
            let bytes = Zeroizing::new(read_file(path).map_err(|error| failed(error.to_string()))?);
            let parsed = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()));
            config.stores = stores(parsed?, &subpath).map_err(failed)?;
            if !config.is_mirror && config.stores.iter().any(|store| !store.prefixes.is_empty()) {
                return Err(
                    "stripe mode not supported with prefix affinity; add ?mode=mirror".into()
                );
            }
            Ok(config)
        };
        parsed().map_err(bad)
    }

    /// Takes over what stands behind the question mark; returns what is appended to the stores'
    /// URLs.
    fn take_query(&mut self, query: &str) -> Result<String, String> {
        let mut taken = Vec::new();
        let mut subpath = String::new();
        for parameter in query.split('&').filter(|_| !query.is_empty()) {
            let unparsable = || format!("Could not parse query string {query}");
            let (name, value) = parameter.split_once('=').ok_or_else(unparsable)?;
            let [name, value] = [name, value].map(decode);
            // As if it were not there.
            if value.is_empty() {
                continue;
            }
            if taken.contains(&name) {
                return Err(format!("Invalid query string: more than one value for {name}"));
            }
            match (&*name, &*value) {
                ("mode", "stripe") => self.is_mirror = false,
                ("mode", "mirror") => self.is_mirror = true,
                ("onfail", "continue") => self.goes_on = true,
                ("onfail", "abort") => self.goes_on = false,
                ("mode", _) => {
                    return Err(format!("illegal value for mode: {value}; stripe or mirror"));
                }
                ("onfail", _) => {
                    return Err(format!("illegal value for onfail: {value}; continue or abort"));
                }
                ("subpath", _) => subpath.clone_from(&value),
                _ => {
                    return Err(format!(
                        "Invalid query string: unknown parameter {name}; mode, onfail or subpath"
                    ));
                }
            }
            taken.push(name);
        }
        Ok(subpath)
    }
}

/// Takes the stores out of the file.
fn stores(config: Value, subpath: &str) -> Result<Vec<StoreConfig>, String> {
    let Value::Array(entries) = config else { return Err("it holds no list of stores".into()) };
    let stores = (1..).zip(entries).map(|(number, entry)| {
        store(entry, subpath).map_err(|cause| format!("store {number}: {cause}"))
    });
    let stores = stores.collect::<Result<Vec<_>, _>>()?;
    if stores.is_empty() {
        return Err("it names no store".into());
    }
    Ok(stores)
}

fn store(mut entry: Value, subpath: &str) -> Result<StoreConfig, String> {
    let url = text(entry.get_mut("url")).ok_or("it has no \"url\"")?;
    let url = Zeroizing::new(format!("{}{subpath}", *url));
    let url = Url::parse(OsStr::new(url.as_str())).map_err(|error| error.to_string())?;
    // It could name itself, again and again.
    if url.scheme().ends_with("multi") {
        return Err(format!("'{url}' is not one store: name its stores here"));
    }
    let (mut prefixes, mut variables) = (Vec::new(), Vec::new());
    for prefix in list(&mut entry, "prefixes")? {
        let prefix = text(Some(prefix)).ok_or("\"prefixes\" holds something else than a text")?;
        prefixes.push(prefix.to_string());
    }
    for variable in list(&mut entry, "env")? {
        let [name, value] = ["name", "value"].map(|key| text(variable.get_mut(key)));
        let (name, value) =
            name.zip(value).ok_or("\"env\" takes pairs of \"name\" and \"value\"")?;
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err("\"env\" names what cannot be a variable".into());
        }
        variables.push((name.to_string(), value));
    }
    Ok(StoreConfig { url, prefixes, variables })
}

/// Returns the elements of a list; none where there is no list.
fn list<'v>(entry: &'v mut Value, key: &str) -> Result<&'v mut [Value], String> {
    match entry.get_mut(key) {
        None | Some(Value::Null) => Ok(&mut []),
        Some(Value::Array(elements)) => Ok(elements),
        Some(_) => Err(format!("\"{key}\" is no list")),
    }
}

/// Takes a text, which may be a secret.
fn text(value: Option<&mut Value>) -> Option<Zeroizing<String>> {
    match value.map(Value::take) {
        Some(Value::String(text)) => Some(text.into()),
        _ => None,
    }
}

/// Decodes a part of a query.
fn decode(part: &str) -> String {
    percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ErrorKind;

    /// Reads a configuration with a query, and returns what is wrong with it.
    fn read(query: &str, content: &str) -> Result<MultiConfig, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a b.json");
        std::fs::write(&path, content).unwrap();
        let typed = format!("multi://{}/a%20b.json{query}", directory.path().display());
        MultiConfig::read(&Url::parse(typed).unwrap()).map_err(|error| {
            assert_eq!(error.kind, ErrorKind::BadUrl);
            error.to_string()
        })
    }

    #[test]
    fn all_that_can_be_asked_for() {
        let two = r#"[{"url":"sftp://u:secret@h/a","description":"x","more":1,"prefixes":["m-","s-"],
            "env":[{"name":"A","value":"1"},{"name":"A","value":"2"}]},{"url":"file:///b","env":null}]"#;
        let config = read("?subpath=%2Fx+y&onfail=abort&mode=mirror", two).unwrap();
        assert!(config.is_mirror && !config.goes_on);
        let [one, other] = &config.stores[..] else { panic!() };
        assert_eq!(
            (one.url.to_string().as_str(), &*one.prefixes),
            ("sftp://u:***@h/a/x y", &["m-".to_string(), "s-".into()][..])
        );
        assert_eq!(one.variables.len(), 2);
        assert_eq!(other.url.to_string(), "file:///b/x y");
        let config = read("?mode=&subpath=", r#"[{"url":"a"}]"#).unwrap();
        assert!(!config.is_mirror && config.goes_on);
        assert!(read("?", r#"[{"url":"a"}]"#).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let one = r#"[{"url":"file:///a"}]"#;
        for (query, content, words) in [
            ("?mode=mirror&mode=mirror", one, "more than one value for mode"),
            ("?mode=both", one, "illegal value for mode: both"),
            ("?onfail=x", one, "illegal value for onfail: x"),
            ("?x=y", one, "unknown parameter x"),
            ("?mode", one, "Could not parse query string mode"),
            ("?mode=mirror&", one, "Could not parse query string"),
            ("", "[", "Could not load config file /"),
            ("", "{}", "no list"),
            ("", "[]", "no store"),
            ("", "[3]", "store 1: it has no \"url\""),
            ("", r#"[{"url":"file:///a"},{"url":""}]"#, "store 2: "),
            ("", r#"[{"url":"multi:///a"}]"#, "not one store"),
            ("", r#"[{"url":"par2+multi:///a"}]"#, "not one store"),
            ("", r#"[{"url":"a","prefixes":["x"]}]"#, "stripe mode not supported with prefix"),
            ("", r#"[{"url":"a","prefixes":"x"}]"#, "\"prefixes\" is no list"),
            ("", r#"[{"url":"a","prefixes":[1]}]"#, "something else than a text"),
            ("", r#"[{"url":"a","env":[{"name":"A"}]}]"#, "pairs of"),
            ("", r#"[{"url":"a","env":[{"name":"A=","value":"secret"}]}]"#, "cannot be a variable"),
        ] {
            let error = read(query, content).err().unwrap();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for (typed, words) in
            [("multi:///none/x.json", "No such file"), ("multi://rel/x.json", "three slashes")]
        {
            let error = MultiConfig::read(&Url::parse(typed).unwrap()).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
