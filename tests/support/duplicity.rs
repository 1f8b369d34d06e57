//! [`Duplicity`]: the original program in both versions, and the ways in which it stores.

use super::{Env, Keys, Outcome, Prepared, Writer};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What every passphrase in the tests is.
pub const PASSPHRASE: &str = "correct horse";

/// The versions that the tests ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 0.8.22, as in Debian 12.
    Old,
    /// 3.2.1, as on PyPI.
    New,
    /// Not the original: the program under test, which takes the same command lines.
    Ours,
    /// The same under the name `duplicity`.
    Exchanged,
}

/// Returns a link named `duplicity` that leads to the program under test.
fn exchanged() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exchanged");
    std::fs::create_dir_all(&directory).unwrap();
    let (link, new) =
        (directory.join("duplicity"), directory.join(format!("new-{}", std::process::id())));
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_dupfs"), &new).unwrap();
    std::fs::rename(new, &link).unwrap();
    link
}

impl Version {
    /// Returns the program; fails when it is missing or of another version.
    fn program(self) -> PathBuf {
        let (variable, place, expected) = match self {
            Self::Old => {
                ("DUPFS_DUPLICITY_0_8", PathBuf::from("/usr/bin/duplicity"), "duplicity 0.8.22")
            }
            Self::New => {
                let place = Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("target/oracles/duplicity-3.2.1/bin/duplicity");
                ("DUPFS_DUPLICITY_3_2", place, "duplicity 3.2.1")
            }
            Self::Ours => return PathBuf::from(env!("CARGO_BIN_EXE_dupfs")),
            Self::Exchanged => return exchanged(),
        };
        let program = std::env::var_os(variable).map_or(place, PathBuf::from);
        let version = Command::new(&program)
            .arg("--version")
            .output()
            .map(|output| output.stdout)
            .unwrap_or_default();
        let version = String::from_utf8_lossy(&version).into_owned();
        assert!(
            version.trim_end() == expected || version.starts_with(&format!("{expected} ")),
            "{program:?} is not {expected} but '{}': run scripts/setup.sh, which installs it, or name one by {variable}",
            version.trim_end(),
        );
        program
    }

    /// Returns the program, looked for once in a run.
    pub fn checked(self) -> &'static Path {
        PROGRAMS[self as usize].get_or_init(|| self.program())
    }

    /// Returns what to start in place of a program: of the originals, where they are [`Prepared`],
    /// the client; else the program itself.
    pub fn starter(program: &OsStr) -> &OsStr {
        static SERVERS: [OnceLock<Option<Prepared>>; 2] = [const { OnceLock::new() }; 2];
        for version in [Self::Old, Self::New] {
            let checked =
                PROGRAMS[version as usize].get().filter(|checked| checked.as_os_str() == program);
            let server = checked.and_then(|checked| {
                let is_wanted = std::env::var_os("DUPFS_UNPREPARED").is_none();
                let start = || is_wanted.then(|| Prepared::new(checked, "duplicity")).flatten();
                SERVERS[version as usize].get_or_init(start).as_ref()
            });
            if let Some(server) = server {
                return server.client().as_os_str();
            }
        }
        program
    }
}

/// What [`Version::checked`] has found.
static PROGRAMS: [OnceLock<PathBuf>; 4] = [const { OnceLock::new() }; 4];

/// How a collection is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Gzip,
    /// Encrypted under the passphrase.
    Symmetric,
    /// Encrypted to an RSA key that has no passphrase.
    PublicKey,
    /// Encrypted to a hidden recipient whose key has a passphrase.
    Hidden,
    /// Encrypted to a key with a passphrase, and signed by another.
    Signed,
}

impl Encoding {
    /// Tells whether a GnuPG home with keys is needed.
    pub fn needs_keys(self) -> bool {
        matches!(self, Self::PublicKey | Self::Hidden | Self::Signed)
    }

    /// Makes a world in which this encoding can be written and read.
    pub fn env(self) -> Env {
        if self.needs_keys() { Env::new().with_keys() } else { Env::new() }
    }

    /// Returns what a writer, duplicity or `dupfs`, is given.
    pub fn writing(self) -> Vec<&'static str> {
        match self {
            Self::Plain => vec!["--no-encryption", "--no-compression"],
            Self::Gzip => vec!["--no-encryption"],
            Self::Symmetric => vec![],
            Self::PublicKey => vec!["--encrypt-key", &Keys::get().rsa],
            Self::Hidden => vec!["--hidden-encrypt-key", &Keys::get().curve],
            Self::Signed => {
                vec!["--encrypt-key", &Keys::get().curve, "--sign-key", &Keys::get().rsa]
            }
        }
    }

    /// Returns what a reader, duplicity or `dupfs`, is given beyond the environment.
    pub fn reading(self) -> Vec<&'static str> {
        match self {
            Self::Plain | Self::Gzip => vec!["--no-encryption"],
            Self::Symmetric | Self::PublicKey | Self::Hidden => vec![],
            Self::Signed => vec!["--sign-key", &Keys::get().rsa],
        }
    }

    /// Puts the passphrases where both programs look for them.
    pub fn secrets(self, command: &mut Command) {
        if matches!(self, Self::Symmetric | Self::Hidden | Self::Signed) {
            command.env("PASSPHRASE", PASSPHRASE);
        }
        if matches!(self, Self::Signed | Self::PublicKey) {
            command.env("SIGN_PASSPHRASE", "");
        }
        if self == Self::PublicKey {
            command.env("PASSPHRASE", "");
        }
    }
}

/// One version of the original, at work on one world's collection in one encoding.
pub struct Duplicity<'a> {
    env: &'a Env,
    version: Version,
    encoding: Encoding,
}

impl<'a> Duplicity<'a> {
    pub fn new(env: &'a Env, version: Version, encoding: Encoding) -> Self {
        Self { env, version, encoding }
    }

    /// Saves the source tree as a full set of the given time, in volumes of 1 MiB.
    pub fn full(&self, time: i64) -> &Self {
        self.backup("full", time, &[])
    }

    /// Saves the source tree as an incremental set of the given time.
    pub fn incremental(&self, time: i64) -> &Self {
        self.backup("incremental", time, &[])
    }

    /// Saves the source tree with further options.
    pub fn backup(&self, action: &str, time: i64, options: &[&str]) -> &Self {
        Writer::from(self.version).backup(self.env, self.encoding, action, time, options);
        self
    }

    /// Saves the source tree as `.` from inside it, which leaves the most room for long paths.
    pub fn backup_from_inside(&self, action: &str, time: i64) -> &Self {
        let outcome = self.run(|command| {
            command.current_dir(self.env.source()).args([
                action,
                "--current-time",
                &time.to_string(),
            ]);
            command.args(self.encoding.writing()).arg(".").arg(self.env.url());
        });
        assert_eq!(outcome.code, 0, "{:?} {action} at {time}: {outcome}", self.version);
        self
    }

    /// Restores the state of a time to a directory.
    pub fn restore(&self, time: i64, target: &Path) -> &Self {
        let outcome = self.run(|command| {
            command
                .args(["restore", "--time", &time.to_string()])
                .args(self.encoding.reading())
                .arg(self.env.url())
                .arg(target);
        });
        assert_eq!(outcome.code, 0, "{:?} restore of {time}: {outcome}", self.version);
        self
    }

    /// Runs an action with the reading options, such as `list-current-files`; the last argument is
    /// the URL.
    pub fn ask(&self, action: &str, options: &[&str]) -> Outcome {
        self.run(|command| {
            command.arg(action).args(self.encoding.reading()).args(options).arg(self.env.url());
        })
    }

    fn run(&self, fill: impl FnOnce(&mut Command)) -> Outcome {
        let mut command = self.env.command(self.version.checked());
        self.encoding.secrets(&mut command);
        fill(&mut command);
        Outcome::of(&mut command)
    }
}
