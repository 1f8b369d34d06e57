//! A storage that is away for a moment: what was asked meanwhile has failed, and nothing else. It
//! damages nothing, and takes no snapshot away.

use crate::support::{
    Encoding, Env, Mounted, Node, Outcome, Random, Tree, Truth, Writer, assert_same,
};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const TIMES: [i64; 2] = [1_785_585_600, 1_785_672_000];

#[test]
fn what_comes_back_is_read_at_once() {
    for (writer, encoding) in [(Writer::Old, Encoding::Gzip), (Writer::Dupfs, Encoding::Symmetric)]
    {
        let env = encoding.env();
        let mut random = Random::new(5);
        let big = random.bytes(3_000_000);
        let first = Tree::new(1_000_000)
            .with("a", Node::file(random.bytes(700_000), 1_000_000))
            .with("big", Node::file(big.clone(), 5));
        let second = first.clone().with("z", Node::file(random.bytes(9), 1_000_000));
        first.write(None, &env.source());
        writer.backup(&env, encoding, "full", TIMES[0], &[]);
        second.write(Some(&first), &env.source());
        writer.backup(&env, encoding, "incremental", TIMES[1], &[]);
        env.clear_caches();
        let away = env.fresh("away");
        let takes = |from: &Path, to: &Path| std::fs::rename(from, to).unwrap();

        let mounted = Mounted::with(&env, encoding, &["--refresh", "1s"]);
        let snapshots = mounted.snapshots();
        assert!(snapshots.keys().eq(&TIMES));
        takes(&env.store(), &away);
        // Nothing of a volume is known yet; and the storage is looked at in vain.
        let place = mounted.at(TIMES[1]);
        for name in ["a", "big", "z"] {
            let error = std::fs::read(place.join(name)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EIO), "{name}: {}", mounted.log());
        }
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(mounted.snapshots(), snapshots, "{}", mounted.log());
        // As a mountpoint where nothing is mounted.
        std::fs::create_dir(env.store()).unwrap();
        std::thread::sleep(Duration::from_millis(2100));
        assert_eq!(mounted.snapshots(), snapshots, "{}", mounted.log());
        let error = std::fs::read(place.join("z")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{}", mounted.log());
        std::fs::remove_dir(env.store()).unwrap();
        takes(&away, &env.store());
        assert_eq!(std::fs::read(place.join("z")).unwrap().len(), 9, "{}", mounted.log());

        let file = std::fs::File::open(place.join("big")).unwrap();
        let read = |offset: u64| {
            let mut bytes = vec![0; 1000];
            file.read_exact_at(&mut bytes, offset)
                .map(|()| assert_eq!(bytes, big[offset as usize..][..1000]))
        };
        read(0).unwrap();
        takes(&env.store(), &away);
        assert_eq!(
            read(2_900_000).unwrap_err().raw_os_error(),
            Some(libc::EIO),
            "{}",
            mounted.log()
        );
        takes(&away, &env.store());
        read(2_900_000).unwrap();
        for (time, tree) in TIMES.iter().zip([first, second]) {
            assert_same(&Truth::of(&tree), &mounted.record(*time), &mounted.log());
        }
    }
}

/// Makes a world of two chains, of which the newer one takes no key.
fn two_chains(encoding: Encoding) -> Env {
    let env = encoding.env();
    Tree::new(1_000_000).with("a", Node::file("content", 1_000_000)).write(None, &env.source());
    Writer::Dupfs.backup(&env, encoding, "full", TIMES[0], &[]);
    Writer::Dupfs.backup(&env, Encoding::Gzip, "full", TIMES[1], &[]);
    env.clear_caches();
    env
}

/// gpg finds no secret key where it does not reach its agent: that says nothing of the key.
#[test]
fn an_agent_that_is_away_for_a_moment_closes_no_chain() {
    let env = two_chains(Encoding::PublicKey);
    let options = env.gnupg().join("gpg.conf");
    let had = std::fs::read(&options).unwrap_or_default();
    std::fs::write(&options, "no-autostart\n").unwrap();
    Outcome::of(env.command("gpgconf").args(["--kill", "all"])).success();
    let mounted = Mounted::new(&env, Encoding::PublicKey);
    assert!(mounted.snapshots().keys().eq(&TIMES), "{}", mounted.log());
    let error = std::fs::read(mounted.at(TIMES[0]).join("a")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{}", mounted.log());
    assert!(mounted.log().contains("agent"), "{}", mounted.log());
    std::fs::write(&options, had).unwrap();
    assert_eq!(
        std::fs::read(mounted.at(TIMES[0]).join("a")).unwrap(),
        b"content",
        "{}",
        mounted.log()
    );
}

/// A chain without key is named once, and looked at again when its newest manifest is another.
#[test]
fn a_chain_that_was_mended_gets_its_folder() {
    let env = two_chains(Encoding::Symmetric);
    let files = std::fs::read_dir(env.store()).unwrap().map(|entry| entry.unwrap().path());
    let manifest = { files }.find(|path| path.to_str().unwrap().ends_with("manifest.gpg")).unwrap();
    let good = std::fs::read(&manifest).unwrap();
    let mut bad = good.clone();
    bad[8] ^= 1; // of the salt
    std::fs::write(&manifest, bad).unwrap();
    let mounted = Mounted::with(&env, Encoding::Symmetric, &["--refresh", "1s"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(mounted.snapshots().keys().eq(&TIMES[1..]), "{}", mounted.log());
    assert_eq!(mounted.log().matches("cannot show the backups of").count(), 1, "{}", mounted.log());
    std::fs::write(&manifest, good).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while mounted.snapshots().len() < 2 {
        assert!(Instant::now() < end, "{}", mounted.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        std::fs::read(mounted.at(TIMES[0]).join("a")).unwrap(),
        b"content",
        "{}",
        mounted.log()
    );
}
