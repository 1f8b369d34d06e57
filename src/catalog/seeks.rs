//! SeekIndexes of volumes: seek points and chunk hashes, kept for the volumes that they belong to.

use super::at_hand::AtHand;
use super::catalog::Catalog;
use super::chains::Chain;
use super::packed::PackedParts;
use super::{Error, Part, VersionId};
use crate::codec::SeekPoint;
use crate::format::Encoding;
use crate::storage::ReadAt;
use crate::volume::{SeekIndex, SeekIndexStore, VolumeKey};
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;

/// Length of a BLAKE3.
const HASH: usize = 32;

/// The seek indexes in a catalog. Those that are gone with what was in it are made anew.
pub struct SeekIndexes(pub Arc<Catalog>);

impl Catalog {
    /// Returns the store of seek indexes and seek points.
    pub fn seek_indexes(self: &Arc<Self>) -> Arc<dyn crate::volume::SeekIndexStore> {
        Arc::new(SeekIndexes(self.clone()))
    }

    /// As [`Catalog::unlock`], for volumes of which enough is known to do so without reading them;
    /// all others are left out. They are named by position and number.
    pub fn unlock_known(&self, chain: &Chain, volumes: &[(u32, u32)]) {
        let known = |&(position, number): &(u32, u32)| {
            let source = self.volume(chain, position, number).ok()?;
            let found = self.ask(chain, position, |connection, _| {
                head(connection, chain.volume_key(position, number))
            });
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
        query: impl Fn(&Connection) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, String> {
        let find = || {
            // A file may be open whose backup is no longer shown.
            let Some((chain, position)) = self.0.set(volume >> 32) else {
                return self.0.database.read(&query);
            };
            let ask = || self.0.ask(&chain, position, |connection, _| query(connection));
            match ask()? {
                None => self.0.fill_volume(&chain, position, volume as u32).and_then(|()| ask()),
                found => Ok(found),
            }
        };
        find().map_err(|error: Error| error.to_string())
    }
}

impl SeekIndexStore for SeekIndexes {
    fn seek_index(&self, volume: VolumeKey) -> Result<Option<SeekIndex>, String> {
        self.find(volume, |connection| seek_index(connection, volume))
    }

    fn seek_point(&self, volume: VolumeKey, frame: usize) -> Result<Option<SeekPoint>, String> {
        self.find(volume, |connection| {
            let found: Option<(i64, Vec<u8>)> = connection
                .prepare_cached(
                    "SELECT plain, state FROM frames WHERE volume = ?1 AND number = ?2",
                )?
                .query_row((volume as i64, frame as i64), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((plain, state)) = found else { return Ok(None) };
            let state = sound(&[volume as i64, frame as i64, plain], &state)?.to_vec();
            Ok(Some(SeekPoint { plain: plain as u64, state }))
        })
    }
}

fn seek_index(connection: &Connection, volume: VolumeKey) -> Result<Option<SeekIndex>, Error> {
    let text = "SELECT plain_length, stored_length, chunks, head FROM volumes WHERE id = ?1 AND plain_length IS NOT NULL";
    let found: Option<(i64, i64, Vec<u8>, Vec<u8>)> = connection
        .prepare_cached(text)?
        .query_row([volume as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((plain_length, stored_length, chunks, head)) = found else { return Ok(None) };
    let mut statement =
        connection.prepare_cached("SELECT plain FROM frames WHERE volume = ?1 ORDER BY number")?;
    let frames = statement
        .query_map([volume as i64], |row| row.get::<_, i64>(0).map(|plain| plain as u64))?;
    Ok(Some(SeekIndex {
        frames: frames.collect::<Result<_, _>>()?,
        plain_length: plain_length as u64,
        stored_length: stored_length as u64,
        chunks: chunks.chunks_exact(HASH).filter_map(|hash| hash.try_into().ok()).collect(),
        head,
    }))
}

/// Length of the check behind blobs that decide which bytes are shown.
const CHECK: usize = 8;

/// Appends a hash of a row's key and blob: SQLite does not notice when a disk has changed a value.
fn with_check(key: &[i64], blob: &[u8]) -> Vec<u8> {
    let mut checked = Vec::with_capacity(blob.len() + CHECK);
    checked.extend_from_slice(blob);
    checked.extend_from_slice(&check(key, blob));
    checked
}

/// Returns a blob without its check, if that is right.
fn sound<'b>(key: &[i64], checked: &'b [u8]) -> Result<&'b [u8], Error> {
    let (blob, found) = checked.split_last_chunk::<CHECK>().ok_or_else(broken)?;
    if check(key, blob) == *found { Ok(blob) } else { Err(broken()) }
}

fn check(key: &[i64], blob: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    for number in key {
        hasher.update(&number.to_le_bytes());
    }
    let mut check = [0; CHECK];
    hasher.update(blob).finalize_xof().fill(&mut check);
    check
}

/// What a value means that is not the one that was stored.
fn broken() -> Error {
    Error::Broken
}

/// Returns whether a volume has had its first pass.
pub fn is_passed(connection: &Connection, volume: VolumeKey) -> Result<bool, Error> {
    Ok(plain_length(connection, volume)?.is_some())
}

/// Returns how many plain bytes a volume has that has had its first pass.
pub fn plain_length(connection: &Connection, volume: VolumeKey) -> Result<Option<u64>, Error> {
    let text = "SELECT plain_length FROM volumes WHERE id = ?1 AND plain_length IS NOT NULL";
    let length: Option<i64> =
        connection.prepare_cached(text)?.query_row([volume as i64], |row| row.get(0)).optional()?;
    Ok(length.map(|length| length as u64))
}

/// Returns the first stored bytes of a volume, if any are kept.
pub fn head(connection: &Connection, volume: VolumeKey) -> Result<Option<Vec<u8>>, Error> {
    let head: Option<Vec<u8>> = connection
        .prepare_cached("SELECT head FROM volumes WHERE id = ?1 AND plain_length IS NOT NULL")?
        .query_row([volume as i64], |row| row.get(0))
        .optional()?;
    Ok(head.filter(|head| !head.is_empty()))
}

/// Keeps all that a first pass has found.
pub fn save(
    connection: &Connection,
    volume: VolumeKey,
    (seek_index, points): (&SeekIndex, &[SeekPoint]),
    parts: &PackedParts,
) -> Result<(), Error> {
    let (set, number) = ((volume >> 32) as i64, (volume & 0xffff_ffff) as i64);
    if is_passed(connection, volume)? {
        return Ok(());
    }
    let mut frame = connection.prepare_cached(
        "INSERT OR REPLACE INTO frames(volume, number, plain, state) VALUES(?1, ?2, ?3, ?4)",
    )?;
    for (number, point) in points.iter().enumerate() {
        let (volume, number, plain) = (volume as i64, number as i64, point.plain as i64);
        frame.execute((
            volume,
            number,
            plain,
            with_check(&[volume, number, plain], &point.state),
        ))?;
    }
    for (version, bytes, size) in parts.iter() {
        save_packed(connection, version, number, bytes, size)?;
    }
    let (plain, stored) = (seek_index.plain_length as i64, seek_index.stored_length as i64);
    connection.execute(
        "INSERT OR REPLACE INTO volumes(id, set_id, number, plain_length, stored_length, chunks, head) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (volume as i64, set, number, plain, stored, seek_index.chunks.concat(), &seek_index.head),
    )?;
    Ok(())
}

/// Keeps one part, and the size of its version where the part tells it.
pub fn save_part(
    connection: &Connection,
    version: VersionId,
    number: i64,
    part: &Part,
) -> Result<(), Error> {
    save_packed(connection, version, number, &part.encode(), part.size())
}

fn save_packed(
    connection: &Connection,
    version: VersionId,
    number: i64,
    bytes: &[u8],
    size: Option<u64>,
) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO parts(version, number, extents) VALUES(?1, ?2, ?3)",
        )?
        .execute((version, number, with_check(&[version.row(), number], bytes)))?;
    if let Some(size) = size {
        connection
            .prepare_cached("UPDATE versions SET size = ?2 WHERE id = ?1")?
            .execute((version, size as i64))?;
    }
    Ok(())
}

/// Returns the parts of a version by volume; the one put together from all volumes, if there is
/// one, comes first with number 0.
pub fn parts(connection: &Connection, version: VersionId) -> Result<Vec<(u32, Part)>, Error> {
    let mut statement = connection
        .prepare_cached("SELECT number, extents FROM parts WHERE version = ?1 ORDER BY number")?;
    let mut rows = statement.query([version])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let number: u32 = row.get(0)?;
        let bytes = sound(
            &[version.row(), number.into()],
            row.get_ref(1)?.as_blob().map_err(|_| broken())?,
        )?;
        found.push((number, Part::decode(bytes).ok_or_else(broken)?));
    }
    Ok(found)
}
