//! Collections made to harm: whatever they hold, a restore writes below its target and a mount
//! shows no way out.

use crate::support::{Encoding, Env, Forge, Member, Mounted, Truth};

const TIME: i64 = 1_785_585_600;

/// Restores and mounts a forged set; nothing outside the target may change, and nothing may crash.
fn attack(what: &str, members: impl FnOnce(&str) -> Vec<Member>) -> (Env, Truth) {
    let env = Env::new();
    let outside = env.fresh("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "precious").unwrap();
    Forge::full(&env, TIME, &members(outside.to_str().unwrap()));
    let everything = || {
        let mut truth = Truth::record(env.root());
        // These may change: the target, the catalog, what the test itself writes.
        truth.0.retain(|path, _| {
            ![&b"cache"[..], b"target", b"mount"].iter().any(|place| path.starts_with(place))
                && !path.is_empty()
        });
        truth
    };
    let before = everything();
    let target = env.root().join("target");
    let outcome = env.restore(Encoding::Plain, TIME, &target);
    assert!(outcome.code < 128 && !outcome.stderr.contains("panicked"), "{what}: {outcome}");
    crate::support::assert_same(&before, &everything(), what);

    let mut mounted = Mounted::new(&env, Encoding::Plain);
    // A set whose names lead elsewhere may be refused as a whole.
    if let Some(directory) =
        mounted.snapshots().get(&TIME).filter(|directory| std::fs::read_dir(directory).is_ok())
    {
        Truth::record(directory);
    }
    assert!(mounted.end(rustix::process::Signal::TERM).success(), "{what}: {}", mounted.log());
    let restored = if target.exists() { Truth::record(&target) } else { Truth::default() };
    (env, restored)
}

#[test]
fn names_that_lead_out() {
    for name in [
        "../outside/evil",
        "a/../../outside/evil",
        "..",
        "/tmp/dupfs-evil",
        "a//evil",
        "./evil",
        "a/./evil",
    ] {
        attack(name, |_| {
            vec![Member::directory("a"), Member::file(name, "evil"), Member::file("zz", "good")]
        });
    }
    assert!(!std::path::Path::new("/tmp/dupfs-evil").exists());
}

#[test]
fn links_that_lead_out() {
    attack("a file below a link", |outside| {
        vec![Member::symlink("l", outside), Member::file("l/precious", "evil")]
    });
    attack("a directory below a link", |outside| {
        vec![Member::symlink("l", outside), Member::directory("l/new")]
    });
    attack("a link, then a file of its name", |outside| {
        vec![Member::symlink("l", format!("{outside}/precious")), Member::file("l", "evil")]
    });
    attack("a relative link", |_| {
        vec![Member::symlink("l", "../outside"), Member::file("l/precious", "evil")]
    });
    attack("a link below a link", |outside| {
        vec![
            Member::symlink("l", outside),
            Member::symlink("l/m", "/"),
            Member::file("l/m/evil", "evil"),
        ]
    });
}

#[test]
fn harmless_links_are_restored_as_they_are() {
    let (_env, restored) = attack("plain links", |outside| {
        vec![Member::symlink("l", outside), Member::file("z", "good")]
    });
    assert_eq!(restored.0.len(), 3);
}

/// A link that stands in the target before a forced restore is replaced or refused, never followed.
#[test]
fn links_in_the_target_are_not_followed() {
    let env = Env::new();
    let (outside, target) = (env.fresh("outside"), env.fresh("target"));
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::create_dir_all(&target).unwrap();
    std::os::unix::fs::symlink(&outside, target.join("dir")).unwrap();
    std::fs::write(outside.join("precious"), "precious").unwrap();
    std::os::unix::fs::symlink(outside.join("precious"), target.join("file")).unwrap();
    Forge::full(
        &env,
        TIME,
        &[
            Member::directory("dir"),
            Member::file("dir/precious", "evil"),
            Member::file("file", "evil"),
        ],
    );
    let before = Truth::record(&outside);
    env.ask_to(Encoding::Plain, &["restore", "--force"], &target);
    assert_eq!(Truth::record(&outside), before);
}

/// Such paths shrink to nothing, and would cost a row and a directory for each component: one over
/// the limit of paths, one below it, which needs more directories than a set may imply.
#[test]
fn a_path_of_many_components_is_left_out_and_named() {
    for (depth, words) in
        [(400_000, "400000 components"), (10_000, "folders above it are not in the backup")]
    {
        let deep = vec!["x"; depth].join("/");
        let members = vec![
            Member::directory("a"),
            Member::file("a/b", "good"),
            Member::file(&deep, "evil"),
            Member::file("zz", "good"),
        ];
        let (env, restored) = attack(words, |_| members);
        let expected = ["", "a", "a/b", "zz"].map(|path| path.as_bytes().to_vec());
        assert_eq!(restored.0.into_keys().collect::<Vec<_>>(), expected);
        let size = size_of_tree(&env.cache().join("dupfs"));
        assert!(size < 1 << 20, "{size}");
        // Also when the rows are there already.
        env.restore(Encoding::Plain, TIME, &env.fresh("again")).failure(90, &["'x/x/x", words]);
        env.clear_caches();
        let mounted = Mounted::new(&env, Encoding::Plain);
        let directory = &mounted.snapshots()[&TIME];
        assert_eq!(Truth::record(directory).0.into_keys().collect::<Vec<_>>(), expected);
        assert!(mounted.log().contains("'x/x/x"));
    }
}

fn size_of_tree(path: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return path.metadata().unwrap().len() };
    entries.map(|entry| size_of_tree(&entry.unwrap().path())).sum()
}
