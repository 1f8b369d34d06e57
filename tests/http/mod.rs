//! Storages behind HTTP: S3 and WebDAV, both ways with the originals, over lines that fail.

mod faults;
mod lies;

use crate::support::{
    AzureServer, DAV_PASSWORD, DavServer, Encoding, Env, Mounted, Outcome, Proxy, Random,
    S3_SECRET, S3Server, SwiftServer, Version, keeps_rates,
};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const TIME: i64 = 1_700_000_000;

/// A place at a server: how each program spells it, and what it has to be told.
struct Place {
    url: String,
    theirs: [String; 2],
    options: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Place {
    /// A place in a new bucket, reached by a port.
    fn s3(bucket: &str, port: u16) -> Self {
        S3Server::shared().make_bucket(bucket);
        let endpoint = format!("http://127.0.0.1:{port}");
        Self {
            url: format!("s3://{bucket}/some/where"),
            theirs: [
                format!("boto3+s3://{bucket}/some/where"),
                format!("s3:///{bucket}/some/where"),
            ],
            options: vec!["--s3-endpoint-url".into(), endpoint],
            variables: vec![
                ("AWS_ACCESS_KEY_ID".into(), "keeper".into()),
                ("AWS_SECRET_ACCESS_KEY".into(), S3_SECRET.into()),
                ("AWS_DEFAULT_REGION".into(), "us-east-1".into()),
            ],
        }
    }

    /// A container, which is not there yet.
    fn azure(name: &str) -> Self {
        let url = format!("azure://{name}");
        let variables =
            vec![("AZURE_CONNECTION_STRING".into(), AzureServer::shared().connection_string())];
        Self { theirs: [url.clone(), url.clone()], url, options: Vec::new(), variables }
    }

    /// A container of the stub of Swift, or of the archive that is one.
    fn swift(service: &str, version: u8, name: &str) -> Self {
        let url = format!("{}://{name}/some/where", service.to_lowercase());
        let variables = SwiftServer::shared().variables(service, version);
        Self { theirs: [url.clone(), url.clone()], url, options: Vec::new(), variables }
    }

    /// A folder of the WebDAV server, reached by a port; that of `webdavs` by TLS.
    fn dav(scheme: &str, folder: &str, port: u16) -> Self {
        let server = DavServer::shared();
        let url = format!("{scheme}://{}@localhost:{port}/{folder}", DavServer::USER);
        let options = match scheme {
            "webdavs" => {
                vec!["--ssl-cacert-file".into(), server.authority().display().to_string()]
            }
            _ => Vec::new(),
        };
        let variables = vec![("FTP_PASSWORD".into(), DAV_PASSWORD.to_string())];
        Self { theirs: [url.clone(), url.clone()], url, options, variables }
    }

    fn dupfs(&self, env: &Env) -> Command {
        self.tell(env.dupfs(Encoding::Gzip))
    }

    fn original(&self, env: &Env, version: Version) -> Command {
        let mut command = env.command(version.checked());
        command.arg("--no-encryption");
        self.tell(command)
    }

    fn tell(&self, mut command: Command) -> Command {
        command.args(&self.options).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

fn run(mut command: Command, words: &[&str]) -> Outcome {
    Outcome::of(command.args(words))
}

/// Changes the source: a file that changes, and one that is new.
fn write_source(env: &Env, number: u8) {
    // duplicity takes a file for the same that has the same time in seconds.
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1000 * u64::from(number));
    std::fs::write(env.source().join("a"), vec![number; 100_000 + usize::from(number)]).unwrap();
    let file = File::options().write(true).open(env.source().join("a")).unwrap();
    file.set_modified(time).unwrap();
    std::fs::write(env.source().join(format!("of-{number}")), "new").unwrap();
}

/// Fails unless a folder holds what the source does.
#[track_caller]
fn is_source(place: &Path, env: &Env) {
    for file in ["a", "of-1", "of-2"] {
        let (found, expected) =
            [place, &env.source()].map(|place| std::fs::read(place.join(file)).ok()).into();
        assert!(found == expected, "{}: {file}", place.display());
    }
}

/// Restores the newest state, and compares it with the source.
#[track_caller]
fn restore(command: Command, env: &Env, url: &str, name: &str) {
    let target = env.fresh(name);
    run(command, &["restore", url, target.to_str().unwrap()]).success();
    is_source(&target, env);
}

/// What dupfs writes, both originals restore; what each of them writes, dupfs restores, and verifies.
fn both_ways(place_of: impl Fn(&str) -> Place) {
    ours(&place_of("ours"), &[Version::Old, Version::New]);
    theirs(place_of);
}

/// What dupfs writes, these originals restore; dupfs restores and mounts it.
fn ours(ours: &Place, readers: &[Version]) {
    let env = Env::new();
    for (number, action) in [(1, "full"), (2, "incremental")] {
        write_source(&env, number);
        let time = (TIME + i64::from(number)).to_string();
        run(ours.dupfs(&env), &[action, "--current-time", &time, "source", &ours.url]).success();
    }
    for (number, version) in readers.iter().enumerate() {
        restore(ours.original(&env, *version), &env, &ours.theirs[number], &format!("by-{number}"));
    }
    env.clear_caches();
    restore(ours.dupfs(&env), &env, &ours.url, "own");
    let mut mount = ours.dupfs(&env);
    mount.args(["mount", "--foreground", &ours.url]).arg(env.mountpoint());
    is_source(&Mounted::start(mount, &env.mountpoint()).at(TIME + 2), &env);
}

/// What each original writes, dupfs restores and verifies.
fn theirs(place_of: impl Fn(&str) -> Place) {
    for (number, version) in [Version::Old, Version::New].into_iter().enumerate() {
        let (env, theirs) = (Env::new(), place_of(["theirs-old", "theirs-new"][number]));
        for (time, action) in [(1, "full"), (2, "incremental")] {
            write_source(&env, time);
            let time = (TIME + i64::from(time)).to_string();
            let url = &theirs.theirs[number];
            let words = [action, "--allow-source-mismatch", "--current-time", &time, "source", url];
            run(theirs.original(&env, version), &words).success();
        }
        env.clear_caches();
        restore(theirs.dupfs(&env), &env, &theirs.url, "restored");
        run(theirs.dupfs(&env), &["verify", "--compare-data", &theirs.url, "source"]).success();
    }
}

#[test]
fn s3_both_ways() {
    both_ways(|name| Place::s3(&format!("both-{name}"), S3Server::shared().port()));
}

#[test]
fn azure_both_ways() {
    both_ways(|name| Place::azure(&format!("both-{name}")));
}

/// Neither original can write to the stub, and by the newer ways to sign in they need libraries of
/// Keystone.
#[test]
fn swift_by_all_ways_to_sign_in() {
    ours(&Place::swift("SWIFT", 1, "one"), &[Version::Old, Version::New]);
    ours(&Place::swift("PCA", 2, "two"), &[]);
    ours(&Place::swift("SWIFT", 3, "three"), &[]);
    let mut wrong = Place::swift("PCA", 3, "wrong");
    wrong.variables.iter_mut().filter(|(name, _)| name == "PCA_PASSWORD").for_each(|(_, value)| {
        value.push('x');
    });
    let outcome = run(wrong.dupfs(&Env::new()), &["collection-status", &wrong.url]);
    outcome.failure(51, &["cannot reach 'pca://wrong/some/where'"]);
}

/// By digest neither original gets in here: both send `Digest None`.
#[test]
fn webdav_both_ways_plain_and_by_tls() {
    let server = DavServer::shared();
    both_ways(|name| Place::dav("webdav", &format!("basic/plain-{name}"), server.port()));
    both_ways(|name| Place::dav("webdavs", &format!("basic/{name}"), server.tls_port()));
}

/// Redirections are followed for every method; the login goes to no other place.
#[test]
fn webdav_redirections_are_followed() {
    let (env, server) = (Env::new(), DavServer::shared());
    write_source(&env, 1);
    for folder in ["moved/redirected-307", "found/redirected-302"] {
        let place = Place::dav("webdav", folder, server.port());
        run(place.dupfs(&env), &["full", "source", &place.url]).success();
        restore(place.dupfs(&env), &env, &place.url, &folder.replace('/', "-"));
    }
    assert!(server.files().join("open/redirected-307").read_dir().unwrap().count() > 2);
}

/// What a server refuses is an error of its own kind, with duplicity's code and a way out.
#[test]
fn refusals_have_duplicitys_codes() {
    let (env, dav) = (Env::new(), DavServer::shared());
    write_source(&env, 1);
    let ask = |place: &Place, words: &[&str]| {
        let mut command = place.dupfs(&env);
        command.args(["--num-retries", "1"]);
        run(command, &[words, &[place.url.as_str()]].concat())
    };
    let s3 = |bucket: &str| Place::s3(bucket, S3Server::shared().port());
    let status = ["collection-status"];
    let mut none = s3("refusals");
    none.url = "s3://no-such-bucket-here".into();
    ask(&none, &status).failure(52, &["does not exist", "make it at the service"]);
    let mut keyless = s3("keyless");
    keyless.variables = vec![("AWS_EC2_METADATA_DISABLED".into(), "true".into())];
    ask(&keyless, &status).failure(51, &["there are no keys: set AWS_ACCESS_KEY_ID"]);
    for folder in ["digest", "basic"] {
        let mut wrong = Place::dav("webdav", &format!("{folder}/refusals"), dav.port());
        wrong.variables = vec![("FTP_PASSWORD".into(), "wrong".into())];
        ask(&wrong, &status).failure(51, &["check the user and the password"]);
    }
    let mut strange = Place::dav("webdavs", "basic/strange", dav.tls_port());
    strange.options.clear();
    ask(&strange, &status).failure(51, &["certificate", "--ssl-cacert-file"]);
    let url = strange.url.clone();
    run(strange.dupfs(&env), &["full", "--ssl-no-check-certificate", "source", &url]).success();
    let mut away = Place::dav("webdav", "open/away", 1);
    away.options = vec!["--backend-retry-delay".into(), "0".into()];
    ask(&away, &status).failure(50, &["Connection refused"]);
    for (url, words) in [("webdav:///x", "names no host"), ("s3://", "names no bucket")] {
        away.url = url.into();
        ask(&away, &status).failure(23, &[words]);
    }
}

/// Secrets from the URL and from variables are shown nowhere, at the highest verbosity.
#[test]
fn secrets_are_not_shown() {
    let (env, dav) = (Env::new(), DavServer::shared());
    write_source(&env, 1);
    let s3 = Place::s3("secrets", S3Server::shared().port());
    let typed = DAV_PASSWORD.replace(' ', "%20");
    let mut in_url = Place::dav("webdav", "basic/secrets", dav.port());
    in_url.url = in_url.url.replace('@', &format!(":{typed}@"));
    in_url.variables.clear();
    let by_variable = Place::dav("webdav", "digest/secrets", dav.port());
    let mut headers = Place::dav("webdav", "open/secrets", dav.port());
    headers.options.extend(["--webdav-headers".into(), "X-Key,tell-nobody".into()]);
    for place in [s3, in_url, by_variable, headers] {
        for words in [&["full", "-v9", "source"][..], &["collection-status", "-v9"]] {
            let outcome =
                run(place.dupfs(&env), &[words, &[place.url.as_str()]].concat()).success();
            for secret in [S3_SECRET, DAV_PASSWORD, &typed, "tell-nobody"] {
                assert!(!outcome.to_string().contains(secret), "{outcome}");
            }
        }
        let mut mount = place.dupfs(&env);
        mount.args(["mount", "--foreground", "-v9", &place.url]).arg(env.mountpoint());
        let mounted = Mounted::start(mount, &env.mountpoint());
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for secret in [S3_SECRET, DAV_PASSWORD, &typed, "tell-nobody"] {
            assert!(!(table.clone() + &mounted.log()).contains(secret), "{}", mounted.log());
        }
    }
}

/// Volumes go to the class that was asked for, and nothing else does: what is in an archive cannot
/// be read, and the error says why, in a restore and in a mount.
#[test]
fn cold_volumes_are_named() {
    let (env, server) = (Env::new(), S3Server::shared());
    write_source(&env, 1);
    let place = Place::s3("cold", server.port());
    let words = ["full", "--s3-use-glacier", "--s3-use-server-side-encryption", "source"];
    run(place.dupfs(&env), &[&words[..], &[place.url.as_str()]].concat()).success();
    let objects = server.objects("cold");
    assert_eq!(objects.len(), 3, "{objects:?}");
    for [name, class, encryption] in objects {
        assert_eq!(encryption, "AES256", "{name}");
        assert_eq!(class == "GLACIER", name.contains("difftar"), "{name}: {class}");
    }
    let names = run(place.dupfs(&env), &["list-current-files", &place.url]).success();
    assert!(names.stdout.contains("of-1"), "what no volume is needed for works: {names}");
    let target = env.fresh("target");
    let restored = run(place.dupfs(&env), &["restore", &place.url, target.to_str().unwrap()]);
    assert_ne!(restored.code, 0, "{restored}");
    assert!(restored.stderr.contains("has to be thawed first"), "{restored}");
    // The next increment does not need them either.
    write_source(&env, 2);
    run(place.dupfs(&env), &["incremental", "source", &place.url]).success();
    let mut mount = place.dupfs(&env);
    mount.args(["mount", "--foreground", &place.url]).arg(env.mountpoint());
    let mounted = Mounted::start(mount, &env.mountpoint());
    let found = mounted.snapshots().into_values().next().unwrap();
    let read = std::fs::read(found.join("a")).unwrap_err();
    assert_eq!(read.raw_os_error(), Some(libc::EIO), "{}", mounted.log());
    assert!(mounted.log().contains("thawed"), "{}", mounted.log());
}

/// What the work costs on the line: see the budgets on the page of `tests/counted`.
#[test]
fn requests_on_the_line_are_few() {
    let env = Env::new();
    let content = Random::new(7).bytes(8_000_000);
    std::fs::write(env.source().join("a"), &content).unwrap();
    let (s3, dav) = (S3Server::shared(), DavServer::shared());
    for name in ["s3", "dav"] {
        let proxy = Proxy::to(if name == "s3" { s3.port() } else { dav.port() });
        let place = match name {
            "s3" => Place::s3("counted", proxy.port()),
            _ => Place::dav("webdav", "basic/counted", proxy.port()),
        };
        let is = |request: &String, method: &str| request.starts_with(&format!("{method} "));
        let count = |requests: &[String], method: &str| {
            requests.iter().filter(|request| is(request, method)).count()
        };
        // Two volumes, signature file, manifest.
        run(place.dupfs(&env), &["full", "--volsize", "6", "source", &place.url]).success();
        let requests = proxy.take_requests();
        assert_eq!(count(&requests, "PUT"), 4, "{requests:?}");
        let lists = if name == "s3" { count(&requests, "GET") } else { 2 };
        assert_eq!(lists, 2, "before, and after the last upload: {requests:?}");

        run(place.dupfs(&env), &["incremental", "source", &place.url]).success();
        let requests = proxy.take_requests();
        assert_eq!(count(&requests, "PUT"), 3, "{requests:?}");

        let mut mount = place.dupfs(&env);
        mount.args(["mount", "--foreground", &place.url]).arg(env.mountpoint());
        let mounted = Mounted::start(mount, &env.mountpoint());
        let file = mounted.snapshots().into_values().next().unwrap().join("a");
        let file = File::open(file).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
        let mut found = [0; 4096];
        file.read_exact_at(&mut found, 0).unwrap();
        proxy.take_requests();
        proxy.take_bytes();
        file.read_exact_at(&mut found, 4 << 20).unwrap();
        assert!(found == content[4 << 20..][..4096]);
        let (requests, (_, down)) = (proxy.take_requests(), proxy.take_bytes());
        assert_eq!(requests.len(), 1, "{requests:?}");
        assert!(down < 1 << 20, "{down} bytes");
    }
}

/// Passwords come from a file, as fstab needs them: one that nobody else may read.
#[test]
fn variables_come_from_a_file() {
    let (env, dav) = (Env::new(), DavServer::shared());
    write_source(&env, 1);
    let mut place = Place::dav("webdav", "digest/env-file", dav.port());
    place.variables.clear();
    let file = env.root().join("variables");
    let write = |text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let full = || {
        let mut command = place.dupfs(&env);
        command.args(["full", "--env-file"]).arg(&file).args(["source", &place.url]);
        Outcome::of(&mut command)
    };
    let text =
        format!("# of the NAS\n\nBACKEND_PASSWORD=\"{DAV_PASSWORD}\"\nexport TZ=Asia/Tokyo\n");
    write(&text, 0o644);
    full().failure(2, &["cannot take variables from", "chmod 600"]);
    write("BACKEND_PASSWORD\n", 0o600);
    full().failure(2, &["line 1 is not NAME=value"]);
    write(&text, 0o600);
    let outcome = full().success();
    assert!(!outcome.to_string().contains(DAV_PASSWORD), "{outcome}");
    let mut mount = place.dupfs(&env);
    mount.args(["mount", "--foreground", &place.url]).arg(env.mountpoint());
    mount.arg("-o").arg(format!("ro,_netdev,env-file={}", file.display()));
    let mounted = Mounted::start(mount, &env.mountpoint());
    let found = mounted.snapshots().into_values().next().unwrap();
    assert!(found.to_string_lossy().contains("+0900"), "{}", found.display());
    assert_eq!(std::fs::read(found.join("a")).unwrap(), vec![1; 100_001]);
}

/// Bytes go and come no faster than the user wants.
#[test]
fn rates_are_kept() {
    let env = Env::new();
    for place in [
        Place::s3("rates", S3Server::shared().port()),
        Place::dav("webdav", "basic/rates", DavServer::shared().port()),
    ] {
        keeps_rates(&env, &place.url, || place.dupfs(&env));
    }
}
