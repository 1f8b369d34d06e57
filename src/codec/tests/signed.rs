//! Signatures that are demanded.

use crate::codec::testing::{GpgHome, check_points, decode, fixed, text};
use crate::codec::{Cause, Codec, Encoding, Error, Options};

fn signed(home: &GpgHome, signers: &[&str], arguments: &[&str], plain: &[u8]) -> Vec<u8> {
    let signers: Vec<&str> = signers.iter().flat_map(|s| ["--local-user", s]).collect();
    home.symmetric(
        &[&signers[..], arguments, if signers.is_empty() { &[] } else { &["--sign"] }].concat(),
        plain,
    )
}

fn demand(home: &GpgHome, id: &str) -> Codec {
    Codec::new(Options { sign_key: Some(id.to_owned()), ..home.options(fixed("geheim")) })
}

fn refused(result: Result<Vec<u8>, Error>) -> String {
    match result.map(|plain| plain.len()) {
        Err(Error { cause: Cause::Signature(why), .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn accepted_by_subkey_or_primary() {
    let home = GpgHome::new();
    home.key("other", "", "ed25519", &[]);
    let plain = text(300_000);
    for (name, primary, subkey) in [("rsa", "rsa2048", "rsa2048"), ("ecc", "ed25519", "ed25519")] {
        home.key(name, "", primary, &[(subkey, "sign")]);
        let ids = home.fingerprints(name);
        // gpg signs with the subkey unless told not to with '!'.
        let by_subkey = signed(&home, &[name], &[], &plain);
        let by_primary =
            signed(&home, &[&format!("{}!", ids[0])], &["--digest-algo", "SHA256"], &plain);
        let by_two = signed(&home, &["other", name], &[], &plain);
        for id in [&ids[0], &ids[1]] {
            for id in [id.to_owned(), id[24..].to_lowercase(), format!("0x{}", &id[32..])] {
                let codec = demand(&home, &id);
                check_points(&codec, &by_subkey, Encoding::OpenPgp, 100_000, &plain);
                check_points(&codec, &by_two, Encoding::OpenPgp, 100_000, &plain);
                assert_eq!(
                    decode(&codec, &by_primary, Encoding::OpenPgp).is_ok(),
                    id.to_uppercase().ends_with(&ids[0][32..])
                );
            }
        }
        for arguments in [
            &["--compress-algo", "0"][..],
            &["--compress-algo", "3"],
            &["--cipher-algo", "CAST5"],
            &["--armor"],
        ] {
            let stored = signed(&home, &[name], arguments, &plain);
            check_points(&demand(&home, &ids[1]), &stored, Encoding::OpenPgp, 100_000, &plain);
            refused(decode(
                &demand(&home, &home.fingerprints("other")[0]),
                &stored,
                Encoding::OpenPgp,
            ));
        }
        // Nobody demands a signature.
        check_points(
            &Codec::new(home.options(fixed("geheim"))),
            &by_two,
            Encoding::OpenPgp,
            100_000,
            &plain,
        );
    }
}

#[test]
fn unsigned_and_signed_by_others() {
    let home = GpgHome::new();
    let (mine, other) =
        (home.key("mine", "", "ed25519", &[]), home.key("other", "", "ed25519", &[]));
    let plain = text(10_000);
    for arguments in [&[][..], &["--compress-algo", "0"], &["--cipher-algo", "CAST5"]] {
        refused(decode(
            &demand(&home, &mine),
            &signed(&home, &[], arguments, &plain),
            Encoding::OpenPgp,
        ));
        let why = refused(decode(
            &demand(&home, &mine),
            &signed(&home, &["other"], arguments, &plain),
            Encoding::OpenPgp,
        ));
        assert!(!why.is_empty());
        assert!(
            decode(
                &demand(&home, &other),
                &signed(&home, &["other"], arguments, &plain),
                Encoding::OpenPgp
            )
            .is_ok()
        );
    }
    let stored = signed(&home, &["mine"], &[], &plain);
    refused(decode(&demand(&home, "0123456789ABCDEF"), &stored, Encoding::OpenPgp));
    refused(decode(&demand(&home, "mine"), &stored, Encoding::OpenPgp));
    refused(decode(&demand(&home, ""), &stored, Encoding::OpenPgp));
}

#[test]
fn revoked_and_expired_keys() {
    let home = GpgHome::new();
    let plain = text(10_000);
    let revoked = home.key("revoked", "", "ed25519", &[]);
    let stored = signed(&home, &["revoked"], &[], &plain);
    assert!(decode(&demand(&home, &revoked), &stored, Encoding::OpenPgp).is_ok());
    let certificate = home.path().join("openpgp-revocs.d").join(format!("{revoked}.rev"));
    let certificate =
        std::fs::read_to_string(certificate).unwrap().replace(":-----BEGIN", "-----BEGIN");
    home.run(&["--import"], certificate.as_bytes());
    assert!(
        refused(decode(&demand(&home, &revoked), &stored, Encoding::OpenPgp)).contains("revoked")
    );

    // Signed while valid; the key has expired since.
    let time = ["--faked-system-time", "20200101T000000"];
    home.run(
        &[
            &time[..],
            &["--passphrase", "", "--quick-generate-key", "old", "ed25519", "sign,cert", "1y"],
        ]
        .concat(),
        b"",
    );
    let old = home.fingerprints("old")[0].clone();
    let stored = signed(&home, &["old"], &time, &plain);
    assert!(decode(&demand(&home, &old), &stored, Encoding::OpenPgp).is_ok());
}

/// The data of one message with the signature of another one, encrypted by somebody who knows the
/// passphrase.
#[test]
fn signature_of_other_data() {
    use sequoia_openpgp::parse::Parse;
    use sequoia_openpgp::serialize::SerializeInto;
    let home = GpgHome::new();
    let mine = home.key("mine", "", "ed25519", &[]);
    let sign =
        |plain: &[u8]| home.run(&["--compress-algo", "0", "--local-user", "mine", "--sign"], plain);
    let packets = |bytes: &[u8]| {
        sequoia_openpgp::PacketPile::from_bytes(bytes).unwrap().into_children().collect::<Vec<_>>()
    };
    let (one, two) = (packets(&sign(b"one")), packets(&sign(b"two")));
    let encrypt = |signature: &sequoia_openpgp::Packet| {
        let inner =
            [one[0].to_vec().unwrap(), one[1].to_vec().unwrap(), signature.to_vec().unwrap()]
                .concat();
        super::damage::encrypt(&inner, super::damage::Mdc::Right)
    };
    assert_eq!(
        decode(&demand(&home, &mine), &encrypt(&one[2]), Encoding::OpenPgp).unwrap(),
        b"one"
    );
    let why = refused(decode(&demand(&home, &mine), &encrypt(&two[2]), Encoding::OpenPgp));
    assert!(why.contains("does not fit"), "{why}");
}
