//! How what is written is encoded: from what was typed to encoders.

use super::Common;
use super::decoding::gpg_words;
use super::passphrase;
use crate::cli::failure::Failure;
use dupfs::codec::{Codec, EncodeOptions, Encoder, parse_gpg_options, read_gpg_options};
use dupfs::format::Encoding;
use dupfs::model::BackupTime;
use dupfs::monitor::{Level, Monitor};
use std::sync::Arc;

/// Returns how files are to be encoded. What of gpg.conf and `--gpg-options` is not served as gpg
/// would is told.
///
/// # Errors
/// [`Failure::CommandLine`] for words in `--gpg-options` that make no sense, and for such in
/// gpg.conf that cannot be followed.
pub fn options(
    common: &Common,
    now: BackupTime,
    monitor: &dyn Monitor,
) -> Result<EncodeOptions, Failure> {
    let is_compressed = !common.writing.no_compression;
    let encoding = match (common.no_encryption, is_compressed) {
        (false, _) => Encoding::OpenPgp,
        (true, true) => Encoding::Gzip,
        (true, false) => Encoding::Plain,
    };
    let words = gpg_words(common);
    let gpg_options = match encoding {
        Encoding::OpenPgp => read_gpg_options(&words, &common.gpg_binary),
        _ => parse_gpg_options(&words),
    };
    let gpg_options = gpg_options.map_err(|cause| Failure::CommandLine(cause.to_string()))?;
    gpg_options.notes().iter().for_each(|note| monitor.message(Level::Warning, note));
    let recipients: Vec<_> =
        common.encrypt_key.iter().chain(&common.encrypt_sign_key).cloned().collect();
    if encoding == Encoding::OpenPgp
        && gpg_options.names_recipients()
        && recipients.is_empty()
        && common.hidden_encrypt_key.is_empty()
    {
        let text = "what is encrypted by a passphrase has no recipients: those in gpg.conf and --gpg-options count only beside --encrypt-key";
        monitor.message(Level::Warning, text);
    }
    Ok(EncodeOptions {
        encoding,
        level: is_compressed.then_some(6),
        recipients,
        hidden_recipients: common.hidden_encrypt_key.clone(),
        sign_key: common.signer().cloned(),
        sign_passphrase: passphrase::of_signer(common),
        gpg_options,
        time: u32::try_from(now.seconds()).unwrap_or(0),
    })
}

/// What encodes the files of a set, and what its manifest, if that is something else.
pub type Encoders = (Arc<Encoder>, Option<Arc<Encoder>>);

/// Gets ready to encode: passphrases are asked for, keys are found.
///
/// # Errors
/// [`dupfs::codec::Error`] when there is no passphrase, or a key cannot be used.
pub fn encoders(
    codec: &Codec,
    common: &Common,
    options: &EncodeOptions,
) -> Result<Encoders, dupfs::codec::Error> {
    let is_symmetric = options.recipients.is_empty() && options.hidden_recipients.is_empty();
    if options.encoding == Encoding::OpenPgp && is_symmetric {
        passphrase::ask_twice(common);
    }
    let encoder = codec.encoder(options.clone())?;
    // The manifest is never compressed by itself.
    let plain = EncodeOptions { encoding: Encoding::Plain, ..EncodeOptions::default() };
    let is_gzip = options.encoding == Encoding::Gzip;
    Ok((encoder, is_gzip.then(|| codec.encoder(plain)).transpose()?))
}
