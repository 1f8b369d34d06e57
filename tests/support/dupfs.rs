//! Running the program under test, and [`Outcome`]: what a program that ended left behind.

use super::{Encoding, Env};
use std::path::Path;
use std::process::Command;

/// Exit code and words of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// 128 and the signal's number when a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Fails unless the program ended well.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Fails unless the program ended with this code and said each of these things on stderr.
    #[track_caller]
    pub fn failure(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "stderr does not say '{word}': {self}");
        }
        assert!(!self.stderr.contains("panicked"), "{self}");
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr)
    }
}

impl Env {
    /// Prepares `dupfs` with the environment and options that reading this encoding takes.
    pub fn dupfs(&self, encoding: Encoding) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_dupfs"));
        encoding.secrets(&mut command);
        command.args(encoding.reading());
        command
    }

    /// Runs `dupfs restore` of the state of a time.
    pub fn restore(&self, encoding: Encoding, time: i64, target: &Path) -> Outcome {
        let mut command = self.dupfs(encoding);
        command.args(["restore", "--time", &time.to_string(), &self.url()]).arg(target);
        Outcome::of(&mut command)
    }

    /// Runs `dupfs` in this world with plain arguments, then the URL.
    pub fn ask(&self, encoding: Encoding, arguments: &[&str]) -> Outcome {
        Outcome::of(self.dupfs(encoding).args(arguments).arg(self.url()))
    }
}
