//! [`SavedEntries`]: in path order, what is saved already of each path: what a new session compares
//! the source with.
//!
//! The rows of a set lie in the database in path order, and so the basis is the sets merged:
//!
//! ```text
//! position 2   ·     b gone      ·          d'      each run is read once, a window of rows at a time
//! position 1   a'       ·       c/x         d'
//! position 0   a        b        ·          d
//!              a'              c/x         d'      of one path the newest counts, unless it is gone
//! ```

use super::Error;
use super::sets::Sets;
use crate::catalog::{Chain, Directories, SavedRow, SourceStat, VersionId};
use crate::model::{Entry, EntryPath};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Rows that are held of all sets together, some 4 MB, as long as there are not more than [`LEAST`]
/// of each set.
const ROWS: usize = 16 * 1024;
/// Rows that are fetched of a set at once, at least.
const LEAST: usize = 8;

/// What is saved of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The path.
    pub path: EntryPath,
    /// Its metadata.
    pub entry: Entry,
    /// The version that holds it.
    pub version: VersionId,
    /// Position of the set that brought it.
    pub position: u32,
    /// What this machine's file system said when it was saved, if that is known.
    pub stat: Option<SourceStat>,
}

/// What the sets of a chain up to one position have saved, in path order; ends with the first
/// error.
pub struct SavedEntries<'c> {
    sets: &'c Sets,
    chain: Arc<Chain>,
    runs: Vec<Run>,
    /// The next row of each run that has one, the first path on top, and of one path the newest.
    heads: BinaryHeap<Head>,
    directories: Directories,
    window: usize,
}

/// What comes of one set.
struct Run {
    position: u32,
    /// Numbers of its rows that have not been fetched.
    next: u64,
    end: u64,
    rows: std::vec::IntoIter<SavedRow>,
}

/// The next row of a run.
struct Head {
    found: SavedRow,
    /// Index of its run, which is its position.
    run: usize,
}

impl Sets {
    /// Returns what the sets of a chain up to a position have saved, each path that is there with
    /// its newest state, in path order. Each path counts by itself, as for duplicity: also those
    /// are met whose parent is gone or no directory, because some writer forgot to tell that they
    /// went with it.
    ///
    /// # Errors
    /// [`Error::Set`] when a set cannot be read. The iterator fails with it when the signature file
    /// of a set is not in path order: nothing can be built on that set.
    pub fn saved_entries(
        &self,
        chain: &Arc<Chain>,
        position: u32,
    ) -> Result<SavedEntries<'_>, Error> {
        self.saved_entries_by(chain, position, (ROWS / (position as usize + 1)).max(LEAST))
    }

    fn saved_entries_by(
        &self,
        chain: &Arc<Chain>,
        position: u32,
        window: usize,
    ) -> Result<SavedEntries<'_>, Error> {
        self.snapshot(chain, position)?;
        let ranges = self.ask(chain, position, |rows| rows.versions_up_to(chain, position))?;
        let run = |(position, range): (u32, std::ops::Range<u64>)| Run {
            position,
            next: range.start,
            end: range.end,
            rows: Vec::new().into_iter(),
        };
        let runs: Vec<Run> = (0..).zip(ranges).map(run).collect();
        let mut basis = SavedEntries {
            sets: self,
            chain: chain.clone(),
            heads: BinaryHeap::with_capacity(runs.len()),
            runs,
            directories: Directories::default(),
            window,
        };
        for run in 0..basis.runs.len() {
            let head = basis.next_of(run)?.map(|found| Head { found, run });
            basis.heads.extend(head);
        }
        Ok(basis)
    }
}

impl SavedEntries<'_> {
    fn step(&mut self) -> Result<Option<Saved>, Error> {
        while let Some((newest, position)) = self.pop()? {
            while self.heads.peek().is_some_and(|head| head.found.path == newest.path) {
                self.pop()?;
            }
            if let Some(entry) = newest.entry {
                let SavedRow { path, version, stat, .. } = newest;
                return Ok(Some(Saved { path, entry, version, position, stat }));
            }
        }
        Ok(None)
    }

    /// Takes the first path's newest row, and the next one of that run in its place.
    fn pop(&mut self) -> Result<Option<(SavedRow, u32)>, Error> {
        let Some(run) = self.heads.peek().map(|head| head.run) else { return Ok(None) };
        let next = self.next_of(run)?;
        let Some(mut head) = self.heads.peek_mut() else { return Ok(None) };
        let found = match next {
            None => std::collections::binary_heap::PeekMut::pop(head).found,
            Some(next) if order(&next.path, &head.found.path).is_le() => {
                let set = self.chain.set_at(run as u32)?.end();
                let cause = format!("'{}' comes behind '{}'", next.path, head.found.path).into();
                return Err(Error::Set {
                    what: format!("the signature file of set {set} in path order"),
                    cause,
                });
            }
            Some(next) => std::mem::replace(&mut head.found, next),
        };
        Ok(Some((found, run as u32)))
    }

    /// Returns the next row of a run.
    fn next_of(&mut self, run: usize) -> Result<Option<SavedRow>, Error> {
        let Self { sets, chain, runs, directories, window, .. } = self;
        let Some(run) = runs.get_mut(run) else { return Ok(None) };
        if run.rows.as_slice().is_empty() && run.next < run.end {
            let end = run.end.min(run.next + *window as u64);
            let [from, to] =
                [run.next, end].map(|number| VersionId::from_parts(chain.number(), number));
            let rows = sets.ask(chain, run.position, |rows| rows.saved(directories, (from, to)))?;
            run.rows = rows.into_iter();
            run.next = end;
        }
        Ok(run.rows.next())
    }
}

impl Iterator for SavedEntries<'_> {
    type Item = Result<Saved, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.step();
        if next.is_err() {
            self.heads.clear();
        }
        next.transpose()
    }
}

/// Compares paths as they compare themselves, but faster: those of neighbours begin alike.
fn order(a: &EntryPath, b: &EntryPath) -> Ordering {
    const STEP: usize = 16;
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let steps = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(|(a, b)| a == b).count();
    let key = |&b: &u8| if b == b'/' { 0 } else { b };
    let [a, b] = [a, b].map(|path| path.get(steps * STEP..).unwrap_or_default().iter().map(key));
    a.cmp(b)
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap has its greatest on top.
        order(&other.found.path, &self.found.path).then(self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

#[cfg(test)]
mod tests {
    use super::super::testing::{Files, Item, PathState, World, path};
    use super::*;
    use PathState::{Directory, File, Gone};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn file() -> PathState {
        File(b"content".to_vec())
    }

    fn saved(world: &World, chain: &Arc<Chain>, position: u32) -> Vec<(String, u32)> {
        let basis = world.sets.saved_entries(chain, position).unwrap();
        basis
            .map(|saved| saved.map(|saved| (saved.path.to_string(), saved.position)).unwrap())
            .collect()
    }

    #[test]
    fn the_newest_state_of_each_path_in_path_order() {
        let files = Arc::new(Files::default());
        files.write(
            0,
            &[&[
                (".", Directory),
                ("a", file()),
                ("d", Directory),
                ("d/x", file()),
                ("d-y", file()),
            ]],
            false,
        );
        files.write(
            1,
            &[&[(".", Directory), ("a", Gone), ("d", Directory), ("d/b", file()), ("d/x", file())]],
            false,
        );
        files.write(2, &[&[("a", file()), ("d/b", Gone)]], false);
        let world = World::plain(&files);
        let chain = world.chain();
        let expect = |position: u32, expected: &[(&str, u32)]| {
            let expected: Vec<_> =
                expected.iter().map(|(path, position)| (path.to_string(), *position)).collect();
            assert_eq!(saved(&world, &chain, position), expected);
        };
        expect(0, &[(".", 0), ("a", 0), ("d", 0), ("d/x", 0), ("d-y", 0)]);
        expect(1, &[(".", 1), ("d", 1), ("d/b", 1), ("d/x", 1), ("d-y", 0)]);
        expect(2, &[(".", 1), ("a", 2), ("d", 1), ("d/x", 1), ("d-y", 0)]);
        assert!(world.sets.saved_entries(&chain, 3).is_err());
        let first = world.sets.saved_entries(&chain, 2).unwrap().nth(1).unwrap().unwrap();
        let entry = world.sets.version(first.version).unwrap().entry().cloned();
        assert_eq!(Some(first.entry), entry);
    }

    #[test]
    fn what_lost_its_parent_is_met_all_the_same() {
        let files = Arc::new(Files::default());
        files.write(
            0,
            &[&[
                (".", Directory),
                ("d", Directory),
                ("d/x", file()),
                ("e", Directory),
                ("e/y", file()),
            ]],
            false,
        );
        files.write(1, &[&[("d", file()), ("e", Gone)]], false);
        let world = World::plain(&files);
        let chain = world.chain();
        let paths: Vec<_> = saved(&world, &chain, 1).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, [".", "d", "d/x", "e/y"]);
    }

    #[test]
    fn a_set_out_of_order_is_no_basis() {
        let files = Arc::new(Files::default());
        files.write(0, &[&[(".", Directory), ("b", file()), ("a", file()), ("c", file())]], false);
        let world = World::plain(&files);
        let chain = world.chain();
        let mut basis = world.sets.saved_entries(&chain, 0).unwrap();
        let error = basis.find_map(Result::err).unwrap().to_string();
        assert_eq!(
            error,
            "cannot read the signature file of set 20231114T221320Z in path order: 'a' comes behind 'b'"
        );
        assert!(basis.next().is_none());
    }

    #[test]
    fn rows_that_are_gone_are_not_taken_for_nothing_saved() {
        let files = Arc::new(Files::default());
        files.write(0, &[&[(".", Directory), ("a", file()), ("b", file()), ("c", file())]], false);
        let world = World::plain(&files);
        let chain = world.chain();
        assert_eq!(world.sets.saved_entries(&chain, 0).unwrap().count(), 4);
        let mut basis = world.sets.saved_entries_by(&chain, 0, 2).unwrap();
        basis.next().unwrap().unwrap();
        files.0.lock().clear();
        let none = crate::collection::scan(&[], &crate::format::Prefixes::default());
        world.sets.set_collection(&none).unwrap();
        assert!(matches!(basis.last(), Some(Err(_))));
    }

    const NAMES: [&str; 8] = [".", "a", "a/b", "a/b/c", "a-", "a/b.", "b", "b/a"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn equals_a_map_of_paths(sets in prop::collection::vec(prop::collection::vec(0..4u8, NAMES.len()), 1..6), window in 1..5usize) {
            let files = Arc::new(Files::default());
            let mut names = NAMES.map(path);
            names.sort();
            let mut expected = BTreeMap::new();
            for (position, states) in sets.iter().enumerate() {
                let mut items: Vec<Item> = Vec::new();
                for (name, state) in names.iter().zip(states) {
                    let text = NAMES.iter().find(|text| path(text) == *name).unwrap();
                    let state = match state {
                        0 => { expected.remove(name); Gone }
                        1 => { expected.insert(name.clone(), position as u32); file() }
                        2 => { expected.insert(name.clone(), position as u32); Directory }
                        _ => continue,
                    };
                    items.push((text, state));
                }
                files.write(position as u32, &[&items], false);
            }
            let world = World::plain(&files);
            let chain = world.chain();
            let basis = world.sets.saved_entries_by(&chain, sets.len() as u32 - 1, window).unwrap();
            let found: Vec<_> = basis.map(|saved| saved.map(|saved| (saved.path, saved.position)).unwrap()).collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
