//! From a delta chain to one extent map, with pieces joined; nothing in between is written out.

use super::{Contents, Error, ExtentMap, Piece};
use crate::catalog::{Chain, Version};
use crate::format::{Extent, Part};
use crate::format::{Extents, TooMany};
use crate::rsync::DeltaParser;
use crate::volume::append_commands;

/// Bytes of a delta that are read at once while its commands are told apart.
const STEP: u64 = 256 * 1024;

impl Contents {
    /// Returns all that a version's own set holds of it, with pieces joined and the commands of a
    /// delta told apart.
    pub(super) fn own_part(&self, chain: &Chain, version: &Version) -> Result<Part, Error> {
        // What the volumes have told may go between two questions, when the catalog starts over.
        self.sets().catalog().undisturbed(|| self.find_own_part(chain, version))
    }

    /// Returns the same, if the catalog knows it.
    fn known_part(&self, version: &Version) -> Result<Option<Part>, Error> {
        let known = self.sets().parts(version.id)?.into_iter().map(|(_, part)| part);
        Ok({ known }.find(Part::is_whole_version))
    }

    fn find_own_part(&self, chain: &Chain, version: &Version) -> Result<Part, Error> {
        if let Some(part) = self.known_part(version)? {
            return Ok(part);
        }
        let failed = |cause: String| Error::Content { path: self.path_for_message(version), cause };
        let path = self.sets().path(version)?;
        let manifest = self.sets().manifest(chain, version.position)?;
        let volumes: Vec<_> =
            manifest.volumes_with(&path).map(|volume| (version.position, volume.number)).collect();
        self.sets().fill_volumes(chain, &volumes)?;
        let mut parts = self.sets().parts(version.id)?;
        if let Some(whole) = parts.iter().position(|(_, part)| part.is_whole_version()) {
            return Ok(parts.swap_remove(whole).1);
        }
        let mut joined = join(parts).map_err(failed)?;
        if !joined.is_content {
            joined.extents = self.commands(chain, version, &joined.extents)?;
            joined.is_content = true;
        }
        self.sets().save_joined(version.id, &joined)?;
        Ok(joined)
    }

    /// Tells the commands of a delta apart whose bytes lie in `stored`, across volumes.
    fn commands(
        &self,
        chain: &Chain,
        version: &Version,
        stored: &Extents,
    ) -> Result<Extents, Error> {
        let failed = |cause: String| Error::Content { path: self.path_for_message(version), cause };
        let mut parser = DeltaParser::default();
        let mut content = Extents::default();
        let mut buffer = Vec::new();
        for extent in stored.iter() {
            let Extent::Stored { volume, mut offset, mut length } = extent else { continue };
            while length > 0 {
                let step = length.min(STEP);
                buffer.resize(step as usize, 0);
                let piece = Piece { position: version.position, volume, offset, length: step };
                self.read_piece(chain, &piece, &mut buffer)?;
                append_commands(&mut parser, &mut content, &buffer, |at| (volume, offset + at))
                    .map_err(|cause| failed(cause.to_string()))?;
                (offset, length) = (offset + step, length - step);
            }
        }
        parser.finish().map_err(|error| failed(error.to_string()))?;
        Ok(content)
    }

    /// Has the catalog learn at once what the tables of volumes hold of a version, and of those below
    /// it: so many that are not known yet, as their deltas likely apply to each other. Returns the
    /// position of the lowest.
    fn look_ahead(&self, chain: &Chain, version: &Version, most: usize) -> Result<u32, Error> {
        let (mut unknown, mut next) = (Vec::new(), Some(version.clone()));
        while let Some(version) = next.filter(Version::is_file) {
            match self.known_part(&version)? {
                Some(part) if !part.is_delta => break,
                Some(_) => {}
                None => unknown.push(version.position),
            }
            if unknown.len() >= most {
                break;
            }
            next = self.sets().version_before(&version)?;
        }
        self.sets().fetch_manifests(chain, unknown.iter().copied());
        let path = self.sets().path(version)?;
        let mut volumes = Vec::new();
        for &position in &unknown {
            // What is wrong with it matters only if it is needed.
            if let Ok(manifest) = self.sets().manifest(chain, position) {
                volumes
                    .extend(manifest.volumes_with(&path).map(|volume| (position, volume.number)));
            }
        }
        self.sets().fill_tables(chain, &volumes)?;
        Ok(unknown.last().copied().unwrap_or(0))
    }

    /// Compiles the map of a version, going up from the whole member below it.
    pub(super) fn compile(&self, chain: &Chain, version: &Version) -> Result<ExtentMap, Error> {
        let mut layers = Vec::new();
        let mut below = version.clone();
        let (mut looked_at, mut ahead) = (u32::MAX, self.sets().abilities().transfers);
        loop {
            let part = match self.known_part(&below)? {
                Some(part) => part,
                None => {
                    if below.position < looked_at {
                        looked_at = self.look_ahead(chain, &below, ahead)?;
                        ahead = ahead.saturating_mul(2);
                    }
                    self.own_part(chain, &below)?
                }
            };
            let is_delta = part.is_delta;
            layers.push((below.position, part));
            if !is_delta {
                break;
            }
            let failed = |cause: &str| Error::Content {
                path: self.path_for_message(version),
                cause: cause.into(),
            };
            let before = self.sets().version_before(&below)?;
            below = before
                .filter(Version::is_file)
                .ok_or_else(|| failed("there is no file that its delta applies to"))?;
        }
        let mut map = ExtentMap::default();
        for (position, part) in layers.into_iter().rev() {
            map = apply(&map, position, &part).map_err(|cause| Error::Content {
                path: self.path_for_message(version),
                cause: cause.into(),
            })?;
        }
        Ok(map)
    }
}

/// Joins the parts of one version, by volume.
fn join(parts: Vec<(u32, Part)>) -> Result<Part, String> {
    let mut joined: Option<Part> = None;
    for (_, part) in parts {
        match &mut joined {
            None if part.pieces.start > 1 => {
                return Err(format!("piece 1 to {} of it are missing", part.pieces.start - 1));
            }
            None => joined = Some(part),
            // A second copy of what is there already: the first counts.
            Some(joined) if joined.is_last || part.pieces.end <= joined.pieces.end => {}
            Some(joined) if part.pieces.start != joined.pieces.end => {
                return Err(format!("piece {} of it is missing", joined.pieces.end));
            }
            Some(joined) => {
                joined.pieces.end = part.pieces.end;
                joined.is_last = part.is_last;
                let mut extents = part.extents.iter();
                extents
                    .try_for_each(|extent| joined.extents.push(extent))
                    .map_err(|cause| cause.to_string())?;
            }
        }
    }
    match joined {
        None => Err("no volume of its set holds it".into()),
        Some(part) if !part.is_last => {
            Err(format!("its pieces from {} on are missing", part.pieces.end))
        }
        Some(part) => Ok(part),
    }
}

/// Lays one part over the map of the version below; says what is wrong if that makes no map.
fn apply(below: &ExtentMap, position: u32, part: &Part) -> Result<ExtentMap, &'static str> {
    let too_many = |TooMany| "it is made of more pieces than can be kept in memory";
    let mut map = ExtentMap::default();
    for extent in part.extents.iter() {
        match extent {
            Extent::Stored { volume, offset, length } => {
                map.push(Piece { position, volume, offset, length }).map_err(too_many)?
            }
            Extent::Copied { offset, length } => {
                if offset.checked_add(length).is_none_or(|end| end > below.size()) {
                    return Err("its delta copies beyond the file below");
                }
                below
                    .slice(offset, length)
                    .try_for_each(|piece| map.push(piece))
                    .map_err(too_many)?;
            }
        }
    }
    Ok(map)
}
