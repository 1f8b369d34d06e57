//! How stored files are decoded: keys, passphrases, and the gpg to run.

use super::Common;
use super::folders::{expand, tempdir};
use super::passphrase;
use crate::cli::failure::Failure;
use dupfs::codec::Options;

/// Refuses a signing key that cannot be one, before anything else is done. To sign, a mail address
/// will do, as for 3.2.1; but who *has* signed is told by digits alone.
///
/// # Errors
/// [`Failure::SignKey`]
pub fn check_sign_key(common: &Common, signs: bool) -> Result<(), Failure> {
    let Some(key) = common.signer() else { return Ok(()) };
    let digits = key.strip_prefix("0x").or(key.strip_prefix("0X")).unwrap_or(key);
    let digits = if signs { digits.strip_suffix('!').unwrap_or(digits) } else { digits };
    let is_id =
        matches!(digits.len(), 8 | 16 | 40) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_id || signs && key.contains('@') {
        true => Ok(()),
        false => Err(Failure::SignKey(key.clone())),
    }
}

/// Returns how stored files are decoded.
pub fn codec_options(common: &Common) -> anyhow::Result<Options> {
    Ok(Options {
        passphrase: passphrase::source(common),
        sign_key: common.signer().cloned(),
        gpg_binary: match common.gpg_binary.components().count() {
            // Looked up in PATH.
            1 => common.gpg_binary.clone(),
            _ => std::path::absolute(&common.gpg_binary)?,
        },
        gpg_options: gpg_words(common),
        secret_keyring: common
            .encrypt_secret_keyring
            .as_deref()
            .map(|path| std::path::absolute(expand(path)))
            .transpose()?,
        use_agent: common.use_agent,
        tempdir: tempdir(common)?,
    })
}

/// Returns the words of `--gpg-options`. Quotes around all of them, which a shell has left, are
/// taken off as by 3.2.1.
pub fn gpg_words(common: &Common) -> Vec<String> {
    let words = common
        .gpg_options
        .iter()
        .flat_map(|words| words.trim_matches('"').trim_matches('\'').split_whitespace());
    words.map(String::from).collect()
}
