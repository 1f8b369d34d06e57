//! [`PendingRanges`]: the way down a delta chain, by which a restore meets each volume once.
//!
//! A small delta can copy the same bytes millions of times, and many files may wait for older sets
//! at once. So ranges are held in [`Ranges`]: the last some thousands as they are, the others in
//! sorted runs of some 6 bytes a range. Runs are in memory while all files together have few, and
//! in a temporary file without a name when they have many: that holds no content, only places.

use crate::format::{put, put_signed, take, take_signed};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Ranges that are held as they are.
const FRESH: usize = 1 << 15;
/// The same while a file waits for an older set.
const WAITING: usize = 1 << 10;
/// Bytes of runs that are held in memory, of all files together.
const IN_MEMORY: usize = 64 << 20;
/// Bytes of runs that the temporary file may have.
const IN_FILE: u64 = 8 << 30;
/// Bytes of a run that are read at once.
const WINDOW: usize = 8192;
/// The longest that one range is, encoded.
const LONGEST: usize = 30;

/// Why a range cannot be noted.
#[derive(Debug, thiserror::Error)]
pub enum Full {
    /// No backup needs so many.
    #[error("it is made of more pieces than can be kept")]
    TooMany,
    /// The temporary file fails.
    #[error("cannot keep its pieces in a temporary file: {0}")]
    Temporary(io::Error),
}

/// A range of a version's content that the target file still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Offset in the version's content.
    pub start: u64,
    /// Number of bytes.
    pub length: u64,
    /// Offset in the target file.
    pub target: u64,
}

impl Range {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

/// Any number of ranges.
#[derive(Debug, Default)]
pub struct Ranges {
    fresh: Vec<Range>,
    runs: Vec<Arc<Run>>,
}

impl Ranges {
    /// Adds a range, as part of the last one where both go on right behind it.
    ///
    /// # Errors
    /// [`Full`] when there is no room for it.
    pub fn push(&mut self, range: Range) -> Result<(), Full> {
        match self.fresh.last_mut() {
            Some(last)
                if last.end() == range.start
                    && last.target.checked_add(last.length) == Some(range.target) =>
            {
                last.length = last.length.saturating_add(range.length);
            }
            _ => {
                if self.fresh.len() == FRESH {
                    self.pack()?;
                    self.fresh.reserve(FRESH);
                }
                self.fresh.push(range);
            }
        }
        Ok(())
    }

    /// Makes a run of what is held as it is.
    fn pack(&mut self) -> Result<(), Full> {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_unstable_by_key(|range| range.start);
        self.runs.push(Arc::new(Run::new(&fresh)?));
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.runs.is_empty()
    }

    /// Returns them by start.
    fn sorted(mut self) -> Result<Sorted, Full> {
        self.fresh.sort_unstable_by_key(|range| range.start);
        let mut sorted = Sorted {
            fresh: self.fresh.into_iter().peekable(),
            runs: Vec::new(),
            heads: BinaryHeap::new(),
        };
        for run in self.runs {
            let mut reader = RunReader {
                run,
                at: 0,
                window: Vec::new(),
                used: 0,
                before: Range { start: 0, length: 0, target: 0 },
            };
            if let Some(head) = reader.next()? {
                sorted.heads.push(Reverse((head.start, sorted.runs.len())));
                sorted.runs.push((head, reader));
            }
        }
        Ok(sorted)
    }
}

/// Ranges by start, encoded each as the distance to the one before.
#[derive(Debug)]
enum Run {
    Memory(Vec<u8>),
    File { at: u64, length: u64 },
}

static MEMORY: AtomicUsize = AtomicUsize::new(0);
static FILE: OnceLock<File> = OnceLock::new();
static FILE_END: AtomicU64 = AtomicU64::new(0);

impl Run {
    fn new(ranges: &[Range]) -> Result<Self, Full> {
        let mut bytes = Vec::new();
        let (mut start, mut target) = (0, 0u64);
        for range in ranges {
            put(&mut bytes, range.start - start);
            put(&mut bytes, range.length);
            put_signed(&mut bytes, range.target.wrapping_sub(target) as i64);
            (start, target) = (range.start, range.target.wrapping_add(range.length));
        }
        bytes.shrink_to_fit();
        if MEMORY.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len() <= IN_MEMORY {
            return Ok(Self::Memory(bytes));
        }
        MEMORY.fetch_sub(bytes.len(), Ordering::Relaxed);
        Self::in_file(&bytes)
    }

    fn in_file(bytes: &[u8]) -> Result<Self, Full> {
        let file = match FILE.get() {
            Some(file) => file,
            None => {
                let file = tempfile::tempfile().map_err(Full::Temporary)?;
                FILE.get_or_init(|| file)
            }
        };
        let length = bytes.len() as u64;
        let at = FILE_END.fetch_add(length, Ordering::Relaxed);
        if at + length > IN_FILE {
            FILE_END.fetch_sub(length, Ordering::Relaxed);
            return Err(Full::TooMany);
        }
        file.write_all_at(bytes, at).map_err(Full::Temporary)?;
        Ok(Self::File { at, length })
    }

    /// Reads a window from `at` on; shorter at the end.
    fn window(&self, at: u64) -> Result<Vec<u8>, Full> {
        match self {
            Self::Memory(bytes) => {
                let rest = bytes.get(at as usize..).unwrap_or_default();
                Ok(rest[..rest.len().min(WINDOW)].to_vec())
            }
            Self::File { at: start, length } => {
                let mut window = vec![0; WINDOW.min(length.saturating_sub(at) as usize)];
                if let Some(file) = FILE.get() {
                    file.read_exact_at(&mut window, start + at).map_err(Full::Temporary)?;
                }
                Ok(window)
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Self::Memory(bytes) = self {
            MEMORY.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
    }
}

/// Decodes a run.
#[derive(Debug)]
struct RunReader {
    run: Arc<Run>,
    /// Where the window ends in the run.
    at: u64,
    window: Vec<u8>,
    used: usize,
    /// The range before, from which the distances are counted: its length is added to its target
    /// already.
    before: Range,
}

impl RunReader {
    fn next(&mut self) -> Result<Option<Range>, Full> {
        if self.window.len() - self.used < LONGEST {
            let more = self.run.window(self.at)?;
            self.at += more.len() as u64;
            self.window.drain(..self.used);
            self.used = 0;
            self.window.extend(more);
        }
        let mut rest = &self.window[self.used..];
        let mut range = || {
            let (start, length, distance) =
                (take(&mut rest)?, take(&mut rest)?, take_signed(&mut rest)?);
            Some(Range {
                start: self.before.start.wrapping_add(start),
                length,
                target: self.before.target.wrapping_add(distance as u64),
            })
        };
        let Some(range) = range() else { return Ok(None) };
        self.used = self.window.len() - rest.len();
        self.before = Range { target: range.target.wrapping_add(range.length), ..range };
        Ok(Some(range))
    }
}

/// Ranges as they come by start: the runs and the fresh ones, merged.
#[derive(Debug)]
struct Sorted {
    fresh: std::iter::Peekable<std::vec::IntoIter<Range>>,
    /// Runs, each with its first range.
    runs: Vec<(Range, RunReader)>,
    /// Where these start.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Sorted {
    /// Takes the next range that starts before `end`.
    fn next_before(&mut self, end: u64) -> Result<Option<Range>, Full> {
        let fresh = self.fresh.peek().map(|range| range.start);
        match self.heads.peek() {
            Some(&Reverse((start, run))) if fresh.is_none_or(|fresh| start < fresh) => {
                if start >= end {
                    return Ok(None);
                }
                self.heads.pop();
                let (head, reader) = &mut self.runs[run];
                let range = *head;
                if let Some(next) = reader.next()? {
                    *head = next;
                    self.heads.push(Reverse((next.start, run)));
                }
                Ok(Some(range))
            }
            _ => Ok(self.fresh.next_if(|range| range.start < end)),
        }
    }

    fn is_empty(&self) -> bool {
        self.fresh.len() == 0 && self.heads.is_empty()
    }
}

/// Which ranges of a version's content go where in the target file. The content itself comes along
/// once, in order, by [`PendingRanges::advance`]. Of the version asked for all is wanted; of each
/// one below, what the deltas above have copied.
#[derive(Debug)]
pub struct PendingRanges {
    /// Those not yet reached.
    ahead: Sorted,
    /// Those that the content has reached, and not yet passed.
    active: Ranges,
    position: u64,
    /// All of the content is wanted, however long it is.
    is_everything: bool,
}

impl PendingRanges {
    /// Wants everything, each byte at its own place.
    pub fn everything() -> Self {
        let ahead = Sorted {
            fresh: Vec::new().into_iter().peekable(),
            runs: Vec::new(),
            heads: BinaryHeap::new(),
        };
        Self { ahead, active: Ranges::default(), position: 0, is_everything: true }
    }

    /// Wants ranges in any order.
    ///
    /// # Errors
    /// An error when the temporary file cannot be read.
    pub fn ranges(mut ranges: Ranges) -> Result<Self, Full> {
        if ranges.fresh.len() > WAITING {
            ranges.pack()?;
        }
        Ok(Self {
            ahead: ranges.sorted()?,
            active: Ranges::default(),
            position: 0,
            is_everything: false,
        })
    }

    /// Returns whether nothing is wanted any more.
    pub fn is_empty(&self) -> bool {
        !self.is_everything && self.ahead.is_empty() && self.active.is_empty()
    }

    /// Returns how much of the content has come along, in bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next `length` bytes of the content, and tells each wanted part of them: offset
    /// within these bytes, length, offset in the target. Stops at the first error.
    ///
    /// # Errors
    /// What `tell` says; an error when there is no room for what is still wanted.
    pub fn advance<E: From<Full>>(
        &mut self,
        length: u64,
        mut tell: impl FnMut(u64, u64, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let (start, end) = (self.position, self.position.saturating_add(length));
        self.position = end;
        if self.is_everything {
            return if start < end { tell(0, end - start, start) } else { Ok(()) };
        }
        let mut still = Ranges::default();
        let mut reached = std::mem::take(&mut self.active).sorted()?;
        loop {
            let range = match reached.next_before(end)? {
                Some(range) => range,
                None => match self.ahead.next_before(end)? {
                    Some(range) => range,
                    None => break,
                },
            };
            let (from, to) = (range.start.max(start), range.end().min(end));
            if from < to {
                tell(from - start, to - from, range.target + (from - range.start))?;
            }
            if range.end() > end {
                still.push(range)?;
            }
        }
        self.active = still;
        Ok(())
    }

    /// Tells, at the end of the content, whether all that was wanted has come. Wanting everything
    /// is content with any end.
    pub fn is_satisfied(&self) -> bool {
        self.ahead.is_empty() && self.active.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(ranges: impl IntoIterator<Item = (u64, u64, u64)>) -> PendingRanges {
        let mut list = Ranges::default();
        ranges.into_iter().for_each(|(start, length, target)| {
            list.push(Range { start, length, target }).unwrap()
        });
        PendingRanges::ranges(list).unwrap()
    }

    proptest! {
        /// Bytes copied through `PendingRanges` equal bytes copied plainly, in whatever steps the
        /// content comes.
        #[test]
        fn equals_plain_copying(
            content in prop::collection::vec(any::<u8>(), 1..80),
            copies in prop::collection::vec((0usize..80, 1usize..40), 0..12),
            steps in prop::collection::vec(1usize..20, 1..80),
        ) {
            let copies: Vec<(usize, usize)> = copies.into_iter().filter(|(start, length)| start + length <= content.len()).collect();
            let plain: Vec<u8> = copies.iter().flat_map(|&(start, length)| content[start..start + length].to_vec()).collect();
            let mut target = 0;
            let ranges: Vec<_> = copies.iter().map(|&(start, length)| {
                target += length;
                (start as u64, length as u64, (target - length) as u64)
            }).collect();
            prop_assert_eq!(copied(&content, ranges, &steps, plain.len()), plain);
        }
    }

    /// Copies what is wanted of a content that comes in steps.
    fn copied(
        content: &[u8],
        ranges: Vec<(u64, u64, u64)>,
        steps: &[usize],
        length: usize,
    ) -> Vec<u8> {
        let (mut wanted, mut written, mut rest) = (wanted(ranges), vec![0; length], content);
        for step in steps.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*step).min(rest.len()));
            rest = later;
            let copy = |offset: u64, length: u64, target: u64| {
                let (offset, length, target) = (offset as usize, length as usize, target as usize);
                written[target..target + length].copy_from_slice(&now[offset..offset + length]);
                Ok::<(), Full>(())
            };
            wanted.advance(now.len() as u64, copy).unwrap();
        }
        assert!(wanted.is_satisfied() && wanted.is_empty());
        written
    }

    /// More ranges than are held as they are, all active at the same time, and as runs in memory
    /// and in the file.
    #[test]
    fn any_number_of_ranges_comes_back() {
        let content: Vec<u8> = (0..251).collect();
        let count = 5 * FRESH as u64;
        let ranges: Vec<_> =
            (0..count).map(|number| (number * 7 % 250, 1 + number % 2, number * 2)).collect();
        let expected: Vec<u8> = (0..count)
            .flat_map(|number| {
                [
                    (number * 7 % 250) as u8,
                    if number % 2 == 1 { (number * 7 % 250) as u8 + 1 } else { 0 },
                ]
            })
            .collect();
        for step in [1, 100, 1000] {
            assert!(
                copied(&content, ranges.clone(), &[step], expected.len()) == expected,
                "{step}"
            );
        }
        let fresh: Vec<Range> = (0..5000)
            .map(|number| Range { start: number * 3, length: 9, target: 1 << 40 })
            .collect();
        for run in [Run::new(&fresh).unwrap(), Run::in_file(&[0; 9]).unwrap()] {
            assert!(run.window(1 << 30).unwrap().is_empty());
        }
        let Run::Memory(bytes) = &Run::new(&fresh).unwrap() else {
            panic!("more than 64 MiB are held")
        };
        let in_file =
            Ranges { fresh: Vec::new(), runs: vec![Arc::new(Run::in_file(bytes).unwrap())] };
        let mut sorted = in_file.sorted().unwrap();
        for range in fresh {
            assert_eq!(sorted.next_before(u64::MAX).unwrap(), Some(range));
        }
        assert!(sorted.is_empty());
    }

    #[test]
    fn what_lies_behind_the_end_is_missed() {
        let mut wanted = wanted([(5, 10, 0)]);
        wanted.advance(14, |_, _, _| Ok::<(), Full>(())).unwrap();
        assert!(!wanted.is_satisfied());
        let mut all = PendingRanges::everything();
        all.advance(14, |_, _, _| Ok::<(), Full>(())).unwrap();
        assert!(all.is_satisfied() && !all.is_empty());
        assert_eq!(all.position(), 14);
    }
}
