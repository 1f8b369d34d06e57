//! Level 2 without a first pass: what the table of contents in a volume of our own tells.

use super::Error;
use super::at_hand::AtHand;
use super::proof::Proof;
use super::sets::Sets;
use crate::catalog::{Chain, PackedParts};
use crate::codec::{self, Codec, HEAD, SeekPoint};
use crate::format::{Encoding, Manifest, ManifestVolume, Toc};
use crate::storage::ReadAt;
use crate::volume::{SeekIndex, VolumeSource, has_hash};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Volumes whose ends are held at the same time: 10 MiB at the default size.
pub(super) const TABLES_TOGETHER: usize = 64;

impl Sets {
    /// Reads what [`Sets::table_in`] needs of each volume, of all at once, and derives the session
    /// keys of encrypted ones together; `None` for one that has no table, or cannot be read: then
    /// whoever needs it finds out why.
    pub(super) fn near_tables(
        &self,
        chain: &Chain,
        volumes: &[(u32, u32)],
    ) -> Vec<Option<Arc<AtHand>>> {
        // Only the end of the volume proves its signature.
        if self.codec.demands_signature() {
            return vec![None; volumes.len()];
        }
        let source = |&(position, number): &(u32, u32)| {
            let key = chain.volume_key(position, number);
            let is_hopeless = self.without_table.lock().contains(&key)
                || self.bad_volumes.lock().contains_key(&key);
            (!is_hopeless).then(|| self.volume(chain, position, number).ok())?
        };
        let sources: Vec<Option<VolumeSource>> = volumes.iter().map(source).collect();
        let ranges = sources.iter().flatten().map(|source| {
            (source.file.clone(), Codec::table_ranges(source.encoding, source.file.size()))
        });
        let mut files = AtHand::read(ranges.collect()).into_iter();
        let found: Vec<Option<Arc<AtHand>>> =
            sources.iter().map(|source| source.as_ref().and_then(|_| files.next()?.ok())).collect();
        let is_encrypted = |source: &VolumeSource| source.encoding == Encoding::OpenPgp;
        let encrypted = sources.iter().zip(&found).filter_map(|(source, file)| {
            source.as_ref().filter(|source| is_encrypted(source))?;
            Some(file.clone()? as Arc<dyn ReadAt>)
        });
        let encrypted: Vec<_> = encrypted.collect();
        if encrypted.len() > 1 {
            self.codec.unlock(&encrypted);
        }
        found
    }

    /// Returns the table of a volume whose end is at hand, if there is one that belongs there by the
    /// manifest's hash, and makes sense. Otherwise a pass over the whole volume tells everything,
    /// and also what is wrong with it.
    ///
    /// Behind it comes the volume's head, as far as it was read on the way.
    pub(super) fn table_in(
        &self,
        chain: &Chain,
        position: u32,
        described: &ManifestVolume,
        file: &Arc<AtHand>,
    ) -> Option<(Toc, Vec<u8>)> {
        let mut source = self.volume(chain, position, described.number).ok()?;
        source.hash = described.hash;
        let table = self.read_table(file.clone(), source.encoding).ok()?;
        let session = chain.set_at(position).ok()?.session;
        let toc = table.and_then(|table| {
            let toc = Toc::parse(&table.bytes).ok()?;
            let fits = (toc.session, toc.volume, toc.stored.length)
                == (session, described.number, table.stored_start)
                && has_hash(&source, &toc.stored, &table.behind);
            (fits && seek_index(&toc, Vec::new()).is_sound()).then_some(toc)
        });
        if toc.is_none() {
            self.without_table.lock().insert(source.key);
        }
        let head = match source.encoding {
            Encoding::OpenPgp => file.head(HEAD).to_vec(),
            Encoding::Plain | Encoding::Gzip => Vec::new(),
        };
        toc.map(|toc| (toc, head))
    }

    fn read_table(
        &self,
        file: Arc<dyn ReadAt>,
        encoding: Encoding,
    ) -> Result<Option<codec::Table>, codec::Error> {
        #[cfg(test)]
        if let Some(read) = &self.tables {
            return read(file, encoding);
        }
        self.codec.table(file, encoding)
    }

    /// Makes sure that the tables of volumes have been read, as far as there are any: of all that
    /// are missing at once. Volumes are named by position and number; what is wrong with one is for
    /// [`Sets::fill_volume`] to find out.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn fill_tables(&self, chain: &Chain, volumes: &[(u32, u32)]) -> Result<(), Error> {
        let mut missing = Vec::new();
        for &(position, number) in volumes.iter().collect::<BTreeSet<_>>() {
            if !self.is_volume_filled(chain, position, number)? {
                missing.push((position, number));
            }
        }
        missing.chunks(TABLES_TOGETHER).try_for_each(|some| self.fill_tables_now(chain, some))
    }

    fn fill_tables_now(&self, chain: &Chain, volumes: &[(u32, u32)]) -> Result<(), Error> {
        let turns: Vec<_> = volumes
            .iter()
            .map(|&(position, number)| self.turn(chain.volume_key(position, number)))
            .collect();
        // What somebody else is at needs no second look.
        let mut mine = Vec::new();
        for (turn, &volume) in turns.iter().zip(volumes) {
            let Some(held) = turn.try_lock() else { continue };
            if self.is_volume_filled(chain, volume.0, volume.1)? {
                self.end_turn(chain.volume_key(volume.0, volume.1));
            } else {
                mine.push((volume, held));
            }
        }
        let names: Vec<(u32, u32)> = mine.iter().map(|(volume, _)| *volume).collect();
        let files = self.near_tables(chain, &names);
        let mut result = Ok(());
        for ((volume, held), file) in mine.into_iter().zip(files) {
            if let Some(file) = file.filter(|_| result.is_ok()) {
                result = self.fill_from_near_table(chain, volume.0, volume.1, &file).map(drop);
            }
            drop(held);
            self.end_turn(chain.volume_key(volume.0, volume.1));
        }
        result
    }

    /// Keeps what the table of a volume tells, as if the volume had had its first pass. Damage
    /// elsewhere in the volume then shows when those bytes are read, by their chunk's hash.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub(super) fn fill_from_table(
        &self,
        chain: &Chain,
        position: u32,
        number: u32,
    ) -> Result<Table, Error> {
        match self.near_tables(chain, &[(position, number)]).pop().flatten() {
            Some(file) => self.fill_from_near_table(chain, position, number, &file),
            None => Ok(Table::Missing),
        }
    }

    fn fill_from_near_table(
        &self,
        chain: &Chain,
        position: u32,
        number: u32,
        file: &Arc<AtHand>,
    ) -> Result<Table, Error> {
        let Ok(manifest) = self.manifest(chain, position) else { return Ok(Table::Missing) };
        let Some(described) = manifest.volume(number) else { return Ok(Table::Missing) };
        let Some((toc, head)) = self.table_in(chain, position, &described, file) else {
            return Ok(Table::Missing);
        };
        let key = chain.volume_key(position, number);
        let taken = self.take_table(chain, (position, number), &manifest, toc, head)?;
        if taken == Table::Unfit {
            self.without_table.lock().insert(key);
        }
        Ok(taken)
    }

    fn take_table(
        &self,
        chain: &Chain,
        (position, number): (u32, u32),
        manifest: &Manifest,
        toc: Toc,
        head: Vec<u8>,
    ) -> Result<Table, Error> {
        let Some(described) = manifest.volume(number) else { return Ok(Table::Missing) };
        let mut proof = Proof::new(self, chain, position, number, manifest)?;
        let mut parts = PackedParts::default();
        let mut goes_on = false;
        for row in toc.rows() {
            let Some(version) = proof.meet(&row.path, row.entry.as_ref())? else {
                return Ok(Table::Unfit);
            };
            // Only the last path can go on in the next volume.
            if goes_on {
                return Ok(Table::Unfit);
            }
            if row.entry.is_some() {
                goes_on = !row.part.is_last;
                parts.push(version, &row.part);
            }
        }
        // A file that seems to end where it does not would be shown too short.
        if goes_on != described.last_piece.is_some() {
            return Ok(Table::Unfit);
        }
        // A pass over the volume finds out who is wrong.
        if proof.finish()?.is_some() {
            return Ok(Table::Unfit);
        }
        let seek_index = seek_index(&toc, head);
        let points: Vec<_> =
            toc.frames.into_iter().map(|(plain, state)| SeekPoint { plain, state }).collect();
        let key = chain.volume_key(position, number);
        self.record(chain, position, |rows| rows.save_volume(key, (&seek_index, &points), &parts))?;
        Ok(Table::Taken)
    }
}

/// What has become of the table of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// There is none, or it cannot be read.
    Missing,
    /// It does not fit the rows of the set, or its manifest: a pass over the volume finds out who
    /// is wrong.
    Unfit,
    /// What it tells is in the catalog.
    Taken,
}

fn seek_index(toc: &Toc, head: Vec<u8>) -> SeekIndex {
    SeekIndex {
        frames: toc.frames.iter().map(|(plain, _)| *plain).collect(),
        plain_length: toc.plain_length,
        stored_length: toc.stored.length,
        chunks: toc.stored.chunks.clone(),
        head,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        Files, Item, PathState, World, make_table, make_table_behind, path, session, stored_frames,
        time,
    };
    use super::*;
    use crate::catalog::{VersionId, VersionKind};
    use crate::codec::Options;
    use crate::format::{Part, StoredFrames, TocWriter};
    use crate::volume::VolumeReader;
    use PathState::{Delta, Directory, File, Gone};

    /// Literal "say: ", then 5 bytes from offset 6 of the basis, then the end.
    const DELTA: &[u8] = b"rs\x026\x05say: \x45\x06\x05\x00";

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    /// A full set of two volumes, across which `d/big` lies, and an increment.
    fn files(with_tables: bool) -> Arc<Files> {
        let files = Arc::new(Files::default());
        let first: &[Item] = &[
            (".", Directory),
            ("a", File(noise(3000, 1))),
            ("b", File(Vec::new())),
            ("d", Directory),
            ("d/big", File(noise(400_000, 2))),
        ];
        files.write(
            0,
            &[first, &[("d/big", File(noise(300_000, 3))), ("e", File(noise(200_000, 4)))]],
            with_tables,
        );
        files.write(
            1,
            &[&[
                (".", Directory),
                ("a", Delta(DELTA.to_vec())),
                ("b", Gone),
                ("f", File(noise(9, 5))),
            ]],
            with_tables,
        );
        files
    }

    /// What is known of a version: its path, its size, its parts.
    type Known = (String, Option<u64>, Vec<(u32, Part)>);

    /// Returns all that is known of all versions of the two sets.
    fn all(world: &World, chain: &Arc<Chain>) -> Vec<Known> {
        let mut all = Vec::new();
        for position in 0..2 {
            for number in world.sets.versions_of(chain, position).unwrap() {
                let id = VersionId::from_parts(chain.number(), number);
                let version = world.sets.version(id).unwrap();
                let size = match version.kind {
                    VersionKind::Present { size, .. } => size,
                    VersionKind::Deleted => None,
                };
                all.push((
                    world.sets.path(&version).unwrap().to_string(),
                    size,
                    world.sets.parts(id).unwrap(),
                ));
            }
        }
        all
    }

    #[test]
    fn a_table_tells_what_a_pass_does() {
        let (with, without) = (files(true), files(false));
        let [by_table, by_pass] = [&with, &without].map(|files| {
            let world = World::plain(files);
            let chain = world.chain();
            assert_eq!(world.sets.fill(&chain).unwrap(), 2);
            world.storage.take_calls();
            (0..2).for_each(|position| world.fill_volumes(&chain, position));
            assert!(world.said.0.lock().is_empty());
            (all(&world, &chain), world.take_reads("difftar"))
        });
        assert_eq!(by_table.0, by_pass.0);
        let size = |name: &str| by_table.0.iter().rfind(|(path, ..)| path == name).unwrap().1;
        assert_eq!(
            [size("a"), size("e"), size("f"), size("b")],
            [Some(10), Some(200_000), Some(9), None]
        );
        // One look at the end of each of the three volumes; a pass reads all of it once.
        assert_eq!(by_table.1.0, 3);
        assert!(by_table.1.1 <= 3 * (65536 + 512), "{} bytes", by_table.1.1);
        let is_volume = |(name, _): &(&String, &Vec<u8>)| name.contains("difftar");
        let stored = without.0.lock();
        let stored: usize = stored.iter().filter(is_volume).map(|(_, bytes)| bytes.len()).sum();
        let (requests, bytes) = by_pass.1;
        assert_eq!(requests, 6, "a look for the table, and one stream");
        assert!((stored..=stored + 3 * (65536 + 512)).contains(&bytes), "{bytes} of {stored}");
    }

    #[test]
    fn what_is_read_by_a_table_is_checked_by_its_chunks() {
        let files = files(true);
        let world = World::plain(&files);
        let chain = world.chain();
        world.sets.fill(&chain).unwrap();
        world.fill_volumes(&chain, 0);
        let reader = VolumeReader::new(world.codec.clone(), world.sets.seek_indexes(), 0);
        let source = world.sets.volume(&chain, 0, 2).unwrap();
        let extents =
            world.sets.snapshot(&chain, 0).unwrap().find(&world.sets, &path("e")).unwrap().unwrap();
        let part = world.sets.parts(extents.id).unwrap().remove(0).1;
        let Some(crate::format::Extent::Stored { offset, .. }) = part.extents.iter().next() else {
            panic!()
        };
        world.storage.take_calls();
        let mut bytes = vec![0; 5000];
        reader.read(&source, offset + 150_000, &mut bytes).unwrap();
        assert_eq!(bytes, noise(200_000, 4)[150_000..155_000]);
        assert!(world.take_reads("difftar").1 <= 3 * 65536);
        // The table is sound, the bytes before it are not.
        files.change("vol2", |bytes| bytes[offset as usize + 100_000] ^= 1);
        let reader = VolumeReader::new(world.codec.clone(), world.sets.seek_indexes(), 0);
        let error = reader.read(&source, offset + 100_000, &mut bytes).unwrap_err().to_string();
        assert!(error.contains("hash"), "{error}");
        // What the table covers ends where it begins.
        let mut last = [0; 1];
        let seek_index = world.sets.seek_indexes().seek_index(source.key).unwrap().unwrap();
        reader.read(&source, seek_index.plain_length - 1, &mut last).unwrap();
        assert!(reader.read(&source, seek_index.plain_length, &mut last).is_err());
    }

    /// Fills the increment with another table than its own; tells whether that was taken.
    fn is_taken(make: impl Fn(&[u8]) -> Vec<u8>) -> bool {
        let (files, part) = (files(true), format!("to.{}.vol1", time(1)));
        let (mut tar, mut hash) = (Vec::new(), String::new());
        self::files(false).change(&part, |bytes| tar = bytes.clone());
        files.replace_table(&part, &make(&tar));
        // The manifest has to tell the new hash, or a pass would fail.
        files.change(&part, |bytes| hash = sha1_hex(bytes));
        files.change(&format!("to.{}.manifest", time(1)), |bytes| {
            let at = bytes.windows(5).position(|word| word == b"SHA1 ").unwrap() + 5;
            bytes[at..at + 40].copy_from_slice(hash.as_bytes());
        });
        let world = World::plain(&files);
        let chain = world.chain();
        world.sets.fill(&chain).unwrap();
        world.storage.take_calls();
        (0..2).for_each(|position| world.fill_volumes(&chain, position));
        let expected = World::plain(&self::files(false));
        let expected_chain = expected.chain();
        expected.sets.fill(&expected_chain).unwrap();
        (0..2).for_each(|position| expected.fill_volumes(&expected_chain, position));
        assert_eq!(all(&world, &chain), all(&expected, &expected_chain));
        assert_eq!(world.said.0.lock()[..], [""; 0]);
        // One look for the table; a pass reads all of it besides.
        world.take_reads(&part).0 == 1
    }

    fn sha1_hex(bytes: &[u8]) -> String {
        use sha1::Digest;
        sha1::Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_table_that_does_not_fit_is_ignored() {
        assert!(is_taken(|tar| make_table(tar, session(1), 1, false)));
        assert!(!is_taken(|tar| make_table(tar, session(0), 1, false)), "of another session");
        assert!(!is_taken(|tar| make_table(tar, session(1), 2, false)), "of another volume");
        assert!(
            !is_taken(|tar| make_table(tar, session(1), 1, true)),
            "its last file goes on, the manifest says no"
        );
        assert!(!is_taken(|_| b"no table at all".to_vec()));
        assert!(!is_taken(|tar| make_table(tar, session(1), 1, false)[..100].to_vec()), "cut");
        let with = |frames: &[(u64, Vec<u8>)], name: &str, tar: &[u8]| {
            let mut writer = TocWriter::new();
            writer.push(&path(name), None, &Part::default());
            writer.finish(session(1), 1, 1 << 30, frames, &stored_frames(tar))
        };
        let frames: Vec<_> = (0..20u64)
            .map(|number| (number << 26, vec![1, 1]))
            .take_while(|(at, _)| *at < 1 << 30)
            .collect();
        assert!(
            !is_taken(|tar| with(&frames, "unknown", tar)),
            "of a path that the set does not have"
        );
        assert!(
            !is_taken(|tar| with(&[(0, vec![1, 1])], "b", tar)),
            "with a frame that does not fit into memory"
        );
        let behind = |tar: &[u8], stored: &StoredFrames| {
            make_table_behind(stored, tar, session(1), 1, false)
        };
        for length in [1, 64, 1 << 20] {
            let longer = |tar: &[u8]| stored_frames(&[tar, &vec![0; length]].concat());
            assert!(!is_taken(|tar| behind(tar, &longer(tar))), "of a file longer by {length}");
        }
        for at in [0, 19, 20, 27, 28, 91] {
            let forged = |tar: &[u8]| {
                let mut stored = stored_frames(tar);
                stored.sha1[at] ^= 0x80;
                stored
            };
            assert!(!is_taken(|tar| behind(tar, &forged(tar))), "with another state at {at}");
        }
    }

    /// Returns the table of a set's first volume.
    fn table(world: &World, chain: &Chain, position: u32) -> Option<Toc> {
        let manifest = world.sets.manifest(chain, position).unwrap();
        let file = world.sets.near_tables(chain, &[(position, 1)]).pop().unwrap()?;
        let found = world.sets.table_in(chain, position, &manifest.volume(1).unwrap(), &file);
        found.map(|(toc, _)| toc)
    }

    /// The same session, number and paths, another collection.
    #[test]
    fn the_table_of_an_exchanged_volume_is_ignored() {
        let others = Files::default();
        others.write(
            1,
            &[&[
                (".", Directory),
                ("a", Delta(DELTA.to_vec())),
                ("b", Gone),
                ("f", File(noise(9, 6))),
            ]],
            true,
        );
        let part = format!("to.{}.vol1", time(1));
        let files = files(true);
        let world = World::plain(&files);
        let chain = world.chain();
        assert!(table(&world, &chain, 1).is_some());
        others.change(&part, |other| files.change(&part, |bytes| bytes.clone_from(other)));
        assert!(table(&world, &chain, 1).is_none());
    }

    #[test]
    fn a_demanded_signature_needs_the_whole_volume() {
        let files = files(true);
        let world = World::new(
            &files,
            None,
            Options { sign_key: Some("01234567".into()), ..Options::default() },
        );
        let chain = world.chain();
        assert!(world.sets.near_tables(&chain, &[(0, 1)])[0].is_none());
        assert_eq!(world.take_reads("difftar"), (0, 0));
    }

    #[test]
    fn without_signature_file_the_tables_tell_the_names() {
        let complete = files(true);
        let expected = World::plain(&complete);
        let expected_chain = expected.chain();
        expected.sets.fill(&expected_chain).unwrap();
        let files = files(true);
        files.0.lock().retain(|name, _| !name.contains("sigtar"));
        let world = World::plain(&files);
        let chain = world.chain();
        assert_eq!(world.sets.fill(&chain).unwrap(), 2);
        let (count, bytes) = world.take_reads("difftar");
        assert_eq!(count, 3, "a look at the end of each volume");
        assert!(bytes <= 3 * (65536 + 512));
        assert_eq!(all(&world, &chain), all(&expected, &expected_chain));
        let snapshots = [(&world, &chain), (&expected, &expected_chain)].map(|(world, chain)| {
            let walk = world.sets.snapshot(chain, 1).unwrap().walk(&world.sets, &path("")).unwrap();
            walk.map(|item| item.map(|(path, version)| (path, version.entry().cloned())).unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(snapshots[0], snapshots[1]);
        assert_eq!(snapshots[0].len(), 6);
    }
}
