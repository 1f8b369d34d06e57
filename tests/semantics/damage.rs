//! Damaged volumes in a mount; `tests/damage` tries every kind at every place.

use super::{T1, T2, T3, content, errno, save, world};
use crate::support::{Encoding, Env, Keys, Mounted, Outcome, PASSPHRASE};
use std::path::{Path, PathBuf};

const SECOND: &str = "duplicity-inc.20260801T120000Z.to.20260802T120000Z.vol1.difftar";

/// Damages the volume of the second backup, and returns the mount of it.
fn mount_damaged(damage: fn(&Path)) -> (Env, Mounted) {
    let (env, _) = world();
    damage(&env.store().join(format!("{SECOND}.gz")));
    let mounted = Mounted::new(&env, Encoding::Gzip);
    (env, mounted)
}

fn cut(volume: &Path) {
    let bytes = std::fs::read(volume).unwrap();
    std::fs::write(volume, &bytes[..bytes.len() / 2]).unwrap();
}

fn flip(volume: &Path) {
    let mut bytes = std::fs::read(volume).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(volume, bytes).unwrap();
}

/// > A volume that is damaged, missing, cut short or not signed as demanded fails the reads that
/// > need it with an input/output error.
#[test]
fn reads_that_need_a_bad_volume_fail() {
    for damage in [cut, flip] {
        let (_env, mounted) = mount_damaged(damage);
        assert_eq!(
            errno(std::fs::read(mounted.at(T2).join("changed"))),
            libc::EIO,
            "{}",
            mounted.log()
        );
    }
    // A volume that goes while its set is mounted.
    let (env, _) = world();
    let mounted = Mounted::with(&env, Encoding::Gzip, &["--refresh", "1h"]);
    std::fs::remove_file(env.store().join(format!("{SECOND}.gz"))).unwrap();
    assert_eq!(
        errno(std::fs::read(mounted.at(T2).join("changed"))),
        libc::EIO,
        "{}",
        mounted.log()
    );

    let env = Encoding::Signed.env();
    save(&env, Encoding::Signed);
    replace_by_unsigned(&env);
    let mounted = Mounted::new(&env, Encoding::Signed);
    assert_eq!(
        errno(std::fs::read(mounted.at(T2).join("changed"))),
        libc::EIO,
        "{}",
        mounted.log()
    );
    assert!(mounted.log().contains("sign"), "{}", mounted.log());
    assert!(std::fs::read(mounted.at(T1).join("changed")).unwrap() == **content(0, "changed"));
}

/// Encrypts the second volume anew without a signature, and puts its new hash into a signed
/// manifest.
fn replace_by_unsigned(env: &Env) {
    let (rsa, curve) = (&Keys::get().rsa, &Keys::get().curve);
    let gpg = |arguments: &[&str], file: &Path, output: &Path| {
        let mut command = env.command("gpg");
        command.args([
            "--batch",
            "--yes",
            "--pinentry-mode=loopback",
            "--passphrase",
            PASSPHRASE,
            "--trust-model=always",
        ]);
        Outcome::of(command.arg("--output").arg(output).args(arguments).arg(file)).success();
    };
    let sha1 = |file: &Path| {
        let line = Outcome::of(env.command("sha1sum").arg(file)).success().stdout;
        line.split(' ').next().unwrap().to_string()
    };
    let volume = env.store().join(format!("{SECOND}.gpg"));
    let manifest =
        env.store().join("duplicity-inc.20260801T120000Z.to.20260802T120000Z.manifest.gpg");
    let (plain, text): (PathBuf, PathBuf) = (env.fresh("plain"), env.fresh("text"));
    let before = sha1(&volume);
    gpg(&["--decrypt"], &volume, &plain);
    gpg(&["--recipient", curve, "--encrypt"], &plain, &volume);
    gpg(&["--decrypt"], &manifest, &text);
    let told = std::fs::read_to_string(&text).unwrap();
    assert!(told.contains(&before));
    std::fs::write(&text, told.replace(&before, &sha1(&volume))).unwrap();
    gpg(&["--recipient", curve, "--default-key", rsa, "--sign", "--encrypt"], &text, &manifest);
}

/// > One log line names the backup, the volume, the path and the reason.
#[test]
fn one_line_tells_what_is_wrong() {
    let (_env, mounted) = mount_damaged(flip);
    assert_eq!(errno(std::fs::read(mounted.at(T2).join("changed"))), libc::EIO);
    let log = mounted.log();
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains(SECOND) && line.contains("changed")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("20260802T120000Z") && lines[0].len() > SECOND.len() + 40, "{log}");
}

/// > Everything else stays readable.
///
/// > Bytes that differ from those that were saved are never shown.
#[test]
fn the_rest_of_a_damaged_collection_is_right() {
    let (env, truths) = world();
    flip(&env.store().join(format!("{SECOND}.gz")));
    let mounted = Mounted::new(&env, Encoding::Gzip);
    for (time, truth) in &truths {
        let mut seen = mounted.record(*time);
        let unreadable: Vec<Vec<u8>> = seen.unreadable().into_keys().cloned().collect();
        let expected: &[&[u8]] = if *time == T1 { &[] } else { &[b"changed"] };
        assert_eq!(unreadable, expected, "at {time}: {}", mounted.log());
        let mut truth = truth.clone();
        for path in unreadable {
            truth.0.remove(&path);
            seen.0.remove(&path);
        }
        assert_eq!(truth, seen, "at {time}");
    }
    assert!(truths.contains_key(&T3));
}
