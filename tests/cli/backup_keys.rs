//! Who can read a backup: kinds of encryption, what `--gpg-options` do to the packets, and who is
//! asked for which passphrase.

use crate::support::{Env, Keys, Node, Outcome, PASSPHRASE, Tree, Version};
use Version::{New, Old, Ours};
use std::path::PathBuf;
use std::process::Command;

const TIME: i64 = 1_785_585_600;

/// Makes a world with a source of one file, and keys.
fn world() -> Env {
    let env = Env::new().with_keys();
    Tree::new(5).with("text", Node::file("text\n".repeat(1000), 8)).write(None, &env.source());
    env
}

/// Prepares `full` or `incremental` to be run with variables.
fn command(env: &Env, version: Version, variables: &[(&str, &str)], words: &[&str]) -> Command {
    let mut command = env.command(version.checked());
    command
        .args(words)
        .args(["--no-print-statistics", "source", &env.url_of(version)])
        .envs(variables.iter().copied());
    command
}

fn count(env: &Env) -> usize {
    std::fs::read_dir(env.store_of(Ours)).map_or(0, Iterator::count)
}

fn volume(env: &Env) -> PathBuf {
    env.store_of(Ours).join("duplicity-full.20260801T120000Z.vol1.difftar.gpg")
}

/// Returns what gpg says of the packets of the volume.
fn packets(env: &Env, passphrase: &str) -> String {
    let mut gpg = env.command("gpg");
    gpg.args([
        "--batch",
        "--pinentry-mode=loopback",
        "--passphrase",
        passphrase,
        "--list-packets",
        "-v",
    ])
    .arg(volume(env));
    let Outcome { stdout, stderr, .. } = Outcome::of(&mut gpg);
    format!("{stdout}\n{stderr}")
}

/// Every option that is honoured shows in the packets.
#[test]
fn gpg_options_show_in_the_packets() {
    let env = world();
    let (rsa, curve) = (&Keys::get().rsa[24..], &Keys::get().curve);
    let to_rsa = ["--encrypt-key", rsa];
    let signed = ["--encrypt-key", rsa, "--sign-key", rsa];
    let also_curve = format!("--encrypt-to {curve}");
    let also_hidden = format!("--hidden-encrypt-to {curve}");
    for (options, gpg_options, there, absent) in [
        (
            &[][..],
            "",
            &[
                "version 4, cipher 9",
                "s2k 3, hash 2",
                "count 65011712 (255)",
                "compressed packet: algo=1",
            ][..],
            &[][..],
        ),
        (&[], "--cipher-algo AES192", &["version 4, cipher 8"], &[]),
        (&[], "--s2k-cipher-algo=AES", &["version 4, cipher 7"], &[]),
        (&[], "--personal-cipher-preferences AES192", &["version 4, cipher 8"], &[]),
        (&[], "--s2k-digest-algo SHA512", &["s2k 3, hash 10"], &[]),
        (&[], "--s2k-mode 1", &["s2k 1, hash 2"], &["count"]),
        (&[], "--s2k-count 65536", &["count 65536 (96)"], &[]),
        (
            &[],
            "--compress-algo none",
            &["encrypted data packet", "literal data packet"],
            &["compressed packet"],
        ),
        (&[], "-z 0", &["literal data packet"], &["compressed packet"]),
        (&[], "--compress-level=9 --quiet --no-tty", &["compressed packet: algo=1"], &[]),
        (
            &to_rsa,
            "",
            &["pubkey enc packet: version 3, algo 1, keyid"],
            &["keyid 0000000000000000", "symkey"],
        ),
        (&to_rsa, "--throw-keyids", &["keyid 0000000000000000"], &[]),
        (&["--hidden-encrypt-key", rsa], "", &["keyid 0000000000000000"], &[]),
        (&to_rsa, &also_curve, &["algo 1, keyid", "algo 18, keyid"], &["keyid 0000000000000000"]),
        (&to_rsa, &also_hidden, &["algo 1, keyid", "algo 18, keyid 0000000000000000"], &[]),
        (&signed, "", &["onepass_sig packet", ", digest 10,"], &[]),
        (&signed, "--digest-algo SHA256", &[", digest 8,"], &[]),
        (&signed, "--personal-digest-preferences=SHA384", &[", digest 9,"], &[]),
    ] {
        let time = TIME.to_string();
        let words =
            [&["full", "--current-time", &time, "--gpg-options", gpg_options], options].concat();
        let variables = [
            ("PASSPHRASE", if options.is_empty() { PASSPHRASE } else { "" }),
            ("SIGN_PASSPHRASE", ""),
        ];
        Outcome::of(&mut command(&env, Ours, &variables, &words)).success();
        let packets = packets(&env, PASSPHRASE);
        for text in there {
            assert!(packets.contains(text), "{options:?} {gpg_options}: no '{text}' in {packets}");
        }
        for text in absent {
            assert!(!packets.contains(text), "{options:?} {gpg_options}: '{text}' in {packets}");
        }
        std::fs::remove_dir_all(env.store_of(Ours)).unwrap();
        env.clear_caches();
    }
}

/// Returns the packets that say who can read, and how: those of a public key sorted.
fn readers(said: &str) -> Vec<String> {
    let kinds = [":pubkey", ":symkey", ":compressed"];
    let lines = said.lines().filter(|line| kinds.iter().any(|kind| line.starts_with(kind)));
    // zip and zlib differ in the wrapping alone; a count shows for what is symmetric.
    let mut lines: Vec<_> = lines.map(|line| line.replace("algo=2", "algo=1")).collect();
    lines.sort();
    lines
}

/// What gpg.conf asks for is what gpg itself makes of the same file.
#[test]
fn gpg_conf_counts() {
    let env = world();
    let (rsa, curve) = (&Keys::get().rsa, &Keys::get().curve);
    let conf = env.gnupg().join("gpg.conf");
    let to_rsa = ["--encrypt-key", rsa.as_str()];
    for (text, options) in [
        (format!("# mine\n\n  encrypt-to\t{curve}\n"), &to_rsa[..]),
        (format!("hidden-encrypt-to \"{curve}\"\r\nnot-known-to-gpg 3\n"), &to_rsa),
        (format!("throw-keyids\nencrypt-to {curve}"), &to_rsa),
        (format!("throw-keyids\nno-throw-keyids\nencrypt-to {curve}\nno-encrypt-to\n"), &to_rsa),
        (format!("hidden-encrypt-to {rsa}\nrecipient {curve}\n"), &to_rsa),
        (format!("group both={rsa}\ngroup BOTH = {curve} {rsa}\n"), &["--encrypt-key", "both"]),
        (format!("group both={rsa} {curve}\nencrypt-to both\n"), &to_rsa),
        (format!("default-key {curve}\nencrypt-to-default-key\n"), &to_rsa),
        ("compress-algo none\n".into(), &to_rsa),
        ("s2k-cipher-algo AES\ns2k-digest-algo SHA512\ns2k-count 65536\n".into(), &[]),
        ("s2k-cipher-algo AES\npersonal-cipher-preferences AES192 AES\ns2k-mode 1\n".into(), &[]),
        (format!("cipher-algo AES192\ncompress-level 0\nencrypt-to {curve}\n"), &[]),
    ] {
        std::fs::write(&conf, &text).unwrap();
        let words = [&["full"], options].concat();
        Outcome::of(&mut command(&env, Ours, &[("PASSPHRASE", PASSPHRASE)], &words)).success();
        let volume =
            std::fs::read_dir(env.store_of(Ours)).unwrap().map(|file| file.unwrap().path());
        let volume =
            volume.into_iter().find(|path| path.to_str().unwrap().contains(".vol1.")).unwrap();
        let gpg = |words: &[&str]| {
            let mut gpg = env.command("gpg");
            gpg.args([
                "--batch",
                "--yes",
                "--pinentry-mode=loopback",
                "--passphrase",
                PASSPHRASE,
                "--trust-model=always",
            ]);
            Outcome::of(gpg.args(words))
        };
        let theirs = env.root().join("theirs");
        let how = if options.is_empty() {
            vec!["--symmetric"]
        } else {
            vec!["--recipient", options[1], "--encrypt"]
        };
        let output = ["--output", theirs.to_str().unwrap()];
        gpg(&[&output[..], &how, &[env.source().join("text").to_str().unwrap()]].concat())
            .success();
        let packets = |path: &std::path::Path| {
            readers(&gpg(&["--list-packets", path.to_str().unwrap()]).stdout)
        };
        let (seen, expected) = (packets(&volume), packets(&theirs));
        assert!(!expected.is_empty());
        assert_eq!(seen, expected, "{text}");
        std::fs::remove_dir_all(env.store_of(Ours)).unwrap();
        env.clear_caches();
    }
    for (text, said) in [
        ("\ncipher-algo TWOFISH\n", "gpg.conf' line 2: the cipher 'TWOFISH'"),
        ("symmetric\n", "'symmetric' changes who can read"),
        ("recipient-file /k\n", "'recipient-file' changes who can read"),
        ("encrypt-to\n", "'encrypt-to' needs a value"),
        ("throw-keyids yes\n", "'throw-keyids' takes no value"),
        ("encrypt-to nobody@nowhere\n", "'nobody@nowhere'"),
    ] {
        std::fs::write(&conf, text).unwrap();
        let outcome =
            Outcome::of(&mut command(&env, Ours, &[], &[&["full"], &to_rsa[..]].concat()));
        assert!(
            matches!(outcome.code, 2 | 31) && outcome.stderr.contains(said),
            "{text}: {outcome}"
        );
        assert_eq!(count(&env), 0);
    }
    // The command line has precedence, in quotes as wrappers leave them, too; it can leave the file
    // out, or name another one.
    let other = env.root().join("other.conf");
    std::fs::write(&other, "cipher-algo AES\n").unwrap();
    std::fs::write(&conf, "cipher-algo TWOFISH\n").unwrap();
    let elsewhere = env.fresh("h");
    std::fs::create_dir(&elsewhere).unwrap();
    let home = elsewhere.to_str().unwrap();
    for (options, cipher) in [
        ("'--cipher-algo AES192'".into(), "cipher 8"),
        ("\"--no-options\"".into(), "cipher 9"),
        (format!("--options {}", other.display()), "cipher 7"),
        (format!("--homedir {home}"), "cipher 9"),
    ] {
        let words = ["full", "--current-time", "1785585600", "--gpg-options", &options];
        Outcome::of(&mut command(&env, Ours, &[("PASSPHRASE", PASSPHRASE)], &words)).success();
        std::fs::remove_file(&conf).unwrap();
        let packets = packets(&env, PASSPHRASE);
        assert!(packets.contains(cipher), "{options}: {packets}");
        std::fs::write(&conf, "cipher-algo TWOFISH\n").unwrap();
        std::fs::remove_dir_all(env.store_of(Ours)).unwrap();
        env.clear_caches();
    }
}

/// Both originals restore each kind, and check who signed it.
#[test]
fn kinds_of_encryption_are_read_by_the_originals() {
    let env = world();
    let Keys { rsa, curve, .. } = Keys::get();
    let by_both = [("PASSPHRASE", PASSPHRASE), ("SIGN_PASSPHRASE", PASSPHRASE)];
    for (variables, writing, reading, notice) in [
        (&by_both[..1], &[][..], &[][..], None),
        (&by_both, &["--sign-key", curve], &["--sign-key", curve], None),
        // The original wants both passphrases to be equal, unless the key has none.
        (
            &[("PASSPHRASE", PASSPHRASE), ("SIGN_PASSPHRASE", "")],
            &["--sign-key", rsa],
            &["--sign-key", rsa],
            None,
        ),
        (
            &by_both[..1],
            &["--encrypt-sign-key", curve],
            &["--encrypt-sign-key", curve],
            Some("Reuse configured PASSPHRASE as SIGN_PASSPHRASE\n"),
        ),
        (
            &by_both[1..],
            &["--encrypt-sign-key", curve],
            &["--encrypt-sign-key", curve],
            Some("Reuse configured SIGN_PASSPHRASE as PASSPHRASE\n"),
        ),
        (
            &by_both,
            &[
                "--hidden-encrypt-key",
                curve,
                "--encrypt-key",
                rsa,
                "--sign-key",
                rsa,
                "--use-agent",
            ],
            &["--sign-key", rsa],
            None,
        ),
    ] {
        for (seconds, action) in [(0, "full"), (10, "incremental")] {
            let time = (TIME + seconds).to_string();
            let words = [&[action, "--current-time", &time], writing].concat();
            let said = Outcome::of(&mut command(&env, Ours, variables, &words)).success().stdout;
            assert_eq!(said.contains("Reuse configured"), notice.is_some(), "{said}");
            assert!(said.contains(notice.unwrap_or_default()), "{said}");
        }
        for version in [Old, New] {
            let target = env.fresh("target");
            let mut restore = env.command(version.checked());
            restore.args(["restore", &env.url_of(Ours)]).arg(&target).args(reading).envs(by_both);
            Outcome::of(&mut restore).success();
            assert_eq!(std::fs::read(target.join("text")).unwrap().len(), 5000, "{writing:?}");
            std::fs::remove_dir_all(target).unwrap();
            env.clear_caches();
        }
        std::fs::remove_dir_all(env.store_of(Ours)).unwrap();
    }
}

/// Keys and passphrases that do not serve: told before anything is stored.
#[test]
fn keys_that_do_not_serve() {
    let env = world();
    let Keys { rsa, curve, .. } = Keys::get();
    let none: &[(&str, &str)] = &[];
    for (variables, options, code, said) in [
        (none, &[][..], 30, "set PASSPHRASE"),
        (&[("PASSPHRASE", "")], &[], 31, "PASSPHRASE is set to nothing"),
        (
            none,
            &["--encrypt-key", "0123456789ABCDEF"],
            31,
            "'0123456789ABCDEF' cannot be used: gpg has no such public key",
        ),
        (
            none,
            &["--encrypt-key", rsa, "--hidden-encrypt-key", "nobody@nowhere"],
            31,
            "nobody@nowhere",
        ),
        (none, &["--encrypt-key", rsa, "--sign-key", "DEADBEEF"], 31, "DEADBEEF"),
        (
            &[("SIGN_PASSPHRASE", "wrong")],
            &["--encrypt-key", rsa, "--sign-key", curve],
            31,
            "SIGN_PASSPHRASE",
        ),
        (none, &["--encrypt-key", rsa, "--sign-key", curve], 31, "cannot sign"),
        (&[("PASSPHRASE", "x")], &["--gpg-options", "--cipher-algo TWOFISH"], 2, "TWOFISH"),
    ] {
        let words = [&["full"], options].concat();
        let mut command = command(&env, Ours, variables, &words);
        // Nobody is there to be asked, on whatever terminal the tests run.
        let mut alone = env.command("setsid");
        alone
            .arg("--wait")
            .arg(command.get_program())
            .args(command.get_args())
            .envs(variables.iter().copied());
        Outcome::of(&mut alone).failure(code, &[said]);
        assert_eq!(count(&env), 0, "{options:?}");
        let _ = env.command("gpgconf").args(["--kill", "all"]).output();
        command.env_clear();
    }
    // A key of which only the public half is here.
    let public = env.fresh("p");
    std::fs::create_dir(&public).unwrap();
    for file in ["pubring.kbx", "trustdb.gpg"] {
        std::fs::copy(env.gnupg().join(file), public.join(file)).unwrap();
    }
    let variables = [("GNUPGHOME", public.to_str().unwrap()), ("SIGN_PASSPHRASE", "")];
    let signed = ["full", "--encrypt-key", rsa, "--sign-key", rsa];
    Outcome::of(&mut command(&env, Ours, &variables, &signed)).failure(31, &["no secret key"]);
    assert_eq!(count(&env), 0);
    Outcome::of(&mut command(&env, Ours, &variables, &["full", "--encrypt-key", rsa])).success();
    Outcome::of(&mut command(&env, Ours, &variables, &["incremental", "--encrypt-key", rsa]))
        .success();
    let _ = env.command("gpgconf").env("GNUPGHOME", &public).args(["--kill", "all"]).output();
}

/// An increment with another passphrase than the chain's would be a chain with two: nothing is
/// written.
#[test]
fn a_wrong_passphrase_is_noticed_first() {
    let env = world();
    let run = |passphrase: &str, words: &[&str]| {
        Outcome::of(&mut command(&env, Ours, &[("PASSPHRASE", passphrase)], words))
    };
    run(PASSPHRASE, &["full"]).success();
    let stored = count(&env);
    for words in [
        &["incremental"][..],
        &["backup"],
        &["incremental", "--no-check-remote"],
        &["incremental", "--dry-run"],
    ] {
        run("wrong", words).failure(31, &["wrong passphrase"]);
        assert_eq!(count(&env), stored, "{words:?}");
    }
    std::fs::remove_dir_all(env.archive_of(Ours)).unwrap();
    run("wrong", &["incremental"]).failure(31, &["wrong passphrase"]);
    assert_eq!(count(&env), stored);
    run(PASSPHRASE, &["incremental"]).success();
    run("another", &["full"]).success();
}

/// A lost archive directory is filled again with the secret keys of a file, which gpg knows nothing
/// of.
#[test]
fn secret_keys_from_a_file() {
    let env = world();
    let curve = &Keys::get().curve;
    fn to_curve<'a>(words: &[&'a str]) -> Vec<&'a str> {
        [words, &["--encrypt-key", &Keys::get().curve]].concat()
    }
    Outcome::of(&mut command(&env, Ours, &[], &to_curve(&["full"]))).success();
    let mut export = env.command("gpg");
    export.args([
        "--batch",
        "--pinentry-mode=loopback",
        "--passphrase",
        PASSPHRASE,
        "--export-secret-keys",
        curve,
    ]);
    let secret = env.root().join("secret.gpg");
    std::fs::write(&secret, export.output().unwrap().stdout).unwrap();
    std::fs::remove_dir_all(env.gnupg().join("private-keys-v1.d")).unwrap();
    let _ = env.command("gpgconf").args(["--kill", "all"]).output();
    std::fs::remove_dir_all(env.archive_of(Ours)).unwrap();
    let with_file =
        to_curve(&["incremental", "--encrypt-secret-keyring", secret.to_str().unwrap()]);
    Outcome::of(&mut command(&env, Ours, &[("PASSPHRASE", "")], &to_curve(&["incremental"])))
        .failure(31, &["no secret key"]);
    let said = Outcome::of(&mut command(&env, Ours, &[("PASSPHRASE", PASSPHRASE)], &with_file))
        .success()
        .stdout;
    assert!(said.contains("Copying duplicity-full-signatures."), "{said}");
}

const ASK: &str = "GnuPG passphrase for decryption: ";
const AGAIN: &str = "Retype passphrase for decryption to confirm: ";
const SIGNER: &str = "GnuPG passphrase for signing key: ";

/// What is asked on a terminal, in which order, is what 0.8.22 asks; stdin may be anything.
#[test]
fn prompts_are_those_of_the_original() {
    let env = world();
    let Keys { rsa, curve, .. } = Keys::get();
    let both = ["--encrypt-key", rsa, "--sign-key", curve];
    let mut seconds = 0;
    for (words, answers) in [
        (&["full"][..], &[(ASK, PASSPHRASE), (AGAIN, PASSPHRASE)][..]),
        (&["incremental"], &[(ASK, PASSPHRASE), (AGAIN, PASSPHRASE)]),
        (
            &["full"],
            &[
                (ASK, "one"),
                (AGAIN, "two"),
                (ASK, ""),
                (AGAIN, ""),
                (ASK, "three"),
                (AGAIN, "three"),
            ],
        ),
        (&[&["full"], &both[..]].concat(), &[(SIGNER, PASSPHRASE)]),
        (&[&["incremental"], &both[..]].concat(), &[(SIGNER, PASSPHRASE)]),
        (
            &["full", "--sign-key", curve],
            &[(ASK, PASSPHRASE), (SIGNER, PASSPHRASE), (AGAIN, PASSPHRASE)],
        ),
        (
            &["full", "--sign-key", curve],
            &[
                (ASK, "one"),
                (SIGNER, PASSPHRASE),
                (AGAIN, "two"),
                (ASK, PASSPHRASE),
                (AGAIN, PASSPHRASE),
            ],
        ),
        (&["full", "--encrypt-key", rsa], &[]),
        (&["incremental", "--encrypt-key", rsa], &[]),
        (&["full", "--no-encryption"], &[]),
    ] {
        seconds += 10;
        let time = (TIME + seconds).to_string();
        // What has opened the set before need not be retyped.
        let by_us = if words == ["incremental"] { &answers[..1] } else { answers };
        let prompts = |version: Version, answers| {
            let program =
                command(&env, version, &[], &[words, &["--current-time", &time]].concat());
            let mut shell = env.command("sh");
            shell
                .args(["-c", "exec \"$@\" </dev/null", "sh"])
                .arg(program.get_program())
                .args(program.get_args());
            let outcome = env.converse(answers, &shell).success();
            assert!(!outcome.stdout.contains("never asked"), "{version:?} {words:?}: {outcome}");
            outcome.stdout.matches("passphrase for").count()
        };
        assert_eq!(prompts(Ours, by_us), by_us.len(), "{words:?}");
        assert_eq!(prompts(Old, answers), answers.len(), "{words:?}");
        let _ = env.command("gpgconf").args(["--kill", "all"]).output();
    }
    // Without a terminal a line of stdin is the answer.
    let program = command(&env, Ours, &[], &["full", "--current-time", &(TIME + 500).to_string()]);
    let mut alone = env.command("setsid");
    alone
        .args(["--wait", "sh", "-c", "printf 'abc\\nabc\\n' | \"$@\"", "sh"])
        .arg(program.get_program())
        .args(program.get_args());
    let said = Outcome::of(&mut alone).success().stderr;
    assert!(said.contains(ASK) && said.contains(AGAIN), "{said}");
}

/// What whoever reads, looks or removes is asked for: as by 0.8.22, but that clean-up needs no
/// passphrase, and that a key that is named is left to gpg-agent.
#[test]
fn prompts_of_other_actions_are_those_of_the_original() {
    let env = world();
    let Keys { rsa, curve, .. } = Keys::get();
    let once = &[(ASK, PASSPHRASE)][..];
    for (writing, reading) in [
        (&[][..], &[][..]),
        (&["--encrypt-key", curve], &[]),
        (&["--encrypt-key", rsa], &["--encrypt-key", rsa]),
    ] {
        for version in [Old, Ours] {
            let _ = std::fs::remove_dir_all(env.store_of(version));
            Outcome::of(&mut command(
                &env,
                version,
                &[("PASSPHRASE", PASSPHRASE)],
                &[&["full"], writing].concat(),
            ))
            .success();
        }
        let by_us = if reading.is_empty() { once } else { &[] };
        for (words, is_lost, answers) in [
            (&["restore", "URL", "target"][..], false, [once, by_us]),
            (&["verify", "URL", "source"], false, [once, by_us]),
            (&["list-current-files", "URL"], false, [&[], &[]]),
            (&["collection-status", "URL"], false, [&[], &[]]),
            (&["remove-older-than", "1s", "URL"], false, [&[], &[]]),
            (&["cleanup", "URL"], false, [once, &[]]),
            (&["list-current-files", "URL"], true, [once, by_us]),
        ] {
            if is_lost {
                env.clear_caches();
            }
            for (version, answers) in [Old, Ours].into_iter().zip(answers) {
                let _ = std::fs::remove_dir_all(env.root().join("target"));
                let mut program = env.command(version.checked());
                program
                    .args(words.iter().map(|word| word.replace("URL", &env.url_of(version))))
                    .args(reading);
                let outcome = env.converse(answers, &program).success();
                assert!(
                    !outcome.stdout.contains("never asked"),
                    "{version:?} {writing:?} {words:?}: {outcome}"
                );
                assert_eq!(
                    outcome.stdout.matches("passphrase for").count(),
                    answers.len(),
                    "{version:?} {writing:?} {words:?}"
                );
                let _ = env.command("gpgconf").args(["--kill", "all"]).output();
            }
        }
    }
}

/// A backup whose archive directory is lost asks once to fetch it, and keeps what was typed. What
/// has opened a set need not be retyped, as by 0.8.22.
#[test]
fn what_was_typed_to_synchronise_is_kept() {
    let env = world();
    for version in [Old, Ours] {
        Outcome::of(&mut command(&env, version, &[("PASSPHRASE", PASSPHRASE)], &["full"]))
            .success();
    }
    env.clear_caches();
    for (version, answers) in
        [(Old, &[(ASK, PASSPHRASE), (AGAIN, PASSPHRASE)][..]), (Ours, &[(ASK, PASSPHRASE)])]
    {
        let outcome =
            env.converse(answers, &command(&env, version, &[], &["incremental"])).success();
        assert_eq!(
            outcome.stdout.matches("passphrase for").count(),
            answers.len(),
            "{version:?}: {outcome}"
        );
    }
}
