//! One bit for each version of a chain.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A set of version numbers from 0 to a limit. VersionSet may be set and cleared from many threads
/// at once.
pub struct VersionSet(Vec<AtomicU64>);

impl VersionSet {
    /// Makes an empty set of numbers below `limit`.
    pub fn new(limit: u64) -> Self {
        Self((0..limit.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Returns a number that none in the set reaches.
    pub fn limit(&self) -> u64 {
        self.0.len() as u64 * 64
    }

    /// Adds a number; one beyond the limit is left out.
    pub fn set(&self, number: u64) {
        if let Some(word) = self.0.get((number / 64) as usize) {
            word.fetch_or(1 << (number % 64), Ordering::Relaxed);
        }
    }

    /// Takes a number out.
    pub fn clear(&self, number: u64) {
        if let Some(word) = self.0.get((number / 64) as usize) {
            word.fetch_and(!(1 << (number % 64)), Ordering::Relaxed);
        }
    }

    /// Returns whether a number is in.
    pub fn contains(&self, number: u64) -> bool {
        self.0
            .get((number / 64) as usize)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 == 1)
    }

    /// Returns all numbers that are in, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().zip(0u64..).flat_map(|(word, at)| {
            let mut bits = word.load(Ordering::Relaxed);
            std::iter::from_fn(move || {
                let lowest = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(at * 64 + u64::from(lowest))
            })
        })
    }

    /// Returns whether any number of a range is in.
    pub fn any(&self, range: Range<u64>) -> bool {
        let word = |at: u64| self.0.get(at as usize).map_or(0, |word| word.load(Ordering::Relaxed));
        let (first, last) = (range.start / 64, range.end.div_ceil(64).min(self.0.len() as u64));
        (first..last).any(|at| {
            let mut bits = word(at);
            if at == first {
                bits &= u64::MAX << (range.start % 64);
            }
            if at == range.end / 64 {
                bits &= !(u64::MAX << (range.end % 64));
            }
            bits != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_a_plain_set(numbers in prop::collection::btree_set(0u64..300, 0..6), start in 0u64..300, length in 0u64..300) {
            let bits = VersionSet::new(300);
            numbers.iter().for_each(|&number| bits.set(number));
            prop_assert_eq!(bits.any(start..start + length), numbers.range(start..start + length).next().is_some());
            prop_assert!(bits.iter().eq(numbers.iter().copied()));
            for number in 0..300 {
                prop_assert_eq!(bits.contains(number), numbers.contains(&number));
            }
            numbers.iter().for_each(|&number| bits.clear(number));
            prop_assert!(!bits.any(0..300));
        }
    }
}
