//! [`Nested`]: the directories that a walk is in.

use super::EntryPath;

/// Directories, each in the one before it, with something of each. Holds one path for all of them:
/// as many paths as there are levels would take memory by the square of the depth.
#[derive(Debug)]
pub struct Nested<T> {
    /// The path of the deepest one, or one below it.
    path: EntryPath,
    /// The length of each one's path, in bytes.
    open: Vec<(usize, T)>,
}

impl<T> Default for Nested<T> {
    fn default() -> Self {
        Self { path: EntryPath::root(), open: Vec::new() }
    }
}

impl<T> Nested<T> {
    /// Adds a directory, which lies in the deepest one.
    pub fn push(&mut self, path: EntryPath, value: T) {
        self.open.push((path.as_bytes().len(), value));
        self.path = path;
    }

    /// Takes the deepest directory.
    pub fn pop(&mut self) -> Option<(EntryPath, T)> {
        let (length, value) = self.open.pop()?;
        Some((self.path.ancestor(length), value))
    }

    /// Takes the deepest directory if a path does not lie in it.
    pub fn pop_outside(&mut self, path: &EntryPath) -> Option<(EntryPath, T)> {
        let &(length, _) = self.open.last()?;
        let is_inside = path.as_bytes().get(..length) == self.path.as_bytes().get(..length)
            && path.is_end(length);
        if is_inside { None } else { self.pop() }
    }

    /// Takes all directories, from the top.
    pub fn drain(&mut self) -> impl Iterator<Item = (EntryPath, T)> {
        let path = &self.path;
        self.open.drain(..).map(|(length, value)| (path.ancestor(length), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_left_from_the_deepest_on() {
        let path = |text: &str| EntryPath::parse(text.as_bytes()).unwrap();
        let mut nested = Nested::default();
        for (number, text) in ["", "a", "a/b"].into_iter().enumerate() {
            nested.push(path(text), number);
        }
        assert_eq!(nested.pop_outside(&path("a/b/c")), None);
        assert_eq!(nested.pop_outside(&path("a/bc")), Some((path("a/b"), 2)));
        assert_eq!(nested.pop_outside(&path("a/bc")), None);
        nested.push(path("a/bc"), 3);
        assert_eq!(nested.pop_outside(&path("b")), Some((path("a/bc"), 3)));
        assert_eq!(nested.drain().collect::<Vec<_>>(), [(path(""), 0), (path("a"), 1)]);
        assert_eq!((nested.pop_outside(&path("b")), nested.pop()), (None, None));
    }
}
