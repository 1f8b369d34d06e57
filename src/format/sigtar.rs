//! Members of a signature file: the metadata of each path that a session saved.
//!
//! | prefix | for | data |
//! |---|---|---|
//! | `signature/` | a regular file | the librsync signature of its content |
//! | `snapshot/` | anything else | none |
//! | `deleted/` | a path that is gone | none |
//!
//! The source directory itself is `snapshot/`; a source that is a single file is `signature/`. A
//! header's size is that of the signature, never that of the file.
//!
//! Source: seen in signature files of duplicity 0.8.22 and 3.2.1.

use super::difftar::{entry, entry_path, with_entry};
use super::{Error, TarHeader};
use crate::model::{Entry, EntryKind, EntryPath};

/// What one tar entry of a signature file says of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureMember {
    /// Whose member it is.
    pub path: EntryPath,
    /// What it says.
    pub kind: SignatureKind,
    /// Bytes of signature: 12 for an empty file, more for others, 0 for what is no regular file.
    pub length: u64,
}

/// What a session found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureKind {
    /// Something new or changed; its metadata.
    Present(Entry),
    /// Nothing any more.
    Deleted,
}

impl SignatureMember {
    /// Parses a tar header of a signature file.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a path over the limit; [`Error::Member`] for an unknown prefix, a
    /// path that [`EntryPath`] refuses, a hard link or another type that duplicity never writes,
    /// and a signature of something that is no regular file.
    pub fn parse(header: &TarHeader) -> Result<Self, Error> {
        let error = |cause| Error::Member { name: header.name.clone(), cause };
        let rest = |prefix: &[u8]| header.name.strip_prefix(prefix);
        let (rest, signed, deleted) = rest(b"signature/")
            .map(|rest| (rest, true, false))
            .or_else(|| rest(b"snapshot/").map(|rest| (rest, false, false)))
            .or_else(|| rest(b"deleted/").map(|rest| (rest, false, true)))
            .ok_or_else(|| error("unknown prefix"))?;
        let path = entry_path(&header.name, rest)?;
        let entry = entry(header).map_err(error)?;
        if signed && entry.kind != EntryKind::File {
            return Err(error("a signature of something that is no regular file"));
        }
        let kind = if deleted { SignatureKind::Deleted } else { SignatureKind::Present(entry) };
        Ok(Self { path, kind, length: header.size })
    }

    /// Returns the metadata, if the path is there.
    pub fn entry(&self) -> Option<&Entry> {
        match &self.kind {
            SignatureKind::Present(entry) => Some(entry),
            SignatureKind::Deleted => None,
        }
    }

    /// Returns the tar header of a member, the counterpart of [`SignatureMember::parse`].
    pub fn header(&self) -> TarHeader {
        let entry = self.entry();
        let (prefix, slash) = match entry.map(|entry| &entry.kind) {
            None => ("deleted/", ""),
            Some(EntryKind::File) => ("signature/", ""),
            Some(EntryKind::Directory) if !self.path.is_root() => ("snapshot/", "/"),
            Some(_) => ("snapshot/", ""),
        };
        with_entry(
            [prefix.as_bytes(), self.path.as_bytes(), slash.as_bytes()].concat(),
            entry,
            self.length,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(typeflag: u8, name: &str) -> Option<SignatureMember> {
        SignatureMember::parse(&TarHeader {
            name: name.into(),
            typeflag,
            size: 12,
            ..TarHeader::default()
        })
        .ok()
    }

    #[test]
    fn names_by_prefix() {
        for (typeflag, name, path, kind) in [
            (b'5', "snapshot/", ".", Some(EntryKind::Directory)),
            (b'0', "signature/", ".", Some(EntryKind::File)),
            (b'2', "snapshot/", ".", Some(EntryKind::Symlink { target: vec![] })),
            (b'5', "snapshot/d/sub/", "d/sub", Some(EntryKind::Directory)),
            (b'0', "signature/a/1", "a/1", Some(EntryKind::File)),
            (b'0', "deleted/a", "a", None),
        ] {
            let member = parse(typeflag, name).unwrap();
            assert_eq!((member.path.to_string(), member.length), (path.to_string(), 12), "{name}");
            let found = match member.kind {
                SignatureKind::Present(entry) => Some(entry.kind),
                SignatureKind::Deleted => None,
            };
            assert_eq!(found, kind, "{name}");
        }
    }

    #[test]
    fn headers_are_parsed_as_what_they_were() {
        for (typeflag, name) in [
            (b'5', "snapshot/"),
            (b'0', "signature/"),
            (b'2', "snapshot/"),
            (b'5', "snapshot/d/"),
            (b'0', "signature/a"),
            (b'6', "snapshot/p"),
        ] {
            let header = TarHeader {
                name: name.into(),
                typeflag,
                size: 12,
                mode: 0o644,
                mtime: 7,
                ..TarHeader::default()
            };
            assert_eq!(SignatureMember::parse(&header).unwrap().header(), header, "{name}");
        }
        let deleted =
            TarHeader { name: b"deleted/a".to_vec(), typeflag: b'0', ..TarHeader::default() };
        assert_eq!(SignatureMember::parse(&deleted).unwrap().header(), deleted);
    }

    #[test]
    fn what_duplicity_never_writes_is_refused() {
        for (typeflag, name) in [
            (b'0', "diff/a"),
            (b'0', "signature"),
            (b'5', "signature/d/"),
            (b'1', "snapshot/a"),
            (b'0', "signature/../a"),
        ] {
            assert!(parse(typeflag, name).is_none(), "{name}");
        }
    }
}
