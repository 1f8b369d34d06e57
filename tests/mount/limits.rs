//! A mount that threads or memory cannot be had for: an error in a sentence, and no mount.

use crate::support::{Duplicity, Encoding, Node, Outcome, Tree, Version, is_mounted};

#[test]
fn too_little_memory_is_an_error_before_anything_is_mounted() {
    let env = Encoding::Plain.env();
    Tree::new(100).with("file", Node::file("content", 101)).write(None, &env.source());
    Duplicity::new(&env, Version::Old, Encoding::Plain).full(super::START);
    let script = "ulimit $1 $2; exec timeout -k 1 60 \"$3\" mount --no-encryption \"$4\" \"$5\"";
    for (limit, value) in [("-v", "80000"), ("-v", "120000"), ("-v", "160000"), ("-n", "12")] {
        let mut command = env.command("sh");
        command.args(["-c", script, "sh", limit, value]).arg(env!("CARGO_BIN_EXE_dupfs")).arg(env.url()).arg(env.mountpoint());
        let outcome = Outcome::of(&mut command);
        outcome.failure(30, &["cannot", "raise the limits"]);
        assert!(!is_mounted(&env.mountpoint()), "{limit} {value}");
    }
}
