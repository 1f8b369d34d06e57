//! A mount that threads or memory cannot be had for: an error in a sentence, and no mount.

use crate::support::{Duplicity, Encoding, Node, Outcome, Random, Tree, Version, is_mounted};
use std::time::{Duration, Instant};

#[test]
fn too_little_memory_is_an_error_before_anything_is_mounted() {
    let env = Encoding::Plain.env();
    Tree::new(100).with("file", Node::file("content", 101)).write(None, &env.source());
    Duplicity::new(&env, Version::Old, Encoding::Plain).full(super::START);
    let script = "ulimit $1 $2; exec timeout -k 1 60 \"$3\" mount --no-encryption \"$4\" \"$5\"";
    for (limit, value) in [("-v", "80000"), ("-v", "120000"), ("-v", "160000"), ("-n", "12")] {
        let mut command = env.command("sh");
        command
            .args(["-c", script, "sh", limit, value])
            .arg(env!("CARGO_BIN_EXE_dupfs"))
            .arg(env.url())
            .arg(env.mountpoint());
        let outcome = Outcome::of(&mut command);
        outcome.failure(30, &["cannot", "raise the limits"]);
        assert!(!is_mounted(&env.mountpoint()), "{limit} {value}");
    }
}

/// Under any limit a mount is refused, or serves; and where memory ends all the same, readers hear
/// of it, and the mountpoint is free again.
#[test]
fn with_little_memory_nobody_hangs() {
    let env = Encoding::Symmetric.env();
    let mut random = Random::new(7);
    let tree = (0..8).fold(Tree::new(100), |tree, n| {
        tree.with(format!("f{n}"), Node::file(random.bytes(1_000_000), 101))
    });
    tree.write(None, &env.source());
    Duplicity::new(&env, Version::Old, Encoding::Symmetric).full(super::START);
    let point = env.mountpoint();
    let (mut refused, mut served) = (0, 0);
    for limit in [240_000, 300_000, 312_000, 324_000, 420_000] {
        let mut command = env.command("sh");
        Encoding::Symmetric.secrets(&mut command);
        command.args([
            "-c",
            "ulimit -v $0; exec timeout -k 1 60 \"$1\" mount \"$2\" \"$3\"",
            &limit.to_string(),
        ]);
        let outcome =
            Outcome::of(command.arg(env!("CARGO_BIN_EXE_dupfs")).arg(env.url()).arg(&point));
        if outcome.code != 0 {
            outcome.failure(30, &["cannot", "raise the limits"]);
            assert!(!is_mounted(&point), "{limit}");
            refused += 1;
            continue;
        }
        let script = "for n in 0 1 2 3 4 5 6 7; do timeout -k 1 60 cmp \"$0/latest/f$n\" \"$1/f$n\" & all=\"$all $!\"; done
            for one in $all; do wait $one; code=$?; [ $code -lt 124 ] || exit $code; [ $code = 0 ] || failed=1; done; exit ${failed-0}";
        let read = Outcome::of(
            env.command("timeout")
                .args(["-k", "1", "90", "sh", "-c", script])
                .arg(&point)
                .arg(env.source()),
        );
        assert!(read.code <= 1, "{limit}: readers hang: {read}");
        served += usize::from(read.code == 0);
        if read.code == 0 {
            Outcome::of(env.command("umount").arg(&point)).success();
        }
        let end = Instant::now() + Duration::from_secs(20);
        while is_mounted(&point) {
            assert!(Instant::now() < end, "{limit}: a dead mount is left: {read}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(refused > 0 && served > 0, "{refused} refused, {served} served");
}
