//! What only some collections have: names of other forms, prefixes, old ciphers and compressions,
//! another tar flavour.

use crate::support::{Duplicity, Encoding, Env, Node, Tree, Truth, Version, assert_same};

/// Writes a full and an incremental set with 0.8.22 and further options, and restores both with the
/// options that reading takes.
fn restores(encoding: Encoding, writing: &[&str], reading: &[&str]) -> Env {
    let env = encoding.env();
    let duplicity = Duplicity::new(&env, Version::Old, encoding);
    let first = Tree::new(1000)
        .with("a", Node::file(vec![b'a'; 300_000], 1001))
        .with("b c", Node::file("b", 1002));
    let second = first
        .clone()
        .with("a", Node::file(vec![b'x'; 200_001], 2001))
        .with("l", Node::symlink("a", 2002));
    first.write(None, &env.source());
    duplicity.backup("full", 1_700_000_000, writing);
    second.write(Some(&first), &env.source());
    duplicity.backup("incremental", 1_700_001_000, writing);
    env.clear_caches();
    for (time, tree) in [("1700000000", &first), ("1700001000", &second)] {
        let target = env.fresh(time);
        env.ask_to(encoding, &[&["restore", "--time", time], reading].concat(), &target).success();
        assert_same(&Truth::of(tree), &Truth::record(&target), &format!("{writing:?} at {time}"));
    }
    env
}

fn names(env: &Env) -> Vec<String> {
    std::fs::read_dir(env.store())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn short_names() {
    let env = restores(Encoding::Gzip, &["--short-filenames"], &[]);
    assert!(
        names(&env).iter().all(|name| name.starts_with('d') && !name.starts_with("duplicity")),
        "{:?}",
        names(&env)
    );
}

#[test]
fn old_names() {
    let env = restores(Encoding::Symmetric, &["--old-filenames"], &[]);
    assert!(names(&env).iter().all(|name| name.contains(':')), "{:?}", names(&env));
}

#[test]
fn old_names_with_another_separator() {
    let env = restores(
        Encoding::Gzip,
        &["--old-filenames", "--time-separator", "_"],
        &["--time-separator", "_"],
    );
    assert!(names(&env).iter().all(|name| name.contains('_')), "{:?}", names(&env));
}

#[test]
fn prefixes() {
    let prefixes = [
        "--file-prefix",
        "G-",
        "--file-prefix-manifest",
        "M-",
        "--file-prefix-archive",
        "A-",
        "--file-prefix-signature",
        "S-",
    ];
    let env = restores(Encoding::Symmetric, &prefixes, &prefixes);
    assert!(names(&env).iter().all(|name| name.starts_with("G-")), "{:?}", names(&env));
    // Without them the collection looks empty.
    env.ask(Encoding::Symmetric, &["list-current-files"]).failure(30, &["--file-prefix"]);
}

#[test]
fn old_ciphers_and_other_compressions() {
    for options in [
        "--cipher-algo CAST5",
        "--cipher-algo 3DES --compress-algo bzip2",
        "--cipher-algo AES128 --compress-algo none",
    ] {
        restores(Encoding::Symmetric, &["--gpg-options", options], &[]);
    }
}
