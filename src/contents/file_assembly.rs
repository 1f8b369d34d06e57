//! [`FileAssembly`]: one file on its way through the sets, newest first.

use super::pending_ranges::{Full, PendingRanges, Range, Ranges};
use super::target::Incoming;
use crate::catalog::VersionId;
use crate::format::{Member, MemberKind};
use crate::model::Entry;
use crate::rsync::{Command, DeltaParser};
use crate::sets;
use std::io;
use std::sync::Arc;

/// A file that is being put together.
pub struct FileAssembly<F> {
    /// The version that was asked for.
    pub goal: VersionId,
    /// The version whose members come in: the goal, or one below it.
    pub version: VersionId,
    /// Metadata of the goal.
    pub entry: Entry,
    /// Where the bytes go.
    pub file: F,
    /// Length of the goal's content in bytes; known when the goal has come in.
    pub size: u64,
    /// Why it cannot be completed.
    pub failure: Option<Failure>,
    wanted: PendingRanges,
    delta: Option<Delta>,
    /// The number of the piece that must come next; 0 if the member is not split.
    next_piece: u64,
}

/// Why a file cannot be completed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The target failed.
    #[error("{0}")]
    Target(io::Error),
    /// A volume, or a manifest, that is needed for it cannot be read.
    #[error(transparent)]
    Stored(Arc<sets::Error>),
    /// What the volumes hold of it does not make up a file.
    #[error("{0}")]
    Content(String),
}

impl Failure {
    /// Returns whether nothing stored has proved to be damaged or missing.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Target(_) => true,
            Self::Stored(cause) => cause.is_passing(),
            Self::Content(_) => false,
        }
    }
}

#[derive(Default)]
struct Delta {
    parser: DeltaParser,
    /// What is wanted of the version below.
    below: Ranges,
}

/// What remains to be done for a file when a version has come in.
pub enum Outcome<F> {
    /// It is complete.
    Complete(FileAssembly<F>),
    /// The version below has the rest.
    Waiting(FileAssembly<F>),
    /// It cannot be completed.
    Failed(FileAssembly<F>),
}

impl<F: Incoming> FileAssembly<F> {
    /// Begins with the first member of the goal.
    pub fn new(goal: VersionId, entry: Entry, file: F) -> Self {
        let wanted = PendingRanges::everything();
        Self {
            goal,
            version: goal,
            entry,
            file,
            size: 0,
            failure: None,
            wanted,
            delta: None,
            next_piece: 0,
        }
    }

    /// A version begins, with its first member.
    pub fn begin(&mut self, version: VersionId, member: &Member) {
        self.version = version;
        self.delta = (member.kind == MemberKind::Delta).then(Delta::default);
        self.next_piece = member.piece.map_or(0, |piece| piece.saturating_add(1));
    }

    /// A further piece of the version begins.
    pub fn go_on(&mut self, member: &Member) {
        match member.piece {
            Some(piece) if piece == self.next_piece => self.next_piece = piece.saturating_add(1),
            _ => self.fail(format!("piece {} of it is missing", self.next_piece)),
        }
    }

    /// Returns whether a member is the next piece of the version that comes in.
    pub fn is_continued_by(&self, member: &Member) -> bool {
        self.next_piece > 0 && member.piece.is_some()
    }

    /// Takes the next bytes of the member.
    pub fn data(&mut self, bytes: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        let Self { wanted, file, delta, .. } = self;
        let result = match delta {
            None => write(wanted, file, bytes),
            Some(Delta { parser, below }) => {
                parser.feed(bytes, |command: Command<'_>| match command {
                    Command::Literal { bytes, .. } => write(wanted, file, bytes),
                    Command::Copy { offset, length } => {
                        wanted.advance(length, |at, length, target| {
                            let offset = offset
                                .checked_add(at)
                                .filter(|offset| offset.checked_add(length).is_some());
                            let start = offset.ok_or_else(|| {
                                Failure::Content("its delta copies beyond any file".into())
                            })?;
                            Ok(below.push(Range { start, length, target })?)
                        })
                    }
                })
            }
        };
        if let Err(failure) = result {
            self.failure.get_or_insert(failure);
        }
    }

    /// The version has come in whole.
    pub fn end(mut self) -> Outcome<F> {
        let mut below = Ranges::default();
        if let Some(delta) = self.delta.take() {
            below = delta.below;
            if let Err(cause) = delta.parser.finish() {
                self.fail(format!("its delta is damaged: {cause}"));
            }
        }
        if !self.wanted.is_satisfied() {
            self.fail(format!(
                "a delta copies beyond the {} bytes of the file below",
                self.wanted.position()
            ));
        }
        if self.failure.is_some() {
            return Outcome::Failed(self);
        }
        if self.version == self.goal {
            self.size = self.wanted.position();
        }
        match PendingRanges::ranges(below) {
            Ok(wanted) => self.wanted = wanted,
            Err(cause) => {
                self.fail(cause.to_string());
                return Outcome::Failed(self);
            }
        }
        if self.wanted.is_empty() { Outcome::Complete(self) } else { Outcome::Waiting(self) }
    }

    /// Gives up, for the first reason given.
    pub fn fail(&mut self, cause: String) {
        self.failure.get_or_insert(Failure::Content(cause));
    }
}

impl From<crate::rsync::Error> for Failure {
    fn from(error: crate::rsync::Error) -> Self {
        Self::Content(format!("its delta is damaged: {error}"))
    }
}

impl From<Full> for Failure {
    fn from(error: Full) -> Self {
        Self::Content(error.to_string())
    }
}

fn write(
    wanted: &mut PendingRanges,
    file: &mut impl Incoming,
    bytes: &[u8],
) -> Result<(), Failure> {
    wanted.advance(bytes.len() as u64, |at, length, target| {
        file.write_at(&bytes[at as usize..(at + length) as usize], target).map_err(Failure::Target)
    })
}
