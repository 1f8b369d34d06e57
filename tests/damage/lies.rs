//! Signature files that are sound in themselves, and list something else than the volumes hold:
//! volumes decide. Everything is restored as it was saved, with exit code 0, as by duplicity; a
//! mount may show the signature file's word until a volume is read.

use crate::support::{
    Encoding, Env, Kind, Mounted, Node, Outcome, Random, Tree, Truth, Writer, assert_same,
};
use std::io::Read;
use std::path::{Path, PathBuf};

const TIMES: [i64; 3] = [1_785_585_600, 1_785_672_000, 1_785_758_400];

/// Two full sets, the second with more in it, and an increment on that.
struct World {
    env: Env,
    encoding: Encoding,
    truths: Vec<Truth>,
    sound: PathBuf,
}

fn world(writer: Writer, encoding: Encoding) -> World {
    let env = encoding.env();
    let mut random = Random::new(3);
    let mut file = |size: usize| Node::file(random.bytes(size), 1_000_000);
    let first = Tree::new(1_000_000)
        .with("a", file(20))
        .with("link", Node::symlink("a", 1_000_000))
        .with("z", file(9));
    let second = first
        .clone()
        .with("b", file(800_000))
        .with("d", Node::directory(1_000_000))
        .with("d/x", file(700_000));
    let second = second.with("d/y", file(5)).with("p", Node::new(Kind::Fifo, 1_000_000));
    let mut third = second
        .clone()
        .with("new", file(100))
        .with("z", Node::file("now longer than before", 2_000_000));
    third.0.remove(&b"a"[..]);
    let mut truths: Vec<Truth> = Vec::new();
    let mut before = None;
    for (tree, (time, action)) in
        [first, second, third].iter().zip(TIMES.iter().zip(["full", "full", "incremental"]))
    {
        tree.write(before, &env.source());
        writer.backup(&env, encoding, action, *time, &[]);
        let below = truths.last().filter(|_| action == "incremental");
        truths.push(Truth::of(tree).kept_after(below));
        before = Some(tree);
    }
    let sound = env.fresh("sound");
    copy(&env, &env.store(), &sound);
    World { env, encoding, truths, sound }
}

/// Copies a folder to a place that is free.
fn copy(env: &Env, from: &Path, to: &Path) {
    Outcome::of(env.command("cp").arg("-a").args([from, to])).success();
}

impl World {
    /// Returns the signature file of the set at one of the times, in a directory.
    fn signatures(&self, place: &Path, number: usize) -> PathBuf {
        let is_meant = |name: &str| match number {
            2 => name.starts_with("duplicity-new-signatures"),
            _ => {
                name.starts_with("duplicity-full-signatures.")
                    && name.contains(["20260801", "20260802"][number])
            }
        };
        let names = std::fs::read_dir(place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let found: Vec<_> = names.filter(|name| is_meant(name)).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        place.join(&found[0])
    }

    fn mend(&self) {
        std::fs::remove_dir_all(self.env.store()).unwrap();
        copy(&self.env, &self.sound, &self.env.store());
    }

    /// Restores all times; where `liar` is the set that is lied about, those that need it report
    /// the lie, once.
    fn check_restore(&self, liar: usize, what: &str) {
        for (number, (time, truth)) in TIMES.iter().zip(&self.truths).enumerate() {
            let target = self.env.root().join("restored");
            let _ = std::fs::remove_dir_all(&target);
            let outcome = self.env.restore(self.encoding, *time, &target).success();
            assert_same(
                truth,
                &Truth::record(&target),
                &format!("{what}, restored at {number}: {outcome}"),
            );
            let said = outcome.stderr.matches("the signature file of set").count();
            assert!(said <= 1, "{what} at {number}: {outcome}");
            assert!(number >= liar || said == 0, "{what} at {number}: {outcome}");
        }
    }

    fn check_verify(&self, what: &str) {
        let time = TIMES[2].to_string();
        let outcome = self.env.ask_to(
            self.encoding,
            &["verify", "--compare-data", "--time", &time],
            &self.env.source(),
        );
        assert_eq!(outcome.code, 0, "{what}: {outcome}");
        assert!(outcome.stdout.contains(" 0 differences found"), "{what}: {outcome}");
    }

    /// Reads a file in a cold mount, which need not show the truth before.
    fn check_mount(&self, what: &str) {
        self.env.forget();
        let mounted = Mounted::new(&self.env, self.encoding);
        for (time, truth) in TIMES[1..].iter().zip(&self.truths[1..]) {
            let directory = mounted.at(*time);
            // Some file of each volume; it may be one that is not shown yet.
            for name in ["b", "d/x", "d/y", "z"] {
                let _ = std::fs::read(directory.join(name));
            }
            assert_same(
                truth,
                &Truth::record(&directory),
                &format!("{what}, mounted: {}", mounted.log()),
            );
        }
    }
}

impl Env {
    /// Forgets our own catalogs.
    fn forget(&self) {
        let _ = std::fs::remove_dir_all(self.cache().join("dupfs"));
    }
}

/// Copies a signature file, member by member: `change` changes a header, and tells whether the
/// member stays.
fn edit(file: &Path, mut change: impl FnMut(&str, &mut tar::Header) -> bool) {
    let bytes = std::fs::read(file).unwrap();
    let mut copy = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut header = entry.header().clone();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        if change(&name, &mut header) {
            header.set_cksum();
            copy.append(&header, &data[..]).unwrap();
        }
    }
    std::fs::write(file, copy.into_inner().unwrap()).unwrap();
}

/// Appends nothing, but renames one member: one path is missing, another one too many.
fn rename(header: &mut tar::Header, name: &str) -> bool {
    let field = &mut header.as_old_mut().name;
    *field = [0; 100];
    field[..name.len()].copy_from_slice(name.as_bytes());
    true
}

type Lie = (&'static str, usize, fn(&str, &mut tar::Header) -> bool);

const LIES: [Lie; 11] = [
    ("a file is missing", 1, |name, _| name != "signature/d/y"),
    ("a directory is missing", 1, |name, _| name != "snapshot/d/"),
    ("the last file is missing", 1, |name, _| name != "signature/z"),
    ("the top is missing", 1, |name, _| name != "snapshot/"),
    ("a fifo is called otherwise", 1, |name, header| {
        name != "snapshot/p" || rename(header, "snapshot/o")
    }),
    ("another target", 1, |name, header| {
        name != "snapshot/link" || header.set_link_name("b").is_ok()
    }),
    ("another mode", 1, |name, header| {
        if name == "signature/d/x" {
            header.set_mode(0o4755);
        }
        true
    }),
    ("another owner", 1, |name, header| {
        if name == "signature/d/x" {
            header.set_uid(header.uid().unwrap() + 1);
        }
        true
    }),
    ("another type", 1, |name, header| {
        if name == "signature/d/y" {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name("a").unwrap();
            rename(header, "snapshot/d/y");
        }
        true
    }),
    ("a deletion is missing", 2, |name, _| name != "deleted/a"),
    ("a deletion is one of another file", 2, |name, header| {
        name != "deleted/a" || rename(header, "deleted/b")
    }),
];

fn lies(writer: Writer) {
    let world = world(writer, Encoding::Plain);
    for (what, liar, change) in LIES {
        world.mend();
        world.env.clear_caches();
        edit(&world.signatures(&world.env.store(), liar), change);
        world.check_mount(what);
        world.env.forget();
        world.check_restore(liar, what);
        world.env.forget();
        world.check_verify(what);
    }
}

#[test]
fn lies_beside_volumes_of_the_old_version() {
    lies(Writer::Old);
}

#[test]
fn lies_beside_our_own_volumes() {
    lies(Writer::Dupfs);
}

/// Whole signature files in the place of another: without any key, that is all that somebody at the
/// storage can do.
fn exchanges(writer: Writer, encoding: Encoding) {
    let world = world(writer, encoding);
    for (what, number, bytes) in [
        ("the full set's of before", 1, std::fs::read(world.signatures(&world.sound, 0)).unwrap()),
        ("the full set's", 2, std::fs::read(world.signatures(&world.sound, 1)).unwrap()),
        ("nothing", 1, Vec::new()),
    ] {
        world.mend();
        world.env.clear_caches();
        std::fs::write(world.signatures(&world.env.store(), number), bytes).unwrap();
        world.check_mount(what);
        world.env.forget();
        world.check_restore(number, what);
        world.env.forget();
        world.check_verify(what);
        // Only this file is asked for, and the set's list lacks it.
        if number == 1 {
            world.env.forget();
            let target = world.env.root().join("y");
            let _ = std::fs::remove_file(&target);
            let path = ["restore", "--path-to-restore", "d/y", "--time", &TIMES[1].to_string()];
            world.env.ask_to(encoding, &path, &target).success();
            assert_eq!(std::fs::read(&target).unwrap().len(), 5);
        }
    }
}

#[test]
fn an_older_signature_file_in_the_place_of_a_newer_one() {
    exchanges(Writer::Old, Encoding::Symmetric);
}

#[test]
fn an_older_signature_file_in_the_place_of_one_of_our_own() {
    exchanges(Writer::Dupfs, Encoding::Gzip);
}

/// The archive directory's copies are no better, and what came from them goes with them.
#[test]
fn another_signature_file_in_the_archive_directory() {
    let world = world(Writer::Old, Encoding::Symmetric);
    let archive = world.env.archive_of_url(&world.env.url());
    let [first, second] = [0, 1].map(|number| world.signatures(&archive, number));
    let whole = std::fs::read(&second).unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    for (what, bytes) in
        [("another", std::fs::read(&first).unwrap()), ("cut", cut), ("empty", Vec::new())]
    {
        std::fs::write(&second, &bytes).unwrap();
        world.check_mount(what);
        world.env.forget();
        world.check_restore(1, what);
        world.env.forget();
        world.check_verify(what);
        // Nothing reads a volume for this.
        world.env.forget();
        let list = || {
            world
                .env
                .ask(world.encoding, &["list-current-files", "--time", &TIMES[1].to_string()])
                .success()
                .stdout
        };
        let (listed, hidden) = (list(), world.env.root().join("hidden"));
        std::fs::rename(&archive, &hidden).unwrap();
        let expected = list();
        assert!(expected.contains(" d/y\n"), "{expected}");
        std::fs::rename(&hidden, &archive).unwrap();
        assert!(what == "another" || listed == expected, "{what}: {listed}");
    }
}

/// The next backup knows what is saved, and makes no delta against a signature that is none of
/// that.
#[test]
fn an_increment_on_a_contradicted_set_is_whole() {
    let world = world(Writer::Dupfs, Encoding::Plain);
    let older = std::fs::read(world.signatures(&world.sound, 0)).unwrap();
    world.env.clear_caches();
    std::fs::write(world.signatures(&world.env.store(), 1), older).unwrap();
    world.check_restore(1, "before");
    std::fs::write(world.env.source().join("d/y"), "more than five").unwrap();
    std::fs::remove_file(world.env.source().join("d/x")).unwrap();
    let time = TIMES[2] + 86400;
    Writer::Dupfs.backup(&world.env, world.encoding, "incremental", time, &[]);
    world.env.forget();
    let target = world.env.fresh("next");
    world.env.restore(world.encoding, time, &target).success();
    assert_same(&Truth::record(&world.env.source()), &Truth::record(&target), "the next increment");
}

/// The manifest of an increment with nothing in it names the top, which no volume and no signature
/// file of it has.
#[test]
fn an_empty_increment_is_no_lie() {
    for writer in Writer::ALL {
        let env = Encoding::Gzip.env();
        let tree = Tree::new(1_000_000).with("a", Node::file("a", 1_000_000));
        tree.write(None, &env.source());
        writer.backup(&env, Encoding::Gzip, "full", TIMES[0], &[]);
        writer.backup(&env, Encoding::Gzip, "incremental", TIMES[1], &[]);
        env.clear_caches();
        let target = env.fresh("restored");
        let outcome = env.restore(Encoding::Gzip, TIMES[1], &target).success();
        assert!(!outcome.stderr.contains("signature file"), "{writer:?}: {outcome}");
        assert_same(&Truth::of(&tree), &Truth::record(&target), &format!("{writer:?}"));
    }
}

/// The manifest is encrypted, so its copy is what is read first. It is no proof of damage.
#[test]
fn another_manifest_in_the_archive_directory() {
    let world = world(Writer::New, Encoding::Symmetric);
    let archive = world.env.archive_of_url(&world.env.url());
    let [first, second] = ["20260801", "20260802"].map(|day| {
        let mut names = std::fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path());
        let is_meant = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&format!("duplicity-full.{day}")) && name.ends_with(".manifest")
        };
        names.find(is_meant).unwrap()
    });
    let sound = std::fs::read_to_string(&second).unwrap();
    let hash = sound.lines().find_map(|line| line.trim().strip_prefix("Hash SHA1 ")).unwrap();
    let lies = [
        ("another set's", std::fs::read_to_string(&first).unwrap()),
        ("another hash", sound.replace(hash, &"0".repeat(40))),
        ("another last path", sound.replacen("EndingPath    ", "EndingPath    A", 1)),
        (
            "a volume too many",
            sound.trim_end().to_string()
                + "\nVolume 9:\n    StartingPath   zz \n    EndingPath     zz \n",
        ),
        ("empty", String::new()),
    ];
    for (what, lie) in lies {
        assert_ne!(lie, sound, "{what}");
        std::fs::write(&second, &lie).unwrap();
        world.check_mount(what);
        world.env.forget();
        world.check_restore(1, what);
        world.env.forget();
        world.check_verify(what);
        world.env.forget();
        let target = world.env.root().join("one");
        let path = ["restore", "--path-to-restore", "d/y", "--time", &TIMES[1].to_string()];
        world.env.ask_to(world.encoding, &path, &target).success();
        assert_eq!(std::fs::read(&target).unwrap().len(), 5, "{what}");
        std::fs::remove_file(&target).unwrap();
    }
}

/// An increment rests on signature files, so each has to be the one that was stored with its set:
/// what was seen of it before, else the stored file, else the volumes' tables tell. The source is
/// as it was in the first set again, to which the older signature file belongs.
#[test]
fn an_increment_rests_on_no_other_signature_file() {
    for (writer, encoding, places) in [
        (
            Writer::Dupfs,
            Encoding::Plain,
            &["copy", "both", "stored", "stored, nothing known", "empty copy"][..],
        ),
        (Writer::Dupfs, Encoding::Symmetric, &["copy", "both", "stored, nothing known"]),
        (Writer::Old, Encoding::Symmetric, &["copy", "empty copy"]),
    ] {
        let env = encoding.env();
        let mut random = Random::new(5);
        let [first, second] = [1_000_000, 2_000_000]
            .map(|time| Tree::new(time).with("f", Node::file(random.bytes(100_000), time)));
        // What the older signature file lacks shows by the manifest.
        let second = if encoding == Encoding::Plain {
            second.with("z", Node::file("last", 2_000_000))
        } else {
            second
        };
        let mut before = None;
        for (tree, time) in [&first, &second].into_iter().zip(TIMES) {
            tree.write(before, &env.source());
            writer.backup(&env, encoding, "full", time, &[]);
            before = Some(tree);
        }
        first.write(before, &env.source());
        let world = World { encoding, truths: Vec::new(), sound: env.fresh("sound"), env };
        let kept = world.env.fresh("kept");
        for (from, to) in [(world.env.store(), &world.sound), (world.env.cache(), &kept)] {
            copy(&world.env, &from, to);
        }
        for place in places {
            world.mend();
            std::fs::remove_dir_all(world.env.cache()).unwrap();
            copy(&world.env, &kept, &world.env.cache());
            let archive = world.env.archive_of_url(&world.env.url());
            let older = |place: &Path| {
                std::fs::copy(world.signatures(place, 0), world.signatures(place, 1)).unwrap()
            };
            match *place {
                "copy" => drop(older(&archive)),
                "empty copy" => std::fs::write(world.signatures(&archive, 1), "").unwrap(),
                "both" => drop((older(&archive), older(&world.env.store()))),
                _ => {
                    older(&world.env.store());
                    std::fs::remove_dir_all(&archive).unwrap();
                }
            }
            if place.ends_with("nothing known") {
                world.env.forget();
            }
            let outcome = Writer::Dupfs.backup(&world.env, encoding, "incremental", TIMES[2], &[]);
            let what = format!("{writer:?}, {encoding:?}, {place}: {outcome}");
            assert_eq!(what.matches("signature file of set").count(), 1, "{what}");
            world.env.forget();
            let target = world.env.root().join("restored");
            let _ = std::fs::remove_dir_all(&target);
            world.env.restore(encoding, TIMES[2], &target).success();
            assert_same(&Truth::of(&first), &Truth::record(&target), &what);
        }
    }
}
