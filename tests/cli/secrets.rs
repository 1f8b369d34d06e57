//! Passphrases are seen by nobody else: not in the lists of arguments and variables that every
//! process shows, not by programs that we run, not in core files, not in logs.

use crate::support::{Encoding, Keys, Outcome, PASSPHRASE, Version};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_running_process_shows_none() {
    let env = Encoding::Symmetric.env();
    std::fs::write(env.source().join("a"), "a").unwrap();
    let list = env.root().join("list");
    rustix::fs::mknodat(rustix::fs::CWD, &list, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let mut command = env.command(Version::Exchanged.checked());
    command.env("PASSPHRASE", PASSPHRASE).env("SIGN_PASSPHRASE", "another secret");
    command.args(["full", "--exclude-filelist"]).arg(&list).arg("source").arg(env.url());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    // It waits for its list now, and has long taken what it needs.
    let proc = |name: &str| std::fs::read(format!("/proc/{}/{name}", child.id())).unwrap();
    let mut list = std::fs::File::options().write(true).open(&list).unwrap();
    let shown = [proc("environ"), proc("cmdline")].concat();
    for secret in [PASSPHRASE, "another secret"] {
        assert!(
            !shown.windows(secret.len()).any(|window| window == secret.as_bytes()),
            "{}",
            shown.escape_ascii()
        );
    }
    let limits = String::from_utf8(proc("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let core: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
    assert!(core == ["1", "1"] || core == ["0", "0"], "{limits}");
    list.write_all(b"- **\n").unwrap();
    drop(list);
    let end = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn programs_that_we_run_and_logs_show_none() {
    let env = Encoding::Signed.env();
    std::fs::write(env.source().join("a"), "a").unwrap();
    let (gpg, seen) = (env.root().join("gpg"), env.root().join("seen"));
    let script =
        format!("#!/bin/sh\n(env; echo \"$@\") >> '{}'\nexec gpg \"$@\"\n", seen.display());
    std::fs::write(&gpg, script).unwrap();
    std::fs::set_permissions(&gpg, std::fs::Permissions::from_mode(0o755)).unwrap();
    let key = &Keys::get().curve;
    let run = |words: &[&str]| {
        let mut command = env.command(Version::Exchanged.checked());
        command
            .env("PASSPHRASE", PASSPHRASE)
            .env("SIGN_PASSPHRASE", PASSPHRASE)
            .arg("--gpg-binary")
            .arg(&gpg);
        Outcome::of(
            command.args(["-v9", "--log-file", "log", "--encrypt-sign-key", key]).args(words),
        )
        .success()
    };
    let saved = run(&["full", "source", &env.url()]);
    env.clear_caches();
    let verified = run(&["verify", &env.url(), "source"]);
    let read = |name: &str| std::fs::read_to_string(env.root().join(name)).unwrap();
    let (seen, log) = (read("seen"), read("log"));
    assert!(
        seen.contains("--local-user") || seen.contains("-u"),
        "gpg was not run to sign: {seen}"
    );
    for text in [&seen, &log, &saved.to_string(), &verified.to_string()] {
        assert!(!text.contains(PASSPHRASE), "{text}");
    }
}

/// Without a terminal a line of stdin is the passphrase, and what follows it is left to others.
#[test]
fn a_line_of_stdin_is_enough() {
    let env = Encoding::Symmetric.env();
    std::fs::write(env.source().join("a"), "a").unwrap();
    let script =
        "printf 'secret\\nsecret\\r\\nthe rest\\n' | (setsid -w \"$@\"; echo \"then $?\"; cat)";
    let mut command = env.command("sh");
    command.args(["-c", script, "sh"]).arg(Version::Exchanged.checked()).args([
        "full",
        "source",
        &env.url(),
    ]);
    let outcome = Outcome::of(&mut command).success();
    assert!(outcome.stdout.ends_with("then 0\nthe rest\n"), "{outcome}");
    assert!(outcome.stderr.contains("Retype passphrase for decryption to confirm: "), "{outcome}");
}

/// With `--use-agent` it is gpg-agent that asks, by its pinentry; the originals can read what is
/// encrypted so.
#[test]
fn the_agent_asks_for_a_passphrase() {
    let env = Encoding::Symmetric.env();
    std::fs::write(env.source().join("a"), "a").unwrap();
    let pinentry = env.root().join("pinentry");
    let asks = |answer: &str| {
        let script = format!(
            "#!/bin/sh\necho OK\nwhile read -r line; do case $line in GETPIN) echo asked >> '{}'; echo S PIN_REPEATED; {answer};; \
             *) echo OK;; esac; done\n",
            env.root().join("asked").display()
        );
        std::fs::write(&pinentry, script).unwrap();
        std::fs::set_permissions(&pinentry, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    std::fs::write(
        env.gnupg().join("gpg-agent.conf"),
        format!("pinentry-program {}\n", pinentry.display()),
    )
    .unwrap();
    let run = |words: &[&str]| {
        let mut command = env.command(Version::Exchanged.checked());
        Outcome::of(
            command
                .args(["--use-agent", "--current-time"])
                .args(words)
                .args(["source", &env.url()]),
        )
    };
    asks("echo ERR 83886179 Operation cancelled");
    run(&["1700000000", "full"])
        .failure(31, &["gpg-agent gives no passphrase", "cancelled", "set PASSPHRASE"]);
    asks("echo 'D 50%25 horse'; echo OK");
    run(&["1700000000", "full"]).success();
    std::fs::write(env.source().join("a"), "changed").unwrap();
    run(&["1700001000", "incremental"]).success();
    for version in [Version::Old, Version::New, Version::Ours] {
        let target = env.fresh("restored");
        let mut command = env.command(version.checked());
        Outcome::of(
            command.env("PASSPHRASE", "50% horse").args(["restore", &env.url()]).arg(&target),
        )
        .success();
        assert_eq!(std::fs::read(target.join("a")).unwrap(), b"changed", "{version:?}");
        std::fs::remove_dir_all(&target).unwrap();
    }
    let asked = std::fs::read_to_string(env.root().join("asked")).unwrap().lines().count();
    // Once in vain, and for each backup once or, where the pinentry does not repeat by itself,
    // twice.
    assert!([3, 5].contains(&asked), "asked {asked} times");
}
