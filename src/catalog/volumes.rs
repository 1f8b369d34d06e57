//! What is known of volumes once they have had their first pass: seek index, seek points, and the
//! parts of versions.

use super::Error;
use super::ids::VersionId;
use super::packed::PackedParts;
use super::rows::Rows;
use crate::codec::SeekPoint;
use crate::format::Part;
use crate::volume::{SeekIndex, VolumeKey};
use rusqlite::{Connection, OptionalExtension};

/// Length of a BLAKE3.
const HASH: usize = 32;

impl Rows<'_> {
    /// Returns the seek index of a volume that has had its first pass.
    pub fn seek_index(&self, volume: VolumeKey) -> Result<Option<SeekIndex>, Error> {
        let text = "SELECT plain_length, stored_length, chunks, head FROM volumes WHERE id = ?1 AND plain_length IS NOT NULL";
        let found: Option<(i64, i64, Vec<u8>, Vec<u8>)> = self
            .connection
            .prepare_cached(text)?
            .query_row([volume as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let Some((plain_length, stored_length, chunks, head)) = found else { return Ok(None) };
        let mut statement = self
            .connection
            .prepare_cached("SELECT plain FROM frames WHERE volume = ?1 ORDER BY number")?;
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

    /// Returns where one frame of a volume begins, and with which state.
    pub fn seek_point(&self, volume: VolumeKey, frame: usize) -> Result<Option<SeekPoint>, Error> {
        let text = "SELECT plain, state FROM frames WHERE volume = ?1 AND number = ?2";
        let found: Option<(i64, Vec<u8>)> = self
            .connection
            .prepare_cached(text)?
            .query_row((volume as i64, frame as i64), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((plain, state)) = found else { return Ok(None) };
        let state = sound(&[volume as i64, frame as i64, plain], &state)?.to_vec();
        Ok(Some(SeekPoint { plain: plain as u64, state }))
    }

    /// Returns how many volumes of a set have had their first pass.
    pub fn passed_volumes(&self, set: i64) -> Result<usize, Error> {
        let text = "SELECT count(*) FROM volumes WHERE set_id = ?1 AND plain_length IS NOT NULL";
        let count: i64 =
            self.connection.prepare_cached(text)?.query_row([set], |row| row.get(0))?;
        Ok(count as usize)
    }

    /// Returns whether a volume has had its first pass.
    pub fn is_passed(&self, volume: VolumeKey) -> Result<bool, Error> {
        Ok(self.volume_length(volume)?.is_some())
    }

    /// Returns how many plain bytes a volume has that has had its first pass.
    pub fn volume_length(&self, volume: VolumeKey) -> Result<Option<u64>, Error> {
        let text = "SELECT plain_length FROM volumes WHERE id = ?1 AND plain_length IS NOT NULL";
        let length: Option<i64> = self
            .connection
            .prepare_cached(text)?
            .query_row([volume as i64], |row| row.get(0))
            .optional()?;
        Ok(length.map(|length| length as u64))
    }

    /// Returns the first stored bytes of a volume, if any are kept.
    pub fn volume_head(&self, volume: VolumeKey) -> Result<Option<Vec<u8>>, Error> {
        let head: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT head FROM volumes WHERE id = ?1 AND plain_length IS NOT NULL")?
            .query_row([volume as i64], |row| row.get(0))
            .optional()?;
        Ok(head.filter(|head| !head.is_empty()))
    }

    /// Keeps all that a first pass has found.
    pub fn save_volume(
        &self,
        volume: VolumeKey,
        (seek_index, points): (&SeekIndex, &[SeekPoint]),
        parts: &PackedParts,
    ) -> Result<(), Error> {
        let (set, number) = ((volume >> 32) as i64, (volume & 0xffff_ffff) as i64);
        if self.is_passed(volume)? {
            return Ok(());
        }
        let mut frame = self.connection.prepare_cached(
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
            save_packed(self.connection, version, number, bytes, size)?;
        }
        let (plain, stored) = (seek_index.plain_length as i64, seek_index.stored_length as i64);
        self.connection.execute(
        "INSERT OR REPLACE INTO volumes(id, set_id, number, plain_length, stored_length, chunks, head) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (volume as i64, set, number, plain, stored, seek_index.chunks.concat(), &seek_index.head),
    )?;
        Ok(())
    }

    /// Keeps one part, and the size of its version where the part tells it.
    pub fn save_part(&self, version: VersionId, number: i64, part: &Part) -> Result<(), Error> {
        save_packed(self.connection, version, number, &part.encode(), part.size())
    }

    /// Returns the parts of a version by volume; the one put together from all volumes, if there is
    /// one, comes first with number 0.
    pub fn parts(&self, version: VersionId) -> Result<Vec<(u32, Part)>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, extents FROM parts WHERE version = ?1 ORDER BY number",
        )?;
        let mut rows = statement.query([version])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let number: u32 = row.get(0)?;
            let bytes = sound(
                &[version.0, number.into()],
                row.get_ref(1)?.as_blob().map_err(|_| broken())?,
            )?;
            found.push((number, Part::decode(bytes).ok_or_else(broken)?));
        }
        Ok(found)
    }
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
        .execute((version, number, with_check(&[version.0, number], bytes)))?;
    if let Some(size) = size {
        connection
            .prepare_cached("UPDATE versions SET size = ?2 WHERE id = ?1")?
            .execute((version, size as i64))?;
    }
    Ok(())
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
