//! Broken collections, a table of action × place × encoding: reads that need what is broken fail,
//! all others are right, wrong bytes are never shown; a restore leaves nothing wrong behind and
//! names what it could not deliver.

mod away;
mod hostile;
mod lies;
mod own;

use crate::support::{
    Content, Encoding, Env, Mounted, Node, Outcome, PASSPHRASE, Random, Tree, Truth, Writer,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What is done to a stored file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Truncate,
    Delete,
    /// With another stored file of the same kind.
    Swap,
    FlipStart,
    FlipMiddle,
    FlipEnd,
    Empty,
    Garbage,
    /// In the table behind a volume of our own.
    FlipTable,
    /// The end of such a table.
    CutTable,
    /// The end of another volume, its table included, is put behind it.
    AppendTable,
    /// The frames of another volume stand before its table.
    OtherFrames,
}

const ACTIONS: [Action; 8] = [
    Action::Truncate,
    Action::Delete,
    Action::Swap,
    Action::FlipStart,
    Action::FlipMiddle,
    Action::FlipEnd,
    Action::Empty,
    Action::Garbage,
];

impl Action {
    /// Tells whether a volume's table survives it, so that what is damaged can be told from what is
    /// not.
    fn spares_table(self) -> bool {
        matches!(self, Self::FlipStart | Self::FlipMiddle | Self::FlipEnd | Self::OtherFrames)
    }
}

/// Which stored file is broken: of the full set, or of the first incremental set on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FullVolume,
    IncrementalVolume,
    SignatureFile,
    Manifest,
}

/// Two chains: a full set and two incremental ones, then a full set that has nothing to do with
/// them.
const TIMES: [i64; 4] = [1_785_585_600, 1_785_672_000, 1_785_758_400, 1_785_844_800];
const NAMES: [&str; 4] =
    ["20260801T120000Z", "20260802T120000Z", "20260803T120000Z", "20260804T120000Z"];

/// A sound collection, what it must show, and a place to break copies of it.
struct Base {
    writer: Writer,
    encoding: Encoding,
    env: Env,
    sound: PathBuf,
    truths: BTreeMap<i64, Truth>,
}

/// Makes the collection: files of many sizes, two and more volumes a set.
fn base(writer: Writer, encoding: Encoding) -> Base {
    let env = encoding.env();
    let mut random = Random::new(7);
    let mut tree = Tree::new(1_000_000)
        .with("dir", Node::directory(1_000_000))
        .with("link", Node::symlink("file-00", 1_000_000));
    for number in 0..24 {
        let size = [0, 10, 3000, 70_000, 150_000, 400_000][number % 6];
        let path = format!("{}file-{number:02}", if number % 2 == 0 { "" } else { "dir/" });
        tree = tree.with(path, Node::file(random.bytes(size), 1_000_000));
    }
    let mut truths: BTreeMap<i64, Truth> = BTreeMap::new();
    let mut before = None;
    for (number, time) in TIMES.into_iter().enumerate() {
        tree.write(before.as_ref(), &env.source());
        let full = number % 3 == 0;
        writer.backup(&env, encoding, if full { "full" } else { "incremental" }, time, &[]);
        let below = truths.last_key_value().map(|(_, truth)| truth).filter(|_| !full);
        truths.insert(time, Truth::of(&tree).kept_after(below));
        before = Some(tree.clone());
        for (path, node) in
            tree.0.iter_mut().filter(|(path, _)| path.ends_with(b"4") || path.ends_with(b"5"))
        {
            let tail = random.bytes(350_000);
            let crate::support::Kind::File(content) = &node.kind else {
                panic!("'{}' is no file", path.escape_ascii())
            };
            *node = Node::file([&content[..content.len() / 2], &tail].concat(), node.mtime + 100);
        }
        tree = tree.with(format!("new-{number}"), Node::file(random.bytes(200_000), 2_000_000));
    }
    env.clear_caches();
    let sound = env.fresh("sound");
    std::fs::rename(env.store(), &sound).unwrap();
    Base { writer, encoding, env, sound, truths }
}

impl Base {
    /// Puts a fresh copy of the sound collection in its place.
    fn mend(&self) {
        let _ = std::fs::remove_dir_all(self.env.store());
        self.env.clear_caches();
        Outcome::of(self.env.command("cp").arg("-a").arg(&self.sound).arg(self.env.store()))
            .success();
    }

    /// Returns the stored file of a place, and the one that [`Action::Swap`] swaps it with.
    fn files(&self, place: Place) -> [PathBuf; 2] {
        let [first, second, third, _] = NAMES;
        let names = match place {
            Place::FullVolume => {
                [2, 1].map(|volume| format!("duplicity-full.{first}.vol{volume}.difftar"))
            }
            Place::IncrementalVolume => [1, 2]
                .map(|volume| format!("duplicity-inc.{first}.to.{second}.vol{volume}.difftar")),
            Place::SignatureFile => [
                format!("new-signatures.{first}.to.{second}.sigtar"),
                format!("new-signatures.{second}.to.{third}.sigtar"),
            ],
            Place::Manifest => [
                format!("inc.{first}.to.{second}.manifest"),
                format!("inc.{second}.to.{third}.manifest"),
            ],
        };
        names.map(|name| {
            let found = std::fs::read_dir(&self.sound)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let matching: Vec<_> = found
                .filter(|file| file.contains(&format!("{name}.")) || file.ends_with(&name))
                .collect();
            assert_eq!(matching.len(), 1, "{name}: {matching:?}");
            self.env.store().join(&matching[0])
        })
    }

    /// Returns the paths of files with bytes in a volume.
    fn files_in(&self, volume: &Path) -> BTreeSet<String> {
        let volume = self.sound.join(volume.file_name().unwrap());
        let mut command = self.env.command(match self.encoding {
            Encoding::Plain => "cat",
            Encoding::Gzip => "gzip",
            _ => "gpg",
        });
        match self.encoding {
            Encoding::Plain => {}
            Encoding::Gzip => drop(command.arg("-d")),
            _ => drop(command.args([
                "--batch",
                "--quiet",
                "--pinentry-mode=loopback",
                "--passphrase",
                PASSPHRASE,
                "-d",
            ])),
        }
        let output = command.stdin(std::fs::File::open(volume).unwrap()).output().unwrap();
        let mut paths = BTreeSet::new();
        // Garbage may follow the archive's end.
        for entry in tar::Archive::new(&output.stdout[..]).entries().unwrap().map_while(Result::ok)
        {
            let name = entry.path_bytes().into_owned();
            let (kind, path) = name.split_at(name.iter().position(|&b| b == b'/').unwrap());
            let mut path = path[1..].to_vec();
            if kind.starts_with(b"multivol_") {
                path.truncate(path.iter().rposition(|&b| b == b'/').unwrap());
            }
            if entry.size() > 0 {
                paths.insert(text(&path));
            }
        }
        assert!(!paths.is_empty(), "no files in {:?}", output.stderr);
        paths
    }
}

fn inflict(action: Action, [file, other]: &[PathBuf; 2]) {
    let mut bytes = std::fs::read(file).unwrap();
    let length = bytes.len();
    match action {
        Action::Truncate => bytes.truncate(length / 2),
        Action::Delete => return std::fs::remove_file(file).unwrap(),
        Action::Swap => {
            bytes = std::fs::read(other).unwrap();
            std::fs::copy(file, other).unwrap();
        }
        Action::FlipStart => bytes[0] ^= 0x20,
        Action::FlipMiddle => bytes[length / 2] ^= 0x20,
        Action::FlipEnd => bytes[length - 1] ^= 0x20,
        Action::Empty => bytes.clear(),
        Action::Garbage => bytes = Random::new(99).bytes(length),
        // Before footer and trailers, which have some 100 bytes.
        Action::FlipTable => bytes[length - 150] ^= 0x20,
        Action::CutTable => bytes.truncate(length - 150),
        Action::AppendTable => {
            let others = std::fs::read(other).unwrap();
            bytes.extend_from_slice(&others[others.len() - 20_000..]);
        }
        Action::OtherFrames => {
            let others = std::fs::read(other).unwrap();
            let count = length.min(others.len()) / 2;
            bytes[..count].copy_from_slice(&others[..count]);
        }
    }
    std::fs::write(file, bytes).unwrap();
}

/// Plays every action at a place.
fn table(writer: Writer, encoding: Encoding, place: Place, actions: &[Action]) {
    let base = base(writer, encoding);
    let files = base.files(place);
    for &action in actions {
        base.mend();
        inflict(action, &files);
        let what = format!("{action:?} {place:?} {encoding:?}");
        // Files that may fail, from the broken set to its chain's end; nothing is known of a broken
        // catalogue.
        let mut hit = BTreeSet::new();
        if matches!(place, Place::FullVolume | Place::IncrementalVolume) {
            hit = base.files_in(&files[0]);
            if action == Action::Swap {
                hit.extend(base.files_in(&files[1]));
            }
        }
        let swapped = action == Action::Swap && place == Place::SignatureFile;
        // Else a whole volume is as good as its worst byte.
        let is_partly_hit = base.writer == Writer::Dupfs && action.spares_table();
        let most = match action {
            // A chunk of 64 KiB lies in two frames of 128 KiB at most, of eight: what has no byte
            // in these is spared.
            Action::FlipMiddle => hit.len() * 3 / 4,
            _ => hit.len(),
        };
        let readable = is_partly_hit.then_some(hit.len() - most);
        check_mount(&base, place, &hit, readable, swapped, &what);
        check_restore(&base, place, &what);
        if matches!(place, Place::FullVolume | Place::IncrementalVolume) {
            check_verify(&base, place, &hit, action == Action::Delete, &what);
        }
    }
}

/// Looks at every backup time; `swapped` tells that the broken set has sound metadata of another
/// set: nothing in the format ties a signature file to its set, so only contents, which volumes
/// hold, are certain.
///
/// `readable` is how many of the files that are hit have to be readable at least, if some may be;
/// else none must be.
fn check_mount(
    base: &Base,
    place: Place,
    hit: &BTreeSet<String>,
    readable: Option<usize>,
    swapped: bool,
    what: &str,
) {
    let mounted = Mounted::new(&base.env, base.encoding);
    let shown = mounted.snapshots();
    let broken = if place == Place::FullVolume { 0 } else { 1 };
    for (number, (time, truth)) in base.truths.iter().enumerate() {
        let Some(directory) = shown.get(time) else {
            let log = mounted.log();
            assert!(
                (broken..3).contains(&number) && log.contains(NAMES[number]),
                "{what}: {time} is gone without a word: {log}"
            );
            continue;
        };
        let mut seen = Truth::record(directory);
        let mut truth = truth.clone();
        let empty = Content::File { size: 0, hash: blake3::hash(b"") };
        // Whether an empty file needs its volume is open: its size is in the signature file, too.
        let is_empty =
            |path: &Vec<u8>| truth.0.get(path).is_some_and(|right| right.content == empty);
        let failed: Vec<Vec<u8>> = seen.unreadable().into_keys().cloned().collect();
        let unreadable: BTreeSet<String> =
            failed.iter().filter(|path| !is_empty(path)).map(|path| text(path)).collect();
        let errnos: Vec<_> = seen.unreadable().into_values().collect();
        assert!(errnos.iter().all(|errno| *errno == rustix::io::Errno::IO), "{what}: {errnos:?}");
        match place {
            _ if !(broken..3).contains(&number) => {
                assert_eq!(unreadable, BTreeSet::new(), "{what} at {time}: {}", mounted.log())
            }
            Place::FullVolume | Place::IncrementalVolume
                if number == broken && readable.is_none() =>
            {
                assert_eq!(&unreadable, hit, "{what} at {time}: {}", mounted.log());
            }
            Place::FullVolume | Place::IncrementalVolume => {
                assert!(
                    unreadable.is_subset(hit),
                    "{what} at {time}: {unreadable:?}: {}",
                    mounted.log()
                );
                let readable = readable.unwrap_or(0);
                assert!(
                    unreadable.len() + readable <= hit.len(),
                    "{what} at {time}: of {hit:?} only {unreadable:?}: {}",
                    mounted.log()
                );
            }
            Place::SignatureFile | Place::Manifest => {}
        }
        for path in &failed {
            truth.0.remove(path);
            seen.0.remove(path);
        }
        if swapped && (broken..3).contains(&number) {
            truth = contents_in_both(&truth, &seen);
            seen = contents_in_both(&seen, &truth);
        }
        crate::support::assert_same(&truth, &seen, &format!("{what} at {time}"));
    }
}

/// Returns the files of the first that the second has as well, their metadata set aside.
fn contents_in_both(one: &Truth, other: &Truth) -> Truth {
    let shared = one.0.iter().filter(|(path, seen)| {
        matches!(seen.content, Content::File { .. }) && other.0.contains_key(*path)
    });
    Truth(shared.map(|(path, seen)| (path.clone(), seen.bare())).collect())
}

fn text(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

fn check_restore(base: &Base, place: Place, what: &str) {
    let sound = |number: usize| number == 3 || number == 0 && place != Place::FullVolume;
    for number in [0, 1, 3] {
        let target = base.env.root().join("restored");
        let _ = std::fs::remove_dir_all(&target);
        let outcome = base.env.restore(base.encoding, TIMES[number], &target);
        let seen = if target.exists() { Truth::record(&target) } else { Truth::default() };
        let truth = &base.truths[&TIMES[number]];
        if outcome.code == 0 {
            // A set without a usable manifest does not exist: then the one before it answers for
            // its time, as in duplicity.
            let earlier = place == Place::Manifest && number == 1 && seen == base.truths[&TIMES[0]];
            assert!(
                earlier || seen == *truth,
                "{what}: restored wrongly with exit code 0 at {number}"
            );
            continue;
        }
        assert!(
            !sound(number) && !outcome.stderr.trim().is_empty(),
            "{what} at {number}: {outcome}"
        );
        assert!(!outcome.stderr.contains("panicked"), "{what} at {number}: {outcome}");
        let is_file = |truth: &Truth, path: &Vec<u8>| matches!(truth.0.get(path), Some(seen) if matches!(seen.content, Content::File { .. }));
        for (path, entry) in seen.0.iter().filter(|(path, _)| is_file(&seen, path)) {
            let right = truth.0.get(path).map(|right| &right.content);
            assert_eq!(
                Some(&entry.content),
                right,
                "{what} at {number}: '{}' is wrong",
                path.escape_ascii()
            );
        }
        if seen.0.keys().any(|path| is_file(&seen, path)) {
            for path in
                truth.0.keys().filter(|path| is_file(truth, path) && !seen.0.contains_key(*path))
            {
                let name = std::str::from_utf8(path).unwrap();
                assert!(
                    outcome.stderr.contains(name),
                    "{what} at {number}: '{name}' is missing without a word: {outcome}"
                );
            }
        }
    }
}

/// Verifies the time of the set with the broken volume: every file hit is named, and no other. Of
/// the files hit those without bytes are not known.
fn check_verify(base: &Base, place: Place, hit: &BTreeSet<String>, is_missing: bool, what: &str) {
    let time = TIMES[if place == Place::FullVolume { 0 } else { 1 }];
    let outcome = base.env.ask_to(
        base.encoding,
        &["verify", "--time", &time.to_string()],
        &base.env.source(),
    );
    let named = outcome
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("cannot verify '")?.split_once("': "));
    let named: BTreeSet<String> = named.map(|(path, _)| path.to_string()).collect();
    assert!(named.is_superset(hit), "{what}: {hit:?} of {outcome}");
    for path in named.difference(hit) {
        let content = &base.truths[&time].0[path.as_bytes()].content;
        assert!(matches!(content, Content::File { size: 0, .. }), "{what}: {path} of {outcome}");
    }
    // A volume that is missing has no number of its own.
    assert_eq!(outcome.code, if is_missing { 90 } else { 21 }, "{what}: {outcome}");
    assert!(
        !outcome.stdout.contains("Verify complete") && !outcome.stderr.contains("panicked"),
        "{what}: {outcome}"
    );
}

#[test]
fn undamaged_collections_restore_whole() {
    for (writer, encoding) in [
        (Writer::Old, Encoding::Gzip),
        (Writer::Old, Encoding::Symmetric),
        (Writer::Dupfs, Encoding::Plain),
    ] {
        let base = base(writer, encoding);
        base.mend();
        for (time, truth) in &base.truths {
            let target = base.env.fresh(&format!("restored {time}"));
            base.env.restore(encoding, *time, &target).success();
            crate::support::assert_same(truth, &Truth::record(&target), "undamaged");
        }
    }
}

#[test]
fn gzip_volume_of_a_full_set() {
    table(Writer::Old, Encoding::Gzip, Place::FullVolume, &ACTIONS);
}

#[test]
fn gzip_volume_of_an_incremental_set() {
    table(Writer::Old, Encoding::Gzip, Place::IncrementalVolume, &ACTIONS);
}

#[test]
fn gzip_signature_file() {
    table(Writer::Old, Encoding::Gzip, Place::SignatureFile, &ACTIONS);
}

#[test]
fn gzip_manifest() {
    table(Writer::Old, Encoding::Gzip, Place::Manifest, &ACTIONS);
}

#[test]
fn symmetric_volume_of_a_full_set() {
    table(Writer::Old, Encoding::Symmetric, Place::FullVolume, &ACTIONS);
}

#[test]
fn symmetric_volume_of_an_incremental_set() {
    table(Writer::Old, Encoding::Symmetric, Place::IncrementalVolume, &ACTIONS);
}

#[test]
fn symmetric_signature_file() {
    table(Writer::Old, Encoding::Symmetric, Place::SignatureFile, &ACTIONS);
}

#[test]
fn symmetric_manifest() {
    table(Writer::Old, Encoding::Symmetric, Place::Manifest, &ACTIONS);
}
