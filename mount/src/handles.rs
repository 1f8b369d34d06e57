//! [`Handles`]: open files and directories by the number the kernel knows them by; [`Listing`]: one
//! open directory.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::tree::{Item, Tree};

/// Items asked for at once: enough that the cost of a question does not count, some hundred KiB at
/// most.
const WINDOW: usize = 1024;

/// What is open. Numbers are never used twice.
pub(crate) struct Handles<T> {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Handles<T> {
    /// Creates an empty table.
    pub(crate) fn new() -> Handles<T> {
        Handles { next: AtomicU64::new(1), open: RwLock::default() }
    }

    /// Enters something and returns its number.
    pub(crate) fn insert(&self, value: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, Arc::new(value));
        number
    }

    /// Returns what has this number.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<T>> {
        self.open.read().get(&number).cloned()
    }

    /// Takes the number away; who works with the thing keeps it until done.
    pub(crate) fn remove(&self, number: u64) {
        let removed = self.open.write().remove(&number);
        drop(removed);
    }

    /// Returns whether nothing is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.read().is_empty()
    }
}

/// One open directory: a window of its items, and the last name of each earlier window, so that
/// seeking back costs one question.
///
/// A position counts items from 0. The kernel may ask again for positions of its last answer, so an
/// answer never reaches over the end of a window: until the kernel asks behind it, the window
/// stays.
pub(crate) struct Listing {
    directory: u64,
    /// `last_names[n]` is the last name of window n.
    last_names: Vec<Vec<u8>>,
    /// Number of the window in hand.
    window: Option<usize>,
    items: Arc<Vec<Item>>,
}

/// Some items of a listing that follow each other.
pub(crate) struct Stretch {
    /// Position of the first.
    pub(crate) position: u64,
    window: Arc<Vec<Item>>,
    start: usize,
}

impl Stretch {
    /// Returns the items; none at the end of the directory.
    pub(crate) fn items(&self) -> &[Item] {
        self.window.get(self.start..).unwrap_or_default()
    }
}

impl Listing {
    /// Starts at the front of a directory; asks nothing yet.
    pub(crate) fn new(directory: u64) -> Listing {
        Listing { directory, last_names: Vec::new(), window: None, items: Arc::default() }
    }

    /// Returns the number of the directory's inode.
    pub(crate) fn directory(&self) -> u64 {
        self.directory
    }

    /// Forgets everything, so that the next question sees the directory as it is now.
    pub(crate) fn rewind(&mut self) {
        *self = Listing::new(self.directory);
    }

    /// Returns some items from a position on, or from a later one where no name before that can be
    /// shown.
    ///
    /// # Errors
    /// The tree's, if the items are not in hand.
    pub(crate) fn from<T: Tree>(
        &mut self,
        tree: &T,
        mut position: u64,
    ) -> Result<Stretch, T::Error> {
        loop {
            let index = usize::try_from(position).unwrap_or(usize::MAX);
            let (window, start) = (index / WINDOW, index % WINDOW);
            if self.window != Some(window) {
                self.load(tree, window)?;
            }
            let stretch = Stretch { position, window: Arc::clone(&self.items), start };
            if stretch.items().is_empty()
                || stretch.items().iter().any(|item| is_valid_name(&item.name))
            {
                return Ok(stretch);
            }
            position += stretch.items().len() as u64;
        }
    }

    /// Brings a window into hand. One that was never reached (a position kept from another handle)
    /// is sought from the last known.
    fn load<T: Tree>(&mut self, tree: &T, window: usize) -> Result<(), T::Error> {
        self.window = None;
        self.items = Arc::default();
        loop {
            let next = self.last_names.len().min(window);
            let after = next.checked_sub(1).and_then(|before| self.last_names.get(before));
            let mut items = tree.list(self.directory, after.map(Vec::as_slice), WINDOW)?;
            items.truncate(WINDOW);
            let full = items.len() == WINDOW;
            if next == self.last_names.len() {
                self.last_names.extend(items.last().filter(|_| full).map(|item| item.name.clone()));
            }
            if next == window {
                self.items = Arc::new(items);
            }
            if next == window || !full {
                self.window = Some(window);
                return Ok(());
            }
        }
    }
}

/// Returns whether the kernel takes this name; one that it does not would make the whole listing
/// fail.
pub(crate) fn is_valid_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= 255
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::{Errno, Kind, Lookup, Node, Totals};

    #[derive(Debug, thiserror::Error)]
    #[error("cannot")]
    struct Cannot;

    impl Errno for Cannot {
        fn errno(&self) -> i32 {
            libc::EIO
        }
    }

    /// A directory of so many numbered names; keeps the questions.
    struct Numbers(usize, Mutex<Vec<Option<Vec<u8>>>>);

    fn name(number: usize) -> Vec<u8> {
        format!("{number:06}").into_bytes()
    }

    impl Tree for Numbers {
        type Error = Cannot;
        type File = ();

        fn list(&self, _: u64, after: Option<&[u8]>, limit: usize) -> Result<Vec<Item>, Cannot> {
            self.1.lock().push(after.map(<[u8]>::to_vec));
            let start = after.map_or(0, |after| {
                std::str::from_utf8(after).unwrap().parse::<usize>().unwrap() + 1
            });
            let item = |number| Item { name: name(number), inode: 2, kind: Kind::File, node: None };
            Ok((start..self.0).take(limit).map(item).collect())
        }
        fn lookup(&self, _: u64, _: &[u8]) -> Result<Lookup, Cannot> {
            Err(Cannot)
        }
        fn attributes(&self, _: u64) -> Result<Node, Cannot> {
            Err(Cannot)
        }
        fn link_target(&self, _: u64) -> Result<Vec<u8>, Cannot> {
            Err(Cannot)
        }
        fn open(&self, _: u64) -> Result<(), Cannot> {
            Err(Cannot)
        }
        fn read(&self, (): &(), _: u64, _: &mut [u8]) -> Result<usize, Cannot> {
            Err(Cannot)
        }
        fn totals(&self) -> Totals {
            Totals::default()
        }
    }

    fn first(listing: &mut Listing, tree: &Numbers, position: usize) -> Option<Vec<u8>> {
        listing.from(tree, position as u64).unwrap().items().first().map(|item| item.name.clone())
    }

    #[test]
    fn a_walk_asks_once_per_window() {
        for size in [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW, 3 * WINDOW + 17] {
            let tree = Numbers(size, Mutex::default());
            let mut listing = Listing::new(1);
            let mut seen = 0;
            while let Some(found) = first(&mut listing, &tree, seen) {
                assert_eq!(found, name(seen));
                seen += listing.from(&tree, seen as u64).unwrap().items().len().min(100);
            }
            assert_eq!(seen, size);
            assert_eq!(tree.1.lock().len(), size / WINDOW + 1, "{size}");
            assert!(listing.items.len() <= WINDOW);
        }
    }

    #[test]
    fn seeking_reaches_every_position() {
        let size = 5 * WINDOW + 3;
        let tree = Numbers(size, Mutex::default());
        let mut listing = Listing::new(1);
        for position in [4 * WINDOW + 1, 7, 5 * WINDOW, size - 1, WINDOW - 1, 3 * WINDOW, 0] {
            assert_eq!(first(&mut listing, &tree, position), Some(name(position)));
        }
        for beyond in [size, 6 * WINDOW, 100 * WINDOW, usize::MAX] {
            assert_eq!(first(&mut listing, &tree, beyond), None, "{beyond}");
        }
        tree.1.lock().clear();
        assert_eq!(first(&mut listing, &tree, 2 * WINDOW), Some(name(2 * WINDOW)));
        assert_eq!(*tree.1.lock(), [Some(name(2 * WINDOW - 1))], "one question to go back");
    }

    #[test]
    fn names_the_kernel_refuses() {
        for good in [&b"a"[..], b"...", b"\xff\n", &[b'x'; 255]] {
            assert!(is_valid_name(good));
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
            assert!(!is_valid_name(bad));
        }
    }
}
