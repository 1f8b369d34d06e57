//! Parsers of single values: times, durations, owners, verbosity, paths in a backup.

use crate::cli::failure::Failure;
use dupfs::model::{BackupTime, EntryPath};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Parses `1000:1000`.
#[cfg(feature = "mount")]
pub fn parse_owner(text: &str) -> Result<(u32, u32), String> {
    let numbers =
        text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers.ok_or_else(|| "write two numbers, as in 1000:1000".into())
}

/// Parses `90`, `90s`, `5m`, `1h`.
#[cfg(feature = "mount")]
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let (digits, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    let parsed = digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(seconds))
        .filter(|&seconds| seconds > 0);
    parsed
        .map(std::time::Duration::from_secs)
        .ok_or_else(|| "write a time such as 60s, 5m or 1h".into())
}

/// Parses a rate: `500` or `500K` is as many KiB a second, `2M` MiB. Returns bytes a second.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match &text[digits.len()..] {
        "" | "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => 0,
    };
    let parsed = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
    parsed
        .filter(|rate| *rate > 0)
        .ok_or_else(|| "write KiB a second, such as 500, or with a unit, such as 2M".into())
}

/// Parses duplicity's levels: a digit, a letter or a word, in any case.
pub fn parse_verbosity(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "e" | "error" => Ok(0),
        "w" | "warning" => Ok(2),
        "n" | "notice" => Ok(3),
        "i" | "info" => Ok(5),
        "d" | "debug" => Ok(9),
        digit => digit.parse().ok().filter(|level| *level <= 9).ok_or_else(|| {
            "Verbosity must be one of: digit [0-9], character [ewnid], or word ['error', 'warning', 'notice', 'info', 'debug']".into()
        }),
    }
}

/// Takes a time as users type it.
pub fn time(text: &str, now: BackupTime) -> anyhow::Result<BackupTime> {
    Ok(BackupTime::parse_expression(text, now)
        .map_err(|error| Failure::CommandLine(error.to_string()))?)
}

/// Parses a path in a backup. Slashes at both ends are forgiven, as 0.8 does.
///
/// # Errors
/// [`Failure::CommandLine`] for what is no path below the root of a backup.
pub fn entry_path(typed: &OsString) -> Result<EntryPath, Failure> {
    let mut path = typed.as_bytes();
    while let [b'/', rest @ ..] | [rest @ .., b'/'] = path {
        path = rest;
    }
    EntryPath::parse(path).map_err(|error| Failure::CommandLine(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, rate) in [("500", 512_000), ("2k", 2048), ("3M", 3 << 20), ("1G", 1 << 30)] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for text in
            ["", "0", "M", "-1", "1.5M", "1 M", "2MB", "99999999999999999999", "18014398509481984"]
        {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
