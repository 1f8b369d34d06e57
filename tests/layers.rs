//! Holds the imports in `src/` against the layers: a module imports modules of lower layers only,
//! and through their doors; the library knows neither the program nor FUSE; the mount crate does
//! not know the library. What files of one module may import of each other stands in [`circles`].

mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The layers from the bottom, and the modules on each. The page of `src/lib.rs` states the same
/// table.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["monitor", "work"],
    &["accounts", "storage", "format", "rsync", "source"],
    &["codec"],
    &["collection"],
    &["volume"],
    &["catalog"],
    &["sets"],
    &["contents", "opened"],
    &["history", "restore", "verify", "backup", "retention", "replicate"],
    &["cli"],
];

/// The module that belongs to the program, not to the library.
const PROGRAM: &str = "cli";

/// Source files by their path below the repository.
type Sources = BTreeMap<String, String>;

#[test]
fn arrows_point_down() {
    let complaints = complaints(&sources(&["src", "mount/src"]));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_architecture_page_states_the_same_layers() {
    let page = std::fs::read_to_string(repository().join("src/lib.rs")).unwrap();
    let stated = table(&page);
    let expected: BTreeMap<usize, BTreeSet<String>> = LAYERS
        .iter()
        .enumerate()
        .map(|(layer, modules)| (layer, modules.iter().map(|module| module.to_string()).collect()))
        .collect();
    assert_eq!(
        stated, expected,
        "the table in src/lib.rs has a row '| layer | `module` `module` | … |' for each layer"
    );
}

#[test]
fn the_mount_crate_does_not_depend_on_the_library() {
    let manifest = std::fs::read_to_string(repository().join("mount/Cargo.toml")).unwrap();
    let names = manifest.lines().filter_map(|line| line.split(['=', '.', ' ']).next());
    assert!(
        !names.into_iter().any(|name| name.trim() == "dupfs"),
        "mount/Cargo.toml names the library"
    );
}

/// Each line of this table is code that must be complained about, and a word of the complaint.
#[test]
fn bad_examples_are_found() {
    let door = ("src/collection/mod.rs", "mod set;");
    let cases: &[(&str, &str, &str)] = &[
        ("src/storage/mod.rs", "use crate::codec::open;", "layer"),
        ("src/storage/mod.rs", "use crate::format::FileName;", "layer"),
        ("src/storage/local.rs", "fn f() { crate::catalog::open() }", "layer"),
        ("src/storage/local.rs", "use crate::{model::Entry, volume::{Reader, Cache}};", "volume"),
        ("src/storage/local.rs", "use super::super::codec;", "layer"),
        ("src/restore.rs", "use crate::collection::set::BackupSet;", "door"),
        ("src/restore.rs", "use crate::collection::{BackupChain, set::BackupSet};", "door"),
        ("src/restore.rs", "use crate::cli::Args;", "layer"),
        ("src/restore.rs", "use dupfs_mount::Tree;", "FUSE"),
        ("src/lib.rs", "mod cli;", "program"),
        ("src/cli/commands/list.rs", "use dupfs::collection::set::BackupSet;", "door"),
        ("src/attic/mod.rs", "", "no layer"),
        ("mount/src/lib.rs", "use dupfs::model::Entry;", "library"),
    ];
    for (path, code, word) in cases {
        let sources =
            Sources::from([door, (*path, *code)].map(|(path, code)| (path.into(), code.into())));
        let complaints = complaints(&sources);
        assert!(
            complaints.iter().any(|line| line.contains(word)),
            "'{code}' in {path}: {complaints:?}"
        );
    }
}

#[test]
fn good_examples_are_not() {
    let cases: &[(&str, &str)] = &[
        (
            "src/collection/mod.rs",
            "mod set;\n// crate::catalog is above\n/// See [`crate::catalog::Catalog`].\nuse crate::codec::{Keys, open};",
        ),
        (
            "src/collection/set.rs",
            "use super::chain::Chain; use crate::collection::chain::Link; mod tests { use super::super::Chain; }",
        ),
        ("src/lib.rs", "pub mod collection;"),
        (
            "src/main.rs",
            "mod cli; fn main() { cli::run(dupfs::model::BackupTime::from_seconds(0)) }",
        ),
        (
            "src/cli/commands/mount/run.rs",
            "use dupfs::history::HistoryTree; use dupfs_mount::Tree; use crate::cli::failure::Failure;",
        ),
    ];
    let sources: Sources =
        cases.iter().map(|(path, code)| (path.to_string(), code.to_string())).collect();
    assert_eq!(complaints(&sources), Vec::<String>::new());
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(roots: &[&str]) -> Sources {
    let mut found = Sources::new();
    let mut open: Vec<_> = roots.iter().map(|root| repository().join(root)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(repository()).unwrap().to_str().unwrap().to_string();
            found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    found
}

/// Returns a line for each arrow that points the wrong way.
fn complaints(sources: &Sources) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in sources {
        let code = without_comments(text);
        match path.strip_prefix("src/") {
            None if !paths_after(&code, "dupfs").is_empty() => {
                complaints.push(format!("{path}: the mount crate names the library"))
            }
            None => {}
            Some("lib.rs") if code.contains(&format!("mod {PROGRAM};")) => {
                complaints
                    .push(format!("{path}: the library holds the program's module {PROGRAM}"));
            }
            Some("lib.rs") => {}
            Some(inside) => complaints.extend(arrows(sources, path, inside, &code)),
        }
    }
    complaints
}

/// Returns the wrong arrows of one file in `src/`.
fn arrows(sources: &Sources, path: &str, inside: &str, code: &str) -> Vec<String> {
    let module = inside.split('/').next().unwrap().trim_end_matches(".rs");
    let is_program = module == PROGRAM || module == "main";
    let Some(layer) = layer_of(module).or(is_program.then_some(LAYERS.len())) else {
        return vec![format!("{path}: the module '{module}' has no layer")];
    };
    let mut complaints = Vec::new();
    if !is_program && !paths_after(code, "dupfs_mount").is_empty() {
        complaints.push(format!("{path}: the library knows FUSE"));
    }
    for arrow in ["crate", "dupfs", "super"].iter().flat_map(|start| paths_after(code, start)) {
        let target = arrow.iter().position(|name| name != "super").unwrap_or(0);
        let Some(name) = arrow.get(target).filter(|name| *name != module) else { continue };
        let Some(other) = layer_of(name) else { continue };
        if other >= layer {
            complaints
                .push(format!("{path}: {} is no lower layer than {module}", arrow.join("::")));
        }
        // A path that ends there names an item of the door, which may be called as its file is;
        // files themselves are private.
        let goes_on = arrow.len() > target + 2;
        let behind =
            arrow.get(target + 1).filter(|file| goes_on && is_file_of(sources, name, file));
        if let Some(file) = behind {
            complaints.push(format!(
                "{path}: {} goes past the door of {name} into {file}",
                arrow.join("::")
            ));
        }
    }
    complaints
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Tells whether a module keeps a file of this name behind its door.
fn is_file_of(sources: &Sources, module: &str, file: &str) -> bool {
    let declared = |door: &String| {
        without_comments(door).lines().any(|line| line.trim_end() == format!("mod {file};"))
    };
    let exists = |path: String| sources.contains_key(&path);
    sources.get(&format!("src/{module}/mod.rs")).is_some_and(declared)
        || exists(format!("src/{module}/{file}.rs"))
        || exists(format!("src/{module}/{file}/mod.rs"))
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Returns what follows `start::` wherever it stands as a word, groups in braces taken apart.
fn paths_after(code: &str, start: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let start = format!("{start}::");
    let starts = code.match_indices(&start).filter(|(at, _)| !code[..*at].ends_with(is_word));
    starts.flat_map(|(at, found)| branches(&code[at + found.len()..]).0).collect()
}

/// Reads one branch of a `use` tree: names joined by `::`, at its end perhaps a group; returns its
/// paths and the rest.
fn branches(text: &str) -> (Vec<Vec<String>>, &str) {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut paths = Vec::new();
        loop {
            let (inner, after) = branches(rest);
            paths.extend(inner);
            let after = after.trim_start();
            match after.strip_prefix(',') {
                Some(next) if !next.trim_start().starts_with('}') => rest = next,
                other => {
                    let end = other.unwrap_or(after).trim_start();
                    return (paths, end.strip_prefix('}').unwrap_or(end));
                }
            }
        }
    }
    let length = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    match rest.strip_prefix("::") {
        Some(below) => {
            let (paths, rest) = branches(below);
            (paths.into_iter().map(|path| [vec![name.to_string()], path].concat()).collect(), rest)
        }
        None => {
            let rest = rest
                .trim_start()
                .strip_prefix("as ")
                .map_or(rest, |alias| alias.trim_start_matches(|c: char| c != ',' && c != '}'));
            (vec![vec![name.to_string()]], rest)
        }
    }
}

/// Reads the rows `| layer | modules |` of a page, modules in backticks.
fn table(page: &str) -> BTreeMap<usize, BTreeSet<String>> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("//! |"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let modules = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_string).collect();
    cells.filter_map(|cells| Some((cells.first()?.parse().ok()?, modules(cells.get(1)?)))).collect()
}
