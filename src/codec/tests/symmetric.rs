//! Messages for a passphrase.

use super::damage;
use crate::codec::testing::{GpgHome, Memory, check_points, codec, decode, file, fixed, text};
use crate::codec::{Cause, Codec, Encoding, Options, PassphraseSource};
use crate::storage::ReadAt;
use sequoia_openpgp as openpgp;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Each with gpg 2.2's and 2.4's own defaults, from a pipe (chunks of 8192 bytes) and from a file
/// (one length).
#[test]
fn ciphers_and_compressions_of_our_own_reader() {
    let home = GpgHome::new();
    let plain = text(1_500_000);
    let path = home.path().join("plain");
    std::fs::write(&path, &plain).unwrap();
    let path = path.to_str().unwrap();
    for cipher in ["AES", "AES192", "AES256"] {
        for compression in ["0", "1", "2"] {
            let arguments = ["--cipher-algo", cipher, "--compress-algo", compression];
            let from_pipe = home.symmetric(&arguments, &plain);
            let secret = ["--passphrase", "geheim", "--s2k-count", "65536", "--output", "-"];
            let from_file =
                home.run(&[&secret[..], &arguments, &["--symmetric", path]].concat(), b"");
            for stored in [from_pipe, from_file] {
                let points =
                    check_points(&codec("geheim"), &stored, Encoding::OpenPgp, 100_000, &plain);
                assert!(points.len() > 4, "{} points with {arguments:?}", points.len());
                assert!(compression != "0" || points.len() == 15);
            }
        }
    }
}

#[test]
fn sizes_around_every_border() {
    let home = GpgHome::new();
    let plain = text(70_000);
    for size in [0, 1, 186, 187, 8162, 8163, 32_700, 32_768] {
        for compression in ["0", "1"] {
            let stored = home.symmetric(
                &["--compress-algo", compression, "--s2k-count", "1024"],
                &plain[..size],
            );
            check_points(&codec("geheim"), &stored, Encoding::OpenPgp, 7000, &plain[..size]);
        }
    }
    for size in [0, 32_768, 65_536]
        .iter()
        .flat_map(|border: &usize| (0..100).map(move |i| (border + i).saturating_sub(60)))
    {
        let inner = damage::literal(&plain[..size]);
        let stored = damage::encrypt(&inner, damage::Mdc::Right);
        assert!(decode(&codec("geheim"), &stored, Encoding::OpenPgp).unwrap() == plain[..size]);
    }
}

/// A wrong passphrase that passes the test of the first bytes, as one in 65536 does, hides the
/// right one from no reader.
#[test]
fn a_passphrase_that_seems_to_fit_is_not_the_last_one() {
    let home = GpgHome::new();
    let stored = damage::encrypt(&damage::literal(b"plain"), damage::Mdc::Right);
    let seems = "wrong 12376"; // the first of its kind
    let cause = |stored: &[u8], list: &[&str]| {
        let list = list.iter().map(|one| one.to_string().into()).collect();
        decode(
            &Codec::new(home.options(PassphraseSource::Several(list))),
            stored,
            Encoding::OpenPgp,
        )
        .map_err(|e| e.cause)
    };
    let alone = decode(&codec(seems), &stored, Encoding::OpenPgp).unwrap_err().cause;
    assert!(!matches!(alone, Cause::WrongPassphrase), "{alone}");
    let mut armor = openpgp::armor::Writer::new(Vec::new(), openpgp::armor::Kind::Message).unwrap();
    armor.write_all(&stored).unwrap();
    for stored in [&stored, &armor.finalize().unwrap()] {
        for list in [&[seems, "geheim"][..], &["geheim", seems], &["x", seems, "y", "geheim"]] {
            assert_eq!(cause(stored, list).unwrap(), b"plain", "{list:?}");
        }
    }
    // Nobody gives up because another has doubted the same key.
    let list = [seems, "geheim"].map(|one| one.to_string().into()).to_vec();
    let codec = Codec::new(home.options(PassphraseSource::Several(list)));
    std::thread::scope(|scope| {
        let all =
            [(); 16].map(|()| scope.spawn(|| decode(&codec, &stored, Encoding::OpenPgp).unwrap()));
        assert!(all.into_iter().all(|one| one.join().unwrap() == b"plain"));
    });
    // Damage is damage where no passphrase does better, and is not taken for a wrong one.
    let damaged = damage::encrypt(&damage::literal(b"plain"), damage::Mdc::Wrong);
    for list in [&["geheim", "x"][..], &["x", "geheim", "y"], &[seems, "geheim"]] {
        let cause = cause(&damaged, list).unwrap_err();
        assert!(
            matches!(cause, Cause::Damaged(_) | Cause::Truncated | Cause::NotAuthentic(_)),
            "{list:?}: {cause}"
        );
    }
    assert!(matches!(cause(&stored, &["x", "y"]), Err(Cause::WrongPassphrase)));
}

/// Of several passphrases the one that fits opens, whichever comes first, ahead of the use or not;
/// the first one encrypts.
#[test]
fn several_passphrases() {
    let home = GpgHome::new();
    let several = |list: &[&str]| {
        PassphraseSource::Several(list.iter().map(|one| one.to_string().into()).collect())
    };
    let usual = home.symmetric(&["--s2k-digest-algo", "SHA1", "--s2k-count", "2097152"], b"plain");
    let rare = home.symmetric(&["--cipher-algo", "CAST5", "--s2k-count", "1024"], b"plain");
    home.key("locked", "geheim", "rsa2048", &[("rsa2048", "encr")]);
    let public = home.run(&["--recipient", "locked", "--encrypt"], b"plain");
    for list in [&["geheim", "x"][..], &["x", "y", "geheim"]] {
        let codec = Codec::new(home.options(several(list)));
        codec.unlock(&[file(&usual[..]), file(&usual[..])]);
        for stored in [&usual, &rare, &public, &usual] {
            assert_eq!(decode(&codec, stored, Encoding::OpenPgp).unwrap(), b"plain", "{list:?}");
        }
    }
    let codec = Codec::new(home.options(several(&["x", "y"])));
    for stored in [&usual, &rare] {
        let cause = decode(&codec, stored, Encoding::OpenPgp).unwrap_err().cause;
        assert!(matches!(cause, Cause::WrongPassphrase), "{cause}");
    }
    assert!(!format!("{:?}", several(&["geheim"])).contains("geheim"));
}

#[test]
fn key_derivations() {
    let home = GpgHome::new();
    let plain = text(1000);
    for mode in ["0", "1", "3"] {
        for digest in ["SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "RIPEMD160"] {
            let stored = home.symmetric(&["--s2k-mode", mode, "--s2k-digest-algo", digest], &plain);
            assert!(
                decode(&codec("geheim"), &stored, Encoding::OpenPgp).unwrap() == plain,
                "{mode} {digest}"
            );
        }
    }
    let default = home.run(&["--passphrase", "geheim", "--symmetric"], &plain);
    assert!(decode(&codec("geheim"), &default, Encoding::OpenPgp).unwrap() == plain);
}

/// Read by sequoia; the codec's gpg does not exist.
#[test]
fn other_ciphers_bzip2_and_armor() {
    let home = GpgHome::new();
    let plain = text(400_000);
    let kinds: [&[&str]; 9] = [
        &["--cipher-algo", "3DES"],
        &["--cipher-algo", "CAST5"],
        &["--cipher-algo", "BLOWFISH"],
        &["--cipher-algo", "TWOFISH"],
        &["--cipher-algo", "CAMELLIA128"],
        &["--cipher-algo", "CAMELLIA256"],
        &["--compress-algo", "3"],
        &["--armor"],
        &["--armor", "--cipher-algo", "CAST5", "--compress-algo", "3"],
    ];
    for arguments in kinds {
        let stored = home.symmetric(arguments, &plain);
        let points = check_points(&codec("geheim"), &stored, Encoding::OpenPgp, 100_000, &plain);
        assert_eq!(points.len(), 4, "{arguments:?}");
        let error = decode(&codec("falsch"), &stored, Encoding::OpenPgp).unwrap_err();
        assert!(matches!(error.cause, Cause::WrongPassphrase), "{arguments:?}: {error}");
        let error = decode(&codec("geheim"), &stored[..stored.len() * 2 / 3], Encoding::OpenPgp)
            .unwrap_err();
        assert!(!matches!(error.cause, Cause::WrongPassphrase), "{arguments:?}: {error}");
    }
}

#[test]
fn wrong_and_missing_passphrases() {
    let home = GpgHome::new();
    let stored = home.symmetric(&[], &text(1000));
    for wrong in ["", "Geheim", "geheim "] {
        let error = decode(&codec(wrong), &stored, Encoding::OpenPgp).unwrap_err();
        assert!(matches!(error.cause, Cause::WrongPassphrase), "{error}");
    }
    let none = Codec::new(Options::default());
    let error = decode(&none, &stored, Encoding::OpenPgp).unwrap_err();
    assert!(matches!(error.cause, Cause::NoPassphrase), "{error}");
    assert!(error.to_string().contains("PASSPHRASE"));
    assert!(
        decode(&codec("geheim\nrest"), &stored, Encoding::OpenPgp).is_ok(),
        "gpg too reads one line"
    );
}

#[test]
fn passphrase_is_asked_for_once_and_late() {
    let home = GpgHome::new();
    let plain = text(1000);
    let stored: Vec<_> = (0..4).map(|_| home.symmetric(&[], &plain)).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let ask = PassphraseSource::Ask(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(Some("geheim".to_owned().into()))
    }));
    let codec = Codec::new(Options { passphrase: ask, ..Options::default() });
    assert!(decode(&codec, &plain, Encoding::Plain).is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    std::thread::scope(|scope| {
        for stored in stored.iter().chain(&stored) {
            scope.spawn(|| assert!(decode(&codec, stored, Encoding::OpenPgp).unwrap() == plain));
        }
    });
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// gpg-agent keeps the passphrase of what has just been encrypted, so it can open it without being
/// asked.
#[test]
fn agent_serves_symmetric_messages() {
    let home = GpgHome::new();
    let plain = text(100_000);
    let stored = home.symmetric(&[], &plain);
    let preset = Options { use_agent: true, ..home.options(fixed("geheim")) };
    assert!(decode(&Codec::new(preset), &stored, Encoding::OpenPgp).unwrap() == plain);
    // Without pinentry: a sentence, not a hanging program.
    std::fs::write(home.path().join("gpg-agent.conf"), "pinentry-program /bin/false\n").unwrap();
    let options = Options { use_agent: true, ..home.options(PassphraseSource::None) };
    let home2 = GpgHome::new();
    std::fs::write(home2.path().join("gpg-agent.conf"), "pinentry-program /bin/false\n").unwrap();
    let options =
        Options { gpg_options: home2.options(PassphraseSource::None).gpg_options, ..options };
    assert!(decode(&Codec::new(options), &stored, Encoding::OpenPgp).is_err());
}

/// A message for a passphrase and a key has a session key of its own inside the packet of the
/// passphrase.
#[test]
fn session_key_in_the_passphrase_packet() {
    let home = GpgHome::new();
    let plain = text(100_000);
    home.key("both", "", "rsa2048", &[("rsa2048", "encr")]);
    for cipher in ["AES", "AES256", "CAST5"] {
        let arguments = [
            "--cipher-algo",
            cipher,
            "--s2k-cipher-algo",
            cipher,
            "--recipient",
            "both",
            "--encrypt",
        ];
        let stored = home.symmetric(&arguments, &plain);
        assert!(decode(&codec("geheim"), &stored, Encoding::OpenPgp).unwrap() == plain, "{cipher}");
        assert!(decode(&codec("falsch"), &stored, Encoding::OpenPgp).is_err());
        let by_key = Codec::new(home.options(PassphraseSource::None));
        assert!(decode(&by_key, &stored, Encoding::OpenPgp).unwrap() == plain, "{cipher}");
    }
}

#[test]
fn session_key_is_found_once() {
    let home = GpgHome::new();
    let plain = text(1000);
    let stored = home.symmetric(&[], &plain);
    let codec = codec("geheim");
    let key = |codec: &Codec| {
        let access = crate::codec::openpgp::Access::new(&codec.keys, &file(&stored[..])).unwrap();
        Arc::as_ptr(access.session())
    };
    assert_eq!(key(&codec), key(&codec.clone()));
}

/// Counts the stored bytes that are read.
struct Counting(Memory, AtomicUsize);

impl ReadAt for Counting {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, crate::storage::Error> {
        self.1.fetch_add(buffer.len(), Ordering::SeqCst);
        self.0.read_at(offset, buffer)
    }
}

/// A frame costs the stored bytes it is made of, rounded up to aligned 64 KiB, and no more; opening
/// costs the first 64 KiB.
#[test]
fn frames_read_only_what_they_need() {
    let home = GpgHome::new();
    let plain = text(3_000_000);
    let stored = home.symmetric(&["--compress-algo", "0"], &plain);
    let codec = codec("geheim");
    let points = check_points(&codec, &stored, Encoding::OpenPgp, 250_000, &plain);
    let file = Arc::new(Counting(Memory(stored), AtomicUsize::new(0)));
    let reopened = codec.reopen(file.clone(), Encoding::OpenPgp).unwrap();
    assert_eq!(file.1.swap(0, Ordering::SeqCst), 2 << 10);
    for point in &points[1..] {
        let mut frame = vec![0; 250_000.min(plain.len() - point.plain as usize)];
        reopened.read(point, 0, &mut frame).unwrap();
        let read = file.1.swap(0, Ordering::SeqCst);
        assert!(read <= frame.len() + (3 << 16), "{read} bytes for a frame of {}", frame.len());
    }
}
