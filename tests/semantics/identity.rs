//! Inodes and links.

use super::{T1, T2, T3, world};
use crate::support::{Encoding, Env, Mounted, Outcome};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// > A file that did not change between backups is one file in all of them: one inode number, and
/// > as many links as backups show it.
#[test]
fn a_version_is_one_inode() {
    let (env, _) = world();
    let mounted = Mounted::new(&env, Encoding::Gzip);
    let stat = |time, path: &str| std::fs::symlink_metadata(mounted.at(time).join(path)).unwrap();
    for path in ["same", "dir/inner", "link", "fifo", "null"] {
        let [first, second, third] = [T1, T2, T3].map(|time| stat(time, path));
        assert!(first.ino() == second.ino() && second.ino() == third.ino(), "{path}");
        assert_eq!([first.nlink(), second.nlink(), third.nlink()], [3; 3], "{path}");
    }
    let changed = [T1, T2, T3].map(|time| stat(time, "changed"));
    assert!(changed[0].ino() != changed[1].ino() && changed[1].ino() != changed[2].ino());
    assert_eq!(changed.map(|stat| stat.nlink()), [1; 3]);
    assert_eq!(stat(T1, "gone").nlink(), 1);
    assert_ne!(stat(T1, "dir").ino(), stat(T2, "dir").ino(), "directories have one parent each");
}

/// > So `cp -a` of several backups copies it once and makes hard links.
#[test]
fn cp_makes_hard_links() {
    let (env, _) = world();
    let mounted = Mounted::new(&env, Encoding::Gzip);
    let target = env.fresh("copies");
    std::fs::create_dir(&target).unwrap();
    Outcome::of(
        env.command("cp")
            .arg("-a")
            .args([mounted.at(T1), mounted.at(T2), mounted.at(T3)])
            .arg(&target),
    )
    .success();
    let copies = std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().path());
    let stats: Vec<_> = copies.map(|copy| std::fs::metadata(copy.join("same")).unwrap()).collect();
    assert_eq!(stats.len(), 3);
    assert!(stats.iter().all(|stat| stat.ino() == stats[0].ino() && stat.nlink() == 3));
}

fn inodes(env: &Env) -> BTreeMap<PathBuf, u64> {
    let mounted = Mounted::new(env, Encoding::Gzip);
    let listing =
        Outcome::of(env.command("find").arg(mounted.point()).args(["-printf", "%i %P\n"]))
            .success()
            .stdout;
    listing
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(inode, path)| (path.into(), inode.parse().unwrap()))
        .collect()
}

/// > Inode numbers are the same in the next mount.
#[test]
fn inodes_outlive_the_mount_and_the_catalog() {
    let (env, _) = world();
    let first = inodes(&env);
    assert!(first.len() > 30, "{first:?}");
    assert_eq!(first, inodes(&env));
    env.clear_caches();
    assert_eq!(first, inodes(&env));
}
