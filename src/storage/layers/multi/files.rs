//! [`Files`]: which stores have a copy of each file, and which of them is read.

use crate::storage::Listed;
use std::cmp::Reverse;
use std::collections::HashMap;

/// A file in one of the stores, by the store's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCopy {
    pub store: usize,
    pub listed: Listed,
}

/// What is known of the files by name.
#[derive(Default)]
pub struct Files(HashMap<String, Known>);

/// The copies of one file.
#[derive(Debug, Clone)]
pub struct Known {
    /// As which one all of them are listed.
    pub shown: Listed,
    /// The copies that may be read, the first one first; one at least.
    pub copies: Vec<StoredCopy>,
    /// How often another copy has become the first one.
    pub turns: u32,
    /// Those that have proved to be wrong.
    wrong: Vec<StoredCopy>,
    /// Those that this process has stored.
    stored: Vec<StoredCopy>,
}

/// A store that does not have what was stored there.
pub struct Lost {
    pub name: String,
    pub store: usize,
    /// Bytes that were stored, and that are there.
    pub size: u64,
    pub found: Option<u64>,
}

impl Files {
    /// Returns the copies of a file that was listed so.
    pub fn find(&self, file: &Listed) -> Option<&Known> {
        self.0.get(&file.name).filter(|known| known.shown == *file)
    }

    pub fn find_mut(&mut self, file: &Listed) -> Option<&mut Known> {
        self.0.get_mut(&file.name).filter(|known| known.shown == *file)
    }

    /// Returns the stores that have a file of this name.
    pub fn stores_of(&self, name: &str) -> Vec<usize> {
        self.0.get(name).map_or_else(Vec::new, |known| {
            known.copies.iter().chain(&known.wrong).map(|copy| copy.store).collect()
        })
    }

    /// Takes over what the stores that could be listed have. Returns all files, and what was stored
    /// by this process and is not there.
    pub fn update(&mut self, listings: Vec<(usize, Vec<Listed>)>) -> (Vec<Listed>, Vec<Lost>) {
        let mut before = std::mem::take(&mut self.0);
        let asked: Vec<usize> = listings.iter().map(|(store, _)| *store).collect();
        let mut found: HashMap<String, Vec<StoredCopy>> = HashMap::new();
        for (store, listing) in listings {
            for listed in listing {
                found.entry(listed.name.clone()).or_default().push(StoredCopy { store, listed });
            }
        }
        let mut lost = Vec::new();
        for (name, known) in &before {
            let copies = found.get(name).map_or(&[][..], |copies| copies);
            for copy in known.stored.iter().filter(|copy| asked.contains(&copy.store)) {
                let there = copies.iter().find(|found| found.store == copy.store);
                let (size, found) = (copy.listed.size, there.map(|found| found.listed.size));
                if found != Some(size) {
                    lost.push(Lost { name: name.clone(), store: copy.store, size, found });
                }
            }
        }
        self.0 = found
            .into_iter()
            .map(|(name, copies)| {
                let known = Known::new(copies, before.remove(&name));
                (name, known)
            })
            .collect();
        (self.0.values().map(|known| known.shown.clone()).collect(), lost)
    }

    /// Takes over that a file has been stored, at the places of `stored`; returns how it is listed,
    /// and which other stores have an earlier file of this name.
    pub fn store(&mut self, stored: Vec<StoredCopy>) -> Option<(Listed, Vec<usize>)> {
        let name = stored.first()?.listed.name.clone();
        let mut others = self.stores_of(&name);
        others.retain(|store| stored.iter().all(|copy| copy.store != *store));
        let before = self.0.remove(&name);
        let turns = before.map_or(0, |before| before.turns.wrapping_add(1));
        let known = Known { turns, stored: stored.clone(), ..Known::new(stored, None) };
        let shown = known.shown.clone();
        self.0.insert(name, known);
        Some((shown, others))
    }

    /// Forgets a file.
    pub fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
}

impl Known {
    /// Puts copies, one at least, into the order in which they are read.
    fn new(mut copies: Vec<StoredCopy>, before: Option<Self>) -> Self {
        copies.sort_by_key(|copy| (Reverse(copy.listed.size), copy.store));
        let (mut turns, mut wrong, mut stored) = (0, Vec::new(), Vec::new());
        let mut shown = copies[0].listed.clone();
        if let Some(before) = before {
            (turns, stored) = (before.turns, before.stored);
            let is_same =
                before.copies.iter().chain(&before.wrong).any(|copy| copies.contains(copy));
            if is_same && before.shown.size == shown.size {
                shown = before.shown;
            }
            // If all of them are wrong, each is given another chance.
            let (known, others): (Vec<_>, Vec<_>) =
                copies.into_iter().partition(|copy| before.wrong.contains(copy));
            (wrong, copies) = if others.is_empty() { (others, known) } else { (known, others) };
        }
        Self { shown, copies, turns, wrong, stored }
    }

    /// Takes a copy for wrong; returns whether there is another one.
    pub fn drop_copy(&mut self, wrong: &StoredCopy) -> bool {
        if self.copies.len() < 2 {
            return false;
        }
        self.copies.retain(|copy| copy != wrong);
        self.wrong.push(wrong.clone());
        self.turns = self.turns.wrapping_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(size: u64, stamp: u64) -> Listed {
        Listed { name: "a".into(), size, stamp }
    }

    #[test]
    fn the_longest_copy_is_read_first_and_one_that_is_wrong_no_more() {
        let mut files = Files::default();
        let listings =
            || vec![(0, vec![listed(5, 1)]), (1, vec![listed(9, 2)]), (2, vec![listed(9, 3)])];
        let (all, lost) = files.update(listings());
        assert_eq!((&all[..], lost.len()), (&[listed(9, 2)][..], 0));
        let stores = |files: &Files| {
            let known = files.find(&listed(9, 2)).unwrap();
            known.copies.iter().map(|copy| copy.store).collect::<Vec<_>>()
        };
        assert_eq!(stores(&files), [1, 2, 0]);
        for left in [&[2, 0][..], &[0]] {
            let known = files.find_mut(&listed(9, 2)).unwrap();
            let first = known.copies[0].clone();
            assert!(known.drop_copy(&first));
            assert_eq!(stores(&files), left);
        }
        // It is still listed as before, and what is wrong is still known.
        assert_eq!(files.update(listings()).0, [listed(9, 2)]);
        assert_eq!(stores(&files), [0]);
        let known = files.find_mut(&listed(9, 2)).unwrap();
        let last = known.copies[0].clone();
        assert!(!known.drop_copy(&last) && known.turns == 2);
        // A store that is away changes nothing, unless no copy is left that is the same.
        assert_eq!(files.update(vec![(2, vec![listed(9, 3)])]).0, [listed(9, 2)]);
        assert_eq!(files.update(vec![(0, vec![listed(5, 1)])]).0, [listed(5, 1)]);
    }

    #[test]
    fn what_was_stored_is_looked_for() {
        let mut files = Files::default();
        files.update(vec![(2, vec![listed(1, 1)])]);
        let copy = |store, stamp| StoredCopy { store, listed: listed(9, stamp) };
        let (shown, others) = files.store(vec![copy(0, 3), copy(1, 4)]).unwrap();
        assert_eq!((shown, others), (listed(9, 3), vec![2]));
        let (all, lost) = files.update(vec![(1, vec![listed(9, 4)]), (2, vec![])]);
        assert_eq!((&all[..], lost.len()), (&[listed(9, 3)][..], 0));
        let (_, lost) = files.update(vec![(0, vec![listed(8, 3)]), (1, vec![])]);
        let lost: Vec<_> = lost.iter().map(|lost| (lost.store, lost.found)).collect();
        assert_eq!(lost, [(0, Some(8)), (1, None)]);
    }
}
