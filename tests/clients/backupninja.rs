//! backupninja's handler for duplicity, which cleans up, removes what is old, and then backs up,
//! all by exit codes.

use super::{calls, client};
use crate::support::{
    Encoding, Env, Keys, Node, Outcome, PASSPHRASE, Tree, Truth, Version, assert_same,
};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Runs the handler where nothing of it, its cache in particular, gets out.
fn ninja(env: &Env, version: Version) -> Outcome {
    let script = "mount -t tmpfs none /var/cache && mount -t tmpfs none /run/lock && mkdir /var/cache/backupninja && \
                  exec backupninja --conffile ninja.conf --now --debug --run \"$PWD/ninja.d/20.dup\"";
    Outcome::of(client(env, "unshare", version).args(["--mount", "sh", "-c", script]))
}

fn configure(env: &Env, gpg: &str) {
    let root = env.root().display();
    let conf = [
        "loglevel = 5\nusecolors = no\nreportemail =\nwhen = everyday at 01:00".to_string(),
        format!("logfile = {root}/ninja.log\nconfigdirectory = {root}/ninja.d"),
        "scriptdirectory = /usr/share/backupninja\nlibdirectory = /usr/lib/backupninja\n"
            .to_string(),
    ];
    let source = env.source();
    let action = [
        format!(
            "options = --volsize 1\nnicelevel = 0\ntestconnect = no\ntmpdir = {root}\n[gpg]\n{gpg}"
        ),
        format!(
            "[source]\ninclude = {0}/dir\ninclude = {0}/file\nexclude = {0}/dir/not*",
            source.display()
        ),
        format!(
            "[dest]\nincremental = yes\nincrements = 30\nkeep = 60\nkeepincroffulls = 1\ndesturl = {}\n",
            env.url()
        ),
    ];
    let directory = env.root().join("ninja.d");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(env.root().join("ninja.conf"), conf.join("\n")).unwrap();
    std::fs::write(directory.join("20.dup"), action.join("\n")).unwrap();
    for (path, mode) in [
        (&directory, 0o700),
        (&directory.join("20.dup"), 0o600),
        (&env.root().join("ninja.conf"), 0o600),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn tree(edition: i64) -> Tree {
    Tree::new(1_000_000)
        .with("other", Node::file("not included", 1_000_000))
        .with("file", Node::file(format!("edition {edition}"), 1_000_000 + edition))
        .with("dir", Node::directory(1_000_000))
        .with("dir/not this", Node::file("excluded", 1_000_000))
        .with(
            "dir/large",
            Node::file(format!("{edition} of a large file ").repeat(100_000), 1_000_000 + edition),
        )
}

fn play(env: &Env, encoding: Encoding, gpg: &str) {
    configure(env, gpg);
    tree(0).write(None, &env.source());
    ninja(env, Version::Old).success();
    let theirs = calls(env);

    tree(1).write(Some(&tree(0)), &env.source());
    let outcome = ninja(env, Version::Ours).success();
    assert!(outcome.stderr.contains("1 actions run. 0 fatal. 0 error. 0 warning."), "{outcome}");
    let ours = calls(env);
    assert_eq!(ours, theirs, "backupninja calls both alike");
    assert_eq!(ours.len(), 5, "{ours:?}");
    let names: Vec<_> = std::fs::read_dir(env.store())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        names.iter().filter(|name| name.starts_with("duplicity-inc.")).count(),
        2,
        "one volume, one manifest: {names:?}"
    );

    let inside = Path::new(&env.source()).strip_prefix("/").unwrap().to_path_buf();
    for version in [Version::Old, Version::Ours] {
        let target = env.fresh(&format!("restored by {version:?}"));
        let mut command = client(env, "duplicity", version);
        encoding.secrets(&mut command);
        Outcome::of(
            command.args(["restore", "--file-to-restore"]).arg(&inside).arg(env.url()).arg(&target),
        )
        .success();
        let mut expected = tree(1);
        for path in ["other", "dir/not this"] {
            expected.0.remove(path.as_bytes());
        }
        assert_same(
            &Truth::of(&expected),
            &Truth::record(&target),
            &format!("restored by {version:?}"),
        );
    }
}

#[test]
fn with_a_passphrase() {
    play(&Env::new(), Encoding::Symmetric, &format!("sign = no\npassword = {PASSPHRASE}"));
}

#[test]
fn with_a_key() {
    let key = &Keys::get().rsa[24..];
    play(
        &Encoding::PublicKey.env(),
        Encoding::PublicKey,
        &format!("sign = no\nencryptkey = {key}\npassword = {PASSPHRASE}"),
    );
}
