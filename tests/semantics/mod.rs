//! Each promise of the README's chapter "What you see in the mount", quoted above the test that
//! holds the program to it.

mod access;
mod damage;
mod identity;
mod lifecycle;
mod root;
mod tree;

use crate::support::{Duplicity, Encoding, Env, Kind, Node, Tree, Truth, Version};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// 2026-08-01, 2026-08-02 and 2026-08-03, each at noon UTC.
const T1: i64 = 1_785_585_600;
const T2: i64 = T1 + 86_400;
const T3: i64 = T2 + 86_400;

/// Incompressible content of several hundred KiB that two seeds do not share.
fn noise(seed: u64) -> Vec<u8> {
    crate::support::Random::new(seed).bytes(300_000)
}

/// The trees at the three times: every type, a file that stays, one that changes, one that goes.
fn trees() -> [Tree; 3] {
    let first = Tree::new(1_000_000)
        .with("same", Node::file(noise(1), 1_000_001))
        .with("changed", Node::file(noise(2), 1_000_002))
        .with("gone", Node::file("only in the first", 1_000_003))
        .with("empty", Node::file("", 1_000_004))
        .with("secret", Node::file("for the owner alone", 1_000_005).mode(0o600))
        .with("setuid", Node::file("#!/bin/sh\n", 1_000_006).mode(0o4755).owner(1234, 1235))
        .with("dir", Node::directory(1_000_007).mode(0o1777))
        .with("dir/inner", Node::file("inner", 1_000_008).mode(0o444))
        .with("link", Node::symlink("same", 1_000_009))
        .with("dangling", Node::symlink(b"no/such \xff", 1_000_010))
        .with("fifo", Node::new(Kind::Fifo, 1_000_011))
        .with("null", Node::new(Kind::Char(1, 3), 1_000_012).mode(0o666))
        .with("loop", Node::new(Kind::Block(7, 259), 1_000_013).mode(0o660));
    let mut second = first.clone();
    second.0.remove("gone".as_bytes());
    let changed = |node: &mut Node, tail: u8| {
        let Kind::File(content) = &node.kind else { unreachable!() };
        let content = [&content[..], &[tail; 5000]].concat();
        *node = Node::file(content, node.mtime + 1000);
    };
    changed(second.0.get_mut("changed".as_bytes()).unwrap(), b'2');
    let mut third = second.clone();
    changed(third.0.get_mut("changed".as_bytes()).unwrap(), b'3');
    [first, second, third]
}

/// Saves the three trees into a world.
fn save(env: &Env, encoding: Encoding) -> BTreeMap<i64, Truth> {
    let mut truths: BTreeMap<i64, Truth> = BTreeMap::new();
    let mut before = None;
    let trees = trees();
    for (time, tree) in [T1, T2, T3].into_iter().zip(&trees) {
        tree.write(before, &env.source());
        let action = if before.is_none() { "full" } else { "incremental" };
        Duplicity::new(env, Version::Old, encoding).backup(action, time, &[]);
        truths.insert(
            time,
            Truth::of(tree).kept_after(truths.last_key_value().map(|(_, truth)| truth)),
        );
        before = Some(tree);
    }
    env.clear_caches();
    truths
}

/// Makes a world with the three backups, gzip.
fn world() -> (Env, BTreeMap<i64, Truth>) {
    let env = Env::new();
    let truths = save(&env, Encoding::Gzip);
    (env, truths)
}

/// Returns the bytes of a file in one of the three trees.
fn content(tree: usize, path: &str) -> Arc<Vec<u8>> {
    match &trees()[tree].0[path.as_bytes()].kind {
        Kind::File(content) => content.clone(),
        other => panic!("{path} is {other:?}"),
    }
}

/// Returns the errno of a failure.
fn errno<T>(result: std::io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

#[test]
fn every_promise_of_the_readme_stands_above_a_test() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(repository.join("README.md")).unwrap();
    let promised = promises(&readme);
    assert!(promised.len() > 20, "the chapter of the README was not found: {promised:?}");
    let mut quoted = Vec::new();
    for file in std::fs::read_dir(repository.join("tests/semantics")).unwrap() {
        quoted.extend(quotes(&std::fs::read_to_string(file.unwrap().path()).unwrap()));
    }
    let lacking: Vec<_> = promised.iter().filter(|promise| !quoted.contains(promise)).collect();
    let invented: Vec<_> = quoted.iter().filter(|quote| !promised.contains(quote)).collect();
    assert!(
        lacking.is_empty() && invented.is_empty(),
        "untested: {lacking:#?}\nnot in the README: {invented:#?}"
    );
}

/// Returns the list items of the README's chapter, each on one line.
fn promises(readme: &str) -> Vec<String> {
    let chapter = readme.split("\n## What you see in the mount\n").nth(1).unwrap_or_default();
    let chapter = chapter.split("\n## ").next().unwrap();
    let items = chapter.split("\n- ").skip(1).map(|item| item.split("\n\n").next().unwrap());
    items.map(one_line).collect()
}

/// Returns the quotes that stand above a test; several above one are kept apart by a line without
/// `>`.
fn quotes(source: &str) -> Vec<String> {
    let (mut quotes, mut open): (Vec<String>, Option<String>) = (Vec::new(), None);
    let mut pending = 0;
    for line in source.lines() {
        match line.strip_prefix("/// > ") {
            Some(text) => *open.get_or_insert_default() += &format!(" {text}"),
            None => {
                if let Some(quote) = open.take() {
                    quotes.push(one_line(&quote));
                    pending += 1;
                }
                if line.starts_with("fn ") {
                    pending = 0;
                }
            }
        }
        assert!(
            pending == 0 || line.starts_with("///") || line == "#[test]",
            "no test below the quote '{:?}'",
            quotes.last()
        );
    }
    quotes
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
