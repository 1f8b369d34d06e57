//! A tree that lies in memory, with a file for every case, and that counts its calls.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dupfs_mount::{Attributes, Errno, FOREVER, Item, Kind, Lookup, Node, ROOT, Totals, Tree};

/// Count of names in the directory `many`.
pub const MANY: u64 = 100_000;

/// First inode number of the names in `many`, which are made when asked for.
const FIRST_OF_MANY: u64 = 1 << 40;

/// Length of the files `big` and `blocked`.
pub const BIG: u64 = 5 * (1 << 20) + 123;

/// The only error: its number.
#[derive(Debug)]
pub struct Failure(pub i32);

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "error {}", self.0)
    }
}

impl Errno for Failure {
    fn errno(&self) -> i32 {
        self.0
    }
}

/// What a file's `read` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Returns the bytes.
    Prompt,
    /// Returns at most 7000 bytes a call.
    Sparing,
    /// Does not return before [`Memory::release`].
    Blocked,
    /// Likewise, when it is opened.
    Stuck,
    /// Fails.
    Broken,
    /// Panics.
    Mad,
}

struct Inode {
    node: Node,
    children: BTreeMap<Vec<u8>, u64>,
    target: Vec<u8>,
    manner: Manner,
    /// Whether listings leave the attributes out.
    bare: bool,
}

/// The tree. Clones share everything.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    inodes: Mutex<HashMap<u64, Inode>>,
    calls: Mutex<BTreeMap<&'static str, usize>>,
    released: Mutex<bool>,
    release: Condvar,
}

/// Byte of `big` at an offset.
pub fn byte(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl Memory {
    /// A tree with an empty top directory.
    pub fn new() -> Memory {
        let inner = Inner {
            inodes: Mutex::default(),
            calls: Mutex::default(),
            released: Mutex::new(false),
            release: Condvar::new(),
        };
        let memory = Memory(Arc::new(inner));
        memory.0.inodes.lock().unwrap().insert(ROOT, inode(ROOT, Kind::Directory));
        memory
    }

    /// A tree with a file for every case.
    pub fn sample() -> Memory {
        let memory = Memory::new();
        let file = |name: &str, size| {
            memory.add(ROOT, name.as_bytes(), Kind::File, |attributes| attributes.size = size)
        };
        file("file", 1000);
        file("big", BIG);
        let manners =
            [Manner::Blocked, Manner::Stuck, Manner::Sparing, Manner::Broken, Manner::Mad];
        for (name, manner) in
            ["blocked", "stuck", "sparing", "broken", "mad"].into_iter().zip(manners)
        {
            let inode = file(name, BIG);
            memory.edit(inode, |inode| inode.manner = manner);
        }
        let link = memory.add(ROOT, b"link", Kind::Symlink, |attributes| attributes.size = 4);
        memory.edit(link, |inode| inode.target = b"file".to_vec());
        let dangling =
            memory.add(ROOT, b"dangling", Kind::Symlink, |attributes| attributes.size = 4095);
        memory.edit(dangling, |inode| inode.target = [b'x'; 4095].to_vec());
        memory.add(ROOT, b"fifo", Kind::Fifo, |_| ());
        memory.add(ROOT, b"char", Kind::CharDevice, |attributes| attributes.rdev = (4, 255));
        memory.add(ROOT, b"block", Kind::BlockDevice, |attributes| {
            attributes.rdev = (259, 1_048_575)
        });
        memory.add(ROOT, b"old", Kind::File, |attributes| attributes.mtime = -86_401);
        memory.add(ROOT, b"ancient", Kind::File, |attributes| attributes.mtime = -(1 << 33));
        memory.add(ROOT, b"future", Kind::File, |attributes| attributes.mtime = 1 << 33);
        memory.add(ROOT, b"odd-mode", Kind::File, |attributes| {
            (attributes.mode, attributes.uid, attributes.gid, attributes.nlink) =
                (0o7751, 1234, 5678, 9);
            (attributes.size, attributes.blocks) = (1 << 40, 24);
        });
        memory.add(ROOT, b"private", Kind::File, |attributes| {
            (attributes.mode, attributes.size) = (0o600, 10)
        });
        let odd = memory.add(ROOT, b"names", Kind::Directory, |_| ());
        for name in odd_names() {
            memory.add(odd, &name, Kind::File, |attributes| attributes.size = 5);
        }
        for bad in [&b""[..], b"..", b"a/b", b"nul\0", &[b'l'; 256]] {
            memory.add(odd, bad, Kind::File, |_| ());
        }
        for (name, every) in [("bare", 1), ("mixed", 3)] {
            let directory = memory.add(ROOT, name.as_bytes(), Kind::Directory, |_| ());
            for number in 0..300_u64 {
                let file =
                    memory.add(directory, format!("{number:03}").as_bytes(), Kind::File, |file| {
                        file.size = 1000 + number
                    });
                memory.edit(file, |inode| inode.bare = number % every == 0);
            }
            memory.add(directory, b"sub", Kind::Directory, |_| ());
        }
        memory.add(ROOT, b"many", Kind::Directory, |attributes| attributes.nlink = 77);
        memory
    }

    /// Adds an inode and returns its number.
    pub fn add(
        &self,
        parent: u64,
        name: &[u8],
        kind: Kind,
        adapt: impl FnOnce(&mut Attributes),
    ) -> u64 {
        let mut inodes = self.0.inodes.lock().unwrap();
        let number = inodes.len() as u64 + 100;
        let mut new = inode(number, kind);
        adapt(&mut new.node.attributes);
        inodes.insert(number, new);
        inodes.get_mut(&parent).unwrap().children.insert(name.to_vec(), number);
        number
    }

    fn edit(&self, inode: u64, edit: impl FnOnce(&mut Inode)) {
        edit(self.0.inodes.lock().unwrap().get_mut(&inode).unwrap());
    }

    /// Sets how long the kernel may keep a directory and its missing names.
    pub fn set_ttl(&self, inode: u64, ttl: Duration) {
        self.edit(inode, |inode| inode.node.ttl = ttl);
    }

    /// Number of an inode in the top directory.
    pub fn number(&self, name: &str) -> u64 {
        self.0.inodes.lock().unwrap()[&ROOT].children[name.as_bytes()]
    }

    fn is_many(&self, inode: u64) -> bool {
        self.0.inodes.lock().unwrap()[&ROOT].children.get(&b"many"[..]) == Some(&inode)
    }

    /// Lets the blocked reads go on.
    pub fn release(&self) {
        *self.0.released.lock().unwrap() = true;
        self.0.release.notify_all();
    }

    fn wait(&self) {
        let mut released = self.0.released.lock().unwrap();
        while !*released {
            released = self.0.release.wait(released).unwrap();
        }
    }

    /// Returns how often each method was called since the last time.
    pub fn calls(&self) -> BTreeMap<&'static str, usize> {
        std::mem::take(&mut self.0.calls.lock().unwrap())
    }

    /// Returns how often a method was called, and goes on counting.
    pub fn seen(&self, method: &str) -> usize {
        self.0.calls.lock().unwrap().get(method).copied().unwrap_or(0)
    }

    /// Takes the top directory away.
    pub fn forget_root(&self) {
        self.0.inodes.lock().unwrap().remove(&ROOT);
    }

    fn count(&self, method: &'static str) {
        *self.0.calls.lock().unwrap().entry(method).or_default() += 1;
    }

    fn with<A>(&self, number: u64, ask: impl FnOnce(&Inode) -> A) -> Result<A, Failure> {
        if (FIRST_OF_MANY..FIRST_OF_MANY + MANY).contains(&number) {
            return Ok(ask(&inode(number, Kind::File)));
        }
        self.0.inodes.lock().unwrap().get(&number).map(ask).ok_or(Failure(libc::EIO))
    }
}

/// Names with bytes that trip careless programs.
pub fn odd_names() -> Vec<Vec<u8>> {
    let every: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    vec![
        b"...".into(),
        b"-rf".into(),
        b" ".into(),
        b"new\nline".into(),
        b"\xff\xfe".into(),
        every,
        vec![b'n'; 255],
    ]
}

/// Name of one of `many`.
pub fn name_of_many(number: u64) -> String {
    format!("entry-{number:06}")
}

fn inode(inode: u64, kind: Kind) -> Inode {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let (nlink, uid, gid, size, blocks, mtime, rdev) = (1, 0, 0, 0, 8, 1_000_000_000, (0, 0));
    let attributes = Attributes { inode, kind, mode, nlink, uid, gid, size, blocks, mtime, rdev };
    let node = Node { attributes, ttl: FOREVER };
    Inode {
        node,
        children: BTreeMap::new(),
        target: Vec::new(),
        manner: Manner::Prompt,
        bare: false,
    }
}

impl Tree for Memory {
    type Error = Failure;
    type File = (Manner, u64);

    fn lookup(&self, parent: u64, name: &[u8]) -> Result<Lookup, Failure> {
        self.count("lookup");
        if self.is_many(parent) {
            let number = str::from_utf8(name)
                .ok()
                .and_then(|name| name.strip_prefix("entry-")?.parse::<u64>().ok());
            return Ok(match number.filter(|number| *number < MANY) {
                Some(number) => Lookup::Found(inode(FIRST_OF_MANY + number, Kind::File).node),
                None => Lookup::Missing { ttl: FOREVER },
            });
        }
        let (child, ttl) =
            self.with(parent, |inode| (inode.children.get(name).copied(), inode.node.ttl))?;
        child.map_or(Ok(Lookup::Missing { ttl }), |child| {
            self.with(child, |inode| Lookup::Found(inode.node))
        })
    }

    fn attributes(&self, inode: u64) -> Result<Node, Failure> {
        self.count("attributes");
        self.with(inode, |inode| inode.node)
    }

    fn list(
        &self,
        directory: u64,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Item>, Failure> {
        self.count("list");
        if self.is_many(directory) {
            let after = after.map(|name| {
                str::from_utf8(name)
                    .unwrap()
                    .strip_prefix("entry-")
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
                    + 1
            });
            let item = |number| {
                let inode = inode(FIRST_OF_MANY + number, Kind::File);
                let name = name_of_many(number).into_bytes();
                Item {
                    name,
                    inode: FIRST_OF_MANY + number,
                    kind: Kind::File,
                    node: Some(inode.node),
                }
            };
            return Ok((after.unwrap_or(0)..MANY).take(limit).map(item).collect());
        }
        let children = self.with(directory, |inode| inode.children.clone())?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = children.range::<[u8], _>((from, Bound::Unbounded)).take(limit);
        range
            .map(|(name, number)| {
                self.with(*number, |inode| {
                    let node = (!inode.bare).then_some(inode.node);
                    Item {
                        name: name.clone(),
                        inode: *number,
                        kind: inode.node.attributes.kind,
                        node,
                    }
                })
            })
            .collect()
    }

    fn link_target(&self, inode: u64) -> Result<Vec<u8>, Failure> {
        self.count("link_target");
        self.with(inode, |inode| inode.target.clone())
    }

    fn open(&self, inode: u64) -> Result<(Manner, u64), Failure> {
        self.count("open");
        if self.with(inode, |inode| inode.manner == Manner::Stuck)? {
            self.wait();
        }
        self.with(inode, |inode| (inode.manner, inode.node.attributes.size))
    }

    fn read(
        &self,
        (manner, size): &(Manner, u64),
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Failure> {
        self.count("read");
        let mut length = (buffer.len() as u64).min(size.saturating_sub(offset)) as usize;
        match manner {
            Manner::Prompt | Manner::Stuck => (),
            Manner::Sparing => length = length.min(7000),
            Manner::Broken => return Err(Failure(libc::EIO)),
            Manner::Mad => panic!("this file is read by a defect"),
            Manner::Blocked => self.wait(),
        }
        for (place, offset) in buffer[..length].iter_mut().zip(offset..) {
            *place = byte(offset);
        }
        Ok(length)
    }

    fn totals(&self) -> Totals {
        Totals { bytes: 10_000, files: 4321 }
    }
}
