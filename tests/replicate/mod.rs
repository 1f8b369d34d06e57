//! Collections replicated into other storages, with the same keys and with others: everybody reads
//! the replica and goes on with it.

use crate::support::{
    Duplicity, Encoding, Env, Flavour, History, Mounted, Outcome, PASSPHRASE, Truth, Version,
    Writer, assert_same,
};
use dupfs::codec::{self, Codec, PassphraseSource};
use dupfs::format::{Prefixes, StoredName};
use dupfs::storage::{LocalStorage, Storage, StoredFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use Version::{Exchanged, New, Old};

const TIMES: [i64; 4] = [1_700_000_000, 1_700_100_000, 1_700_200_000, 1_700_300_000];
const NEXT: i64 = 1_700_400_000;

/// A collection of two chains that all three programs have written, in volumes of 1 MiB, with a
/// file larger than one.
struct World {
    env: Env,
    truths: BTreeMap<i64, Truth>,
}

impl World {
    fn new(encoding: Encoding) -> Self {
        let mut world = Self { env: Env::new().with_keys(), truths: BTreeMap::new() };
        let mut history = History::new(3, Flavour::Rich);
        let sets = [
            (Writer::Old, "full"),
            (Writer::New, "incremental"),
            (Writer::Dupfs, "incremental"),
            (Writer::Dupfs, "full"),
        ];
        let mut before = None;
        for ((writer, action), time) in sets.into_iter().zip(TIMES) {
            history.tree.write(before.as_ref(), &world.env.source());
            writer.backup(&world.env, encoding, action, time, &[]);
            let below = world
                .truths
                .last_key_value()
                .map(|(_, truth)| truth)
                .filter(|_| action == "incremental");
            world.truths.insert(time, Truth::record(&world.env.source()).kept_after(below));
            before = Some(history.tree.clone());
            history.edit(20);
        }
        history.tree.write(before.as_ref(), &world.env.source());
        world
    }

    fn replica(&self) -> PathBuf {
        self.env.root().join("replica")
    }

    /// Prepares the replication, with the options that writing in an encoding takes. All keys are
    /// known, unless taken away.
    fn command(&self, version: Version, to: Encoding, options: &[&str]) -> Command {
        let mut command = self.env.command(version.checked());
        command.env("PASSPHRASE", PASSPHRASE).env("SIGN_PASSPHRASE", "");
        command.arg("replicate").args(to.writing()).args(options).arg(self.env.url());
        command.arg(format!("file://{}", self.replica().display()));
        command
    }

    fn replicate(&self, to: Encoding, options: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(Exchanged, to, options))
    }

    /// Puts the replica where the collection was, and forgets what anybody knew of that.
    fn exchange(&self) {
        std::fs::rename(self.env.store(), self.env.root().join("original")).unwrap();
        std::fs::rename(self.replica(), self.env.store()).unwrap();
        self.env.clear_caches();
    }

    /// Lets everybody read the replica, and `next` go on with it.
    fn check(&self, encoding: Encoding, next: Writer) {
        self.exchange();
        let env = &self.env;
        let mounted = Mounted::new(env, encoding);
        assert_eq!(mounted.snapshots().into_keys().collect::<Vec<_>>(), TIMES);
        for (&time, truth) in &self.truths {
            assert_same(truth, &mounted.record(time), &format!("mounted at {time}"));
            env.prove(encoding, time).success();
        }
        drop(mounted);
        let restored = |version: Version, time: i64, truth: &Truth| {
            let target = env.fresh("restored");
            Duplicity::new(env, version, encoding).restore(time, &target);
            let (truth, restored) =
                (truth.clone().without_link_times(), Truth::record(&target).without_link_times());
            assert_same(&truth, &restored, &format!("restored by {version:?} at {time}"));
            std::fs::remove_dir_all(&target).unwrap();
        };
        for time in [TIMES[2], TIMES[3]] {
            [Old, New].into_iter().for_each(|version| restored(version, time, &self.truths[&time]));
        }
        // Without --allow-source-mismatch: host and folder are still known.
        next.backup(env, encoding, "incremental", NEXT, &[]);
        let truth = Truth::record(&env.source()).kept_after(Some(&self.truths[&TIMES[3]]));
        [Old, New].into_iter().for_each(|version| restored(version, NEXT, &truth));
    }
}

/// Returns all files of a folder with their bytes.
fn files(place: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Returns the replicated files that were told, in no order.
fn told(outcome: &Outcome) -> Vec<String> {
    let lines = outcome.stdout.lines().filter_map(|line| line.strip_prefix("Replicating "));
    let mut names: Vec<_> = lines
        .map(|line| line.replace("b'", "").replace('\'', "").trim_end_matches('.').to_string())
        .collect();
    names.sort();
    names
}

/// Fails unless every volume has a table of contents, by which a mount shows it without decoding
/// it.
fn assert_tables(world: &World) {
    let options = codec::Options {
        passphrase: PassphraseSource::Fixed(PASSPHRASE.to_string().into()),
        ..Default::default()
    };
    let codec = Codec::new(options);
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(world.replica()));
    let volumes: Vec<_> =
        storage.list().unwrap().into_iter().filter(|listed| listed.name.contains(".vol")).collect();
    assert!(volumes.len() > 10, "{volumes:?}");
    for listed in volumes {
        let encoding = StoredName::parse(&listed.name, &Prefixes::default()).unwrap().encoding;
        let table = codec
            .table(Arc::new(StoredFile::new(storage.clone(), listed.clone())), encoding)
            .unwrap();
        assert!(table.is_some(), "'{}' has no table", listed.name);
    }
}

#[test]
fn unencrypted_becomes_encrypted() {
    let world = World::new(Encoding::Gzip);
    world.replicate(Encoding::Symmetric, &[]).success();
    assert!(files(&world.replica()).into_keys().all(|name| name.ends_with(".gpg")));
    assert_tables(&world);
    world.check(Encoding::Symmetric, Writer::Old);
}

#[test]
fn encrypted_becomes_unencrypted() {
    let world = World::new(Encoding::Symmetric);
    world.replicate(Encoding::Gzip, &[]).success();
    let names = files(&world.replica());
    assert!(
        names.keys().all(|name| name.ends_with(".gz") || name.ends_with(".manifest")),
        "{:?}",
        names.keys()
    );
    assert_tables(&world);
    world.check(Encoding::Gzip, Writer::New);
}

#[test]
fn other_keys_and_a_signature() {
    let world = World::new(Encoding::PublicKey);
    world.replicate(Encoding::Signed, &[]).success();
    // Now that all is signed, nothing has to be done anew.
    let signed = files(&world.replica());
    world.exchange();
    world.replicate(Encoding::Signed, &[]).success();
    assert!(signed == files(&world.replica()), "signed files were not copied as they are");
    std::fs::remove_dir_all(world.env.root().join("original")).unwrap();
    world.check(Encoding::Signed, Writer::Dupfs);
}

/// As the original does it, but for its manifests; and whatever is stored as it should be stays
/// byte by byte.
#[test]
fn the_same_settings_copy_bytes() {
    let world = World::new(Encoding::Gzip);
    let outcome = world.replicate(Encoding::Gzip, &[]).success();
    let (original, replica) = (files(&world.env.store()), files(&world.replica()));
    assert!(original == replica, "{:?} became {:?}", original.keys(), replica.keys());
    assert_eq!(
        told(&outcome),
        original.keys().filter(|name| !name.ends_with("manifest")).cloned().collect::<Vec<_>>()
    );
    let again = world.replicate(Encoding::Gzip, &[]).success();
    assert!(
        told(&again).is_empty() && again.stdout.contains("Last full backup date: Sat Nov 18"),
        "{again}"
    );
    let again = world.replicate(Encoding::Gzip, &["-v5"]).success();
    assert!(
        again.stdout.contains("already replicated\n")
            && again.stdout.contains("0 sets replicated, 4 were"),
        "{again}"
    );

    std::fs::remove_dir_all(world.replica()).unwrap();
    let theirs = Outcome::of(&mut world.command(Old, Encoding::Gzip, &[])).success();
    assert_eq!(told(&theirs), told(&outcome), "{theirs}");
    let names: Vec<_> = files(&world.replica())
        .into_keys()
        .map(|name| name.replace(".manifest.gz", ".manifest"))
        .collect();
    assert_eq!(names, replica.into_keys().collect::<Vec<_>>());
    // What it has made is understood, and made whole again.
    let readable = |what: &str| {
        let target = world.env.fresh("restored");
        let url = format!("file://{}", world.replica().display());
        let mut command = world.env.dupfs(Encoding::Gzip);
        Outcome::of(command.args(["restore", "--time", &TIMES[2].to_string(), &url]).arg(&target))
            .success();
        assert_same(&world.truths[&TIMES[2]], &Truth::record(&target), what);
        std::fs::remove_dir_all(&target).unwrap();
    };
    readable("a replica that the original has made");
    world.exchange();
    world.replicate(Encoding::Gzip, &[]).success();
    assert!(files(&world.replica()).keys().all(|name| !name.ends_with(".manifest.gz")));
    readable("the replica of that");
}

/// A machine that can only encrypt copies what is encrypted for its keys, and says what it could
/// not check.
#[test]
fn without_a_secret_key() {
    let world = World::new(Encoding::PublicKey);
    let original = files(&world.env.store());
    std::fs::remove_dir_all(world.env.gnupg().join("private-keys-v1.d")).unwrap();
    let _ = world.env.command("gpgconf").args(["--kill", "all"]).output();
    let outcome = world.replicate(Encoding::PublicKey, &[]).success();
    assert!(original == files(&world.replica()), "{outcome}");
    // The archive directory has the manifests, and so the hashes.
    assert!(!outcome.stdout.contains("not checked"), "{outcome}");
    std::fs::remove_dir_all(world.replica()).unwrap();
    world.env.clear_caches();
    let outcome = world.replicate(Encoding::PublicKey, &[]).success();
    assert!(original == files(&world.replica()), "{outcome}");
    assert_eq!(
        outcome.stdout.matches("were copied as they are and not checked").count(),
        4,
        "{outcome}"
    );
    std::fs::remove_dir_all(world.replica()).unwrap();
    // A number that nobody has reached takes no memory, and shows that volumes are missing.
    let far = world.env.store().join("duplicity-full.20231114T221320Z.vol4000000000.difftar.gpg");
    std::fs::write(&far, "far").unwrap();
    world
        .replicate(Encoding::PublicKey, &[])
        .failure(90, &["3 of the backups could not be replicated"]);
    std::fs::remove_file(far).unwrap();
    std::fs::remove_dir_all(world.replica()).unwrap();
    world.replicate(Encoding::Symmetric, &[]).failure(31, &["no secret key"]);
    assert!(files(&world.replica()).is_empty());
}

/// A wrong passphrase must not be carried over: a collection of two passphrases could not be read
/// by anybody.
#[test]
fn a_wrong_passphrase() {
    let world = World::new(Encoding::Symmetric);
    for to in [Encoding::Symmetric, Encoding::Gzip] {
        Outcome::of(world.command(Exchanged, to, &[]).env("PASSPHRASE", "wrong"))
            .failure(31, &["wrong passphrase"]);
        assert!(files(&world.replica()).is_empty(), "{to:?}");
    }
}

/// Damage is not passed on: the chain behind it is left out, the other one is not.
#[test]
fn damage_is_left_out() {
    let world = World::new(Encoding::Gzip);
    let sound = files(&world.env.store());
    let first = |part: &str| {
        sound
            .keys()
            .find(|name| name.contains("duplicity-inc") && name.contains(part))
            .unwrap()
            .clone()
    };
    let path = |name: &str| world.env.store().join(name);
    let (volume, manifest) = (first(".vol1."), first(".manifest"));
    let signatures = sound.keys().find(|name| name.contains("new-signatures")).unwrap().clone();
    let flipped = |name: &str| {
        let mut bytes = sound[name].clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path(name), bytes).unwrap();
    };
    type Damage<'a> = (&'a dyn Fn(), i32, &'a str);
    let damages: [Damage; 4] = [
        (&|| flipped(&volume), 21, "is damaged: its hash is"),
        (&|| std::fs::remove_file(path(&volume)).unwrap(), 90, "is missing"),
        (&|| flipped(&signatures), 90, "is damaged"),
        (
            &|| std::fs::write(path(&manifest), "Volume x:\n").unwrap(),
            90,
            "malformed volume number",
        ),
    ];
    for (to, suffix) in [(Encoding::Gzip, "gz"), (Encoding::Symmetric, "gpg")] {
        for (damage, code, word) in &damages {
            damage();
            let outcome = world
                .replicate(to, &[])
                .failure(*code, &["2 of the backups could not be replicated"]);
            let reason = outcome
                .stdout
                .lines()
                .find(|line| line.contains("is not replicated, and what builds on it: "));
            assert!(reason.is_some_and(|reason| reason.contains(word)), "{word}: {outcome}");
            let manifests = files(&world.replica())
                .into_keys()
                .filter(|name| name.contains(".manifest"))
                .collect::<Vec<_>>();
            assert!(
                manifests.len() == 2
                    && manifests.iter().all(|name| name.contains("duplicity-full")),
                "{manifests:?}"
            );
            // Mended, the same command does the rest.
            [&volume, &signatures, &manifest]
                .iter()
                .for_each(|name| std::fs::write(path(name), &sound[*name]).unwrap());
            world.replicate(to, &[]).success();
            let names: Vec<_> = files(&world.replica()).into_keys().collect();
            assert_eq!(names.len(), sound.len(), "{names:?}");
            assert!(
                names
                    .iter()
                    .filter(|name| name.contains(".vol"))
                    .all(|name| name.ends_with(suffix)),
                "{names:?}"
            );
            std::fs::remove_dir_all(world.replica()).unwrap();
        }
    }
}

#[test]
fn only_what_is_older() {
    let world = World::new(Encoding::Gzip);
    let ends = |outcome: Outcome| {
        let outcome = outcome.success();
        let names = told(&outcome);
        let times = names
            .iter()
            .filter(|name| name.contains(".vol1."))
            .map(|name| name.rsplit_once('Z').unwrap().0.to_string());
        times.map(|name| name[name.len() - 15..].to_string()).collect::<Vec<_>>()
    };
    let time = TIMES[2].to_string();
    // Strictly, as the original has it, whose dry run is none.
    let theirs = ends(Outcome::of(&mut world.command(Old, Encoding::Gzip, &["--time", &time])));
    std::fs::remove_dir_all(world.replica()).unwrap();
    let dry = world.replicate(Encoding::Gzip, &["--time", &time, "--dry-run"]);
    assert!(!world.replica().exists());
    assert_eq!(ends(dry), theirs);
    assert_eq!(ends(world.replicate(Encoding::Gzip, &["--time", &time])), theirs);
    assert_eq!(theirs.len(), 2);
    // The rest comes later.
    assert_eq!(ends(world.replicate(Encoding::Gzip, &[])).len(), 2);
    assert!(files(&world.env.store()) == files(&world.replica()));
}

#[test]
fn nonsense_and_nothing() {
    let env = Env::new();
    let run = |version: Version, words: &[&str]| {
        Outcome::of(env.command(version.checked()).arg("replicate").args(words))
    };
    let url = env.url();
    let copy = format!("file://{}", env.root().join("copy").display());
    for version in [Old, Exchanged] {
        run(version, &["--no-encryption", &url, "somewhere"])
            .failure(2, &["Two URLs expected for replicate."]);
        run(version, &["--no-encryption", &url]).failure(2, &["Expected 2 args, got 1"]);
        let nothing = run(version, &["--no-encryption", &url, &copy]).success();
        assert!(nothing.stdout.contains("No old backup sets found."), "{nothing}");
    }
    run(Exchanged, &["--no-encryption", &url, &format!("{url}/../store")])
        .failure(2, &["same place"]);
    run(Exchanged, &["--no-encryption", "file:///no/such/folder", &copy])
        .failure(52, &["/no/such/folder"]);
    let plain =
        run(Version::Ours, &["--no-encryption", env.store().to_str().unwrap(), "copy"]).success();
    assert!(plain.stdout.contains("No old backup sets found."), "{plain}");
}
