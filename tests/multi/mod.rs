//! Several storages as one: dealt out and mirrored, both ways with the originals, stores that are
//! away, full of damage, or have variables of their own.

use crate::support::{Encoding, Env, Mounted, Outcome, Random, Version};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const TIME: i64 = 1_700_000_000;
/// Nothing listens there.
const AWAY: &str = "sftp://nobody@127.0.0.1:1/x";

/// Two stores in a world, and the file that names them.
struct Stores {
    env: Env,
    query: &'static str,
}

impl Stores {
    fn new(query: &'static str) -> Self {
        let stores = Self { env: Env::new(), query };
        stores.config(&[&stores.url_of("one"), &stores.url_of("two")]);
        stores
    }

    fn place(&self, name: &str) -> PathBuf {
        self.env.root().join(name)
    }

    fn url_of(&self, name: &str) -> String {
        format!("file://{}", self.place(name).display())
    }

    /// Names other stores.
    fn config(&self, urls: &[&str]) {
        let urls: Vec<_> = urls.iter().map(|url| serde_json::json!({ "url": url })).collect();
        std::fs::write(self.place("multi.json"), serde_json::json!(urls).to_string()).unwrap();
    }

    fn url(&self) -> String {
        format!("multi://{}{}", self.place("multi.json").display(), self.query)
    }

    /// Runs one of the programs, which work alike, on these stores.
    fn run(&self, version: Version, words: &[&str]) -> Outcome {
        let mut command = self.env.command(version.checked());
        command.args(["--no-encryption", "--num-retries", "1"]).args(words);
        Outcome::of(&mut command)
    }

    /// Changes the source, and saves it.
    fn save(&self, version: Version, number: u8, options: &[&str]) -> Outcome {
        write_source(&self.env, number);
        let time = (TIME + i64::from(number)).to_string();
        let action = if number == 1 { "full" } else { "incremental" };
        let words = [&[action, "--volsize", "1", "--current-time", &time][..], options].concat();
        self.run(version, &[&words[..], &["source", &self.url()]].concat())
    }

    /// Restores the newest state, and compares it with the source.
    #[track_caller]
    fn restore(&self, version: Version) -> Outcome {
        let target = self.place("restored");
        let _ = std::fs::remove_dir_all(&target);
        let outcome = self.run(version, &["restore", &self.url(), target.to_str().unwrap()]);
        is_source(&target, &self.env, &outcome);
        outcome.success()
    }

    fn names(&self, store: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.place(store)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Changes the source: a file of two volumes that changes at its start, and one that is new.
fn write_source(env: &Env, number: u8) {
    let mut content = Random::new(7).bytes(1_300_000);
    content[..1000].fill(number);
    std::fs::write(env.source().join("a"), content).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 * u64::from(number));
    File::options()
        .write(true)
        .open(env.source().join("a"))
        .and_then(|file| file.set_modified(time))
        .unwrap();
    std::fs::write(env.source().join(format!("of-{number}")), "new").unwrap();
}

#[track_caller]
fn is_source(place: &Path, env: &Env, said: &Outcome) {
    for file in ["a", "of-1", "of-2"] {
        let (found, expected) =
            [place, &env.source()].map(|place| std::fs::read(place.join(file)).ok()).into();
        assert!(found == expected, "{}: {file}: {said}", place.display());
    }
}

/// Whoever has written it, and however it is dealt out, all three read it, and save to it.
#[test]
fn all_three_write_what_all_three_read() {
    let all = [Version::Ours, Version::Old, Version::New];
    for query in ["", "?mode=mirror&onfail=abort"] {
        for (writer, next) in all.into_iter().zip([Version::Old, Version::New, Version::Ours]) {
            let stores = Stores::new(query);
            stores.save(writer, 1, &[]).success();
            stores.save(next, 2, &["--allow-source-mismatch"]).success();
            let (one, two) = (stores.names("one"), stores.names("two"));
            if query.is_empty() {
                assert!(one.is_disjoint(&two) && one.len().abs_diff(two.len()) < 3);
            } else {
                assert_eq!(one, two);
            }
            for reader in all {
                stores.env.clear_caches();
                let outcome = stores.restore(reader);
                let line = format!("MultiBackend: {}: {} files", stores.url_of("one"), one.len());
                assert!(outcome.stdout.contains(&line), "{reader:?}: {outcome}");
            }
        }
    }
}

/// Damages a file.
type Damage = fn(&Path);

/// What can be wrong with all files of a store.
const DAMAGE: &[(&str, Damage)] = &[
    ("flip", flip),
    ("cut", |file| {
        let length = std::fs::metadata(file).unwrap().len();
        File::options().write(true).open(file).unwrap().set_len(length / 2).unwrap();
    }),
    ("append", |file| {
        let length = std::fs::metadata(file).unwrap().len();
        let more = vec![0; 1000];
        File::options().write(true).open(file).unwrap().write_all_at(&more, length).unwrap();
    }),
    ("remove", |file| std::fs::remove_file(file).unwrap()),
];

/// Changes a byte in the middle, and leaves size and time as they are.
fn flip(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let data = file.metadata().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, data.len() / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], data.len() / 2).unwrap();
    file.set_modified(data.modified().unwrap()).unwrap();
}

fn damage(place: &Path, how: Damage) {
    std::fs::read_dir(place).unwrap().for_each(|entry| how(&entry.unwrap().path()));
}

/// Whatever the first store has made of its files, the second one has them: for whoever restores,
/// verifies, lists or mounts, of a writer of the original and of ours.
#[test]
fn damage_in_one_store_harms_nobody() {
    for (encoding, writer) in [
        (Encoding::Symmetric, Version::Ours),
        (Encoding::Gzip, Version::Ours),
        (Encoding::Gzip, Version::Old),
    ] {
        let stores = Stores::new("?mode=mirror");
        let (env, url) = (&stores.env, stores.url());
        let dupfs = |words: &[&str]| Outcome::of(env.dupfs(encoding).args(words));
        for (number, action) in [(1, "full"), (2, "incremental")] {
            write_source(env, number);
            let time = (TIME + i64::from(number)).to_string();
            let mut command = env.command(writer.checked());
            encoding.secrets(&mut command);
            let words = [action, "--volsize", "1", "--current-time", &time, "source", &url];
            Outcome::of(command.args(encoding.writing()).args(words)).success();
        }
        let listed = dupfs(&["list-current-files", &url]).success().stdout;
        let files = |listed: &str| listed.lines().filter(|line| line.contains("of-")).count();
        assert_eq!(files(&listed), 2);
        // Each kind of writer has its own way to find a flipped byte.
        let kinds = if encoding == Encoding::Symmetric { DAMAGE } else { &DAMAGE[..1] };
        for (name, how) in kinds {
            let kept = stores.place("kept");
            std::fs::create_dir(&kept).unwrap();
            for entry in std::fs::read_dir(stores.place("one")).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), kept.join(entry.file_name())).unwrap();
            }
            damage(&stores.place("one"), *how);
            env.clear_caches();
            let target = stores.place("restored");
            let outcome = dupfs(&["restore", &url, target.to_str().unwrap()]);
            is_source(&target, env, &outcome);
            let outcome = outcome.success();
            assert!(*name != "flip" || outcome.stdout.contains("reading the copy"), "{outcome}");
            std::fs::remove_dir_all(&target).unwrap();
            env.clear_caches();
            let outcome = dupfs(&["list-current-files", &url]).success();
            assert_eq!(files(&outcome.stdout), 2, "{name}: {outcome}");
            env.clear_caches();
            let outcome = dupfs(&["verify", "--compare-data", &url, "source"]).success();
            assert!(outcome.stdout.contains(", 0 differences found"), "{name}: {outcome}");
            dupfs(&["collection-status", &url]).success();
            env.clear_caches();
            {
                let mut mount = env.dupfs(encoding);
                mount.args(["mount", "--foreground", &url]).arg(env.mountpoint());
                let mounted = Mounted::start(mount, &env.mountpoint());
                is_source(&mounted.at(TIME + 2), env, &outcome);
            }
            std::fs::remove_dir_all(stores.place("one")).unwrap();
            std::fs::rename(&kept, stores.place("one")).unwrap();
        }
    }
}

/// A mount that knows the volumes already checks each chunk that it reads.
#[test]
fn a_mount_reads_the_other_copy_of_a_chunk() {
    for writer in [Version::Ours, Version::Old] {
        let stores = Stores::new("?mode=mirror");
        (1..3).for_each(|number| drop(stores.save(writer, number, &[]).success()));
        let prove = &["verify", "--compare-data", &stores.url(), "source"];
        stores.run(Version::Ours, prove).success();
        damage(&stores.place("one"), flip);
        let mut mount = stores.env.dupfs(Encoding::Gzip);
        mount.args(["mount", "--foreground", &stores.url()]).arg(stores.env.mountpoint());
        let mounted = Mounted::start(mount, &stores.env.mountpoint());
        let read = std::fs::read(mounted.at(TIME + 2).join("a"));
        assert!(
            read.ok() == std::fs::read(stores.env.source().join("a")).ok(),
            "{}",
            mounted.log()
        );
        assert!(mounted.log().contains("reading the copy"), "{}", mounted.log());
        drop(mounted);
        // Where both are damaged, nothing wrong is passed off as good.
        damage(&stores.place("two"), flip);
        let target = stores.place("wrong");
        let words = ["restore", &stores.url(), target.to_str().unwrap()];
        stores.run(Version::Ours, &words).failure(21, &["is damaged"]);
        assert!(!target.join("a").exists());
    }
}

/// A store that is away: a mirror goes on without it and reports it, or ends, as it was told; where
/// files are dealt out, nothing is taken for missing.
#[test]
fn a_store_that_is_away() {
    let stores = Stores::new("?mode=mirror");
    (1..3).for_each(|number| drop(stores.save(Version::Ours, number, &[]).success()));
    stores.config(&[AWAY, &stores.url_of("two")]);
    stores.env.clear_caches();
    let says = [&format!("Exception during list of {AWAY}: ")[..], "no connection"];
    let outcome = stores.restore(Version::Ours);
    says.iter().for_each(|word| assert!(outcome.stdout.contains(word), "{outcome}"));
    let outcome = stores.save(Version::Ours, 3, &[]).success();
    let without = format!("going on without {AWAY}");
    assert!(outcome.stdout.contains(&without), "{outcome}");
    let removed =
        stores.run(Version::Ours, &["remove-all-but-n-full", "1", "--force", &stores.url()]);
    removed.success();

    let abort = format!("{}&onfail=abort", stores.url());
    write_source(&stores.env, 4);
    stores.run(Version::Ours, &["full", "source", &abort]).failure(50, &["no connection"]);

    let stripe = stores.url().replace("?mode=mirror", "");
    let words = ["collection-status", &stripe];
    stores.run(Version::Ours, &words).failure(50, &["no connection", AWAY]);
    // A folder that is not there, as of a disk that is not mounted, is no empty one.
    stores.config(&[&stores.url_of("two"), &stores.url_of("gone")]);
    let outcome = stores.run(Version::Ours, &["cleanup", "--force", &stripe]);
    outcome.failure(50, &["cannot list", "gone"]);
}

/// Files go where their prefix says, to the same stores as with the original, and are deleted
/// everywhere.
#[test]
fn prefixes_and_deletions() {
    let placed = |version: Version| {
        let stores = Stores::new("?mode=mirror&subpath=/deep");
        let entries = serde_json::json!([
            { "url": stores.url_of("one"), "prefixes": ["man-", "sig-"] },
            { "url": stores.url_of("two"), "prefixes": ["sig-"] },
            { "url": stores.url_of("three") },
        ]);
        std::fs::write(stores.place("multi.json"), entries.to_string()).unwrap();
        let options = ["--file-prefix-manifest", "man-", "--file-prefix-signature", "sig-"];
        stores.save(version, 1, &options).success();
        let kinds = |store: &str| {
            let names = stores.names(&format!("{store}/deep"));
            names
                .into_iter()
                .map(|name| name.chars().take(7).collect::<String>())
                .collect::<BTreeSet<_>>()
        };
        let found = ["one", "two", "three"].map(kinds);
        let time = (TIME + 9).to_string();
        for action in [
            &["full", "--current-time", &time, "source"][..],
            &["remove-all-but-n-full", "1", "--force"],
        ] {
            stores.run(version, &[action, &options, &[&stores.url()]].concat()).success();
        }
        for store in ["one", "two", "three"] {
            let left = stores.names(&format!("{store}/deep"));
            assert!(left.iter().all(|name| name.contains("20231114T221329Z")), "{store}: {left:?}");
        }
        found
    };
    let ours = placed(Version::Ours);
    assert_eq!(ours, placed(Version::New));
    assert_eq!(ours.map(|kinds| kinds.len()), [3, 2, 1]);
}

/// What a store that is away may hold alone counts as there: nothing is deleted for want of it.
#[test]
fn what_only_a_store_that_is_away_has_is_not_given_up() {
    let stores = Stores::new("?mode=mirror");
    let entries = serde_json::json!([
        { "url": stores.url_of("one"), "prefixes": ["man-", "sig-"] },
        { "url": stores.url_of("two") },
    ]);
    std::fs::write(stores.place("multi.json"), entries.to_string()).unwrap();
    let options = ["--file-prefix-manifest", "man-", "--file-prefix-signature", "sig-"];
    stores.save(Version::Ours, 1, &options).success();
    let before = stores.names("two");
    std::fs::rename(stores.place("one"), stores.place("away")).unwrap();
    stores.env.clear_caches();
    let url = stores.url();
    for action in [&["cleanup", "--force"][..], &["remove-all-but-n-full", "1", "--force"]] {
        let outcome = stores.run(Version::Ours, &[action, &options, &[&url]].concat());
        assert_ne!(outcome.code, 0, "{outcome}");
    }
    assert_eq!(stores.names("two"), before);
}

/// What makes no sense ends as with the original, before anything is done.
#[test]
fn senseless_configurations() {
    let stores = Stores::new("");
    for query in ["?mode=both", "?onfail=never", "?mode=mirror&mode=mirror", "?other=1", "?mode"] {
        let url = format!("{}{query}", stores.url());
        let [ours, old] = [Version::Ours, Version::Old]
            .map(|version| stores.run(version, &["collection-status", &url]).code);
        assert_eq!((ours, old), (23, 23), "{query}");
    }
    let url = stores.url().replace("multi.json", "none.json");
    let outcome = stores.run(Version::Ours, &["collection-status", &url]);
    outcome.failure(23, &["Could not load config file"]);
}

/// A variable of one store is for that store alone, and shown nowhere.
#[cfg(feature = "sftp")]
#[test]
fn variables_of_one_store() {
    use crate::support::{SSH_PASSWORD, Sshd};
    let (stores, sshd) = (Stores::new("?mode=mirror&onfail=abort"), Sshd::shared());
    let options = sshd.introduce(&stores.env, false);
    let url = sshd.url("sftp", "multi/own");
    let variables = |name: &str| serde_json::json!([{ "name": name, "value": SSH_PASSWORD }]);
    let config = |entries: serde_json::Value| {
        std::fs::write(stores.place("multi.json"), entries.to_string()).unwrap();
    };
    write_source(&stores.env, 1);
    let ours = |words: &[&str]| {
        let mut command: Command = stores.env.dupfs(Encoding::Gzip);
        command.args(["-v9", "--num-retries", "1", "--ssh-options", &options]).args(words);
        let outcome = Outcome::of(command.env("BACKEND_PASSWORD", "wrong"));
        assert!(!outcome.to_string().contains(SSH_PASSWORD), "{outcome}");
        outcome
    };
    for name in ["FTP_PASSWORD", "BACKEND_PASSWORD"] {
        config(
            serde_json::json!([{ "url": url, "env": variables(name) }, { "url": stores.url_of("two") }]),
        );
        ours(&["full", "source", &stores.url()]).success();
    }
    assert!(!stores.names("two").is_empty());
    config(
        serde_json::json!([{ "url": stores.url_of("two"), "env": variables("FTP_PASSWORD") }, { "url": url }]),
    );
    let outcome = ours(&["full", "source", &stores.url()]);
    outcome.failure(51, &["neither the keys nor the password"]);
}
