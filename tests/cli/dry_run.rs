//! `--dry-run` with every action: source, target and archive directory stay as they are, to the
//! byte and to the time.

use crate::support::{Env, Node, Outcome, Tree, Truth, Version};
use Version::Exchanged;

const TIME: i64 = 1_785_585_600;

const LINES: [&str; 16] = [
    "source URL",
    "backup source URL --full-if-older-than 1s",
    "full source URL --jsonstat --progress",
    "incremental source URL",
    "restore URL target",
    "restore --force URL source",
    "restore -r top URL target",
    "verify URL source",
    "verify --compare-data URL source",
    "list-current-files URL",
    "collection-status URL",
    "collection-status --show-changes-in-set 0 URL",
    "remove-older-than 1s --force URL",
    "remove-all-but-n-full 1 --force URL",
    "remove-all-inc-of-but-n-full 1 --force URL",
    "cleanup --force URL",
];

/// Makes a world with two chains, a set whose full set is gone, and a changed source.
fn world() -> Env {
    let env = Env::new();
    let mut before = None;
    for number in 0..6 {
        let tree = Tree::new(5).with("top", Node::file(format!("edition {number}"), 10 + number));
        tree.write(before.as_ref(), &env.source());
        let action = if number % 2 == 0 { "full" } else { "incremental" };
        let time = (TIME + 3600 * number).to_string();
        env.type_in(
            Exchanged,
            &[
                action,
                "--no-encryption",
                "--no-print-statistics",
                "--current-time",
                &time,
                "source",
            ],
        )
        .success();
        before = Some(tree);
    }
    for file in
        std::fs::read_dir(env.store_of(Exchanged)).unwrap().map(|entry| entry.unwrap().path())
    {
        if file.to_str().unwrap().contains("full.20260801T120000Z") {
            std::fs::remove_file(file).unwrap();
        }
    }
    std::fs::write(env.source().join("top"), "new").unwrap();
    env
}

/// Returns what is there. The time of the archive directory itself is that of the lock, which comes
/// and goes in it; all three make it when it is missing.
fn record(env: &Env) -> [Truth; 3] {
    let [source, store] =
        [env.source(), env.store_of(Exchanged)].map(|place| Truth::record(&place));
    let archive = env.archive_of(Exchanged);
    let mut archived = if archive.exists() { Truth::record(&archive) } else { Truth::default() };
    archived.0.remove(&b""[..]);
    [source, store, archived]
}

#[test]
fn nothing_changes() {
    let env = world();
    // Whatever is written now has another time.
    let age = "find store-Exchanged source cache/duplicity -exec touch -h -d @1000000000 {} +";
    Outcome::of(env.command("sh").args(["-c", age])).success();
    for is_archive_there in [true, false] {
        if !is_archive_there {
            std::fs::remove_dir_all(env.archive_of(Exchanged)).unwrap();
        }
        let before = record(&env);
        for line in LINES {
            let words = line.split(' ').map(|word| word.replace("URL", &env.url_of(Exchanged)));
            let outcome = Outcome::of(
                env.command(Exchanged.checked()).args(words).args(["--dry-run", "--no-encryption"]),
            );
            let outcome = outcome.success();
            assert!(record(&env) == before, "{line}: {outcome}");
            assert!(!env.root().join("target").exists(), "{line}: {outcome}");
        }
    }
    // They would have done something.
    let forced = env.type_in(Exchanged, &["remove-older-than", "1s", "--force"]).success();
    assert!(forced.stdout.contains("Deleting complete backup chain"), "{forced}");
}
