//! [`Error`]: what can go wrong with a storage, and which of it may pass.
//!
//! **Passing is not damage.** A line that is cut, a server that is busy or away, a disk that is
//! unplugged prove nothing about what is stored: such an error is never remembered, and never the
//! reason to go without a file. Only bytes that were read and are wrong prove damage.

/// What can go wrong with a storage: operation, place, cause.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {operation} '{place}': {cause}")]
pub struct Error {
    /// What was tried, as an infinitive: "read", "list".
    pub operation: &'static str,
    /// Stored file or URL.
    pub place: String,
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What the system or the service said.
    pub cause: String,
}

/// What callers tell apart about failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The URL makes no sense, or names a scheme that is not served.
    BadUrl,
    /// There is no such file or storage.
    NotFound,
    /// The storage refuses access.
    Denied,
    /// The storage is full.
    NoSpace,
    /// It is another one than before, or somebody else has begun to write it.
    Changed,
    /// Bytes were read whose hash is not the one that was kept of them.
    Corrupt,
    /// The storage cannot do what is asked for, whoever asks.
    Unsupported,
    /// The storage has too much to do, and asks to wait so many seconds, where it names a time.
    Busy(Option<u32>),
    /// There is no connection.
    Unreachable,
    /// There was no answer in time.
    TimedOut,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// Returns whether the same call may succeed later, with nothing changed but the time.
    pub fn is_passing(self) -> bool {
        match self {
            Self::Busy(_) | Self::Unreachable | Self::TimedOut | Self::Other => true,
            Self::BadUrl
            | Self::NotFound
            | Self::Denied
            | Self::NoSpace
            | Self::Changed
            | Self::Corrupt
            | Self::Unsupported => false,
        }
    }
}

impl ErrorKind {
    /// Returns whether the storage could not be asked at all, so that asking it for something else
    /// makes no sense either.
    pub fn is_connection(self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unreachable | Self::TimedOut)
    }
}

impl Error {
    pub(crate) fn io(
        operation: &'static str,
        place: impl Into<String>,
        error: &std::io::Error,
    ) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound | Io::NotADirectory | Io::InvalidFilename => ErrorKind::NotFound,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::NoSpace,
            Io::TimedOut => ErrorKind::TimedOut,
            Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::NotConnected
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::ConnectionRefused => ErrorKind::Unreachable,
            Io::ResourceBusy => ErrorKind::Busy(None),
            _ => ErrorKind::Other,
        };
        let advice = match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => "; raise the limits of open files (ulimit -n)",
            _ => "",
        };
        Self { operation, place: place.into(), kind, cause: format!("{error}{advice}") }
    }

    /// Returns whether bytes have proved to be wrong. All other errors prove nothing about what is
    /// stored.
    pub fn is_damage(&self) -> bool {
        self.kind == ErrorKind::Corrupt
    }
}
