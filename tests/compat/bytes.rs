//! Byte for byte: of the same tree and time, a set of this program holds what the originals write:
//! tar members with their headers and pax records, members of the signature file, the manifest.

use crate::support::{Encoding, Env, Kind, Node, Random, Tree, Writer};
use std::path::{Path, PathBuf};

const FULL: i64 = 1_700_000_000;
const LATER: i64 = 1_700_001_000;

/// One volume for all, so that manifests need not differ in where volumes are cut.
const ONE_VOLUME: [&str; 2] = ["--volsize", "100"];

/// Names, modes, owners and times that headers could get wrong.
fn rich() -> Tree {
    let mut random = Random::new(5);
    let mut tree = Tree::new(1_600_000_000)
        .with("d", Node::directory(0).mode(0o1777))
        .with("d/e", Node::directory(1).mode(0o2750));
    let names: [&[u8]; 14] = [
        b"plain",
        b"d-y",
        b"d.x",
        b"quo\"te's",
        b"new\nline and\ttab",
        b"back\\slash",
        b" lead",
        b"caf\xc3\xa9",
        b"bad\xff\xfe",
        b"\x01\x7f",
        b"d/inner",
        b"d/e/deeper",
        b"multivol_snapshot",
        b"-rf",
    ];
    for (number, name) in names.iter().enumerate() {
        let mode = [0o644, 0o4755, 0o000, 0o7777, 0o1600][number % 5];
        let owner = [0, 33, 4711, 65534, 2_097_151, 2_097_152, 3_000_000_000][number % 7];
        let mtime =
            [-1, 0, 1, -1_000_000, 2_147_483_648, 8_589_934_591, 8_589_934_592, 1_500_000_000]
                [number % 8];
        tree = tree.with(
            name,
            Node::file(random.bytes(number * 700), mtime).mode(mode).owner(owner, owner / 2),
        );
    }
    // Around the 100 bytes of a header's name, `snapshot/` and the like before it.
    for length in [84, 90, 91, 92, 99, 100, 101, 155, 156, 250] {
        tree = tree.with(vec![b'n'; length], Node::file("long", 1_500_000_000));
        tree = tree.with(
            ["é".repeat(length / 2).as_bytes(), b"u"].concat(),
            Node::directory(1_500_000_000),
        );
        tree = tree.with(
            [b"l", &length.to_string().into_bytes()[..]].concat(),
            Node::symlink(vec![b't'; length], 1_500_000_000),
        );
    }
    // Around the borders of pieces, and of both rules for the blocks of signatures.
    for size in [
        0, 1, 511, 512, 513, 65535, 65536, 65537, 131_072, 196_608, 262_144, 263_169, 1_023_999,
        1_024_000, 3_000_000,
    ] {
        tree = tree.with(format!("size {size}"), Node::file(random.bytes(size), 1_500_000_000));
    }
    let big = [&[b'p'; 120][..], b"\xff"].concat();
    tree.with(big, Node::file(random.bytes(150_000), -5).owner(3_000_000, 1))
        .with("link", Node::symlink(b"to \xff\"'\n", -1))
        .with("utf", Node::symlink("é", 7).owner(1, 2))
        .with("fifo", Node::new(Kind::Fifo, 3).mode(0o620))
        .with("char", Node::new(Kind::Char(5, 1), 3).mode(0o666).owner(0, 5))
        .with("block", Node::new(Kind::Block(259, 70_000), 3))
}

/// Metadata changes, new files, deletions, changes of type.
fn edited(mut tree: Tree) -> Tree {
    let mut random = Random::new(6);
    for path in [
        &b"plain"[..],
        b"caf\xc3\xa9",
        b"bad\xff\xfe",
        b"size 0",
        b"size 65536",
        b"size 3000000",
        b"d/inner",
        &[b'n'; 250],
    ] {
        let node = tree.0.get_mut(path).unwrap();
        (node.mode, node.mtime) = (node.mode ^ 0o11, node.mtime + 86400);
    }
    tree.0.get_mut(&b"d/e/deeper"[..]).unwrap().uid = 12;
    tree.0.get_mut(&b"char"[..]).unwrap().mode = 0o600;
    tree.0.get_mut(&b""[..]).unwrap().mtime += 1;
    for path in [
        &b"size 513"[..],
        b"size 131072",
        b"l84",
        b"quo\"te's",
        b"new\nline and\ttab",
        &[b'n'; 155],
        b"fifo",
    ] {
        tree.0.remove(path).unwrap();
    }
    let before = tree.0.len();
    tree = tree
        .with("size 512", Node::directory(1_600_000_000))
        .with("size 512/in", Node::file("in", 9))
        .with("link", Node::file("was a link", 10))
        .with("size 511", Node::symlink("was a file", 11))
        .with("utf", Node::symlink("other", 7).owner(1, 2))
        .with("d-y", Node::new(Kind::Fifo, 12))
        .with("block", Node::new(Kind::Block(259, 70_001), 3))
        .with("new é", Node::file(random.bytes(70_000), 13))
        .with(b"new \xfe", Node::file("", 14))
        .with("new d", Node::directory(15))
        .with("new d/f", Node::file(random.bytes(100), 16).mode(0o4711));
    assert_eq!(tree.0.len(), before + 5);
    // The whole of a tree below something that is no directory any more is deleted.
    tree.0.retain(|path, _| !path.starts_with(b"d/e/"));
    tree.with("d/e", Node::file("was a directory", 17))
}

/// One member: its header, with the pax header before it, and its data.
#[derive(PartialEq, Eq)]
struct Raw {
    header: Vec<u8>,
    data: Vec<u8>,
}

impl Raw {
    /// Returns the header's name field and whatever stands in pax records.
    fn name(&self) -> String {
        let (pax, header) = self.header.split_at(self.header.len() - 512);
        let name = header[..100].split(|&b| b == 0).next().unwrap();
        format!("'{}' {}", name.escape_ascii(), pax.get(512..).unwrap_or_default().escape_ascii())
    }

    fn is_delta(&self) -> bool {
        let name = &self.header[self.header.len() - 512..];
        name.starts_with(b"diff/") || name.starts_with(b"multivol_diff/")
    }
}

/// Takes a tar apart; returns its members and how many bytes there are up to the first block of
/// zeros.
fn members(tar: &[u8]) -> (Vec<Raw>, usize) {
    let (mut members, mut at, mut start) = (Vec::new(), 0, 0);
    while tar.get(at).is_some_and(|&b| b != 0) {
        let header = &tar[at..at + 512];
        let size =
            usize::from_str_radix(std::str::from_utf8(&header[124..135]).unwrap(), 8).unwrap();
        let next = at + 512 + size.next_multiple_of(512);
        if header[156] != b'x' {
            let padding = &tar[at + 512 + size..next];
            assert!(padding.iter().all(|&b| b == 0));
            members.push(Raw {
                header: tar[start..at + 512].to_vec(),
                data: tar[at + 512..at + 512 + size].to_vec(),
            });
            start = next;
        }
        at = next;
    }
    (members, at)
}

/// The three files of a set of one volume, plain.
struct Set {
    volume: Vec<u8>,
    signatures: Vec<u8>,
    manifest: Vec<u8>,
}

/// Reads the set whose names hold `time`.
fn set(store: &Path, time: &str) -> Set {
    let names: Vec<PathBuf> =
        std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()).collect();
    let file = |end: &str| {
        let is_it = |path: &&PathBuf| path.to_str().unwrap().ends_with(&format!("{time}{end}"));
        std::fs::read(
            names.iter().find(is_it).unwrap_or_else(|| panic!("no {time}{end} in {names:?}")),
        )
        .unwrap()
    };
    assert_eq!(
        names.iter().filter(|name| name.to_str().unwrap().contains(&format!("{time}."))).count(),
        3,
        "{names:?}"
    );
    Set { volume: file(".vol1.difftar"), signatures: file(".sigtar"), manifest: file(".manifest") }
}

/// Compares two tars member for member. `deltas_too` tells that also the bytes of deltas have to be
/// the same.
fn same_members(theirs: &[u8], ours: &[u8], deltas_too: bool, what: &str) {
    let ((theirs, _), (ours, _)) = (members(theirs), members(ours));
    let names = |members: &[Raw]| members.iter().map(Raw::name).collect::<Vec<_>>();
    assert_eq!(names(&theirs), names(&ours), "{what}");
    for (their, our) in theirs.iter().zip(&ours) {
        let (mut a, mut b) = (their.header.clone(), our.header.clone());
        if their.is_delta() && !deltas_too {
            // Size and checksum.
            let end = a.len() - 512;
            [&mut a, &mut b].iter_mut().for_each(|header| header[end + 124..end + 156].fill(0));
        } else {
            assert!(their.data == our.data, "{what}: data of {}", their.name());
        }
        let show = |bytes: &[u8]| bytes.escape_ascii().to_string().replace("\\x00", "_");
        assert_eq!(show(&a), show(&b), "{what}: header of {}", their.name());
    }
}

/// Compares two sets.
fn same(theirs: &Set, ours: &Set, deltas_too: bool, what: &str) {
    same_members(&theirs.volume, &ours.volume, deltas_too, &format!("{what}, volume"));
    same_members(&theirs.signatures, &ours.signatures, true, &format!("{what}, signature file"));
    assert!(theirs.signatures == ours.signatures, "{what}: signature files, which end alike");
    let manifest = |set: &Set| {
        let text = set.manifest.escape_ascii().to_string().replace("\\n", "\n");
        text.lines()
            .filter(|line| !line.starts_with("    Hash SHA1 "))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(manifest(theirs), manifest(ours), "{what}");
}

/// Lets the original write a full set, and each program an increment on a copy of it.
fn compare(original: Writer, options: &[&str], trees: [&Tree; 2], deltas_too: bool) {
    let env = Env::new();
    let options = [options, &ONE_VOLUME].concat();
    let mut stores = Vec::new();
    let mut before = None;
    for (action, time, tree) in [("full", FULL, trees[0]), ("incremental", LATER, trees[1])] {
        tree.write(before, &env.source());
        for writer in [original, Writer::Dupfs] {
            let store = env.fresh(&format!("{action} by {writer:?}"));
            if action == "incremental" {
                let _ = std::fs::remove_dir_all(env.store());
                let copy =
                    env.command("cp").arg("-a").arg(&stores[0]).arg(env.store()).status().unwrap();
                assert!(copy.success());
            }
            std::fs::create_dir_all(env.store()).unwrap();
            env.clear_caches();
            writer.backup(&env, Encoding::Plain, action, time, &options);
            std::fs::rename(env.store(), &store).unwrap();
            stores.push(store);
        }
        before = Some(tree);
    }
    let what = |action: &str| format!("{action}, {original:?} and ours, {options:?}");
    same(
        &set(&stores[0], "20231114T221320Z"),
        &set(&stores[1], "20231114T221320Z"),
        true,
        &what("full"),
    );
    let time = "20231114T221320Z.to.20231114T223000Z";
    same(&set(&stores[2], time), &set(&stores[3], time), deltas_too, &what("incremental"));
}

#[test]
fn sets_of_3_2_1() {
    let tree = rich();
    compare(Writer::New, &[], [&tree, &edited(tree.clone())], true);
}

/// With one length for all blocks, 0.8.22 and 3.2.1 write the same signatures.
#[test]
fn sets_of_0_8_22_with_blocks_of_one_length() {
    let tree = rich();
    compare(Writer::Old, &["--max-blocksize", "512"], [&tree, &edited(tree.clone())], true);
}

/// Deltas say the same in other commands; all else is equal here, too.
#[test]
fn increments_of_edited_files() {
    let mut random = Random::new(8);
    let first = rich();
    let mut second = first.clone();
    for (path, node) in &mut second.0 {
        let Kind::File(content) = &node.kind else { continue };
        let at = random.below(content.len() + 1);
        let content = match path.len() % 3 {
            0 => [&content[..at], &random.bytes(1000), &content[at..]].concat(),
            1 => content[..at].to_vec(),
            _ => [&content[at..], &content[..at]].concat(),
        };
        *node = Node {
            kind: Kind::File(content.into()),
            mtime: node.mtime.max(0) + 100,
            ..node.clone()
        };
    }
    compare(Writer::New, &[], [&first, &second], false);
}
