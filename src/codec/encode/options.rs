//! [`GpgOptions`]: the words of `--gpg-options`, as far as they concern what is written.
//!
//! duplicity hands these words to gpg, which encrypts for it. Here they are understood one by one, since gpg only signs and looks
//! up keys: those are honoured, or go on to gpg, or change nothing here; any other is an error, as it is with gpg.

use crate::codec::Cause;

/// What the words of `--gpg-options` ask for. `None`: as gpg does without them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpgOptions {
    /// OpenPGP's number of the cipher: 7, 8 or 9, which is AES with 128, 192 or 256 bits.
    pub(super) cipher: Option<u8>,
    /// The hash to sign with.
    pub(super) digest: Option<u8>,
    /// Whether to compress.
    pub(super) compress: Option<bool>,
    /// Compression level, 1 to 9.
    pub(super) level: Option<u8>,
    pub(super) s2k_cipher: Option<u8>,
    pub(super) s2k_digest: Option<u8>,
    pub(super) s2k_mode: Option<u8>,
    pub(super) s2k_count: Option<u32>,
    /// Recipients besides those of `--encrypt-key`.
    pub(super) encrypt_to: Vec<String>,
    pub(super) hidden_encrypt_to: Vec<String>,
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
}

/// What to do with an option.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
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
    EncryptTo,
    HiddenEncryptTo,
    Hide,
    CipherPreferences,
    DigestPreferences,
    CompressionPreferences,
}
use Deed::*;

/// Options without an argument.
const FLAGS: &[(&str, Deed)] = &[
    ("always-trust", Ignore), // no trust is asked for, as by duplicity 3
    ("auto-key-retrieve", Program),
    ("batch", Ignore),
    ("disable-cipher-algo", Ignore),
    ("disable-mdc", Ignore), // without which nothing is written
    ("enable-special-filenames", Ignore),
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
    ("no-encrypt-to", Ignore),
    ("no-force-mdc", Ignore),
    ("no-greeting", Ignore),
    ("no-literal", Ignore),
    ("no-mdc-warning", Ignore),
    ("no-options", Program),
    ("no-permission-warning", Program),
    ("no-random-seed-file", Program),
    ("no-secmem-warning", Ignore),
    ("no-sig-cache", Program),
    ("no-skip-hidden-recipients", Ignore),
    ("no-textmode", Ignore),
    ("no-throw-keyids", Ignore),
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
    ("throw-keyids", Hide),
    ("try-all-secrets", Ignore),
    ("use-agent", Program),
    ("utf8-strings", Program),
    ("verbose", Ignore),
    ("yes", Ignore),
];

/// Options with an argument.
const ARGUMENTS: &[(&str, Deed)] = &[
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
    ("default-key", Ignore), // the signer is `--sign-key`
    ("digest-algo", Digest),
    ("dirmngr-program", Program),
    ("display", Program),
    ("display-charset", Program),
    ("encrypt-to", EncryptTo),
    ("faked-system-time", Program),
    ("hidden-encrypt-to", HiddenEncryptTo),
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
    ("personal-compress-preferences", CompressionPreferences),
    ("personal-digest-preferences", DigestPreferences),
    ("pinentry-mode", Program),
    ("primary-keyring", Program),
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
    ("verify-options", Ignore),
    ("weak-digest", Program),
    ("xauthority", Program),
];

/// One-letter options.
const LETTERS: &[(u8, &str)] = &[(b'q', "quiet"), (b'v', "verbose"), (b'u', "local-user"), (b'z', "compress-level")];

fn refuse(what: impl Into<String>) -> Cause {
    Cause::GpgOption(what.into())
}

/// Parses the words of `--gpg-options`: `--option value`, `--option=value`, `-z value`, `-zvalue`.
///
/// # Errors
/// [`Cause::GpgOption`] names the first word that is unknown, lacks its value, or asks for what is not served: another cipher than
/// AES, a hash that gpg would not sign with.
pub fn parse_gpg_options(words: &[String]) -> Result<GpgOptions, Cause> {
    let mut options = GpgOptions::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, value) = split(word)?;
        if let Some((_, deed)) = FLAGS.iter().find(|(flag, _)| *flag == name) {
            if value.is_some() {
                return Err(refuse(format!("'--{name}' takes no value")));
            }
            match deed {
                Program => options.program.push(format!("--{name}")),
                Hide => options.hide = true,
                _ => {}
            }
            continue;
        }
        let Some((_, deed)) = ARGUMENTS.iter().find(|(option, _)| *option == name) else {
            return Err(refuse(format!("'{word}' is not known")));
        };
        let value =
            value.or_else(|| words.next().map(String::as_str)).ok_or_else(|| refuse(format!("'{word}' needs a value")))?;
        options.take(*deed, name, value)?;
    }
    Ok(options)
}

/// Splits a word into the name of an option and the value, if it holds one.
fn split(word: &str) -> Result<(&str, Option<&str>), Cause> {
    if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
        return Ok(long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value))));
    }
    let letter = word.strip_prefix('-').and_then(|rest| Some((*rest.as_bytes().first()?, rest.get(1..)?)));
    let (letter, rest) = letter.ok_or_else(|| refuse(format!("'{word}' is no option")))?;
    match LETTERS.iter().find(|(known, _)| *known == letter) {
        Some((_, name)) => Ok((name, Some(rest).filter(|rest| !rest.is_empty()))),
        None => Err(refuse(format!("'{word}' is not known"))),
    }
}

impl GpgOptions {
    fn take(&mut self, deed: Deed, name: &str, value: &str) -> Result<(), Cause> {
        let first = || value.split([' ', ',']).find(|word| !word.is_empty()).unwrap_or_default();
        match deed {
            Ignore | Hide => {}
            Program => self.program.push(format!("--{name}={value}")),
            Cipher => self.cipher = Some(cipher(value).ok_or_else(|| refuse(format!("the cipher '{value}': {CIPHERS}")))?),
            S2kCipher => self.s2k_cipher = Some(cipher(value).ok_or_else(|| refuse(format!("the cipher '{value}': {CIPHERS}")))?),
            Digest => self.digest = Some(digest(value).ok_or_else(|| refuse(format!("the hash '{value}': {DIGESTS}")))?),
            S2kDigest => self.s2k_digest = Some(digest(value).ok_or_else(|| refuse(format!("the hash '{value}': {DIGESTS}")))?),
            Compression => self.compression(value)?,
            Level => {
                let level = value.parse().ok().filter(|level| *level <= 9);
                let level: u8 = level.ok_or_else(|| refuse(format!("the compression level '{value}' is not within 0 to 9")))?;
                self.compress = if level == 0 { Some(false) } else { self.compress };
                self.level = Some(level).filter(|level| *level > 0);
            }
            S2kMode => {
                let mode = value.parse().ok().filter(|mode| [0, 1, 3].contains(mode));
                self.s2k_mode = Some(mode.ok_or_else(|| refuse(format!("'--s2k-mode {value}': there are 0, 1 and 3")))?);
            }
            S2kCount => {
                let count = value.parse().ok().filter(|count| (1024..=65_011_712).contains(count));
                self.s2k_count =
                    Some(count.ok_or_else(|| refuse(format!("'--s2k-count {value}' is not within 1024 to 65011712")))?);
            }
            EncryptTo => self.encrypt_to.push(value.to_owned()),
            HiddenEncryptTo => self.hidden_encrypt_to.push(value.to_owned()),
            // Preferences yield to what is said outright, which may come first or later.
            CipherPreferences => self.s2k_cipher = self.s2k_cipher.or_else(|| value.split([' ', ',']).find_map(cipher)),
            DigestPreferences => self.digest = self.digest.or_else(|| value.split([' ', ',']).find_map(digest)),
            CompressionPreferences if self.compress.is_none() => self.compression(first())?,
            CompressionPreferences => {}
        }
        Ok(())
    }

    fn compression(&mut self, value: &str) -> Result<(), Cause> {
        let number = value.strip_prefix(['z', 'Z']).filter(|n| n.parse::<u8>().is_ok()).unwrap_or(value);
        match &number.to_ascii_lowercase()[..] {
            "0" | "none" | "uncompressed" => self.compress = Some(false),
            "1" | "zip" | "2" | "zlib" => self.compress = Some(true), // the same deflate, in another wrapping
            "3" | "bzip2" => {
                self.compress = Some(true);
                self.notes.push("what bzip2 should compress is compressed by zip".to_owned());
            }
            _ => return Err(refuse(format!("the compression '{value}' is not known"))),
        }
        Ok(())
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
