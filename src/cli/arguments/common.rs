//! [`Common`]: what every command takes.
//!
//! [`super::grammar`] has put every option in full and the command in front; of an option given
//! twice the last counts. What they mean is worked out elsewhere: here is only what was typed.

use super::reading::Reading;
use super::remote::Remote;
use super::values::{parse_verbosity, time};
use super::writing::Writing;
use clap::Args;
use dupfs::accounts::Accounts;
use dupfs::model::BackupTime;
use dupfs::monitor::Level;
use std::ffi::OsString;
use std::path::PathBuf;

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
    /// Set the variables in this file, NAME=value one a line, as passwords and keys of storages; nobody
    /// but you may read it
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
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
    /// End with an error where nothing goes or comes over a network for so many seconds; 30 if not
    /// given. Of the mount: end each request with an error after so many; 300 if not given
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
    pub reading: Reading,
    /// Write each message with its level and number to this open descriptor, for programs
    #[arg(long, global = true, value_name = "NUMBER")]
    log_fd: Option<OsString>,
    /// As --log-fd, at the end of a file
    #[arg(long, global = true, value_name = "FILE")]
    log_file: Option<OsString>,
    /// Print the time and the level before each message
    #[arg(long, global = true)]
    pub log_timestamp: bool,
    /// What concerns storages behind a network.
    #[command(flatten)]
    pub remote: Remote,
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

impl Common {
    /// Returns the accounts that owners are looked up in.
    pub fn accounts(&self) -> Accounts {
        Accounts::new(self.numeric_owner)
    }

    /// Returns the key that signs, or has to have signed.
    pub fn signer(&self) -> Option<&String> {
        self.encrypt_sign_key.as_ref().or(self.sign_key.as_ref())
    }

    /// Returns what time it is, or what `--current-time` pretends.
    pub fn now(&self) -> BackupTime {
        BackupTime::from_seconds(
            self.writing.current_time.unwrap_or_else(|| chrono::Utc::now().timestamp()),
        )
    }

    /// Returns the time that `--time` asks for, or what time it is.
    ///
    /// # Errors
    /// [`crate::cli::failure::Failure::CommandLine`] for what is no time.
    pub fn wanted_time(&self) -> anyhow::Result<BackupTime> {
        let now = BackupTime::from_seconds(chrono::Utc::now().timestamp());
        match self.time.as_deref() {
            // `--time 0` means now, as duplicity has it.
            None | Some("now" | "0") => Ok(now),
            Some(text) => time(text, now),
        }
    }
}
