//! Files with holes: saved without reading their holes, and the originals restore every byte of
//! them.

use super::Version::{New, Old};
use crate::support::{Duplicity, Encoding, Truth, Writer, assert_same};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

/// Bytes of the file: not a multiple of anything.
const SIZE: u64 = (24 << 20) + 777;

#[test]
fn files_with_holes_are_restored_by_the_originals() {
    for encoding in [Encoding::Gzip, Encoding::Symmetric] {
        let env = encoding.env();
        std::fs::create_dir_all(env.source()).unwrap();
        let file = File::create_new(env.source().join("disk")).unwrap();
        file.set_len(SIZE).unwrap();
        let data: Vec<u8> = (0..100_000u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        file.write_all_at(&data, (5 << 20) + 4096).unwrap();
        assert!(
            file.metadata().unwrap().blocks() < 2000,
            "the file system of the tests knows holes"
        );
        let mut truths = Vec::new();
        let mut save = |time, action| {
            Writer::Dupfs.backup(&env, encoding, action, time, &[]).success();
            truths.push((time, Truth::record(&env.source())));
        };
        save(1_700_000_000, "full");
        // Data in a hole, a hole in the data, and some more of both behind the end.
        file.write_all_at(b"not a hole any more", 17 << 20).unwrap();
        fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 5 << 20, 1 << 18)
            .unwrap();
        file.write_all_at(b"end", SIZE + (3 << 20)).unwrap();
        save(1_700_001_000, "incremental");
        if encoding == Encoding::Symmetric {
            truths.remove(0);
        }
        for (time, truth) in &truths {
            for version in [Old, New] {
                let target = env.fresh(&format!("{version:?} {time}"));
                Duplicity::new(&env, version, encoding).restore(*time, &target);
                assert_same(
                    truth,
                    &Truth::record(&target),
                    &format!("{version:?} of {encoding:?} at {time}"),
                );
            }
            let target = env.fresh(&format!("ours {time}"));
            env.restore(encoding, *time, &target).success();
            assert_same(truth, &Truth::record(&target), &format!("ours of {encoding:?} at {time}"));
            assert!(target.join("disk").metadata().unwrap().blocks() < 6000, "holes come back");
        }
        if encoding == Encoding::Gzip {
            for found in std::fs::read_dir(env.store()).unwrap() {
                let path = found.unwrap().path();
                if path.extension().is_some_and(|end| end == "gz") {
                    assert!(path.metadata().unwrap().len() < 1_000_000, "{}", path.display());
                    assert!(
                        Command::new("gzip").arg("-t").arg(&path).status().unwrap().success(),
                        "{}",
                        path.display()
                    );
                }
            }
        }
    }
}
