//! [`GpgOptions`]: what gpg.conf and the words of `--gpg-options` ask for, as far as it concerns
//! what is written.
//!
//! duplicity has gpg encrypt, which follows its gpg.conf, then the words that duplicity hands it.
//! Here both are understood one by one, since gpg only signs and looks up keys. The rule: *a word
//! that changes who can read is honoured, or is an error; none is dropped.* Of a word given twice
//! the last counts, so that the command line has its way; recipients and groups add up.
//!
//! A word of `--gpg-options` that is not known is an error, as with gpg. One of gpg.conf is passed
//! over, as gpg passes it over; those that gpg knows concern what it reads, shows, or does to keys.

use crate::codec::Cause;
use crate::codec::gpg::Gpg;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A recipient as gpg names keys, and whether its key ID is left out.
pub(super) type Named = (String, bool);

/// What is asked for. `None`: as gpg does without a word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpgOptions {
    /// OpenPGP's number of the cipher: 7, 8 or 9, which is AES with 128, 192 or 256 bits.
    pub(super) cipher: Option<u8>,
    /// Those that may be chosen where none is demanded, the best first.
    pub(super) cipher_preferences: Vec<u8>,
    /// The hash to sign with.
    pub(super) digest: Option<u8>,
    digest_preference: Option<u8>,
    /// Whether to compress.
    compress: Option<bool>,
    compress_preference: Option<bool>,
    /// Compression level, 0 to 9.
    pub(super) level: Option<u8>,
    pub(super) s2k_cipher: Option<u8>,
    pub(super) s2k_digest: Option<u8>,
    pub(super) s2k_mode: Option<u8>,
    pub(super) s2k_count: Option<u32>,
    /// Recipients that all messages for recipients have.
    pub(super) encrypt_to: Vec<Named>,
    /// Recipients as those of `--encrypt-key`.
    pub(super) recipients: Vec<Named>,
    /// Names that stand for keys. The same may come twice.
    groups: Vec<(String, Vec<String>)>,
    default_keys: Vec<String>,
    /// Whether the key IDs of all recipients are left out.
    pub(super) hide: bool,
    /// The words for the gpg program.
    pub(super) program: Vec<String>,
    notes: Vec<String>,
}

impl GpgOptions {
    /// Returns what is done otherwise than the words say, a sentence each, for the user to know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns whether recipients are named, who count only beside those of `--encrypt-key`, as
    /// with duplicity.
    pub fn names_recipients(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// Returns whether to compress.
    pub(super) fn compresses(&self) -> bool {
        self.compress.or(self.compress_preference) != Some(false) && self.level != Some(0)
    }

    /// Returns the keys that a name stands for: those of a group, or the one itself.
    pub(super) fn expand<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        let groups = || self.groups.iter().filter(|(group, _)| group.eq_ignore_ascii_case(name));
        match groups().count() {
            0 => vec![name],
            _ => groups().flat_map(|(_, keys)| keys).map(String::as_str).collect(),
        }
    }
}

/// What to do with an option.
#[derive(Clone, Copy, PartialEq)]
enum Operation {
    /// It changes nothing of what is written here.
    Ignore,
    /// The gpg program gets it.
    Program,
    Cipher,
    Digest,
    Compression,
    Level,
    S2kCipher,
    S2kDigest,
    S2kMode,
    S2kCount,
    Recipient,
    HiddenRecipient,
    EncryptTo,
    HiddenEncryptTo,
    NoEncryptTo,
    DefaultKey,
    EncryptToDefaultKey,
    Group,
    Ungroup,
    NoGroups,
    Hide,
    Show,
    CipherPreferences,
    DigestPreferences,
    CompressionPreferences,
    /// It would change who can read, in a way that is not served.
    Refuse,
}
use Operation::*;

impl Operation {
    /// Whether one of these replaces the one before.
    fn replaces(self) -> bool {
        let settings =
            [Cipher, Digest, Compression, Level, S2kCipher, S2kDigest, S2kMode, S2kCount];
        settings.contains(&self)
            || [CipherPreferences, DigestPreferences, CompressionPreferences].contains(&self)
    }
}

/// Options without an argument.
const FLAGS: &[(&str, Operation)] = &[
    ("always-trust", Ignore), // no trust is asked for, as by duplicity 3
    ("auto-key-retrieve", Program),
    ("batch", Ignore),
    ("disable-mdc", Ignore), // without which nothing is written
    ("enable-special-filenames", Ignore),
    ("encrypt", Refuse),
    ("encrypt-to-default-key", EncryptToDefaultKey),
    ("exit-on-status-write-error", Ignore),
    ("expert", Program),
    ("fixed-list-mode", Ignore),
    ("force-mdc", Ignore),
    ("force-v3-sigs", Ignore),
    ("force-v4-certs", Ignore),
    ("gnupg", Ignore),
    ("ignore-mdc-error", Ignore),
    ("ignore-time-conflict", Program),
    ("ignore-valid-from", Program),
    ("lock-multiple", Program),
    ("lock-never", Program),
    ("lock-once", Program),
    ("no", Ignore),
    ("no-allow-non-selfsigned-uid", Ignore),
    ("no-armor", Ignore),
    ("no-auto-check-trustdb", Program),
    ("no-auto-key-locate", Program),
    ("no-autostart", Program),
    ("no-batch", Ignore),
    ("no-default-keyring", Program),
    ("no-default-recipient", Ignore),
    ("no-emit-version", Ignore),
    ("no-encrypt-to", NoEncryptTo),
    ("no-force-mdc", Ignore),
    ("no-greeting", Ignore),
    ("no-groups", NoGroups),
    ("no-literal", Ignore),
    ("no-mdc-warning", Ignore),
    ("no-options", Program),
    ("no-permission-warning", Program),
    ("no-random-seed-file", Program),
    ("no-secmem-warning", Ignore),
    ("no-sig-cache", Program),
    ("no-skip-hidden-recipients", Ignore),
    ("no-textmode", Ignore),
    ("no-throw-keyids", Show),
    ("no-tty", Ignore),
    ("no-use-agent", Program),
    ("no-utf8-strings", Program),
    ("no-verbose", Ignore),
    ("openpgp", Ignore),
    ("preserve-permissions", Program),
    ("quiet", Ignore),
    ("rfc4880", Ignore),
    ("rfc4880bis", Ignore),
    ("skip-hidden-recipients", Ignore),
    ("skip-verify", Ignore),
    ("symmetric", Refuse),
    ("throw-keyids", Hide),
    ("try-all-secrets", Ignore),
    ("use-agent", Program),
    ("utf8-strings", Program),
    ("verbose", Ignore),
    ("yes", Ignore),
];

/// Options with an argument.
const ARGUMENTS: &[(&str, Operation)] = &[
    ("agent-program", Program),
    ("auto-key-locate", Ignore),
    ("bzip2-compress-level", Ignore),
    ("cert-digest-algo", Ignore),
    ("charset", Program),
    ("chunk-size", Ignore),
    ("cipher-algo", Cipher),
    ("comment", Ignore),
    ("compliance", Ignore),
    ("compress-algo", Compression),
    ("compress-level", Level),
    ("compression-algo", Compression),
    ("debug-level", Ignore),
    ("default-key", DefaultKey),
    ("default-recipient", Ignore), // for messages without any
    ("digest-algo", Digest),
    ("dirmngr-program", Program),
    ("disable-cipher-algo", Ignore),
    ("display", Program),
    ("display-charset", Program),
    ("encrypt-to", EncryptTo),
    ("faked-system-time", Program),
    ("group", Group),
    ("hidden-encrypt-to", HiddenEncryptTo),
    ("hidden-recipient", HiddenRecipient),
    ("hidden-recipient-file", Refuse),
    ("homedir", Program),
    ("keyring", Program),
    ("keyserver", Ignore),
    ("keyserver-options", Ignore),
    ("lc-ctype", Program),
    ("lc-messages", Program),
    ("local-user", Ignore),
    ("logger-fd", Ignore),
    ("logger-file", Ignore),
    ("max-output", Ignore),
    ("options", Program),
    ("passphrase-repeat", Ignore),
    ("personal-cipher-preferences", CipherPreferences),
    ("personal-cipher-prefs", CipherPreferences),
    ("personal-compress-preferences", CompressionPreferences),
    ("personal-compress-prefs", CompressionPreferences),
    ("personal-digest-preferences", DigestPreferences),
    ("personal-digest-prefs", DigestPreferences),
    ("pinentry-mode", Program),
    ("primary-keyring", Program),
    ("recipient", Recipient),
    ("recipient-file", Refuse),
    ("remote-user", Recipient),
    ("request-origin", Program),
    ("s2k-cipher-algo", S2kCipher),
    ("s2k-count", S2kCount),
    ("s2k-digest-algo", S2kDigest),
    ("s2k-mode", S2kMode),
    ("secret-keyring", Program),
    ("set-filename", Ignore),
    ("set-filesize", Ignore),
    ("status-fd", Ignore),
    ("status-file", Ignore),
    ("trust-model", Program),
    ("trustdb-name", Program),
    ("ttyname", Program),
    ("ttytype", Program),
    ("try-secret-key", Ignore),
    ("ungroup", Ungroup),
    ("verify-options", Ignore),
    ("weak-digest", Program),
    ("xauthority", Program),
];

/// One-letter options.
const LETTERS: &[(u8, &str)] = &[
    (b'R', "hidden-recipient"),
    (b'q', "quiet"),
    (b'r', "recipient"),
    (b'u', "local-user"),
    (b'v', "verbose"),
    (b'z', "compress-level"),
];

fn refuse(what: impl Into<String>) -> Cause {
    Cause::GpgOption(what.into())
}

/// One option that was given.
struct Given<'a> {
    name: &'a str,
    value: Option<&'a str>,
    operation: Operation,
    /// Where in a file; `None` for a word of `--gpg-options`.
    place: Option<String>,
}

/// Parses the words of `--gpg-options`: `--option value`, `--option=value`, `-z value`, `-zvalue`.
///
/// # Errors
/// [`Cause::GpgOption`] names the first word that is unknown, lacks its value, or asks for what is
/// not served: another cipher than AES, a hash that gpg would not sign with.
pub fn parse_gpg_options(words: &[String]) -> Result<GpgOptions, Cause> {
    obey(given(words)?)
}

/// Parses gpg.conf, or the file that `--options` names, and on top of it the words of
/// `--gpg-options`. `binary` is the gpg program.
///
/// # Errors
/// As [`parse_gpg_options`], and [`Cause::GpgFile`] for a file that cannot be read, or a line that
/// cannot be followed.
pub fn read_gpg_options(words: &[String], binary: &Path) -> Result<GpgOptions, Cause> {
    let words = given(words)?;
    let mut texts = Vec::new();
    for path in files(&words, binary) {
        match std::fs::read(&path) {
            Ok(bytes) => texts.push((String::from_utf8_lossy(&bytes).into_owned(), path)),
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && !words.iter().any(|word| word.name == "options") => {}
            Err(error) => {
                return Err(Cause::GpgFile(format!("cannot read '{}': {error}", path.display())));
            }
        }
    }
    let mut all = Vec::new();
    for (text, path) in &texts {
        all.extend(lines(text, path)?);
    }
    all.extend(words);
    obey(all)
}

/// Returns the folder of GnuPG's keys and options that counts with the words of `--gpg-options`: of
/// `--homedir`, of the variable `GNUPGHOME`, or `~/.gnupg`.
pub fn gpg_home(words: &[String]) -> PathBuf {
    home(&given(words).unwrap_or_default())
}

/// Returns the value of an option that is given last.
fn last<'a>(words: &[Given<'a>], name: &str) -> Option<&'a str> {
    words.iter().rfind(|word| word.name == name).and_then(|word| word.value)
}

/// Takes a path as gpg does.
fn expand(path: &str) -> PathBuf {
    path.strip_prefix("~/")
        .map_or_else(|| path.into(), |rest| std::env::home_dir().unwrap_or_default().join(rest))
}

fn home(words: &[Given]) -> PathBuf {
    let of_environment =
        || std::env::var_os("GNUPGHOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    last(words, "homedir").map(expand).or_else(of_environment).unwrap_or_else(|| expand("~/.gnupg"))
}

/// Returns the files that gpg reads options from, whether they are there or not.
fn files(words: &[Given], binary: &Path) -> Vec<PathBuf> {
    if let Some(file) = last(words, "options") {
        return vec![expand(file)];
    }
    if words.iter().any(|word| word.name == "no-options") {
        return Vec::new();
    }
    let home = home(words);
    // Other files count for some versions only, and gpg is asked for its own only where there are
    // any.
    let global = PathBuf::from("/etc/gnupg/gpg.conf");
    let names =
        std::fs::read_dir(&home).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let has_versions =
        names.filter_map(|name| name.into_string().ok()).any(|name| name.starts_with("gpg.conf-"));
    let version = if has_versions || global.exists() { Gpg::version(binary) } else { None };
    let version: Vec<u32> = version
        .iter()
        .flat_map(|text| text.split('.'))
        .map_while(|part| part.parse().ok())
        .collect();
    let suffixed = (1..=version.len()).rev().map(|length| {
        let numbers: Vec<String> = version[..length].iter().map(u32::to_string).collect();
        home.join(format!("gpg.conf-{}", numbers.join(".")))
    });
    let own =
        suffixed.into_iter().find(|path| path.exists()).unwrap_or_else(|| home.join("gpg.conf"));
    let reads_global = version.get(..2).is_some_and(|version| version >= &[2, 3]);
    reads_global.then_some(global).into_iter().chain([own]).collect()
}

/// Returns the options in a file: one a line, without dashes; its value is the rest of the line,
/// perhaps in quotes.
fn lines<'a>(text: &'a str, path: &Path) -> Result<Vec<Given<'a>>, Cause> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("'{}' line {}", path.display(), number + 1);
        if line.starts_with(['[', '+', '-']) && path.starts_with("/etc") {
            return Err(Cause::GpgFile(format!(
                "{place}: options for some users only are not understood"
            )));
        }
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim_start();
        let value = value
            .strip_prefix('"')
            .map_or(value, |quoted| quoted.strip_suffix('"').unwrap_or(quoted));
        let takes = |table: &[(&str, Operation)]| {
            table.iter().find(|(known, _)| *known == name).map(|(_, operation)| *operation)
        };
        let (operation, fits) = match (takes(FLAGS), takes(ARGUMENTS)) {
            (Some(operation), _) => (operation, value.is_empty()),
            (_, Some(operation)) => (operation, !value.is_empty()),
            _ => continue,
        };
        if fits {
            found.push(Given {
                name,
                value: Some(value).filter(|value| !value.is_empty()),
                operation,
                place: Some(place),
            });
        } else if operation != Ignore && operation != Program {
            let what = if value.is_empty() { "needs a value" } else { "takes no value" };
            return Err(Cause::GpgFile(format!("{place}: '{name}' {what}")));
        }
    }
    Ok(found)
}

/// Returns the options in the words of `--gpg-options`.
fn given(words: &[String]) -> Result<Vec<Given<'_>>, Cause> {
    let mut found = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, value) = split(word)?;
        if let Some((_, operation)) = FLAGS.iter().find(|(flag, _)| *flag == name) {
            if value.is_some() {
                return Err(refuse(format!("'--{name}' takes no value")));
            }
            found.push(Given { name, value: None, operation: *operation, place: None });
            continue;
        }
        let Some((_, operation)) = ARGUMENTS.iter().find(|(option, _)| *option == name) else {
            return Err(refuse(format!("'{word}' is not known")));
        };
        let value = value.or_else(|| words.next().map(String::as_str));
        let value = value.ok_or_else(|| refuse(format!("'{word}' needs a value")))?;
        found.push(Given { name, value: Some(value), operation: *operation, place: None });
    }
    Ok(found)
}

/// Does what all options say, in their order.
fn obey(all: Vec<Given>) -> Result<GpgOptions, Cause> {
    let mut options = GpgOptions::default();
    let is_replaced = |place: usize| {
        all[place].operation.replaces()
            && all[place + 1..].iter().any(|later| later.operation == all[place].operation)
    };
    for given in
        all.iter().enumerate().filter(|(place, _)| !is_replaced(*place)).map(|(_, given)| given)
    {
        options.take(given).map_err(|cause| match (cause, &given.place) {
            (Cause::GpgOption(why), Some(place)) => Cause::GpgFile(format!("{place}: {why}")),
            (cause, _) => cause,
        })?;
    }
    if all.iter().any(|given| given.operation == EncryptToDefaultKey) {
        match &options.default_keys[..] {
            [] => {} // as gpg does
            [key] => options.encrypt_to.push((key.clone(), false)),
            _ => {
                return Err(refuse(
                    "encrypt-to-default-key beside several default-key: name it by encrypt-to",
                ));
            }
        }
    }
    if all.iter().any(|given| given.operation == NoEncryptTo) {
        options.encrypt_to.clear();
    }
    Ok(options)
}

/// Splits a word into the name of an option and the value, if it holds one.
fn split(word: &str) -> Result<(&str, Option<&str>), Cause> {
    if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
        return Ok(long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value))));
    }
    let letter =
        word.strip_prefix('-').and_then(|rest| Some((*rest.as_bytes().first()?, rest.get(1..)?)));
    let (letter, rest) = letter.ok_or_else(|| refuse(format!("'{word}' is no option")))?;
    match LETTERS.iter().find(|(known, _)| *known == letter) {
        Some((_, name)) => Ok((name, Some(rest).filter(|rest| !rest.is_empty()))),
        None => Err(refuse(format!("'{word}' is not known"))),
    }
}

impl GpgOptions {
    fn take(&mut self, given: &Given) -> Result<(), Cause> {
        let Given { name, operation, .. } = *given;
        let value = given.value.unwrap_or_default();
        let preferences = || value.split([' ', ',']).filter(|word| !word.is_empty());
        match operation {
            Ignore | NoEncryptTo | EncryptToDefaultKey => {}
            // What stands in its own file, gpg finds there.
            Program if given.place.is_some() => {}
            Program => self.program.push(
                given
                    .value
                    .map_or_else(|| format!("--{name}"), |value| format!("--{name}={value}")),
            ),
            Refuse => {
                return Err(refuse(format!(
                    "'{name}' changes who can read in a way that is not served"
                )));
            }
            Cipher => {
                self.cipher = Some(
                    cipher(value)
                        .ok_or_else(|| refuse(format!("the cipher '{value}': {CIPHERS}")))?,
                )
            }
            S2kCipher => {
                self.s2k_cipher = Some(
                    cipher(value)
                        .ok_or_else(|| refuse(format!("the cipher '{value}': {CIPHERS}")))?,
                )
            }
            Digest => {
                self.digest = Some(
                    digest(value)
                        .ok_or_else(|| refuse(format!("the hash '{value}': {DIGESTS}")))?,
                )
            }
            S2kDigest => {
                self.s2k_digest = Some(
                    digest(value)
                        .ok_or_else(|| refuse(format!("the hash '{value}': {DIGESTS}")))?,
                )
            }
            Compression => {
                self.compress = Some(compression(value)?);
                if matches!(&value.to_ascii_lowercase()[..], "bzip2" | "3" | "z3") {
                    self.notes.push("what bzip2 should compress is compressed by zip".to_owned());
                }
            }
            Level => {
                let level = value.parse().ok().filter(|level| *level <= 9);
                self.level = Some(level.ok_or_else(|| {
                    refuse(format!("the compression level '{value}' is not within 0 to 9"))
                })?);
            }
            S2kMode => {
                let mode = value.parse().ok().filter(|mode| [0, 1, 3].contains(mode));
                self.s2k_mode = Some(mode.ok_or_else(|| {
                    refuse(format!("'--s2k-mode {value}': there are 0, 1 and 3"))
                })?);
            }
            S2kCount => {
                let count = value.parse().ok().filter(|count| (1024..=65_011_712).contains(count));
                self.s2k_count = Some(count.ok_or_else(|| {
                    refuse(format!("'--s2k-count {value}' is not within 1024 to 65011712"))
                })?);
            }
            Recipient => self.recipients.push((value.to_owned(), false)),
            HiddenRecipient => self.recipients.push((value.to_owned(), true)),
            EncryptTo => self.encrypt_to.push((value.to_owned(), false)),
            HiddenEncryptTo => self.encrypt_to.push((value.to_owned(), true)),
            DefaultKey => self.default_keys.push(value.to_owned()),
            Group => {
                let (group, keys) = value
                    .split_once('=')
                    .ok_or_else(|| refuse(format!("the group '{value}' has no '='")))?;
                self.groups.push((
                    group.trim().to_owned(),
                    keys.split_whitespace().map(String::from).collect(),
                ));
            }
            Ungroup => self.groups.retain(|(group, _)| !group.eq_ignore_ascii_case(value)),
            NoGroups => self.groups.clear(),
            Hide => self.hide = true,
            Show => self.hide = false,
            CipherPreferences => {
                self.cipher_preferences = preferences().filter_map(cipher).collect()
            }
            DigestPreferences => self.digest_preference = preferences().find_map(digest),
            CompressionPreferences => {
                self.compress_preference = preferences().next().map(compression).transpose()?
            }
        }
        Ok(())
    }

    /// Returns the hash to sign with, if one is asked for.
    pub(super) fn signing_digest(&self) -> Option<u8> {
        self.digest.or(self.digest_preference)
    }
}

/// Returns whether an algorithm compresses; zip, zlib and bzip2 are all zip here.
fn compression(value: &str) -> Result<bool, Cause> {
    let number =
        value.strip_prefix(['z', 'Z']).filter(|n| n.parse::<u8>().is_ok()).unwrap_or(value);
    match &number.to_ascii_lowercase()[..] {
        "0" | "none" | "uncompressed" => Ok(false),
        "1" | "zip" | "2" | "zlib" | "3" | "bzip2" => Ok(true),
        _ => Err(refuse(format!("the compression '{value}' is not known"))),
    }
}

const CIPHERS: &str = "only AES, AES192 and AES256 are written";
const DIGESTS: &str = "there are SHA1, RIPEMD160, SHA224, SHA256, SHA384 and SHA512";

fn cipher(value: &str) -> Option<u8> {
    match &value.to_ascii_uppercase()[..] {
        "AES" | "AES128" | "S7" => Some(7),
        "AES192" | "S8" => Some(8),
        "AES256" | "S9" => Some(9),
        _ => None,
    }
}

fn digest(value: &str) -> Option<u8> {
    match &value.to_ascii_uppercase()[..] {
        "SHA1" | "H2" => Some(2),
        "RIPEMD160" | "H3" => Some(3),
        "SHA256" | "H8" => Some(8),
        "SHA384" | "H9" => Some(9),
        "SHA512" | "H10" => Some(10),
        "SHA224" | "H11" => Some(11),
        _ => None,
    }
}
