//! What the tests stand on.
//!
//! A test makes an [`Env`] (a world of its own: home, keys, caches, source tree, collection), edits
//! the source tree through a
//! [`Tree`] or a [`History`], lets the original [`Duplicity`] save it, and compares what `dupfs`
//! shows with a [`Truth`]:
//!
//! ```text
//! History ─► Tree ─► source directory ─► duplicity ─► collection ─► dupfs mount, dupfs restore
//!                          │                                                   │
//!                     Truth::record ─► Truth::kept_after (what the format keeps) ══ Truth::record
//! ```
//!
//! Nothing here sleeps to make times differ: duplicity gets its clock by `--current-time`, files
//! their times by `utimensat`.

mod both_ways;
mod dupfs;
mod duplicity;
mod environment;
mod forge;
mod ftpd;
mod history;
#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
mod http_servers;
mod keys;
mod mounted;
mod prepared;
#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
mod proxy;
mod random;
mod rates;
mod rsyncd;
mod sshd;
mod terminal;
mod tree;
mod truth;
mod user;
mod writer;

pub use both_ways::BothWays;
pub use dupfs::Outcome;
pub use duplicity::{Duplicity, Encoding, PASSPHRASE, Version};
pub use environment::Env;
pub use forge::{Forge, Member};
pub use ftpd::{Ftp, Ftpd};
pub use history::{Flavour, History};
#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
pub use http_servers::{AzureServer, DAV_PASSWORD, DavServer, S3_SECRET, S3Server, SwiftServer};
pub use keys::Keys;
pub use mounted::{Mounted, is_mounted};
pub use prepared::{PYTHON, Prepared};
#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
pub use proxy::{Fault, Proxy};
pub use random::Random;
pub use rates::keeps_rates;
pub use rsyncd::Rsyncd;
pub use sshd::{SSH_PASSWORD, Sshd, make_key, processes};
pub use tree::{Kind, Node, Tree};
pub use truth::{Content, Path, Truth, assert_same};
pub use user::NOBODY;
pub use writer::Writer;
