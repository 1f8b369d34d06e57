//! What goes wrong by the user's hand: a sentence on stderr, one of duplicity's exit codes, nothing
//! written.

use crate::support::{Duplicity, Encoding, Env, Node, Outcome, Tree, Truth, Version};
use std::path::Path;

const TIME: i64 = 1_785_585_600;

/// Makes a world with one full set of two files.
fn world(encoding: Encoding) -> Env {
    let env = encoding.env();
    let tree = Tree::new(5)
        .with("dir", Node::directory(6))
        .with("dir/inner", Node::file("inner", 7))
        .with("top", Node::file("top", 8));
    tree.write(None, &env.source());
    Duplicity::new(&env, Version::Old, encoding).full(TIME);
    env.clear_caches();
    env
}

fn restore(env: &Env, options: &[&str], target: &Path) -> Outcome {
    Outcome::of(env.dupfs(Encoding::Gzip).arg("restore").args(options).arg(env.url()).arg(target))
}

/// A restore never overwrites unless told to.
#[test]
fn restore_leaves_a_full_directory_alone() {
    let env = world(Encoding::Gzip);
    let target = env.fresh("target");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), "mine").unwrap();
    std::fs::write(target.join("top"), "mine, too").unwrap();
    restore(&env, &[], &target).failure(11, &[target.to_str().unwrap()]);
    assert_eq!(std::fs::read(target.join("top")).unwrap(), b"mine, too");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 2);

    restore(&env, &["--force"], &target).success();
    assert_eq!(std::fs::read(target.join("top")).unwrap(), b"top");
    assert_eq!(std::fs::read(target.join("mine")).unwrap(), b"mine");
}

/// Where the sentence does not say itself what to do, another one does.
#[test]
fn hints_say_what_to_do() {
    let env = world(Encoding::Gzip);
    let nowhere = format!("{}/nowhere/deep", env.url());
    let run = |words: &[&str]| Outcome::of(env.dupfs(Encoding::Gzip).args(words));
    let lists = |options: &[&str]| run(&[&["list-current-files"], options].concat());
    lists(&[&nowhere]).failure(
        52,
        &[
            "cannot list '",
            "nowhere/deep",
            "\nhint: check the URL, and whether its disk is mounted\n",
        ],
    );
    let source = env.source();
    let saves = |options: &[&str]| {
        run(&[&["full", "--no-encryption", source.to_str().unwrap()], options].concat())
    };
    saves(&["file:///proc/nowhere/deep"]).failure(
        52,
        &[
            "cannot create '",
            "\nhint: no folder can be made there: check the URL, and whether its disk is mounted",
        ],
    );
    // At once: trying again would not help.
    let file = format!("{}/file", env.url());
    std::fs::write(env.store().join("file"), "").unwrap();
    saves(&[&file]).failure(52, &["cannot create '", "Not a directory", "\nhint: "]);
    saves(&["--archive-dir=/proc/x", &env.url()])
        .failure(9, &["/proc/x", "\nhint: --archive-dir names another folder"]);
    saves(&["--exclude-filelist=list", &env.url()])
        .failure(7, &["Error opening file list: ", "\nhint: check the path of the list"]);
    restore(&env, &["-r", "nope"], &env.fresh("target"))
        .failure(19, &["nope", "\nhint: list-current-files shows the paths"]);
    let mut command = env.dupfs(Encoding::Symmetric);
    let outcome =
        Outcome::of(command.args(["full", "--encrypt-key=ABCDEF01"]).arg(&source).arg(env.url()));
    outcome.failure(31, &["'ABCDEF01'", "\nhint: gpg --list-keys"]);
    let mut command = env.dupfs(Encoding::Symmetric);
    let outcome = Outcome::of(
        command.args(["full", "--encrypt-key=A", "--gpg-binary=/nope"]).arg(&source).arg(env.url()),
    );
    outcome.failure(31, &["'/nope'", "\nhint: install GnuPG, or name its program by --gpg-binary"]);
    let full = "mkdir full && mount -t tmpfs -o size=4k tmpfs full && exec dupfs restore --no-encryption \"$url\" full/target";
    std::fs::remove_file(env.store().join("file")).unwrap();
    Outcome::of(&mut env.private_script(Encoding::Gzip, full))
        .failure(30, &["No space left", "\nhint: make room there, or restore"]);
    let env = world(Encoding::Symmetric);
    let outcome = Outcome::of(
        env.dupfs(Encoding::Symmetric)
            .arg("list-current-files")
            .arg(env.url())
            .env("PASSPHRASE", "wrong"),
    );
    outcome.failure(31, &["wrong passphrase", "\nhint: check PASSPHRASE"]);
}

#[test]
fn restore_of_a_part() {
    let env = world(Encoding::Gzip);
    for (number, option) in ["--path-to-restore", "--file-to-restore", "-r"].into_iter().enumerate()
    {
        let file = env.fresh(&format!("not there/file-{number}"));
        restore(&env, &[option, "dir/inner"], &file).success();
        assert_eq!(std::fs::read(&file).unwrap(), b"inner");
    }
    let directory = env.fresh("directory");
    restore(&env, &["--path-to-restore", "/dir/"], &directory).success();
    assert_eq!(Truth::record(&directory).0.len(), 2);
}

#[test]
fn restore_of_an_unknown_path() {
    let env = world(Encoding::Gzip);
    let target = env.fresh("target");
    restore(&env, &["--path-to-restore", "dir/nope"], &target).failure(19, &["dir/nope"]);
    assert!(!target.exists());
}

#[test]
fn a_wrong_passphrase() {
    let env = world(Encoding::Symmetric);
    let target = env.fresh("target");
    let run = |arguments: &[&str], target: Option<&Path>| {
        let mut command = env.dupfs(Encoding::Symmetric);
        Outcome::of(command.env("PASSPHRASE", "wrong").args(arguments).arg(env.url()).args(target))
    };
    run(&["restore"], Some(&target)).failure(31, &["passphrase"]);
    assert!(!target.exists());
    run(&["list-current-files"], None).failure(31, &["passphrase"]);
    run(&["mount"], Some(&env.mountpoint())).failure(31, &["passphrase"]);
}

/// Nor is anything written when the metadata lie open in the archive directory. One set that opens
/// is enough to go on: a chain may have two passphrases.
#[test]
fn a_wrong_passphrase_with_the_archive_directory_at_hand() {
    let env = Env::new();
    Tree::new(5).with("first", Node::file("first", 8)).write(None, &env.source());
    let run = |passphrase: &str, words: &[&str]| {
        let mut command = env.command(Version::Old.checked());
        command.env("PASSPHRASE", passphrase).args(words).args([
            "--no-print-statistics",
            "source",
            &env.url(),
        ]);
        Outcome::of(&mut command).success();
    };
    run("one", &["full", "--current-time", &TIME.to_string()]);
    std::fs::write(env.source().join("second"), "second").unwrap();
    // 0.8.22 logs an error, and goes on.
    run("two", &["incremental", "--current-time", &(TIME + 10).to_string()]);
    for (passphrase, words, code, is_refused) in [
        ("three", &["restore"][..], 31, true),
        ("three", &["verify"], 31, true),
        ("two", &["restore"], 31, false),
        ("one", &["restore"], 31, false),
        ("one", &["restore", "-r", "first"], 0, false),
    ] {
        let target = env.root().join(if words[0] == "verify" { "source" } else { "target" });
        let mut command = env.command(Version::Ours.checked());
        let outcome = Outcome::of(
            command.env("PASSPHRASE", passphrase).args(words).arg(env.url()).arg(&target),
        );
        assert_eq!(outcome.code, code, "{passphrase} {words:?}: {outcome}");
        assert!(
            !is_refused
                || outcome.stderr.lines().count() == 2 && !env.root().join("target").exists(),
            "{outcome}"
        );
        let written = |name: &str| std::fs::read_to_string(target.join(name)).is_ok();
        assert!(
            is_refused || words.len() > 1 || written("first") == (passphrase == "one"),
            "{passphrase}: {outcome}"
        );
        let _ = std::fs::remove_dir_all(env.root().join("target"));
    }
}

#[test]
fn a_wrong_command_line() {
    let env = world(Encoding::Gzip);
    let target = env.fresh("target");
    let run = |arguments: &[&str]| Outcome::of(env.dupfs(Encoding::Gzip).args(arguments));
    run(&["restore", "--no-such-option", &env.url(), target.to_str().unwrap()])
        .failure(2, &["--no-such-option"]);
    run(&["restore", &env.url()]).failure(2, &[]);
    run(&["--time", "yesterdayish", "restore", &env.url(), target.to_str().unwrap()])
        .failure(2, &["yesterdayish"]);
    run(&["no-such-command"]).failure(2, &["no-such-command"]);
    run(&[]).failure(2, &[]);
    run(&["list-current-files", "gopher://somewhere/else"]).failure(23, &["gopher"]);
    assert!(!target.exists());
}

#[test]
fn options_stand_anywhere() {
    let env = world(Encoding::Gzip);
    let url = env.url();
    let expected = env.ask(Encoding::Gzip, &["list-current-files"]).success().stdout;
    for line in [
        vec!["-v4", "list-current-files", "-t", "now", &url],
        vec!["list-current-files", &url, "--restore-time=now", "--num-retries", "2"],
    ] {
        assert_eq!(Outcome::of(env.dupfs(Encoding::Gzip).args(line)).success().stdout, expected);
    }
}

/// The original's archive directory serves where the collection's own metadata is gone or cannot be
/// opened, and is left as it is.
#[test]
fn an_archive_directory_is_read_and_never_written() {
    let env = Encoding::Symmetric.env();
    Tree::new(5).with("top", Node::file("top", 8)).write(None, &env.source());
    Duplicity::new(&env, Version::Old, Encoding::Symmetric).full(TIME);
    let archive = env.cache().join("duplicity");
    let before = Truth::record(&archive);
    env.ask(Encoding::Symmetric, &["list-current-files"]).success();
    env.restore(Encoding::Symmetric, TIME, &env.fresh("target")).success();
    assert_eq!(Truth::record(&archive), before);

    let mut command = env.dupfs(Encoding::Symmetric);
    let listed = Outcome::of(
        command.arg("list-current-files").arg("--archive-dir").arg(&archive).arg(env.url()),
    )
    .success();
    assert!(listed.stdout.ends_with(" top\n"), "{listed}");
}

/// A signature that is demanded is demanded of every file, also of one that cannot have any, and of
/// what the cache knows.
#[test]
fn a_demanded_signature_is_missing() {
    let env = world(Encoding::Gzip);
    let signer = ["--sign-key", "0123456789ABCDEF"];
    let list = [&["list-current-files"][..], &signer].concat();
    env.ask(Encoding::Gzip, &list).failure(22, &["signature"]);
    env.ask(Encoding::Gzip, &["list-current-files"]).success();
    env.ask(Encoding::Gzip, &list).failure(22, &["signature"]);
    let target = env.fresh("target");
    restore(&env, &signer, &target).failure(22, &["signature"]);
    assert!(!target.exists());
}

#[test]
fn a_path_that_is_no_folder_fails_at_once() {
    let env = Env::new();
    let file = env.fresh("file");
    std::fs::write(&file, "").unwrap();
    let mut command = env.dupfs(Encoding::Gzip);
    Outcome::of(command.args(["collection-status", file.to_str().unwrap()]))
        .failure(52, &["cannot list"]);
}

/// A URL may name a folder that is to come; a plain path that is not there may be a URL whose
/// scheme was forgotten.
#[test]
fn a_plain_path_has_to_be_there() {
    let env = Env::new();
    let missing = env.fresh("missing");
    let path = missing.to_str().unwrap();
    for words in [
        &["collection-status"][..],
        &["cleanup"],
        &["remove-all-but-n-full", "1"],
        &["remove-older-than", "3D"],
    ] {
        let run = |url: &str| Outcome::of(env.dupfs(Encoding::Gzip).args(words).arg(url));
        run(path).failure(23, &[path, "file:///"]);
        run(&format!("file://{path}")).success();
    }
    assert!(!missing.exists());
}

/// A mount shows everything as it is: what would choose is refused, not ignored.
#[test]
fn what_a_mount_would_ignore_is_refused() {
    let env = Env::new();
    for options in [
        &["--time", "3D"][..],
        &["-tnow"],
        &["-r", "etc"],
        &["--exclude", "x"],
        &["--include-globbing-filelist", "x"],
        &["--filter-literal"],
        &["--dry-run"],
        &["--rename", "a", "b"],
        &["--force"],
        &["--ignore-errors"],
        &["--do-not-restore-ownership"],
        &["-o", "ro,time=3D"],
    ] {
        env.ask_to(Encoding::Gzip, &[&["mount"], options].concat(), &env.mountpoint())
            .failure(2, &["mount does not take"]);
    }
}

/// Before anything else is done, in the words of 0.8.22; 3.2.1 hands gpg whatever is given, so what
/// can be an address signs.
#[test]
fn a_sign_key_that_cannot_be_one() {
    let env = Env::new();
    let run = |version: Version, key: &str, words: &[&str]| {
        Outcome::of(
            env.command(version.checked())
                .arg("--sign-key")
                .arg(key)
                .args(words)
                .env("PASSPHRASE", "x"),
        )
    };
    let target = env.root().join("none");
    let url = format!("file://{}", target.display());
    for words in [
        &["full", "source", &url][..],
        &["list-current-files", &url],
        &["cleanup", &url],
        &["restore", &url, "target"],
    ] {
        for key in ["zz", "12 34 56 78", "0x123456789"] {
            let [ours, theirs] =
                [Version::Ours, Version::Old].map(|version| run(version, key, words));
            assert_eq!((ours.code, theirs.code), (10, 10), "{ours}\n{theirs}");
            assert_eq!(ours.stderr.trim_end(), theirs.stderr.trim_end());
        }
    }
    run(Version::Ours, "alice@example.org", &["list-current-files", &url])
        .failure(10, &["alice@example.org"]);
    assert!(!target.exists() && !env.cache().join("duplicity").exists());
    run(Version::Ours, "alice@example.org", &["full", "source", &url])
        .failure(31, &["alice@example.org"]);
}

/// Paths hold any bytes, in a URL also behind percent signs.
#[test]
fn urls_hold_any_bytes() {
    use std::os::unix::ffi::OsStringExt;
    let env = Env::new();
    std::fs::write(env.source().join("a"), "a").unwrap();
    let path = env.root().join(std::ffi::OsString::from_vec(b"st\xffre".to_vec()));
    let mut url = std::ffi::OsString::from("file://");
    url.push(&path);
    let percent = format!("file://{}/st%FFre", env.root().display());
    let run =
        |words: &[&std::ffi::OsStr]| Outcome::of(env.dupfs(Encoding::Gzip).args(words)).success();
    run(&["full".as_ref(), "--no-encryption".as_ref(), "source".as_ref(), &url]);
    for spelt in [path.as_os_str(), &url, percent.as_ref()] {
        let listed = run(&["list-current-files".as_ref(), spelt]);
        assert!(listed.stdout.ends_with(" a\n"), "{listed}");
    }
    run(&["restore".as_ref(), &url, "target".as_ref()]);
    assert!(env.root().join("target/a").is_file());
}
