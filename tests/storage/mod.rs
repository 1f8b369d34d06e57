//! What every storage promises, asked of each kind: see `dupfs::storage`.

use crate::support::Env;
#[cfg(feature = "rsync")]
use crate::support::Rsyncd;
use crate::support::SSH_PASSWORD;
#[cfg(feature = "sftp")]
use crate::support::Sshd;
#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
use crate::support::{AzureServer, DAV_PASSWORD, DavServer, S3_SECRET, S3Server, SwiftServer};
#[cfg(feature = "ftp")]
use crate::support::{Ftp, Ftpd};
use dupfs::monitor::Silent;
#[cfg(feature = "ftp")]
use dupfs::storage::FtpStorage;
#[cfg(feature = "rsync")]
use dupfs::storage::RsyncStorage;
#[cfg(feature = "sftp")]
use dupfs::storage::SftpStorage;
use dupfs::storage::TlsSettings;
use dupfs::storage::{
    self, ByteSink, Call, ErrorKind, Listed, LocalStorage, MemoryStorage, Pace, RecordingStorage,
    RetryingStorage, Storage, StoredFile, ThrottledStorage, unfinished,
};
#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
use dupfs::storage::{AzureSettings, OpendalStorage, S3Settings};
use dupfs::storage::{ReadAt, check_stored};
use dupfs::storage::{Settings, Url};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Bytes that tell where they stand.
fn numbered(length: usize) -> Vec<u8> {
    (0..length.div_ceil(4) as u32).flat_map(u32::to_le_bytes).take(length).collect()
}

fn store(storage: &dyn Storage, name: &str, content: &[u8]) -> Listed {
    let mut writer = storage.stage(name).unwrap();
    content.chunks(70_000).for_each(|part| writer.write_bytes(part).unwrap());
    storage.put(&writer.seal()).unwrap()
}

/// Returns sizes by name, without what is being written.
fn sizes(storage: &dyn Storage) -> BTreeMap<String, u64> {
    let listing = storage.list().unwrap();
    let found: BTreeMap<_, _> = listing.iter().map(|file| (file.name.clone(), file.size)).collect();
    assert_eq!(found.len(), listing.len(), "a name is listed twice");
    found.into_iter().filter(|(name, _)| unfinished(name).is_none()).collect()
}

/// Returns all of a file, by reads of so many bytes.
fn read(storage: &dyn Storage, name: &str, stride: usize) -> Vec<u8> {
    let (mut content, mut buffer) = (Vec::new(), vec![0; stride]);
    loop {
        let count = storage.read_at(&named(name), content.len() as u64, &mut buffer).unwrap();
        content.extend_from_slice(&buffer[..count]);
        if count < stride {
            return content;
        }
    }
}

/// Returns all of a file from an offset on, as one stream, by pieces of so many bytes.
fn streamed(storage: &dyn Storage, name: &str, from: u64, stride: usize) -> Vec<u8> {
    let mut stream = storage.stream(&named(name), from).unwrap();
    let (mut content, mut buffer) = (Vec::new(), vec![0; stride]);
    loop {
        let count = stream.read_bytes(&mut buffer).unwrap();
        content.extend_from_slice(&buffer[..count]);
        if count < stride {
            assert_eq!(stream.read_bytes(&mut buffer).unwrap(), 0, "behind the end of {name}");
            return content;
        }
    }
}

/// Names a file whose size nobody looks at.
fn named(name: &str) -> Listed {
    Listed { name: name.into(), size: 0, stamp: 0 }
}

fn delete(storage: &dyn Storage, names: &[&str]) {
    let results = storage.delete(names);
    assert_eq!(results.len(), names.len());
    results.into_iter().for_each(|result| result.unwrap());
}

/// Asks a storage in which there is nothing yet for all that it has to promise.
fn keeps_the_contract(storage: Arc<dyn Storage>) {
    storage.prepare().unwrap();
    storage.prepare().unwrap();
    assert_eq!(sizes(&*storage), BTreeMap::new());
    let none = named("none");
    assert_eq!(storage.read_at(&none, 0, &mut [0; 4]).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(storage.stream(&none, 0).err().unwrap().kind, ErrorKind::NotFound);
    delete(&*storage, &["none"]);
    delete(&*storage, &[]);

    // Files of all sizes come back whole, and by any range of them.
    for length in [0, 1, 511, 70_000, 3 << 20] {
        let (name, content) = (format!("file-{length}"), numbered(length));
        let listed = store(&*storage, &name, &content);
        assert_eq!((listed.name.as_str(), listed.size), (name.as_str(), length as u64));
        assert!(storage.list().unwrap().contains(&listed), "put and list disagree on {name}");
        assert!(read(&*storage, &name, 1 << 16) == content, "{name}");
        for offset in
            [0, 1, length / 2, length.saturating_sub(1), length, length + 1, length + (1 << 20)]
        {
            for count in [0, 1, 4096, length + 1] {
                let mut buffer = vec![0xee; count];
                let got = storage.read_at(&listed, offset as u64, &mut buffer).unwrap();
                let expected = content.get(offset..).unwrap_or_default();
                let expected = &expected[..count.min(expected.len())];
                assert!(&buffer[..got] == expected, "{name}: {count} bytes at {offset}");
            }
        }
        assert_eq!(storage.read_at(&listed, u64::MAX - 3, &mut [0; 8]).unwrap(), 0);
        for (from, stride) in [(0, 1 << 16), (length / 3, 1000), (length, 7), (length + 9, 7)] {
            let expected = content.get(from..).unwrap_or_default();
            assert!(streamed(&*storage, &name, from as u64, stride) == expected, "{name}: {from}");
        }
    }

    // Many ranges at once, one of them of no file, in the order in which they were asked for.
    let (file, none) = (named("file-70000"), named("none"));
    let ranges = [(&file, 69_990..80_000), (&none, 0..1), (&file, 4..12), (&file, 5..5)];
    let found = storage.read_many(&ranges);
    assert_eq!(found.len(), 4);
    assert_eq!(found[0].as_ref().unwrap(), &numbered(70_000)[69_990..]);
    assert_eq!(found[1].as_ref().unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(found[2].as_ref().unwrap(), &numbered(12)[4..]);
    assert!(found[3].as_ref().unwrap().is_empty());
    assert!(storage.abilities().transfers >= 1);

    // A file takes the place of another one, at once and whole.
    let before = store(&*storage, "again", b"before");
    let mut writer = storage.stage("again").unwrap();
    writer.write_bytes(b"and behind").unwrap();
    assert_eq!(sizes(&*storage)["again"], 6);
    let staged = writer.seal();
    assert_eq!(read(&*storage, "again", 100), b"before");
    let listed = storage.put(&staged).unwrap();
    assert_eq!(read(&*storage, "again", 100), b"and behind");
    assert!(before.stamp == 0 || before.stamp != listed.stamp);
    // A file can be put twice; some services call it another one then.
    let listed = storage.put(&staged).unwrap();
    assert!(storage.list().unwrap().contains(&listed));
    drop(staged);
    assert_eq!(read(&*storage, "again", 100), b"and behind");
    check_stored(&*storage, [listed.clone()]).unwrap();
    assert!(check_stored(&*storage, [Listed { size: 6, ..listed.clone() }]).is_err());

    // What is given up leaves nothing.
    let mut given_up = storage.stage("given-up").unwrap();
    given_up.write_bytes(b"some").unwrap();
    drop(given_up);
    drop(storage.stage("given-up").unwrap().seal());
    assert!(storage.list().unwrap().iter().all(|file| !file.name.contains("given-up")));

    // Names are flat, and any that duplicity may make with a prefix.
    let names = [
        "a b",
        "-dash",
        "p%20c#q?x&y=z",
        "umlaut-\u{fc}\u{20ac}",
        "quote'\"\\",
        "semi;colon:",
        &"n".repeat(200),
    ];
    // Azure takes a backslash for a slash.
    let takes = |name: &&str| !(name.contains('\\') && storage.location().starts_with("azure"));
    let names: Vec<_> = names.into_iter().filter(takes).collect();
    for name in &names {
        store(&*storage, name, name.as_bytes());
        assert_eq!(read(&*storage, name, 1000), name.as_bytes());
    }
    let found = sizes(&*storage);
    for name in names {
        assert_eq!(found.get(name), Some(&(name.len() as u64)), "{name}: {found:?}");
    }

    // A file may be gone when it is read, and deleted by somebody else.
    let file = StoredFile::new(storage.clone(), listed);
    delete(&*storage, &["again", "a b"]);
    delete(&*storage, &["again"]);
    let left = sizes(&*storage);
    assert!(!left.contains_key("again") && !left.contains_key("a b"));
    assert_eq!(file.read_at(0, &mut [0; 4]).unwrap_err().kind, ErrorKind::NotFound);

    // Many files, written and read by many at once.
    let (many, threads) = (if storage.abilities().rereads { 400 } else { 80 }, 8);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let storage = &storage;
            scope.spawn(move || {
                for number in (thread..many).step_by(threads) {
                    store(&**storage, &format!("many-{number}"), &numbered(number));
                    assert_eq!(read(&**storage, "file-70000", 9999), numbered(70_000));
                }
            });
        }
    });
    let found = sizes(&*storage);
    (0..many).for_each(|number| assert_eq!(found[&format!("many-{number}")], number as u64));
}

#[test]
fn local_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(directory.path().join("made/by/prepare"));
    assert_eq!(storage.list().unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(storage.stage("x").err().unwrap().kind, ErrorKind::NotFound);
    keeps_the_contract(Arc::new(storage));
}

#[test]
fn memory_keeps_the_contract() {
    keeps_the_contract(Arc::new(MemoryStorage::default()));
}

#[cfg(feature = "sftp")]
#[test]
fn sftp_keeps_the_contract() {
    let (env, sshd) = (Env::new(), Sshd::shared());
    let options = sshd.introduce(&env, true);
    let settings = Settings {
        ssh_options: options.split(' ').map(Into::into).collect(),
        tempdir: env.root().to_path_buf(),
        ..Settings::default()
    };
    let url = Url::parse(sshd.url("sftp", "contract/made/by/prepare")).unwrap();
    let storage = SftpStorage::new(&url, settings).unwrap();
    assert_eq!(storage.list().unwrap_err().kind, ErrorKind::NotFound);
    keeps_the_contract(Arc::new(storage));
    assert_eq!(std::fs::read_dir(env.root()).unwrap().count(), 5, "something staged was left");
}

#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
#[test]
fn s3_keeps_the_contract() {
    let (env, server) = (Env::new(), S3Server::shared());
    server.make_bucket("contract");
    let variable = |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => Some("keeper".to_string().into()),
        "AWS_SECRET_ACCESS_KEY" => Some(S3_SECRET.to_string().into()),
        _ => None,
    };
    let of = |url: &str| {
        let settings = Settings {
            tempdir: env.root().to_path_buf(),
            environment: Arc::new(variable),
            // Large files go in parts.
            s3: S3Settings {
                endpoint: Some(server.endpoint()),
                part: Some(1),
                ..S3Settings::default()
            },
            ..Settings::default()
        };
        OpendalStorage::s3(&Url::parse(url).unwrap(), settings).unwrap()
    };
    let missing = of("s3://no-such-bucket/a").list().unwrap_err();
    assert_eq!((missing.kind, missing.operation), (ErrorKind::NotFound, "reach"), "{missing}");
    keeps_the_contract(Arc::new(of("s3://contract/a/b")));
    assert!(of("s3://contract").list().unwrap().is_empty(), "folders are no files");
    let large = numbered(12 << 20);
    store(&of("s3://contract"), "large", &large);
    assert!(streamed(&of("s3://contract"), "large", 1, 1 << 20) == large[1..]);
    assert_eq!(std::fs::read_dir(env.root()).unwrap().count(), 5, "something staged was left");
}

#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
#[test]
fn azure_keeps_the_contract() {
    let (env, server) = (Env::new(), AzureServer::shared());
    let variable =
        |name: &str| (name == "AZURE_CONNECTION_STRING").then(|| server.connection_string().into());
    let settings = Settings {
        tempdir: env.root().to_path_buf(),
        environment: Arc::new(variable),
        // Large files go in parts.
        azure: AzureSettings {
            whole: Some(1 << 20),
            part: Some(1 << 20),
            tier: Some("Cool".into()),
            ..AzureSettings::default()
        },
        ..Settings::default()
    };
    let url = Url::parse("azure://contract/a/b").unwrap();
    let storage = OpendalStorage::azure(&url, settings).unwrap();
    assert_eq!(storage.list().unwrap_err().kind, ErrorKind::NotFound);
    keeps_the_contract(Arc::new(storage));
    assert_eq!(std::fs::read_dir(env.root()).unwrap().count(), 5, "something staged was left");
}

/// Its tokens end in the middle.
#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
#[test]
fn swift_keeps_the_contract() {
    let (env, server) = (Env::new(), SwiftServer::shared());
    let variables = server.variables("SWIFT", 1);
    let variable = move |name: &str| {
        let (_, value) = variables.iter().find(|(known, _)| known == name)?;
        Some(value.clone().into())
    };
    let settings = Settings {
        tempdir: env.root().to_path_buf(),
        environment: Arc::new(variable),
        ..Settings::default()
    };
    let url = Url::parse("swift://contract/a/b").unwrap();
    let storage = OpendalStorage::swift(&url, settings).unwrap();
    assert_eq!(storage.list().unwrap_err().kind, ErrorKind::NotFound);
    keeps_the_contract(Arc::new(storage));
    assert_eq!(std::fs::read_dir(env.root()).unwrap().count(), 5, "something staged was left");
}

#[cfg(all(feature = "s3", feature = "azure", feature = "swift", feature = "webdav"))]
#[test]
fn webdav_keeps_the_contract() {
    let (env, server) = (Env::new(), DavServer::shared());
    let of = |url: String| {
        let settings = Settings {
            tempdir: env.root().to_path_buf(),
            ask: Arc::new(|_| Ok(Some(DAV_PASSWORD.to_string().into()))),
            tls: TlsSettings { ca_file: Some(server.authority()), ..TlsSettings::default() },
            ..Settings::default()
        };
        OpendalStorage::webdav(&Url::parse(url).unwrap(), settings).unwrap()
    };
    for (scheme, folder) in [("webdav", "digest/contract/deep"), ("webdavs", "basic/a b#c")] {
        let storage = of(server.url(scheme, folder));
        assert_eq!(storage.list().unwrap_err().kind, ErrorKind::NotFound);
        keeps_the_contract(Arc::new(storage));
    }
    assert_eq!(std::fs::read_dir(env.root()).unwrap().count(), 5, "something staged was left");
}

#[cfg(feature = "rclone")]
#[test]
fn rclone_keeps_the_contract() {
    let env = Env::new();
    let settings = Settings { tempdir: env.root().to_path_buf(), ..Settings::default() };
    // A path is a remote, too, of the files of this machine.
    let url = format!("rclone://{}/made/by/prepare", env.store().display());
    let storage = SftpStorage::by_rclone(&Url::parse(url).unwrap(), settings).unwrap();
    assert_eq!(storage.list().unwrap_err().kind, ErrorKind::NotFound);
    keeps_the_contract(Arc::new(storage));
}

/// One server that lists for people, with TLS, and one that lists for programs.
#[cfg(feature = "ftp")]
#[test]
fn ftp_keeps_the_contract() {
    let ftpd = Ftpd::shared();
    for ftp in [Ftp::Implicit, Ftp::Python] {
        let env = Env::new();
        let settings = Settings {
            tempdir: env.root().to_path_buf(),
            ask: Arc::new(|_| Ok(Some(SSH_PASSWORD.to_string().into()))),
            tls: TlsSettings { ca_file: Some(ftpd.authority()), ..TlsSettings::default() },
            ..Settings::default()
        };
        let url = ftpd.url(ftp, &format!("contract-{ftp:?}/made/by/prepare"));
        let storage = FtpStorage::new(&Url::parse(url).unwrap(), settings).unwrap();
        assert_eq!(storage.list().unwrap_err().kind, ErrorKind::NotFound);
        keeps_the_contract(Arc::new(storage));
    }
}

#[cfg(feature = "rsync")]
#[test]
fn rsync_keeps_the_contract() {
    let (env, rsyncd) = (Env::new(), Rsyncd::shared());
    let settings = Settings {
        tempdir: env.root().to_path_buf(),
        own_variables: vec![("FTP_PASSWORD".into(), SSH_PASSWORD.to_string().into())],
        ..Settings::default()
    };
    let url = Url::parse(rsyncd.url("contract/made/by/prepare")).unwrap();
    let storage = RsyncStorage::new(&url, settings).unwrap();
    assert_eq!(storage.list().unwrap_err().kind, ErrorKind::NotFound);
    keeps_the_contract(Arc::new(storage));
}

/// A storage around others promises what they promise.
#[test]
fn the_recorder_the_retrier_and_the_throttle_keep_the_contract() {
    let memory = || Arc::new(MemoryStorage::default());
    keeps_the_contract(Arc::new(RecordingStorage::new(memory())));
    keeps_the_contract(Arc::new(ThrottledStorage::new(memory(), Pace::new(1 << 40))));

    keeps_the_contract(Arc::new(RetryingStorage::new(
        memory(),
        3,
        Duration::ZERO,
        Arc::new(Silent),
    )));
}

/// Several storages promise as one what each of them does, however they are put together.
#[test]
fn several_as_one_keep_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().display();
    let config = directory.path().join("multi.json");
    let stores = format!(r#"[{{"url":"file://{root}/a"}},{{"url":"file://{root}/b/c"}}]"#);
    std::fs::write(&config, stores).unwrap();
    for query in ["", "?mode=mirror&subpath=/x", "?mode=mirror&onfail=abort&subpath=/y"] {
        let url = Url::parse(format!("multi://{}{query}", config.display())).unwrap();
        let settings = Settings { tempdir: directory.path().into(), ..Settings::default() };
        let storage = storage::open(&url, settings).unwrap();
        assert_eq!(storage.list().unwrap_err().kind, ErrorKind::NotFound);
        keeps_the_contract(storage);
    }
    let count = |folder: &str| std::fs::read_dir(directory.path().join(folder)).unwrap().count();
    let (one, other) = (count("a"), count("b/c"));
    // What is dealt out in turn, and what is stored again where it was.
    assert!(one.abs_diff(other) < 20, "{one} and {other}");
    assert_eq!((count("a/x"), count("a/y")), (count("b/c/x"), count("b/c/y")));
    assert_eq!(count(""), 3, "something staged was left");
}

/// Recovery files are no files of the storage. What makes them stands in for par2, which would take a
/// minute for as many files.
#[test]
fn recovery_files_keep_the_contract() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("par2");
    let script = "#!/bin/sh\nfor file; do :; done\n: >\"$file.par2\" >\"$file.vol0+8.par2\"\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let store = directory.path().join("store");
    let url = Url::parse(format!("par2+file://{}", store.display())).unwrap();
    let path = directory.path().display().to_string();
    let settings = Settings {
        tempdir: directory.path().into(),
        own_variables: vec![("PATH".into(), path.into())],
        ..Settings::default()
    };
    keeps_the_contract(storage::open(&url, settings).unwrap());
    let names = std::fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name());
    let (recovery, files): (Vec<_>, Vec<_>) =
        names.partition(|name| name.to_string_lossy().ends_with(".par2"));
    // That of the empty ones is missing.
    assert_eq!(recovery.len(), 2 * (files.len() - 2));
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        2,
        "something staged was left"
    );
}

/// An upload that fails is tried again, from its first byte: what is staged is still there.
#[test]
fn uploads_are_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let left = AtomicU32::new(2);
    let fails = move |call: &Call| {
        let counts = matches!(call, Call::Put { .. });
        let is_left =
            counts && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        is_left.then_some(ErrorKind::Other)
    };
    let failing =
        Arc::new(RecordingStorage::failing(Arc::new(LocalStorage::new(directory.path())), fails));
    let storage = RetryingStorage::new(failing.clone(), 3, Duration::ZERO, Arc::new(Silent));
    store(&storage, "volume", &numbered(300_000));
    assert_eq!(read(&storage, "volume", 4096), numbered(300_000));
    let puts =
        failing.take_calls().into_iter().filter(|call| matches!(call, Call::Put { .. })).count();
    assert_eq!(puts, 3);
}

/// Two writers of one file: one of them wins, and nothing of the other is in it.
#[test]
fn two_writers_of_one_local_file() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(directory.path());
    let mut first = storage.stage("a").unwrap();
    first.write_bytes(b"first").unwrap();
    let mut second = storage.stage("a").unwrap();
    second.write_bytes(b"half").unwrap();
    let first = first.seal();
    let error = storage.put(&first).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Changed);
    assert!(error.to_string().contains("another program has begun to write it"), "{error}");
    drop(first);
    second.write_bytes(b" and half").unwrap();
    storage.put(&second.seal()).unwrap();
    assert_eq!(read(&storage, "a", 100), b"half and half");
}
