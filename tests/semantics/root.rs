//! The root of the mount: names, `latest`, backups that cannot be used.

use super::{T1, T2, T3, save, world};
use crate::support::{Encoding, Env, Mounted};
use std::time::Duration;

fn names(mounted: &Mounted) -> Vec<String> {
    let entries = std::fs::read_dir(mounted.point()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// > The root holds one directory for each backup time, named in the local time zone, such as
/// > `2026-08-01T12.00.00+0200`.
#[test]
fn directories_are_named_by_local_time() {
    let env = Env::new().zone("Asia/Kolkata");
    save(&env, Encoding::Gzip);
    let mounted = Mounted::new(&env, Encoding::Gzip);
    let days = [
        "2026-08-01T17.30.00+0530",
        "2026-08-02T17.30.00+0530",
        "2026-08-03T17.30.00+0530",
        "latest",
    ];
    assert_eq!(names(&mounted), days);
    assert!(std::fs::metadata(mounted.at(T1)).unwrap().is_dir());
}

/// > `latest` is a relative symbolic link to the newest of them.
#[test]
fn latest_links_to_the_newest() {
    let (env, _) = world();
    let mounted = Mounted::new(&env, Encoding::Gzip);
    let target = std::fs::read_link(mounted.point().join("latest")).unwrap();
    assert!(target.is_relative());
    assert_eq!(mounted.point().join(target), mounted.at(T3));
}

/// > `--time-template` names the directories by strftime fields instead, or, as `rfc3339`, like
/// > `2026-08-01T12:00:00+02:00`.
#[test]
fn a_template_names_the_directories() {
    let (env, _) = world();
    let mounted = Mounted::with(&env, Encoding::Gzip, &["--time-template", "%d. %B %Y"]);
    assert_eq!(
        names(&mounted),
        ["01. August 2026", "02. August 2026", "03. August 2026", "latest"]
    );
    drop(mounted);
    let mounted = Mounted::with(&env, Encoding::Gzip, &["-o", "time_template=rfc3339"]);
    assert_eq!(names(&mounted)[0], "2026-08-01T12:00:00+00:00");
}

/// > Of directories that would have the same name, the later ones end in `.2`, `.3` and so on.
#[test]
fn equal_names_get_a_suffix() {
    let (env, truths) = world();
    let mounted = Mounted::with(&env, Encoding::Gzip, &["--time-template", "%Y"]);
    let names = names(&mounted);
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names[..3].iter().all(|name| name.starts_with("2026")), "{names:?}");
    let shown =
        names[..3].iter().map(|name| crate::support::Truth::record(&mounted.point().join(name)));
    let mut shown: Vec<_> = shown.collect();
    shown.sort_by_key(|truth| truth.0[&b"changed"[..]].mtime);
    assert!(shown.iter().eq(truths.values()));
}

/// > A backup that cannot be used has no directory, and the log names it once, with the reason.
#[test]
fn unusable_backups_are_named_once() {
    let (env, _) = world();
    std::fs::remove_file(
        env.store().join("duplicity-inc.20260801T120000Z.to.20260802T120000Z.manifest"),
    )
    .unwrap();
    let mounted = Mounted::with(&env, Encoding::Gzip, &["--refresh", "1s"]);
    assert_eq!(mounted.snapshots().into_keys().collect::<Vec<_>>(), [T1]);
    // Three looks at the collection later, the log has not grown.
    std::thread::sleep(Duration::from_millis(3200));
    let log = mounted.log();
    let lines = |names: [&str; 2]| {
        log.lines().filter(|line| names.iter().any(|name| line.contains(name))).count()
    };
    assert_eq!(lines(["20260803T120000Z", "2026-08-03T12:00:00"]), 1, "for {T3}: {log}");
    assert!(lines(["20260802T120000Z", "2026-08-02T12:00:00"]) >= 1, "for {T2}: {log}");
}
