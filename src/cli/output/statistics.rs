//! The statistics of a backup, in duplicity's words and as JSON.

use chrono::{DateTime, Local};
use dupfs::backup::Statistics;
use dupfs::model::BackupTime;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// When a backup began and ended.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    /// When the source was first looked at.
    pub start: SystemTime,
    /// When all was stored.
    pub end: SystemTime,
}

/// What a backup was, beside its numbers.
#[derive(Debug)]
pub struct Run<'a> {
    /// Whether a set was stored.
    pub is_stored: bool,
    /// Whether there would have been one, had anything changed.
    pub is_skipped: bool,
    /// The full backup of the chain.
    pub full: BackupTime,
    /// For each set that this one builds on the name of its statistics in the archive directory, if
    /// they are there.
    pub base: &'a [Option<String>],
    /// The URL.
    pub target: &'a str,
    /// The source as it was typed.
    pub source: &'a str,
}

/// Returns the block of lines that scripts search.
///
/// Source: duplicity 0.8.22 and 3.2.1, line by line.
pub fn block(statistics: &Statistics, period: Period) -> String {
    let Statistics {
        source_files,
        new_files,
        deleted_files,
        changed_files,
        delta_entries,
        errors,
        ..
    } = statistics;
    let [source, new, changed, raw, stored] = [
        statistics.source_file_size,
        statistics.new_file_size,
        statistics.changed_file_size,
        statistics.raw_delta_size,
        statistics.stored_size,
    ]
    .map(|bytes| format!("{bytes} ({})", readable(bytes)));
    let elapsed = period.end.duration_since(period.start).unwrap_or_default();
    format!(
        "--------------[ Backup Statistics ]--------------\n\
         StartTime {}\n\
         EndTime {}\n\
         ElapsedTime {:.2} ({})\n\
         SourceFiles {source_files}\n\
         SourceFileSize {source}\n\
         NewFiles {new_files}\n\
         NewFileSize {new}\n\
         DeletedFiles {deleted_files}\n\
         ChangedFiles {changed_files}\n\
         ChangedFileSize {changed}\n\
         ChangedDeltaSize 0 (0 bytes)\n\
         DeltaEntries {delta_entries}\n\
         RawDeltaSize {raw}\n\
         TotalDestinationSizeChange {stored}\n\
         Errors {errors}\n\
         -------------------------------------------------\n\n",
        moment(period.start),
        moment(period.end),
        elapsed.as_secs_f64(),
        duration(elapsed),
    )
}

/// Returns the same as the object that versions 3.x store beside a set.
///
/// Source: `jsonstat` files of duplicity 3.2.1.
pub fn object(statistics: &Statistics, period: Period, run: &Run) -> Value {
    let elapsed = period.end.duration_since(period.start).unwrap_or_default();
    let Run { target, source, base, .. } = run;
    let is_full = base.is_empty();
    // What is known here of the sets before; of a full one, its own.
    let none = [None];
    let local = if is_full { &none[..] } else { base };
    let local: Vec<_> = local.iter().map(|name| name.as_deref().unwrap_or("N/A")).collect();
    json!({
        "Filename": null,
        "StartTime": seconds(period.start),
        "EndTime": seconds(period.end),
        "ElapsedTime": elapsed.as_secs_f64(),
        "Errors": statistics.errors,
        "TotalDestinationSizeChange": run.is_stored.then_some(statistics.stored_size),
        "SourceFiles": statistics.source_files,
        "SourceFileSize": statistics.source_file_size,
        "NewFiles": statistics.new_files,
        "NewFileSize": statistics.new_file_size,
        "DeletedFiles": statistics.deleted_files,
        "ChangedFiles": statistics.changed_files,
        "ChangedFileSize": statistics.changed_file_size,
        "ChangedDeltaSize": 0,
        "DeltaEntries": statistics.delta_entries,
        "RawDeltaSize": statistics.raw_delta_size,
        "StartTime_str": BackupTime::from_seconds(seconds(period.start) as i64).to_string(),
        "EndTime_str": BackupTime::from_seconds(seconds(period.end) as i64).to_string(),
        "backup_meta": {
            "action": if is_full { "full" } else { "inc" },
            "skipped_inc": run.is_skipped,
            "time_full_bkp": run.full.seconds(),
            "time_full_bkp_str": run.full.to_string(),
            "no_of_inc": base.len().saturating_sub(1),
            "concurrency": 0,
            "target": target,
            "source": source,
            "local_json_stat": local,
        },
    })
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Prints seconds with two decimals, and the local time.
fn moment(time: SystemTime) -> String {
    let local: DateTime<Local> = time.into();
    format!(
        "{:.2} ({})",
        seconds(time),
        BackupTime::from_seconds(local.timestamp()).print_asctime()
    )
}

/// Prints a duration; beside hours or minutes, seconds up to 1 are left out.
fn duration(duration: Duration) -> String {
    let (total, fraction) = (duration.as_secs(), f64::from(duration.subsec_nanos()) / 1e9);
    let (hours, minutes, rest) = (total / 3600, total / 60 % 60, (total % 60) as f64 + fraction);
    let mut parts = Vec::new();
    for (count, word) in [(hours, "hour"), (minutes, "minute")] {
        match count {
            0 => {}
            1 => parts.push(format!("1 {word}")),
            _ => parts.push(format!("{count} {word}s")),
        }
    }
    if parts.is_empty() || rest > 1.0 {
        parts.push(format!("{rest:.2} seconds"));
    }
    parts.join(" ")
}

/// Prints a number of bytes with three significant digits.
fn readable(bytes: u64) -> String {
    for (shift, unit) in [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")] {
        if bytes >> shift > 0 {
            let value = bytes as f64 / (1u64 << shift) as f64;
            let decimals = if value >= 100.0 {
                0
            } else if value >= 10.0 {
                1
            } else {
                2
            };
            return format!("{value:.decimals$} {unit}");
        }
    }
    if bytes == 1 { "1 byte".into() } else { format!("{bytes} bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_as_duplicity_prints_them() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (4098, "4.00 KB"),
            (8203, "8.01 KB"),
            (12301, "12.0 KB"),
            (312_320, "305 KB"),
            (2_506_000, "2.39 MB"),
            (5 << 40, "5.00 TB"),
        ] {
            assert_eq!(readable(bytes), text);
        }
        for (millis, text) in [
            (530, "0.53 seconds"),
            (125_210, "2 minutes 5.21 seconds"),
            (3_780_000, "1 hour 3 minutes"),
            (60_500, "1 minute"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
