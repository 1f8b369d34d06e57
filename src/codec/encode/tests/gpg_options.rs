//! The words of `--gpg-options`.

use super::*;
use crate::codec::Cause;

fn refused(given: &[&str]) -> String {
    match parse_gpg_options(&given.iter().map(|word| word.to_string()).collect::<Vec<_>>()) {
        Err(Cause::GpgOption(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn honoured() {
    let options = words(&[
        "--cipher-algo",
        "aes192",
        "--digest-algo=SHA256",
        "-z",
        "9",
        "--s2k-mode",
        "1",
        "--s2k-digest-algo",
        "sha512",
    ]);
    assert_eq!((options.cipher, options.digest, options.level), (Some(8), Some(8), Some(9)));
    assert_eq!(
        (options.s2k_mode, options.s2k_digest, options.compresses()),
        (Some(1), Some(10), true)
    );
    for none in [
        &["-z0"][..],
        &["--compress-level", "0"],
        &["--compress-algo", "none"],
        &["--compression-algo=Uncompressed"],
    ] {
        assert!(!words(none).compresses(), "{none:?}");
    }
    assert!(
        words(&["--compress-algo", "none", "-z0", "-z1", "--compress-algo", "ZLIB"]).compresses()
    );
    let bzip2 = words(&["--compress-algo=bzip2", "--bzip2-compress-level", "9"]);
    assert_eq!((bzip2.compresses(), bzip2.notes().len()), (true, 1));
    assert_eq!(
        words(&["--personal-cipher-preferences", "TWOFISH AES192 AES"]).cipher_preferences,
        [8, 7]
    );
    let named = [("a".to_string(), false), ("b".to_string(), true)];
    assert_eq!(words(&["--encrypt-to", "a", "--hidden-encrypt-to=b"]).encrypt_to, named);
    assert_eq!(words(&["-r", "a", "-Rb"]).recipients, named);
    assert_eq!(words(&["--no-encrypt-to", "--encrypt-to", "a"]).encrypt_to, []);
}

#[test]
fn for_the_program() {
    let given = [
        "--homedir",
        "/h",
        "--trust-model=always",
        "--batch",
        "--pinentry-mode",
        "loopback",
        "--no-default-keyring",
        "-q",
        "-uX",
    ];
    assert_eq!(
        words(&given).program,
        [
            "--homedir=/h",
            "--trust-model=always",
            "--pinentry-mode=loopback",
            "--no-default-keyring"
        ]
    );
    let ignored = [
        "--always-trust",
        "--force-mdc",
        "--yes",
        "--no-tty",
        "--quiet",
        "--passphrase-repeat",
        "0",
        "--local-user",
        "x",
    ];
    assert_eq!(words(&ignored), GpgOptions::default());
    assert_eq!(words(&[]), GpgOptions::default());
}

#[test]
fn refusals_name_the_word() {
    for (given, word) in [
        (&["--frobnicate"][..], "--frobnicate"),
        (&["homedir", "/h"], "'homedir' is no option"),
        (&["--homedir"], "needs a value"),
        (&["--batch=yes"], "takes no value"),
        (&["--cipher-algo", "TWOFISH"], "TWOFISH"),
        (&["--digest-algo", "MD5"], "MD5"),
        (&["--compress-algo", "rar"], "rar"),
        (&["-z", "10"], "10"),
        (&["--s2k-count", "1000000000"], "1000000000"),
        (&["--s2k-mode", "2"], "2"),
        (&["--passphrase", "secret"], "--passphrase"),
        (&["-é"], "-é"),
        (&["-"], "'-'"),
        (&["--"], "'--'"),
        (&["-x"], "-x"),
        (&["--symmetric"], "'symmetric' changes who can read"),
        (&["--recipient-file", "/k"], "'recipient-file' changes who can read"),
    ] {
        let why = refused(given);
        assert!(why.contains(word), "{given:?}: {why}");
    }
}

#[test]
fn counts_are_rounded_up() {
    for (asked, coded) in [(1024, 0), (1025, 1), (65_536, 96), (65_011_712, 255)] {
        assert_eq!(super::super::count_byte(asked), coded);
    }
}
