//! How the state of a seek point is written: a version, a kind, and little-endian fields that each
//! kind defines.
//!
//! States lie on disk between runs, so whatever is taken from one may be garbage: [`Fields`] never
//! panics.

use super::Cause;

/// Changes with the layout of any kind.
const VERSION: u8 = 1;

/// What a state begins with, after the version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// Start of the file: nothing follows.
    Start = 0,
    /// Not encoded: stored and plain offset are the same; nothing follows.
    Plain = 1,
    /// Inside a gzip file.
    Gzip = 2,
    /// Inside an encrypted message: sealed.
    Message = 3,
    /// The message has to be decoded as a whole; nothing follows.
    Spooled = 4,
}

/// Begins a state.
pub(super) fn begin(kind: Kind) -> Vec<u8> {
    vec![VERSION, kind as u8]
}

pub(super) fn plain() -> Vec<u8> {
    begin(Kind::Plain)
}

/// Splits a state into its kind and its fields.
pub(super) fn open(state: &[u8]) -> Result<(Kind, Fields<'_>), Cause> {
    let (&[version, kind], fields) = state.split_first_chunk().ok_or(TOO_SHORT)?;
    if version != VERSION {
        return Err(Cause::SeekPoint("another version has written it"));
    }
    let kind = [Kind::Start, Kind::Plain, Kind::Gzip, Kind::Message, Kind::Spooled]
        .into_iter()
        .find(|k| *k as u8 == kind);
    Ok((kind.ok_or(Cause::SeekPoint("its kind is unknown"))?, Fields(fields)))
}

const TOO_SHORT: Cause = Cause::SeekPoint("it is too short");

/// The fields of a state, taken from the front.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Cause> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(front)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Cause> {
        let (front, rest) = self.0.split_first_chunk().ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(*front)
    }

    pub fn u8(&mut self) -> Result<u8, Cause> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Cause> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Cause> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Fails when fields are left over.
    pub fn end(&self) -> Result<(), Cause> {
        if self.0.is_empty() { Ok(()) } else { Err(Cause::SeekPoint("it is too long")) }
    }
}
