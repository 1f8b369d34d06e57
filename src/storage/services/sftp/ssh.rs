//! The user's own `ssh` as the way to a host: how it is started, how it gets a password, and what
//! its last words mean.
//!
//! `~/.ssh/config`, agents, jump hosts, known hosts and hardware keys work, because they are ssh's.
//! Nothing waits for an answer on a terminal: ssh asks a program (`SSH_ASKPASS`), which is this one
//! ([`answer_ssh`]). It knows the password from the environment of the ssh that was started, and
//! gives it to that ssh only: not to one that leads to a jump host. To the question for an unknown
//! host key it answers no, and hands the question on, since the fingerprint is in it.
//!
//! Source: ssh(1), ssh_config(5), OpenSSH 9.2.

use super::wire::{Failure, Guide, printable};
use crate::storage::{ErrorKind, Settings, Url};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus};
use zeroize::Zeroizing;

/// The process that has started ssh, for the program that ssh asks.
const PARENT: &str = "DUPFS_SSH_PARENT";
/// The password, for the same.
const PASSWORD: &str = "DUPFS_SSH_PASSWORD";
/// Begins what is handed on of the question for a host key.
const UNKNOWN_KEY: &str = "unknown host key: ";

/// What is known of ssh.
pub const GUIDE: Guide = Guide { explain, moved: |_| None, is_relay: false };

/// What `scp` and `sftp` ask of ssh, and that it shall not go to the background for others.
const OPTIONS: &[&str] = &[
    "ForwardX11=no",
    "ForwardAgent=no",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
    "ControlMaster=no",
    "NumberOfPasswordPrompts=1",
];

/// Prepares an ssh that leads to the SFTP server of the URL's host. Of an option that is given twice
/// ssh takes the first, so the user's come first.
pub fn command(url: &Url, settings: &Settings, password: Option<&Zeroizing<String>>) -> Command {
    let mut command = Command::new("ssh");
    command.envs(settings.variables_of_programs());
    command.args(&settings.ssh_options).arg("-T");
    for option in OPTIONS {
        command.args(["-o", option]);
    }
    let seconds = settings.timeout.as_secs().max(1);
    command.args(["-o", &format!("ConnectTimeout={seconds}")]);
    if let Some(port) = url.port() {
        command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = url.user().filter(|user| !user.is_empty()) {
        command.args(["-l", user]);
    }
    match &settings.askpass {
        Some(program) => {
            command.env("SSH_ASKPASS", program).env("SSH_ASKPASS_REQUIRE", "force");
            command.env(PARENT, std::process::id().to_string());
            // Before version 8.4 it asks only where it believes in a screen.
            if std::env::var_os("DISPLAY").is_none() {
                command.env("DISPLAY", ":");
            }
            if let Some(password) = password {
                command.env(PASSWORD, &**password);
            }
        }
        None => {
            command.args(["-o", "BatchMode=yes"]);
        }
    }
    let host = url.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    command.args(["-s", "--", host, "sftp"]);
    // SAFETY: setsid is safe to call between fork and exec. Without a terminal, ssh asks none; and
    // Ctrl-C, which is for us to obey, does not end it under our hands.
    unsafe {
        command.pre_exec(|| {
            let _ = rustix::process::setsid();
            Ok(())
        });
    }
    command
}

/// Answers the ssh that this program has started, if it is such an ssh that has started this
/// process to ask something; `None` if it is not. To be called before anything else.
pub fn answer_ssh() -> Option<ExitCode> {
    let parent = std::env::var(PARENT).ok()?;
    let question = std::env::args().nth(1).unwrap_or_default();
    let lower = question.to_lowercase();
    if lower.contains("fingerprint") || lower.contains("(yes/no") {
        eprintln!("{UNKNOWN_KEY}{}", question.replace('\n', " "));
        println!("no");
        return Some(ExitCode::SUCCESS);
    }
    // A security key wants to be touched: a notice, not a question.
    if std::env::var_os("SSH_ASKPASS_PROMPT").is_some_and(|kind| kind == "none") {
        eprintln!("{}", printable(&question));
        return Some(ExitCode::SUCCESS);
    }
    let is_answered = lower.contains("password") || lower.contains("passphrase");
    let password = std::env::var_os(PASSWORD).filter(|_| is_answered);
    match password.filter(|_| grandparent().is_some_and(|found| found == parent)) {
        Some(password) => {
            let mut output = std::io::stdout().lock();
            let written =
                output.write_all(password.as_bytes()).and_then(|()| output.write_all(b"\n"));
            Some(if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        None => Some(ExitCode::FAILURE),
    }
}

/// Returns who has started the process that has started this one.
fn grandparent() -> Option<String> {
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    let line = std::fs::read_to_string(format!("/proc/{parent}/stat")).ok()?;
    // The name in brackets may hold anything; behind it stand the state and the number.
    line.rsplit_once(')')?.1.split_whitespace().nth(1).map(str::to_string)
}

/// Explains the end of an ssh.
fn explain(said: &str, status: Option<ExitStatus>) -> Failure {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let fingerprint = said
        .split(|letter: char| letter.is_whitespace())
        .find(|word| word.starts_with("SHA256:") || word.starts_with("MD5:"))
        .map_or(String::new(), |word| format!(" {}", printable(word.trim_end_matches('.'))));
    let new = |kind, cause: String| Failure::new(kind, cause);
    if has(&["REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        return new(
            ErrorKind::Denied,
            format!(
                "the host has another key than the one that is known of it; its fingerprint is now{fingerprint}: somebody may have come between. If the key was changed for a \
                 good reason, forget the old one by 'ssh-keygen -R', as known_hosts spells the host, and log in once by ssh"
            ),
        );
    }
    if has(&["Host key verification failed", UNKNOWN_KEY]) {
        let shown = if fingerprint.is_empty() {
            "; 'ssh-keyscan HOST | ssh-keygen -lf -' shows its fingerprint".to_string()
        } else {
            format!("; its fingerprint is{fingerprint}")
        };
        return new(
            ErrorKind::Denied,
            format!(
                "the key of the host is not known here{shown}. Compare that with what the host's owner says, then accept the key by logging in once by ssh, as the same user \
                 to the same host and port"
            ),
        );
    }
    let text = last_words(said);
    let with = |words: &str| match text.is_empty() {
        true => words.to_string(),
        false => format!("{words} (ssh: {text})"),
    };
    if has(&["Permission denied", "Too many authentication failures"]) {
        let words = "the host accepts neither the keys nor the password; a password is taken from the URL, from FTP_PASSWORD or BACKEND_PASSWORD, or asked for with --ssh-askpass";
        return new(ErrorKind::Denied, with(words));
    }
    if has(&["subsystem request failed"]) {
        return new(ErrorKind::Unsupported, with("the host offers no SFTP"));
    }
    if has(&["Bad configuration option", "unknown option", "illegal option", "usage: ssh"]) {
        return new(ErrorKind::Unsupported, with("ssh does not take its options"));
    }
    if has(&["timed out"]) {
        return new(ErrorKind::TimedOut, with("the host does not answer"));
    }
    let words = match status {
        Some(status) if status.success() => "the host has closed the connection".to_string(),
        // 255 is what it makes of all its own failures.
        Some(status) if status.code() != Some(255) => {
            format!("there is no connection: ssh has ended with {status}")
        }
        _ => "there is no connection".to_string(),
    };
    new(ErrorKind::Unreachable, with(&words))
}

/// Returns the end of what was said, as one line.
fn last_words(said: &str) -> String {
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let lines = lines.iter().map(|line| line.strip_prefix("ssh: ").unwrap_or(line));
    let lines: Vec<_> = lines.collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    printable(&last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn last_words_of_ssh_are_understood() {
        for (said, kind, words) in [
            (
                "ssh: connect to host h port 22: Connection refused\r\n",
                ErrorKind::Unreachable,
                "(ssh: connect to host h port 22: Connection refused)",
            ),
            ("ssh: connect to host h port 22: Connection timed out", ErrorKind::TimedOut, "answer"),
            ("u@h: Permission denied (publickey,password).", ErrorKind::Denied, "FTP_PASSWORD"),
            (
                "subsystem request failed on channel 0",
                ErrorKind::Unsupported,
                "the host offers no SFTP",
            ),
            (
                "command-line: line 0: Bad configuration option: x\x1b[2J",
                ErrorKind::Unsupported,
                "option: x [2J)",
            ),
            (
                "unknown host key: ED25519 key fingerprint is SHA256:abc. Are you\nHost key verification failed.",
                ErrorKind::Denied,
                "its fingerprint is SHA256:abc. Compare",
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nThe fingerprint\nSHA256:abc.\nHost key verification failed.",
                ErrorKind::Denied,
                "is now SHA256:abc: somebody",
            ),
            ("", ErrorKind::Unreachable, "there is no connection"),
        ] {
            let failure = explain(said, None);
            assert_eq!(failure.kind, kind, "{said}");
            assert!(failure.cause.contains(words), "{}", failure.cause);
        }
    }

    #[test]
    fn a_password_stands_in_the_environment_of_ssh_alone() {
        let url = Url::parse("sftp://me:secret@[::1]:77//a").unwrap();
        let options = ["-oPort=1", "-i", "key"].map(Into::into).to_vec();
        let settings = Settings {
            ssh_options: options,
            askpass: Some("/bin/dupfs".into()),
            ..Settings::default()
        };
        let command = command(&url, &settings, url.password());
        let line: Vec<_> =
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let line = line.join(" ");
        assert!(line.starts_with("-oPort=1 -i key -T -o "), "{line}");
        assert!(line.ends_with("-p 77 -l me -s -- ::1 sftp"), "{line}");
        assert!(!line.contains("secret") && !line.contains("BatchMode"), "{line}");
        let has = |name: &str, value: &str| {
            command.get_envs().any(|found| found == (OsStr::new(name), Some(OsStr::new(value))))
        };
        assert!(has(PASSWORD, "secret") && has("SSH_ASKPASS", "/bin/dupfs"));
    }
}
