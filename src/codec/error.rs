//! [`Error`]: why a stored file cannot be decoded or encoded.

use crate::storage;
use std::fmt;

/// A stored file that cannot be decoded or encoded: its name, empty where it is about all files of
/// a session, and the cause.
#[derive(Debug, Clone)]
pub struct Error {
    /// Name of the stored file.
    pub file: String,
    /// What stands in the way.
    pub cause: Cause,
}

/// What stands in the way of decoding or encoding.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Cause {
    /// The stored bytes cannot be read.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The message is, or is to be, encrypted by a passphrase, and there is none.
    #[error("it is encrypted and no passphrase is known: set PASSPHRASE")]
    NoPassphrase,
    /// The passphrase opens nothing; a damaged head of the message looks the same.
    #[error("wrong passphrase (or its first bytes are damaged)")]
    WrongPassphrase,
    /// Asking for the passphrase failed.
    #[error("cannot ask for the passphrase: {0}")]
    Passphrase(String),
    /// None of the recipients' secret keys can be used.
    #[error("no secret key for it: {0}")]
    NoSecretKey(String),
    /// The bytes are not what they should be.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The bytes end too early.
    #[error("it is truncated")]
    Truncated,
    /// The encrypted bytes have no valid integrity protection: they may have been changed by
    /// somebody.
    #[error("it is not authentic: {0}")]
    NotAuthentic(String),
    /// The signature that was demanded is missing, bad or somebody else's.
    #[error("its signature is not accepted: {0}")]
    Signature(String),
    /// Neither dupfs nor gpg reads this kind of message.
    #[error("its kind is not supported: {0}")]
    Unsupported(String),
    /// The gpg program failed; its last words.
    #[error("gpg failed: {0}")]
    Gpg(String),
    /// A seek point does not belong to this file, or has been changed.
    #[error("a seek point does not fit: {0}")]
    SeekPoint(&'static str),
    /// A file of this machine (secret keyring, temporary file) cannot be used.
    #[error("{0}")]
    Local(String),
    /// A passphrase is to encrypt, and it is empty.
    #[error(
        "PASSPHRASE is set to nothing: without --encrypt-key or --no-encryption, a passphrase encrypts"
    )]
    EmptyPassphrase,
    /// Nothing can be encrypted for this recipient.
    #[error("the recipient '{key}' cannot be used: {why}")]
    Recipient {
        /// As the user has named it.
        key: String,
        /// Why not.
        why: String,
    },
    /// The compressor has failed, or what is asked for makes no sense.
    #[error("{0}")]
    Other(String),
    /// The signature cannot be made.
    #[error("cannot sign: {0}")]
    Signing(String),
    /// A word of `--gpg-options` is unknown or asks for what is not served.
    #[error("cannot use --gpg-options: {0}")]
    GpgOption(String),
    /// gpg.conf, or a file in its place, cannot be read, or asks for what is not served.
    #[error(
        "cannot encrypt as gpg's own options say: {0}; words in --gpg-options override them, and --no-options there leaves such \
         files out"
    )]
    GpgFile(String),
}

impl Error {
    /// Returns whether no stored byte has proved to be wrong: another time, or with another key, it
    /// may be read.
    pub fn is_passing(&self) -> bool {
        match &self.cause {
            Cause::Storage(error) => !error.is_damage(),
            Cause::Local(_) | Cause::Gpg(_) | Cause::Passphrase(_) => true,
            Cause::NoPassphrase
            | Cause::WrongPassphrase
            | Cause::NoSecretKey(_)
            | Cause::Damaged(_)
            | Cause::Truncated
            | Cause::NotAuthentic(_)
            | Cause::Signature(_)
            | Cause::Unsupported(_)
            | Cause::SeekPoint(_)
            | Cause::EmptyPassphrase
            | Cause::Recipient { .. }
            | Cause::Other(_)
            | Cause::Signing(_)
            | Cause::GpgOption(_)
            | Cause::GpgFile(_) => false,
        }
    }

    /// Returns whether the cause may lie in the stored bytes, so that another copy of the file may be
    /// decoded: as far as one can see with the key at hand.
    pub fn is_of_content(&self) -> bool {
        match &self.cause {
            Cause::Storage(error) => error.is_damage(),
            cause => cause.is_of_content(),
        }
    }

    /// Returns whether the stored bytes could not be read.
    pub fn is_storage(&self) -> bool {
        matches!(self.cause, Cause::Storage(_))
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        Cause::Storage(error).of("")
    }
}

impl Cause {
    /// Names the stored file that the cause concerns.
    pub(super) fn of(self, file: &str) -> Error {
        Error { file: file.to_owned(), cause: self }
    }

    /// Returns whether the cause lies in the stored bytes, as far as one can see with the key at
    /// hand: another key may show something else.
    pub(super) fn is_of_content(&self) -> bool {
        matches!(
            self,
            Self::WrongPassphrase
                | Self::Damaged(_)
                | Self::Truncated
                | Self::NotAuthentic(_)
                | Self::Unsupported(_)
        )
    }

    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Storage(error) => error.fmt(f), // names the file itself
            Cause::NoPassphrase if self.file.is_empty() => f.write_str(
                "a passphrase is needed to encrypt without recipients: set PASSPHRASE, or give --encrypt-key or --no-encryption",
            ),
            cause if self.file.is_empty() => cause.fmt(f),
            cause @ Cause::Signing(_) => write!(f, "cannot encode '{}': {cause}", self.file),
            cause => write!(f, "cannot decode '{}': {cause}", self.file),
        }
    }
}

impl std::error::Error for Error {}
