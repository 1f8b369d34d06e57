//! Messages for a passphrase.

use crate::codec::testing::{GpgHome, check_points, codec, decode, fixed, text};
use crate::codec::{Cause, Codec, Encoding, Options};

#[test]
fn as_duplicity_makes_them() {
    let home = GpgHome::new();
    let plain = text(2_000_000);
    for arguments in [
        &["--compress-algo", "0"][..],
        &["--compress-algo", "1"],
        &["--compress-algo", "2"],
        &["--cipher-algo", "AES"],
        &["--cipher-algo", "AES192"],
    ] {
        let stored = home.symmetric(arguments, &plain);
        let points = check_points(&codec("geheim"), &stored, Encoding::OpenPgp, 100_000, &plain);
        assert!(points.len() > 5, "{} points with {arguments:?}", points.len());
    }
}
