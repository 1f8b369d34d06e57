//! Paths and times as the commands that print JSON write them.

use dupfs::model::{BackupTime, EntryPath};

/// Names a path in JSON. `path` is text; of a name that is not UTF-8, `path_hex` holds the bytes.
pub fn add_path(object: &mut serde_json::Value, path: &EntryPath) {
    let bytes = path.shown();
    object["path"] = String::from_utf8_lossy(bytes).into();
    if std::str::from_utf8(bytes).is_err() {
        object["path_hex"] =
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    }
}

/// Returns a time as JSON has it.
pub fn rfc3339(time: BackupTime) -> String {
    time.utc().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
