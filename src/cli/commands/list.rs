//! `list-current-files`: the paths of a snapshot.

use crate::cli::arguments::Common;
use crate::cli::failure::quoted;
use crate::cli::open;
use crate::cli::output::json::add_path;
use crate::cli::output::{Output, Report, log, stamp};
use clap::Args;
use dupfs::catalog::Version;
use dupfs::model::{BackupTime, Entry, EntryKind, EntryPath};
use dupfs::monitor::Level;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::sync::Arc;

/// Arguments of `list-current-files`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Where the backups are: file:///folder, sftp://user@host/folder, or a plain path
    pub url: OsString,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Prints a line for each path, in path order: its local modification time, a blank, the path.
pub fn run(arguments: &ListArgs, common: &Common) -> anyhow::Result<()> {
    let report = Arc::new(Report::new(common.verbosity, false).leaving_stdout(arguments.json));
    let opened = open::open(&arguments.url, common, report)?;
    if arguments.json {
        opened.report_unusable();
    } else {
        opened.print_head();
    }
    let snapshot = opened.snapshot(common)?;
    let mut out = Output::new();
    let is_followed = log::is_open();
    for item in snapshot.walk(&opened.backups.sets, &EntryPath::root())? {
        let (path, version) = item?;
        let Some(entry) = version.entry() else { continue };
        match arguments.json {
            true => writeln!(out, "{}", json_line(&path, &version, entry))?,
            false => {
                let line = text_line(&path, entry);
                out.write_all(stamp(Level::Info).as_bytes())?;
                out.write_all(&line)?;
                if is_followed {
                    log_entry(&path, entry, &line);
                }
            }
        }
    }
    Ok(out.flush()?)
}

/// Tells programs of a path, whatever the verbosity.
fn log_entry(path: &EntryPath, entry: &Entry, line: &[u8]) {
    let words = format!(
        "{} {} {}",
        BackupTime::from_seconds(entry.mtime),
        quoted(path.shown()),
        entry.kind.word()
    );
    let text = String::from_utf8_lossy(line);
    log::write(
        &log::Message {
            level: Level::Info,
            code: log::code::LISTED,
            words: &words,
            text: text.trim_end_matches('\n'),
        },
        "",
    );
}

/// Returns the bytes of a line of duplicity's: whoever cuts it at column 25 gets the name as it is,
/// whatever is in it.
fn text_line(path: &EntryPath, entry: &Entry) -> Vec<u8> {
    let time = BackupTime::from_seconds(entry.mtime).print_asctime();
    [time.as_bytes(), b" ", path.shown(), b"\n"].concat()
}

/// Returns one path as JSON.
fn json_line(path: &EntryPath, version: &Version, entry: &Entry) -> serde_json::Value {
    let mut line = json!({
        "type": entry.kind.word(),
        "mode": format!("{:04o}", entry.mode),
        "uid": entry.owner.uid,
        "gid": entry.owner.gid,
        "user": String::from_utf8_lossy(&entry.owner.user),
        "group": String::from_utf8_lossy(&entry.owner.group),
        "mtime": BackupTime::from_seconds(entry.mtime).utc().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    });
    add_path(&mut line, path);
    match &entry.kind {
        EntryKind::Symlink { target } => line["target"] = String::from_utf8_lossy(target).into(),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            line["device"] = json!([major, minor])
        }
        _ => {}
    }
    if let dupfs::catalog::VersionKind::Present { size: Some(size), .. } = version.kind {
        line["size"] = size.into(); // known without reading a volume
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use dupfs::catalog::{DirectoryId, VersionId, VersionKind};
    use dupfs::model::Owner;

    fn entry(kind: EntryKind) -> Entry {
        let owner = Owner { uid: 1, gid: 2, user: b"me".to_vec(), group: b"".to_vec() };
        Entry { kind, mode: 0o4755, owner, mtime: 1_577_836_800 }
    }

    #[test]
    fn lines_are_raw_behind_column_25() {
        let time = BackupTime::from_seconds(1_577_836_800).print_asctime();
        for (path, shown) in [(&b""[..], &b"."[..]), (b"a/b", b"a/b"), (b"\xff\n\\", b"\xff\n\\")] {
            let line = text_line(&EntryPath::parse(path).unwrap(), &entry(EntryKind::File));
            assert_eq!(
                (&line[..24], &line[24..]),
                (time.as_bytes(), &[b" ", shown, b"\n"].concat()[..])
            );
        }
    }

    #[test]
    fn json_tells_what_is_known() {
        let version = |entry, size| Version {
            id: VersionId::from_parts(1, 1),
            directory: DirectoryId::from_parts(1, 1),
            name: Vec::new(),
            position: 0,
            until: None,
            kind: VersionKind::Present { entry, directory: None, size },
        };
        let line = |path: &[u8], kind, size| {
            let entry = entry(kind);
            json_line(&EntryPath::parse(path).unwrap(), &version(entry.clone(), size), &entry)
        };
        let common = json!({
            "path": "a\u{fffd}", "path_hex": "61ff", "type": "reg", "mode": "4755", "uid": 1, "gid": 2, "user": "me", "group": "",
            "mtime": "2020-01-01T00:00:00Z", "size": 7,
        });
        assert_eq!(line(b"a\xff", EntryKind::File, Some(7)), common);
        assert!(line(b"a", EntryKind::File, None).get("size").is_none());
        assert_eq!(line(b"", EntryKind::Directory, None)["path"], ".");
        assert_eq!(
            line(b"a", EntryKind::Symlink { target: b"x/y".to_vec() }, None)["target"],
            "x/y"
        );
        assert_eq!(
            line(b"a", EntryKind::CharDevice { major: 1, minor: 3 }, None)["device"],
            json!([1, 3])
        );
    }
}
