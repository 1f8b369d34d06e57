//! duplicity's grammars: pure functions between bytes and nouns.
//!
//! A backup set is a tar stream cut into *volumes*, a *manifest* that says which paths each volume
//! holds, and a *signature file*. This module reads and prints all three, and the names that they are
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

mod difftar;
mod error;
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
pub use error::Error;
pub use extents::{Extent, Extents, Held, TooMany};
pub use filename::{Content, Encoding, NameForm, Prefixes, Session, StoredName};
pub use manifest::{FileChange, Manifest, ManifestVolume, VolumeHash};
pub(crate) use number::{put, put_signed, take, take_signed};
pub use part::Part;
pub use sigtar::{SignatureKind, SignatureMember};
pub use source::{ByteSource, ReadError};
pub use tar::{TarHeader, TarReader};
pub use toc::{CHUNK, StoredFrames, Toc, TocRow, TocRows, TocWriter};
pub use ustar::padding;
