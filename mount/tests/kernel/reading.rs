//! What one sees and reads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::time::Duration;

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom};

use crate::memory::{BIG, MANY, byte, name_of_many, odd_names};
use crate::support::Mounted;

#[test]
fn stat_shows_every_attribute() {
    let mounted = Mounted::sample();
    let stat = |name: &str| fs::symlink_metadata(mounted.path(name)).unwrap();
    let modes = [
        ("file", 0o100_644),
        ("bare", 0o040_755),
        ("link", 0o120_644),
        ("fifo", 0o010_644),
        ("char", 0o020_644),
        ("block", 0o060_644),
        ("odd-mode", 0o107_751),
    ];
    for (name, mode) in modes {
        assert_eq!(format!("{:o}", stat(name).mode()), format!("{mode:o}"), "{name}");
        assert_eq!(stat(name).ino(), mounted.memory.number(name));
    }
    for (name, device) in [("char", (4, 255)), ("block", (259, 1_048_575)), ("file", (0, 0))] {
        let rdev = stat(name).rdev();
        assert_eq!((rustix::fs::major(rdev), rustix::fs::minor(rdev)), device, "{name}");
    }
    for (name, seconds) in
        [("file", 1_000_000_000), ("old", -86_401), ("ancient", -(1 << 33)), ("future", 1 << 33)]
    {
        let stat = stat(name);
        assert_eq!(
            (stat.mtime(), stat.atime(), stat.ctime()),
            (seconds, seconds, seconds),
            "{name}"
        );
        assert_eq!(stat.mtime_nsec(), 0);
    }
    let odd = stat("odd-mode");
    assert_eq!(
        (odd.uid(), odd.gid(), odd.nlink(), odd.size(), odd.blocks()),
        (1234, 5678, 9, 1 << 40, 24)
    );
    assert_eq!(fs::metadata(mounted.root()).unwrap().ino(), 1);
    assert_eq!(fs::metadata(mounted.path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn links_show_their_targets() {
    let mounted = Mounted::sample();
    assert_eq!(fs::read_link(mounted.path("link")).unwrap().as_os_str(), "file");
    assert_eq!(fs::read_link(mounted.path("dangling")).unwrap().as_os_str().len(), 4095);
    assert_eq!(fs::metadata(mounted.path("link")).unwrap().ino(), mounted.memory.number("file"));
}

#[test]
fn df_shows_the_totals() {
    let mounted = Mounted::sample();
    let totals = rustix::fs::statvfs(mounted.root()).unwrap();
    assert_eq!(
        (totals.f_blocks * totals.f_frsize, totals.f_bfree, totals.f_files),
        (12_288, 0, 4321)
    );
    assert_eq!(totals.f_namemax, 255);
}

#[test]
fn files_read_right_at_every_offset() {
    let mounted = Mounted::sample();
    let expected: Vec<u8> = (0..BIG).map(byte).collect();
    for name in ["big", "sparing"] {
        assert!(fs::read(mounted.path(name)).unwrap() == expected, "{name}");
        let file = File::open(mounted.path(name)).unwrap();
        for offset in [0, 1, 4095, 131_071, 1 << 20, BIG - 10, BIG, BIG + 5] {
            let mut buffer = [0; 100];
            let count = file.read_at(&mut buffer, offset).unwrap();
            assert_eq!(count as u64, BIG.saturating_sub(offset).min(100));
            assert!((offset..).zip(&buffer[..count]).all(|(offset, found)| byte(offset) == *found));
        }
    }
    assert_eq!(
        fs::read(mounted.path("odd-mode")).map(|_| ()).unwrap_err().kind(),
        io::ErrorKind::OutOfMemory
    );
}

#[test]
fn reads_are_large() {
    let mounted = Mounted::sample();
    fs::read(mounted.path("big")).unwrap();
    let reads = mounted.memory.calls()["read"];
    assert!(
        reads <= 12,
        "{reads} reads for 5 MiB: read-ahead of 1 MiB makes about six, of 128 KiB forty"
    );
}

#[test]
fn an_unreadable_file_is_an_error_and_the_rest_goes_on() {
    let mounted = Mounted::sample();
    for name in ["broken", "mad", "broken"] {
        assert_eq!(
            fs::read(mounted.path(name)).unwrap_err().raw_os_error(),
            Some(libc::EIO),
            "{name}"
        );
        assert_eq!(fs::read(mounted.path("file")).unwrap().len(), 1000);
    }
    let line = format!(
        "read of inode {} broke off: a defect of this program",
        mounted.memory.number("mad")
    );
    assert!(mounted.log.lock().unwrap().contains(&line));
}

#[test]
fn names_have_any_bytes() {
    let mounted = Mounted::sample();
    let mut found: Vec<Vec<u8>> = fs::read_dir(mounted.path("names"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_vec())
        .collect();
    found.sort();
    let mut expected = odd_names();
    expected.sort();
    assert_eq!(found, expected, "all but those that are no file names");
    for name in odd_names() {
        let path = mounted.path("names").join(std::ffi::OsStr::from_bytes(&name));
        assert_eq!(fs::read(path).unwrap().len(), 5);
    }
    assert!(
        mounted
            .log
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.starts_with("cannot show \"a/b\" in inode "))
    );
}

#[test]
fn listings_tell_kinds_and_numbers() {
    let mounted = Mounted::sample();
    let directory = File::open(mounted.root()).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&directory, &mut buffer);
    let mut kinds = BTreeMap::new();
    while let Some(entry) = entries.next() {
        let entry = entry.unwrap();
        kinds.insert(
            entry.file_name().to_str().unwrap().to_owned(),
            (entry.file_type(), entry.ino()),
        );
    }
    let expected = [
        ("file", FileType::RegularFile),
        ("many", FileType::Directory),
        ("link", FileType::Symlink),
        ("fifo", FileType::Fifo),
        ("char", FileType::CharacterDevice),
        ("block", FileType::BlockDevice),
    ];
    for (name, kind) in expected {
        assert_eq!(kinds[name], (kind, mounted.memory.number(name)));
    }
    assert_eq!((kinds["."].0, kinds[".."].0), (FileType::Directory, FileType::Directory));
}

#[test]
fn items_without_attributes_are_looked_up_when_needed() {
    // The first answer to a listing holds some 200 items with their attributes.
    for (name, bare) in [("bare", 150), ("mixed", 50)] {
        let mounted = Mounted::sample();
        let mut entries: Vec<_> = fs::read_dir(mounted.path(name))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|e| (e.file_name(), e.ino()))
            .collect();
        entries.sort();
        assert_eq!(entries.len(), 301, "{name}");
        assert_eq!(mounted.memory.calls()["lookup"], 1, "the directory itself");
        for (number, (entry, inode)) in (0..150).zip(&entries) {
            let stat = fs::symlink_metadata(mounted.path(name).join(entry)).unwrap();
            assert_eq!((stat.size(), stat.ino()), (1000 + number, *inode));
        }
        assert_eq!(mounted.memory.calls()["lookup"], bare, "{name}");
        for (number, (entry, inode)) in (0..300).zip(&entries) {
            let stat = fs::symlink_metadata(mounted.path(name).join(entry)).unwrap();
            assert_eq!((stat.size(), stat.ino()), (1000 + number, *inode));
        }
    }
}

#[test]
fn a_large_directory_is_walked_in_windows() {
    let mounted = Mounted::sample();
    let mut names: Vec<_> = fs::read_dir(mounted.path("many"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!((0..MANY).map(name_of_many).eq(names));
    let lists = mounted.memory.calls()["list"];
    assert!(lists <= 110, "{lists} listings for 100,000 names");
}

#[test]
fn a_large_directory_brings_its_attributes_along() {
    let mounted = Mounted::sample();
    for entry in fs::read_dir(mounted.path("many")).unwrap() {
        entry.unwrap().metadata().unwrap();
    }
    let calls = mounted.memory.calls();
    assert!(calls["lookup"] <= 1000, "{calls:?}");
}

#[test]
fn a_directory_can_be_sought_in_both_directions() {
    let mounted = Mounted::sample();
    // Not for ever, so that the kernel does not keep the listing.
    mounted.memory.set_ttl(mounted.memory.number("many"), Duration::from_secs(1));
    let directory =
        rustix::fs::open(mounted.path("many"), OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let mut buffer = vec![MaybeUninit::uninit(); 4096];
    let mut next = |cookie: Option<u64>| {
        if let Some(cookie) = cookie {
            rustix::fs::seek(&directory, SeekFrom::Start(cookie)).unwrap();
        }
        let mut entries = RawDir::new(&directory, &mut buffer);
        let entry = entries.next().map(|entry| entry.unwrap());
        entry.map(|entry| {
            (entry.file_name().to_str().unwrap().to_owned(), entry.next_entry_cookie())
        })
    };
    assert_eq!(next(None).unwrap().0, ".");
    let mut cookie = 0;
    let mut cookies = Vec::new();
    while let Some((name, after)) = next(Some(cookie)) {
        cookies.push((cookie, name));
        // Steps of one, then larger ones that leave out whole windows.
        cookie = after + cookies.len() as u64 * 50;
    }
    assert!(cookies.len() > 50);
    for (cookie, name) in cookies.iter().rev().chain(&cookies) {
        assert_eq!(&next(Some(*cookie)).unwrap().0, name);
    }
    assert_eq!(next(Some(MANY + 2)), None);
    assert_eq!(next(Some(MANY + 1)).unwrap().0, name_of_many(MANY - 1));
}

#[test]
fn names_that_no_file_system_has_are_too_long() {
    let mounted = Mounted::sample();
    for (length, errno) in
        [(255, libc::ENOENT), (256, libc::ENAMETOOLONG), (1000, libc::ENAMETOOLONG)]
    {
        let error = fs::symlink_metadata(mounted.path(&"n".repeat(length))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{length} bytes");
    }
}
