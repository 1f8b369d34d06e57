//! What a server says about files: MLSD and MLST, which are for programs, and LIST, which is for
//! people.
//!
//! A listing that leaves a file out would be a lie, so a line that cannot be understood is an error.
//! Of a LIST no times are taken: they are the server's local ones, and lose their hours with age.
//!
//! Source: RFC 3659; for LIST, what vsftpd, ProFTPD, pure-ftpd and IIS print.

use crate::storage::Listed;
use crate::storage::services::stamp_of;
use regex::Regex;
use std::sync::LazyLock;

/// What stands in a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A file.
    File(Listed),
    /// A link, of which only the name is known.
    Link(String),
    /// Nothing that counts, such as a folder.
    Nothing,
}

/// Understands a line of MLSD or MLST: `fact=value;fact=value; name`; `None` if it is none.
pub fn facts(line: &str) -> Option<Line> {
    let (facts, name) = line.trim_start_matches(' ').split_once(' ')?;
    let fact = |wanted: &str| {
        let facts = facts.split(';').filter_map(|fact| fact.split_once('='));
        facts
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    // Some servers give the whole path.
    let name = name.rsplit('/').next().unwrap_or(name);
    let kind = fact("type").unwrap_or("file").to_ascii_lowercase();
    if kind.contains("link") {
        return Some(Line::Link(name.into()));
    }
    if kind != "file" {
        return Some(Line::Nothing);
    }
    let size = fact("size")?.parse().ok()?;
    let stamp = fact("modify").and_then(seconds).map_or(0, |seconds| stamp_of(seconds, size));
    Some(Line::File(Listed { name: name.into(), size, stamp }))
}

/// Returns seconds since 1970 of `YYYYMMDDHHMMSS`, in UTC, perhaps with a fraction.
fn seconds(text: &str) -> Option<u64> {
    let time = chrono::NaiveDateTime::parse_from_str(text.get(..14)?, "%Y%m%d%H%M%S").ok()?;
    u64::try_from(time.and_utc().timestamp()).ok()
}

/// Understands a line of LIST, as Unix or DOS would print it; `None` if it is neither.
pub fn long(line: &str) -> Option<Line> {
    static UNIX: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let date = r"(?:[^\d\s]\S*\s+\d{1,2}|\d{1,2}\.?\s+[^\d\s]\S*|\d{4}-\d\d-\d\d)";
        let kind = r"^([-a-zA-Z])[-a-zA-Z]{9}\S?";
        Regex::new(&format!(
            r"{kind}\s+\d+\s.*?\s?(\d+)\s+{date}\s+(?:\d{{1,2}}:\d\d(?::\d\d)?|\d{{4}})\s(.+)$"
        ))
        .ok()
    });
    static DOS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^\d\d-\d\d-\d{2,4}\s+\d\d:\d\d\s?(?:[AaPp][Mm])?\s+(<\w+>|\d+)\s(.+)$").ok()
    });
    if line.trim().is_empty() || line.starts_with("total ") {
        return Some(Line::Nothing);
    }
    let file = |name: &str, size: &str| {
        let size = size.parse().ok()?;
        Some(Line::File(Listed { name: name.into(), size, stamp: 0 }))
    };
    if let Some(found) = UNIX.as_ref()?.captures(line) {
        return match &found[1] {
            "-" => file(&found[3], &found[2]),
            "l" => Some(Line::Link(found[3].split(" -> ").next().unwrap_or_default().into())),
            _ => Some(Line::Nothing),
        };
    }
    // A device has two numbers in the place of its size.
    if line.starts_with(['b', 'c', 'd', 'p', 's']) && line.split_whitespace().count() > 7 {
        return Some(Line::Nothing);
    }
    let found = DOS.as_ref()?.captures(line)?;
    if found[1].starts_with('<') {
        Some(Line::Nothing)
    } else {
        file(found[2].trim_start(), &found[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64, stamp: u64) -> Option<Line> {
        Some(Line::File(Listed { name: name.into(), size, stamp }))
    }

    #[test]
    fn facts_are_understood() {
        let stamp = 1_700_000_000_000_000_005;
        for (line, expected) in [
            (
                "Type=file;Size=5;Modify=20231114221320.123;UNIX.mode=0644; a b",
                file("a b", 5, stamp),
            ),
            (" size=5;type=file;modify=20231114221320; /x/a", file("a", 5, stamp)),
            ("type=file;size=7; plain", file("plain", 7, 0)),
            ("type=cdir;modify=20231114221320; .", Some(Line::Nothing)),
            ("type=OS.unix=slink:/x;size=1; link", Some(Line::Link("link".into()))),
            ("type=file; no size", None),
            ("type=file;size=-5; less", None),
            ("nonsense", None),
        ] {
            assert_eq!(facts(line), expected, "{line}");
        }
    }

    #[test]
    fn long_lines_are_understood() {
        for (line, expected) in [
            (
                "-rw-r--r--    1 ftp      ftp        985391 Nov 28 20:41 a b",
                file("a b", 985_391, 0),
            ),
            ("-rw-------    1 1000     1000           50 Nov 28  2025 -dash", file("-dash", 50, 0)),
            ("-rw-rw-rw-+   1 Domain Users        12 Jan  1 00:00 x", file("x", 12, 0)),
            ("-rw-r--r--   1 0   0   7 28. Nov 20:41 y", file("y", 7, 0)),
            ("-rw-r--r--   1 u g 7 2026-11-28 20:41 z", file("z", 7, 0)),
            ("drwxr-xr-x    2 0        0            4096 Nov 28 20:41 dir", Some(Line::Nothing)),
            ("crw-rw-rw-    1 0        0        1,   3 Nov 28 20:41 null", Some(Line::Nothing)),
            ("lrwxrwxrwx    1 0 0 4 Nov 28 20:41 l -> to", Some(Line::Link("l".into()))),
            ("total 12", Some(Line::Nothing)),
            ("11-28-26  08:41PM             985391 a b.gz", file("a b.gz", 985_391, 0)),
            ("11-28-2026  20:41       <DIR>          sub", Some(Line::Nothing)),
            ("what is this", None),
        ] {
            assert_eq!(long(line), expected, "{line}");
        }
    }
}
