//! The program mounted for real, under load and under the tools that people use.

mod away;
mod limits;
mod touched;

use crate::support::{
    Duplicity, Encoding, Env, Flavour, History, Kind, Mounted, Outcome, Path, Random, Tree, Version,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

const START: i64 = 1_785_585_600;

/// Makes a world with a full set and four increments, and returns the trees.
fn world(encoding: Encoding) -> (Env, Vec<(i64, Tree)>) {
    let env = encoding.env();
    let mut history = History::new(31, Flavour::Rich);
    let mut trees: Vec<(i64, Tree)> = Vec::new();
    for number in 0..5 {
        let time = START + 3600 * number;
        history.tree.write(trees.last().map(|(_, tree)| tree), &env.source());
        let action = if number == 0 { "full" } else { "incremental" };
        Duplicity::new(&env, Version::Old, encoding).backup(action, time, &[]);
        trees.push((time, history.tree.clone()));
        history.edit(20);
    }
    env.clear_caches();
    (env, trees)
}

/// Returns the files of a tree with their contents.
fn files(tree: &Tree) -> Vec<(&Path, &Vec<u8>)> {
    let content =
        |kind: &'_ Kind| if let Kind::File(content) = kind { Some(content.clone()) } else { None };
    let files = tree.0.iter().filter(|(_, node)| content(&node.kind).is_some());
    files
        .map(|(path, node)| {
            (
                path,
                if let Kind::File(content) = &node.kind {
                    content.as_ref()
                } else {
                    unreachable!()
                },
            )
        })
        .collect()
}

/// Ranges at random, from all versions of all files, by several threads at once, in a cold mount.
#[test]
fn random_ranges_are_right() {
    for encoding in [Encoding::Gzip, Encoding::Symmetric] {
        let (env, trees) = world(encoding);
        let mounted = Mounted::new(&env, encoding);
        let directories = mounted.snapshots();
        let read = |seed: u64| {
            let mut random = Random::new(seed);
            for _ in 0..150 {
                let (time, tree) = random.pick(&trees);
                let (path, content) = *random.pick(&files(tree));
                let offset = random.below(content.len() + 10);
                let length = *random.pick(&[1, 100, 4096, 65536, 300_000]);
                let place = directories[time].join(OsStr::from_bytes(path));
                let mut bytes = vec![0; length];
                let count = std::fs::File::open(&place)
                    .and_then(|file| read_full(&file, &mut bytes, offset));
                let count = count.unwrap_or_else(|e| panic!("{place:?}: {e}: {}", mounted.log()));
                let expected =
                    &content[offset.min(content.len())..content.len().min(offset + length)];
                assert!(
                    &bytes[..count] == expected,
                    "seed {seed}: {length} bytes from {offset} of {place:?}"
                );
            }
        };
        std::thread::scope(|scope| (0..6).for_each(|seed| drop(scope.spawn(move || read(seed)))));
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &std::fs::File, buffer: &mut [u8], offset: usize) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], (offset + filled) as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[test]
fn tools_agree_with_the_source() {
    let (env, trees) = world(Encoding::Gzip);
    let mounted = Mounted::new(&env, Encoding::Gzip);
    let newest = mounted.at(trees.last().unwrap().0);
    let from = |directory: &std::path::Path| format!("{}/", directory.display());
    let mut rsync = env.command("rsync");
    rsync.args([
        "-aHn",
        "--checksum",
        "--delete",
        "--itemize-changes",
        "--omit-link-times",
        "--devices",
        "--specials",
    ]);
    // Times before 1970 are saved as 1970.
    let told = Outcome::of(rsync.arg("--no-times").arg(from(&env.source())).arg(from(&newest)))
        .success()
        .stdout;
    let changes: Vec<_> = told.lines().filter(|line| !line.starts_with('.')).collect();
    assert!(changes.is_empty(), "{changes:?}");

    let copy = env.fresh("tar");
    Outcome::of(
        env.command("sh")
            .arg("-c")
            .arg("mkdir \"$1\" && tar -C \"$0\" -cf - . | tar -C \"$1\" -xpf -")
            .arg(&newest)
            .arg(&copy),
    )
    .success();
    let (seen, copied) =
        (crate::support::Truth::record(&newest), crate::support::Truth::record(&copy));
    crate::support::assert_same(&seen, &copied, "a copy by tar");
}
