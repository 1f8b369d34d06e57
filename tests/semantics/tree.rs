//! What each directory of the root holds.

use super::{T1, T2, trees, world};
use crate::support::{Content, Encoding, Env, Forge, Kind, Member, Mounted, Truth, assert_same};
use std::os::unix::fs::MetadataExt;

/// > Each directory holds the whole tree as duplicity saved it at that time: directories, files,
/// > symbolic links, fifos, and devices with their numbers.
///
/// > Contents, the twelve mode bits, owners, times in whole seconds and link targets are exactly
/// > those that were saved.
#[test]
fn each_directory_is_the_tree_of_its_time() {
    let (env, truths) = world();
    let mounted = Mounted::new(&env, Encoding::Gzip);
    for (time, truth) in truths {
        assert_same(&truth, &mounted.record(time), &format!("at {time}"));
    }
}

/// > Names may be any bytes, and paths may be longer than 4096 bytes for programs that go down folder by
/// > folder.
#[test]
fn names_of_any_bytes_and_long_paths() {
    let env = Env::new();
    let every_byte: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
    let mut path = every_byte.clone();
    let mut members = vec![Member::directory(&path)];
    for depth in 0..25 {
        path = [path, b"/".to_vec(), vec![b'a' + depth; 200]].concat();
        members.push(Member::directory(&path));
    }
    path.extend(b"/file");
    members.push(Member::file(&path, "far below"));
    Forge::full(&env, T1, &members);

    let seen = Mounted::new(&env, Encoding::Plain).record(T1);
    assert_eq!(seen.0.len(), 28);
    assert!(path.len() > 5000);
    let content = Content::File { size: 9, hash: blake3::hash(b"far below") };
    assert_eq!(seen.0[&path].content, content);
}

fn owners(options: &[&str]) -> [(u32, u32); 3] {
    let env = Env::new();
    let files =
        [("by name", 4711, "daemon"), ("by number", 4711, "no-such-name"), ("nameless", 33, "")];
    let members = files.map(|(path, number, name)| Member::file(path, "x").user(number, name));
    Forge::full(&env, T1, &members);
    let mounted = Mounted::with(&env, Encoding::Plain, options);
    let at = mounted.at(T1);
    files.map(|(path, ..)| {
        std::fs::metadata(at.join(path)).map(|data| (data.uid(), data.gid())).unwrap()
    })
}

/// > An owner is found by name, and by number if this machine does not know the name.
#[test]
fn owners_are_found_by_name() {
    assert_eq!(owners(&[]), [(1, 1), (4711, 4711), (33, 33)]);
}

/// > `--numeric-owner` goes by number alone.
#[test]
fn numeric_owners_are_numbers() {
    assert_eq!(owners(&["--numeric-owner"]), [(4711, 4711), (4711, 4711), (33, 33)]);
}

/// > `--owner UID:GID` shows everything as owned by that user and group.
#[test]
fn one_owner_owns_everything() {
    assert_eq!(owners(&["--owner", "1000:1001"]), [(1000, 1001); 3]);
}

/// > Sizes are exact from the first `stat` on, and `du` is right.
#[test]
fn sizes_are_exact_before_anything_is_read() {
    let (env, _) = world();
    let mounted = Mounted::new(&env, Encoding::Gzip);
    let at = mounted.at(T2);
    for (path, node) in &trees()[1].0 {
        let Kind::File(content) = &node.kind else { continue };
        let stat = std::fs::symlink_metadata(at.join(std::str::from_utf8(path).unwrap())).unwrap();
        let size = content.len() as u64;
        assert_eq!(stat.size(), size, "{}", path.escape_ascii());
        let used = stat.blocks() * 512;
        assert!(
            used >= size && used < size + 4096,
            "{used} bytes used by {size} of {}",
            path.escape_ascii()
        );
    }
}

/// > An entry whose parent is no directory, as damaged collections may hold, is not shown.
#[test]
fn nothing_lies_below_a_file() {
    let env = Env::new();
    let members = [
        Member::file("a", "a file"),
        Member::file("a/below", "hidden"),
        Member::symlink("l", "a"),
        Member::file("l/below", "hidden"),
        Member::file("missing/below", "hidden"),
    ];
    Forge::full(&env, T1, &members);
    let mounted = Mounted::new(&env, Encoding::Plain);
    let seen: Truth = mounted.record(T1);
    assert_eq!(
        seen.0.keys().map(|path| path.escape_ascii().to_string()).collect::<Vec<_>>(),
        ["", "a", "l"]
    );
    assert!(std::fs::read(mounted.at(T1).join("a/below")).is_err());
}
