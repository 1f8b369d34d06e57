//! [`Remote`]: options of storages behind a network.

use clap::Args;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Options of storages behind a network.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of storages")]
pub struct Remote {
    /// Further options for ssh, separated by blanks
    #[arg(long, global = true, value_name = "OPTIONS", allow_hyphen_values = true)]
    ssh_options: Vec<OsString>,
    /// Ask for the password of the storage, unless it is in the URL or the environment
    #[arg(long, global = true)]
    pub ssh_askpass: bool,
}

impl Remote {
    /// Returns the arguments for ssh.
    pub fn ssh_options(&self) -> Vec<OsString> {
        let words = self.ssh_options.iter().flat_map(|options| {
            options.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
        });
        words.map(|word| OsStr::from_bytes(word).into()).collect()
    }
}
