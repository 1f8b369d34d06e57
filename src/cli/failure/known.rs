//! [`Known`]: which of the library's errors an error is, if it is one of those that decide how the
//! program ends.

use super::own::Failure;
use dupfs::collection::ArchiveError;
use dupfs::contents::{self, BulkReadError};
use dupfs::storage::{self, NotStored};
use dupfs::{backup, codec, format, replicate, restore, sets, source, verify, volume};
use std::error::Error;

/// Declares [`Known`], so that no type can be in the enum and be missing where it is recognized.
macro_rules! known {
    ($($name:ident($type:ty),)*) => {
        /// An error whose type is known.
        #[derive(Debug, Clone, Copy)]
        pub enum Known<'a> {
            $(#[doc = concat!("`", stringify!($type), "`")] $name(&'a $type),)*
        }

        impl<'a> Known<'a> {
            /// Recognizes an error, without its causes.
            pub fn of(error: &'a (dyn Error + 'static)) -> Option<Self> {
                $(if let Some(error) = error.downcast_ref() {
                    return Some(Self::$name(error));
                })*
                None
            }
        }
    };
}

known! {
    Own(Failure),
    Archive(ArchiveError),
    Backup(backup::Error),
    BulkRead(BulkReadError),
    Codec(codec::Error),
    Contents(contents::Error),
    File(contents::Failure),
    Format(format::Error),
    Io(std::io::Error),
    NotStored(NotStored),
    Replicate(replicate::Error),
    Restore(restore::Error),
    Sets(sets::Error),
    SetsCause(sets::Cause),
    Source(source::Error),
    Storage(storage::Error),
    Verify(verify::Error),
    Volume(volume::Error),
}
