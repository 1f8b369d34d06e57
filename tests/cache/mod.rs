//! Our own cache: private, derived, and safe against other processes, sudden death, full disks and
//! rubbish.

use crate::support::{
    Duplicity, Encoding, Env, Mounted, NOBODY, Node, Outcome, Tree, Truth, Version, assert_same,
};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A collection of three sets with a few thousand paths, and what listing it prints.
fn world() -> (Env, Vec<u8>) {
    let env = Env::new();
    let duplicity = Duplicity::new(&env, Version::Old, Encoding::Gzip);
    let mut tree = Tree::new(1000);
    for directory in 0..40 {
        tree = tree.with(format!("d{directory:02}"), Node::directory(1000));
        for file in 0..60 {
            tree = tree.with(
                format!("d{directory:02}/f{file:02}"),
                Node::file(format!("{directory} {file}"), 1000 + file),
            );
        }
    }
    tree.write(None, &env.source());
    duplicity.full(1_700_000_000);
    for step in 1..3 {
        let before = tree.clone();
        tree = tree.with(format!("d{step:02}/f00"), Node::file("changed", 5000 + step));
        tree.write(Some(&before), &env.source());
        duplicity.incremental(1_700_000_000 + step * 1000);
    }
    env.clear_caches();
    let listed = list(&env).output().unwrap();
    assert!(listed.status.success() && listed.stdout.len() > 2400 * 26);
    env.clear_caches();
    (env, listed.stdout)
}

fn list(env: &Env) -> Command {
    let mut command = env.dupfs(Encoding::Gzip);
    command.args(["list-current-files", &env.url()]);
    command
}

/// Returns the only file of the catalog.
fn catalog(env: &Env) -> PathBuf {
    let collections = std::fs::read_dir(env.cache().join("dupfs")).unwrap();
    let directories: Vec<_> = collections.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(directories.len(), 1, "{directories:?}");
    directories[0].join("catalog.sqlite")
}

#[test]
fn is_private_and_written_for_this_user_only() {
    let (env, expected) = world();
    assert_eq!(list(&env).output().unwrap().stdout, expected);
    let directory = catalog(&env).parent().unwrap().to_path_buf();
    assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn many_processes_fill_it_at_once() {
    let (env, expected) = world();
    let children: Vec<_> =
        (0..6).map(|_| list(&env).stdout(Stdio::piped()).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert!(output.stdout == expected, "a listing differs that was made beside others");
    }
}

#[test]
fn survives_being_killed_at_any_moment() {
    let (env, expected) = world();
    for milliseconds in (0..120).step_by(6) {
        let mut child = list(&env).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        let output = list(&env).output().unwrap();
        assert!(
            output.stdout == expected,
            "after {milliseconds} ms: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        if milliseconds % 12 == 0 {
            env.clear_caches();
        }
    }
}

#[test]
fn rubbish_is_thrown_away() {
    let (env, expected) = world();
    for rubbish in
        [&b""[..], b"no database", &[0; 4096], b"SQLite format 3\0 and then nothing sensible"]
    {
        assert_eq!(list(&env).output().unwrap().stdout, expected);
        std::fs::write(catalog(&env), rubbish).unwrap();
        assert!(list(&env).output().unwrap().stdout == expected, "{rubbish:?}");
    }
    // Damage inside a sound file: pages of tables and indexes.
    let file = catalog(&env);
    let sound = std::fs::read(&file).unwrap();
    for at in (4096..sound.len()).step_by(sound.len() / 8) {
        let mut broken = sound.clone();
        let end = broken.len().min(at + 600);
        broken[at..end].fill(0xa5);
        std::fs::write(&file, broken).unwrap();
        let text = list(&env).output().unwrap();
        assert!(text.status.success(), "damage at {at}");
        let text = String::from_utf8(text.stdout).unwrap();
        let (said, lines): (Vec<_>, Vec<_>) =
            text.lines().partition(|line| line.contains("the catalog"));
        assert!(
            lines.into_iter().eq(std::str::from_utf8(&expected).unwrap().lines()),
            "damage at {at} shows in the listing"
        );
        assert!(
            said.len() <= 1 && said.iter().all(|line| line.ends_with("; filling it anew")),
            "damage at {at}: {said:?}"
        );
    }
}

/// A restore and an increment ask other tables than a listing does.
#[test]
fn a_flipped_bit_neither_restores_nor_saves_what_is_wrong() {
    let (env, _) = world();
    let truth = Truth::record(&env.source());
    let backup = |number: i64| {
        let mut command = env.dupfs(Encoding::Gzip);
        command.args(["incremental", "--current-time", &(1_700_010_000 + number).to_string()]);
        Outcome::of(command.arg(env.source()).arg(env.url())).success().stdout
    };
    backup(0);
    let mut random = crate::support::Random::new(11);
    for case in 1..9 {
        // In place, since another file would be noticed as such.
        let file = std::fs::File::options().read(true).write(true).open(catalog(&env)).unwrap();
        let mut byte = [0];
        for _ in 0..10 {
            let at = random.below(file.metadata().unwrap().len() as usize) as u64;
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << random.below(8)], at).unwrap();
        }
        match case % 2 {
            0 => {
                let target = env.fresh(&format!("restored{case}"));
                Outcome::of(env.dupfs(Encoding::Gzip).args(["restore", &env.url()]).arg(&target))
                    .success();
                assert_same(&truth, &Truth::record(&target), &format!("case {case}"));
            }
            _ => {
                let text = backup(case);
                let count = |what: &str| {
                    text.lines().find_map(|line| {
                        line.strip_prefix(what)?.split(' ').next()?.parse::<u64>().ok()
                    })
                };
                let counts = ["NewFiles ", "DeletedFiles ", "ChangedFiles "].map(count);
                assert_eq!(counts, [Some(0); 3], "case {case}: {text}");
            }
        }
    }
}

#[test]
fn a_live_mount_outlives_its_catalog() {
    let (env, _) = world();
    let truth = Truth::record(&env.source());
    let mounted = Mounted::new(&env, Encoding::Gzip);
    let directory = catalog(&env).parent().unwrap().to_path_buf();
    let see =
        |what: &str| assert_same(&truth, &Truth::record(&mounted.point().join("latest/.")), what);
    std::fs::read(mounted.point().join("latest/d01/f00")).unwrap();
    std::fs::remove_file(catalog(&env)).unwrap();
    see("removed");
    for suffix in ["", "-shm", "-wal"] {
        let file = directory.join(format!("catalog.sqlite{suffix}"));
        // After the first time everything is in memory.
        std::fs::File::create(file).unwrap();
        see(suffix);
    }
    std::fs::remove_dir_all(&directory).unwrap();
    see("removed with its directory");
    let log = mounted.log();
    assert!(
        log.matches("filling it anew").count() == 1 && log.matches("without a cache").count() == 1,
        "{log}"
    );
}

#[test]
fn a_disk_that_fills_under_a_mount_is_no_harm() {
    let (env, _) = world();
    let truth = Truth::record(&env.source());
    let small = env.fresh("small");
    std::fs::create_dir(&small).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1500k", "tmpfs"])
        .arg(&small)
        .status()
        .unwrap();
    assert!(mount.success(), "mounting a small file system needs root");
    let mut command = env.dupfs(Encoding::Gzip);
    command
        .args(["mount", "--foreground", &env.url()])
        .arg(env.mountpoint())
        .env("XDG_CACHE_HOME", &small);
    let mounted = Mounted::start(command, &env.mountpoint());
    std::fs::read_dir(mounted.point().join("latest/d01")).unwrap().count();
    // As much as there is room for.
    let mut filler = std::fs::File::create(small.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 1024]).is_ok() {}
    let found = Truth::record(&mounted.point().join("latest/."));
    drop((mounted, filler));
    assert!(Command::new("umount").arg(&small).status().unwrap().success());
    assert_same(&truth, &found, "on a full disk");
}

/// Somebody who was stopped in the middle of writing: what is known is shown at once, and nobody
/// waits for ever.
#[test]
fn a_locked_catalog_is_read_all_the_same() {
    let (env, expected) = world();
    assert_eq!(list(&env).output().unwrap().stdout, expected);
    let stopped = rusqlite::Connection::open(catalog(&env)).unwrap();
    stopped.execute_batch("BEGIN IMMEDIATE; DELETE FROM versions").unwrap();
    let start = std::time::Instant::now();
    assert!(list(&env).output().unwrap().stdout == expected);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn what_others_can_have_written_is_not_used() {
    let (env, expected) = world();
    assert_eq!(list(&env).output().unwrap().stdout, expected);
    let (file, beside) = (catalog(&env), env.fresh("beside"));
    let directory = file.parent().unwrap();
    let link = || {
        std::fs::rename(&file, &beside).unwrap();
        std::os::unix::fs::symlink(&beside, &file).unwrap();
    };
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap()
    };
    let owner = |user| std::os::unix::fs::chown(&file, Some(user), None).unwrap();
    for (what, action) in [
        ("it is a symbolic link", &link as &dyn Fn()),
        ("others may write to it", &|| mode(&file, 0o664)),
        ("others may write to it", &|| mode(directory, 0o777)),
        ("it belongs to another user", &|| owner(NOBODY)),
    ] {
        action();
        let text = Outcome::of(&mut list(&env)).success().stdout;
        assert!(
            text.contains(&format!(
                "{what}; remove it, and it will be made anew; going on without a cache"
            )),
            "{what}: {text}"
        );
        assert!(
            text.ends_with(
                expected
                    .split(|&b| b == b'\n')
                    .rev()
                    .nth(1)
                    .map(|line| format!("{}\n", String::from_utf8_lossy(line)))
                    .unwrap()
                    .as_str()
            )
        );
        // As it was.
        if beside.exists() {
            std::fs::rename(&beside, &file).unwrap();
        }
        mode(&file, 0o644);
        mode(directory, 0o700);
        owner(0);
        assert_eq!(list(&env).output().unwrap().stdout, expected);
    }
}

#[test]
fn a_full_disk_only_makes_it_slower() {
    let (env, expected) = world();
    let small = env.fresh("small");
    std::fs::create_dir(&small).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=200k", "tmpfs"])
        .arg(&small)
        .status()
        .unwrap();
    assert!(mount.success(), "mounting a small file system needs root");
    let outcome = Outcome::of(list(&env).env("XDG_CACHE_HOME", &small));
    // Nor does a session need its journal there, without which it could only not be resumed.
    let mut backup = env.dupfs(Encoding::Gzip);
    let archive = env.fresh("archive");
    backup.args(["incremental", "--archive-dir"]).arg(archive).arg(env.source()).arg(env.url());
    let saved = Outcome::of(backup.env("XDG_CACHE_HOME", &small)).success();
    let said = saved.stdout + &saved.stderr;
    assert!(said.contains("the next run may have to begin it anew"), "{said}");
    Command::new("umount").arg(&small).status().unwrap();
    let text = outcome.success().stdout;
    let last = expected.split(|&b| b == b'\n').rev().nth(1).unwrap();
    assert!(text.contains("going on without a cache"), "{text}");
    assert!(text.trim_end().ends_with(std::str::from_utf8(last).unwrap()), "{text}");
}

/// The disk fills while the catalog learns of volumes: what is restored must still be all, or be
/// said not to be.
#[test]
fn a_restore_that_fills_the_disk_is_whole() {
    let (env, _) = world();
    let truth = Truth::record(&env.source());
    for size in [100, 250, 350, 450, 550, 700, 900] {
        let small = env.fresh(&format!("small{size}"));
        std::fs::create_dir(&small).unwrap();
        let options = format!("size={size}k");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&small)
            .status()
            .unwrap();
        assert!(mount.success(), "mounting a small file system needs root");
        let target = env.fresh(&format!("restored{size}"));
        let mut restore = env.dupfs(Encoding::Gzip);
        let outcome = Outcome::of(
            restore.args(["restore", &env.url()]).arg(&target).env("XDG_CACHE_HOME", &small),
        );
        Command::new("umount").arg(&small).status().unwrap();
        outcome.success();
        assert_same(
            &truth,
            &Truth::record(&target),
            &format!("restored with a cache of {size} KiB"),
        );
    }
}
