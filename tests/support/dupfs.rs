//! Running the program under test, and [`Outcome`]: what a program that ended left behind.

use super::{Encoding, Env};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a program may run: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

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
    ///
    /// # Panics
    /// When it has not ended after two minutes, or something that it left behind keeps its stdout
    /// or stderr open.
    pub fn of(command: &mut Command) -> Self {
        use std::os::unix::process::ExitStatusExt;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                let _ = child.kill();
                panic!("{command:?} runs longer than {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let text = |pipe: Receiver<String>| {
            let left = Duration::from_secs(10);
            pipe.recv_timeout(left).unwrap_or_else(|_| {
                panic!("{command:?} ended and left its output open to another process")
            })
        };
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Self { code, stdout: text(stdout), stderr: text(stderr) }
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

/// Reads a pipe to its end in a thread of its own.
fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
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

    /// Lets `dupfs verify` compare all files of the state of a time with their signatures.
    pub fn prove(&self, encoding: Encoding, time: i64) -> Outcome {
        self.ask_to(
            encoding,
            &["verify", "--against-signatures", "--time", &time.to_string()],
            &self.source(),
        )
    }

    /// Runs `dupfs` in this world with plain arguments, the URL, and a target directory.
    pub fn ask_to(&self, encoding: Encoding, arguments: &[&str], target: &Path) -> Outcome {
        Outcome::of(self.dupfs(encoding).args(arguments).arg(self.url()).arg(target))
    }

    /// Runs `dupfs` in this world with plain arguments, then the URL.
    pub fn ask(&self, encoding: Encoding, arguments: &[&str]) -> Outcome {
        Outcome::of(self.dupfs(encoding).args(arguments).arg(self.url()))
    }
}
