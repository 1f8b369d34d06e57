//! duplicity's grammars: pure functions between bytes and nouns.
//!
//! A backup set is a tar stream cut into *volumes*, a *manifest* that says which paths each volume
//! holds, and a *signature file*. This room reads and prints all three, and the names that they are
//! stored under:
//!
//! | bytes | parsed by | into | printed by |
//! |---|---|---|---|
//! | `duplicity-full.20261122T151019Z.vol1.difftar.gz` | [`StoredName::parse`] | session, kind of file, encoding | [`StoredName::print`] |
//! | a decoded manifest | [`Manifest::parse`] | volumes with their path ranges and hashes | [`Manifest::print`] and its parts |
//! | a decoded volume or signature file | [`TarReader`] | headers and data, in stream order | [`TarHeader::print`] |
//! | a header in a volume | [`Member::parse`] | path, whole or delta or deleted, piece, entry | [`Member::header`] |
//! | a header in a signature file | [`SignatureMember::parse`] | path, entry or deleted | [`SignatureMember::header`] |
//! | the table behind the tar of a volume of our own | [`Toc::parse`] | frames, chunk hashes, a row for each path | [`TocWriter`] |
//!
//! Nothing here opens a file, decodes or decrypts. All input is taken as hostile: numbers are
//! checked, names with `..` refused, and what must be held in memory at once is limited.

use crate::model::InvalidPath;

mod difftar;
mod extents;
mod filename;
mod manifest;
mod number;
mod part;
mod sigtar;
mod source;
mod tar;
mod toc;
mod ustar;

pub use difftar::{Member, MemberKind, PIECE};
pub use extents::{Extents, Held, TooMany};
pub use filename::{Content, Encoding, NameForm, Prefixes, Session, StoredName};
pub use manifest::{FileChange, Manifest, ManifestVolume, VolumeHash};
pub(crate) use number::{put, put_signed, take, take_signed};
pub use part::{Extent, Part};
pub use sigtar::{SignatureKind, SignatureMember};
pub use source::{ByteSource, ReadError};
pub use tar::{TarHeader, TarReader};
pub use toc::{CHUNK, StoredFrames, Toc, TocRow, TocRows, TocWriter};
pub use ustar::padding;

/// What can be wrong with bytes that should be duplicity's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream is no tar from here on, or ends too early.
    #[error("cannot parse tar at byte {offset}: {cause}")]
    Tar {
        /// Where in the plain tar.
        offset: u64,
        /// What is wrong there.
        cause: &'static str,
    },
    /// A tar entry is nothing that duplicity writes.
    #[error("cannot take tar entry '{}': {cause}", name.escape_ascii())]
    Member {
        /// Name of the tar entry as stored.
        name: Vec<u8>,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// A tar entry is that of a path over the limit: the only one that readers pass over, and
    /// report.
    #[error("cannot take tar entry: {0}")]
    TooLong(InvalidPath),
    /// Text is no manifest.
    #[error("cannot parse manifest at line {line}: {cause}")]
    Manifest {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong there.
        cause: &'static str,
    },
    /// Bytes are no table of contents.
    #[error("cannot parse table of contents at byte {offset}: {cause}")]
    Toc {
        /// Where in the table.
        offset: usize,
        /// What is wrong there.
        cause: &'static str,
    },
}
