//! The user's own `rsync`: where it leads, how it is started, and what its end means.
//!
//! It gets no terminal, and ssh asks nothing, as under duplicity. Names go to it by a list in a file
//! (`--files-from`), never as words of its command line: there the other side would take some
//! characters for patterns.
//!
//! Source: rsync(1) of 3.2 and 3.5, duplicity 3.2.1 rsyncbackend.py.

use crate::storage::services::program::{self, Done, NotRun};
use crate::storage::services::sftp::{explain_ssh, printable};
use crate::storage::{Error, ErrorKind, Settings, Url};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use zeroize::Zeroizing;

/// Whatever the user's options say: English, sizes in full, names as they are, and no part of a file
/// under its name.
const OPTIONS: &[&str] = &[
    "--no-human-readable",
    "--8-bit-output",
    "--no-motd",
    "--no-partial",
    "--no-inplace",
    "--whole-file",
    "--ignore-times",
];
/// The exit code where files went away meanwhile.
const VANISHED: i32 = 24;

/// Why something has failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// Words for the user.
    pub cause: String,
}

impl Failure {
    /// Makes one.
    pub fn new(kind: ErrorKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into() }
    }
}

impl From<NotRun> for Failure {
    fn from(not: NotRun) -> Self {
        Self::new(not.kind, not.cause)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let error = Error::io("use", "temporary files", &error);
        Self::new(error.kind, format!("cannot use temporary files: {}", error.cause))
    }
}

/// Where rsync leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// What stands before the folder: a host, or a module of a daemon.
    root: Vec<u8>,
    /// The folder in it, without a slash at its end.
    folder: Vec<u8>,
    /// The port of ssh.
    port: Option<u16>,
    is_daemon: bool,
}

impl Place {
    /// Understands a URL: `rsync://user@host[:port]/folder` goes over ssh,
    /// `rsync://user@host[:port]::/module/folder` to a daemon.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] where it names no host or no module.
    pub fn new(url: &Url) -> Result<Self, Error> {
        let bad = |cause: &str| url.bad(cause);
        let host = url.host().unwrap_or_default();
        let login = url.user().filter(|user| !user.is_empty());
        let login = login.map_or_else(String::new, |user| format!("{user}@"));
        let trimmed = |path: &[u8]| {
            let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
            path[..end].to_vec()
        };
        // Behind the colons of an address in brackets.
        let address = host.find(']').map_or(0, |end| end + 1);
        let colons = host[address..].find("::").map(|at| address + at);
        if let Some(colons) = colons {
            let path = [&host.as_bytes()[colons + 2..], url.path().as_bytes()].concat();
            let path = path.iter().position(|&byte| byte != b'/').map_or(&[][..], |at| &path[at..]);
            let slash = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
            let (module, folder) = path.split_at(slash);
            if module.is_empty() || colons == 0 {
                return Err(bad(
                    "the URL names no host or no module; write rsync://user@host::/module/folder",
                ));
            }
            let root =
                [format!("rsync://{login}{}/", &host[..colons]).as_bytes(), module, b"/"].concat();
            let folder = trimmed(folder.strip_prefix(b"/").unwrap_or(folder));
            return Ok(Self { root, folder, port: None, is_daemon: true });
        }
        if host.is_empty() || host.starts_with('-') {
            return Err(bad("the URL names no host; write rsync://user@host/folder"));
        }
        let path = url.path().as_bytes();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let folder = match &trimmed(path)[..] {
            b"" if path.is_empty() => b".".to_vec(),
            folder => folder.to_vec(),
        };
        let root = format!("{login}{host}:").into_bytes();
        Ok(Self { root, folder, port: url.port(), is_daemon: false })
    }

    /// Returns the folder as rsync spells it.
    pub fn target(&self) -> OsString {
        let slash: &[u8] = if self.folder.is_empty() && self.is_daemon { b"" } else { b"/" };
        OsString::from_vec([&self.root, &self.folder, slash].concat())
    }

    /// Returns what stands above all folders that may have to be made: the module, the root or the
    /// login folder.
    pub fn top(&self) -> OsString {
        let top: &[u8] = match self.is_daemon {
            true => b"",
            false if self.folder.starts_with(b"/") => b"/",
            false => b"./",
        };
        OsString::from_vec([&self.root, top].concat())
    }

    /// Returns the folder as seen from there.
    pub fn inner(&self) -> &[u8] {
        match &self.folder[..] {
            b"." => b"",
            folder => folder.strip_prefix(b"/").unwrap_or(folder),
        }
    }

    /// Returns the folders that may have to be made there, each behind the one in which it lies.
    pub fn folders(&self) -> Vec<&OsStr> {
        let folder = self.inner();
        let inner = folder.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let ends = inner.chain([folder.len()]).filter(|end| *end > 0);
        ends.map(|end| OsStr::from_bytes(&folder[..end])).collect()
    }

    /// Prepares an rsync that reaches it.
    pub fn command(&self, settings: &Settings, password: Option<&Zeroizing<String>>) -> Command {
        let mut command = Command::new("rsync");
        command.envs(settings.variables_of_programs());
        command.env("LC_ALL", "C").env("TZ", "UTC").env_remove("RSYNC_RSH");
        command.args(&settings.rsync_options).args(OPTIONS);
        let seconds = settings.timeout.as_secs().max(1);
        command.arg(format!("--timeout={seconds}"));
        if self.is_daemon {
            command.arg(format!("--contimeout={seconds}"));
            if let Some(password) = password {
                command.env("RSYNC_PASSWORD", &**password);
            }
        } else {
            command.arg("-e").arg(self.shell(settings, seconds));
            // An older rsync leaves it to the host's shell to understand a folder's name.
            let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@".contains(byte);
            if !self.folder.iter().all(is_plain) {
                command.arg("--protect-args");
            }
        }
        // SAFETY: setsid is safe to call between fork and exec. Without a terminal nothing is asked;
        // and Ctrl-C, which is for us to obey, does not end it under our hands.
        unsafe {
            command.pre_exec(|| {
                let _ = rustix::process::setsid();
                Ok(())
            });
        }
        command
    }

    /// Returns the ssh for `-e`, whose words may be in quotes.
    fn shell(&self, settings: &Settings, seconds: u64) -> OsString {
        let mut shell = OsString::from("ssh");
        for option in &settings.ssh_options {
            let quote = if option.as_bytes().contains(&b'\'') { "\"" } else { "'" };
            shell.push(" ");
            shell.push(quote);
            shell.push(option);
            shell.push(quote);
        }
        if let Some(port) = self.port {
            shell.push(format!(" -p {port}"));
        }
        shell.push(format!(" -oBatchMode=yes -oConnectTimeout={seconds}"));
        shell
    }

    /// Runs an rsync to its end, and returns what it has printed.
    pub fn run(&self, command: &mut Command, settings: &Settings) -> Result<Vec<u8>, Failure> {
        let done = program::run(command, settings.timeout)?;
        match done.status.code() {
            Some(0 | VANISHED) => Ok(done.printed),
            _ => Err(self.explain(&done)),
        }
    }

    fn explain(&self, done: &Done) -> Failure {
        let (said, code) = (&done.said, done.status.code().unwrap_or(-1));
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        let of_ssh = [
            "Permission denied (",
            "Host key verification failed",
            "IDENTIFICATION HAS CHANGED",
            "ssh: ",
        ];
        if !self.is_daemon && (code == 255 || has(&of_ssh)) {
            let (kind, cause) = explain_ssh(said);
            return match said.contains("Permission denied (") {
                true => Failure::new(
                    kind,
                    "the host accepts none of the keys; rsync over ssh takes no password, as under duplicity",
                ),
                false => Failure::new(kind, cause),
            };
        }
        let line = said.lines().find(|line| line.contains("rsync: ") || line.starts_with("@ERROR"));
        let text = printable(line.or(said.lines().last()).unwrap_or_default().trim());
        let with = |kind, words: &str| Failure::new(kind, format!("{words} (rsync: {text})"));
        if has(&["auth failed"]) {
            return with(
                ErrorKind::Denied,
                "the daemon accepts neither the name nor the password, which is taken from the URL, from FTP_PASSWORD, BACKEND_PASSWORD or RSYNC_PASSWORD",
            );
        }
        if has(&["command not found", "rsync: not found"]) || code == 127 {
            return with(ErrorKind::Unsupported, "the host has no rsync");
        }
        let kind = match code {
            _ if has(&["max connections"]) => ErrorKind::Busy(None),
            _ if has(&["No space left", "quota exceeded"]) => ErrorKind::NoSpace,
            _ if has(&["Permission denied", "not permitted", "read only", "Read-only"]) => {
                ErrorKind::Denied
            }
            _ if has(&["No such file or directory", "Unknown module"]) => ErrorKind::NotFound,
            30 | 35 => ErrorKind::TimedOut,
            5 | 10 | 12 => ErrorKind::Unreachable,
            1 | 2 | 4 => ErrorKind::Unsupported,
            _ => ErrorKind::Other,
        };
        with(kind, &format!("rsync has ended with {}", done.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn place(typed: &str) -> Place {
        Place::new(&Url::parse(typed).unwrap()).unwrap()
    }

    #[test]
    fn urls_lead_over_ssh_or_to_a_daemon() {
        for (typed, target, top, folders) in [
            ("rsync://me@h/a/b/", "me@h:a/b/", "me@h:./", vec!["a", "a/b"]),
            ("rsync://h:22//abs/x", "h:/abs/x/", "h:/", vec!["abs", "abs/x"]),
            ("rsync://h", "h:./", "h:./", vec![]),
            ("rsync://me@h::/mod/a", "rsync://me@h/mod/a/", "rsync://me@h/mod/", vec!["a"]),
            ("rsync://h:873::mod", "rsync://h:873/mod/", "rsync://h:873/mod/", vec![]),
            ("rsync://[::1]/a", "[::1]:a/", "[::1]:./", vec!["a"]),
            ("rsync://[::1]::mod/a", "rsync://[::1]/mod/a/", "rsync://[::1]/mod/", vec!["a"]),
        ] {
            let place = place(typed);
            assert_eq!(
                (place.target().as_os_str(), place.top().as_os_str()),
                (OsStr::new(target), OsStr::new(top)),
                "{typed}"
            );
            let folders: Vec<_> = folders.into_iter().map(OsStr::new).collect();
            assert_eq!(place.folders(), folders, "{typed}");
        }
        for typed in ["rsync:///x", "rsync://::/mod", "rsync://h::", "rsync://-oProxyCommand=x/y"] {
            let error = Place::new(&Url::parse(typed).unwrap()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::BadUrl, "{typed}");
        }
    }

    #[test]
    fn a_password_stands_in_the_environment_alone() {
        let settings = Settings {
            ssh_options: vec!["-i".into(), "a key".into()],
            rsync_options: vec!["--inplace".into()],
            ..Settings::default()
        };
        let secret = Zeroizing::new("secret".to_string());
        let words = |typed: &str| {
            let command = place(typed).command(&settings, Some(&secret));
            let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
            let has = command.get_envs().any(|(name, value)| {
                name == "RSYNC_PASSWORD" && value == Some(OsStr::new("secret"))
            });
            (words.join(" "), has)
        };
        let (line, has) = words("rsync://me@h::/mod");
        assert!(line.starts_with("--inplace ") && line.contains(" --no-inplace "), "{line}");
        assert!(has && !line.contains("secret") && !line.contains(" -e "), "{line}");
        let (line, has) = words("rsync://me@h:77/a%20b");
        assert!(line.contains(" -e ssh '-i' 'a key' -p 77 -oBatchMode=yes"), "{line}");
        assert!(!has && line.ends_with("--protect-args"), "{line}");
    }

    #[test]
    fn the_end_of_rsync_is_understood() {
        for (typed, code, said, kind) in [
            ("rsync://h::m", 5, "@ERROR: auth failed on module m", ErrorKind::Denied),
            ("rsync://h::m", 5, "@ERROR: Unknown module 'm'", ErrorKind::NotFound),
            ("rsync://h::m", 5, "@ERROR: max connections (2) reached", ErrorKind::Busy(None)),
            (
                "rsync://h::m",
                11,
                "rsync: [receiver] write failed: No space left on device (28)",
                ErrorKind::NoSpace,
            ),
            (
                "rsync://h::m",
                23,
                "rsync: mkstemp failed: Permission denied (13)",
                ErrorKind::Denied,
            ),
            (
                "rsync://h::m",
                10,
                "rsync: failed to connect to h: Connection refused (111)",
                ErrorKind::Unreachable,
            ),
            ("rsync://h::m", 30, "rsync error: timeout in data send/receive", ErrorKind::TimedOut),
            (
                "rsync://h/a",
                255,
                "ssh: connect to host h port 22: Connection refused",
                ErrorKind::Unreachable,
            ),
            ("rsync://h/a", 12, "me@h: Permission denied (publickey).", ErrorKind::Denied),
            ("rsync://h/a", 127, "sh: 1: rsync: not found", ErrorKind::Unsupported),
            (
                "rsync://h/a",
                23,
                "rsync: change_dir \"/x\" failed: No such file or directory (2)",
                ErrorKind::NotFound,
            ),
        ] {
            let status = ExitStatus::from_raw(code << 8);
            let done = Done { status, printed: Vec::new(), said: said.into() };
            assert_eq!(place(typed).explain(&done).kind, kind, "{said}");
        }
    }
}
