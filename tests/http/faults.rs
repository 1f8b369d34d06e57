//! Lines that fail, in front of S3, WebDAV and sftp: a table of what is done and what goes wrong.

use super::{Place, TIME, run, write_source};
#[cfg(feature = "sftp")]
use crate::support::Sshd;
use crate::support::{DavServer, Env, Fault, Mounted, Proxy, Random, S3Server};
use std::process::Command;
use std::time::{Duration, Instant};

/// What may go wrong, and be over before the tries are used up.
const FAULTS: &[Fault] = &[
    Fault::CutDown(3_000),
    Fault::CutDown(400_000),
    Fault::CutUp(2_500),
    Fault::CutUp(700_000),
    Fault::Status(503, 2),
    Fault::Status(500, 2),
    Fault::Status(429, 1),
];

/// One that is to be tried more often than the faults last.
fn patient(place: &Place, env: &Env) -> Command {
    let mut command = place.dupfs(env);
    command.args(["--num-retries", "5", "--backend-retry-delay", "1", "--timeout", "3"]);
    command
}

/// Writes, adds to, restores and reads through a mount, while one thing after the other goes wrong;
/// all of it is right in the end.
fn goes_on(name: &str, place_of: impl Fn(&str) -> (Place, Proxy), faults: &[Fault]) {
    for (number, fault) in faults.iter().enumerate() {
        let env = Env::new();
        let (place, proxy) = place_of(&format!("faults-{name}-{number}"));
        let begun = Instant::now();
        let mut happened = 0;
        let mut set = |proxy: &Proxy| {
            happened += usize::from(proxy.is_over());
            proxy.set(*fault);
        };
        proxy.set(*fault);
        let content = Random::new(number as u64).bytes(1_500_000);
        std::fs::write(env.source().join("large"), &content).unwrap();
        for (time, action) in [(1, "full"), (2, "incremental")] {
            write_source(&env, time);
            set(&proxy);
            let time = (TIME + i64::from(time)).to_string();
            run(
                patient(&place, &env),
                &[action, "--volsize", "1", "--current-time", &time, "source", &place.url],
            )
            .success();
        }
        env.clear_caches();
        set(&proxy);
        let target = env.fresh("restored");
        run(patient(&place, &env), &["restore", &place.url, target.to_str().unwrap()]).success();
        assert!(std::fs::read(target.join("large")).unwrap() == content, "{name} {fault:?}");
        env.clear_caches();
        set(&proxy);
        let mut mount = patient(&place, &env);
        mount.args(["mount", "--foreground", &place.url]).arg(env.mountpoint());
        let mounted = Mounted::start(mount, &env.mountpoint());
        set(&proxy);
        let found = std::fs::read(mounted.at(TIME + 2).join("large")).unwrap();
        assert!(found == content, "{name} {fault:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{name} {fault:?}: {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn s3_goes_on() {
    let place_of = |name: &str| {
        let proxy = Proxy::to(S3Server::shared().port());
        (Place::s3(name, proxy.port()), proxy)
    };
    goes_on("s3", place_of, FAULTS);
}

#[test]
fn webdav_goes_on() {
    let place_of = |name: &str| {
        let proxy = Proxy::to(DavServer::shared().port());
        (Place::dav("webdav", &format!("digest/{name}"), proxy.port()), proxy)
    };
    goes_on("dav", place_of, FAULTS);
}

/// A server that is gone or stands still: a mount answers with an error within its time, and with
/// good bytes at once when the server is back; a backup ends with duplicity's code, and the next
/// run goes on.
#[test]
fn a_server_that_is_away_for_a_while() {
    for (name, fault, words) in
        [("down", Fault::Down, "connection"), ("hang", Fault::Hang, "no answer for 1 s")]
    {
        let env = Env::new();
        let proxy = Proxy::to(S3Server::shared().port());
        let place = Place::s3(&format!("away-{name}"), proxy.port());
        let content = Random::new(3).bytes(3_000_000);
        std::fs::write(env.source().join("large"), &content).unwrap();
        run(
            place.dupfs(&env),
            &["full", "--current-time", &TIME.to_string(), "source", &place.url],
        )
        .success();
        let impatient = || {
            let mut command = place.dupfs(&env);
            command.args(["--num-retries", "2", "--backend-retry-delay", "0", "--timeout", "1"]);
            command
        };
        let mut mount = impatient();
        mount.args(["mount", "--foreground", &place.url]).arg(env.mountpoint());
        let mounted = Mounted::start(mount, &env.mountpoint());
        let file = mounted.at(TIME).join("large");
        proxy.set(fault);
        let begun = Instant::now();
        let error = std::fs::read(&file).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{name}: {}", mounted.log());
        write_source(&env, 2);
        let outcome = run(impatient(), &["incremental", "source", &place.url]);
        let outcome = outcome.failure(50, &[]);
        assert!(outcome.stderr.to_lowercase().contains(words), "{name}: {outcome}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
        proxy.set(Fault::None);
        let begun = Instant::now();
        assert!(std::fs::read(&file).unwrap() == content, "{name}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{name}: {:?}", begun.elapsed());
        run(impatient(), &["incremental", "source", &place.url]).success();
    }
}

/// The same over ssh, whose line is made anew.
#[cfg(feature = "sftp")]
#[test]
fn sftp_goes_on() {
    let sshd = Sshd::shared();
    let place_of = |name: &str| {
        let proxy = Proxy::to(sshd.port());
        let mut place = Place::dav("webdav", "none", 1);
        place.url = sshd
            .url("sftp", name)
            .replace(&format!(":{}/", sshd.port()), &format!(":{}/", proxy.port()));
        (place, proxy)
    };
    let place_of = |name: &str| {
        let (mut place, proxy) = place_of(name);
        let env = Env::new();
        let options = sshd.introduce(&env, true);
        // The host is the same behind another port.
        let options = options.replace(
            &format!("-oUserKnownHostsFile={}", env.home().join(".ssh/known_hosts").display()),
            "-oUserKnownHostsFile=/dev/null",
        ) + " -oStrictHostKeyChecking=no -oLogLevel=ERROR";
        place.options = vec!["--ssh-options".into(), options];
        place.variables.clear();
        (place, proxy)
    };
    goes_on("sftp", place_of, &FAULTS[..4]);
}
