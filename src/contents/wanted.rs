//! [`Wanted`]: the way down a delta chain, by which a restore meets each volume once.

use std::collections::VecDeque;

/// A range of a version's content that the target file still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    /// Offset in the version's content.
    start: u64,
    length: u64,
    /// Offset in the target file.
    target: u64,
}

/// Which ranges of a version's content go where in the target file. The content itself comes along once, in order, by
/// [`Wanted::advance`]. Of the version asked for all is wanted; of each one below, what the deltas above have copied.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// By start, those not yet reached.
    ahead: VecDeque<Range>,
    /// Those that the content has reached, and not yet passed.
    active: Vec<Range>,
    position: u64,
}

impl Wanted {
    /// Wants everything, each byte at its own place.
    pub fn everything() -> Self {
        Self { ahead: [Range { start: 0, length: u64::MAX, target: 0 }].into(), ..Self::default() }
    }

    /// Wants ranges in any order, each as (offset in the content, length, offset in the target).
    pub fn ranges(ranges: impl IntoIterator<Item = (u64, u64, u64)>) -> Self {
        let mut ahead: Vec<Range> = Vec::new();
        for (start, length, target) in ranges {
            match ahead.last_mut() {
                Some(last) if last.start + last.length == start && last.target + last.length == target => last.length += length,
                _ => ahead.push(Range { start, length, target }),
            }
        }
        ahead.sort_unstable_by_key(|range| range.start);
        Self { ahead: ahead.into(), ..Self::default() }
    }

    /// Tells whether nothing is wanted any more.
    pub fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.active.is_empty()
    }

    /// Returns how much of the content has come along, in bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next `length` bytes of the content, and tells each wanted part of them: offset within these bytes, length, offset
    /// in the target. Stops at the first error.
    ///
    /// # Errors
    /// What `tell` says.
    pub fn advance<E>(&mut self, length: u64, mut tell: impl FnMut(u64, u64, u64) -> Result<(), E>) -> Result<(), E> {
        let (start, end) = (self.position, self.position.saturating_add(length));
        while self.ahead.front().is_some_and(|range| range.start < end) {
            self.active.extend(self.ahead.pop_front());
        }
        for range in &self.active {
            let from = range.start.max(start);
            let to = range.start.saturating_add(range.length).min(end);
            if from < to {
                tell(from - start, to - from, range.target + (from - range.start))?;
            }
        }
        self.active.retain(|range| range.start.saturating_add(range.length) > end);
        self.position = end;
        Ok(())
    }

    /// Tells, at the end of the content, whether all that was wanted has come. Wanting everything is content with any end.
    pub fn is_satisfied(&self) -> bool {
        self.ahead.iter().chain(&self.active).all(|range| range.length == u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Bytes copied through `Wanted` equal bytes copied plainly, in whatever steps the content comes.
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
            let mut wanted = Wanted::ranges(ranges);
            let mut written = vec![0; plain.len()];
            let mut rest = &content[..];
            for step in steps.into_iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at(step.min(rest.len()));
                rest = later;
                wanted.advance(now.len() as u64, |offset, length, target| {
                    let (offset, length, target) = (offset as usize, length as usize, target as usize);
                    written[target..target + length].copy_from_slice(&now[offset..offset + length]);
                    Ok::<(), ()>(())
                }).unwrap();
            }
            prop_assert!(wanted.is_satisfied() && wanted.is_empty());
            prop_assert_eq!(written, plain);
        }
    }

    #[test]
    fn what_lies_behind_the_end_is_missed() {
        let mut wanted = Wanted::ranges([(5, 10, 0)]);
        wanted.advance(14, |_, _, _| Ok::<(), ()>(())).unwrap();
        assert!(!wanted.is_satisfied());
        let mut all = Wanted::everything();
        all.advance(14, |_, _, _| Ok::<(), ()>(())).unwrap();
        assert!(all.is_satisfied() && !all.is_empty());
        assert_eq!(all.position(), 14);
    }
}
