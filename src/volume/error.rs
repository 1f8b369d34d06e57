//! [`Error`]: why a volume, or a part of it, cannot be read.

/// Why a volume, or a part of it, cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The stored file cannot be read.
    #[error(transparent)]
    Storage(#[from] crate::storage::Error),
    /// The stored file is not what the manifest says.
    #[error("volume '{name}' is damaged: its hash is {found}, its manifest says {expected}")]
    Hash {
        /// Stored file.
        name: String,
        /// Hash of the stored bytes, in hexadecimal.
        found: String,
        /// Hash in the manifest.
        expected: String,
    },
    /// The manifest gives no hash that can be read, so nothing tells whether the volume is sound.
    #[error("cannot trust volume '{0}': its manifest gives no hash that can be read")]
    NoHash(String),
    /// Decoding failed.
    #[error(transparent)]
    Decode(#[from] crate::codec::Error),
    /// The decoded bytes are no tar stream as duplicity writes it.
    #[error("cannot read the members of volume '{name}': {cause}")]
    Members {
        /// Stored file.
        name: String,
        /// What is wrong.
        cause: String,
    },
    /// The decoded bytes cannot be entered in the middle, as those of no known writer are.
    #[error("cannot find places to read volume '{name}' from: {cause}")]
    Frames {
        /// Stored file.
        name: String,
        /// What is wrong.
        cause: String,
    },
    /// The seek index of the volume cannot be fetched, or does not fit the request; it is derived,
    /// and proves nothing about the volume.
    #[error("cannot seek in volume '{name}': {cause}")]
    SeekIndex {
        /// Stored file.
        name: String,
        /// What is wrong.
        cause: String,
    },
    /// The listener asked to stop.
    #[error("reading was stopped")]
    Stopped,
}

impl Error {
    /// Returns whether the stored bytes are not those that the manifest, or an earlier pass, vouches
    /// for: another copy of the file may have them.
    pub fn is_other_bytes(&self) -> bool {
        match self {
            Self::Hash { .. } => true,
            Self::Storage(error) => error.is_damage(),
            _ => false,
        }
    }

    /// Returns whether no stored byte has proved to be wrong: trying again may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Storage(cause) => !cause.is_damage(),
            Self::Decode(cause) => cause.is_passing(),
            Self::SeekIndex { .. } | Self::Stopped => true,
            Self::Hash { .. } | Self::NoHash(_) | Self::Members { .. } | Self::Frames { .. } => {
                false
            }
        }
    }
}
