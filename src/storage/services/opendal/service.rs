//! [`Service`]: how one kind of service is used through OpenDAL.

use crate::storage::Listed;
use futures_util::future::BoxFuture;
use opendal::raw::Timestamp;
use opendal::{HttpTransporter, Metadata, Operator};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

/// What stands as it is in the path of an address.
pub const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A place at a service, ready to be used.
pub struct Service {
    /// Reads, lists and deletes.
    pub operator: Operator,
    /// Write: first what is no volume, then volumes, which may be kept otherwise (a cheaper class of
    /// storage); each in one piece, then in parts.
    pub writers: [[Operator; 2]; 2],
    /// How files are written.
    pub writing: Writing,
    /// What tells one content of a name from the next.
    pub stamp: Stamp,
    /// Files transferred at once that are usually best.
    pub transfers: usize,
    /// Whether `prepare` makes the folder.
    pub has_folders: bool,
    /// Whether what was signed in by may end, so that a refusal may mean that.
    pub expires: bool,
    /// Lists the folder, where OpenDAL is not asked to.
    pub list: Option<List>,
    /// Makes what files are in, where OpenDAL cannot.
    pub make: Option<Make>,
    /// Is done to a file that was written, by its name.
    pub stored: Option<Stored>,
}

/// Lists a folder.
pub type List = Box<dyn Fn() -> BoxFuture<'static, opendal::Result<Vec<Listed>>> + Send + Sync>;

/// Makes what files are in.
pub type Make = Box<dyn Fn() -> BoxFuture<'static, opendal::Result<()>> + Send + Sync>;

/// Is done to a file that was written.
pub type Stored = Box<dyn Fn(&str) -> BoxFuture<'static, opendal::Result<()>> + Send + Sync>;

/// How files are written, so that nothing is to be seen of one that is not whole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// The service shows a file only when it is whole.
    Whole {
        /// The largest file that goes in one piece, in bytes.
        whole: usize,
        /// Size of the parts in which larger ones go.
        part: usize,
        /// Parts that go at once.
        parts: usize,
    },
    /// Under another name first, then renamed.
    Renamed,
}

/// What tells one content of a name from the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// The entity tag, which the answer to a write names too.
    Tag,
    /// The time at which it was written.
    Time,
}

impl Service {
    /// Returns what writes a file.
    pub fn writer(&self, is_volume: bool, in_parts: bool) -> &Operator {
        &self.writers[usize::from(is_volume)][usize::from(in_parts)]
    }
}

/// Returns an operator that sends its requests by `http`.
pub fn over(operator: Operator, http: HttpTransporter) -> Operator {
    operator.with_context(opendal::OperationContext::new().with_http_transport(http))
}

impl Stamp {
    /// Returns the stamp of a file of this size.
    pub fn of(self, found: &Metadata, size: u64) -> u64 {
        match self {
            Self::Tag => found.etag().or(found.content_md5()).map_or(0, |tag| {
                let hash = blake3::hash(tag.trim_matches('"').as_bytes());
                hash.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }),
            Self::Time => found.last_modified().map_or(0, |time| of_time(time, size)),
        }
    }
}

/// Returns the stamp of a file that was written then. Many services know whole seconds alone, so
/// the size is part of it.
pub fn of_time(time: Timestamp, size: u64) -> u64 {
    (time.into_inner().as_nanosecond() as u64).wrapping_add(size % 1_000_000_000)
}
