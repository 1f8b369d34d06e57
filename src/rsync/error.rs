//! [`Error`]: why bytes are no delta, or no signature.

/// Why bytes are no delta, or no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse {what} at byte {offset}: {cause}")]
pub struct Error {
    /// What the bytes should be.
    pub what: &'static str,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub cause: &'static str,
}
