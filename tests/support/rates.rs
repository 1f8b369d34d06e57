//! [`keeps_rates`]: whether limits of what goes and comes are kept.

use super::{Env, Outcome, Random};
use std::process::Command;
use std::time::{Duration, Instant};

/// Saves 1.1 MiB to a storage in two volumes at once, and restores them, at 1 MiB a second; fails
/// where that takes no longer than it must. `dupfs` prepares the program.
#[track_caller]
pub fn keeps_rates(env: &Env, url: &str, dupfs: impl Fn() -> Command) {
    std::fs::write(env.source().join("a"), Random::new(5).bytes(1_200_000)).unwrap();
    let target = env.fresh(&format!("restored-{}", url.len()));
    let timed = |words: &[&str]| {
        let begun = Instant::now();
        let options = ["--concurrency", "2", "--volsize", "1"];
        Outcome::of(dupfs().args(options).args(words)).success();
        begun.elapsed()
    };
    // Neither what goes in one burst counts, nor the last piece.
    let least = Duration::from_millis(700);
    let saved = timed(&["full", "--max-upload-rate", "1M", "source", url]);
    let restore = ["restore", "--max-download-rate", "1M", url, target.to_str().unwrap()];
    let restored = timed(&restore);
    assert!(saved > least && restored > least, "{url}: {saved:?}, {restored:?}");
}
