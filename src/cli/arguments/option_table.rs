//! The table of options that are accepted, or refused, without being done; those that are done
//! stand in [`super::Common`].
//!
//! Both together are the page OPTIONS.md, which a test writes anew with `DUPFS_WRITE_OPTIONS=1`.
//! Which options there are, and which of them duplicity itself passes over: duplicity 0.8.22 and
//! 3.2.1, their `--help`, and the manual of 0.8.04.

use crate::cli::failure::Failure;
use clap::{Arg, ArgAction, ArgMatches};
use dupfs::monitor::Level;

/// What becomes of an option.
#[derive(Debug, Clone, Copy)]
enum Treatment {
    /// It concerns storages, not those that are served so far; duplicity, too, says nothing of it
    /// when it saves to a folder.
    Of(&'static str),
    /// What it asks for is always so.
    Always(&'static str),
    /// It is accepted with a warning that says why nothing comes of it.
    NoEffect(&'static str),
    /// Whatever the action, it ends with this sentence.
    Refused(&'static str),
}

/// One option: its name, what its values are called, what becomes of it.
struct Entry(&'static str, &'static [&'static str], Treatment);

use Treatment::{Always, NoEffect, Of, Refused};

const NONE: &[&str] = &[];

const BY_SSH: &str =
    "files go over ssh itself, without sftp or scp; ~/.ssh/config and --ssh-options say how";

/// The options.
const TABLE: &[Entry] = &[
    Entry(
        "asynchronous-upload",
        NONE,
        Always("volumes are stored while the next are made; --concurrency stores several at once"),
    ),
    Entry("b2-hide-files", NONE, Of("b2")),
    Entry(
        "cf-backend",
        &["NAME"],
        NoEffect("both client libraries for Rackspace that it chooses from are dead"),
    ),
    Entry("config-dir", &["DIR"], NoEffect("no storage that is served reads a folder of settings")),
    Entry(
        "copy-blocksize",
        &["KIB"],
        NoEffect("stored files are written as they are made, not copied"),
    ),
    Entry(
        "extra-clean",
        NONE,
        NoEffect("it destroyed the signatures that listings need; duplicity dropped it in 0.8.12"),
    ),
    Entry("gio", NONE, NoEffect("URLs are opened without the desktop's help")),
    Entry("idr-fakeroot", &["PATH"], Of("idrive")),
    Entry("imap-full-address", NONE, Of("imap")),
    Entry("imap-mailbox", &["NAME"], Of("imap")),
    Entry("mf-purge", NONE, Of("mediafire")),
    Entry(
        "mp-segment-size",
        &["MB"],
        NoEffect("objects up to 5 GiB, the largest that Swift takes, go in one piece"),
    ),
    Entry("pydevd", NONE, NoEffect("it debugs duplicity's own Python code")),
    Entry(
        "s3-european-buckets",
        NONE,
        NoEffect(
            "it is for a client library that is dead; a bucket's region is chosen by --s3-region-name",
        ),
    ),
    Entry(
        "s3-kms-grant",
        &["GRANT"],
        NoEffect("a grant is given to a bucket or a key, not to each file: set it at the service"),
    ),
    Entry(
        "s3-multipart-max-timeout",
        &["SECONDS"],
        NoEffect("it is for a client library that is dead"),
    ),
    Entry("s3-use-multiprocessing", NONE, NoEffect("it is for a client library that is dead")),
    Entry(
        "s3-use-new-style",
        NONE,
        NoEffect("bucket addresses of that style are the only ones now"),
    ),
    Entry("scp-command", &["COMMAND"], NoEffect(BY_SSH)),
    Entry("sftp-command", &["COMMAND"], NoEffect(BY_SSH)),
    Entry("use-gpgsm", NONE, Refused("files that gpgsm encrypts can be neither read nor written")),
    Entry("use-scp", NONE, Always("scp:// and sftp:// both speak SFTP, as scp itself does now")),
];

/// Returns the options for the parser.
pub fn arguments() -> impl Iterator<Item = Arg> {
    TABLE.iter().map(|Entry(name, values, _)| {
        let option = Arg::new(*name).long(*name).global(true).hide(true);
        match values.len() {
            0 => option.action(ArgAction::SetTrue),
            count => {
                let option = option
                    .num_args(count)
                    .value_names(*values)
                    .action(ArgAction::Append)
                    .allow_hyphen_values(true);
                option.value_parser(clap::value_parser!(std::ffi::OsString))
            }
        }
    })
}

/// Returns what is to be said of options that were given to no effect: a warning each, of those of
/// other storages a line at level info.
///
/// # Errors
/// [`Failure::NotThere`] for one that would change what the action does.
pub fn remarks(matches: &ArgMatches) -> Result<Vec<(Level, String)>, Failure> {
    let Some((_, matches)) = matches.subcommand() else { return Ok(Vec::new()) };
    let is_given =
        |name: &str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
    let mut remarks = Vec::new();
    for Entry(name, _, state) in TABLE.iter().filter(|Entry(name, ..)| is_given(name)) {
        match state {
            Refused(why) => {
                return Err(Failure::NotThere(format!("--{name}: {why}; nothing was changed")));
            }
            NoEffect(why) => {
                remarks.push((Level::Warning, format!("--{name} has no effect: {why}")))
            }
            Of(storages) => remarks.push((
                Level::Info,
                format!("--{name} concerns storages of {storages}, not this one"),
            )),
            Always(how) => remarks.push((Level::Info, format!("--{name} is not needed: {how}"))),
        }
    }
    let is_old = OLD_NAMES.iter().filter(|name| is_given(&name.replace('-', "_")));
    remarks.extend(is_old.map(|name| {
        let text = format!(
            "--{name} is for names that duplicity only reads since 2.0: leave it out, unless an older program needs them"
        );
        (Level::Warning, text)
    }));
    Ok(remarks)
}

/// Options for file names as they were, which 0.8 warns of.
const OLD_NAMES: &[&str] = &["old-filenames", "short-filenames", "time-separator"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command_line;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/OPTIONS.md");

    const HEAD: &str = "\
# Options

Every option of duplicity 0.8 and 3.x, and of `dupfs` itself. This page is written by
`DUPFS_WRITE_OPTIONS=1 cargo test --bin dupfs options`, from the table that the parser is made of.

An option can be cut to any beginning that is unique. Options that mean nothing to a command are accepted by it; but `mount` refuses those that it would have to follow and does not, such as `--time`.

| option | what it does | state |
|---|---|---|
";

    /// Returns one line of the page for each option, by name.
    fn page() -> String {
        let table = command_line::command();
        let done = table
            .get_arguments()
            .filter(|option| !TABLE.iter().any(|Entry(name, ..)| option.get_id() == name));
        let own = table.get_subcommands().flat_map(|command| {
            let options = command.get_arguments().filter(|option| !option.is_positional());
            options.map(|option| row(option, &format!("done, with `{}`", command.get_name())))
        });
        let mut rows: Vec<_> = done.map(|option| row(option, "done")).chain(own).collect();
        rows.extend(TABLE.iter().map(undone));
        rows.sort();
        HEAD.to_string() + &rows.concat()
    }

    fn row(option: &Arg, state: &str) -> String {
        let help = option.get_help().unwrap_or_else(|| panic!("no word on {option}"));
        let aliases = option.get_all_aliases().unwrap_or_default();
        let long = option.get_long().into_iter().chain(aliases).map(|name| format!("`--{name}`"));
        let short = option.get_short().into_iter().map(|letter| format!("`-{letter}`"));
        let names: Vec<_> = long.chain(short).collect();
        let is_flag =
            !option.get_action().takes_values() || option.get_num_args() == Some(0.into());
        let values = option.get_value_names().filter(|_| !is_flag).unwrap_or_default();
        let values: String = values.iter().map(|name| format!(" {name}")).collect();
        format!("| {}{values} | {help} | {state} |\n", names.join(", "))
    }

    fn undone(Entry(name, values, state): &Entry) -> String {
        let values: String = values.iter().map(|name| format!(" {name}")).collect();
        let (what, state) = match state {
            Of(storages) => (
                format!("is for {storages}"),
                "accepted and ignored: such storages are not served yet".to_string(),
            ),
            NoEffect(why) => ("nothing".to_string(), format!("accepted with a warning: {why}")),
            Always(how) => ("nothing".to_string(), format!("accepted: {how}")),
            Refused(why) => ("nothing".to_string(), format!("refused: {why}")),
        };
        format!("| `--{name}`{values} | {what} | {state} |\n")
    }

    #[test]
    fn the_page_of_options_is_that_of_the_parser() {
        if std::env::var_os("DUPFS_WRITE_OPTIONS").is_some() {
            std::fs::write(PAGE, page()).unwrap();
        }
        let written = std::fs::read_to_string(PAGE).unwrap();
        assert!(
            written == page(),
            "OPTIONS.md is not what the table says; its head tells how it is written anew"
        );
    }

    #[test]
    fn what_is_done_is_not_called_undone() {
        command_line::command().debug_assert();
        let names: Vec<_> = TABLE.iter().map(|Entry(name, ..)| *name).collect();
        assert!(names.is_sorted(), "the table is sorted by name, and names none twice");
    }
}
