//! Selection rules asked of the original and of ours: the tricky cases one by one, then random
//! rules.

mod rows;

use crate::support::{Env, Outcome, Random, Version};
use dupfs::model::BackupTime;
use dupfs::monitor::Silent;
use dupfs::source::{
    Base, Error, Rule, Selection, SelectionOptions, SourceOptions, SourceTree, Step,
};
use rows::{ROWS, Row, make_tree};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

fn time(text: &str) -> BackupTime {
    BackupTime::parse_expression(text, BackupTime::from_seconds(0)).unwrap()
}

/// Returns the paths below the root that the original would store, in order, or its exit code.
fn original(
    env: &Env,
    version: Version,
    options: &[String],
    source: &str,
    directory: &Path,
) -> Result<Vec<String>, i32> {
    let mut command = env.command(version.checked());
    command.args(["full", "--dry-run", "-v5", "--no-print-statistics", "--no-encryption"]);
    let outcome =
        Outcome::of(command.args(options).args([source, &env.url()]).current_dir(directory));
    if outcome.code != 0 {
        return Err(outcome.code);
    }
    let paths = outcome.stdout.lines().filter_map(|line| line.strip_prefix("A "));
    Ok(paths.filter(|path| *path != ".").map(str::to_string).collect())
}

/// Returns the paths below the root that we would store, in order.
fn ours(source: &Path, rules: Vec<Rule>, copy_links: bool) -> Result<Vec<String>, Error> {
    let tree = SourceTree::open(source, &SourceOptions { copy_links })?;
    let options = SelectionOptions { rules, null_separator: false };
    let selection = Selection::new(Base::Source(tree.name()), &options, &Silent)?;
    let paths = tree.walk(Some(selection.into())).filter_map(|step| match step {
        Step::Found(found) if !found.path.is_root() => Some(found.path.to_string()),
        _ => None,
    });
    Ok(paths.collect())
}

/// Does something for each index, on as many threads as there are processors.
fn for_each(count: usize, operation: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(index) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&index| index < count)
                {
                    operation(index);
                }
            });
        }
    });
}

/// Holds rows of the table against the original, and those with a whole path as source against ours
/// too: the working directory belongs to the process, so the others are left to the module's own
/// test.
fn check_rows(version: Version, rows: &[&Row]) {
    let directory = rows::lower_case_directory();
    let root = make_tree(directory.path());
    for_each(rows.len(), |index| {
        let row = rows[index];
        let source = row.source(&root);
        let said = original(&Env::new(), version, &row.options(&root), &source, directory.path());
        assert_eq!(
            said,
            row.expected().ok_or(row.exit()),
            "row {} as {version:?} has it: {row:?}",
            row.number
        );
        if source.starts_with('/') {
            let (rules, copy_links) = row.rules(&root);
            assert_eq!(
                ours(source.as_ref(), rules, copy_links).ok(),
                said.ok(),
                "row {}: {row:?}",
                row.number
            );
        }
    });
}

#[test]
fn tricky_cases_as_0_8_has_them() {
    check_rows(Version::Old, &ROWS.iter().filter(|row| row.can_run()).collect::<Vec<_>>());
}

/// A sample: every third row, without the two that 3.2 answers otherwise (it refuses a missing
/// source by 23, and a file with `/` behind it).
#[test]
fn tricky_cases_as_3_2_has_them() {
    let is_same = |row: &&Row| row.can_run() && row.exit() != 13 && row.source != "R/top.txt/";
    check_rows(Version::New, &ROWS.iter().filter(is_same).step_by(3).collect::<Vec<_>>());
}

/// Makes up a pattern that begins with the root or with anything.
fn pattern(random: &mut Random, root: &str) -> String {
    let parts = [
        "a", "b", "sub", "deep", "one", "*", "*", "**", "?", "[a-s]", "[!a]", ".txt", ".py", "/",
        "/", "/", "/",
    ];
    let start = *random.pick(&["**", "**/", root, root, root]);
    let count = 1 + random.below(5);
    let rest: String = (0..count).map(|_| *random.pick(&parts)).collect();
    format!("{start}{}{rest}", if start == root { "/" } else { "" })
}

#[test]
fn random_rules_select_the_same() {
    let directory = rows::lower_case_directory();
    let root = make_tree(directory.path());
    let text = root.to_str().unwrap();
    for_each(60, |index| {
        let mut random = Random::new(index as u64);
        let (mut options, mut rules) = (Vec::new(), Vec::new());
        let count = 1 + random.below(4);
        for at in 0..count {
            let glob = pattern(&mut random, text);
            let is_include = at + 1 < count && random.chance(50);
            options.extend([
                if is_include { "--include" } else { "--exclude" }.to_string(),
                glob.clone(),
            ]);
            rules.push(if is_include {
                Rule::Include(glob.into())
            } else {
                Rule::Exclude(glob.into())
            });
        }
        let said = original(&Env::new(), Version::Old, &options, text, directory.path());
        let ours = ours(&root, rules, false).map_err(|error| match error {
            Error::FilePrefix { .. } => 14,
            Error::Globbing(_) => 15,
            other => panic!("{other}"),
        });
        assert_eq!(ours, said, "number {index}: {options:?}");
    });
}
