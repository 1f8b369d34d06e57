//! The librsync algorithms, knowing nothing of backups.
//!
//! A *delta* makes new content from a *basis*: literal commands carry new bytes, copy commands name
//! a range of the basis. [`DeltaParser`] reads one as it streams by, without holding literals, so
//! that callers can note where they lie. [`delta()`] makes one, from new content and the basis's
//! *signature*, which [`SignatureWriter`] has made when the basis was new. librsync itself is there
//! for signatures of other kinds only, behind a check of what it is given.
//!
//! ```
//! use dupfs::rsync::{Command, DeltaParser, Error};
//!
//! let (basis, mut new) = (b"hello world", Vec::new());
//! let mut parser = DeltaParser::new();
//! // Literal "say: ", then 5 bytes from offset 6 of the basis, then the end.
//! parser.feed(b"rs\x026\x05say: \x45\x06\x05\x00", |command| {
//!     match command {
//!         Command::Literal { bytes, .. } => new.extend_from_slice(bytes),
//!         Command::Copy { offset, length } => new.extend_from_slice(&basis[offset as usize..][..length as usize]),
//!     }
//!     Ok::<(), Error>(())
//! })?;
//! assert_eq!(parser.finish()?, 10);
//! assert_eq!(new, b"say: world");
//! # Ok::<(), Error>(())
//! ```

mod delta;
mod error;
mod md4;
mod scan;
mod signature;

pub use delta::{Command, DeltaParser, delta};
pub use error::Error;
pub use signature::{CheckedSignature, SignatureWriter};
