//! Storages behind FTP: plain, with TLS, both ways with the originals, every way to fail.

use crate::support::{
    BothWays, Encoding, Env, Ftp, Ftpd, Mounted, Outcome, Random, SSH_PASSWORD, Sshd, Version,
    keeps_rates, processes,
};
use rustix::process::Signal;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Prepares `dupfs` with the password and the authority.
fn dupfs(env: &Env, ftpd: &Ftpd) -> Command {
    let mut command = env.dupfs(Encoding::Gzip);
    command.env("FTP_PASSWORD", SSH_PASSWORD);
    command.arg("--ssl-cacert-file").arg(ftpd.authority()).args(["--num-retries", "1"]);
    command
}

fn run(command: &mut Command, words: &[&str]) -> Outcome {
    Outcome::of(command.args(words))
}

/// Both originals use lftp, which takes all three.
#[test]
fn both_ways_with_the_originals() {
    let ftpd = Ftpd::shared();
    for (ftp, originals, options) in [
        (Ftp::Plain, &[Version::Old, Version::New][..], &[][..]),
        (Ftp::Explicit, &[Version::New], &[]),
        (Ftp::Implicit, &[Version::Old], &["--ftp-regular"]),
    ] {
        let env = Env::new();
        let prepare = |_, command: &mut Command| {
            command.env("FTP_PASSWORD", SSH_PASSWORD).env("BACKEND_PASSWORD", SSH_PASSWORD);
            command.arg("--ssl-cacert-file").arg(ftpd.authority()).args(options);
        };
        let url = ftpd.url(ftp, &format!("both-{ftp:?}/deep"));
        BothWays { env: &env, url: &url, prepare: &prepare }.run(originals);
    }
}

/// A password: from the URL, from either variable, from `~/.netrc`; never shown. A wrong one ends at
/// once.
#[test]
fn passwords_are_taken_and_not_shown() {
    let (env, ftpd) = (Env::new(), Ftpd::shared());
    std::fs::write(env.source().join("a"), "a").unwrap();
    let url = ftpd.url(Ftp::Plain, "by-password");
    let secret = SSH_PASSWORD.replace(' ', "%20");
    let with = url.replace('@', &format!(":{secret}@"));
    let ask = |words: &[&str], variable: &str, password: &str| {
        let mut command = env.dupfs(Encoding::Gzip);
        let outcome = run(command.arg("-v9").env(variable, password), words);
        for secret in [SSH_PASSWORD, &secret] {
            assert!(!outcome.to_string().contains(secret), "{outcome}");
        }
        outcome
    };
    ask(&["full", "source", &url], "BACKEND_PASSWORD", SSH_PASSWORD).success();
    ask(&["collection-status", &with], "NONE", "").success();
    let words = ["collection-status", "--num-retries", "5", &url];
    let wrong = ask(&words, "FTP_PASSWORD", "wrong");
    assert!(!wrong.stderr.contains("Attempt"), "{wrong}");
    wrong.failure(51, &["Login incorrect", "FTP_PASSWORD"]);
    ask(&words, "NONE", "").failure(51, &["Login incorrect"]);
    let login = format!("machine 127.0.0.1 login {} password \"{SSH_PASSWORD}\"\n", Sshd::USER);
    std::fs::write(env.home().join(".netrc"), login).unwrap();
    ask(&words, "NONE", "").success();
    let nameless = url.replace(&format!("{}@", Sshd::USER), "");
    ask(&["collection-status", &nameless], "NONE", "").success();
    std::fs::remove_file(env.home().join(".netrc")).unwrap();
    ask(&["collection-status", &nameless], "NONE", "").failure(51, &["the server reports"]);

    let mut mount = env.dupfs(Encoding::Gzip);
    mount.env("FTP_PASSWORD", SSH_PASSWORD);
    mount.args(["mount", "--foreground", "-v9", &url]).arg(env.mountpoint());
    let mounted = Mounted::start(mount, &env.mountpoint());
    let found = mounted.snapshots().into_values().next().unwrap();
    assert_eq!(std::fs::read(found.join("a")).unwrap(), b"a");
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let words: String = processes().map(|(_, words)| words + "\n").collect();
    assert!(words.contains("by-password"));
    for text in [table, words, mounted.log()] {
        assert!(!text.contains(SSH_PASSWORD), "{text}");
    }
}

/// A server is believed whose certificate is; no other one, unless that is wanted.
#[test]
fn certificates_are_checked() {
    let (env, ftpd) = (Env::new(), Ftpd::shared());
    for ftp in [Ftp::Explicit, Ftp::Implicit] {
        let url = ftpd.url(ftp, "certified");
        let ask = |options: &[&str]| {
            let mut command = env.dupfs(Encoding::Gzip);
            command.env("FTP_PASSWORD", SSH_PASSWORD).args(["--num-retries", "1"]).args(options);
            run(&mut command, &["collection-status", &url])
        };
        ask(&[]).failure(51, &["certificate of the server is not believed", "--ssl-cacert-file"]);
        ask(&["--ssl-no-check-certificate"]).success();
        let folder = env.fresh(&format!("{ftp:?}"));
        std::fs::create_dir(&folder).unwrap();
        let folder = folder.to_str().unwrap();
        ask(&["--ssl-cacert-path", folder]).failure(23, &["no certificate in it"]);
        std::fs::copy(ftpd.authority(), format!("{folder}/ca.pem")).unwrap();
        ask(&["--ssl-cacert-path", folder]).success();
    }
    let mut plain = dupfs(&env, ftpd);
    let forced = ftpd.url(Ftp::Explicit, "x").replace("ftpes", "ftp");
    run(&mut plain, &["collection-status", &forced])
        .failure(51, &["must use encryption", "ftpes://"]);
    let none = ftpd.url(Ftp::Plain, "x").replace("ftp://", "ftpes://");
    run(&mut dupfs(&env, ftpd), &["collection-status", &none]).failure(50, &["offers no TLS"]);
}

/// What a server refuses is an error of its own kind, with duplicity's code.
#[test]
fn refusals_have_duplicitys_codes() {
    let (env, ftpd) = (Env::new(), Ftpd::shared());
    std::fs::write(env.source().join("a"), "a").unwrap();
    let ask = |words: &[&str]| run(&mut dupfs(&env, ftpd), words);
    ask(&["full", "source", &ftpd.url(Ftp::Plain, "/root/dupfs-x/y")])
        .failure(51, &["the server reports"]);
    ask(&["list-current-files", &ftpd.url(Ftp::Plain, "none")])
        .failure(52, &["the server reports"]);
    ask(&["list-current-files", "ftp:///x"]).failure(23, &["names no host"]);
    ask(&["list-current-files", "ftp://u@127.0.0.1:1/x"]).failure(50, &["Connection refused"]);
}

/// Answers each control connection by what a script returns for a command, and `None` hangs up.
fn scripted(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut output = stream.try_clone().unwrap();
            let mut lines = BufReader::new(stream).lines();
            let mut line = Some("HELLO".to_string());
            while let Some(command) = line.take() {
                let Some(text) = answer(&command) else { break };
                if write!(output, "{text}\r\n").is_err() {
                    break;
                }
                line = lines.next().and_then(Result::ok);
            }
            let _ = output.shutdown(Shutdown::Both);
        }
    });
    port
}

/// Too many connections, no room, an answer that makes no sense, none at all.
#[test]
fn a_server_that_refuses_all_is_reported() {
    let env = Env::new();
    std::fs::write(env.source().join("a"), "a").unwrap();
    for (reply, code, words) in [
        ("421 There are too many connections", 50, "too many connections"),
        ("552 Exceeded storage allocation", 53, "Exceeded storage"),
        ("nonsense", 50, "makes no sense"),
        ("", 50, "there is no connection"),
    ] {
        // All is well until the upload begins.
        let port = scripted(move |command| {
            let word = command.split(' ').next().unwrap_or_default();
            Some(match word {
                "HELLO" if reply.starts_with("421") => reply.to_string(),
                "HELLO" => "220 ready".into(),
                "USER" => "230 in".into(),
                "FEAT" => "211 none".into(),
                "TYPE" => "200 yes".into(),
                "CWD" | "DELE" => "250 yes".into(),
                "SIZE" => "550 no such file".into(),
                "PASV" | "EPSV" | "LIST" | "STOR" if reply.is_empty() => return None,
                _ => reply.to_string(),
            })
        });
        let mut command = env.dupfs(Encoding::Gzip);
        command.args(["--num-retries", "1", "--timeout", "5"]);
        let url = format!("ftp://127.0.0.1:{port}/x");
        run(&mut command, &["full", "source", &url]).failure(code, &[words]);
    }
    // One that says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ftp://127.0.0.1:{}/x", silent.local_addr().unwrap().port());
    for scheme in ["ftp", "ftps", "ftpes"] {
        let begun = Instant::now();
        let mut command = env.dupfs(Encoding::Gzip);
        command.args(["--timeout", "1", "--num-retries", "1"]);
        run(&mut command, &["collection-status", &url.replace("ftp", scheme)])
            .failure(50, &["nothing went or came for 1 seconds"]);
        assert!(begun.elapsed() < Duration::from_secs(10), "{scheme}");
    }
}

/// Sessions are killed, and hang: the mount goes on with good bytes, an upload ends within the
/// timeout, and `cleanup` takes what it has left.
#[test]
fn sessions_that_die_or_hang_do_no_harm() {
    let (env, ftpd) = (Env::new(), Ftpd::new());
    let content = Random::new(7).bytes(8_000_000);
    std::fs::write(env.source().join("a"), &content).unwrap();
    let url = ftpd.url(Ftp::Plain, "x");
    let program = || {
        let mut program = dupfs(&env, &ftpd);
        program.args(["--num-retries", "2", "--backend-retry-delay", "0"]);
        program
    };
    run(&mut program(), &["full", "source", &url]).success();
    let mut mount = program();
    mount.args(["mount", "--foreground", "--timeout", "2", &url]).arg(env.mountpoint());
    let mounted = Mounted::start(mount, &env.mountpoint());
    let file = File::open(mounted.snapshots().into_values().next().unwrap().join("a")).unwrap();
    // The kernel asks for what is read, and no more.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    let read = |offset: usize| {
        let mut found = [0; 4096];
        let read = file.read_exact_at(&mut found, offset as u64);
        read.map(|()| assert!(found == content[offset..][..4096], "{offset}"))
    };
    read(0).unwrap();
    ftpd.signal_sessions(Signal::KILL);
    read(2 << 20).unwrap();
    ftpd.signal_sessions(Signal::STOP);
    // Another line is opened when the first one is found to hang.
    let _ = read(4 << 20);
    ftpd.signal_sessions(Signal::KILL);
    read(5 << 20).unwrap();
    drop(mounted);

    env.clear_caches();
    std::fs::write(env.source().join("a"), vec![0; 60_000_000]).unwrap();
    let url = ftpd.url(Ftp::Plain, "y");
    let left = || ftpd.home().join("y").read_dir().into_iter().flatten().count();
    let mut full = program();
    full.args(["full", "--no-compression", "--volsize", "60", "--timeout", "1"]);
    full.args(["--num-retries", "1", "source", &url]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(30);
            while left() == 0 {
                assert!(Instant::now() < end, "nothing was uploaded");
                std::thread::sleep(Duration::from_millis(1));
            }
            ftpd.signal_sessions(Signal::STOP);
        });
        Outcome::of(&mut full).failure(50, &["nothing went or came for 1 seconds"]);
    });
    ftpd.signal_sessions(Signal::KILL);
    assert!(left() > 0);
    env.clear_caches();
    run(&mut program(), &["cleanup", "--force", &url]).success();
    assert_eq!(left(), 0);
}

/// Bytes go and come no faster than the user wants.
#[test]
fn rates_are_kept() {
    let (env, ftpd) = (Env::new(), Ftpd::shared());
    keeps_rates(&env, &ftpd.url(Ftp::Plain, "rates"), || dupfs(&env, ftpd));
}
