//! Paths as long as duplicity can write: beyond what the kernel takes in one call once the
//! mountpoint stands before them.

use crate::support::{Duplicity, Encoding, Env, Mounted, Node, Tree, Truth, Version, assert_same};

#[test]
fn paths_at_the_kernels_limit() {
    let env = Env::new();
    let mut tree = Tree::new(1000);
    let mut path = Vec::new();
    for depth in 0..20 {
        // Components of 200 bytes, some in letters of two bytes: names of more than 100 bytes do
        // not fit into a tar header.
        path.extend(if depth % 2 == 0 {
            vec![b'a' + depth; 200]
        } else {
            "é".repeat(100).into_bytes()
        });
        tree = tree.with(&path, Node::directory(1000 + i64::from(depth)));
        path.push(b'/');
    }
    // `./`, 20 components with their slashes, and this name: 4095 bytes, the most that a call
    // takes.
    path.extend([b'z'; 4095 - 2 - 20 * 201]);
    tree = tree.with(&path, Node::file("far below", 2000));
    tree.write(None, &env.source());
    Duplicity::new(&env, Version::Old, Encoding::Gzip).backup_from_inside("full", 1_700_000_000);
    let changed = tree.clone().with(&path, Node::file("far below, and changed", 3000));
    changed.write(Some(&tree), &env.source());
    Duplicity::new(&env, Version::New, Encoding::Gzip)
        .backup_from_inside("incremental", 1_700_001_000);

    let mounted = Mounted::new(&env, Encoding::Gzip);
    for (time, tree) in [(1_700_000_000, &tree), (1_700_001_000, &changed)] {
        let truth = Truth::of(tree);
        assert_same(&truth, &mounted.record(time), "mounted");
        let target = env.fresh(&format!("restored {time}"));
        env.restore(Encoding::Gzip, time, &target).success();
        assert_same(&truth, &Truth::record(&target), "restored");
    }
}
