//! Messages that only gpg reads: IDEA, which sequoia's backend lacks, and text mode, for which
//! there is no need to have more.

use crate::codec::testing::{GpgHome, check_points, codec, decode, file, fixed, read_to_end, text};
use crate::codec::{Cause, Codec, Encoding, Options, PassphraseSource};

#[test]
fn idea_and_text_mode() {
    let home = GpgHome::new();
    let plain: Vec<u8> =
        (0..20_000).flat_map(|i| format!("line number {i}\n").into_bytes()).collect(); // no blanks at line ends
    let codec = Codec::new(home.options(fixed("geheim")));
    for arguments in [
        &["--cipher-algo", "IDEA"][..],
        &["--textmode"],
        &["--textmode", "--cipher-algo", "AES", "--armor"],
    ] {
        let stored = home.symmetric(arguments, &plain);
        let points = check_points(&codec, &stored, Encoding::OpenPgp, 100_000, &plain);
        assert_eq!(points.len(), plain.len().div_ceil(100_000), "{arguments:?}");
        let wrong = Codec::new(home.options(fixed("falsch")));
        assert!(decode(&wrong, &stored, Encoding::OpenPgp).is_err());
        assert!(decode(&codec, &stored[..stored.len() - 100], Encoding::OpenPgp).is_err());
        let mut broken = stored.clone();
        let middle = broken.len() / 2;
        broken[middle] ^= 1;
        assert!(decode(&codec, &broken, Encoding::OpenPgp).is_err());
    }
    let without = decode(
        &self::codec("geheim"),
        &home.symmetric(&["--cipher-algo", "IDEA"], &plain),
        Encoding::OpenPgp,
    );
    let error = without.unwrap_err();
    assert!(matches!(&error.cause, Cause::Gpg(why) if why.contains("/nonexistent/gpg")), "{error}");
}

#[test]
fn signatures_that_gpg_checks() {
    let home = GpgHome::new();
    let plain = b"line one\nline two\n".repeat(1000);
    let (mine, other) =
        (home.key("mine", "", "ed25519", &[]), home.key("other", "", "ed25519", &[]));
    let stored = home.symmetric(&["--textmode", "--local-user", "mine", "--sign"], &plain);
    let demand = |id: &str| {
        Codec::new(Options { sign_key: Some(id.to_owned()), ..home.options(fixed("geheim")) })
    };
    assert!(decode(&demand(&mine), &stored, Encoding::OpenPgp).unwrap() == plain);
    assert!(
        decode(&Codec::new(home.options(fixed("geheim"))), &stored, Encoding::OpenPgp).unwrap()
            == plain
    );
    let error = decode(&demand(&other), &stored, Encoding::OpenPgp).unwrap_err();
    assert!(matches!(error.cause, Cause::Signature(_)), "{error}");
    let unsigned = home.symmetric(&["--textmode"], &plain);
    let error = decode(&demand(&mine), &unsigned, Encoding::OpenPgp).unwrap_err();
    assert!(matches!(error.cause, Cause::Signature(_)), "{error}");
}

/// No gpg goes on, and nothing hangs, when a reader goes away in the middle.
#[test]
fn dropped_in_the_middle() {
    let home = GpgHome::new();
    let stored = home.symmetric(&["--cipher-algo", "IDEA"], &text(3_000_000));
    let codec = Codec::new(home.options(fixed("geheim")));
    let mut decoder = codec.decode(file(&stored[..]), Encoding::OpenPgp).unwrap();
    assert_eq!(decoder.read_at_most(1000).unwrap().len(), 1000);
    drop(decoder);
    assert!(read_to_end(codec.decode(file(&stored[..]), Encoding::OpenPgp).unwrap()).is_ok());
}

/// gpg gets neither passphrase by its environment or arguments, and the options as they are.
#[test]
fn what_gpg_is_given() {
    use std::os::unix::fs::PermissionsExt;
    let home = GpgHome::new();
    let program = home.path().join("program");
    let script = "#!/bin/sh\n{ echo \"$@\"; env; } > \"$(dirname \"$0\")/log\"\nexec gpg \"$@\"\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    home.key("k", "", "ed25519", &[("cv25519", "encr")]);
    let stored = home.run(&["--recipient", "k", "--encrypt"], b"plain");
    let options = Options { gpg_binary: program, ..home.options(fixed("very-secret")) };
    assert_eq!(decode(&Codec::new(options.clone()), &stored, Encoding::OpenPgp).unwrap(), b"plain");
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    assert!(!log.contains("very-secret") && !log.contains("PASSPHRASE="), "{log}");
    assert!(log.contains("--pinentry-mode=loopback") && log.contains("--homedir"), "{log}");
    let agent = Options { use_agent: true, passphrase: PassphraseSource::None, ..options };
    assert_eq!(decode(&Codec::new(agent), &stored, Encoding::OpenPgp).unwrap(), b"plain");
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    assert!(!log.contains("loopback") && !log.contains("--passphrase-fd"), "{log}");
}
