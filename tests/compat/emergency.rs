//! The README's chapter "In an emergency", command by command: volumes of our own, and neither this
//! program nor the original.

use crate::support::{
    Encoding, Env, Kind, Node, Outcome, PASSPHRASE, Path, Random, Tree, Truth, Writer,
};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

/// 2026-08-01 and 2026-08-02 at noon UTC, as in the README.
const FULL: i64 = 1_785_585_600;
const LATER: i64 = FULL + 86_400;

/// Returns the commands of the chapter.
fn commands() -> Vec<String> {
    let readme =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))
            .unwrap();
    let chapter = readme
        .split("\n## In an emergency\n")
        .nth(1)
        .expect("the chapter is there")
        .split("\n## ")
        .next()
        .unwrap();
    chapter.lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_string).collect()
}

/// Returns the chapter's only command that begins with this.
fn command(start: &str) -> String {
    let matching: Vec<_> =
        commands().into_iter().filter(|command| command.starts_with(start)).collect();
    assert_eq!(matching.len(), 1, "{start}: {:?}", commands());
    matching[0].clone()
}

/// Runs a command in a directory; each of its programs has to end well.
fn run(env: &Env, place: &std::path::Path, command: &str) -> Outcome {
    let mut shell = env.command("bash");
    let script = format!("{command}; echo ${{PIPESTATUS[@]}}");
    let outcome = Outcome::of(shell.current_dir(place).args(["-c", &script])).success();
    // GNU tar may leave at the end of the tar, so that gzip has nobody to hand the rest to, and is
    // silently ended by SIGPIPE.
    let codes = outcome.stdout.trim().strip_prefix("141 ").unwrap_or(outcome.stdout.trim());
    assert!(codes.split(' ').all(|code| code == "0"), "{command}: {outcome}");
    // GNU tar tells of the time 0, which deleted paths have, and of a record that says that names
    // are bytes; gpg of keys and signatures.
    for line in outcome.stderr.lines() {
        let harmless = line.contains("implausibly old time stamp")
            || line.contains("unknown extended header keyword 'hdrcharset'");
        let is_tar = line.starts_with("tar: ");
        assert!(
            if is_tar {
                harmless
            } else {
                ["gpg: ", "      \""].iter().any(|start| line.starts_with(start))
            },
            "{command}: {outcome}"
        );
        assert!(
            !["WARNING", "CRC", "packet", "trailing"].iter().any(|word| line.contains(word)),
            "{command}: {outcome}"
        );
    }
    outcome
}

/// Unpacks all volumes whose names hold `set` into a directory, which is made, by a command that
/// names one of them.
fn unpack(env: &Env, command: &str, set: &str, place: &std::path::Path) -> usize {
    std::fs::create_dir(place).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(env.store())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.contains(".difftar") && name.starts_with(set));
    // Any order will do.
    names.sort_by_key(|name| std::cmp::Reverse(name.clone()));
    let place_of = |name: &str| format!("{}/{name}", env.store().display());
    for name in &names {
        let word = command.split(' ').find(|word| word.starts_with("/srv/")).unwrap();
        run(env, place, &command.replace(word, &place_of(name)));
    }
    names.len()
}

/// Returns the contents of what has been unpacked, pieces joined by the chapter's command.
fn contents(env: &Env, place: &std::path::Path, prefix: &str) -> BTreeMap<Path, blake3::Hash> {
    use std::os::unix::ffi::OsStrExt;
    let mut files = BTreeMap::new();
    let record = |place: &std::path::Path| {
        if place.exists() { Truth::record(place) } else { Truth::default() }
    };
    let hash = |content: &crate::support::Content| match content {
        crate::support::Content::File { hash, .. } => Some(*hash),
        _ => None,
    };
    for (path, seen) in record(&place.join(prefix)).0 {
        files.extend(hash(&seen.content).map(|hash| (path, hash)));
    }
    let pieces = place.join(format!("multivol_{prefix}"));
    let join = command("(cd multivol_snapshot/");
    for (path, seen) in record(&pieces).0 {
        if let Some(path) = path.strip_suffix(b"/1").filter(|_| hash(&seen.content).is_some()) {
            let directory = pieces.join(std::ffi::OsStr::from_bytes(path));
            let mut shell = env.command("bash");
            let command = join
                .replace("multivol_snapshot/photo.jpg", "\"$directory\"")
                .replace("> photo.jpg", "> joined");
            Outcome::of(
                shell.current_dir(place).env("directory", directory).args(["-e", "-c", &command]),
            )
            .success();
            files
                .insert(path.to_vec(), blake3::hash(&std::fs::read(place.join("joined")).unwrap()));
        }
    }
    files
}

fn files(tree: &Tree) -> BTreeMap<Path, blake3::Hash> {
    let hash = |node: &Node| {
        if let Kind::File(content) = &node.kind { Some(blake3::hash(content)) } else { None }
    };
    tree.0.iter().filter_map(|(path, node)| Some((path.clone(), hash(node)?))).collect()
}

fn emergency(encoding: Encoding, decode: &str) {
    let env = encoding.env();
    if encoding.needs_keys() || encoding == Encoding::Symmetric {
        // Nobody is there to type it.
        std::fs::create_dir_all(env.gnupg()).unwrap();
        std::fs::set_permissions(env.gnupg(), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(env.home().join("passphrase"), PASSPHRASE).unwrap();
        let options = format!(
            "batch\npinentry-mode loopback\npassphrase-file {}\n",
            env.home().join("passphrase").display()
        );
        std::fs::write(env.gnupg().join("gpg.conf"), options).unwrap();
    }
    let mut random = Random::new(3);
    let first = Tree::new(1_500_000_000)
        .with("photo.jpg", Node::file(random.bytes(1_500_000), 1_500_000_000))
        .with("notes.txt", Node::file(random.bytes(20_000), 1_500_000_000).owner(1000, 1000))
        .with("d", Node::directory(0).mode(0o700))
        .with("d/65536", Node::file(vec![7; 65536], 1))
        .with("d/65535", Node::file(vec![7; 65535], 1))
        .with(b"d/bad\xff", Node::file("bad", 1_500_000_000).mode(0))
        .with(vec![b'n'; 200], Node::file(random.bytes(700_000), 1_500_000_000))
        .with("empty", Node::file("", 2))
        .with("link", Node::symlink("notes.txt", 3));
    let Kind::File(notes) = &first.0[&b"notes.txt"[..]].kind else { unreachable!() };
    let new_notes = [&notes[..9000], b"changed", &notes[12_000..]].concat();
    let mut second = first.clone().with("notes.txt", Node::file(new_notes.clone(), 1_600_000_000));
    second = second.with("new", Node::file(random.bytes(1_200_000), 1_600_000_000));
    second.0.remove(&b"empty"[..]);
    first.write(None, &env.source());
    Writer::Dupfs.backup(&env, encoding, "full", FULL, &[]);
    second.write(Some(&first), &env.source());
    Writer::Dupfs.backup(&env, encoding, "incremental", LATER, &[]);

    let (full, increment) = (env.fresh("full"), env.fresh("increment"));
    assert!(unpack(&env, decode, "duplicity-full.20260801T120000Z.vol", &full) >= 2);
    assert!(
        unpack(&env, decode, "duplicity-inc.20260801T120000Z.to.20260802T120000Z.vol", &increment)
            >= 2
    );
    assert_eq!(contents(&env, &full, "snapshot"), files(&first), "{encoding:?}");
    assert_eq!(
        std::fs::read_link(full.join("snapshot/link")).unwrap(),
        std::path::Path::new("notes.txt")
    );
    assert_eq!(
        contents(&env, &increment, "snapshot"),
        BTreeMap::from([(b"new".to_vec(), files(&second)[&b"new"[..]])])
    );
    assert!(increment.join("deleted/empty").exists());
    run(&env, env.root(), &command("rdiff patch"));
    assert_eq!(std::fs::read(env.root().join("notes.txt")).unwrap(), new_notes);
}

#[test]
fn gzip_and_tar() {
    emergency(Encoding::Gzip, &command("gzip -dc"));
}

#[test]
fn gpg_and_tar() {
    for encoding in [Encoding::Symmetric, Encoding::PublicKey, Encoding::Hidden, Encoding::Signed] {
        emergency(encoding, &command("gpg -d"));
    }
}

#[test]
fn tar_alone() {
    emergency(Encoding::Plain, "tar -xf /srv/backups");
}
