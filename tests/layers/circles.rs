//! No two files of one module import each other, directly or around a longer circle: each can be
//! read without the ones that use it.
//!
//! A path is resolved to the file that defines its item, through the `use` lines of the files on its
//! way: `super::Name` leads to the file that `mod.rs` has the name from. A `mod.rs` that only
//! declares and re-exports is a door, and stands in no circle. What is defined in one is as if in
//! any other file: whoever uses it, and is used by the own code of `mod.rs`, is in a circle with it,
//! which is mended by moving the item to a file of its own. Methods on a type of another file count
//! for the file that names the type. What stands behind `#[cfg(test)]` does not count: tests may
//! use what uses the code that they test.

use super::{Sources, branches, paths_after, sources};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn no_files_of_a_module_import_each_other() {
    let found = complaints(&sources(&["src", "mount/src"]));
    assert!(found.is_empty(), "{found:#?}");
}

/// Each line of this table is a module that must be complained about.
#[test]
fn circles_are_found() {
    let cases: &[&[(&str, &str)]] = &[
        &[
            ("src/codec/mod.rs", "mod a;\nmod b;"),
            ("src/codec/a.rs", "use super::b::B;"),
            ("src/codec/b.rs", "fn f() { super::a::g() }"),
        ],
        &[
            ("src/codec/mod.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;"),
            ("src/codec/a.rs", "use super::{B, C};"),
            ("src/codec/b.rs", "use crate::codec::A;"),
        ],
        &[
            ("src/codec/mod.rs", "mod a;\nmod b;\nmod c;\nuse c::{\n    C,\n};"),
            ("src/codec/a.rs", "use super::b;"),
            ("src/codec/b.rs", "use super::C;"),
            ("src/codec/c.rs", "use super::a::{self, A};"),
        ],
        // The own code of the door calls what uses a type of the door.
        &[
            ("src/codec/mod.rs", "mod a;\npub struct S;\nfn f() { a::g() }"),
            ("src/codec/a.rs", "use super::S;"),
        ],
        &[
            ("src/codec/mod.rs", "mod a;\npub use a::A;\npub struct S(A);"),
            ("src/codec/a.rs", "fn f() -> super::S {}"),
        ],
        &[
            ("src/codec/mod.rs", "mod a;\nmod b;"),
            ("src/codec/a/mod.rs", "mod c;\npub use c::C;"),
            ("src/codec/a/c.rs", "use super::super::b::B;"),
            ("src/codec/b.rs", "use super::a::C;"),
        ],
        &[
            ("mount/src/lib.rs", "mod a;\nmod b;\npub use b::B;"),
            ("mount/src/a.rs", "use crate::B;"),
            ("mount/src/b.rs", "use crate::a::A;"),
        ],
    ];
    for case in cases {
        let sources = case.iter().map(|(path, code)| (path.to_string(), code.to_string()));
        assert_eq!(complaints(&sources.collect()).len(), 1, "{case:?}");
    }
}

#[test]
fn what_is_no_circle_is_not() {
    let cases: &[(&str, &str)] = &[
        (
            "src/codec/mod.rs",
            "mod a;\nmod b;\npub mod c;\n#[cfg(test)]\nmod testing;\npub use a::{A, a};\npub use b::B;\npub struct S;\nfn f() { \"A // \\\" B\"; }",
        ),
        (
            "src/codec/a.rs",
            "use super::S;\n// super::b::B\n#[cfg(test)]\nmod tests {\n    use super::super::b::B;\n}",
        ),
        ("src/codec/b.rs", "use super::{A, S};\nuse crate::codec::c::f;\nuse std::fmt;"),
        ("src/codec/c.rs", "pub fn f() { super::A::new() }\n#[cfg(test)]\nuse super::B;"),
        ("src/codec/testing.rs", "use super::b::B;"),
        // Files of two modules are the business of the layers.
        ("src/storage/mod.rs", "mod d;\npub use d::D;"),
        ("src/storage/d.rs", "use crate::codec::A;"),
    ];
    let sources: Sources =
        cases.iter().map(|(path, code)| (path.to_string(), code.to_string())).collect();
    assert_eq!(complaints(&sources), Vec::<Vec<String>>::new());
}

/// Returns for each circle the imports that make it.
fn complaints(sources: &Sources) -> Vec<Vec<String>> {
    let files: Files = sources.iter().map(|(path, text)| (path.clone(), Code::new(text))).collect();
    let edges = edges(&files);
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        edges.keys().map(|file| (file, reached_from(file, &edges))).collect();
    let mut complaints = BTreeMap::new();
    for (file, reachable) in &reached {
        let circle: BTreeSet<&String> =
            reachable.iter().copied().filter(|other| reached[other].contains(file)).collect();
        let imports = circle.iter().flat_map(|file| {
            let inside = edges[*file].iter().filter(|(target, _)| circle.contains(target));
            inside.map(move |(target, name)| format!("{file} uses {name} of {target}"))
        });
        let imports: Vec<_> = imports.collect();
        if !imports.is_empty() {
            complaints.insert(circle, imports);
        }
    }
    complaints.into_values().collect()
}

fn reached_from<'e>(file: &String, edges: &'e Edges) -> BTreeSet<&'e String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = edges[file].keys().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(edges[next].keys());
        }
    }
    reached
}

type Files = BTreeMap<String, Code>;

/// For each file those of its module that it imports, and a path by which it does.
type Edges = BTreeMap<String, BTreeMap<String, String>>;

fn edges(files: &Files) -> Edges {
    let is_test = |path: &String| {
        let door = parent(files, path).and_then(|door| files.get(&door));
        let name = module_name(path);
        door.is_some_and(|door| door.test_modules.contains(&name))
    };
    let counted: Vec<&String> = files.keys().filter(|path| !is_test(path)).collect();
    let edges = counted.iter().map(|path| {
        let mut targets = BTreeMap::new();
        for name in imports(files, path) {
            let Some(target) = resolve(files, path, &name, 0) else { continue };
            if target != **path
                && module_of(&target) == module_of(path)
                && counted.contains(&&target)
            {
                targets.entry(target).or_insert_with(|| name.join("::"));
            }
        }
        (path.to_string(), targets)
    });
    edges.collect()
}

/// Returns the paths that a file itself depends on.
fn imports(files: &Files, path: &str) -> Vec<Vec<String>> {
    let code = &files[path];
    let is_used = |import: &&Import| {
        !import.is_exported || !is_door(path) || has_word(&code.rest, &import.name)
    };
    let uses = code.uses.iter().filter(is_used).map(|import| import.path.clone());
    let mut starts: Vec<String> = ["crate", "super", "self"].map(String::from).to_vec();
    starts.extend(children(files, path));
    let spelled = starts.iter().flat_map(|start| {
        let below = paths_after(&code.rest, start).into_iter();
        below.map(|below| [vec![start.clone()], below].concat())
    });
    uses.chain(spelled).collect()
}

/// Returns the file that defines what a path in a file names; none for other crates.
fn resolve(files: &Files, file: &str, path: &[String], depth: usize) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let root = if file.starts_with("mount/") { "mount/src/lib.rs" } else { "src/lib.rs" };
    match first.as_str() {
        "crate" => look_up(files, root, rest, depth),
        "self" => look_up(files, file, rest, depth),
        "super" => look_up(files, &parent(files, file)?, rest, depth),
        name => look_up(files, &child(files, file, name)?, rest, depth),
    }
}

/// Follows names from a file downwards.
fn look_up(files: &Files, file: &str, path: &[String], depth: usize) -> Option<String> {
    let Some((first, rest)) = path.split_first() else { return Some(file.to_string()) };
    match first.as_str() {
        "super" => return look_up(files, &parent(files, file)?, rest, depth),
        "self" | "" => return Some(file.to_string()),
        _ => {}
    }
    if let Some(child) = child(files, file, first) {
        return look_up(files, &child, rest, depth);
    }
    let code = files.get(file);
    let import = code.and_then(|code| code.uses.iter().find(|import| import.name == *first));
    match import.filter(|_| depth < 9) {
        Some(import) => {
            let path = [&import.path[..], rest].concat();
            resolve(files, file, &path, depth + 1)
        }
        None => Some(file.to_string()),
    }
}

fn is_door(path: &str) -> bool {
    ["mod.rs", "lib.rs", "main.rs"].contains(&path.rsplit('/').next().unwrap())
}

/// Returns the folder in which the files of the modules inside a file lie.
fn folder(path: &str) -> &str {
    if is_door(path) { path.rsplit_once('/').unwrap().0 } else { path.trim_end_matches(".rs") }
}

fn child(files: &Files, path: &str, name: &str) -> Option<String> {
    let folder = folder(path);
    [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
        .into_iter()
        .find(|path| files.contains_key(path) && !is_root(path))
}

fn is_root(path: &str) -> bool {
    ["src/lib.rs", "src/main.rs", "mount/src/lib.rs"].contains(&path)
}

fn children(files: &Files, path: &str) -> BTreeSet<String> {
    let is_below = |other: &&String| parent(files, other).as_deref() == Some(path);
    files.keys().filter(is_below).map(|other| module_name(other)).collect()
}

/// Returns the file that declares the module of a file.
fn parent(files: &Files, path: &str) -> Option<String> {
    if is_root(path) {
        return None;
    }
    let folder = path.trim_end_matches("/mod.rs").rsplit_once('/')?.0;
    let root =
        ["src/lib.rs", "mount/src/lib.rs"].into_iter().find(|root| self::folder(root) == folder);
    let doors = [format!("{folder}/mod.rs"), format!("{folder}.rs")];
    root.map(String::from).or_else(|| doors.into_iter().find(|door| files.contains_key(door)))
}

fn module_name(path: &str) -> String {
    path.trim_end_matches("/mod.rs").trim_end_matches(".rs").rsplit('/').next().unwrap().to_string()
}

/// Returns the module of the table of layers; the mount crate is one.
fn module_of(path: &str) -> &str {
    match path.strip_prefix("src/") {
        Some(inside) => inside.split('/').next().unwrap().trim_end_matches(".rs"),
        None => "mount",
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|other| other == word)
}

/// The code of a file, without comments and tests.
struct Code {
    uses: Vec<Import>,
    /// What is no `use` line.
    rest: String,
    /// Modules in files of their own that are declared for tests.
    test_modules: BTreeSet<String>,
}

struct Import {
    /// The last name.
    name: String,
    path: Vec<String>,
    is_exported: bool,
}

impl Code {
    fn new(text: &str) -> Self {
        let (code, tests) = without_tests(&without_texts(text));
        let declared =
            tests.lines().filter_map(|line| line.trim().split_once("mod ")?.1.strip_suffix(';'));
        let (mut uses, mut rest) = (Vec::new(), String::new());
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            let start = line.trim_start();
            let is_exported = start.starts_with("pub");
            let tree = match start.split_once("use ") {
                Some(("", tree)) => tree,
                Some((before, tree)) if is_exported && !before.trim_end().contains(' ') => tree,
                _ if start.contains("mod ") && start.ends_with(';') => continue,
                _ => {
                    rest += line;
                    rest.push('\n');
                    continue;
                }
            };
            let mut tree = tree.to_string();
            while !tree.contains(';') {
                let Some(line) = lines.next() else { break };
                tree += line;
            }
            let alias = tree.split_once(" as ").filter(|_| !tree.contains('{'));
            let alias = alias.map(|(_, name)| name.trim_end_matches(';').to_string());
            for mut path in branches(&tree).0 {
                if path.last().is_some_and(|name| name == "self") {
                    path.pop();
                }
                let Some(name) = alias.clone().or_else(|| path.last().cloned()) else { continue };
                uses.push(Import { name, path, is_exported });
            }
        }
        let test_modules = declared.map(String::from).collect();
        Self { uses, rest, test_modules }
    }
}

/// Returns code without comments and the content of strings.
fn without_texts(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(['"', '/', '\'']) {
        code += &rest[..at];
        let tail = &rest[at..];
        let length = if tail.starts_with("//") {
            tail.find('\n').unwrap_or(tail.len())
        } else if let Some(string) = tail.strip_prefix('"') {
            let (is_raw, mut is_escaped) = (code.ends_with('r'), false);
            let end = string.find(|c| {
                let ends = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped && !is_raw;
                ends
            });
            end.map_or(tail.len(), |end| end + 2)
        } else if let Some(quoted) =
            ["'\"'", "'\\\"'"].iter().find(|quoted| tail.starts_with(**quoted))
        {
            quoted.len()
        } else {
            code += &tail[..1];
            rest = &tail[1..];
            continue;
        };
        rest = &tail[length..];
    }
    code + rest
}

/// Takes the items behind `#[cfg(test)]` out of code that is formatted by rustfmt; returns what is
/// left, and them.
fn without_tests(code: &str) -> (String, String) {
    let (mut left, mut taken) = (String::new(), String::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            left += line;
            left.push('\n');
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let mut is_first = true;
        for line in lines.by_ref().skip_while(|line| line.trim_start().starts_with("#[")) {
            taken += line;
            taken.push('\n');
            if line.starts_with(&end) || is_first && line.trim_end().ends_with([';', ',', '}']) {
                break;
            }
            is_first = false;
        }
    }
    (left, taken)
}
