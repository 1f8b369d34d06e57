//! `collection-status --file-changed` and `--show-changes-in-set`: what the sets of the newest
//! chain did to regular files.
//!
//! Only manifests are read, from the archive directory if they are there, which needs no key. Where
//! they are not, the stored ones are read; the originals then report no changes at all. Their
//! `b'New'` is `New` here, and 3.2.1's `File: b'a'` is `File: a`.
//!
//! Source: duplicity 0.8.22 and 3.2.1, tried.

use crate::cli::arguments::Common;
use crate::cli::arguments::folders::tempdir;
use crate::cli::arguments::values::entry_path;
use crate::cli::open::{self, Opened};
use crate::cli::output::json::{add_path, rfc3339};
use crate::cli::output::{Output, Report, Status, log};
use anyhow::Context;
use dupfs::catalog::Chain;
use dupfs::collection::BackupSet;
use dupfs::format::{FileChange, Manifest};
use dupfs::model::EntryPath;
use dupfs::monitor::Level;
use dupfs::storage::StoredFile;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io::{self, BufReader, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use tempfile::SpooledTempFile;

const RULE: &str = "-------------------------";

/// Statistics that are read of a set, in bytes; they have some 1,500, and 50 for each increment.
const MOST_STATISTICS: usize = 16 << 20;

/// What is kept in memory of a message, in bytes.
const MOST_KEPT: usize = 1 << 20;

/// Returns whether changes are asked for.
pub fn is_asked(common: &Common) -> bool {
    common.reading.file_changed.is_some() || common.reading.show_changes_in_set.is_some()
}

/// Prints the changes of one set, or those of one file; nothing if there is no backup.
pub fn run(url: &OsStr, is_json: bool, common: &Common) -> anyhow::Result<()> {
    let report = Arc::new(Report::new(common.verbosity, false).leaving_stdout(is_json));
    let opened = open::open(url, common, report.clone())?;
    if is_json {
        return write_json(&opened, common);
    }
    let status = Status::new(
        &opened.backups.collection,
        open::archived(opened.archive.as_deref(), &opened.prefixes),
    );
    status.warn(report.as_ref());
    opened.report_oddities();
    status.print_head(opened.archive.as_deref(), &report);
    let Some(chain) = opened.backups.sets.catalog().chains().last().cloned() else { return Ok(()) };
    match (common.reading.show_changes_in_set, &common.reading.file_changed) {
        (Some(number), _) if common.writing.jsonstat => print_json(&opened, &chain, number),
        (Some(number), _) => print_set(&opened, &chain, number, common),
        (None, Some(file)) => print_file(&opened, &chain, file, common),
        (None, None) => Ok(()),
    }
}

/// Writes one object: the set and its changes, or the file and the sets that changed it; `null` for
/// a set if there is no backup.
fn write_json(opened: &Opened, common: &Common) -> anyhow::Result<()> {
    let chains = opened.backups.sets.catalog().chains();
    let mut out = Output::new();
    match (common.reading.show_changes_in_set, chains.last(), &common.reading.file_changed) {
        (Some(number), Some(chain), _) => {
            let (position, set) = numbered(chain, number)?;
            let set = set_json(set);
            // The changes are too many to be kept.
            write!(out, "{{\"kind\":{},\"time\":{},\"changes\":[", set["kind"], set["time"])?;
            let (mut written, mut comma) = (Ok(()), "");
            opened.backups.sets.changed_files(chain, position, |change, path| {
                let mut object = json!({ "change": word(change) });
                add_path(&mut object, path);
                if written.is_ok() {
                    written = write!(out, "{comma}{object}");
                }
                comma = ",";
            })?;
            written?;
            writeln!(out, "]}}")?;
        }
        (None, chain, Some(typed)) => {
            let wanted = entry_path(typed)?;
            let mut sets = Vec::new();
            if let Some(chain) = chain {
                each_change(opened, chain, &wanted, |set, change| {
                    let mut object = set_json(set);
                    object["change"] = word(change).into();
                    sets.push(object);
                })?;
            }
            let mut object = json!({ "sets": sets });
            add_path(&mut object, &wanted);
            writeln!(out, "{object}")?;
        }
        _ => writeln!(out, "null")?,
    }
    Ok(out.flush()?)
}

fn set_json(set: &BackupSet) -> Value {
    json!({ "kind": if set.session.is_full() { "full" } else { "incremental" }, "time": rfc3339(set.end()) })
}

/// Tells of each set that did something to a file.
fn each_change<'c>(
    opened: &Opened,
    chain: &'c Chain,
    wanted: &EntryPath,
    mut take: impl FnMut(&'c BackupSet, FileChange),
) -> anyhow::Result<()> {
    for (position, set) in chain.sets.iter().enumerate() {
        let mut found = None;
        opened.backups.sets.changed_files(chain, position as u32, |change, path| {
            if path == wanted {
                found = Some(change);
            }
        })?;
        found.into_iter().for_each(|change| take(set, change));
    }
    Ok(())
}

/// Returns a set and its position. 0 is the newest set and 1 the one before; -1 is the oldest and
/// -2 the one after.
fn numbered(chain: &Chain, number: i64) -> anyhow::Result<(u32, &BackupSet)> {
    let count = chain.sets.len() as i64;
    let position = if number < 0 { -1 - number } else { count - 1 - number };
    let set = usize::try_from(position).ok().and_then(|position| chain.sets.get(position));
    let missing = || {
        let range = format!("0 to {} or -1 to -{count}", count - 1);
        anyhow::anyhow!("there is no set {number}: the newest chain has {count}, which are {range}")
    };
    Ok((position as u32, set.ok_or_else(missing)?))
}

/// Prints what one set did.
fn print_set(opened: &Opened, chain: &Chain, number: i64, common: &Common) -> anyhow::Result<()> {
    let (position, set) = numbered(chain, number)?;
    // The width of the columns stands before the lines, which are too many to be kept.
    let (mut lines, mut width) = (0u64, "File:".len());
    opened.backups.sets.changed_files(chain, position, |_, path| {
        lines += 1;
        width = width.max(shown(&Manifest::print_path(path)).chars().count());
    })?;
    let mut out = Told::new(common)?;
    let time = set.end().print_asctime();
    writeln!(
        out,
        "{RULE}\n Backup set time: {time}\nTotal number of changes: {lines}\n{:width$}{:>22}",
        "File:", "Type of file change:"
    )?;
    let mut written = Ok(());
    opened.backups.sets.changed_files(chain, position, |change, path| {
        let path = Manifest::print_path(path);
        let gap = width - shown(&path).chars().count();
        let line = [&path[..], format!("{:gap$}{:>22}\n", "", word(change)).as_bytes()].concat();
        if written.is_ok() {
            written = out.write_all(&line);
        }
    })?;
    written?;
    writeln!(out, "{RULE}")?;
    out.end()
}

/// Prints what is stored of a set's statistics, and what it did, as 3.2.1 does with `--jsonstat`;
/// of the whole chain, newest set first, if the number is negative.
fn print_json(opened: &Opened, chain: &Chain, number: i64) -> anyhow::Result<()> {
    let sets: Vec<(u32, &BackupSet)> = match number {
        ..0 => (0..).zip(chain.sets.iter()).collect::<Vec<_>>().into_iter().rev().collect(),
        _ => vec![numbered(chain, number)?],
    };
    let mut out = Output::new();
    let mut separator = "{";
    for (position, set) in sets {
        let kind = if set.session.is_full() { "full" } else { "inc" };
        let statistics = statistics(opened, set)?;
        write!(
            out,
            "{separator}\n\"{kind}-{}\": {{\n\"json_stat\": {statistics:#},\n\"files_changed\": {{",
            set.end()
        )?;
        let (mut written, mut comma) = (Ok(()), "");
        opened.backups.sets.changed_files(chain, position, |change, path| {
            let path = serde_json::Value::from(shown(&Manifest::print_path(path)));
            if written.is_ok() {
                written = write!(out, "{comma}\n{path}: \"{}\"", word(change));
            }
            comma = ",";
        })?;
        written?;
        write!(out, "\n}}\n}}")?;
        separator = ",";
    }
    writeln!(out, "\n}}")?;
    Ok(out.flush()?)
}

/// Reads what is stored of a set's statistics; an empty object if nothing is.
fn statistics(opened: &Opened, set: &BackupSet) -> anyhow::Result<serde_json::Value> {
    let Some(file) = &set.statistics else { return Ok(serde_json::json!({})) };
    let stored = StoredFile::new(opened.backups.storage.clone(), file.listed.clone());
    let bytes =
        opened.backups.codec.decode_stored(stored, file.encoding)?.read_at_most(MOST_STATISTICS)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("cannot read the statistics in '{}'", file.listed.name))
}

/// Prints which sets did something to one file.
fn print_file(
    opened: &Opened,
    chain: &Chain,
    typed: &OsString,
    common: &Common,
) -> anyhow::Result<()> {
    let wanted = entry_path(typed)?;
    let mut rows = Vec::new();
    each_change(opened, chain, &wanted, |set, change| {
        let kind = if set.session.is_full() { "Full" } else { "Incremental" };
        rows.push(row(kind, &set.end().print_asctime(), &capital(word(change))));
    })?;
    let mut out = Told::new(common)?;
    out.write_all(&[format!("{RULE}\nFile: ").as_bytes(), typed.as_bytes(), b"\n"].concat())?;
    writeln!(out, "Total number of backup: {}", rows.len())?;
    out.write_all(row("Type of backup set:", "Time:", "Type of file change:").as_bytes())?;
    out.write_all(rows.concat().as_bytes())?;
    writeln!(out, "{RULE}")?;
    out.end()
}

/// What is printed, and logged for programs as one message in the end.
struct Told {
    out: Output,
    /// The same, if anybody follows; in a temporary file when it is much.
    text: Option<SpooledTempFile>,
}

impl Told {
    fn new(common: &Common) -> anyhow::Result<Self> {
        let (out, tempdir) = (Output::new(), tempdir(common)?);
        Ok(Self {
            out,
            text: log::is_open().then(|| tempfile::spooled_tempfile_in(MOST_KEPT, tempdir)),
        })
    }

    fn end(mut self) -> anyhow::Result<()> {
        if let Some(mut text) = self.text {
            let written = text.rewind().and_then(|()| {
                log::write_long(Level::Info, log::code::COLLECTION_STATUS, BufReader::new(text))
            });
            written.map_err(unkept)?;
        }
        Ok(self.out.flush()?)
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        if let Some(text) = &mut self.text {
            text.write_all(&bytes[..count]).map_err(unkept)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn unkept(error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot use a temporary file: {error}; --tempdir names another folder for them"),
    )
}

fn row(kind: &str, time: &str, change: &str) -> String {
    format!("{kind:>20}   {time:>30}  {change:>20}\n")
}

fn word(change: FileChange) -> &'static str {
    match change {
        FileChange::New => "new",
        FileChange::Changed => "changed",
        FileChange::Deleted => "deleted",
    }
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

/// Returns what a name takes on a terminal.
fn shown(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(name)
}
