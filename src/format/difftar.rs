//! Members of a volume: what one tar entry says of one path.
//!
//! The entry's name starts with a prefix that tells which kind it is; the rest is the path below
//! the source directory.
//!
//! | prefix | type | meaning |
//! |---|---|---|
//! | `snapshot/` | any | complete: metadata, and for a regular file all its content |
//! | `diff/` | regular | metadata, and a librsync delta against the path's previous content |
//! | `deleted/` | any (written as regular) | the path is gone |
//! | `multivol_snapshot/PATH/N`, `multivol_diff/PATH/N` | regular | piece N of a file whose data is longer than 65535 bytes |
//!
//! Directories end in `/`. The source directory itself is `snapshot/./`; a source that is a single
//! file is the regular entry `snapshot/` or `diff/`, in pieces `multivol_snapshot/./1` and so on.
//!
//! Source: seen in volumes of duplicity 0.8.22 and 3.2.1.

use super::{Error, TarHeader, tar::decimal};
use crate::model::{Entry, EntryKind, EntryPath, InvalidPath, Owner};

/// What one tar entry of a volume says of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Whose member it is.
    pub path: EntryPath,
    /// What it says.
    pub kind: MemberKind,
    /// Number of the piece, usually from 1; `None` if the member is not split. The last piece may
    /// have 0 bytes.
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
    /// [`Error::TooLong`] for a path over the limit; [`Error::Member`] for an unknown prefix, a
    /// path that [`EntryPath`] refuses (`..` is an attack), a piece without number, a hard link or
    /// another type that duplicity never writes, and a delta or a piece that is no regular file.
    pub fn parse(header: &TarHeader) -> Result<Self, Error> {
        let error = |cause| Error::Member { name: header.name.clone(), cause };
        let (kind, split, rest) = kind_of(&header.name).ok_or_else(|| error("unknown prefix"))?;
        let (rest, piece) = match split {
            true => split_piece(rest)
                .map(|(rest, piece)| (rest, Some(piece)))
                .ok_or_else(|| error("no piece number"))?,
            false => (rest, None),
        };
        let path = entry_path(&header.name, rest)?;
        let entry = entry(header).map_err(error)?;
        if (kind == MemberKind::Delta || split) && entry.kind != EntryKind::File {
            return Err(error("a delta or a piece of something that is no regular file"));
        }
        let entry = (kind != MemberKind::Deleted).then_some(entry);
        Ok(Self { path, kind, piece, entry, length: header.size, offset: header.data_offset })
    }
}

/// Data of regular files is written in pieces of this many bytes; what is shorter is not split.
///
/// Source: seen in volumes of duplicity 0.8.22 and 3.2.1.
pub const PIECE: usize = 65536;

impl Member {
    /// Returns the tar header of a member, the counterpart of [`Member::parse`]; its `offset` means
    /// nothing here.
    pub fn header(&self) -> TarHeader {
        let (prefix, split_prefix) = match self.kind {
            MemberKind::Whole => ("snapshot/", "multivol_snapshot/"),
            MemberKind::Delta => ("diff/", "multivol_diff/"),
            MemberKind::Deleted => ("deleted/", "deleted/"),
        };
        let is_directory =
            self.entry.as_ref().is_some_and(|entry| entry.kind == EntryKind::Directory);
        let prefix = if self.piece.is_some() { split_prefix } else { prefix };
        let mut name = [prefix.as_bytes(), self.path.as_bytes()].concat();
        if self.path.is_root() && (is_directory || self.piece.is_some()) {
            name.push(b'.');
        }
        if let Some(piece) = self.piece {
            name.extend_from_slice(format!("/{piece}").as_bytes());
        } else if is_directory {
            name.push(b'/');
        }
        with_entry(name, self.entry.as_ref(), self.length)
    }
}

/// Returns a header with the metadata of an entry; that of a deleted path is all zero.
pub(super) fn with_entry(name: Vec<u8>, entry: Option<&Entry>, size: u64) -> TarHeader {
    let Some(entry) = entry else {
        return TarHeader { name, typeflag: b'0', ..TarHeader::default() };
    };
    let (mut link, mut device) = (Vec::new(), (0, 0));
    let typeflag = match &entry.kind {
        EntryKind::File => b'0',
        EntryKind::Symlink { target } => {
            link = target.clone();
            b'2'
        }
        EntryKind::CharDevice { major, minor } => {
            device = (*major, *minor);
            b'3'
        }
        EntryKind::BlockDevice { major, minor } => {
            device = (*major, *minor);
            b'4'
        }
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    };
    let Owner { uid, gid, user, group } = entry.owner.clone();
    let (major, minor) = device;
    TarHeader {
        name,
        typeflag,
        mode: entry.mode,
        uid,
        gid,
        user,
        group,
        mtime: entry.mtime.max(0),
        size,
        link,
        major,
        minor,
        data_offset: 0,
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
    prefixes
        .into_iter()
        .find_map(|(prefix, kind, split)| Some((kind, split, name.strip_prefix(prefix)?)))
}

/// Takes the piece number from the end of `PATH/N`.
fn split_piece(rest: &[u8]) -> Option<(&[u8], u64)> {
    let slash = rest.iter().rposition(|&b| b == b'/')?;
    Some((&rest[..slash], decimal(&rest[slash + 1..])?))
}

/// Reads what follows the prefix as a path; one trailing slash does not count.
pub(super) fn entry_path(name: &[u8], rest: &[u8]) -> Result<EntryPath, Error> {
    EntryPath::parse(rest.strip_suffix(b"/").unwrap_or(rest)).map_err(|invalid| match invalid {
        InvalidPath::TooLong { .. } => Error::TooLong(invalid),
        InvalidPath::Elsewhere(_) => {
            Error::Member { name: name.to_vec(), cause: "not a path below the source directory" }
        }
    })
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
    let owner = Owner {
        uid: header.uid,
        gid: header.gid,
        user: header.user.clone(),
        group: header.group.clone(),
    };
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
    fn headers_are_parsed_as_what_they_were() {
        let header = |typeflag, name: &str| TarHeader {
            data_offset: 0,
            mode: 0o4711,
            uid: 7,
            user: b"me".to_vec(),
            mtime: 5,
            ..header(typeflag, name)
        };
        for (typeflag, name) in [
            (b'5', "snapshot/./"),
            (b'5', "snapshot/d/sub/"),
            (b'0', "snapshot/"),
            (b'0', "diff/"),
            (b'0', "multivol_snapshot/./1"),
            (b'0', "multivol_diff/./12"),
            (b'0', "multivol_snapshot/big/1"),
            (b'0', "snapshot/7/12"),
            (b'2', "snapshot/link"),
            (b'2', "snapshot/"),
            (b'3', "snapshot/tty"),
            (b'4', "snapshot/disk"),
            (b'6', "snapshot/pipe"),
        ] {
            let mut header = header(typeflag, name);
            if !matches!(typeflag, b'3' | b'4') {
                (header.major, header.minor) = (0, 0);
            }
            if typeflag != b'2' {
                header.link.clear();
            }
            assert_eq!(Member::parse(&header).unwrap().header(), header, "{name}");
        }
        let deleted =
            TarHeader { name: b"deleted/d/in".to_vec(), typeflag: b'0', ..TarHeader::default() };
        assert_eq!(Member::parse(&deleted).unwrap().header(), deleted);
    }

    #[test]
    fn entries_by_type() {
        let kind =
            |typeflag| Member::parse(&header(typeflag, "snapshot/a")).unwrap().entry.unwrap().kind;
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
