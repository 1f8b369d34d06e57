//! duplicity's commands and flags, and `mount`, with their help, as plain text values.
//!
//! [`super::command`] has put every option in full and the command in front; of an option given
//! twice the last counts. What they mean is worked out elsewhere: here is only what was typed.

use super::cleanup::CleanupArgs;
use super::command::{Line, Options};
use super::exit::Failure;
use super::options;
use super::remove::{CountArgs, OlderThanArgs};
use super::replicate::ReplicateArgs;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use dupfs::monitor::Level;
use std::ffi::OsString;
use std::path::PathBuf;

/// Shows every backup that duplicity ever made as a folder, restores from it, and makes new ones
#[derive(Debug, Parser)]
#[command(name = "dupfs", version, args_override_self = true)]
#[command(after_help = super::exit::HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount all backups as read-only folders, one for each backup time
    ///
    /// Goes to the background once the mount answers. `fusermount3 -u DIR` or `umount DIR` ends it.
    #[cfg(feature = "mount")]
    Mount(MountArgs),
    /// Back up a folder or file: what has changed since the backup before, or everything if there
    /// is none
    #[command(visible_alias = "bu")]
    Backup(BackupArgs),
    /// Back up everything
    #[command(visible_alias = "fb")]
    Full(BackupArgs),
    /// Back up what has changed since the backup before
    #[command(visible_alias = "inc", aliases = ["ib", "incr"])]
    Incremental(BackupArgs),
    /// Restore a backup, or one file or folder of it, into a folder
    ///
    /// If something could not be delivered whole, ends with the exit code of the damage, or 90;
    /// what is there is right.
    Restore(RestoreArgs),
    /// Read a backup as a restore does, and name what is damaged; with --compare-data also what
    /// differs from a folder
    ///
    /// Writes nothing. Ends with exit code 1 if something differs, and with that of the damage if
    /// something is damaged.
    #[command(visible_alias = "vb")]
    Verify(super::verify::VerifyArgs),
    /// List the files of a backup, each with its modification time
    #[command(alias = "ls")]
    ListCurrentFiles(ListArgs),
    /// Show which backups the collection holds
    #[command(alias = "st")]
    CollectionStatus(StatusArgs),
    /// Remove backup chains that end before a time; without --force, only list them
    ///
    /// A chain is a full backup and the increments after it. One of which anything is younger stays
    /// whole, and so does the newest, always.
    #[command(alias = "ro")]
    RemoveOlderThan(OlderThanArgs),
    /// Remove all backup chains but the newest; without --force, only list them
    #[command(alias = "ra")]
    RemoveAllButNFull(CountArgs),
    /// Remove the increments of all backup chains but the newest, and keep their full backups;
    /// without --force, only list the chains
    #[command(alias = "ri")]
    RemoveAllIncOfButNFull(CountArgs),
    /// Delete what interrupted backups have left; without --force, only list it
    ///
    /// A backup that could still be gone on with is among it, and one that another machine is
    /// making. Backups that can be restored stay, and files that are not duplicity's.
    #[command(alias = "cl")]
    Cleanup(CleanupArgs),
    /// Store the backups of one storage in another one, too, as far as it lacks them; with --time,
    /// only those before that time
    ///
    /// Files that are encrypted as is asked for are copied as they are, others are encrypted anew.
    /// What is damaged is left out, and told.
    Replicate(ReplicateArgs),
    /// Print a script that completes command lines in a shell
    Completions(CompletionsArgs),
    /// Print the manual page, of a command if one is named
    Man(ManArgs),
}

/// Arguments of `mount`.
#[cfg(feature = "mount")]
#[derive(Debug, Args)]
pub struct MountArgs {
    /// Where the backups are: file:///folder, or a plain path
    pub url: OsString,
    /// An empty folder
    pub directory: PathBuf,
    /// Stay in the foreground and log to the terminal
    #[arg(long)]
    pub foreground: bool,
    /// Let other users in, with the permissions that the backup gives them
    #[arg(long)]
    pub allow_other: bool,
    /// Forbid to run programs from the mount
    #[arg(long, alias = "no-exec")]
    pub noexec: bool,
    /// Show everything as owned by this user and group number
    #[arg(long, value_name = "UID:GID", value_parser = parse_owner)]
    pub owner: Option<(u32, u32)>,
    /// Name the folders by strftime fields, in local time, instead of 2026-11-28T03.27.43+0100; or
    /// rfc3339: with colons, as programs expect dates
    #[arg(long, value_name = "FIELDS")]
    pub time_template: Option<String>,
    /// Look for new backups this often, such as 60s or 5m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub refresh: std::time::Duration,
    /// Memory for decoded blocks, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    pub cache_size: usize,
    /// Options as mount(8) passes them, separated by commas; each of the above too
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
}

/// Arguments of `backup`, `full` and `incremental`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The folder or file to back up
    pub source: PathBuf,
    /// Where to: file:///folder, or a plain path
    pub url: OsString,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Where the backups are: file:///folder, or a plain path
    pub url: OsString,
    /// The folder to restore into, or the file to restore as
    pub target: PathBuf,
}

/// Arguments of `list-current-files`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Where the backups are: file:///folder, or a plain path
    pub url: OsString,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `collection-status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where the backups are: file:///folder, or a plain path
    pub url: OsString,
    /// Print one JSON object: all sets, or what --file-changed or --show-changes-in-set asks for
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command
    pub command: Option<String>,
}

/// What every command takes. Those that mean nothing to a command are accepted by it all the same,
/// since wrappers pass one list of options to all.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Common {
    /// Show the tree as it was then: a date, a time in RFC 3339, or so long ago (3D, 2W, 1h30m);
    /// without a zone by the local clock, summer time included
    #[arg(short = 't', long, global = true, alias = "restore-time", value_name = "TIME")]
    pub time: Option<String>,
    /// Restore or verify only this file or folder, relative to the source folder
    #[arg(short = 'r', long, global = true, alias = "file-to-restore", value_name = "PATH")]
    pub path_to_restore: Option<std::ffi::OsString>,
    /// Restore into a folder that is not empty, over files there; remove what would only be listed
    #[arg(long, global = true)]
    pub force: bool,
    /// Take owners by number, not by name
    #[arg(long, global = true)]
    pub numeric_owner: bool,
    /// Do not set owners when restoring
    #[arg(long, global = true, alias = "do-not-restore-ownership")]
    pub no_restore_ownership: bool,
    /// Set owners when restoring (the default)
    #[arg(long, global = true, hide = true, overrides_with = "no_restore_ownership")]
    pub restore_ownership: bool,
    /// Parent of duplicity's local metadata
    #[arg(long, global = true, value_name = "DIR")]
    pub archive_dir: Option<PathBuf>,
    /// Name of the backup, which is its folder in the archive directory
    #[arg(long, global = true, value_name = "NAME")]
    pub name: Option<String>,
    /// Do not encrypt; ask for no passphrase
    #[arg(long, global = true)]
    pub no_encryption: bool,
    /// Encrypt (the default)
    #[arg(long, global = true, hide = true, overrides_with = "no_encryption")]
    pub encryption: bool,
    /// Encrypt to this key; when reading: gpg-agent has the secret key, nothing is asked
    #[arg(long, global = true, value_name = "KEY")]
    pub encrypt_key: Vec<String>,
    /// As --encrypt-key, for a hidden recipient
    #[arg(long, global = true, value_name = "KEY")]
    pub hidden_encrypt_key: Vec<String>,
    /// Sign with this key; when reading: accept only files that it has signed
    #[arg(long, global = true, value_name = "KEY")]
    pub sign_key: Option<String>,
    /// As --encrypt-key and --sign-key with the same key
    #[arg(long, global = true, value_name = "KEY")]
    pub encrypt_sign_key: Option<String>,
    /// File with secret keys to decrypt with
    #[arg(long, global = true, value_name = "FILE")]
    pub encrypt_secret_keyring: Option<PathBuf>,
    /// The gpg to run where it is needed
    #[arg(long, global = true, value_name = "PATH", default_value = "gpg")]
    pub gpg_binary: PathBuf,
    /// Further options for gpg, separated by blanks
    #[arg(long, global = true, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub gpg_options: Vec<String>,
    /// Try the passphrases in this file, too, one a line; nobody but you may read it. The first
    /// encrypts, unless PASSPHRASE is set
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Let gpg-agent ask for passphrases
    #[arg(long, global = true)]
    pub use_agent: bool,
    /// Prefix of all file names in the collection
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    pub file_prefix: String,
    /// Prefix of manifests, behind --file-prefix
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    pub file_prefix_manifest: String,
    /// Prefix of volumes, behind --file-prefix
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    pub file_prefix_archive: String,
    /// Prefix of signature files, behind --file-prefix
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    pub file_prefix_signature: String,
    /// Prefix of statistics, behind --file-prefix
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    pub file_prefix_jsonstat: String,
    /// Try each call of the storage so often
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 5)]
    pub num_retries: u32,
    /// Longest pause between tries in seconds; in a mount, 2 at most
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30)]
    pub backend_retry_delay: u64,
    /// End each request of the mount with an error after so many seconds; 300 if not given
    #[arg(long, global = true, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Folder for temporary files
    #[arg(long, global = true, value_name = "DIR")]
    pub tempdir: Option<PathBuf>,
    /// How much to say: 0 to 9, or error, warning, notice, info, debug
    #[arg(short = 'v', long, global = true, value_name = "LEVEL", default_value = "notice", value_parser = parse_verbosity)]
    pub verbosity: u8,
    /// What concerns restoring and verifying.
    #[command(flatten)]
    pub reading: super::restore_options::Reading,
    /// Write each message with its level and number to this open descriptor, for programs
    #[arg(long, global = true, value_name = "NUMBER")]
    log_fd: Option<OsString>,
    /// As --log-fd, at the end of a file
    #[arg(long, global = true, value_name = "FILE")]
    log_file: Option<OsString>,
    /// Print the time and the level before each message
    #[arg(long, global = true)]
    pub log_timestamp: bool,
    /// What concerns making backups.
    #[command(flatten)]
    pub writing: Writing,
    /// What is to be said of options that were given to no effect.
    #[arg(skip)]
    pub remarks: Vec<(Level, String)>,
    /// What is to be said about an action that was not named.
    #[arg(skip)]
    pub notice: Option<&'static str>,
}

/// Options of making backups.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of backup, full and incremental")]
pub struct Writing {
    /// Size of volumes in MiB
    #[arg(long, global = true, value_name = "MIB", default_value_t = 200)]
    pub volsize: u64,
    /// Make a full backup when the newest one is older than this
    #[arg(long, global = true, value_name = "TIME")]
    pub full_if_older_than: Option<String>,
    /// Make a full backup when so many incremental ones stand on the newest
    #[arg(long, global = true, value_name = "COUNT")]
    pub full_if_n_inc: Option<usize>,
    /// Keep what the backup before has of paths that cannot be read, instead of taking them for
    /// deleted
    #[arg(long, global = true)]
    pub keep_unreadable: bool,
    /// End with exit code 91 if something could not be read, when all else is stored
    #[arg(long, global = true)]
    pub fail_on_unreadable: bool,
    /// Store nothing if nothing has changed
    #[arg(long, global = true)]
    pub skip_if_no_change: bool,
    /// Tell what would be done, and store nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Do not compress
    #[arg(long, global = true)]
    pub no_compression: bool,
    /// Compress (the default)
    #[arg(long, global = true, hide = true, overrides_with = "no_compression")]
    pub compression: bool,
    /// Go on although host or source folder are not those of the backup before
    #[arg(long, global = true)]
    pub allow_source_mismatch: bool,
    /// Do not compare the newest manifest in storage with its local copy
    #[arg(long, global = true)]
    pub no_check_remote: bool,
    /// Compare them (the default)
    #[arg(long, global = true, hide = true, overrides_with = "no_check_remote")]
    pub check_remote: bool,
    /// Largest block of signatures in bytes; the square root of a file's size if not given
    #[arg(long, global = true, value_name = "BYTES")]
    pub max_blocksize: Option<u64>,
    /// Do not list the changed files in the manifest
    #[arg(long, global = true)]
    pub no_files_changed: bool,
    /// List the changed files in the manifest (the default)
    #[arg(long, global = true, hide = true, overrides_with = "no_files_changed")]
    pub files_changed: bool,
    /// Print no statistics
    #[arg(long, global = true)]
    pub no_print_statistics: bool,
    /// Print statistics (the default)
    #[arg(long, global = true, hide = true, overrides_with = "no_print_statistics")]
    pub print_statistics: bool,
    /// Store the statistics beside the backup, and print them, as JSON
    #[arg(long, global = true)]
    pub jsonstat: bool,
    /// Show how far it has got
    #[arg(long, global = true)]
    pub progress: bool,
    /// Show it every so many seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 3)]
    pub progress_rate: u64,
    /// Follow symbolic links, and store what they lead to
    #[arg(long, global = true)]
    pub copy_links: bool,
    /// Fetch the metadata of the newest chain (partial) or of all (full)
    #[arg(long, global = true, value_name = "MODE", default_value = "partial", value_parser = ["partial", "full"])]
    pub metadata_sync_mode: String,
    /// Write the short file names of old
    #[arg(long, global = true)]
    pub short_filenames: bool,
    /// Write the oldest file names, with local times
    #[arg(long, global = true, conflicts_with = "short_filenames")]
    pub old_filenames: bool,
    /// What stands for ':' in the oldest file names
    #[arg(long, global = true, value_name = "CHAR", default_value_t = ':')]
    pub time_separator: char,
    /// Leave out what matches this pattern, and all below it
    #[arg(long, global = true, value_name = "PATTERN", allow_hyphen_values = true)]
    exclude: Vec<OsString>,
    /// Store what matches this pattern, all below it, and the folders it lies in
    #[arg(long, global = true, value_name = "PATTERN", allow_hyphen_values = true)]
    include: Vec<OsString>,
    /// Leave out what the patterns in a file match; lines beginning with '+ ' include
    /// (--exclude-filelist-stdin: of stdin)
    #[arg(long, global = true, value_name = "FILE")]
    exclude_filelist: Vec<OsString>,
    /// Store what the patterns in a file match; lines beginning with '- ' exclude
    /// (--include-filelist-stdin: of stdin)
    #[arg(long, global = true, value_name = "FILE")]
    include_filelist: Vec<OsString>,
    /// As --exclude-filelist, of shell patterns whatever filter option stands before
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    exclude_globbing_filelist: Vec<OsString>,
    /// As --include-filelist, of shell patterns whatever filter option stands before
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    include_globbing_filelist: Vec<OsString>,
    /// Leave out what a regular expression finds something in
    #[arg(long, global = true, value_name = "REGEXP", allow_hyphen_values = true)]
    exclude_regexp: Vec<OsString>,
    /// Store what a regular expression finds something in
    #[arg(long, global = true, value_name = "REGEXP", allow_hyphen_values = true)]
    include_regexp: Vec<OsString>,
    /// Leave out folders that hold something of this name
    #[arg(long, global = true, value_name = "NAME", allow_hyphen_values = true)]
    exclude_if_present: Vec<OsString>,
    /// Leave out files last modified before this time
    #[arg(long, global = true, value_name = "TIME")]
    exclude_older_than: Vec<OsString>,
    /// Leave out device files
    #[arg(long, global = true, num_args = 0, default_missing_value = "", action = clap::ArgAction::Append)]
    exclude_device_files: Vec<OsString>,
    /// Leave out other file systems
    #[arg(long, global = true, num_args = 0, default_missing_value = "", action = clap::ArgAction::Append)]
    exclude_other_filesystems: Vec<OsString>,
    /// Store just the files that a list names
    #[arg(long, global = true, value_name = "FILE")]
    files_from: Vec<OsString>,
    /// Take the selection options behind this for shell patterns (the default)
    #[arg(long, global = true, num_args = 0, default_missing_value = "", action = clap::ArgAction::Append)]
    filter_globbing: Vec<OsString>,
    /// Take the selection options behind this for plain paths
    #[arg(long, global = true, num_args = 0, default_missing_value = "", action = clap::ArgAction::Append)]
    filter_literal: Vec<OsString>,
    /// Take the selection options behind this for regular expressions
    #[arg(long, global = true, num_args = 0, default_missing_value = "", action = clap::ArgAction::Append)]
    filter_regexp: Vec<OsString>,
    /// Ignore case in the selection options behind this
    #[arg(long, global = true, num_args = 0, default_missing_value = "", action = clap::ArgAction::Append)]
    filter_ignorecase: Vec<OsString>,
    /// Distinguish case in the selection options behind this (the default)
    #[arg(long, global = true, num_args = 0, default_missing_value = "", action = clap::ArgAction::Append)]
    filter_strictcase: Vec<OsString>,
    /// Entries of file lists end in NUL instead of a newline
    #[arg(long, global = true)]
    pub null_separator: bool,
    /// Pretend that it is this second since 1970
    #[arg(long, global = true, hide = true, value_name = "SECONDS")]
    pub current_time: Option<i64>,
    /// Store this many volumes at once; each takes its size in temporary files until it is stored
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 1)]
    pub concurrency: usize,
    /// Fail when this volume is stored, for tests
    #[arg(long, global = true, hide = true, value_name = "NUMBER")]
    pub fail_on_volume: Option<u32>,
    /// Pretend to store this volume, for tests
    #[arg(long, global = true, hide = true, value_name = "NUMBER")]
    pub skip_volume: Option<u32>,
    /// The selection options in the order of the command line: name and value.
    #[arg(skip)]
    pub selection: Vec<(&'static str, OsString)>,
}

/// The options whose order counts.
const SELECTION: &[&str] = &[
    "exclude",
    "include",
    "exclude_filelist",
    "include_filelist",
    "exclude_globbing_filelist",
    "include_globbing_filelist",
    "exclude_regexp",
    "include_regexp",
    "exclude_if_present",
    "exclude_older_than",
    "exclude_device_files",
    "exclude_other_filesystems",
    "files_from",
    "filter_globbing",
    "filter_literal",
    "filter_regexp",
    "filter_ignorecase",
    "filter_strictcase",
];

/// Returns the selection options in the order of the command line.
fn selection(matches: &clap::ArgMatches) -> Vec<(&'static str, OsString)> {
    let matches = matches.subcommand().map_or(matches, |(_, below)| below);
    let mut found = Vec::new();
    for &name in SELECTION {
        let places = matches.indices_of(name).into_iter().flatten();
        let values = matches.get_many::<OsString>(name).into_iter().flatten();
        found.extend(places.zip(values).map(|(place, value)| (place, name, value.clone())));
    }
    found.sort_by_key(|(place, ..)| *place);
    found.into_iter().map(|(_, name, value)| (name, value)).collect()
}

fn parse_owner(text: &str) -> Result<(u32, u32), String> {
    let numbers =
        text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers.ok_or_else(|| "write two numbers, as in 1000:1000".into())
}

/// Parses `90`, `90s`, `5m`, `1h`.
#[cfg(feature = "mount")]
fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let (digits, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    let parsed = digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(seconds))
        .filter(|&seconds| seconds > 0);
    parsed
        .map(std::time::Duration::from_secs)
        .ok_or_else(|| "write a time such as 60s, 5m or 1h".into())
}

/// Parses duplicity's levels: a digit, a letter or a word, in any case.
fn parse_verbosity(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "e" | "error" => Ok(0),
        "w" | "warning" => Ok(2),
        "n" | "notice" => Ok(3),
        "i" | "info" => Ok(5),
        "d" | "debug" => Ok(9),
        digit => digit.parse().ok().filter(|level| *level <= 9).ok_or_else(|| {
            "Verbosity must be one of: digit [0-9], character [ewnid], or word ['error', 'warning', 'notice', 'info', 'debug']".into()
        }),
    }
}

/// Parses a command line, also as mount(8) and mount.fuse3 call us, and begins the machine log. For
/// help and version the process ends.
///
/// # Errors
/// [`Failure`] if it makes no sense, or asks for what is not done yet, or the log cannot be
/// written.
pub fn parse(arguments: Vec<OsString>) -> Result<Cli, Failure> {
    let cli = parse_once(prepare(arguments.clone(), false))?;
    match &cli.command {
        // Now it is known that this is `mount`, wherever the word stands and however it is cut.
        #[cfg(feature = "mount")]
        Command::Mount(mount) if !mount.options.is_empty() => parse_once(prepare(arguments, true)),
        _ => Ok(cli),
    }
}

/// Returns the table of all commands and options; the help of each command ends with the exit
/// codes.
pub fn command() -> clap::Command {
    Cli::command()
        .args(options::arguments())
        .mut_subcommands(|command| command.after_help(super::exit::HELP))
}

fn parse_once(arguments: Vec<OsString>) -> Result<Cli, Failure> {
    let table = command();
    let mut line = Line::default();
    let read = line.read(arguments, &Options::new(&table));
    super::log::open(line.value("log-fd"), line.value("log-file"))?;
    read?;
    let arranged = line.arranged(&table)?;
    let matches =
        table.try_get_matches_from(arranged).map_err(|error| match error.use_stderr() {
            true => Failure::Usage(error.render().to_string().trim_end().to_string()),
            false => error.exit(),
        })?;
    let mut cli =
        Cli::from_arg_matches(&matches).map_err(|error| Failure::Usage(error.to_string()))?;
    cli.common.writing.selection = selection(&matches);
    cli.common.remarks = line.warnings.into_iter().map(|text| (Level::Warning, text)).collect();
    cli.common.remarks.extend(options::remarks(&matches)?);
    cli.common.notice = line.notice;
    Ok(cli)
}

/// Puts a command line into the form that [`Cli`] parses.
///
/// mount.fuse3 runs `dupfs URL DIR -o OPTIONS` for a line of type `fuse.dupfs` in /etc/fstab;
/// mount(8) itself runs `mount.dupfs URL DIR [-sfnv] [-o OPTIONS]` for type `dupfs`. Options behind
/// `-o` that mount(8) means for everybody are dropped, the others are ours, with `_` for `-` if one
/// likes.
fn prepare(arguments: Vec<std::ffi::OsString>, is_mount: bool) -> Vec<std::ffi::OsString> {
    let text = |argument: &std::ffi::OsString| argument.to_string_lossy().into_owned();
    let called = arguments
        .first()
        .map(|name| text(name).rsplit('/').next().unwrap_or_default().to_string())
        .unwrap_or_default();
    let by_mount = called.starts_with("mount.");
    let by_fuse =
        arguments.len() > 4 && !text(&arguments[1]).starts_with('-') && arguments[3] == "-o";
    let mut prepared = Vec::new();
    let mut rest = arguments.into_iter();
    prepared.extend(rest.next());
    if by_mount || by_fuse && rest.as_slice().first().is_none_or(|first| first != "mount") {
        prepared.push("mount".into());
    }
    let is_mount = is_mount
        || prepared.len() > 1
        || rest.as_slice().first().is_some_and(|first| first == "mount");
    while let Some(argument) = rest.next() {
        let name = text(&argument);
        match name.as_str() {
            "--" => {
                prepared.push(argument);
                prepared.extend(rest.by_ref());
            }
            "-n" | "-s" | "-v" if by_mount => {}
            "-t" | "-N" if by_mount => drop(rest.next()),
            "-o" if is_mount => prepared
                .extend(rest.next().iter().flat_map(|options| mount_options(&text(options)))),
            _ if is_mount && name.starts_with("-o") && name.len() > 2 => {
                prepared.extend(mount_options(&name[2..]))
            }
            _ => prepared.push(argument),
        }
    }
    prepared
}

/// Options that mount(8) passes on although they are not for the file system, or that hold for
/// every dupfs mount.
const FOR_EVERYBODY: &[&str] = &[
    "rw",
    "ro",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "_netdev",
    "nofail",
    "defaults",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "nodiratime",
    "sync",
    "async",
    "default_permissions",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "diratime",
    "nostrictatime",
    "dirsync",
    "silent",
    "loud",
    "debug",
];

fn mount_options(list: &str) -> Vec<std::ffi::OsString> {
    let ours = |option: &&str| {
        let name = option.split('=').next().unwrap_or_default();
        !name.is_empty()
            && !name.starts_with("x-")
            && !name.starts_with("X-")
            && !["comment", "user", "fsname", "subtype"].contains(&name)
            && !FOR_EVERYBODY.contains(option)
    };
    let long = |option: &str| match option.split_once('=') {
        Some((name, value)) => format!("--{}={value}", name.replace('_', "-")).into(),
        None => format!("--{}", option.replace('_', "-")).into(),
    };
    list.split(',').filter(ours).map(long).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(line: &str) -> String {
        let words: Vec<_> =
            prepare(line.split(' ').map(Into::into).collect(), line.contains(" -x "))
                .into_iter()
                .map(|w| w.into_string().unwrap())
                .collect();
        words.join(" ")
    }

    #[test]
    fn mount_8_and_fstab_lines_become_ours() {
        for (typed, expected) in [
            (
                "mount.dupfs /b /m -v -n -t dupfs -o rw,allow_other,owner=1:2",
                "mount.dupfs mount /b /m --allow-other --owner=1:2",
            ),
            (
                "dupfs file:///b /m -o rw,noauto,user=me,x-systemd.automount",
                "dupfs mount file:///b /m",
            ),
            (
                "dupfs mount -oforeground,time_template=%F /b /m",
                "dupfs mount --foreground --time-template=%F /b /m",
            ),
            ("dupfs list-current-files /b", "dupfs list-current-files /b"),
            ("dupfs -x mou /b /m -o noexec,lazytime,fsname=x", "dupfs -x mou /b /m --noexec"),
        ] {
            assert_eq!(prepared(typed), expected);
        }
    }

    #[test]
    fn selection_options_keep_their_order_around_the_command_word() {
        for (typed, expected) in [
            ("dupfs --include a full --exclude b s u", "include a, exclude b"),
            (
                "dupfs --exclude=a -v5 --no-encryption --gpg-options --x -t 3D incr --include b --exclude c s u",
                "exclude a, include b, exclude c",
            ),
            (
                "dupfs --exclude-dev --excl-file x bac s u",
                "exclude_device_files , exclude_filelist x",
            ),
            (
                "dupfs full s --exclude a u --include b --exclude ** ",
                "exclude a, include b, exclude **",
            ),
        ] {
            let typed = typed.replace("--excl-file", "--exclude-filelist");
            let cli =
                parse_once(prepare(typed.trim_end().split(' ').map(Into::into).collect(), false))
                    .unwrap();
            let selection = cli
                .common
                .writing
                .selection
                .iter()
                .map(|(name, value)| format!("{name} {}", value.display()));
            assert_eq!(selection.collect::<Vec<_>>().join(", "), expected, "{typed}");
        }
    }

    #[test]
    fn the_table_of_options_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn options_stand_anywhere_in_any_spelling() {
        let typed = "dupfs --restore-time 3D restore --gpg-options --x -v9 /b --file-to-restore a /t --arch d";
        let cli = parse_once(typed.split(' ').map(Into::into).collect()).unwrap();
        assert_eq!(cli.common.time.as_deref(), Some("3D"));
        assert_eq!(cli.common.gpg_options, ["--x"]);
        assert_eq!(cli.common.verbosity, 9);
        assert_eq!(cli.common.path_to_restore.unwrap(), "a");
        assert_eq!(cli.common.archive_dir.unwrap(), PathBuf::from("d"));
    }
}
