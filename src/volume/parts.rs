//! [`PartBuilder`]: what one volume holds of one path, put together from its members as they are
//! read or written.

use crate::format::{Extent, Extents, MemberKind, Part, TooMany};
use crate::rsync::{Command, DeltaParser};
use std::ops::Range;

/// Offsets and lengths from here on are taken for forged.
const LIMIT: u64 = 1 << 62;

/// Puts the [`Part`] of one path together from the members that one volume has of it. Paths that
/// are gone have none.
///
/// ```
/// use dupfs::format::MemberKind::Whole;
/// use dupfs::volume::PartBuilder;
///
/// // Two pieces of 65536 and 1000 bytes, whose data lies at 512 and at 66560 in the plain tar of volume 3.
/// let mut builder = PartBuilder::new(3, Whole, Some(1), 512..66048);
/// assert!(builder.go_on(Whole, Some(2), 66560..67560));
/// let part = builder.finish(true)?;
/// assert_eq!((part.size(), part.pieces), (Some(66536), 1..3));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug)]
pub struct PartBuilder {
    volume: u32,
    part: Part,
    /// Reads the commands of a delta that began in this volume, with the content they have told so
    /// far; gone if there is no room for that.
    delta: Option<(DeltaParser, Extents)>,
    /// Where the data of the current member goes on in the plain tar.
    offset: u64,
    broken: Option<String>,
    /// The current member is one too many for this path.
    ignored: bool,
}

impl PartBuilder {
    /// Begins with the first member of a path in the volume of a number: its kind, the number of
    /// its piece if it is split, and where its data lies in the volume's plain tar.
    pub fn new(volume: u32, kind: MemberKind, piece: Option<u64>, data: Range<u64>) -> Self {
        let start = piece.unwrap_or(0);
        let is_delta = kind == MemberKind::Delta;
        let mut builder = Self {
            volume,
            part: Part { pieces: start..start.saturating_add(1), is_delta, ..Part::default() },
            delta: (is_delta && start <= 1).then(Default::default),
            offset: 0,
            broken: None,
            ignored: false,
        };
        builder.take_in(data);
        builder
    }

    /// Takes the next member of the same path; tells whether it counts: of several members for one
    /// path the first does, with all its pieces.
    pub fn go_on(&mut self, kind: MemberKind, piece: Option<u64>, data: Range<u64>) -> bool {
        let piece = piece.filter(|_| self.part.pieces.start > 0 && kind != MemberKind::Deleted);
        self.ignored = piece.is_none();
        if let Some(piece) = piece {
            if piece != self.part.pieces.end {
                self.broken = Some(format!("piece {} of it is missing", self.part.pieces.end));
            }
            self.part.pieces.end = piece.saturating_add(1);
            self.take_in(data);
        }
        !self.ignored
    }

    /// Takes the next bytes of the current member's data. Only those of a delta matter, so a writer
    /// need not tell others.
    pub fn data(&mut self, bytes: &[u8]) {
        if self.ignored {
            return;
        }
        let (start, volume) = (self.offset, self.volume);
        self.offset += bytes.len() as u64;
        let Some((parser, content)) = &mut self.delta else { return };
        match append_commands(parser, content, bytes, |at| (volume, start + at)) {
            Ok(()) => {}
            // Told apart when the file is read, if there is room then.
            Err(Stop::TooMany(_)) => self.delta = None,
            Err(cause) => drop(self.broken.get_or_insert(format!("its delta is damaged: {cause}"))),
        }
    }

    /// Returns how many extents are held in memory.
    pub fn extents(&self) -> usize {
        self.part.extents.len() + self.delta.as_ref().map_or(0, |(_, content)| content.len())
    }

    /// Ends the path in this volume; `is_last` tells that no members of it follow in another one. A
    /// delta that begins and ends in this volume has become content, unless it has too many
    /// commands; any other remains a stretch of the delta.
    ///
    /// # Errors
    /// What is wrong with the members: a piece is missing, or their data is no delta.
    pub fn finish(self, is_last: bool) -> Result<Part, String> {
        let Self { mut part, delta, broken, .. } = self;
        if let Some(cause) = broken {
            return Err(cause);
        }
        part.is_last = is_last;
        part.is_content = !part.is_delta;
        if let Some((parser, content)) = delta.filter(|_| is_last) {
            parser.finish().map_err(|cause| format!("its delta is damaged: {cause}"))?;
            (part.extents, part.is_content) = (content, true);
        }
        Ok(part)
    }

    fn take_in(&mut self, data: Range<u64>) {
        self.offset = data.start;
        let length = data.end.saturating_sub(data.start);
        if let Err(cause) = self.part.extents.push(Extent::Stored {
            volume: self.volume,
            offset: data.start,
            length,
        }) {
            self.broken.get_or_insert(cause.to_string());
        }
    }
}

/// Feeds bytes of a delta to its parser and appends the content that they tell. `place` gives
/// volume and offset in its plain tar for an offset within `bytes`; a literal does not cross a gap
/// there.
///
/// # Errors
/// What is wrong with the delta.
pub fn append_commands(
    parser: &mut DeltaParser,
    content: &mut Extents,
    bytes: &[u8],
    place: impl Fn(u64) -> (u32, u64),
) -> Result<(), Stop> {
    let base = parser.position();
    let mut sink = |command: Command<'_>| {
        match command {
            Command::Literal { offset, bytes } => {
                let (volume, offset) = place(offset - base);
                content.push(Extent::Stored { volume, offset, length: bytes.len() as u64 })?;
            }
            Command::Copy { offset, length } if offset < LIMIT && length < LIMIT => {
                content.push(Extent::Copied { offset, length })?;
            }
            Command::Copy { .. } => {
                return Err(Stop::Delta("a copy lies beyond any file".to_string()));
            }
        }
        Ok(())
    };
    parser.feed(bytes, &mut sink)
}

/// Why telling commands apart was stopped.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// It is no delta.
    #[error("{0}")]
    Delta(String),
    /// It has more commands than there is room for.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

impl From<crate::rsync::Error> for Stop {
    fn from(error: crate::rsync::Error) -> Self {
        Self::Delta(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemberKind::{Deleted, Delta, Whole};

    /// Literal "say: ", then 5 bytes from offset 6 of the basis, then the end.
    const DELTA: &[u8] = b"rs\x026\x05say: \x45\x06\x05\x00";

    fn stored(offset: u64, length: u64) -> Extent {
        Extent::Stored { volume: 3, offset, length }
    }

    #[test]
    fn a_delta_in_pieces_becomes_content() {
        for cut in 0..DELTA.len() {
            let mut builder = PartBuilder::new(3, Delta, Some(1), 1000..1000 + cut as u64);
            builder.data(&DELTA[..cut]);
            assert!(builder.go_on(Delta, Some(2), 5000..5000 + (DELTA.len() - cut) as u64));
            builder.data(&DELTA[cut..]);
            let part = builder.finish(true).unwrap();
            assert_eq!(
                (part.size(), part.pieces.clone(), part.is_delta),
                (Some(10), 1..3, true),
                "cut at {cut}"
            );
            assert_eq!(
                part.extents.iter().last(),
                Some(Extent::Copied { offset: 6, length: 5 }),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_delta_that_is_not_all_here_stays_a_stretch_of_it() {
        let mut begun = PartBuilder::new(3, Delta, Some(1), 512..520);
        begun.data(&DELTA[..8]);
        let part = begun.finish(false).unwrap();
        assert_eq!(
            (part.is_content, part.is_last, part.extents),
            (false, false, [stored(512, 8)].into_iter().collect())
        );
        let mut ended = PartBuilder::new(3, Delta, Some(2), 512..519);
        ended.data(&DELTA[8..]);
        let part = ended.finish(true).unwrap();
        assert_eq!(
            (part.is_content, part.is_last, part.extents),
            (false, true, [stored(512, 7)].into_iter().collect())
        );
    }

    #[test]
    fn of_several_members_the_first_counts() {
        let mut builder = PartBuilder::new(3, Whole, None, 512..612);
        assert!(!builder.go_on(Whole, None, 1024..1025));
        assert!(!builder.go_on(Whole, Some(1), 2048..2049));
        assert!(builder.finish(true).unwrap().extents.iter().eq([stored(512, 100)]));
        let mut builder = PartBuilder::new(3, Whole, Some(1), 512..612);
        assert!(!builder.go_on(Deleted, Some(2), 1024..1024));
        assert!(!builder.go_on(Whole, None, 2048..2049));
        assert!(builder.go_on(Whole, Some(2), 4096..4097));
        assert!(
            builder.finish(true).unwrap().extents.iter().eq([stored(512, 100), stored(4096, 1)])
        );
    }

    #[test]
    fn damage_is_named() {
        let mut gap = PartBuilder::new(3, Whole, Some(1), 0..9);
        assert!(gap.go_on(Whole, Some(3), 20..29));
        assert_eq!(gap.finish(true).unwrap_err(), "piece 2 of it is missing");
        let mut bad = PartBuilder::new(3, Delta, None, 0..9);
        bad.data(b"no delta!");
        assert!(bad.finish(true).unwrap_err().starts_with("its delta is damaged: "));
        let mut cut = PartBuilder::new(3, Delta, None, 0..9);
        cut.data(&DELTA[..9]);
        assert!(cut.finish(true).unwrap_err().starts_with("its delta is damaged: "));
    }
}
