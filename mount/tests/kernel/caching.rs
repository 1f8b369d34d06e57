//! What the kernel does not ask twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use dupfs_mount::{Kind, ROOT};

use crate::memory::Memory;
use crate::support::Mounted;

/// Lists, stats and reads all there is, and a name that is not there.
fn walk(directory: &Path) -> usize {
    let mut seen = 1;
    assert!(fs::symlink_metadata(directory.join("none")).is_err());
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            seen += walk(&path);
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap();
        } else if kind.is_file() {
            fs::read(&path).unwrap();
        }
        seen += 1;
    }
    seen
}

fn small() -> Memory {
    let memory = Memory::new();
    let directory = memory.add(ROOT, b"directory", Kind::Directory, |_| ());
    for parent in [ROOT, directory] {
        for number in 0..50_u64 {
            let name = format!("file-{number}");
            memory.add(parent, name.as_bytes(), Kind::File, |attributes| {
                attributes.size = number * 1000
            });
        }
        memory.add(parent, b"link", Kind::Symlink, |attributes| attributes.size = 0);
    }
    memory
}

#[test]
fn the_second_walk_asks_for_nothing() {
    let mounted = Mounted::of(small(), |_| ());
    let seen = walk(mounted.root());
    let first = mounted.memory.calls();
    assert!(first["read"] >= 98 && first["list"] >= 2 && first["link_target"] == 2, "{first:?}");
    // Opening is always asked: 100 files; two directories, each for its time to live. A kernel
    // short of memory may drop pages whenever it likes, so that a walk may ask for some again; but
    // not every walk.
    let expected = BTreeMap::from([("open", 100), ("attributes", 2)]);
    let mut walks = Vec::new();
    while walks.len() < 5 && !walks.contains(&expected) {
        assert_eq!(walk(mounted.root()), seen);
        walks.push(mounted.memory.calls());
    }
    assert!(walks.contains(&expected), "{walks:?}");
}

#[test]
fn one_listing_brings_the_attributes_along() {
    let mounted = Mounted::of(small(), |_| ());
    for entry in fs::read_dir(mounted.root()).unwrap() {
        fs::symlink_metadata(entry.unwrap().path()).unwrap();
    }
    let calls = mounted.memory.calls();
    assert_eq!((calls.get("lookup"), calls.get("list")), (None, Some(&1)), "{calls:?}");
}

#[test]
fn what_may_change_is_seen_when_it_does() {
    let memory = small();
    memory.set_ttl(ROOT, Duration::ZERO);
    let mounted = Mounted::of(memory, |_| ());
    let count = || fs::read_dir(mounted.root()).unwrap().count();
    let before = count();
    assert!(!mounted.path("new").exists());
    mounted.memory.add(ROOT, b"new", Kind::File, |attributes| attributes.size = 3);
    assert_eq!(fs::read(mounted.path("new")).unwrap().len(), 3);
    assert_eq!(count(), before + 1);
}
