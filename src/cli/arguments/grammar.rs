//! The command line as duplicity reads it: from what was typed to a line with every option in full
//! and the command in front, which [`crate::cli::command_line`] parses.
//!
//! Options may stand anywhere, in the spelling of either family (0.8 and 3.x), cut to a prefix that
//! is unique, their value behind `=`, in the next argument even if that begins with `-`, or, of one
//! letter, behind it; `--` ends them. The first argument that is left is the action if it is the
//! name or alias of one. It is, too, if it is the beginning of just one, the number of arguments
//! fits, and there is no such path: 0.8 takes `f` for `full` whatever lies there, 3.x takes full
//! names alone. Without an action two arguments mean a backup or a restore, by which of them is a
//! URL.
//!
//! Texts and rules: duplicity 0.8.22 and 3.2.1, tried. The exit code of a bad command line is that
//! of 0.8: 2.

use crate::cli::failure::Failure;
use dupfs::storage::Url;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What an argument of an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Path,
    Url,
    /// A time or a number, which the action itself checks.
    Other,
}

/// One of duplicity's actions.
struct Action {
    name: &'static str,
    /// Its short names in 3.x.
    aliases: &'static [&'static str],
    takes: &'static [Kind],
}

/// duplicity's actions.
const ACTIONS: &[Action] = &[
    Action { name: "backup", aliases: &["bu"], takes: &[Kind::Path, Kind::Url] },
    Action { name: "cleanup", aliases: &["cl"], takes: &[Kind::Url] },
    Action { name: "collection-status", aliases: &["st"], takes: &[Kind::Url] },
    Action { name: "full", aliases: &["fb"], takes: &[Kind::Path, Kind::Url] },
    Action {
        name: "incremental",
        aliases: &["ib", "inc", "incr"],
        takes: &[Kind::Path, Kind::Url],
    },
    Action { name: "list-current-files", aliases: &["ls"], takes: &[Kind::Url] },
    Action { name: "remove-all-but-n-full", aliases: &["ra"], takes: &[Kind::Other, Kind::Url] },
    Action {
        name: "remove-all-inc-of-but-n-full",
        aliases: &["ri"],
        takes: &[Kind::Other, Kind::Url],
    },
    Action { name: "remove-older-than", aliases: &["ro"], takes: &[Kind::Other, Kind::Url] },
    Action { name: "replicate", aliases: &[], takes: &[Kind::Url, Kind::Url] },
    Action { name: "restore", aliases: &["rb"], takes: &[Kind::Url, Kind::Path] },
    Action { name: "verify", aliases: &["vb"], takes: &[Kind::Url, Kind::Path] },
];

/// The version of duplicity that we stand in for. Current releases of duply refuse anything below
/// 2.1.0, and read the second word; Déjà Dup 44 takes all that follows the first blank, so the date
/// that duplicity 3.2.1 puts there would stop it.
const STANDS_FOR: &str = "duplicity 3.2.1";

const NO_URL: &str = "One of the arguments must be an URL.  Examples of URL strings are\n\
    \"scp://user@host.net:1234/path\" and \"file:///usr/local\".  See the man\npage for more information.";

/// The answer to `--help-urls`.
const URLS: &str =
    "Backends and their URL formats:\n  file:///some_dir\n  file://dir_below_this_one";

/// Returns whether we were called as `duplicity`.
pub fn is_duplicity() -> bool {
    std::env::args_os().next().is_some_and(|name| is_called_duplicity(&name))
}

fn is_called_duplicity(name: &OsStr) -> bool {
    Path::new(name).file_name() == Some(OsStr::new("duplicity"))
}

/// A command line, taken apart.
#[derive(Debug, Default)]
pub struct Line {
    program: OsString,
    /// Each option in full, with its value.
    options: Vec<OsString>,
    /// What is no option.
    words: Vec<OsString>,
    /// What was asked for instead: help, or the version.
    question: Option<String>,
    /// What is to be said about an action that was not named.
    pub notice: Option<&'static str>,
    /// What is to be said about old names of options.
    pub warnings: Vec<String>,
}

impl Line {
    /// Takes a command line apart.
    ///
    /// # Errors
    /// [`Failure::BadOption`] for an option that is not known, not unique, or without its value.
    /// What was understood before is in `self` all the same.
    pub fn read(&mut self, typed: Vec<OsString>, known: &Options) -> Result<(), Failure> {
        let mut rest = typed.into_iter();
        self.program = rest.next().unwrap_or_default();
        while let Some(argument) = rest.next() {
            match argument.as_bytes() {
                b"--" => self.words.extend(rest.by_ref()),
                [b'-', b'-', ..] => self.long(&argument, known, &mut rest)?,
                [b'-', _, ..] => self.short(&argument, known, &mut rest)?,
                _ => self.words.push(argument),
            }
        }
        Ok(())
    }

    /// Returns the last value of an option.
    pub fn value(&self, option: &str) -> Option<&OsStr> {
        let prefix = format!("--{option}=");
        self.options
            .iter()
            .rev()
            .find_map(|typed| typed.as_bytes().strip_prefix(prefix.as_bytes()))
            .map(OsStr::from_bytes)
    }

    fn long(
        &mut self,
        argument: &OsStr,
        known: &Options,
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Failure> {
        let bytes = &argument.as_bytes()[2..];
        let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(place) => (&bytes[..place], Some(OsStr::from_bytes(&bytes[place + 1..]))),
            None => (bytes, None),
        };
        let name = String::from_utf8_lossy(name);
        if name == "help" || name == "version" || name.starts_with("help-") {
            self.question.get_or_insert(format!("--{name}"));
            return Ok(());
        }
        // Old names, never cut short.
        if let Some(kind @ ("include" | "exclude")) = name.strip_suffix("-filelist-stdin") {
            self.warnings.push(old_name(&name, &format!("{kind}-filelist=/dev/stdin")));
            self.options.push(format!("--{kind}-filelist=/dev/stdin").into());
            return Ok(());
        }
        let option = known.find(&name)?;
        if let Some(kind) =
            option.long.as_ref().and_then(|long| long.strip_suffix("-globbing-filelist"))
        {
            self.warnings
                .push(old_name(&format!("{kind}-globbing-filelist"), &format!("{kind}-filelist")));
        }
        self.take(option, value.map(OsStr::to_owned), rest)
    }

    fn short(
        &mut self,
        argument: &OsStr,
        known: &Options,
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Failure> {
        let mut letters = &argument.as_bytes()[1..];
        while let [letter, behind @ ..] = letters {
            let letter = char::from(*letter);
            if letter == 'h' || letter == 'V' {
                self.question.get_or_insert(format!("-{letter}"));
            } else {
                let option = known.list.iter().find(|option| option.short == Some(letter));
                let option = option
                    .ok_or_else(|| Failure::BadOption(format!("no such option: -{letter}")))?;
                let is_value = option.values > 0 && !behind.is_empty();
                self.take(option, is_value.then(|| OsStr::from_bytes(behind).to_owned()), rest)?;
                if is_value {
                    return Ok(());
                }
            }
            letters = behind;
        }
        Ok(())
    }

    /// Takes an option with its values, of which the first may be at hand.
    fn take(
        &mut self,
        option: &Known,
        value: Option<OsString>,
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Failure> {
        let mut typed = OsString::from(option.full());
        if option.values > 1 {
            self.options.push(typed);
            for _ in 0..option.values {
                self.options.push(rest.next().ok_or_else(|| option.without_value())?);
            }
            return Ok(());
        }
        if option.values == 1 || value.is_some() {
            let value = value.or_else(|| rest.next()).ok_or_else(|| option.without_value())?;
            // Of one letter alone, clap takes the value as it is.
            typed.push(if option.long.is_some() { "=" } else { "" });
            typed.push(value);
        }
        self.options.push(typed);
        Ok(())
    }

    /// Returns the line that clap parses: the action in front, in full.
    ///
    /// # Errors
    /// [`Failure::CommandLine`] when the arguments make no sense.
    pub fn arranged(&mut self, table: &clap::Command) -> Result<Vec<OsString>, Failure> {
        let is_duplicity = is_called_duplicity(&self.program);
        let mut line = vec![self.program.clone()];
        if let Some(question) = self.question.take() {
            line.extend(answer(&question, self.words.first(), table, is_duplicity));
            return Ok(line);
        }
        if self.words.is_empty() && !is_duplicity {
            return Ok(line);
        }
        if self.words.first().is_some_and(|word| word == "help") {
            line.append(&mut self.words);
            return Ok(line);
        }
        let action = match self.named(table)? {
            Some(action) => {
                self.words.remove(0);
                action
            }
            None => self.implied()?,
        };
        check(&action, &self.words, is_duplicity)?;
        line.push(action.into());
        line.append(&mut self.options);
        line.push("--".into());
        line.append(&mut self.words);
        Ok(line)
    }

    /// Returns the action that the first word is, if it is one.
    fn named(&self, table: &clap::Command) -> Result<Option<String>, Failure> {
        let Some(word) = self.words.first().and_then(|word| word.to_str()) else { return Ok(None) };
        if let Some(name) = exact(word, table) {
            return Ok(Some(name));
        }
        let begun: Vec<_> = ACTIONS
            .iter()
            .filter(|action| action.name.starts_with(word))
            .map(|action| action.name)
            .collect();
        // Our own commands, too, but they make nothing ambiguous that duplicity understands.
        let own = || {
            table
                .get_subcommands()
                .map(clap::Command::get_name)
                .filter(|name| name.starts_with(word))
                .collect()
        };
        let begun: Vec<&str> = if begun.is_empty() { own() } else { begun };
        let given = self.words.len() - 1;
        let fits = |name: &&str| number_of_arguments(name, table) == Some(given);
        // Two arguments may be a backup of a path of this name.
        let is_action = match given {
            1 => begun.iter().any(fits) && !Path::new(word).exists(),
            _ => true,
        };
        match &begun[..] {
            [] => Ok(None),
            _ if !is_action || word.is_empty() => Ok(None),
            [name] => Ok(Some(name.to_string())),
            several => {
                let names: Vec<_> = several.iter().map(|name| format!("'{name}'")).collect();
                Err(Failure::CommandLine(format!(
                    "command '{word}' not unique, could be [{}]",
                    names.join(", ")
                )))
            }
        }
    }

    /// Returns the action that two arguments mean by themselves.
    fn implied(&mut self) -> Result<String, Failure> {
        let [first, second] = &self.words[..] else {
            let count = self.words.len();
            let unknown = self
                .words
                .first()
                .map(|word| format!("; '{}' is no action, --help lists them", word.display()));
            return Err(Failure::CommandLine(format!(
                "Expected 2 args, got {count}{}",
                unknown.unwrap_or_default()
            )));
        };
        let (action, notice) = match (is_url(first), is_url(second)) {
            (false, true) => (
                "backup",
                "No valid action found. Will imply 'backup' because a path source was given and target is a url location.",
            ),
            (true, false) => (
                "restore",
                "No valid action found. Will imply 'restore' because url source was given and target is a local path.",
            ),
            (true, true) => return Err(two_urls()),
            (false, false) => return Err(Failure::CommandLine(NO_URL.into())),
        };
        self.notice = Some(notice);
        Ok(action.into())
    }
}

/// Returns how many arguments a command takes.
fn number_of_arguments(name: &str, table: &clap::Command) -> Option<usize> {
    let action = ACTIONS.iter().find(|action| action.name == name);
    action
        .map(|action| action.takes.len())
        .or_else(|| Some(table.find_subcommand(name)?.get_positionals().count()))
}

/// Returns the name of the command that has exactly this name or alias.
fn exact(word: &str, table: &clap::Command) -> Option<String> {
    let action =
        ACTIONS.iter().find(|action| action.name == word || action.aliases.contains(&word));
    action
        .map(|action| action.name.into())
        .or_else(|| Some(table.find_subcommand(word)?.get_name().to_string()))
}

fn is_url(argument: &OsStr) -> bool {
    Url::has_scheme(argument)
}

fn two_urls() -> Failure {
    Failure::CommandLine("Two URLs specified.  One argument should be a path.".into())
}

/// Makes sure that an action has its arguments, each of its kind. As `dupfs` we take a plain path
/// for a URL, too.
fn check(action: &str, words: &[OsString], is_duplicity: bool) -> Result<(), Failure> {
    let Some(Action { takes, .. }) = ACTIONS.iter().find(|known| known.name == action) else {
        return Ok(());
    };
    let bad = |text: String| Err(Failure::CommandLine(text));
    // clap names what is missing, by our names.
    if takes.len() != words.len() && is_duplicity {
        return bad(format!("Expected {} args, got {}", takes.len(), words.len()));
    }
    let ([first, second], [one, other]) = (takes, words) else { return Ok(()) };
    match ((first, second), (is_url(one), is_url(other))) {
        ((Kind::Path, Kind::Url) | (Kind::Url, Kind::Path), (true, true)) => Err(two_urls()),
        ((Kind::Path, Kind::Url) | (Kind::Url, Kind::Path), (false, false)) if is_duplicity => {
            bad(NO_URL.into())
        }
        ((Kind::Url, Kind::Url), (false, _) | (_, false)) if is_duplicity => {
            bad("Two URLs expected for replicate.".into())
        }
        ((Kind::Path, Kind::Url), (true, false)) => {
            bad(format!("{action} option cannot be used when restoring or verifying"))
        }
        ((Kind::Url, Kind::Path), (false, true)) => {
            bad(format!("{action} option cannot be used when backing up"))
        }
        _ => Ok(()),
    }
}

/// Returns the words by which clap answers a question; `--version` as duplicity and `--help-urls`
/// are answered here.
fn answer(
    question: &str,
    word: Option<&OsString>,
    table: &clap::Command,
    is_duplicity: bool,
) -> Vec<OsString> {
    let text = match question {
        "--version" | "-V" if is_duplicity => STANDS_FOR.to_string(),
        "--help-urls" => URLS.to_string(),
        _ => {
            let of = question
                .strip_prefix("--help-")
                .or_else(|| word?.to_str())
                .and_then(|word| exact(word, table));
            let of = of.filter(|name| {
                question != "-V" && question != "--version" && table.find_subcommand(name).is_some()
            });
            let how = if question.starts_with("--help-") { "--help" } else { question };
            return of.into_iter().map(OsString::from).chain([how.into()]).collect();
        }
    };
    // Whoever closed the output does not want it.
    let _ = writeln!(std::io::stdout(), "{text}");
    std::process::exit(0);
}

fn old_name(old: &str, new: &str) -> String {
    format!("--{old} is an old name, which duplicity dropped in 2.0: write --{new}")
}

/// What of an option the grammar needs.
#[derive(Debug)]
struct Known {
    long: Option<String>,
    aliases: Vec<String>,
    short: Option<char>,
    values: usize,
    /// Every command takes it.
    is_common: bool,
}

impl Known {
    fn new(option: &clap::Arg, is_common: bool) -> Self {
        let takes = option.get_action().takes_values();
        let values = option.get_num_args().map_or(1, |number| number.max_values());
        let aliases = option.get_all_aliases().unwrap_or_default();
        Self {
            long: option.get_long().map(String::from),
            aliases: aliases.into_iter().map(String::from).collect(),
            short: option.get_short(),
            values: if takes { values } else { 0 },
            is_common,
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.long.iter().chain(&self.aliases).map(String::as_str)
    }

    fn full(&self) -> String {
        match (&self.long, self.short) {
            (Some(long), _) => format!("--{long}"),
            (None, short) => short.map(|letter| format!("-{letter}")).unwrap_or_default(),
        }
    }

    fn without_value(&self) -> Failure {
        Failure::BadOption(format!(
            "{} option requires {} argument",
            self.full(),
            self.values.max(1)
        ))
    }
}

/// All options that there are.
pub struct Options {
    list: Vec<Known>,
}

impl Options {
    /// Collects the options of a table: those of all commands, then those of one command alone.
    pub fn new(table: &clap::Command) -> Self {
        let common = table.get_arguments().map(|option| Known::new(option, true));
        let own = table
            .get_subcommands()
            .flat_map(|command| command.get_arguments())
            .filter(|option| !option.is_positional());
        Self { list: common.chain(own.map(|option| Known::new(option, false))).collect() }
    }

    /// Finds an option by its name or the beginning of it.
    fn find(&self, name: &str) -> Result<&Known, Failure> {
        if let Some(exact) =
            self.list.iter().find(|option| option.names().any(|known| known == name))
        {
            return Ok(exact);
        }
        let begun = |is_common: bool| {
            let begins = |option: &&Known| {
                option.is_common == is_common && option.names().any(|known| known.starts_with(name))
            };
            let mut begun: Vec<_> = self.list.iter().filter(begins).collect();
            begun.sort_by(|one, other| one.long.cmp(&other.long));
            begun.dedup_by(|one, other| one.long == other.long);
            begun
        };
        // What is ours alone makes nothing ambiguous.
        let common = begun(true);
        match &if common.is_empty() { begun(false) } else { common }[..] {
            [] => Err(Failure::BadOption(format!("no such option: --{name}"))),
            [option] => Ok(option),
            several => {
                let names: Vec<_> = several.iter().map(|option| option.full()).collect();
                Err(Failure::BadOption(format!(
                    "ambiguous option: --{name} ({}?)",
                    names.join(", ")
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command_line;

    fn arranged(typed: &str) -> Result<String, String> {
        let table = command_line::command();
        let mut line = Line::default();
        line.read(typed.split(' ').map(Into::into).collect(), &Options::new(&table))
            .map_err(|error| error.to_string())?;
        let words = line.arranged(&table).map_err(|error| error.to_string())?;
        Ok(words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_action_is_named_begun_or_implied() {
        for (typed, expected) in [
            ("duplicity s file:///t", "duplicity backup -- s file:///t"),
            ("duplicity file:///t s", "duplicity restore -- file:///t s"),
            (
                "duplicity -v5 inc s --vol=3 file:///t",
                "duplicity incremental --verbosity=5 --volsize=3 -- s file:///t",
            ),
            ("duplicity f s file:///t", "duplicity full -- s file:///t"),
            ("duplicity col file:///t", "duplicity collection-status -- file:///t"),
            (
                "duplicity ls -t3D -t 4D file:///t",
                "duplicity list-current-files --time=3D --time=4D -- file:///t",
            ),
            // The arguments do not fit `verify`.
            ("duplicity v file:///t", "duplicity backup -- v file:///t"),
            ("dupfs fu /s /t", "dupfs full -- /s /t"),
            (
                "duplicity full --gpg-options --no-tty -- -s file:///t",
                "duplicity full --gpg-options=--no-tty -- -s file:///t",
            ),
            (
                "duplicity --rename a b --exclude=-x rb file:///t s",
                "duplicity restore --rename a b --exclude=-x -- file:///t s",
            ),
            (
                "duplicity --file-to-restore a file:///t s",
                "duplicity restore --path-to-restore=a -- file:///t s",
            ),
            (
                "duplicity s file:///t --exclude-filelist-stdin",
                "duplicity backup --exclude-filelist=/dev/stdin -- s file:///t",
            ),
            ("dupfs --help", "dupfs --help"),
            ("dupfs --help-inc", "dupfs incremental --help"),
            ("duplicity restore x --help", "duplicity restore --help"),
        ] {
            assert_eq!(arranged(typed).as_deref(), Ok(expected), "{typed}");
        }
    }

    #[test]
    #[cfg(feature = "mount")]
    fn our_own_commands_are_known() {
        for (typed, expected) in [
            (
                "duplicity mount --foreground file:///t m",
                "duplicity mount --foreground -- file:///t m",
            ),
            ("dupfs mou /t m --cache 5", "dupfs mount --cache-size=5 -- /t m"),
            ("dupfs mount /t m -o a,b", "dupfs mount -oa,b -- /t m"),
        ] {
            assert_eq!(arranged(typed).as_deref(), Ok(expected), "{typed}");
        }
    }

    #[test]
    fn nonsense_is_told() {
        for (typed, expected) in [
            ("duplicity", "Expected 2 args, got 0"),
            ("duplicity full s", "Expected 2 args, got 1"),
            (
                "duplicity c file:///t",
                "command 'c' not unique, could be ['cleanup', 'collection-status']",
            ),
            (
                "duplicity file:///t file:///u",
                "Two URLs specified.  One argument should be a path.",
            ),
            (
                "duplicity full file:///t s",
                "full option cannot be used when restoring or verifying",
            ),
            ("duplicity restore s file:///t", "restore option cannot be used when backing up"),
            ("duplicity --nonsense s file:///t", "no such option: --nonsense"),
            ("duplicity s file:///t --volsize", "--volsize option requires 1 argument"),
            ("duplicity -q s file:///t", "no such option: -q"),
            ("duplicity --exclude-d", "Expected 2 args, got 0"),
            (
                "duplicity --s3-use-gl x",
                "ambiguous option: --s3-use-gl (--s3-use-glacier, --s3-use-glacier-ir?)",
            ),
        ] {
            assert_eq!(arranged(typed).as_ref().map_err(String::as_str), Err(expected), "{typed}");
        }
        assert!(
            arranged("duplicity s t")
                .unwrap_err()
                .starts_with("One of the arguments must be an URL.")
        );
    }

    /// Of a positional argument that has the name of an option, clap takes the one for the other,
    /// and refuses the option.
    #[test]
    fn any_command_takes_any_option() {
        let table = command_line::command();
        let options: Vec<_> = table.get_arguments().map(clap::Arg::get_id).collect();
        for command in table.get_subcommands() {
            for argument in command.get_positionals() {
                assert!(
                    !options.contains(&argument.get_id()),
                    "{}: {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }
}
