//! [`Writer`]: who saves: this program or the original, all with the same words.

use super::{Encoding, Env, Outcome, Version};
use std::process::Command;

/// A program that makes backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// `dupfs`.
    Dupfs,
    /// 0.8.22.
    Old,
    /// 3.2.1.
    New,
}

impl Writer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dupfs, Self::Old, Self::New];

    /// Prepares the program, without arguments.
    pub fn command(self, env: &Env) -> Command {
        env.command(match self {
            Self::Dupfs => env!("CARGO_BIN_EXE_dupfs").as_ref(),
            Self::Old => Version::Old.checked(),
            Self::New => Version::New.checked(),
        })
    }

    /// Saves the source tree as an incremental set of the given time, in volumes of 1 MiB.
    #[track_caller]
    pub fn incremental(self, env: &Env, encoding: Encoding, time: i64) -> Outcome {
        self.backup(env, encoding, "incremental", time, &[])
    }

    /// Saves the source tree with further options.
    #[track_caller]
    pub fn backup(
        self,
        env: &Env,
        encoding: Encoding,
        action: &str,
        time: i64,
        options: &[&str],
    ) -> Outcome {
        let mut command = self.command(env);
        encoding.secrets(&mut command);
        command.args([action, "--volsize", "1", "--current-time", &time.to_string()]);
        command.args(encoding.writing()).args(options).arg(env.source()).arg(env.url());
        let outcome = Outcome::of(&mut command);
        assert_eq!(outcome.code, 0, "{self:?} {action} at {time}: {outcome}");
        outcome
    }
}

impl From<Version> for Writer {
    fn from(version: Version) -> Self {
        match version {
            Version::Old => Self::Old,
            Version::New => Self::New,
            Version::Ours | Version::Exchanged => Self::Dupfs,
        }
    }
}
