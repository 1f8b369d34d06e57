//! [`EntryPath`]: raw-byte components below the source directory, in duplicity's order.

use std::cmp::Ordering;
use std::fmt;

/// The path of one entry below the source directory: raw bytes, components joined by `/`; empty for the root.
///
/// A value never holds an empty component, `.`, `..`, a leading or trailing `/`, or a NUL byte, so it can be joined to a
/// directory without leaving it (symlinks aside). Paths compare as lists of components, bytewise, the shorter list first:
/// the order of every stream that duplicity writes.
///
/// Source: names and order of members in volumes of duplicity 0.8.22 and 3.2.1, which abort on `..`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EntryPath(Vec<u8>);

/// Why bytes are no [`EntryPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a path below the source directory", .0.escape_ascii())]
pub struct InvalidPath(pub Vec<u8>);

impl EntryPath {
    /// Returns the path of the source directory itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses components joined by `/`; the empty string and `.` are the root.
    ///
    /// # Errors
    /// [`InvalidPath`] for an empty component (so also for a leading, trailing or doubled `/`), `.` or `..` as a component, and NUL.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPath> {
        if bytes.is_empty() || bytes == b"." {
            return Ok(Self::root());
        }
        let valid = |name: &[u8]| Self::is_name(name);
        if bytes.split(|&b| b == b'/').all(valid) { Ok(Self(bytes.to_vec())) } else { Err(InvalidPath(bytes.to_vec())) }
    }

    /// Tells whether `name` can be one component: not empty, not `.` or `..`, without `/` and NUL.
    pub fn is_name(name: &[u8]) -> bool {
        !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
    }

    /// Returns the path of `name` in this directory.
    ///
    /// # Errors
    /// [`InvalidPath`] if `name` is not a valid component.
    pub fn join(&self, name: &[u8]) -> Result<Self, InvalidPath> {
        if !Self::is_name(name) {
            return Err(InvalidPath(name.to_vec()));
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Ok(Self(bytes))
    }

    /// Returns the joined bytes; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes by which a path is listed: the root is a dot.
    pub fn shown(&self) -> &[u8] {
        if self.is_root() { b"." } else { self.as_bytes() }
    }

    /// Tells whether this is the source directory itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the components from the top; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|name| !name.is_empty())
    }

    /// Splits into the bytes of the parent path and the last component; `None` for the root.
    pub fn split_last(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0[..]),
        })
    }

    /// Returns the directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        self.split_last().map(|(parent, _)| Self(parent.to_vec()))
    }

    /// Tells whether this path is `ancestor` itself or lies below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root() || self.0.strip_prefix(&ancestor.0[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Returns what follows `ancestor`; `None` when this path does not lie there.
    pub fn strip_prefix(&self, ancestor: &Self) -> Option<Self> {
        if !self.starts_with(ancestor) {
            return None;
        }
        let rest = &self.0[ancestor.0.len()..];
        Some(Self(rest.strip_prefix(b"/").unwrap_or(rest).to_vec()))
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // No component holds NUL, so counting `/` as the smallest byte is the order of component lists.
        let key = |&b: &u8| if b == b'/' { 0 } else { b };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Shows the path for messages, bytes that do not print escaped; the root as `.`.
impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{self}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn order_is_by_component_not_by_string() {
        let mut paths = ["d.x", "d-y", "d/x", "d/sub", "d", ""].map(path);
        paths.sort();
        assert_eq!(paths, ["", "d", "d/sub", "d/x", "d-y", "d.x"].map(path));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in ["/a", "a/", "a//b", "..", "a/../b", "a/.", "a\0b"] {
            assert!(EntryPath::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(path(".").is_root());
    }

    proptest! {
        #[test]
        fn order_equals_that_of_component_lists(a in "[a/\u{1}-]{0,6}", b in "[a/\u{1}-]{0,6}") {
            if let (Ok(a), Ok(b)) = (EntryPath::parse(a.as_bytes()), EntryPath::parse(b.as_bytes())) {
                prop_assert_eq!(a.cmp(&b), a.components().collect::<Vec<_>>().cmp(&b.components().collect()));
            }
        }
    }
}
