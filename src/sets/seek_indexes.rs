//! [`SeekIndexes`]: what is known of the insides of volumes, for those who read them.

use super::Error;
use super::at_hand::AtHand;
use super::sets::Sets;
use crate::catalog::{self, Chain, Rows};
use crate::codec::SeekPoint;
use crate::format::Encoding;
use crate::storage::ReadAt;
use crate::volume::{SeekIndex, SeekIndexStore, VolumeKey};
use std::sync::Arc;

/// The seek indexes of volumes. Those that are gone from the catalog are made anew.
struct SeekIndexes(Arc<Sets>);

impl Sets {
    /// Returns the store of seek indexes and seek points.
    pub fn seek_indexes(self: &Arc<Self>) -> Arc<dyn SeekIndexStore> {
        Arc::new(SeekIndexes(self.clone()))
    }

    /// As [`Sets::unlock`], for volumes of which enough is known to do so without reading them;
    /// all others are left out. They are named by position and number.
    pub fn unlock_known(&self, chain: &Chain, volumes: &[(u32, u32)]) {
        let known = |&(position, number): &(u32, u32)| {
            let source = self.volume(chain, position, number).ok()?;
            let found = self
                .ask(chain, position, |rows| rows.volume_head(chain.volume_key(position, number)));
            let head = found.ok()?.filter(|_| source.encoding == Encoding::OpenPgp)?;
            Some(Arc::new(AtHand::with_head(source.file, head)) as Arc<dyn ReadAt>)
        };
        self.codec.unlock(&volumes.iter().filter_map(known).collect::<Vec<_>>());
    }
}

impl SeekIndexes {
    fn find<T>(
        &self,
        volume: VolumeKey,
        query: impl Fn(&Rows<'_>) -> Result<Option<T>, catalog::Error>,
    ) -> Result<Option<T>, String> {
        let sets = &self.0;
        let find = || {
            // A file may be open whose backup is no longer shown.
            let Some((chain, position)) = sets.catalog.set(volume >> 32) else {
                return Ok(sets.catalog.read(&query)?);
            };
            match sets.ask(&chain, position, &query)? {
                None => {
                    sets.fill_volume(&chain, position, volume as u32)?;
                    sets.ask(&chain, position, &query)
                }
                found => Ok(found),
            }
        };
        find().map_err(|error: Error| error.to_string())
    }
}

impl SeekIndexStore for SeekIndexes {
    fn seek_index(&self, volume: VolumeKey) -> Result<Option<SeekIndex>, String> {
        self.find(volume, |rows| rows.seek_index(volume))
    }

    fn seek_point(&self, volume: VolumeKey, frame: usize) -> Result<Option<SeekPoint>, String> {
        self.find(volume, |rows| rows.seek_point(volume, frame))
    }
}
