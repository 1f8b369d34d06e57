//! [`Selection`]: the user's include and exclude rules; the first that answers decides.

use super::Error;
use super::filelist::{self, Listed};
use super::glob::{Hit, Pattern, decode};
use super::regexp::Regexp;
use crate::model::{BackupTime, EntryKind, EntryPath};
use crate::monitor::{Level, Monitor};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// One selection option as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// `--include PATTERN`
    Include(OsString),
    /// `--exclude PATTERN`
    Exclude(OsString),
    /// `--include-filelist FILE`: each line is a pattern to include, unless it begins with `- `.
    IncludeFilelist(PathBuf),
    /// `--exclude-filelist FILE`: each line is a pattern to exclude, unless it begins with `+ `.
    ExcludeFilelist(PathBuf),
    /// `--include-globbing-filelist FILE`: as `--include-filelist`, always of shell patterns.
    IncludeGlobbingFilelist(PathBuf),
    /// `--exclude-globbing-filelist FILE`: as `--exclude-filelist`, always of shell patterns.
    ExcludeGlobbingFilelist(PathBuf),
    /// `--include-regexp EXPRESSION`
    IncludeRegexp(OsString),
    /// `--exclude-regexp EXPRESSION`
    ExcludeRegexp(OsString),
    /// `--exclude-if-present NAME`: leaves out directories that hold an entry of this name.
    ExcludeIfPresent(OsString),
    /// `--exclude-device-files`: leaves out block and character devices.
    ExcludeDeviceFiles,
    /// `--exclude-other-filesystems`: leaves out what has another device number than the source.
    ExcludeOtherFilesystems,
    /// `--exclude-older-than TIME`: leaves out regular files modified before.
    ExcludeOlderThan(BackupTime),
    /// `--filter-globbing`: patterns from here on are shell patterns, as they are at the start.
    FilterGlobbing,
    /// `--filter-literal`: patterns from here on are paths.
    FilterLiteral,
    /// `--filter-regexp`: patterns from here on are regular expressions.
    FilterRegexp,
    /// `--filter-ignorecase`: patterns and expressions from here on match without case.
    FilterIgnoreCase,
    /// `--filter-strictcase`: patterns and expressions from here on match with case, as they do at
    /// the start.
    FilterStrictCase,
    /// `--files-from FILE`: exactly the listed paths instead of a walk. The last one counts.
    FilesFrom(PathBuf),
}

/// What a [`Selection`] is made of.
#[derive(Debug, Clone, Default)]
pub struct SelectionOptions {
    /// The selection options, in the order of the command line.
    pub rules: Vec<Rule>,
    /// `--null-separator`: entries of lists end in NUL instead of a newline.
    pub null_separator: bool,
}

/// What patterns are matched against.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// Whole paths below a source, which is named so:
    /// [`SourceTree::name`](super::SourceTree::name).
    Source(&'a [u8]),
    /// Paths in a backup, as listings show them: for restores.
    Archive,
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is stored.
    Include,
    /// It is not, nor is anything below it.
    Exclude,
    /// As a directory it is entered, and stored if something inside is; anything else is not
    /// stored.
    Scan,
}

/// The types that rules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A block or character device.
    Device,
    /// A symbolic link, a named pipe, a socket.
    Other,
}

impl From<&EntryKind> for CandidateKind {
    fn from(kind: &EntryKind) -> Self {
        match kind {
            EntryKind::Directory => Self::Directory,
            EntryKind::File => Self::File,
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => Self::Device,
            EntryKind::Symlink { .. } | EntryKind::Fifo => Self::Other,
        }
    }
}

/// A path to be decided on, with what rules ask of it.
pub struct Candidate<'a> {
    /// The path, not the root: that is always stored.
    pub path: &'a EntryPath,
    /// Its type.
    pub kind: CandidateKind,
    /// Modification time in whole seconds since 1970 UTC.
    pub mtime: i64,
    /// It lies on another device than the root.
    pub is_foreign: bool,
    /// Returns whether it is a directory that holds an entry of this name; asked only if it would
    /// be stored otherwise.
    pub holds: &'a dyn Fn(&[u8]) -> bool,
}

/// Rules, compiled. Can be asked from any thread.
#[derive(Debug)]
pub struct Selection {
    /// Stands before an entry path to make what patterns see.
    prefix: Vec<u8>,
    tests: Vec<Test>,
    /// Names that make a directory be left out.
    marks: Vec<Vec<u8>>,
    listed: Option<Listed>,
    dropped: AtomicU64,
    given_up: AtomicU64,
}

/// One rule, compiled.
#[derive(Debug)]
enum Test {
    Pattern { is_include: bool, pattern: Pattern },
    Regexp { is_include: bool, regexp: Regexp },
    Devices,
    OtherFilesystems,
    OlderThan(BackupTime),
}

impl Selection {
    /// Compiles rules, and reads the lists that they name.
    ///
    /// # Errors
    /// Any [`Error`] about patterns, expressions and lists; [`Error::RedundantInclusion`] if the
    /// last rule includes; [`Error::RedundantFilter`] and [`Error::TrailingFilter`] if filter
    /// options have no effect.
    ///
    /// Source: seen with 0.8.22 and 3.2.1, CLI.md 5.
    pub fn new(
        base: Base,
        options: &SelectionOptions,
        monitor: &dyn Monitor,
    ) -> Result<Self, Error> {
        check_filters(&options.rules)?;
        let mut builder = Builder::new(base, options.null_separator, monitor);
        for rule in &options.rules {
            builder.add(rule)?;
        }
        builder.finish()
    }

    /// Decides on a path other than the root. What lies below an excluded directory is never to be
    /// asked for.
    pub fn decide(&self, candidate: &Candidate) -> Verdict {
        let verdict = self.decide_by_tests(candidate);
        // Decided first with duplicity, asked last here: a directory that is left out anyway need
        // not be opened.
        let is_marked = || self.marks.iter().any(|name| (candidate.holds)(name));
        if verdict != Verdict::Exclude && candidate.kind == CandidateKind::Directory && is_marked()
        {
            return Verdict::Exclude;
        }
        verdict
    }

    /// Returns how many times a path other than a directory was left out though no rule excludes
    /// it, because an include (nearly always one with `**`) had it scanned. Users do not expect
    /// that: it deserves a warning.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns how many searches for a regular expression were given up after a million steps back,
    /// and counted as no match.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Returns whether there is a list of files to save.
    pub(super) fn has_list(&self) -> bool {
        self.listed.is_some()
    }

    /// Returns the names listed in a directory; `None` if there is no list of files to save.
    pub(super) fn listed(&self, directory: &EntryPath) -> Option<&[Vec<u8>]> {
        let listed = self.listed.as_ref()?;
        Some(listed.get(directory).map_or(&[], Vec::as_slice))
    }

    fn decide_by_tests(&self, candidate: &Candidate) -> Verdict {
        if self.tests.is_empty() {
            return Verdict::Include;
        }
        let bytes = [&self.prefix, candidate.path.as_bytes()].concat();
        let path = decode(&bytes);
        let (mut is_scanned, mut decided) = (false, None);
        for test in &self.tests {
            match test.answer(&path, candidate, &self.given_up) {
                Some(Verdict::Scan) => is_scanned = true,
                None => {}
                answer => {
                    decided = answer;
                    break;
                }
            }
        }
        if is_scanned && decided.is_none() && candidate.kind != CandidateKind::Directory {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        match decided {
            Some(Verdict::Include) => Verdict::Include,
            _ if is_scanned => Verdict::Scan,
            Some(verdict) => verdict,
            None => Verdict::Include,
        }
    }
}

impl Test {
    /// Returns what this rule says of a path; `None` if nothing.
    fn answer(&self, path: &str, candidate: &Candidate, given_up: &AtomicU64) -> Option<Verdict> {
        let is_directory = candidate.kind == CandidateKind::Directory;
        let excluded = |is_out: bool| is_out.then_some(Verdict::Exclude);
        match self {
            Self::Pattern { is_include: true, pattern } => match pattern.hit(path, is_directory)? {
                Hit::Matches => Some(Verdict::Include),
                Hit::Leads => Some(Verdict::Scan),
            },
            Self::Pattern { is_include: false, pattern } => {
                excluded(pattern.matches(path, is_directory))
            }
            Self::Regexp { is_include, regexp } => match regexp.is_match(path) {
                Some(is_match) => is_match.then_some(if *is_include {
                    Verdict::Include
                } else {
                    Verdict::Exclude
                }),
                None => {
                    given_up.fetch_add(1, Ordering::Relaxed);
                    None
                }
            },
            Self::Devices => excluded(candidate.kind == CandidateKind::Device),
            Self::OtherFilesystems => excluded(candidate.is_foreign),
            Self::OlderThan(time) => {
                excluded(candidate.kind == CandidateKind::File && candidate.mtime < time.seconds())
            }
        }
    }
}

/// How patterns are read.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Globbing,
    Literal,
    Regexp,
}

/// A selection in the making.
struct Builder<'a> {
    base: Base<'a>,
    null_separator: bool,
    monitor: &'a dyn Monitor,
    mode: Mode,
    ignore_case: bool,
    selection: Selection,
    /// What the last rule is called, if it only includes.
    redundant: Option<String>,
}

impl<'a> Builder<'a> {
    fn new(base: Base<'a>, null_separator: bool, monitor: &'a dyn Monitor) -> Self {
        let prefix = match base {
            Base::Source(b"/") => b"/".to_vec(),
            Base::Source(name) => [name, b"/"].concat(),
            Base::Archive => Vec::new(),
        };
        let (dropped, given_up) = Default::default();
        let selection = Selection {
            prefix,
            tests: Vec::new(),
            marks: Vec::new(),
            listed: None,
            dropped,
            given_up,
        };
        Self {
            base,
            null_separator,
            monitor,
            mode: Mode::Globbing,
            ignore_case: false,
            selection,
            redundant: None,
        }
    }

    fn add(&mut self, rule: &Rule) -> Result<(), Error> {
        match rule {
            Rule::Include(pattern) => self.pattern(&argument(pattern, "--include")?, true)?,
            Rule::Exclude(pattern) => self.pattern(&argument(pattern, "--exclude")?, false)?,
            Rule::IncludeFilelist(path) => self.filelist(path, true)?,
            Rule::ExcludeFilelist(path) => self.filelist(path, false)?,
            Rule::IncludeGlobbingFilelist(path) => self.globbing_filelist(path, true)?,
            Rule::ExcludeGlobbingFilelist(path) => self.globbing_filelist(path, false)?,
            Rule::IncludeRegexp(pattern) => {
                self.regexp(&argument(pattern, "--include-regexp")?, true)?
            }
            Rule::ExcludeRegexp(pattern) => {
                self.regexp(&argument(pattern, "--exclude-regexp")?, false)?
            }
            // These two stand before all others, so they are not the last rule.
            Rule::ExcludeIfPresent(name) => self.mark(name)?,
            Rule::ExcludeDeviceFiles => self.selection.tests.insert(0, Test::Devices),
            Rule::ExcludeOtherFilesystems => self.other_filesystems()?,
            Rule::ExcludeOlderThan(time) => self.push(Test::OlderThan(*time), None),
            Rule::FilterGlobbing => self.mode = Mode::Globbing,
            Rule::FilterLiteral => self.mode = Mode::Literal,
            Rule::FilterRegexp => self.mode = Mode::Regexp,
            Rule::FilterIgnoreCase => self.ignore_case = true,
            Rule::FilterStrictCase => self.ignore_case = false,
            Rule::FilesFrom(path) => self.files_from(path)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<Selection, Error> {
        match self.redundant {
            Some(expression) => Err(Error::RedundantInclusion(expression)),
            None => Ok(self.selection),
        }
    }

    fn push(&mut self, test: Test, redundant: Option<String>) {
        self.selection.tests.push(test);
        self.redundant = redundant;
    }

    /// Adds a pattern, read as the filter options before it say.
    fn pattern(&mut self, text: &str, is_include: bool) -> Result<(), Error> {
        let action = if is_include { "include" } else { "exclude" };
        let (pattern, name) = match self.mode {
            Mode::Regexp => return self.regexp(text, is_include),
            Mode::Literal => (self.literal(text)?, format!("literal string {action} case: {text}")),
            Mode::Globbing => (self.glob(text)?, format!("Command-line {action} glob: {text}")),
        };
        self.push(Test::Pattern { is_include, pattern }, is_include.then_some(name));
        Ok(())
    }

    fn glob(&self, text: &str) -> Result<Pattern, Error> {
        const WITHOUT_CASE: &str = "ignorecase:";
        let is_prefixed = text
            .get(..WITHOUT_CASE.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(WITHOUT_CASE));
        let glob = if is_prefixed { &text[WITHOUT_CASE.len()..] } else { text };
        if glob.is_empty() {
            return Err(Error::EmptyPattern("ignorecase:"));
        }
        let glob = self.relative(glob)?;
        self.reaching(text, Pattern::glob(glob, is_prefixed || self.ignore_case)?)
    }

    fn literal(&self, text: &str) -> Result<Pattern, Error> {
        self.reaching(text, Pattern::literal(self.relative(text)?, self.ignore_case)?)
    }

    /// Returns a pattern for paths in a backup without `./` at its start; any other as it is.
    fn relative<'t>(&self, text: &'t str) -> Result<&'t str, Error> {
        let Base::Archive = self.base else { return Ok(text) };
        let refused = || Err(Error::ArchivePattern(text.to_string()));
        let pattern = text.trim_start_matches("./");
        let leads_elsewhere =
            pattern.starts_with('/') || pattern.split('/').any(|part| matches!(part, "." | ".."));
        if pattern.is_empty() || leads_elsewhere { refused() } else { Ok(pattern) }
    }

    /// Returns a pattern that can match the source itself or something below it.
    fn reaching(&self, text: &str, pattern: Pattern) -> Result<Pattern, Error> {
        let Base::Source(name) = self.base else { return Ok(pattern) };
        let base = decode(name);
        if pattern.hit(&base, true).is_none() {
            return Err(Error::FilePrefix {
                pattern: text.to_string(),
                base: String::from_utf8_lossy(name).into_owned(),
            });
        }
        Ok(pattern)
    }

    fn regexp(&mut self, text: &str, is_include: bool) -> Result<(), Error> {
        let regexp = Regexp::new(text, self.ignore_case)?;
        self.push(
            Test::Regexp { is_include, regexp },
            is_include.then(|| format!("Regular expression: {text}")),
        );
        Ok(())
    }

    fn filelist(&mut self, path: &Path, is_include: bool) -> Result<(), Error> {
        let mode = match self.mode {
            Mode::Globbing => "globbing",
            Mode::Literal => "literal",
            Mode::Regexp => "regex",
        };
        self.monitor.message(Level::Notice, &format!("Reading {mode} filelist {}", path.display()));
        let text = filelist::read(path)?;
        for (is_include, pattern) in filelist::patterns(&text, self.null_separator, is_include) {
            self.pattern(pattern, is_include)?;
        }
        Ok(())
    }

    /// Adds a list by the name of 0.8, which knows nothing but shell patterns.
    fn globbing_filelist(&mut self, path: &Path, is_include: bool) -> Result<(), Error> {
        let mode = std::mem::replace(&mut self.mode, Mode::Globbing);
        let added = self.filelist(path, is_include);
        self.mode = mode;
        added
    }

    fn mark(&mut self, name: &OsString) -> Result<(), Error> {
        self.live_only("--exclude-if-present")?;
        if name.is_empty() {
            return Err(Error::EmptyPattern("--exclude-if-present"));
        }
        // What cannot be the name of an entry is in no directory.
        if EntryPath::is_name(name.as_bytes()) {
            self.selection.marks.push(name.as_bytes().to_vec());
        }
        Ok(())
    }

    fn other_filesystems(&mut self) -> Result<(), Error> {
        self.live_only("--exclude-other-filesystems")?;
        self.push(Test::OtherFilesystems, None);
        Ok(())
    }

    fn files_from(&mut self, path: &Path) -> Result<(), Error> {
        self.live_only("--files-from")?;
        self.monitor.message(
            Level::Notice,
            &format!("Reading files to backup from list {}", path.display()),
        );
        self.selection.listed = Some(filelist::files(&filelist::read(path)?, self.null_separator)?);
        Ok(())
    }

    fn live_only(&self, option: &'static str) -> Result<(), Error> {
        if let Base::Archive = self.base { Err(Error::NotForRestore(option)) } else { Ok(()) }
    }
}

/// Decodes an argument of an option.
fn argument(text: &OsString, option: &'static str) -> Result<String, Error> {
    if text.is_empty() {
        return Err(Error::EmptyPattern(option));
    }
    Ok(decode(text.as_bytes()).into_owned())
}

/// Refuses filter options without effect.
fn check_filters(rules: &[Rule]) -> Result<(), Error> {
    let name = |rule: &Rule| match rule {
        Rule::FilterGlobbing => Some("--filter-globbing"),
        Rule::FilterLiteral => Some("--filter-literal"),
        Rule::FilterRegexp => Some("--filter-regexp"),
        Rule::FilterIgnoreCase => Some("--filter-ignorecase"),
        Rule::FilterStrictCase => Some("--filter-strictcase"),
        _ => None,
    };
    if let Some(option) = rules.last().and_then(name) {
        return Err(Error::TrailingFilter(option));
    }
    let names: std::collections::BTreeSet<_> = rules.iter().filter_map(name).collect();
    if !names.is_empty()
        && names.iter().all(|name| matches!(*name, "--filter-globbing" | "--filter-strictcase"))
    {
        return Err(Error::RedundantFilter(Vec::from_iter(names).join(", ")));
    }
    Ok(())
}
