//! Gzip files: any number of members, each checked against its CRC and length; zeros may follow the
//! last one.

use super::Cause;
use super::inflate::{BUFFER, Inflate};
use super::source::{Source, Stage, Stored};
use super::state::{self, Fields, Kind};
use super::zlib::Wrapping;
use crate::storage::ReadAt;
use std::sync::Arc;

/// A gzip file from some place on.
pub(super) struct Gzip(Inflate<Stored>);

impl Gzip {
    /// Reads from the start, `stride` stored bytes at once.
    pub fn open(file: Arc<dyn ReadAt>, stride: usize) -> Result<Self, Cause> {
        Ok(Self(Inflate::new(Stored::new(file, 0, stride), Wrapping::Gzip)?))
    }

    /// Reads from a seek point on, to some place before the stored byte `end`. The member that it
    /// lies in is not checked: no part of it can be.
    pub fn enter(file: Arc<dyn ReadAt>, end: u64, mut fields: Fields) -> Result<Self, Cause> {
        let offset = fields.u64()?;
        // As much as that may be decoded behind what is needed, and not be compressible.
        let stored = Stored::window(file, offset, end.saturating_add(BUFFER as u64));
        let inflate = Inflate::enter(stored, Wrapping::Gzip, &mut fields)?;
        fields.end()?;
        Ok(Self(inflate))
    }
}

impl Source for Gzip {
    fn fill(&mut self) -> Result<&[u8], Cause> {
        self.0.fill()
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}

impl Stage for Gzip {
    fn aim(&mut self, distance: u64) {
        self.0.aim(distance);
    }

    fn mark(&self) -> Result<Option<Vec<u8>>, Cause> {
        let mut inner = Vec::new();
        let Some(stored) = self.0.mark(&mut inner)? else { return Ok(None) };
        let mut state = state::begin(Kind::Gzip);
        state.extend_from_slice(&stored.offset().to_le_bytes());
        state.extend_from_slice(&inner);
        Ok(Some(state))
    }
}
