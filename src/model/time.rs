//! [`BackupTime`]: the whole second that names a backup set.

use chrono::{DateTime, NaiveDateTime, Utc};
use std::fmt;

/// A point in time in whole seconds since 1970 UTC, as file names and manifests carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupTime(i64);

impl BackupTime {
    /// The form of long file names.
    const COMPACT: &str = "%Y%m%dT%H%M%SZ";

    /// Takes seconds since 1970 UTC.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Returns seconds since 1970 UTC.
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// Parses `YYYYMMDDThhmmssZ`, in upper or lower case.
    ///
    /// Source: FORMAT.md 1.2.
    pub fn parse_compact(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let time = NaiveDateTime::parse_from_str(&text, Self::COMPACT).ok()?;
        (text.len() == 16).then(|| Self(time.and_utc().timestamp()))
    }

    /// Returns the same point as a calendar date in UTC; years beyond the calendar's end are cut to it.
    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0, 0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }
}

/// Prints `YYYYMMDDThhmmssZ`.
impl fmt::Display for BackupTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.utc().format(Self::COMPACT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_form_round_trips() {
        let time = BackupTime::parse_compact("20261122T151019Z").unwrap();
        assert_eq!(time.seconds(), 1795360219);
        assert_eq!(time.to_string(), "20261122T151019Z");
        assert_eq!(BackupTime::parse_compact("20261122t151019z"), Some(time));
        assert_eq!(BackupTime::parse_compact("20261322T151019Z"), None);
    }
}
