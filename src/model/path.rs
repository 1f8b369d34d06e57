//! [`EntryPath`]: raw-byte components below the source directory, in duplicity's order.

use std::cmp::Ordering;
use std::fmt;

/// The path of one entry below the source directory: raw bytes, components joined by `/`; empty for
/// the root.
///
/// A value never holds an empty component, `.`, `..`, a leading or trailing `/`, or a NUL byte, so
/// it can be joined to a directory without leaving it (symlinks aside). Paths compare as lists of
/// components, bytewise, the shorter list first: the order of every stream that duplicity writes.
///
/// Nor is a path longer than [`LONGEST`](Self::LONGEST) bytes, or of more than
/// [`DEEPEST`](Self::DEEPEST) components: each component costs a row of the catalog and a directory
/// of a restore, and names shrink well, so that a path of kilobytes could bring gigabytes. All
/// paths from a storage and from a source are made here, so that this limit is the only one.
///
/// Source: names and order of members in volumes of duplicity 0.8.22 and 3.2.1, which abort on
/// `..`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EntryPath(Vec<u8>);

/// Why bytes are no [`EntryPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// They do not lead to a place below the source directory.
    #[error("'{}' is not a path below the source directory", .0.escape_ascii())]
    Elsewhere(Vec<u8>),
    /// It is over the limit.
    #[error(
        "the path '{}…' has {length} bytes and {depth} components: those of more than {} bytes or {} components are left out",
        start.escape_ascii(), EntryPath::LONGEST, EntryPath::DEEPEST
    )]
    TooLong {
        /// What it begins with.
        start: Vec<u8>,
        /// Its bytes.
        length: usize,
        /// Its components.
        depth: usize,
    },
}

impl EntryPath {
    /// Bytes of a path at most. A system call takes 4096 (PATH_MAX), and the originals save nothing
    /// that is deeper; this program opens directories step by step, and so has no such limit, nor
    /// has a file system. This is 16 times as much.
    ///
    /// Source: seen with 0.8.22 and 3.2.1, which save 2049 of 5000 nested folders of one letter.
    pub const LONGEST: usize = 64 * 1024;
    /// Components of a path at most: those of a path at its longest, with names of three bytes.
    pub const DEEPEST: usize = 16 * 1024;

    /// Returns the path of the source directory itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses components joined by `/`; the empty string and `.` are the root.
    ///
    /// # Errors
    /// [`InvalidPath`] for an empty component (so also for a leading, trailing or doubled `/`), `.`
    /// or `..` as a component, NUL, and a path over the limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPath> {
        if bytes.is_empty() || bytes == b"." {
            return Ok(Self::root());
        }
        Self::check_length(bytes)?;
        let valid = |name: &[u8]| Self::is_name(name);
        match bytes.split(|&b| b == b'/').all(valid) {
            true => Ok(Self(bytes.to_vec())),
            false => Err(InvalidPath::Elsewhere(bytes.to_vec())),
        }
    }

    fn check_length(bytes: &[u8]) -> Result<(), InvalidPath> {
        // Without counting: most paths are short.
        if bytes.len() < Self::DEEPEST {
            return Ok(());
        }
        let depth = 1 + bytes.iter().filter(|&&b| b == b'/').count();
        if bytes.len() <= Self::LONGEST && depth <= Self::DEEPEST {
            return Ok(());
        }
        Err(InvalidPath::TooLong {
            start: bytes[..bytes.len().min(60)].to_vec(),
            length: bytes.len(),
            depth,
        })
    }

    /// Returns whether `name` can be one component: not empty, not `.` or `..`, without `/` and
    /// NUL.
    pub fn is_name(name: &[u8]) -> bool {
        !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
    }

    /// Returns the path of `name` in this directory.
    ///
    /// # Errors
    /// [`InvalidPath`] if `name` is not a valid component, or the path is over the limit.
    pub fn join(&self, name: &[u8]) -> Result<Self, InvalidPath> {
        if !Self::is_name(name) {
            return Err(InvalidPath::Elsewhere(name.to_vec()));
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self::check_length(&bytes)?;
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

    /// Returns whether this is the source directory itself.
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

    /// Returns the directory on the way to this path whose own path has so many bytes, or the
    /// nearest one above that.
    pub fn ancestor(&self, length: usize) -> Self {
        let end = (0..=length.min(self.0.len())).rev().find(|&end| self.is_end(end));
        Self(self.0[..end.unwrap_or(0)].to_vec())
    }

    /// Reports whether a component ends behind so many bytes; behind none, the root does.
    pub fn is_end(&self, length: usize) -> bool {
        length == 0 || length == self.0.len() || self.0.get(length) == Some(&b'/')
    }

    /// Returns whether this path is `ancestor` itself or lies below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(&ancestor.0[..])
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
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
        // No component holds NUL, so counting `/` as the smallest byte is the order of component
        // lists.
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
                if c.is_control() {
                    write!(f, "{}", c.escape_default())?
                } else {
                    write!(f, "{c}")?
                }
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

    #[test]
    fn paths_over_the_limit_are_refused_and_named_by_their_start() {
        let deepest = vec!["d"; EntryPath::DEEPEST].join("/");
        assert!(path(&deepest).join(b"e").is_err());
        let mut long = vec!["n".repeat(255); EntryPath::LONGEST / 256].join("/");
        assert!(path(&long).join(b"e").is_err());
        long.push('n');
        assert_eq!(path(&long).as_bytes().len(), EntryPath::LONGEST);
        let error =
            EntryPath::parse(vec!["x"; 400_000].join("/").as_bytes()).unwrap_err().to_string();
        assert!(
            error.len() < 250 && error.contains("799999 bytes and 400000 components"),
            "{error}"
        );
    }

    #[test]
    fn ancestors_end_at_a_component() {
        for (length, ancestor) in
            [(0, ""), (1, ""), (2, "ab"), (3, "ab"), (6, "ab"), (7, "ab/cdef"), (99, "ab/cdef")]
        {
            assert_eq!(path("ab/cdef").ancestor(length), path(ancestor), "{length}");
        }
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
