//! Every kind of file, and every reader of it.

use super::*;
use crate::codec::testing::{Random, check_points};
use crate::codec::{Cause, Options, PassphraseSource};
use crate::storage::{self, ByteSink, ErrorKind};
use proptest::prelude::*;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs gpg with its status lines and gives what it decrypts, and what it says.
fn gpg_decrypt(home: &GpgHome, stored: &[u8]) -> (Vec<u8>, String) {
    let path = home.path().join("stored");
    std::fs::write(&path, stored).unwrap();
    let output = Command::new("gpg")
        .args([
            "--homedir",
            home.path().to_str().unwrap(),
            "--batch",
            "--no-tty",
            "--trust-model",
            "always",
        ])
        .args([
            "--pinentry-mode=loopback",
            "--passphrase",
            "geheim",
            "--status-fd",
            "2",
            "--decrypt",
        ])
        .arg(path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.contains("GOODMDC") && said.contains("DECRYPTION_OKAY"),
        "{said}"
    );
    assert!(!said.replace("WARNING: Using untrusted key", "").contains("WARNING"), "{said}");
    (output.stdout, said)
}

fn sequoia_decrypt(codec: &Codec, stored: &[u8]) -> Vec<u8> {
    let mut stage = crate::codec::openpgp::by_sequoia(&codec.keys, file(stored)).unwrap();
    let mut plain = Vec::new();
    loop {
        let data = crate::codec::source::Source::fill(&mut stage).unwrap();
        let count = data.len();
        if count == 0 {
            return plain;
        }
        plain.extend_from_slice(data);
        crate::codec::source::Source::consume(&mut stage, count);
    }
}

fn gzip_decompress(stored: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(stored));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success());
    output.stdout
}

/// Text, then noise, then text, larger than all buffers.
fn mixed() -> Vec<u8> {
    let mut random = Random(7);
    let noise = std::iter::repeat_with(|| random.below(256) as u8).take(300_000);
    text(400_000).into_iter().chain(noise).chain(text(500_000)).collect()
}

const SIZES: [usize; 5] = [300_000, 1, 65_536, 250_000, 0];

#[test]
fn plain_and_gzip() {
    let codec = Codec::new(Options::default());
    for plain in [mixed(), text(1000), b"x".to_vec(), Vec::new()] {
        for (encoding, level) in [
            (Encoding::Plain, None),
            (Encoding::Gzip, Some(6)),
            (Encoding::Gzip, Some(1)),
            (Encoding::Gzip, None),
            (Encoding::Gzip, Some(9)),
        ] {
            let encoder = codec.encoder(bare(encoding, level)).unwrap();
            for table in [text(100_000), text(65_535), b"t".to_vec(), Vec::new()] {
                let written = write(&encoder, &plain, &SIZES, &table);
                let decoded = check_decoder(&codec, &written, encoding, &plain, &table);
                if encoding == Encoding::Gzip {
                    assert!(gzip_decompress(&written.stored) == decoded);
                }
                check_frames(&codec, &written, encoding, &plain);
                check_table(&codec, &written, encoding, &plain, &table);
            }
            let mut writer = encoder.writer("made", Vec::new()).unwrap();
            writer.write(&plain).unwrap();
            let stored = writer.finish().unwrap();
            if encoding == Encoding::Gzip {
                assert!(gzip_decompress(&stored) == plain);
            }
            assert!(decode(&codec, &stored, encoding).unwrap() == plain);
            assert_eq!(codec.table(file(stored), encoding).unwrap(), None);
        }
    }
}

/// All that is to be checked of one kind of OpenPGP file. `reader` knows nothing of `writer`.
fn check_openpgp(
    home: &GpgHome,
    writer: &Codec,
    reader: &Codec,
    options: &EncodeOptions,
    signed: bool,
) {
    let encoder = writer.encoder(options.clone()).unwrap();
    let encoding = Encoding::OpenPgp;
    let small: &[usize] = &[100, 1, 700, 33];
    for (plain, sizes) in [
        (mixed(), &SIZES[..]),
        (text(2000), small),
        (text(600), &[][..]),
        (b"x".to_vec(), &[]),
        (Vec::new(), &[]),
    ] {
        for table in [text(150_000), text(1000), Vec::new()] {
            let written = write(&encoder, &plain, sizes, &table);
            let decoded = match signed && plain.len() < 506 {
                true => plain.clone(),
                false => check_decoder(reader, &written, encoding, &plain, &table),
            };
            let (by_gpg, said) = gpg_decrypt(home, &written.stored);
            assert!(by_gpg == decoded);
            assert_eq!(said.contains("[GNUPG:] GOODSIG"), signed, "{said}");
            assert!(sequoia_decrypt(reader, &written.stored) == decoded);
            if decoded.len() > plain.len() {
                check_frames(reader, &written, encoding, &plain);
                check_table(reader, &written, encoding, &plain, &table);
            } else {
                assert_eq!(reader.table(file(written.stored), encoding).unwrap(), None);
            }
        }
        let mut stream = encoder.writer("made", Vec::new()).unwrap();
        stream.write(&plain).unwrap();
        let stored = stream.finish().unwrap();
        assert!(gpg_decrypt(home, &stored).0 == plain);
        assert!(sequoia_decrypt(reader, &stored) == plain);
        check_points(reader, &stored, encoding, 100_000, &plain);
        assert_eq!(reader.table(file(stored), encoding).unwrap(), None);
    }
}

#[test]
fn with_a_passphrase() {
    let home = GpgHome::new();
    let codec = || {
        Codec::new(Options {
            gpg_binary: "/nonexistent/gpg".into(),
            ..home.options(fixed("geheim"))
        })
    };
    for level in [Some(6), Some(1), Some(0), None] {
        check_openpgp(&home, &codec(), &codec(), &symmetric(level), false);
    }
    // gpg's own strength.
    let encoder = codec().encoder(EncodeOptions::default()).unwrap();
    let written = write(&encoder, b"plain", &[], b"table");
    assert_eq!(written.stored[..6], [0x8c, 0x0d, 4, 9, 3, 2]);
    assert_eq!(written.stored[14..16], [0xff, 0xd2]);
    assert!(gpg_decrypt(&home, &written.stored).0.starts_with(b"plain"));
    check_table(&codec(), &written, Encoding::OpenPgp, b"plain", b"table");
    // One salt for all files of a session, another one for another session.
    assert_eq!(write(&encoder, b"", &[], b"").stored[..16], written.stored[..16]);
    let other = codec().encoder(symmetric(None)).unwrap();
    assert_ne!(write(&other, b"", &[], b"").stored[6..14], written.stored[6..14]);
}

#[test]
fn with_other_ciphers_and_derivations() {
    let home = GpgHome::new();
    let codec = || Codec::new(home.options(fixed("geheim")));
    let plain = text(50_000);
    for cipher in ["AES", "AES192", "AES256"] {
        for derivation in [
            &["--s2k-mode", "0"][..],
            &["--s2k-mode=1"],
            &["--s2k-digest-algo=SHA256", "--s2k-count", "70000"],
        ] {
            let gpg_options = words(&[&["--cipher-algo", cipher][..], derivation].concat());
            let encoder =
                codec().encoder(EncodeOptions { gpg_options, ..EncodeOptions::default() }).unwrap();
            let written = write(&encoder, &plain, &[20_000], b"table");
            assert!(gpg_decrypt(&home, &written.stored).0.starts_with(&plain));
            check_frames(&codec(), &written, Encoding::OpenPgp, &plain);
            check_table(&codec(), &written, Encoding::OpenPgp, &plain, b"table");
        }
    }
}

#[test]
fn for_recipients() {
    let home = GpgHome::new();
    home.key("rsa", "", "rsa2048", &[("rsa2048", "encr")]);
    home.key("ecc", "", "ed25519", &[("cv25519", "encr")]);
    let codec = || Codec::new(home.options(PassphraseSource::None));
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    for (recipients, hidden) in [(&["rsa"][..], &[][..]), (&["ecc"], &["rsa"]), (&[], &["ecc"])] {
        let options = EncodeOptions {
            recipients: names(recipients),
            hidden_recipients: names(hidden),
            ..EncodeOptions::default()
        };
        check_openpgp(&home, &codec(), &codec(), &options, false);
    }
    // Each file has a session key of its own.
    let options = EncodeOptions {
        recipients: names(&["ecc"]),
        gpg_options: words(&["--throw-keyids"]),
        ..EncodeOptions::default()
    };
    let encoder = codec().encoder(options).unwrap();
    let (one, two) =
        (write(&encoder, b"x", &[], b"").stored, write(&encoder, b"x", &[], b"").stored);
    assert_eq!(one[2..11], [3, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_ne!(one[11..60], two[11..60]);
}

#[test]
fn signed() {
    let home = GpgHome::new();
    let rsa = home.key("rsa", "", "rsa2048", &[("rsa2048", "encr"), ("rsa2048", "sign")]);
    let ecc = home.key("ecc", "pass for signing", "ed25519", &[("cv25519", "encr")]);
    let ids = home.fingerprints("rsa");
    let demanding = |id: &str| {
        let options = home.options(fixed("geheim"));
        Codec::new(Options { sign_key: Some(id.to_owned()), ..options })
    };
    let writer = || Codec::new(home.options(fixed("geheim")));
    let sign = |key: &str, passphrase: &str, recipients: &[&str], level| EncodeOptions {
        sign_key: Some(key.to_owned()),
        sign_passphrase: fixed(passphrase),
        recipients: recipients.iter().map(|name| name.to_string()).collect(),
        ..symmetric(level)
    };
    // gpg signs with the subkey, if there is one.
    check_openpgp(&home, &writer(), &demanding(&ids[2]), &sign(&rsa, "", &[], Some(6)), true);
    check_openpgp(
        &home,
        &writer(),
        &demanding(&ecc),
        &sign(&ecc[24..], "pass for signing", &["rsa"], Some(6)),
        true,
    );
    check_openpgp(
        &home,
        &writer(),
        &demanding(&ids[2]),
        &sign(&ids[2], "", &["rsa", "ecc"], None),
        true,
    );
    let by_primary = EncodeOptions {
        gpg_options: words(&["--digest-algo", "SHA256"]),
        ..sign(&format!("{rsa}!"), "", &["rsa"], Some(6))
    };
    let encoder = writer().encoder(by_primary).unwrap();
    let written = write(&encoder, &text(600), &[], b"table");
    assert!(decode(&demanding(&ids[2]), &written.stored, Encoding::OpenPgp).is_err());
    assert!(decode(&demanding(&rsa), &written.stored, Encoding::OpenPgp).is_ok());
}

#[test]
fn refusals_to_sign() {
    let home = GpgHome::new();
    let other = GpgHome::new();
    let key = home.key("locked", "geheim", "ed25519", &[]);
    drop(
        Command::new("gpgconf")
            .arg("--homedir")
            .arg(home.path())
            .args(["--kill", "gpg-agent"])
            .status(),
    );
    let sign = |home: &GpgHome, passphrase: PassphraseSource, key: &str| {
        let codec = Codec::new(home.options(fixed("geheim")));
        let options = EncodeOptions {
            sign_key: Some(key.to_owned()),
            sign_passphrase: passphrase,
            ..symmetric(Some(6))
        };
        let file = codec.encoder(options)?.create("volume", Vec::new())?;
        Ok::<_, crate::codec::Error>(file.finish()?.len())
    };
    for (result, word) in [
        (sign(&home, fixed("falsch"), &key), "wrong passphrase"),
        (sign(&home, PassphraseSource::None, &key), "cannot sign"),
        (sign(&home, fixed("geheim"), "0123456789ABCDEF"), "no such public key"),
    ] {
        let error = result.unwrap_err();
        assert!(
            matches!(&error.cause, Cause::Signing(why) if error.to_string().contains(word)),
            "{error}"
        );
    }
    other.run(&["--import"], &home.run(&["--export"], b""));
    let error = sign(&other, fixed("geheim"), &key).unwrap_err();
    assert!(error.to_string().contains("no secret key"), "{error}");
    assert!(sign(&home, fixed("geheim"), &key).is_ok());
}

#[test]
fn refusals_to_encrypt() {
    let home = GpgHome::new();
    for passphrase in [PassphraseSource::None, fixed(""), fixed("\nx")] {
        let error = Codec::new(home.options(passphrase)).encoder(symmetric(None)).err().unwrap();
        assert!(matches!(error.cause, Cause::EmptyPassphrase | Cause::NoPassphrase), "{error}");
    }
    home.key("signs", "", "ed25519", &[]);
    home.key("elgamal", "", "dsa2048", &[("elg2048", "encr")]);
    let revoked = home.key("revoked", "", "ed25519", &[("cv25519", "encr")]);
    let certificate = std::fs::read_to_string(
        home.path().join("openpgp-revocs.d").join(format!("{revoked}.rev")),
    )
    .unwrap();
    home.run(&["--import"], certificate.replace(":-----BEGIN", "-----BEGIN").as_bytes());
    let time = [
        "--faked-system-time",
        "20200101T000000",
        "--passphrase",
        "",
        "--quick-generate-key",
        "old",
        "rsa2048",
        "encr",
        "1y",
    ];
    home.run(&time, b"");
    let codec = Codec::new(home.options(fixed("geheim")));
    for (name, word) in [
        ("nobody", "no such"),
        ("signs", "no such key to encrypt"),
        ("elgamal", "not supported"),
        ("revoked", "revoked"),
        ("old", ""),
    ] {
        let error = codec
            .encoder(EncodeOptions {
                recipients: vec![name.to_owned()],
                ..EncodeOptions::default()
            })
            .err()
            .unwrap();
        assert!(
            matches!(&error.cause, Cause::Recipient { key, why } if key == name && why.contains(word)),
            "{error}"
        );
    }
}

/// The newest subkey that is usable, as gpg chooses.
#[test]
fn the_same_subkey_as_gpg() {
    let home = GpgHome::new();
    let key = home.key("many", "", "ed25519", &[("cv25519", "encr")]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    home.run(&["--passphrase", "", "--quick-add-key", &key, "cv25519", "encr", "never"], b"");
    let codec = Codec::new(home.options(PassphraseSource::None));
    let recipient = |stored: &[u8]| stored[3..11].to_vec();
    let ids = home.fingerprints("many");
    for name in ["many", &key, &ids[1], &format!("{}!", ids[1])] {
        let by_gpg = home.run(&["--recipient", name, "--encrypt"], b"");
        let options =
            EncodeOptions { recipients: vec![name.to_owned()], ..EncodeOptions::default() };
        let ours = write(&codec.encoder(options).unwrap(), b"", &[], b"").stored;
        assert_eq!(recipient(&ours), recipient(&by_gpg), "{name}");
    }
}

/// A file that is left behind is no file.
#[test]
fn dropped_unfinished() {
    let codec = crate::codec::testing::codec("geheim");
    for (options, encoding) in
        [(bare(Encoding::Gzip, Some(6)), Encoding::Gzip), (symmetric(Some(6)), Encoding::OpenPgp)]
    {
        let encoder = codec.encoder(options).unwrap();
        for ended in [false, true] {
            let mut sink = Vec::new();
            let mut written = encoder.create("made", &mut sink).unwrap();
            for _ in 0..2 {
                written.push(encoder.frame(text(100_000)).unwrap()).unwrap();
            }
            if ended {
                written.end_frames().unwrap();
                assert!(written.push(encoder.frame(b"late".to_vec()).unwrap()).is_err());
            }
            drop(written);
            let error = decode(&codec, &sink, encoding).unwrap_err();
            assert!(matches!(error.cause, Cause::Truncated), "{error}");
        }
    }
}

struct Full(usize);

impl ByteSink for Full {
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), storage::Error> {
        let full = || storage::Error {
            operation: "write",
            place: "x".into(),
            kind: ErrorKind::NoSpace,
            cause: "full".into(),
        };
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(full)?;
        Ok(())
    }
}

#[test]
fn sinks_that_fail() {
    let codec = crate::codec::testing::codec("geheim");
    for options in [bare(Encoding::Plain, None), bare(Encoding::Gzip, Some(6)), symmetric(Some(6))]
    {
        let encoder = codec.encoder(options).unwrap();
        let mut written = encoder.create("volume 1", Full(1000)).unwrap();
        let pushed = written.push(encoder.frame(mixed()).unwrap());
        let error = pushed.unwrap_err();
        assert_eq!(error.to_string(), "cannot write 'x': full");
        assert!(written.finish().is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_bytes(plain: Vec<u8>, repeat in 1..200usize, sizes in prop::collection::vec(0..9000usize, 0..6), table: Vec<u8>, level in 0..8u8) {
        let plain = plain.repeat(repeat);
        let codec = crate::codec::testing::codec("geheim");
        let level = Some(level).filter(|l| *l < 7);
        for (options, encoding) in [
            (bare(Encoding::Plain, None), Encoding::Plain),
            (bare(Encoding::Gzip, level), Encoding::Gzip),
            (symmetric(level), Encoding::OpenPgp),
        ] {
            let encoder = codec.encoder(options).unwrap();
            let written = write(&encoder, &plain, &sizes, &table);
            check_decoder(&codec, &written, encoding, &plain, &table);
            check_frames(&codec, &written, encoding, &plain);
            check_table(&codec, &written, encoding, &plain, &table);
        }
    }
}
