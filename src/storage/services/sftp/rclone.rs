//! `rclone serve sftp` as the way to any service that rclone knows: how it is started, what it is
//! asked beside, and what its reports mean.
//!
//! The user's configuration and variables (`RCLONE_*`) say what a remote is; options given here come
//! before them, and are few. What is between rclone and the service differs from a server's disk:
//!
//! - A file is read and written in one pass. Requests out of order make rclone give up, or begin
//!   another download with each: one request at a time is under way for each file.
//! - rclone remembers a listing, and answers from memory. So each listing is asked of a new child;
//!   the one before serves whoever still uses it. A child that has reported a failure is asked for
//!   nothing more, and what it does not know is asked of a new one before it counts as missing.
//! - A missing folder is an empty one to its server: `rclone lsf` tells them apart.
//! - Times cost a request for each file with some services, and come back rounded with others: none
//!   are set or read, and the stamps of such a storage are 0.
//! - With some services nothing leaves before a file is closed. rclone reports once a second how
//!   much has moved; that is progress.
//! - When the pipes break, rclone stores what it has got of a file as if that were all of it. It
//!   stands under the unfinished name.
//!
//! Source: rclone 1.60, `rclone help flags`, `rclone serve sftp --help`; for the URL duplicity 3.2.1
//! rclonebackend.py.

use super::wire::{Failure, Guide, printable};
use crate::storage::services::program::{self, NotRun};
use crate::storage::{Error, ErrorKind, Settings, Url, url};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

/// What rclone is asked for whatever it does. Nobody is there to type a password; what is deleted is
/// deleted, as by duplicity.
const OPTIONS: &[&str] =
    &["--ask-password=false", "--use-json-log", "--log-level=NOTICE", "--log-file="];
/// What is asked of its server.
const SERVER: &[&str] = &[
    "--vfs-cache-mode=off",
    "--dir-cache-time=1000h",
    "--no-modtime",
    "--drive-use-trash=false",
    "--stats=1s",
    "--stats-log-level=NOTICE",
];
/// The exit code of `rclone lsf` where there is no such folder.
const NO_FOLDER: i32 = 3;

/// What is known of rclone.
pub const GUIDE: Guide = Guide { explain, moved, is_relay: true };

impl From<NotRun> for Failure {
    fn from(not: NotRun) -> Self {
        Self::new(not.kind, not.cause)
    }
}

/// Returns the folder as rclone spells it: `remote:path`.
///
/// # Errors
/// [`Error`] with [`ErrorKind::BadUrl`] where there is none, or a secret in it would stand in the
/// list of processes.
pub fn remote(url: &Url) -> Result<OsString, Error> {
    let bad = |cause: &str| url.bad(cause);
    let typed = url.typed().as_bytes();
    let begin = typed.windows(3).position(|part| part == b"://").map_or(0, |at| at + 3);
    let rest = typed[begin..].split(|&byte| byte == b'?').next().unwrap_or_default();
    // Only what lies behind the first slash is decoded, and of `remote:/path` the slash goes.
    let (name, path) = rest.split_at(rest.iter().position(|&b| b == b'/').unwrap_or(rest.len()));
    let mut remote = name.to_vec();
    remote.extend(percent_encoding::percent_decode(path));
    if let Some(colon) = remote.windows(2).position(|part| part == b":/") {
        remote.remove(colon + 1);
    }
    if remote.is_empty() || remote.starts_with(b"-") {
        return Err(bad(
            "the URL names no remote; write rclone://remote:/folder, with a remote that 'rclone listremotes' shows",
        ));
    }
    let text = String::from_utf8_lossy(&remote);
    let mut parameters = text.split(',').skip(1).filter_map(|word| word.split_once('='));
    let has_secret = parameters.any(|(name, _)| url::is_secret(name));
    if has_secret {
        return Err(bad(
            "a secret in a remote's parameters would stand in the list of processes; keep the remote in rclone's configuration ('rclone config'), or in variables \
             (RCLONE_CONFIG_NAME_TYPE and so on)",
        ));
    }
    Ok(OsString::from_vec(remote))
}

/// Prepares the server of a remote.
pub fn server(remote: &OsStr, settings: &Settings) -> Command {
    let mut command = rclone(&["serve", "sftp", "--stdio"], settings);
    command.args(SERVER).arg("--").arg(remote);
    command
}

/// Makes the folder of a remote, where folders have to be made.
pub fn make_folder(remote: &OsStr, settings: &Settings) -> Result<(), Failure> {
    ask("mkdir", remote, settings).map(|_| ())
}

/// Returns whether the folder of a remote is there, as far as the service knows folders.
pub fn has_folder(remote: &OsStr, settings: &Settings) -> Result<bool, Failure> {
    ask("lsf", remote, settings)
}

/// Runs a command of rclone's for a folder; returns whether the folder is there.
fn ask(word: &str, remote: &OsStr, settings: &Settings) -> Result<bool, Failure> {
    let mut command = rclone(&[word, "--retries=1", "--max-depth=1"], settings);
    command.arg("--").arg(remote);
    let done = program::run(&mut command, settings.timeout)?;
    match done.status.code() {
        Some(0) => Ok(true),
        Some(NO_FOLDER) => Ok(false),
        _ => Err(explain(&done.said, Some(done.status))),
    }
}

fn rclone(words: &[&str], settings: &Settings) -> Command {
    let mut command = Command::new("rclone");
    command.envs(settings.variables_of_programs());
    command.args(words).args(OPTIONS);
    // SAFETY: setsid is safe to call between fork and exec. Ctrl-C, which is for us to obey, does not
    // end it under our hands.
    unsafe {
        command.pre_exec(|| {
            let _ = rustix::process::setsid();
            Ok(())
        });
    }
    command
}

/// Returns how many bytes have moved, of a line that reports that.
fn moved(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?.get("stats")?.get("bytes")?.as_u64()
}

/// Returns the texts of reports: about one object where it is named, else of what ended rclone.
fn texts(said: &str, object: Option<&str>) -> Vec<String> {
    let text = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(report) => {
            let is_about = |object| report.get("object").and_then(Value::as_str) == Some(object);
            let is_error = matches!(report.get("level")?.as_str()?, "error" | "critical" | "fatal");
            let is_wanted = is_error && object.is_none_or(is_about);
            is_wanted.then(|| report.get("msg")?.as_str().map(str::to_string)).flatten()
        }
        // What ends it has a date and a time before it.
        Err(_) if object.is_none() => Some(line.splitn(3, ' ').last()?.to_string()),
        Err(_) => None,
    };
    said.lines().filter_map(text).map(|text| printable(text.trim())).collect()
}

/// Explains a failure to write a file by what rclone has reported of it.
pub fn explain_file(said: &str, name: &str, failure: Failure) -> Failure {
    let texts = texts(said, Some(name));
    // What follows only from the first failure is no reason.
    let follows = |text: &&String| text.contains("closed pipe") || text.contains("can't seek");
    match texts.iter().rev().find(|text| !follows(text)) {
        Some(text) => Failure {
            kind: kind(text).unwrap_or(failure.kind),
            cause: format!("rclone: {text}"),
            ..failure
        },
        None => Failure { kind: kind(&failure.cause).unwrap_or(failure.kind), ..failure },
    }
}

/// Returns what kind of failure a service's words mean, where that is plain.
fn kind(text: &str) -> Option<ErrorKind> {
    let text = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["no space left", "quota", "insufficient storage", "storage limit"]) {
        Some(ErrorKind::NoSpace)
    } else if has(&[
        "permission denied",
        "access denied",
        "accessdenied",
        "forbidden",
        "unauthorized",
    ]) {
        Some(ErrorKind::Denied)
    } else {
        None
    }
}

/// Explains the end of rclone.
fn explain(said: &str, status: Option<ExitStatus>) -> Failure {
    let texts = texts(said, None);
    let text = texts.last().map_or("", |text| text.as_str());
    let has = |word: &str| said.contains(word);
    let with = |words: &str| match text {
        "" => words.to_string(),
        _ => format!("{words} (rclone: {text})"),
    };
    let wrong = |words: &str| Failure::new(ErrorKind::Unsupported, with(words));
    if has("didn't find section in config file") {
        return wrong(
            "rclone knows no such remote: 'rclone listremotes' shows those that it knows to this user, 'rclone config' makes one, RCLONE_CONFIG names another configuration",
        );
    }
    if has("decrypt") && has("RCLONE_CONFIG_PASS") {
        return wrong("rclone's configuration is locked; RCLONE_CONFIG_PASS is its password");
    }
    if has("Failed to create file system") || has("Failed to load config") {
        return wrong(
            "rclone cannot use this remote; 'rclone lsd', and the remote, shows the same, 'rclone config' puts it right",
        );
    }
    if has("unknown command") || has("unknown flag") || has("Usage:") {
        return wrong("this rclone is too old; dupfs was tried with 1.60");
    }
    let words = match status {
        Some(status) if !status.success() => format!("rclone has ended with {status}"),
        _ => "rclone has ended".to_string(),
    };
    Failure::new(kind(text).unwrap_or(ErrorKind::Unreachable), with(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_spelt_as_duplicity_spells_them() {
        for (typed, remote) in [
            ("rclone://remote:/a/b%20c", "remote:a/b c"),
            ("rclone://remote:a", "remote:a"),
            ("rclone://remote:", "remote:"),
            ("rclone://remote://abs", "remote:/abs"),
            ("rclone://remote:2020/x@y", "remote:2020/x@y"),
            ("rclone:///abs/x", "/abs/x"),
            ("rclone://:sftp,host=h:/a?x", ":sftp,host=h:a"),
        ] {
            assert_eq!(super::remote(&Url::parse(typed).unwrap()).unwrap(), remote, "{typed}");
        }
        for typed in ["rclone://", "rclone://-x:/", "rclone://:s3,secret_access_key=hidden:b/x"] {
            let error = super::remote(&Url::parse(typed).unwrap()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::BadUrl);
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }

    #[test]
    fn reports_of_rclone_are_understood() {
        let stats =
            r#"{"level":"warning","msg":"\nTransferred","stats":{"bytes":552960,"checks":0}}"#;
        let full = r#"{"level":"error","msg":"Rcat failed: no space left on device","object":"a"}"#;
        let after =
            r#"{"level":"error","msg":"Write error: io: read/write on closed pipe","object":"a"}"#;
        assert_eq!((moved(stats), moved(full), moved("bytes")), (Some(552_960), None, None));
        let said =
            format!("{full}\n{after}\n{}", full.replace("no space", "b").replace("\"a\"", "\"b\""));
        let other = || Failure::new(ErrorKind::Other, "a failure");
        let explained = explain_file(&said, "a", other());
        assert_eq!(explained.kind, ErrorKind::NoSpace);
        assert_eq!(explained.cause, "rclone: Rcat failed: no space left on device");
        assert_eq!(explain_file(&said, "c", other()).cause, "a failure");
        let plain =
            explain_file("", "c", Failure::new(ErrorKind::Other, "no space left on device"));
        assert_eq!(plain.kind, ErrorKind::NoSpace);
        for (said, kind, words) in [
            (
                "2026/11/28 20:20:38 Failed to create file system for \"x:\": didn't find section in config file",
                ErrorKind::Unsupported,
                "'rclone config' makes one",
            ),
            ("", ErrorKind::Unreachable, "rclone has ended"),
            (
                "2026/11/28 20:20:38 Failed to mkdir: mkdir /x\u{1b}: permission denied",
                ErrorKind::Denied,
                "(rclone: Failed to mkdir: mkdir /x : permission denied)",
            ),
        ] {
            let failure = explain(said, None);
            assert_eq!(failure.kind, kind, "{said}");
            assert!(failure.cause.contains(words), "{}", failure.cause);
        }
    }
}
