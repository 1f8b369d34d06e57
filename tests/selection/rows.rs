//! The tricky cases of selection, numbered as in CLI.md 5.8. Two tests include this file: the
//! module's own, and the one that asks duplicity.

use super::Rule;
use std::path::{Path, PathBuf};

/// One command line, and what it stores.
#[derive(Debug)]
pub struct Row {
    /// Its number in CLI.md 5.8; 0 for one of our own.
    pub number: u32,
    /// The source; `R` stands for the whole path of the tree, and a relative one is meant from the
    /// directory above `R`.
    pub source: &'static str,
    /// Options; in their values `R` at the start of a path stands for the whole path of the tree.
    pub options: &'static str,
    /// What is stored.
    pub stored: Stored,
}

/// What a run stores; the root always is.
#[derive(Debug)]
pub enum Stored {
    /// Everything but these paths and what is below them, split at spaces.
    AllBut(&'static str),
    /// These paths alone, split at spaces.
    Only(&'static str),
    /// Nothing: it ends with this exit code.
    Exit(i32),
}

use Stored::{AllBut, Exit, Only};

const fn row(number: u32, options: &'static str, stored: Stored) -> Row {
    Row { number, source: "R", options, stored }
}

const fn from(number: u32, source: &'static str, options: &'static str, stored: Stored) -> Row {
    Row { number, source, options, stored }
}

/// All paths below the root of the tree.
pub const TREE: &str = "a a/Three.TXT a/one.txt a/two.py b b/.nobackup b/one.txt emptydir link2a sub sub/deep sub/deep/x.py sub/y.txt \
                        top.txt we[ir]d";

/// The table. Options are split at spaces.
pub const ROWS: &[Row] = &[
    row(0, "", AllBut("")),
    row(1, "--exclude R/a", AllBut("a")),
    row(2, "--exclude R/a/", AllBut("a")),
    row(2, "--exclude R/top.txt/", AllBut("")),
    row(3, "--exclude **.txt", AllBut("a/one.txt b/one.txt sub/y.txt top.txt")),
    row(4, "--exclude R/*.txt", AllBut("top.txt")),
    row(5, "--exclude R/**/*.txt", AllBut("a/one.txt b/one.txt sub/y.txt")),
    row(6, "--exclude R/s", AllBut("")),
    row(7, "--exclude R/a/*", AllBut("a/Three.TXT a/one.txt a/two.py")),
    row(8, "--exclude R", Only("")),
    row(8, "--exclude **", Only("")),
    row(8, "--exclude /", Only("")),
    row(8, "--exclude /**", Only("")),
    row(8, "--exclude PARENT", Only("")),
    row(9, "--include R --exclude R", AllBut("")),
    row(10, "--include R/a --exclude **", Only("a a/Three.TXT a/one.txt a/two.py")),
    row(11, "--include R/a/one.txt --exclude **", Only("a a/one.txt")),
    row(12, "--include R/a/one.txt --exclude R/a", AllBut("a/Three.TXT a/two.py")),
    row(13, "--exclude R/a --include R/a/one.txt --exclude **", Only("")),
    row(14, "--include R/*.txt --exclude **", Only("top.txt")),
    row(
        15,
        "--include R/? --exclude **",
        Only("a a/Three.TXT a/one.txt a/two.py b b/.nobackup b/one.txt"),
    ),
    row(16, "--include **.py --exclude **", Only("a a/two.py sub sub/deep sub/deep/x.py")),
    row(17, "--include R/**/ --exclude **", Only("a b emptydir sub sub/deep")),
    row(18, "--exclude **/", Only("link2a top.txt we[ir]d")),
    row(19, "--include R/sub/* --exclude **", Only("sub sub/deep sub/deep/x.py sub/y.txt")),
    row(20, "--include R/emptydir/** --exclude **", Only("")),
    row(21, "--include **two.py --exclude R/a", Only("a a/two.py")),
    row(22, "--include **/x.py --exclude R/sub --exclude R/a", Only("sub sub/deep sub/deep/x.py")),
    row(23, "--include R/a/**.py --exclude R/b", AllBut("a/Three.TXT a/one.txt b")),
    row(24, "--include R/emptydir/x --exclude R/b", AllBut("b emptydir")),
    row(25, "--include R/a/*.py --exclude R/b", AllBut("b")),
    row(26, "--include R/link2a --exclude **", Only("link2a")),
    row(26, "--include R/link2a/ --exclude **", Only("")),
    row(
        26,
        "--copy-links --include R/link2a/ --exclude **",
        Only("link2a link2a/Three.TXT link2a/one.txt link2a/two.py"),
    ),
    row(27, "--exclude R/we[ir]d", AllBut("")),
    row(27, "--exclude R/we[[]ir]d", AllBut("we[ir]d")),
    row(27, "--exclude R/we[ir", AllBut("")),
    row(28, "--exclude ignorecase:R/A/THREE.txt", AllBut("a/Three.TXT")),
    row(28, "--exclude IgnoreCase:**/one.TXT", AllBut("a/one.txt b/one.txt")),
    row(29, "--exclude a", Exit(14)),
    row(29, "--exclude ./a", Exit(14)),
    row(29, "--exclude /etc", Exit(14)),
    row(29, "--exclude ~/x", Exit(14)),
    from(30, "root", "--exclude R/a", Exit(14)),
    from(30, "root", "--exclude root/a", AllBut("a")),
    from(30, "./root", "--exclude root/a", AllBut("a")),
    from(30, "./root", "--exclude ./root/a", Exit(14)),
    from(31, ".", "--exclude ./root/a", AllBut("root/a")),
    from(31, ".", "--exclude **/a", AllBut("root/a")),
    row(32, "--exclude-regexp /a$", AllBut("a")),
    row(
        33,
        "--include-regexp /a(/|$) --exclude-regexp .*",
        Only("a a/Three.TXT a/one.txt a/two.py"),
    ),
    row(34, "--exclude-if-present deep", AllBut("sub")),
    row(35, "--include R/b --exclude-if-present .nobackup --exclude **", Only("")),
    from(36, "/dev", "--include /dev/null --exclude-device-files --exclude **", Only("")),
    from(36, "/dev", "--include /dev/null --exclude **", Only("null")),
    from(
        37,
        "/dev",
        "--exclude /dev/shm/** --include /dev/shm/ --exclude-other-filesystems --exclude **",
        Only("shm"),
    ),
    from(37, "/dev", "--exclude-other-filesystems --include /dev/shm --exclude **", Only("")),
    row(38, "--exclude **/sub/**", AllBut("sub/deep sub/y.txt")),
    row(38, "--exclude **/sub/", AllBut("sub")),
    row(38, "--exclude **sub**", AllBut("sub")),
    // Of our own.
    row(0, "--exclude *", Only("")),
    row(0, "--exclude R//a", Exit(15)),
    row(0, "--exclude R/**//a", AllBut("")),
    row(0, "--include R/a", Exit(16)),
    row(0, "--exclude R/b --include R/a --exclude-device-files", Exit(16)),
    row(0, "--exclude R/[!a-r]*", AllBut("sub top.txt we[ir]d")),
    row(0, "--exclude R/a[!x]one.txt", AllBut("a/one.txt")),
    row(0, "--include-regexp one --exclude **", Only("")),
    row(0, "--exclude-regexp one\\.(?=t)", AllBut("a/one.txt b/one.txt")),
    row(0, "--exclude R/[z-a]", Exit(30)),
    row(0, "--exclude-regexp [0-9", Exit(30)),
    row(0, "--exclude-if-present .nobackup --exclude-if-present x.py", AllBut("b sub/deep")),
    row(0, "--exclude-if-present deep/x.py", AllBut("")),
    row(
        0,
        "--include R/sub/deep --exclude R/sub/y.txt --exclude-older-than 2090-01-01",
        Only("a b emptydir link2a sub sub/deep sub/deep/x.py"),
    ),
    from(0, "R/", "--exclude R/a", AllBut("a")),
    from(0, "R/.//", "--exclude R/a", AllBut("a")),
    from(0, "R/top.txt", "--exclude R/top.txt", Only("")),
    from(0, "R/top.txt/", "", Only("")),
    from(0, "R/link2a/", "", Only("")),
    from(0, "R/nothing", "", Exit(13)),
];

impl Row {
    /// Returns the source with its place put in.
    pub fn source(&self, tree: &Path) -> String {
        placed(self.source, tree)
    }

    /// Returns the options with the tree's place put in.
    pub fn options(&self, tree: &Path) -> Vec<String> {
        self.options.split_whitespace().map(|word| placed(word, tree)).collect()
    }

    /// Returns the options as rules, and whether links are followed.
    pub fn rules(&self, tree: &Path) -> (Vec<Rule>, bool) {
        let (mut rules, mut copy_links) = (Vec::new(), false);
        let mut words = self.options(tree).into_iter();
        while let Some(option) = words.next() {
            let mut value = || words.next().unwrap();
            rules.push(match &option[..] {
                "--include" => Rule::Include(value().into()),
                "--exclude" => Rule::Exclude(value().into()),
                "--include-regexp" => Rule::IncludeRegexp(value().into()),
                "--exclude-regexp" => Rule::ExcludeRegexp(value().into()),
                "--exclude-if-present" => Rule::ExcludeIfPresent(value().into()),
                "--exclude-device-files" => Rule::ExcludeDeviceFiles,
                "--exclude-other-filesystems" => Rule::ExcludeOtherFilesystems,
                "--exclude-older-than" => Rule::ExcludeOlderThan(super::time(&value())),
                "--include-filelist" => Rule::IncludeFilelist(value().into()),
                "--exclude-filelist" => Rule::ExcludeFilelist(value().into()),
                "--copy-links" => {
                    copy_links = true;
                    continue;
                }
                other => panic!("{other}"),
            });
        }
        (rules, copy_links)
    }

    /// Returns the paths that are stored below the root, in order; `None` if none because it fails.
    pub fn expected(&self) -> Option<Vec<String>> {
        let prefix = if self.source == "." { "root/" } else { "" };
        let mut all: Vec<String> =
            TREE.split_whitespace().map(|path| format!("{prefix}{path}")).collect();
        if self.source == "." {
            all.insert(0, "root".into());
        }
        match &self.stored {
            Exit(_) => None,
            Only(paths) => Some(paths.split_whitespace().map(str::to_string).collect()),
            AllBut(left_out) => {
                let is_below = |path: &str, above: &str| {
                    path.strip_prefix(above)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                all.retain(|path| !left_out.split_whitespace().any(|above| is_below(path, above)));
                Some(all)
            }
        }
    }

    /// Returns the exit code of duplicity 0.8.22.
    pub fn exit(&self) -> i32 {
        if let Exit(code) = self.stored { code } else { 0 }
    }

    /// Tells whether what this asks about is on this machine.
    pub fn can_run(&self) -> bool {
        !self.options.contains("/dev/shm") || is_other_filesystem(Path::new("/dev/shm"))
    }
}

fn is_other_filesystem(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.symlink_metadata().ok().map(|data| data.dev());
    device(path).is_some_and(|own| device(path.parent().unwrap()) != Some(own))
}

/// Puts the place of the tree into a word.
fn placed(word: &str, tree: &Path) -> String {
    let (before, path) = word.split_at(word.find(':').map_or(0, |at| at + 1));
    let tree_text = tree.to_str().unwrap();
    match path.strip_prefix('R') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            format!("{before}{tree_text}{rest}")
        }
        _ if path == "PARENT" => tree.parent().unwrap().to_str().unwrap().to_string(),
        _ => word.to_string(),
    }
}

/// Makes the tree, called `root`, in a directory; returns its path.
pub fn make_tree(directory: &Path) -> PathBuf {
    let tree = directory.join("root");
    for name in ["a", "b", "emptydir", "sub/deep"] {
        std::fs::create_dir_all(tree.join(name)).unwrap();
    }
    for name in [
        "a/one.txt",
        "a/two.py",
        "a/Three.TXT",
        "b/.nobackup",
        "b/one.txt",
        "sub/y.txt",
        "sub/deep/x.py",
        "top.txt",
        "we[ir]d",
    ] {
        std::fs::write(tree.join(name), name).unwrap();
    }
    std::os::unix::fs::symlink("a", tree.join("link2a")).unwrap();
    tree
}

/// Makes a directory whose path has no capitals, which duplicity 0.8.22 needs for patterns without
/// case; gone when dropped.
pub fn lower_case_directory() -> tempfile::TempDir {
    loop {
        let directory = tempfile::Builder::new().prefix("dupfs-").rand_bytes(8).tempdir().unwrap();
        if !directory.path().to_str().unwrap().contains(|c: char| c.is_ascii_uppercase()) {
            return directory;
        }
        let wanted = directory
            .path()
            .with_file_name(directory.path().file_name().unwrap().to_str().unwrap().to_lowercase());
        if let Some(name) = wanted.file_name().and_then(|name| name.to_str())
            && let Ok(made) = tempfile::Builder::new().prefix(name).rand_bytes(0).tempdir()
        {
            return made;
        }
    }
}
