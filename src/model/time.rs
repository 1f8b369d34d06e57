//! [`BackupTime`]: the whole second that names a backup set, and the time expressions that users
//! type.
//!
//! Users type what duplicity takes: `now`, seconds since 1970, an interval before now (`3D`,
//! `1h78m`), or a date with or without time; and the name of a folder in the mount, which they may
//! have copied. Two meanings differ from duplicity's, on purpose. A date or time without zone
//! follows the local clock as it ran then, summer time included; duplicity counts local standard
//! time all year. And zones are read as RFC 3339 has them; duplicity adds the minutes of a zone
//! even when its hours are negative, which old file names need ([`BackupTime::parse_w3c`]) but
//! people do not.

use chrono::{
    DateTime, Datelike, Days, Local, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeDelta,
    TimeZone, Timelike, Utc,
};
use std::fmt;

/// A point in time in whole seconds since 1970 UTC, as file names and manifests carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupTime(i64);

/// Why text is no time expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Bad time string \"'{0}'\": write \"now\", seconds since 1970, an interval of numbers with one of s, m, h, D, W, M, Y \
     (\"3D\", \"1h78m\"), or a date like \"2002-01-25\", \"1/25/2002\" or \"2002-01-25T07:00:00+02:00\""
)]
pub struct InvalidTime(pub String);

impl BackupTime {
    /// Takes seconds since 1970 UTC.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Returns seconds since 1970 UTC.
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// Parses `YYYYMMDDThhmmssZ`, in upper or lower case, years 1901 to 2099.
    ///
    /// Source: names written by duplicity 0.8.22 and 3.2.1; its readers take lower case too.
    pub fn parse_compact(text: &str) -> Option<Self> {
        let &[
            y1,
            y2,
            y3,
            y4,
            m1,
            m2,
            d1,
            d2,
            b'T' | b't',
            hour1,
            hour2,
            min1,
            min2,
            s1,
            s2,
            b'Z' | b'z',
        ] = text.as_bytes()
        else {
            return None;
        };
        let date = date(number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?)?;
        utc(clock(date, number(&[hour1, hour2])?, number(&[min1, min2])?, number(&[s1, s2])?)?, 0)
    }

    /// Parses the time in an old file name: `YYYY-MM-DDThh:mm:ss` and a zone, `Z` or sign, `hh:mm`.
    /// Any other character may stand for all the `:`, as duplicity's `--time-separator` made it,
    /// but no letter, digit, `-` or `.`.
    ///
    /// The minutes of the zone are always added, even when the hours are negative: Newfoundland's
    /// -3 h 30 min stands as `-04:30`.
    ///
    /// Source: names written by duplicity 0.8.22 with `--old-filenames` in several zones.
    pub fn parse_w3c(text: &str) -> Option<Self> {
        let separator = text
            .chars()
            .nth(13)
            .filter(|&c| c.is_ascii_graphic() && !c.is_ascii_alphanumeric() && !"-.".contains(c))?;
        let (time, zone) = civil_time(text.as_bytes(), separator as u8)?;
        let (hours, minutes) = zone_parts(zone, separator as u8)?;
        utc(time, 60 * hours + minutes)
    }

    /// Parses what a user typed; intervals count back from `now`. Times and dates without zone are
    /// local ones.
    ///
    /// A local time that the clock showed twice is the later one (standard time); one that it
    /// skipped is read with the offset before.
    ///
    /// # Errors
    /// [`InvalidTime`] when the text is none of the forms, or too far from today to be counted.
    ///
    /// Source: duplicity 0.8.22 and 3.2.1, tried in several zones.
    pub fn parse_expression(text: &str, now: Self) -> Result<Self, InvalidTime> {
        let parsed = match text.as_bytes() {
            b"" => None,
            b"now" => Some(now),
            digits if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                text.parse().ok().map(Self)
            }
            bytes => interval(bytes)
                .and_then(|seconds| now.0.checked_sub(seconds).map(Self))
                .or_else(|| Self::parse_compact(text))
                .or_else(|| w3c_or_local(bytes))
                .or_else(|| folder(bytes))
                .or_else(|| {
                    Self::parse_compact(&format!("{text}Z"))
                        .and_then(|time| local(time.utc().naive_utc()))
                })
                .or_else(|| local(clock(typed_date(text)?, 0, 0, 0)?)),
        };
        parsed.ok_or_else(|| InvalidTime(text.to_string()))
    }

    /// Returns the same point as a calendar date in UTC; years beyond the calendar's end are cut to
    /// it.
    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0, 0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }

    /// Prints local time with its zone as in old file names, the counterpart of
    /// [`BackupTime::parse_w3c`]: the hours of the zone are rounded down, so that the minutes are
    /// to be added. `separator` stands for each `:`.
    ///
    /// Source: names written by duplicity 0.8.22 with `--old-filenames` in several zones.
    pub fn print_w3c(self, separator: char) -> String {
        let utc = self.utc().naive_utc();
        let offset = Local.offset_from_utc_datetime(&utc).fix();
        let time = utc.checked_add_offset(offset).unwrap_or(utc).format("%Y-%m-%dT%H:%M:%S");
        let minutes = offset.local_minus_utc().div_euclid(60);
        let zone = match (minutes.div_euclid(60), minutes.rem_euclid(60)) {
            (0, 0) => "Z".to_string(),
            (hours, minutes) => {
                format!("{}{:02}:{minutes:02}", if hours < 0 { '-' } else { '+' }, hours.abs())
            }
        };
        format!("{time}{zone}").replace(':', &separator.to_string())
    }

    /// Prints local time as C's `asctime` does, in English: `Wed Jan  1 00:00:00 2020`.
    pub fn print_asctime(self) -> String {
        const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let utc = self.utc().naive_utc();
        let time =
            utc.checked_add_offset(Local.offset_from_utc_datetime(&utc).fix()).unwrap_or(utc);
        let (day, month) =
            (DAYS[time.weekday().num_days_from_monday() as usize], MONTHS[time.month0() as usize]);
        let (date, hour, minute, second, year) =
            (time.day(), time.hour(), time.minute(), time.second(), time.year());
        format!("{day} {month} {date:2} {hour:02}:{minute:02}:{second:02} {year}")
    }
}

/// Prints `YYYYMMDDThhmmssZ`.
impl fmt::Display for BackupTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.utc().format("%Y%m%dT%H%M%SZ"))
    }
}

/// Parses decimal digits, nothing else.
fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .all(u8::is_ascii_digit)
        .then(|| std::str::from_utf8(digits).ok()?.parse().ok())
        .flatten()
}

/// Makes a date. Days up to 31 are taken in any month and roll over: February 30 is March 1 or 2.
fn date(year: i64, month: i64, day: i64) -> Option<NaiveDate> {
    if !(1901..=2099).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    NaiveDate::from_ymd_opt(year as i32, month.try_into().ok()?, 1)?
        .checked_add_days(Days::new(day as u64 - 1))
}

/// Makes a time of day; seconds up to 61 are taken and roll over.
fn clock(date: NaiveDate, hour: i64, minute: i64, second: i64) -> Option<NaiveDateTime> {
    if second > 61 {
        return None;
    }
    date.and_hms_opt(hour.try_into().ok()?, minute.try_into().ok()?, 0)?
        .checked_add_signed(TimeDelta::seconds(second))
}

/// Parses `YYYY-MM-DDThh:mm:ss`, with another separator perhaps, and returns what follows.
fn civil_time(text: &[u8], separator: u8) -> Option<(NaiveDateTime, &[u8])> {
    let (time, zone) = text.split_at_checked(19)?;
    let fixed = [(4, b'-'), (7, b'-'), (10, b'T'), (13, separator), (16, separator)];
    if fixed.iter().any(|&(at, byte)| time[at] != byte) {
        return None;
    }
    let date = date(number(&time[..4])?, number(&time[5..7])?, number(&time[8..10])?)?;
    Some((clock(date, number(&time[11..13])?, number(&time[14..16])?, number(&time[17..])?)?, zone))
}

/// Parses a zone into its signed hours and unsigned minutes.
fn zone_parts(zone: &[u8], separator: u8) -> Option<(i64, i64)> {
    match *zone {
        [b'Z'] => Some((0, 0)),
        [sign @ (b'+' | b'-'), hour1, hour2, between, min1, min2] if between == separator => {
            let (hours, minutes) = (number(&[hour1, hour2])?, number(&[min1, min2])?);
            Some((if sign == b'-' { -hours } else { hours }, minutes))
        }
        _ => None,
    }
}

/// Parses `YYYY-MM-DDThh:mm:ss` with a zone, or local without.
fn w3c_or_local(text: &[u8]) -> Option<BackupTime> {
    let (time, zone) = civil_time(text, b':')?;
    if zone.is_empty() {
        return local(time);
    }
    let (hours, minutes) = zone_parts(zone, b':')?;
    utc(time, 60 * hours + if zone[0] == b'-' { -minutes } else { minutes })
}

/// Parses the name of a folder in the mount: `YYYY-MM-DDThh.mm.ss` with a zone, sign and `hhmm`.
fn folder(text: &[u8]) -> Option<BackupTime> {
    let (time, zone) = civil_time(text, b'.')?;
    let [sign @ (b'+' | b'-'), hour1, hour2, min1, min2] = *zone else { return None };
    let minutes = 60 * number(&[hour1, hour2])? + number(&[min1, min2])?;
    utc(time, if sign == b'-' { -minutes } else { minutes })
}

/// Parses one or more pairs of number and unit into seconds.
fn interval(mut text: &[u8]) -> Option<i64> {
    const DAY: i64 = 86_400;
    let mut total = 0i64;
    while !text.is_empty() {
        let digits = text.iter().position(|b| !b.is_ascii_digit()).filter(|&digits| digits > 0)?;
        let unit = match text[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'D' => DAY,
            b'W' => 7 * DAY,
            b'M' => 30 * DAY,
            b'Y' => 365 * DAY,
            _ => return None,
        };
        total = number(&text[..digits])?.checked_mul(unit)?.checked_add(total)?;
        text = &text[digits + 1..];
    }
    Some(total)
}

/// Parses `YYYY/M/D`, `M/D/YYYY`, both with `-` too, and `YYYYMMDDZ`.
fn typed_date(text: &str) -> Option<NaiveDate> {
    if let &[y1, y2, y3, y4, m1, m2, d1, d2, b'Z'] = text.as_bytes() {
        return date(number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?);
    }
    let fields: Vec<_> = text.split(['-', '/']).map(str::as_bytes).collect();
    let (year, month, day) = match fields[..] {
        [year, month, day] if year.len() == 4 => (year, month, day),
        [month, day, year] if year.len() == 4 => (year, month, day),
        _ => return None,
    };
    let short = |field: &[u8]| matches!(field.len(), 1 | 2).then(|| number(field)).flatten();
    date(number(year)?, short(month)?, short(day)?)
}

/// Takes a time shown by clocks that are `offset` minutes ahead of UTC.
fn utc(time: NaiveDateTime, offset: i64) -> Option<BackupTime> {
    Some(BackupTime(time.and_utc().timestamp() - 60 * offset))
}

/// Takes a time shown by local clocks.
fn local(time: NaiveDateTime) -> Option<BackupTime> {
    let offset = match Local.offset_from_local_datetime(&time) {
        MappedLocalTime::Single(offset) => offset,
        // The smaller offset gives the later point.
        MappedLocalTime::Ambiguous(one, other) => {
            std::cmp::min_by_key(one, other, |offset| offset.fix().local_minus_utc())
        }
        MappedLocalTime::None => {
            Local.offset_from_utc_datetime(&time.checked_sub_days(Days::new(1))?)
        }
    };
    Some(BackupTime(time.and_utc().timestamp() - i64::from(offset.fix().local_minus_utc())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    const NOW: BackupTime = BackupTime(1_700_000_000);

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp()
    }

    fn expression(text: &str) -> Option<i64> {
        BackupTime::parse_expression(text, NOW).ok().map(BackupTime::seconds)
    }

    #[test]
    fn compact_form_round_trips() {
        let time = BackupTime::parse_compact("20261122T151019Z").unwrap();
        assert_eq!(time.seconds(), 1795360219);
        assert_eq!(time.to_string(), "20261122T151019Z");
        assert_eq!(BackupTime::parse_compact("20261122t151019z"), Some(time));
        for bad in [
            "20261322T151019Z",
            "20261122T241019Z",
            "2026 1 2T151019Z",
            "20261122T151019",
            "20261122T151019é",
            "19001122T151019Z",
        ] {
            assert_eq!(BackupTime::parse_compact(bad), None, "{bad}");
        }
    }

    #[test]
    fn old_names_add_the_minutes_of_the_zone() {
        for (text, expected) in [
            ("2026-11-22T10:02:16-05:00", "2026-11-22T15:02:16Z"),
            ("2026-11-22T11:47:39-04:30", "2026-11-22T15:17:39Z"),
            ("2026-11-22T20_32_17+05_30", "2026-11-22T15:02:17Z"),
            ("2026-11-22T15:02:17Z", "2026-11-22T15:02:17Z"),
        ] {
            assert_eq!(
                BackupTime::parse_w3c(text).map(BackupTime::seconds),
                Some(at(expected)),
                "{text}"
            );
        }
        for bad in [
            "2026-11-22T20_32_17+05:30",
            "2026-11-22T20:32:17",
            "2026-11-22T20-32-17+05-30",
            "2026-11-22T20032017Z",
            "2026-11-22T20:32:17+5:30",
            "2026-11-22Té32é17Z",
        ] {
            assert_eq!(BackupTime::parse_w3c(bad), None, "{bad}");
        }
    }

    /// Expressions that mean the same everywhere. duplicity takes the last for an error, since 0 is
    /// none to it.
    const SAME: [(&str, &str); 24] = [
        ("now", "2023-11-14T22:13:20Z"),
        ("0s", "2023-11-14T22:13:20Z"),
        ("1700000000", "2023-11-14T22:13:20Z"),
        ("00123", "1970-01-01T00:02:03Z"),
        ("20020305", "1970-08-20T17:11:45Z"),
        ("0", "1970-01-01T00:00:00Z"),
        ("1m", "2023-11-14T22:12:20Z"),
        ("1M", "2023-10-15T22:13:20Z"),
        ("1h78m", "2023-11-14T19:55:20Z"),
        ("3D", "2023-11-11T22:13:20Z"),
        ("1D12h", "2023-11-13T10:13:20Z"),
        ("1D1D", "2023-11-12T22:13:20Z"),
        ("2W", "2023-10-31T22:13:20Z"),
        ("1Y", "2022-11-14T22:13:20Z"),
        ("1Y1M", "2022-10-15T22:13:20Z"),
        ("1000Y", "1024-07-14T22:13:20Z"),
        ("2002-01-25T07:00:00+02:00", "2002-01-25T05:00:00Z"),
        ("2002-01-25T07.00.00+0200", "2002-01-25T05:00:00Z"),
        ("2002-01-25T07.00.00-0330", "2002-01-25T10:30:00Z"),
        ("2002-01-25T07:00:00-03:30", "2002-01-25T10:30:00Z"),
        ("2002-01-25T07:00:00Z", "2002-01-25T07:00:00Z"),
        ("20020125T070000Z", "2002-01-25T07:00:00Z"),
        ("2002-01-25T23:59:60Z", "2002-01-26T00:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ];

    /// Expressions that are errors everywhere.
    const ERRORS: [&str; 43] = [
        "",
        "NOW",
        "-5",
        "1.5",
        "D",
        "1d",
        "1H",
        "1w",
        "1S",
        " 1D",
        "1D ",
        "1D 2h",
        "3D4",
        "1é",
        "é",
        "2002-01-25T07:00",
        "2002-01-25 07:00:00",
        "2002-01-25T07:00:00.5Z",
        "20020125T070000+02:00",
        "20020125T240000",
        "2002-01-25t07:00:00Z",
        "2002-01-25T07:00:00z",
        "2002-01-25T07:00:00+0200",
        "2002-01-25T24:00:00Z",
        "2002-01-25T07:00:62Z",
        "2002-13-25T07:00:00Z",
        "2002-1-5T7:0:0Z",
        "02/3/5",
        "2002.3.5",
        "2002-00-10",
        "2002-10-00",
        "13/5/2002",
        "2002-10-32",
        "1900-01-01",
        "2100-01-01",
        "2002-3-005",
        "2002-3-5-7",
        "2002-3-5Z",
        "5-2002",
        "99999999999999999999",
        "99999999999999999999D",
        "9223372036854775807Y",
        "9223372036854775807s9223372036854775807s",
    ];

    #[test]
    fn errors_say_what_is_expected() {
        let error = BackupTime::parse_expression("soon", NOW).unwrap_err().to_string();
        assert!(error.starts_with("Bad time string \"'soon'\": write \"now\""), "{error}");
    }

    /// Expressions without zone, with what they mean in UTC, New York and Berlin.
    const LOCAL: [(&str, [&str; 3]); 20] = [
        (
            "2002-01-25T07:00:00",
            ["2002-01-25T07:00:00Z", "2002-01-25T12:00:00Z", "2002-01-25T06:00:00Z"],
        ),
        // To duplicity an error outside UTC.
        (
            "20020125T070000",
            ["2002-01-25T07:00:00Z", "2002-01-25T12:00:00Z", "2002-01-25T06:00:00Z"],
        ),
        // Summer time counts; duplicity says 12:00 and 06:00.
        (
            "2002-07-25T07:00:00",
            ["2002-07-25T07:00:00Z", "2002-07-25T11:00:00Z", "2002-07-25T05:00:00Z"],
        ),
        ("2002-07-05", ["2002-07-05T00:00:00Z", "2002-07-05T04:00:00Z", "2002-07-04T22:00:00Z"]),
        ("2002/3/5", ["2002-03-05T00:00:00Z", "2002-03-05T05:00:00Z", "2002-03-04T23:00:00Z"]),
        ("03-05-2002", ["2002-03-05T00:00:00Z", "2002-03-05T05:00:00Z", "2002-03-04T23:00:00Z"]),
        ("2002-3-05", ["2002-03-05T00:00:00Z", "2002-03-05T05:00:00Z", "2002-03-04T23:00:00Z"]),
        ("3/5/2002", ["2002-03-05T00:00:00Z", "2002-03-05T05:00:00Z", "2002-03-04T23:00:00Z"]),
        ("2002-03/05", ["2002-03-05T00:00:00Z", "2002-03-05T05:00:00Z", "2002-03-04T23:00:00Z"]),
        ("20020305Z", ["2002-03-05T00:00:00Z", "2002-03-05T05:00:00Z", "2002-03-04T23:00:00Z"]),
        ("5/13/2002", ["2002-05-13T00:00:00Z", "2002-05-13T04:00:00Z", "2002-05-12T22:00:00Z"]),
        ("2002-02-30", ["2002-03-02T00:00:00Z", "2002-03-02T05:00:00Z", "2002-03-01T23:00:00Z"]),
        ("1970-01-01", ["1970-01-01T00:00:00Z", "1970-01-01T05:00:00Z", "1969-12-31T23:00:00Z"]),
        ("1901-01-01", ["1901-01-01T00:00:00Z", "1901-01-01T05:00:00Z", "1900-12-31T23:00:00Z"]),
        ("2099-12-31", ["2099-12-31T00:00:00Z", "2099-12-31T05:00:00Z", "2099-12-30T23:00:00Z"]),
        // Shown twice: in New York 01:30 on 2002-10-27, in Berlin 02:30.
        (
            "2002-10-27T01:30:00",
            ["2002-10-27T01:30:00Z", "2002-10-27T06:30:00Z", "2002-10-26T23:30:00Z"],
        ),
        (
            "2002-10-27T02:30:00",
            ["2002-10-27T02:30:00Z", "2002-10-27T07:30:00Z", "2002-10-27T01:30:00Z"],
        ),
        // Skipped: in New York 02:30 on 2002-04-07, in Berlin 02:30 on 2002-03-31.
        (
            "2002-04-07T02:30:00",
            ["2002-04-07T02:30:00Z", "2002-04-07T07:30:00Z", "2002-04-07T00:30:00Z"],
        ),
        (
            "2002-03-31T02:30:00",
            ["2002-03-31T02:30:00Z", "2002-03-31T07:30:00Z", "2002-03-31T01:30:00Z"],
        ),
        (
            "2023-11-14T22:13:20",
            ["2023-11-14T22:13:20Z", "2023-11-15T03:13:20Z", "2023-11-14T21:13:20Z"],
        ),
    ];

    /// Points in time as clocks in UTC, New York and Berlin showed them.
    const SHOWN: [(i64, [&str; 3]); 3] = [
        (
            1_700_000_000,
            ["Tue Nov 14 22:13:20 2023", "Tue Nov 14 17:13:20 2023", "Tue Nov 14 23:13:20 2023"],
        ),
        (
            1_577_836_800,
            ["Wed Jan  1 00:00:00 2020", "Tue Dec 31 19:00:00 2019", "Wed Jan  1 01:00:00 2020"],
        ),
        (
            1_027_580_400,
            ["Thu Jul 25 07:00:00 2002", "Thu Jul 25 03:00:00 2002", "Thu Jul 25 09:00:00 2002"],
        ),
    ];

    const ZONES: [&str; 3] = ["UTC", "America/New_York", "Europe/Berlin"];

    /// The zone belongs to the process, so each is tried in a process of its own: this test
    /// program, with the next test alone.
    #[test]
    fn expressions_in_zones() {
        for zone in ZONES {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let output = command
                .args(["--exact", "model::time::tests::in_this_zone"])
                .env("TZ", zone)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("1 passed"), "{zone}: {text}");
        }
    }

    /// Checks the zone that it is started in: the test above starts it in each of them, and the
    /// whole run in some zone or none.
    #[test]
    fn in_this_zone() {
        let zone = std::env::var("TZ").unwrap_or_default();
        let Some(column) = ZONES.iter().position(|&known| known == zone) else { return };
        for (text, expected) in LOCAL {
            assert_eq!(expression(text), Some(at(expected[column])), "{text}");
        }
        for (text, expected) in SAME {
            assert_eq!(expression(text), Some(at(expected)), "{text}");
        }
        for text in ERRORS {
            assert_eq!(expression(text), None, "{text:?}");
        }
        for (seconds, expected) in SHOWN {
            assert_eq!(BackupTime(seconds).print_asctime(), expected[column]);
        }
    }

    #[test]
    fn any_point_can_be_printed() {
        for seconds in [i64::MIN, i64::MAX, 0, -1] {
            assert!(BackupTime(seconds).print_asctime().len() >= 24);
        }
    }

    proptest! {
        #[test]
        fn compact_form_prints_what_it_parses(seconds in at("1901-01-01T00:00:00Z")..at("2100-01-01T00:00:00Z")) {
            prop_assert_eq!(BackupTime::parse_compact(&BackupTime(seconds).to_string()), Some(BackupTime(seconds)));
        }

        #[test]
        fn any_text_is_a_time_or_an_error(text in ".{0,30}", near in "[0-9TZ:/+DMYé-]{0,26}") {
            let _ = (expression(&text), BackupTime::parse_w3c(&text), BackupTime::parse_compact(&text));
            let _ = (expression(&near), BackupTime::parse_w3c(&near), BackupTime::parse_compact(&near));
        }
    }
}
