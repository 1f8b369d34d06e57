//! The examples of duplicity's manual as shell lines, with `duplicity` on the path; in place of
//! remote URLs stand folders.

use crate::support::{Env, Node, Outcome, PASSPHRASE, Tree, Truth, Version, assert_same};
use Version::{Exchanged, Old};

/// Runs a shell line in which `$ROOT` is the world, `$DIR` a URL, and `duplicity` the program.
fn shell(env: &Env, version: Version, line: &str) -> Outcome {
    let bin = env.root().join(format!("bin-{version:?}"));
    if !bin.exists() {
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(version.checked(), bin.join("duplicity")).unwrap();
    }
    let mut command = env.command("sh");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    command
        .args(["-c", line])
        .env("PATH", path)
        .env("PASSPHRASE", PASSPHRASE)
        .env("ROOT", env.root());
    let outcome = Outcome::of(command.env("DIR", env.url_of(version)));
    Outcome { stdout: format!("{line}\n{}", outcome.stdout), ..outcome }.success()
}

fn names(env: &Env, version: Version) -> Vec<String> {
    let entries = std::fs::read_dir(env.store_of(version)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A home is saved, saved again, brought up to date, restored whole and in part, and verified.
#[test]
fn a_home_comes_and_goes() {
    for version in [Old, Exchanged] {
        let env = Env::new();
        let run = |line: &str| shell(&env, version, line);
        let count = |kind: &str| {
            names(&env, version)
                .iter()
                .filter(|name| name.contains(kind) && name.contains("manifest"))
                .count()
        };
        let me = env.home().join("me");
        let tree = |article: &str, time: i64| {
            Tree::new(5)
                .with("Mail", Node::directory(6))
                .with("Mail/article", Node::file(article, time))
                .with("x", Node::file("x", 7))
        };
        tree("first", 8).write(None, &me);
        let ago = |days: i64| {
            format!("--current-time {}", chrono::Utc::now().timestamp() - days * 86_400)
        };

        let said = run(&format!("duplicity {} $ROOT/home/me $DIR", ago(5))).stdout;
        assert!(said.contains("No signatures found, switching to full backup."), "{said}");
        tree("second", 9).write(Some(&tree("first", 8)), &me);
        run(&format!("duplicity full {} $ROOT/home/me $DIR", ago(4)));
        assert_eq!((count("full"), count("inc")), (2, 0));
        tree("third", 10).write(Some(&tree("second", 9)), &me);
        run("duplicity --full-if-older-than 1M $ROOT/home/me $DIR");
        assert_eq!((count("full"), count("inc")), (2, 1));

        let said = run("duplicity verify $DIR $ROOT/home/me").stdout;
        assert!(said.contains("Verify complete: 4 files compared, 0 differences found."), "{said}");
        std::fs::write(me.join("x"), "lost").unwrap();
        run("duplicity -t 3D --file-to-restore Mail/article $DIR $ROOT/home/me/restored_file");
        assert_eq!(std::fs::read_to_string(me.join("restored_file")).unwrap(), "second");
        std::fs::remove_dir_all(&me).unwrap();
        run("duplicity $DIR $ROOT/home/me");
        assert_same(&Truth::of(&tree("third", 10)), &Truth::record(&me), &format!("{version:?}"));
    }
}

/// The whole machine without some folders, and some of its folders alone: here of one folder, which
/// stands for the machine.
#[test]
fn a_machine_is_saved_in_part() {
    let env = Env::new();
    let mut tree = Tree::new(5);
    for folder in ["etc", "home", "mnt", "proc", "tmp", "usr"] {
        tree = tree
            .with(folder, Node::directory(6))
            .with(format!("{folder}/file"), Node::file(folder, 7));
    }
    tree.write(None, &env.root().join("machine"));
    let saved = |version: Version, line: &str| {
        shell(&env, version, line);
        let listed = shell(&env, version, "duplicity list-current-files $DIR").stdout;
        let root = env.root().strip_prefix("/").unwrap().join("machine");
        let inside = listed
            .lines()
            .filter_map(|line| line.get(25..)?.strip_prefix(root.to_str()?))
            .map(String::from);
        let inside: Vec<_> = inside.collect();
        std::fs::remove_dir_all(env.store_of(version)).unwrap();
        inside
    };
    for (line, expected) in [
        (
            "duplicity --exclude $ROOT/machine/mnt --exclude $ROOT/machine/tmp --exclude $ROOT/machine/proc \
             --include $ROOT/machine --exclude '**' / $DIR",
            &["", "/etc", "/etc/file", "/home", "/home/file", "/usr", "/usr/file"][..],
        ),
        (
            "duplicity --include $ROOT/machine/home --include $ROOT/machine/etc --exclude '**' / $DIR",
            &["", "/etc", "/etc/file", "/home", "/home/file"],
        ),
        ("cd / && FTP_PASSWORD=mypassword duplicity $ROOT/machine/etc $DIR", &[]),
    ] {
        for version in [Old, Exchanged] {
            assert_eq!(saved(version, line), expected, "{version:?} {line}");
        }
    }
}
