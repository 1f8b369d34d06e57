//! [`Writing`]: options of making backups.

use clap::Args;
use std::ffi::OsString;

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
    /// Transfer this many files at once (0 or none: as many as suit the storage, 1 in a local folder); a volume takes its size in temporary files until it is stored
    #[arg(
        long,
        global = true,
        value_name = "COUNT",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub concurrency: usize,
    /// Let each request to the storage take so many milliseconds longer, for measurements
    #[arg(long, global = true, hide = true, value_name = "MILLISECONDS")]
    pub storage_delay: Option<u64>,
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
