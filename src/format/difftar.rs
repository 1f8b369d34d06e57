//! Members of a volume: what one tar entry says of one path.
//!
//! The entry's name starts with a prefix that tells which kind it is; the rest is the path below the source directory.
//!
//! | prefix | type | meaning |
//! |---|---|---|
//! | `snapshot/` | any | complete: metadata, and for a regular file all its content |
//! | `diff/` | regular | metadata, and a librsync delta against the path's previous content |
//! | `deleted/` | any (written as regular) | the path is gone |
//! | `multivol_snapshot/PATH/N`, `multivol_diff/PATH/N` | regular | piece N of a file whose data is longer than 65535 bytes |
//!
//! Directories end in `/`. The source directory itself is `snapshot/./`; a source that is a single file is the regular entry
//! `snapshot/` or `diff/`, in pieces `multivol_snapshot/./1` and so on.
//!
//! Source: seen in volumes of duplicity 0.8.22 and 3.2.1.

use super::{Error, TarHeader, tar::decimal};
use crate::model::{Entry, EntryKind, EntryPath, Owner};

/// What one tar entry of a volume says of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Whose member it is.
    pub path: EntryPath,
    /// What it says.
    pub kind: MemberKind,
    /// Number of the piece, usually from 1; `None` if the member is not split. The last piece may have 0 bytes.
    pub piece: Option<u64>,
    /// Metadata; `None` exactly for deleted paths. Repeated in every piece.
    pub entry: Option<Entry>,
    /// Bytes of content or of delta in this member.
    pub length: u64,
    /// Where they start in the volume's plain tar, in bytes.
    pub offset: u64,
}

/// How a member describes its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberKind {
    /// Completely.
    Whole,
    /// By a delta against the path's content in the sets before.
    Delta,
    /// As gone.
    Deleted,
}

impl Member {
    /// Parses a tar header of a volume.
    ///
    /// # Errors
    /// [`Error::Member`] for an unknown prefix, a path that [`EntryPath`] refuses (`..` is an attack), a piece without number, a hard
    /// link or another type that duplicity never writes, and a delta or a piece that is no regular file.
    pub fn parse(header: &TarHeader) -> Result<Self, Error> {
        let error = |cause| Error::Member { name: header.name.clone(), cause };
        let (kind, split, rest) = kind_of(&header.name).ok_or_else(|| error("unknown prefix"))?;
        let (rest, piece) = match split {
            true => split_piece(rest).map(|(rest, piece)| (rest, Some(piece))).ok_or_else(|| error("no piece number"))?,
            false => (rest, None),
        };
        let path = entry_path(rest).ok_or_else(|| error("not a path below the source directory"))?;
        let entry = entry(header).map_err(error)?;
        if (kind == MemberKind::Delta || split) && entry.kind != EntryKind::File {
            return Err(error("a delta or a piece of something that is no regular file"));
        }
        let entry = (kind != MemberKind::Deleted).then_some(entry);
        Ok(Self { path, kind, piece, entry, length: header.size, offset: header.data_offset })
    }
}

/// Takes the prefix from a name: kind, whether it is split, and the rest.
fn kind_of(name: &[u8]) -> Option<(MemberKind, bool, &[u8])> {
    let prefixes: [(&[u8], _, _); 5] = [
        (b"snapshot/", MemberKind::Whole, false),
        (b"diff/", MemberKind::Delta, false),
        (b"deleted/", MemberKind::Deleted, false),
        (b"multivol_snapshot/", MemberKind::Whole, true),
        (b"multivol_diff/", MemberKind::Delta, true),
    ];
    prefixes.into_iter().find_map(|(prefix, kind, split)| Some((kind, split, name.strip_prefix(prefix)?)))
}

/// Takes the piece number from the end of `PATH/N`.
fn split_piece(rest: &[u8]) -> Option<(&[u8], u64)> {
    let slash = rest.iter().rposition(|&b| b == b'/')?;
    Some((&rest[..slash], decimal(&rest[slash + 1..])?))
}

/// Reads what follows the prefix as a path; one trailing slash does not count.
pub(super) fn entry_path(rest: &[u8]) -> Option<EntryPath> {
    EntryPath::parse(rest.strip_suffix(b"/").unwrap_or(rest)).ok()
}

/// Reads a header's metadata; says why when the type is one that duplicity never writes.
pub(super) fn entry(header: &TarHeader) -> Result<Entry, &'static str> {
    let &TarHeader { major, minor, .. } = header;
    let kind = match header.typeflag {
        _ if header.is_regular() => EntryKind::File,
        b'2' => EntryKind::Symlink { target: header.link.clone() },
        b'3' => EntryKind::CharDevice { major, minor },
        b'4' => EntryKind::BlockDevice { major, minor },
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        b'1' => return Err("hard link"),
        _ => return Err("unknown type"),
    };
    let owner = Owner { uid: header.uid, gid: header.gid, user: header.user.clone(), group: header.group.clone() };
    Ok(Entry { kind, mode: header.mode, owner, mtime: header.mtime })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(typeflag: u8, name: &str) -> TarHeader {
        TarHeader {
            name: name.into(),
            typeflag,
            size: 9,
            data_offset: 512,
            link: b"to".to_vec(),
            major: 8,
            minor: 1,
            ..TarHeader::default()
        }
    }

    fn parse(typeflag: u8, name: &str) -> Option<(String, MemberKind, Option<u64>)> {
        let member = Member::parse(&header(typeflag, name)).ok()?;
        Some((member.path.to_string(), member.kind, member.piece))
    }

    #[test]
    fn names_by_prefix() {
        use MemberKind::*;
        for (typeflag, name, path, kind, piece) in [
            (b'5', "snapshot/./", ".", Whole, None),
            (b'5', "snapshot/d/sub/", "d/sub", Whole, None),
            (b'0', "snapshot/", ".", Whole, None),
            (b'0', "diff/", ".", Delta, None),
            (b'0', "multivol_snapshot/./1", ".", Whole, Some(1)),
            (b'0', "multivol_diff/./12", ".", Delta, Some(12)),
            (b'0', "multivol_snapshot/big/1", "big", Whole, Some(1)),
            (b'0', "multivol_snapshot/7/0", "7", Whole, Some(0)),
            (b'0', "snapshot/7/12", "7/12", Whole, None),
            (b'0', "diff/snapshot/a", "snapshot/a", Delta, None),
            (b'0', "deleted/dir2file/in", "dir2file/in", Deleted, None),
            (b'2', "snapshot/link", "link", Whole, None),
            (0, "diff/old", "old", Delta, None),
            (b'7', "diff/old", "old", Delta, None),
        ] {
            assert_eq!(parse(typeflag, name), Some((path.to_string(), kind, piece)), "{name}");
        }
    }

    #[test]
    fn what_duplicity_never_writes_is_refused() {
        for (typeflag, name) in [
            (b'0', "signature/a"),
            (b'0', "snapshot"),
            (b'0', "snapshots/a"),
            (b'0', "Snapshot/a"),
            (b'0', "multivol_deleted/a/1"),
            (b'0', ""),
            (b'0', "snapshot/../a"),
            (b'0', "snapshot/a/.."),
            (b'0', "deleted/a/../../b"),
            (b'0', "snapshot//etc/passwd"),
            (b'0', "snapshot/a\0b"),
            (b'5', "snapshot/a//"),
            (b'1', "snapshot/hard"),
            (b'S', "snapshot/sparse"),
            (b'5', "diff/d/"),
            (b'2', "diff/l"),
            (b'5', "multivol_snapshot/d/1"),
            (b'0', "multivol_snapshot/big"),
            (b'0', "multivol_snapshot/big/"),
            (b'0', "multivol_snapshot/big/x"),
            (b'0', "multivol_snapshot/big/-1"),
            (b'0', "multivol_snapshot/big/99999999999999999999"),
        ] {
            assert!(parse(typeflag, name).is_none(), "{} {name}", typeflag.escape_ascii());
        }
        let error = Member::parse(&header(b'1', "snapshot/h\n")).unwrap_err();
        assert_eq!(error.to_string(), r"cannot take tar entry 'snapshot/h\n': hard link");
    }

    #[test]
    fn entries_by_type() {
        let kind = |typeflag| Member::parse(&header(typeflag, "snapshot/a")).unwrap().entry.unwrap().kind;
        assert_eq!(kind(b'0'), EntryKind::File);
        assert_eq!(kind(b'2'), EntryKind::Symlink { target: b"to".to_vec() });
        assert_eq!(kind(b'3'), EntryKind::CharDevice { major: 8, minor: 1 });
        assert_eq!(kind(b'4'), EntryKind::BlockDevice { major: 8, minor: 1 });
        assert_eq!(kind(b'5'), EntryKind::Directory);
        assert_eq!(kind(b'6'), EntryKind::Fifo);
        let deleted = Member::parse(&header(b'0', "deleted/a")).unwrap();
        assert_eq!((deleted.entry, deleted.offset), (None, 512));
    }
}
