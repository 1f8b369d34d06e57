//! [`History`]: a tree under random edits, the same for the same seed.

use super::tree::lies_below;
use super::{Kind, Node, Path, Random, Tree};
use std::sync::Arc;

/// How rich a history is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Everything that a file system offers, sizes around every boundary of the format, files
    /// larger than a volume.
    Rich,
    /// Few names and small files, so that many edits hit the same paths.
    Small,
}

/// A tree, and what is needed to edit it on.
pub struct History {
    pub random: Random,
    pub tree: Tree,
    flavour: Flavour,
    removed: Vec<(Path, Node)>,
    /// The last second used as the time of an edit: each edit gets one of its own, since duplicity
    /// misses edits within one.
    clock: i64,
}

/// Sizes on both sides of every boundary: tar blocks (512), pieces of split members (65536), the
/// block lengths of signatures in 0.8 (steps of 1024000 bytes) and 3.x (the square root in steps of
/// 512), powers of two where buffers end.
const SIZES: &[usize] = &[
    0, 1, 2, 64, 65, 511, 512, 513, 1000, 1023, 1024, 1025, 4095, 4096, 4097, 32768, 65533, 65535,
    65536, 65537, 131071, 131072, 131073, 196608, 262144, 262145, 263168, 263169, 1023999, 1024000,
    1048575, 1048576, 1048577, 2047999, 2048000,
];
const SMALL_SIZES: &[usize] = &[0, 1, 5, 63, 64, 65, 511, 512, 513, 1024, 1500, 3000];

/// Names that a parser, a shell, a sort order, a tar header or a manifest could stumble over.
const NAMES: &[&[u8]] = &[
    b"d", b"d-y", b"d.x", b"d y", b"d0", b"a", b"b", b"1", b"2", b"-rf", b"--", b" lead", b"trail ", b"quo\"te", b"sin'gle",
    b"back\\slash", b"\\x20", b"new\nline", b"tab\tand\x0b\x0c\r", b"caf\xc3\xa9", b"cafe\xcc\x81", b"bad\xff\xfe", b"\xe9", b"\x01\x7f",
    b"*?[g]{a,b}", b"...", b"..dots", b"~", b"$HOME", b"#c", b"%41", b"snapshot", b"diff", b"deleted", b"multivol_snapshot",
    b"signature", b"vol1.difftar.gz", b".hidden", b"latest",
    b"LLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLL",
    b"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9",
];
const SMALL_NAMES: &[&[u8]] = &[b"a", b"b", b"d", b"d-y", b"d.x", b"x y"];

/// Owners with a name on every Debian, and without.
const OWNERS: &[u32] = &[0, 0, 0, 1, 8, 33, 4711, 65534, 3_000_000];
const MODES: &[u32] =
    &[0o644, 0o600, 0o755, 0o444, 0o000, 0o777, 0o4755, 0o2755, 0o1644, 0o7777, 0o6711];
const DIRECTORY_MODES: &[u32] = &[0o755, 0o700, 0o1777, 0o2775, 0o4755, 0o500, 0o000];
/// The time before 1970 becomes 1970; 2^31 and 2^33 are where headers of old ended.
const ODD_TIMES: &[i64] = &[
    0,
    1,
    -1,
    -1_000_000,
    2_147_483_648,
    4_294_967_296,
    8_589_934_591,
    8_589_934_592,
    9_999_999_999,
];

impl History {
    /// Starts with a tree that the seed fills.
    pub fn new(seed: u64, flavour: Flavour) -> Self {
        let clock = 1_000_000_000;
        let mut history = Self {
            random: Random::new(seed),
            tree: Tree::new(clock),
            flavour,
            removed: Vec::new(),
            clock,
        };
        if flavour == Flavour::Rich {
            history.add_sizes();
            // Larger than volumes of 1 MiB, whatever the compression.
            let large = 3 << 20 | history.random.below(2 << 20);
            let content = history.random.bytes(large);
            let node = history.file(content);
            history.put(b"large".to_vec(), node);
        }
        let entries = if flavour == Flavour::Rich { 25 } else { 8 };
        for _ in 0..entries {
            history.add();
        }
        history
    }

    /// Makes so many random edits; each ends in a tree that duplicity can tell from the one before.
    pub fn edit(&mut self, edits: usize) {
        for _ in 0..edits {
            match self.random.below(100) {
                0..40 => self.edit_file(),
                40..60 => self.add(),
                60..75 => self.change_metadata(),
                75..85 => self.change_type(),
                85..95 => self.remove(),
                _ => self.restore_removed(),
            }
        }
    }

    /// Puts a file of about every second boundary size into the root.
    fn add_sizes(&mut self) {
        for &size in SIZES {
            if self.random.chance(50) {
                let content = self.content(size);
                let node = self.file(content);
                self.put(format!("size {size}").into_bytes(), node);
            }
        }
    }

    fn tick(&mut self) -> i64 {
        self.clock += 1 + self.random.below(100) as i64;
        self.clock
    }

    /// Puts a node at a path, and moves the time of the directory that holds it.
    fn put(&mut self, path: Path, node: Node) {
        self.touch_parent(&path);
        self.tree.0.insert(path, node);
    }

    fn touch_parent(&mut self, path: &[u8]) {
        let time = self.tick();
        let parent = path.iter().rposition(|&b| b == b'/').map_or(&b""[..], |slash| &path[..slash]);
        self.tree.0.get_mut(parent).expect("the parent is there").mtime = time;
    }

    fn file(&mut self, content: Vec<u8>) -> Node {
        let mtime = self.tick();
        self.decorate(Node::file(content, mtime))
    }

    /// Gives a new node random rights, owner and fraction of a second.
    fn decorate(&mut self, mut node: Node) -> Node {
        let modes = if node.kind == Kind::Directory { DIRECTORY_MODES } else { MODES };
        if !matches!(node.kind, Kind::Symlink(_)) && self.random.chance(40) {
            node.mode = *self.random.pick(modes);
        }
        (node.uid, node.gid) = (*self.random.pick(OWNERS), *self.random.pick(OWNERS));
        // Not a nanosecond below the next second: Python's floating point would round it up.
        node.nanos = *self.random.pick(&[0, 0, 1, 123_456_789, 500_000_000, 900_000_000]);
        if self.flavour == Flavour::Rich && self.random.chance(10) {
            node.mtime = *self.random.pick(ODD_TIMES);
        }
        node
    }

    /// Returns bytes that compress well or badly, with repetitions at odd distances.
    fn content(&mut self, size: usize) -> Vec<u8> {
        match self.random.below(4) {
            0 => vec![0; size],
            1 => (0..)
                .flat_map(|line: u32| format!("line {line}\n").into_bytes())
                .take(size)
                .collect(),
            _ => self.random.bytes(size),
        }
    }

    fn size(&mut self) -> usize {
        let sizes = if self.flavour == Flavour::Rich { SIZES } else { SMALL_SIZES };
        // Large ones are few: the square of a fraction prefers the front.
        let fraction = self.random.below(1000) * self.random.below(1000);
        sizes[fraction * sizes.len() / 1_000_000]
    }

    fn new_node(&mut self) -> Node {
        let mtime = self.tick();
        let kind = match self.random.below(100) {
            0..55 => {
                let size = self.size();
                Kind::File(Arc::new(self.content(size)))
            }
            55..75 => Kind::Directory,
            75..87 => {
                let far = vec![b'/'; 1]
                    .into_iter()
                    .chain(vec![b't'; 1 + self.random.below(300)])
                    .collect();
                let targets = [
                    b"a".to_vec(),
                    b"../..".to_vec(),
                    b"/nonexistent".to_vec(),
                    b"bad\xff \"'\n".to_vec(),
                    far,
                ];
                Kind::Symlink(self.random.pick(&targets).clone())
            }
            87..92 => Kind::Fifo,
            92..96 => {
                Kind::Char(*self.random.pick(&[1, 5, 250]), *self.random.pick(&[3, 0, 255, 4097]))
            }
            _ => Kind::Block(*self.random.pick(&[7, 8, 259]), *self.random.pick(&[0, 1, 300])),
        };
        self.decorate(Node::new(kind, mtime))
    }

    /// Returns a random path with a condition, the root left out.
    fn choose(&mut self, condition: impl Fn(&Node) -> bool) -> Option<Path> {
        let paths: Vec<&Path> = self
            .tree
            .0
            .iter()
            .filter(|(p, n)| !p.is_empty() && condition(n))
            .map(|(p, _)| p)
            .collect();
        if paths.is_empty() { None } else { Some((*self.random.pick(&paths)).clone()) }
    }

    fn add(&mut self) {
        let parent = self
            .choose(|node| node.kind == Kind::Directory)
            .filter(|_| self.random.chance(80))
            .unwrap_or_default();
        let names = if self.flavour == Flavour::Rich { NAMES } else { SMALL_NAMES };
        let name = *self.random.pick(names);
        let path =
            if parent.is_empty() { name.to_vec() } else { [&parent, &b"/"[..], name].concat() };
        if path.len() < 1000 && !self.tree.0.contains_key(&path) {
            let node = self.new_node();
            self.put(path, node);
        }
    }

    fn edit_file(&mut self) {
        let Some(path) = self.choose(|node| matches!(node.kind, Kind::File(_))) else { return };
        let Kind::File(old) = &self.tree.0[&path].kind else { return };
        let mut content = old.as_ref().clone();
        let at = self.random.below(content.len() + 1);
        let length = 1 + self.size().min(200_000);
        match self.random.below(9) {
            0 => content.truncate(at),
            1 => content.clear(),
            2 => content.extend(self.random.bytes(length)),
            3 => drop(content.splice(at..at, self.random.bytes(length))),
            4 => {
                let end = content.len().min(at + length);
                let patch = self.random.bytes(end - at);
                content[at..end].copy_from_slice(&patch);
            }
            5 => drop(content.drain(at..content.len().min(at + length))),
            6 => content.rotate_left(at),
            7 => content.extend_from_within(..at),
            _ => {
                let size = self.size();
                content = self.content(size);
            }
        }
        content.truncate(6 << 20);
        let mtime = self.tick();
        let node = self.tree.0.get_mut(&path).unwrap();
        node.kind = Kind::File(Arc::new(content));
        node.mtime = mtime;
    }

    fn change_metadata(&mut self) {
        let path = self.choose(|_| true).filter(|_| self.random.chance(95)).unwrap_or_default();
        let (mode, owner, time) =
            (self.random.chance(50), self.random.chance(40), self.random.chance(40));
        let mtime = if self.random.chance(50) { self.tick() } else { *self.random.pick(ODD_TIMES) };
        let (uid, gid) = (*self.random.pick(OWNERS), *self.random.pick(OWNERS));
        let node = self.tree.0.get_mut(&path).unwrap();
        if mode && !matches!(node.kind, Kind::Symlink(_)) {
            node.mode = *self.random.pick(if node.kind == Kind::Directory {
                DIRECTORY_MODES
            } else {
                MODES
            });
        }
        if owner {
            (node.uid, node.gid) = (uid, gid);
        }
        if time {
            node.mtime = mtime;
        }
    }

    /// Replaces a path by a node of another type; what lay below a directory goes.
    fn change_type(&mut self) {
        let Some(path) = self.choose(|_| true) else { return };
        let node = self.new_node();
        self.take(&path);
        self.put(path, node);
    }

    fn remove(&mut self) {
        let Some(path) = self.choose(|_| true) else { return };
        let node = self.take(&path);
        self.touch_parent(&path);
        self.removed.push((path, node));
    }

    /// Brings back a path that was removed, with its old time and content where its place is free.
    fn restore_removed(&mut self) {
        if self.removed.is_empty() {
            return self.add();
        }
        let (path, node) = self.removed.swap_remove(self.random.below(self.removed.len()));
        let parent = path.iter().rposition(|&b| b == b'/').map_or(&b""[..], |slash| &path[..slash]);
        let parent_is_there =
            self.tree.0.get(parent).is_some_and(|node| node.kind == Kind::Directory);
        if parent_is_there && !self.tree.0.contains_key(&path) {
            self.put(path, node);
        }
    }

    fn take(&mut self, path: &[u8]) -> Node {
        self.tree.0.retain(|other, _| !lies_below(other, path));
        self.tree.0.remove(path).expect("the path was chosen from the tree")
    }
}
