//! `list-current-files`: the paths of a snapshot.

use crate::args::{Common, ListArgs};
use crate::open;
use crate::report::Report;
use crate::status;
use dupfs::catalog::Version;
use dupfs::model::{BackupTime, Entry, EntryKind, EntryPath};
use dupfs::monitor::{Level, Monitor};
use serde_json::json;
use std::io::{BufWriter, Write};
use std::sync::Arc;

/// Prints a line for each path, in path order: its local modification time, a blank, the path.
pub fn run(arguments: &ListArgs, common: &Common) -> anyhow::Result<()> {
    let report = Arc::new(Report::new(common.verbosity, false).leaving_stdout(arguments.json));
    let opened = open::open(&arguments.url, common, report)?;
    if arguments.json {
        opened.report_unusable();
    } else {
        let archived = open::archived(opened.archive.as_deref(), &opened.prefixes);
        let warnings = status::Status::for_reading(&opened.collection, archived).warnings();
        warnings.iter().for_each(|text| opened.report.message(Level::Warning, text));
        opened.report_oddities();
        opened.print_head();
    }
    let snapshot = opened.snapshot(common)?;
    let mut out = BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    for item in snapshot.walk(&opened.catalog, &EntryPath::root())? {
        let (path, version) = item?;
        let Some(entry) = version.entry() else { continue };
        match arguments.json {
            true => writeln!(out, "{}", json_line(&path, &version, entry))?,
            false => {
                write!(out, "{} ", BackupTime::from_seconds(entry.mtime).print_asctime())?;
                // Raw: whoever cuts the line at column 25 gets the name as it is.
                out.write_all(if path.is_root() { b"." } else { path.as_bytes() })?;
                out.write_all(b"\n")?;
            }
        }
    }
    Ok(out.flush()?)
}

/// Returns one path as JSON. `path` is text; a name that is not UTF-8 is told exactly by `path_hex`.
fn json_line(path: &EntryPath, version: &Version, entry: &Entry) -> serde_json::Value {
    let kind = match &entry.kind {
        EntryKind::Directory => "dir",
        EntryKind::File => "reg",
        EntryKind::Symlink { .. } => "sym",
        EntryKind::Fifo => "fifo",
        EntryKind::CharDevice { .. } => "chr",
        EntryKind::BlockDevice { .. } => "blk",
    };
    let bytes = if path.is_root() { b".".as_slice() } else { path.as_bytes() };
    let mut line = json!({
        "path": String::from_utf8_lossy(bytes),
        "type": kind,
        "mode": format!("{:04o}", entry.mode),
        "uid": entry.owner.uid,
        "gid": entry.owner.gid,
        "user": String::from_utf8_lossy(&entry.owner.user),
        "group": String::from_utf8_lossy(&entry.owner.group),
        "mtime": BackupTime::from_seconds(entry.mtime).utc().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    });
    if std::str::from_utf8(bytes).is_err() {
        line["path_hex"] = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    }
    match &entry.kind {
        EntryKind::Symlink { target } => line["target"] = String::from_utf8_lossy(target).into(),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => line["device"] = json!([major, minor]),
        _ => {}
    }
    if let dupfs::catalog::VersionKind::Present { size: Some(size), .. } = version.kind {
        line["size"] = size.into(); // known without reading a volume
    }
    line
}
