//! A storage that is away for a moment: what was asked meanwhile has failed, and nothing else. It damages nothing, and takes no snapshot away.

use crate::support::{Encoding, Mounted, Node, Random, Tree, Truth, Writer, assert_same};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const TIMES: [i64; 2] = [1_785_585_600, 1_785_672_000];

#[test]
fn what_comes_back_is_read_at_once() {
    for (writer, encoding) in [(Writer::Old, Encoding::Gzip), (Writer::Dupfs, Encoding::Symmetric)] {
        let env = encoding.env();
        let mut random = Random::new(5);
        let big = random.bytes(3_000_000);
        let first =
            Tree::new(1_000_000).with("a", Node::file(random.bytes(700_000), 1_000_000)).with("big", Node::file(big.clone(), 5));
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
        takes(&away, &env.store());
        assert_eq!(std::fs::read(place.join("z")).unwrap().len(), 9, "{}", mounted.log());

        let file = std::fs::File::open(place.join("big")).unwrap();
        let read = |offset: u64| {
            let mut bytes = vec![0; 1000];
            file.read_exact_at(&mut bytes, offset).map(|()| assert_eq!(bytes, big[offset as usize..][..1000]))
        };
        read(0).unwrap();
        takes(&env.store(), &away);
        assert_eq!(read(2_900_000).unwrap_err().raw_os_error(), Some(libc::EIO), "{}", mounted.log());
        takes(&away, &env.store());
        read(2_900_000).unwrap();
        for (time, tree) in TIMES.iter().zip([first, second]) {
            assert_same(&Truth::of(&tree), &mounted.record(*time), &mounted.log());
        }
    }
}
