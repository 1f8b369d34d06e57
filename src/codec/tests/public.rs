//! Messages for keys, with the secret keys in gpg or in a file.

use crate::codec::testing::{GpgHome, check_points, codec, decode, fixed, text};
use crate::codec::{Cause, Codec, Encoding, Options, PassphraseSource};

const KINDS: [(&str, &str, &str); 3] =
    [("rsa", "rsa2048", "rsa2048"), ("ecc", "ed25519", "cv25519"), ("elg", "dsa2048", "elg2048")];

fn encrypt(home: &GpgHome, arguments: &[&str], plain: &[u8]) -> Vec<u8> {
    home.run(&[arguments, &["--encrypt"]].concat(), plain)
}

#[test]
fn named_and_hidden_recipients() {
    let home = GpgHome::new();
    let plain = text(500_000);
    for (name, primary, subkey) in KINDS {
        home.key(name, "", primary, &[(subkey, "encr")]);
        for recipient in ["--recipient", "--hidden-recipient"] {
            let stored = encrypt(&home, &[recipient, name], &plain);
            // A passphrase that the key does not need does no harm.
            for passphrase in [PassphraseSource::None, fixed("unused")] {
                let codec = Codec::new(home.options(passphrase));
                check_points(&codec, &stored, Encoding::OpenPgp, 100_000, &plain);
            }
        }
    }
    let both = encrypt(
        &home,
        &["--recipient", "rsa", "--hidden-recipient", "ecc", "--cipher-algo", "CAST5"],
        &plain,
    );
    check_points(
        &Codec::new(home.options(PassphraseSource::None)),
        &both,
        Encoding::OpenPgp,
        100_000,
        &plain,
    );
}

#[test]
fn key_with_passphrase() {
    let home = GpgHome::new();
    let plain = text(50_000);
    home.key("locked", "geheim", "ed25519", &[("cv25519", "encr")]);
    let stored = encrypt(&home, &["--recipient", "locked"], &plain);
    let forget = || {
        drop(
            std::process::Command::new("gpgconf")
                .arg("--homedir")
                .arg(home.path())
                .args(["--kill", "gpg-agent"])
                .status(),
        )
    };
    forget();
    let error =
        decode(&Codec::new(home.options(fixed("falsch"))), &stored, Encoding::OpenPgp).unwrap_err();
    assert!(matches!(error.cause, Cause::WrongPassphrase), "{error}");
    assert!(
        decode(&Codec::new(home.options(fixed("geheim"))), &stored, Encoding::OpenPgp).unwrap()
            == plain
    );
    // The agent remembers it now.
    let agent = Options { use_agent: true, ..home.options(PassphraseSource::None) };
    assert!(decode(&Codec::new(agent), &stored, Encoding::OpenPgp).unwrap() == plain);
}

#[test]
fn no_secret_key() {
    let (home, other) = (GpgHome::new(), GpgHome::new());
    home.key("mine", "", "ed25519", &[("cv25519", "encr")]);
    let stored = encrypt(&home, &["--recipient", "mine"], &text(1000));
    let error =
        decode(&Codec::new(other.options(PassphraseSource::None)), &stored, Encoding::OpenPgp)
            .unwrap_err();
    assert!(matches!(error.cause, Cause::NoSecretKey(_)), "{error}");
    let error = decode(&codec("x"), &stored, Encoding::OpenPgp).unwrap_err();
    assert!(
        matches!(&error.cause, Cause::Gpg(said) if said.contains("/nonexistent/gpg")),
        "{error}"
    );
}

#[test]
fn secret_keys_in_a_file() {
    let (home, other) = (GpgHome::new(), GpgHome::new());
    let plain = text(50_000);
    for (name, primary, subkey) in KINDS {
        for passphrase in &["", "geheim"][..if name == "elg" { 1 } else { 2 }] {
            let user = format!("{name}{passphrase}");
            home.key(&user, passphrase, primary, &[(subkey, "encr")]);
            for armor in [&[][..], &["--armor"]] {
                let secret = home.run(
                    &[armor, &["--passphrase", passphrase, "--export-secret-keys", &user]].concat(),
                    b"",
                );
                let path = other.path().join("secret");
                std::fs::write(&path, secret).unwrap();
                for recipient in ["--recipient", "--hidden-recipient"] {
                    let stored = encrypt(&home, &[recipient, &user], &plain);
                    let options = |passphrase| Options {
                        secret_keyring: Some(path.clone()),
                        ..other.options(passphrase)
                    };
                    let codec = Codec::new(options(fixed(passphrase)));
                    if name == "elg" {
                        let error = decode(&codec, &stored, Encoding::OpenPgp).unwrap_err();
                        assert!(error.to_string().contains("imported into gpg"), "{error}");
                        continue;
                    }
                    assert!(
                        decode(&codec, &stored, Encoding::OpenPgp).unwrap() == plain,
                        "{user} {recipient}"
                    );
                    if !passphrase.is_empty() {
                        let error = decode(
                            &Codec::new(options(fixed("falsch"))),
                            &stored,
                            Encoding::OpenPgp,
                        )
                        .unwrap_err();
                        assert!(matches!(error.cause, Cause::WrongPassphrase), "{error}");
                    }
                }
            }
        }
    }
    let missing = Options {
        secret_keyring: Some(other.path().join("missing")),
        ..other.options(PassphraseSource::None)
    };
    let stored = encrypt(&home, &["--recipient", "rsa"], &plain);
    let error = decode(&Codec::new(missing), &stored, Encoding::OpenPgp).unwrap_err();
    assert!(matches!(error.cause, Cause::Local(_)), "{error}");
}
