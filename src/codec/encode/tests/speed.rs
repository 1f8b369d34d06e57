//! Not tests: they print speeds and sizes.

use super::super::deflate;
use std::time::Instant;

/// A tar-like row of the files below a folder.
fn files(folder: &str, limit: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        entries.sort();
        for path in entries {
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if all.len() < limit {
                all.extend(std::fs::read(path).unwrap_or_default());
            }
        }
    }
    all.truncate(limit);
    all
}

#[test]
#[ignore = "measures"]
fn frames() {
    let mut random = crate::codec::testing::Random(1);
    let noise: Vec<u8> = (0..16 << 20).map(|_| random.below(256) as u8).collect();
    let whole = |plain: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        std::io::Write::write_all(&mut encoder, plain).unwrap();
        encoder.finish().unwrap().len()
    };
    for (name, plain) in [("bin", files("/usr/lib", 64 << 20)), ("text", files("/usr/share", 64 << 20)), ("noise", noise)] {
        let start = Instant::now();
        let reference = whole(&plain);
        let rate = |start: Instant| plain.len() as f64 / 1e6 / start.elapsed().as_secs_f64();
        println!("{name}: {} bytes; zlib-rs 6 of the whole {reference}, {:.0} MB/s", plain.len(), rate(start));
        for level in [1, 6, 9] {
            for (what, make) in [
                ("members", (|p, l| deflate::members(p, l, 0)) as fn(&[u8], u8) -> Result<Vec<u8>, crate::codec::Cause>),
                ("flushed", deflate::flushed),
            ] {
                let start = Instant::now();
                let size: usize = plain.chunks(1 << 20).map(|frame| make(frame, level).unwrap().len()).sum();
                println!(
                    "  {what} {level}: {size} ({:+.2} %), {:.0} MB/s",
                    (size as f64 / reference as f64 - 1.0) * 100.0,
                    rate(start)
                );
            }
        }
    }
}
