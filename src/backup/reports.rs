//! What is reported of paths and of progress, in duplicity's words.

use crate::model::EntryPath;
use crate::monitor::{Event, Level, Monitor, code, quoted};
use crate::source::Found;

/// Reports what a session does with a path, in duplicity's words.
pub fn report_path(code: u8, path: &EntryPath, monitor: &dyn Monitor) {
    let letter = match code {
        code::ADDED => 'A',
        code::CHANGED => 'M',
        _ => 'D',
    };
    let text = format!("{letter} {path}");
    monitor.event(&Event { level: Level::Info, code, words: &quoted(path.shown()), text: &text });
}

/// Reports that a path is new or has changed, and warns of a time that the format does not keep, in
/// duplicity's words.
pub fn report_found(code: u8, found: &Found, monitor: &dyn Monitor) {
    report_path(code, &found.path, monitor);
    if found.entry.mtime < 0 {
        let text = format!("Warning: {} has negative mtime, treating as 0.", found.path);
        monitor.message(Level::Warning, &text);
    }
}

/// Tells how many bytes of the source have been met.
pub fn report_progress(met: u64, text: &str, monitor: &dyn Monitor) {
    monitor.event(&Event {
        level: Level::Info,
        code: code::PROGRESS,
        words: &met.to_string(),
        text,
    });
}
