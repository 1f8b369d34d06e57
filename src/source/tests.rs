//! Tests of the module as a whole.

use super::*;
use crate::model::{BackupTime, EntryKind, EntryPath};
use crate::monitor::Silent;
use proptest::prelude::*;
use rustix::fs::{self as at, CWD, Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

#[path = "../../tests/selection/rows.rs"]
mod rows;

use rows::{ROWS, Row};

fn time(text: &str) -> BackupTime {
    BackupTime::parse_expression(text, BackupTime::from_seconds(0)).unwrap()
}

fn selection(tree: &SourceTree, rules: Vec<Rule>) -> Result<Arc<Selection>, Error> {
    let options = SelectionOptions { rules, null_separator: false };
    Selection::new(Base::Source(tree.name()), &options, &Silent).map(Arc::new)
}

/// Returns what is told: paths without the root, sockets with `=`, links to nowhere with `?` and
/// failures with `!` behind them.
fn told(walk: Walk) -> Vec<String> {
    let steps = walk.map(|step| match step {
        Step::Found(found) => found.path.to_string(),
        Step::Socket(path) => format!("{path}="),
        Step::Dangling(path) => format!("{path}?"),
        Step::Failed(failure) => format!("{}! {failure}: {}", failure.path, failure.cause),
    });
    steps.filter(|path| path != ".").collect()
}

fn selected(source: &Path, rules: Vec<Rule>) -> Vec<String> {
    let tree = SourceTree::open(source, &SourceOptions::default()).unwrap();
    told(tree.walk(Some(selection(&tree, rules).unwrap())))
}

/// The exit code that the program will give an error.
fn code(error: &Error) -> i32 {
    match error {
        Error::Missing(_) => 13,
        Error::FilePrefix { .. } => 14,
        Error::Globbing(_) => 15,
        Error::RedundantInclusion(_) => 16,
        Error::Regexp { .. } | Error::BackwardRange(_) => 30,
        other => panic!("{other}"),
    }
}

fn check(row: &Row, root: &Path) {
    let (rules, copy_links) = row.rules(root);
    let outcome = SourceTree::open(row.source(root).as_ref(), &SourceOptions { copy_links });
    let outcome = outcome.and_then(|tree| Ok(told(tree.walk(Some(selection(&tree, rules)?)))));
    match outcome {
        Ok(stored) => assert_eq!(Some(stored), row.expected(), "{row:?}"),
        Err(error) => assert_eq!(code(&error), row.exit(), "{row:?}: {error}"),
    }
}

#[test]
fn tricky_cases() {
    assert!((1..=38).all(|number| ROWS.iter().any(|row| row.number == number)));
    let directory = rows::lower_case_directory();
    let root = rows::make_tree(directory.path());
    let is_absolute = |row: &&Row| row.source.starts_with(['R', '/']);
    ROWS.iter().filter(is_absolute).filter(|row| row.can_run()).for_each(|row| check(row, &root));
    // The working directory belongs to the process, so relative sources are tried in one of their
    // own.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "source::tests::relative_cases"])
        .env("DUPFS_TEST_TREE", &root)
        .current_dir(directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Started by the test above, in the directory that holds the tree.
#[test]
fn relative_cases() {
    let Some(root) = std::env::var_os("DUPFS_TEST_TREE") else { return };
    let is_relative = |row: &&Row| !row.source.starts_with(['R', '/']);
    let rows: Vec<_> = ROWS.iter().filter(is_relative).collect();
    assert!(rows.len() > 4);
    rows.iter().for_each(|row| check(row, root.as_ref()));
}

#[test]
fn a_file_dropped_by_scanning_alone_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let root = rows::make_tree(directory.path());
    let dropped = |include: &str, exclude: &str| {
        let tree = SourceTree::open(&root, &SourceOptions::default()).unwrap();
        let selection =
            selection(&tree, vec![Rule::Include(include.into()), Rule::Exclude(exclude.into())])
                .unwrap();
        tree.walk(Some(selection.clone())).for_each(drop);
        selection.dropped()
    };
    // Of b, sub and the root: b/.nobackup, b/one.txt, link2a, sub/deep/x.py, sub/y.txt, top.txt,
    // we[ir]d; those in `a` are excluded.
    assert_eq!(dropped("**two.py", &format!("{}/a", root.display())), 7);
    assert_eq!(dropped("**two.py", "**"), 0);
}

#[test]
fn filelists() {
    let directory = tempfile::tempdir().unwrap();
    let root = rows::make_tree(directory.path());
    let r = root.to_str().unwrap();
    let list = |text: &str| {
        let path = directory.path().join("list");
        std::fs::write(&path, text).unwrap();
        path
    };
    let with = |text: String, rules: fn(PathBuf) -> Vec<Rule>| selected(&root, rules(list(&text)));
    let lines = format!(
        "# all but\r\n\r\n  + {r}/a/one.txt\t\r\n{r}/a\r\n- '{r}/sub'\r\nignorecase:{r}/TOP.txt\n"
    );
    let stored = with(lines, |list| vec![Rule::ExcludeFilelist(list)]);
    assert_eq!(
        stored,
        ["a", "a/one.txt", "b", "b/.nobackup", "b/one.txt", "emptydir", "link2a", "we[ir]d"]
    );
    let stored = with(format!("{r}/b\n- **"), |list| vec![Rule::IncludeFilelist(list)]);
    assert_eq!(stored, ["b", "b/.nobackup", "b/one.txt"]);
    // The manual's example: the first line wins.
    let stored = with(format!("{r}/sub\n- {r}/sub/deep\n{r}/a/one.txt\n- **"), |list| {
        vec![Rule::IncludeFilelist(list)]
    });
    assert_eq!(stored, ["a", "a/one.txt", "sub", "sub/deep", "sub/deep/x.py", "sub/y.txt"]);
    // By their names of 0.8 these are shell patterns, whatever has been said before; and what was
    // said holds on behind them.
    let literal = |list, name: &str| vec![Rule::FilterLiteral, list, Rule::Exclude(name.into())];
    let kept = list(&format!("{r}/s*\n- {r}/a*\n"));
    let stored =
        selected(&root, literal(Rule::IncludeGlobbingFilelist(kept), &format!("{r}/we[ir]d")));
    assert_eq!(
        stored,
        [
            "b",
            "b/.nobackup",
            "b/one.txt",
            "emptydir",
            "link2a",
            "sub",
            "sub/deep",
            "sub/deep/x.py",
            "sub/y.txt",
            "top.txt"
        ]
    );
    let left = list(&format!("{r}/[abels]*\n"));
    let stored =
        selected(&root, literal(Rule::ExcludeGlobbingFilelist(left), &format!("{r}/we[ir]d")));
    assert_eq!(stored, ["top.txt"]);

    let tree = SourceTree::open(&root, &SourceOptions::default()).unwrap();
    let error = |rules| selection(&tree, rules).unwrap_err();
    assert!(matches!(error(vec![Rule::IncludeFilelist(list(r))]), Error::RedundantInclusion(_)));
    assert!(matches!(
        error(vec![Rule::ExcludeFilelist(list(&format!("-  {r}/a")))]),
        Error::FilePrefix { .. }
    ));
    assert!(matches!(
        error(vec![Rule::ExcludeFilelist("/no/such".into())]),
        Error::Filelist { .. }
    ));
    std::fs::write(directory.path().join("list"), b"\xff").unwrap();
    assert!(matches!(
        error(vec![Rule::ExcludeFilelist(directory.path().join("list"))]),
        Error::FilelistEncoding(_)
    ));
}

#[test]
fn files_from_a_list() {
    let directory = tempfile::tempdir().unwrap();
    let root = rows::make_tree(directory.path());
    let list = directory.path().join("list");
    std::fs::write(&list, "sub/deep\nnothing/here\nb/one.txt\ntop.txt\n").unwrap();
    let stored = selected(&root, vec![Rule::FilesFrom(list.clone())]);
    assert_eq!(stored, ["b", "b/one.txt", "sub", "sub/deep", "top.txt"]);
    let b = root.join("b");
    let stored = selected(&root, vec![Rule::FilesFrom(list), Rule::Exclude(b.into())]);
    assert_eq!(stored, ["sub", "sub/deep", "top.txt"]);
}

#[test]
fn filters() {
    let directory = tempfile::tempdir().unwrap();
    let root = rows::make_tree(directory.path());
    let below = |path: &str| Rule::Exclude(root.join(path).into());
    let without = |gone: &str| {
        let all = rows::TREE
            .split_whitespace()
            .filter(|path| !gone.split_whitespace().any(|gone| *path == gone));
        all.map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(selected(&root, vec![Rule::FilterLiteral, below("we[ir]d")]), without("we[ir]d"));
    let regexp = || Rule::Exclude("ONE\\.txt$".into());
    assert_eq!(selected(&root, vec![Rule::FilterRegexp, regexp()]), without(""));
    assert_eq!(
        selected(&root, vec![Rule::FilterRegexp, Rule::FilterIgnoreCase, regexp()]),
        without("a/one.txt b/one.txt")
    );
    let tree = SourceTree::open(&root, &SourceOptions::default()).unwrap();
    let error = |rules| selection(&tree, rules).unwrap_err();
    assert!(matches!(
        error(vec![below("a"), Rule::FilterLiteral]),
        Error::TrailingFilter("--filter-literal")
    ));
    assert!(matches!(error(vec![Rule::FilterGlobbing, below("a")]), Error::RedundantFilter(_)));
    assert!(matches!(error(vec![Rule::Exclude("".into())]), Error::EmptyPattern("--exclude")));
}

#[test]
fn rules_for_a_restore_see_paths_in_the_backup() {
    let rules = ["./a/*.txt", "b"]
        .map(|pattern| Rule::Include(pattern.into()))
        .into_iter()
        .chain([Rule::Exclude("**".into())]);
    let options = SelectionOptions { rules: rules.collect(), null_separator: false };
    let selection = Selection::new(Base::Archive, &options, &Silent).unwrap();
    let decide = |path: &str, kind| {
        let path = EntryPath::parse(path.as_bytes()).unwrap();
        selection.decide(&Candidate {
            path: &path,
            kind,
            mtime: 0,
            is_foreign: false,
            holds: &|_| false,
        })
    };
    assert_eq!(decide("a", CandidateKind::Directory), Verdict::Scan);
    assert_eq!(decide("a/x.txt", CandidateKind::File), Verdict::Include);
    assert_eq!(decide("a/x.py", CandidateKind::File), Verdict::Exclude);
    assert_eq!(decide("b/c", (&EntryKind::Fifo).into()), Verdict::Include);
    for bad in ["/a", "a/../b", "a/.", "./"] {
        let options =
            SelectionOptions { rules: vec![Rule::Exclude(bad.into())], null_separator: false };
        assert!(
            matches!(
                Selection::new(Base::Archive, &options, &Silent),
                Err(Error::ArchivePattern(_))
            ),
            "{bad}"
        );
    }
}

#[test]
fn everything_of_an_entry_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    std::fs::write(&path, "content").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o6754)).unwrap();
    let before = at::Timespec { tv_sec: -2, tv_nsec: 500_000_000 };
    at::utimensat(
        CWD,
        &path,
        &at::Timestamps { last_access: before, last_modification: before },
        at::AtFlags::empty(),
    )
    .unwrap();
    symlink("some where", directory.path().join("l")).unwrap();
    at::mknodat(CWD, directory.path().join("p"), at::FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("s")).unwrap();
    let tree = SourceTree::open(directory.path(), &SourceOptions::default()).unwrap();
    let steps: Vec<_> = tree.walk(None).collect();
    let [
        Step::Found(root),
        Step::Found(file),
        Step::Found(link),
        Step::Found(pipe),
        Step::Socket(socket),
    ] = &steps[..]
    else {
        panic!("{steps:?}")
    };
    assert_eq!((root.entry.kind.clone(), root.path.is_root()), (EntryKind::Directory, true));
    let stat = at::stat(&path).unwrap();
    assert_eq!((file.entry.mode, file.entry.mtime, file.size), (0o6754, -2, 7));
    assert_eq!(
        (file.inode, file.device, file.entry.owner.uid),
        (stat.st_ino, stat.st_dev, stat.st_uid)
    );
    assert_eq!(file.ctime, stat.st_ctime * 1_000_000_000 + stat.st_ctime_nsec as i64);
    assert_eq!(
        file.entry.owner.user,
        uzers::get_user_by_uid(stat.st_uid).unwrap().name().as_bytes()
    );
    assert_eq!(link.entry.kind, EntryKind::Symlink { target: b"some where".to_vec() });
    assert_eq!((pipe.entry.kind.clone(), socket.to_string()), (EntryKind::Fifo, "s".to_string()));
    let mut content = String::new();
    file.open().unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
    assert!(link.open().is_err() && pipe.open().is_err());
    // What takes the file's place afterwards is not opened for it: a link, a pipe without a writer.
    std::fs::rename(directory.path().join("l"), &path).unwrap();
    assert!(file.open().is_err());
    std::fs::rename(directory.path().join("p"), &path).unwrap();
    assert!(file.open().is_err());
}

#[test]
fn a_swapped_directory_leads_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let root = rows::make_tree(directory.path());
    let tree = SourceTree::open(&root, &SourceOptions::default()).unwrap();
    let file = tree.walk(None).find_map(|step| match step {
        Step::Found(found) if found.path.to_string() == "sub/deep/x.py" => Some(found),
        _ => None,
    });
    std::fs::rename(root.join("sub"), directory.path().join("elsewhere")).unwrap();
    symlink("../elsewhere", root.join("sub")).unwrap();
    assert!(root.join("sub/deep/x.py").exists() && file.unwrap().open().is_err());
}

#[test]
fn single_files_and_links_are_roots() {
    let directory = tempfile::tempdir().unwrap();
    let root = rows::make_tree(directory.path());
    let open =
        |name: &str, copy_links| SourceTree::open(&root.join(name), &SourceOptions { copy_links });
    let kinds = |name: &str, copy_links| {
        let steps = open(name, copy_links).unwrap().walk(None);
        steps
            .map(|step| if let Step::Found(found) = step { found.entry.kind } else { panic!() })
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds("top.txt", false), [EntryKind::File]);
    assert_eq!(kinds("link2a/", false), [EntryKind::Symlink { target: b"a".to_vec() }]);
    assert_eq!(
        kinds("link2a", true),
        [EntryKind::Directory, EntryKind::File, EntryKind::File, EntryKind::File]
    );
    let Some(Step::Found(file)) = open("top.txt", false).unwrap().walk(None).next() else {
        panic!()
    };
    let mut content = String::new();
    file.open().unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "top.txt");
    assert!(matches!(open("nothing", false), Err(Error::Missing(_))));
    assert_eq!(open("a/.//", false).unwrap().name(), root.join("a").as_os_str().as_bytes());
}

#[test]
fn links_that_lead_back_up_are_failures() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    symlink("..", root.join("a/b/up")).unwrap();
    symlink("nowhere", root.join("broken")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("a/b", root.join("over")).unwrap();
    let tree = SourceTree::open(root, &SourceOptions { copy_links: true }).unwrap();
    let told = told(tree.walk(None));
    let names: Vec<_> = told.iter().map(|line| line.split(' ').next().unwrap()).collect();
    // From `over`, `..` is `a`, which is not above; and in it `b` is where the walk came from.
    assert_eq!(
        names,
        ["a", "a/b", "a/b/up!", "broken?", "loop?", "over", "over/up", "over/up/b!"],
        "{told:?}"
    );
}

#[test]
fn a_directory_larger_than_a_chunk_comes_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for number in 0..2 * listing::CHUNK + 10 {
        let name = format!("{:05}", number * 7919 % 100_000);
        match number % 300 {
            0 => {
                std::fs::create_dir(directory.path().join(&name)).unwrap();
                std::fs::write(directory.path().join(&name).join("x"), "").unwrap();
                expected.extend([name.clone(), format!("{name}/x")]);
            }
            _ => {
                std::fs::write(directory.path().join(&name), "").unwrap();
                expected.push(name);
            }
        }
    }
    expected.sort();
    let tree = SourceTree::open(directory.path(), &SourceOptions::default()).unwrap();
    assert_eq!(told(tree.walk(None)), expected);
}

#[test]
fn names_that_are_no_text_are_walked_and_matched() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &[u8]| directory.path().join(OsStr::from_bytes(name));
    for name in [&b"\xff"[..], b"a\xe9b", b"caf\xc3\xa9", b"new\nline"] {
        std::fs::write(path(name), "").unwrap();
    }
    let left = |rule: Rule| selected(directory.path(), vec![rule]);
    assert_eq!(left(Rule::Exclude(path(b"?").into())), ["a\\xe9b", "café", "new\\nline"]);
    assert_eq!(left(Rule::Exclude(path(b"a\xe9*").into())), ["café", "new\\nline", "\\xff"]);
    assert_eq!(left(Rule::Exclude(path(b"caf?").into())), ["a\\xe9b", "new\\nline", "\\xff"]);
    assert_eq!(left(Rule::ExcludeRegexp("w.l|/a.b$".into())), ["café", "new\\nline", "\\xff"]);
}

/// Makes directories of one name in each other, and a file in the last.
fn deep(top: &Path, name: &str, depth: usize) {
    let mut directory = at::openat(CWD, top, OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..depth {
        at::mkdirat(&directory, name, Mode::from(0o700)).unwrap();
        directory = at::openat(&directory, name, OFlags::PATH, Mode::empty()).unwrap();
    }
    let file =
        at::openat(&directory, "f", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o600)).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
}

#[test]
fn paths_longer_than_the_kernel_takes() {
    for copy_links in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        deep(directory.path(), &"n".repeat(200), 60);
        let tree = SourceTree::open(directory.path(), &SourceOptions { copy_links }).unwrap();
        let steps: Vec<_> = tree.walk(None).collect();
        assert_eq!(steps.len(), 62);
        let Some(Step::Found(last)) = steps.last() else { panic!("{:?}", steps.last()) };
        assert_eq!(last.path.as_bytes().len(), 60 * 201 + 1);
        let mut content = String::new();
        last.open().unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "deep");
    }
}

#[test]
fn very_deep_trees_take_no_stack_and_no_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    // More than a process may hold open by default.
    deep(directory.path(), "ddd", 1200);
    let tree = SourceTree::open(directory.path(), &SourceOptions::default()).unwrap();
    assert_eq!(told(tree.walk(None)).len(), 1201);
    let rules = vec![Rule::Include("**f".into()), Rule::Exclude("**".into())];
    assert_eq!(selected(directory.path(), rules).len(), 1201);
}

#[test]
fn what_vanishes_meanwhile_does_not_stop_the_walk() {
    let directory = tempfile::tempdir().unwrap();
    // Enough before `y` that no thread has looked into it when the first path is told.
    for name in 0..15_000 {
        std::fs::write(directory.path().join(format!("f{name}")), "").unwrap();
    }
    for name in ["y", "z"] {
        std::fs::create_dir(directory.path().join(name)).unwrap();
    }
    std::fs::write(directory.path().join("z/x"), "").unwrap();
    let tree = SourceTree::open(directory.path(), &SourceOptions::default()).unwrap();
    let mut last = Vec::new();
    for step in tree.walk(None) {
        match step {
            Step::Found(found) if found.path.as_bytes() == b"f10" => {
                std::fs::remove_dir(directory.path().join("y")).unwrap();
                std::fs::remove_file(directory.path().join("f9999")).unwrap();
            }
            Step::Found(found) if !found.path.as_bytes().starts_with(b"f") => {
                last.push(found.path.to_string())
            }
            Step::Found(_) => {}
            Step::Failed(failure) => last.push(format!(
                "{}{}",
                failure.path,
                if failure.is_gone() { " gone" } else { "?" }
            )),
            Step::Socket(_) | Step::Dangling(_) => panic!(),
        }
    }
    assert_eq!(last, [".", "f9999 gone", "y gone", "z", "z/x"]);
}

#[test]
fn a_directory_that_vanishes_after_it_was_told_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("root")).unwrap();
    let tree = SourceTree::open(&directory.path().join("root"), &SourceOptions::default()).unwrap();
    std::fs::remove_dir(directory.path().join("root")).unwrap();
    let told = told(tree.walk(None));
    assert!(told.is_empty() || told[0].contains("cannot list '.'"), "{told:?}");
}

/// As root everything is readable, so an ordinary user walks, in a process of its own.
#[test]
fn what_cannot_be_read_looks_absent() {
    if !rustix::process::geteuid().is_root()
        || Command::new("setpriv").arg("--version").output().is_err()
    {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = rows::make_tree(directory.path());
    std::fs::create_dir(root.join("nosearch")).unwrap();
    std::fs::write(root.join("nosearch/x"), "").unwrap();
    let modes = [
        ("a/one.txt", 0o600),
        ("b", 0o700),
        ("sub/deep", 0o711),
        ("nosearch", 0o744),
        ("", 0o755),
        ("..", 0o755),
        ("top.txt", 0o640),
    ];
    for (name, mode) in modes {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    // A copy of this program where that user can reach it.
    let program = directory.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", "source::tests::as_an_ordinary_user"])
        .env("DUPFS_TEST_UNREADABLE", &root)
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Started by the test above.
#[test]
fn as_an_ordinary_user() {
    let Some(root) = std::env::var_os("DUPFS_TEST_UNREADABLE") else { return };
    let root = Path::new(&root);
    let tree = SourceTree::open(root, &SourceOptions::default()).unwrap();
    let denied = |path: &str, operation: &str| format!("{path}! cannot {operation} '{path}': ");
    let told = told(tree.walk(None));
    let failures: Vec<_> = told.iter().filter(|line| line.contains('!')).collect();
    let expected = [
        ("a/one.txt", "read"),
        ("b", "read"),
        ("nosearch/x", "stat"),
        ("sub/deep", "read"),
        ("top.txt", "read"),
    ];
    assert_eq!(failures.len(), expected.len(), "{told:?}");
    for (line, (path, operation)) in failures.iter().zip(expected) {
        assert!(line.starts_with(&denied(path, operation)), "{line}");
    }
    assert!(told.contains(&"nosearch".to_string()) && !told.contains(&"b".to_string()));
    let told = selected(
        root,
        vec![
            Rule::Exclude("**/x/".into()),
            Rule::FilterLiteral,
            Rule::Exclude(root.join("b").into()),
        ],
    );
    assert!(
        !told.iter().any(|line| line.starts_with("nosearch/x") || line.starts_with("b!")),
        "{told:?}"
    );
    // What is left out is not complained about; a mark is seen in a directory that can be listed
    // but not searched.
    let excluded = vec![
        Rule::Exclude("**one.txt".into()),
        Rule::Exclude(root.join("b").into()),
        Rule::ExcludeIfPresent("x".into()),
    ];
    let told = selected(root, excluded);
    let failures: Vec<_> = told
        .iter()
        .filter(|line| line.contains('!'))
        .map(|line| line.split('!').next().unwrap())
        .collect();
    assert_eq!(failures, ["sub/deep", "top.txt"], "{told:?}");
    assert!(!told.contains(&"nosearch".to_string()));
}

/// A tree of names from few letters: whether each path is a directory.
fn small_tree() -> impl Strategy<Value = BTreeMap<String, bool>> {
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "a.b", ".a"]), 1..4);
    prop::collection::vec((path, any::<bool>()), 0..12).prop_map(|paths| {
        let mut tree = BTreeMap::new();
        for (components, is_directory) in paths {
            let path = components.join("/");
            let parents: Vec<_> =
                path.match_indices('/').map(|(at, _)| path[..at].to_string()).collect();
            if parents.iter().any(|parent| tree.get(parent) == Some(&false))
                || tree.contains_key(&path)
            {
                continue;
            }
            tree.extend(parents.into_iter().map(|parent| (parent, true)));
            tree.insert(path, is_directory);
        }
        tree
    })
}

/// Rules of few letters: whether each includes, and its pattern below the root.
fn small_rules() -> impl Strategy<Value = Vec<(bool, String)>> {
    let part = prop::sample::select(vec!["a", "b", "?", "*", "**", "[ab]", "[!a]", ".", "/", "/"]);
    let pattern = prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat());
    let pattern = pattern.prop_filter("a doubled slash is an error", |pattern| {
        !format!("/{pattern}").contains("//")
    });
    prop::collection::vec((any::<bool>(), pattern), 0..5)
}

/// What a glob matches, character by character: slow, and plainly right.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    match glob {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|cut| glob_matches(rest, &text[cut..])),
        [b'*', rest @ ..] => {
            let longest = text.iter().position(|&b| b == b'/').unwrap_or(text.len());
            (0..=longest).any(|cut| glob_matches(rest, &text[cut..]))
        }
        [b'?', rest @ ..] => !text.is_empty() && text[0] != b'/' && glob_matches(rest, &text[1..]),
        [b'[', b'a', b'b', b']', rest @ ..] => {
            matches!(text.first(), Some(b'a' | b'b')) && glob_matches(rest, &text[1..])
        }
        [b'[', b'!', b'a', b']', rest @ ..] => {
            text.first().is_some_and(|&b| b != b'a') && glob_matches(rest, &text[1..])
        }
        [c, rest @ ..] => text.first() == Some(c) && glob_matches(rest, &text[1..]),
    }
}

/// Decides as the manual tells it: -1 out, 0 scanned, 1 in.
fn reference(root: &str, rules: &[(bool, String)], path: &str, is_directory: bool) -> i32 {
    let whole = format!("{root}/{path}");
    let starts = || whole.match_indices('/').map(|(at, _)| &whole[..at]);
    let mut is_scanned = false;
    for (is_include, pattern) in rules {
        let (glob, only_directories) =
            pattern.strip_suffix('/').map_or((&pattern[..], false), |glob| (glob, true));
        let matches = |text: &str| glob_matches(glob.as_bytes(), text.as_bytes());
        let is_exact = matches(&whole);
        let is_below = starts().any(matches);
        if is_exact && only_directories && !is_directory {
            continue;
        }
        if is_exact || is_below {
            return if *is_include {
                1
            } else if is_scanned {
                0
            } else {
                -1
            };
        }
        let fixed = glob.find("**").map_or(glob, |at| &glob[..at + 2]);
        let mut leading = fixed.match_indices('/').map(|(at, _)| &fixed[..at]).chain([fixed]);
        is_scanned |=
            *is_include && leading.any(|part| glob_matches(part.as_bytes(), whole.as_bytes()));
    }
    if is_scanned { 0 } else { 1 }
}

/// Returns what is stored of a tree: everything is looked at, and each path asks what became of its
/// parents.
fn reference_walk(
    root: &str,
    rules: &[(bool, String)],
    tree: &BTreeMap<String, bool>,
) -> BTreeSet<String> {
    let parents = |path: &str| {
        path.match_indices('/').map(|(at, _)| path[..at].to_string()).collect::<Vec<_>>()
    };
    let decide = |path: &str| reference(root, rules, path, tree[path]);
    let is_in =
        |path: &str| decide(path) == 1 && parents(path).iter().all(|parent| decide(parent) >= 0);
    let stored: BTreeSet<_> = tree.keys().filter(|path| is_in(path)).cloned().collect();
    let above = stored.iter().flat_map(|path| parents(path)).collect::<BTreeSet<_>>();
    &stored | &above
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn selection_equals_the_slow_reference(tree in small_tree(), rules in small_rules(), anywhere in any::<bool>()) {
        let directory = tempfile::Builder::new().prefix("c").tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        for (path, is_directory) in &tree {
            let path = directory.path().join(path);
            if *is_directory { std::fs::create_dir(path).unwrap() } else { std::fs::write(path, "").unwrap() }
        }
        let start = if anywhere { "**" } else { root };
        let mut rules: Vec<_> = rules.into_iter().map(|(is_include, pattern)| (is_include, format!("{start}/{pattern}"))).collect();
        if rules.last().is_some_and(|(is_include, _)| *is_include) {
            rules.push((false, format!("{root}/b/**")));
        }
        let typed = rules.iter().map(|(is_include, glob)| {
            if *is_include { Rule::Include(glob.into()) } else { Rule::Exclude(glob.into()) }
        });
        let stored = selected(directory.path(), typed.collect());
        let sorted: Vec<_> = stored.iter().map(|path| EntryPath::parse(path.as_bytes()).unwrap()).collect();
        prop_assert!(sorted.is_sorted(), "{stored:?}");
        let stored: BTreeSet<_> = stored.into_iter().collect();
        prop_assert_eq!(stored, reference_walk(root, &rules, &tree), "{:?}", rules);
    }
}
