//! Names of stored files: which session wrote a file, what it holds and how it is encoded.
//!
//! | file | long name | short name |
//! |---|---|---|
//! | full volume 1 | `duplicity-full.T.vol1.difftar` | `df.T.1.dt` |
//! | full manifest | `duplicity-full.T.manifest` | `df.T.m` |
//! | full signatures | `duplicity-full-signatures.T.sigtar` | `dfs.T.st` |
//! | incremental volume 1 | `duplicity-inc.T1.to.T2.vol1.difftar` | `di.T1.T2.1.dt` |
//! | incremental manifest | `duplicity-inc.T1.to.T2.manifest` | `di.T1.T2.m` |
//! | incremental signatures | `duplicity-new-signatures.T1.to.T2.sigtar` | `dns.T1.T2.st` |
//! | statistics (3.x, optional) | `duplicity-full.T.jsonstat`, `duplicity-inc.T1.to.T2.jsonstat` | |
//!
//! T is `20261122T151019Z` in long names, `2026-11-22T10:02:16-05:00` in old ones
//! (`--old-filenames`), and base-36 seconds since 1970 in short ones, where volume numbers are base
//! 36 too. One collection may mix all three: only the decoded times count. The user's prefixes
//! stand in front. Behind stands one suffix: `.gpg` or `.g` encrypted, `.gz` or `.z` compressed,
//! nothing plain. Signature files, manifests and statistics of an unfinished session have `.part`
//! or `.p` instead, in the archive directory only, and are plain.
//!
//! duplicity itself ignores whatever follows a dot behind the last word, so it takes
//! `….difftar.gz.tmp`, `….difftar.part` or `….manifest.bak` for the real thing, then aborts over
//! two of them, or reads the wrong one. It also takes intervals and plain dates for times. Only
//! names that it writes itself are accepted here. Leading zeros of a volume number are harmless and
//! stay allowed; volume 0 makes duplicity crash and is none here.
//!
//! Source: names written by duplicity 0.8.22 and 3.2.1; what they accept was tried with both.

use super::tar::decimal;
use crate::model::BackupTime;
use std::fmt::Write;

/// What a stored file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredName {
    /// Which session wrote the file.
    pub session: Session,
    /// What the file holds.
    pub content: Content,
    /// Whether it is a checkpoint of an unfinished session; always plain, never a volume.
    pub partial: bool,
    /// How it is stored.
    pub encoding: Encoding,
}

/// One run of the backup command, by its times; they identify its backup set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Session {
    /// Saved everything.
    Full {
        /// When it began.
        time: BackupTime,
    },
    /// Saved what had changed.
    Incremental {
        /// Time of the set that it builds on.
        start: BackupTime,
        /// When it began itself.
        end: BackupTime,
    },
}

impl Session {
    /// Returns the time whose state this session saved.
    pub fn end(self) -> BackupTime {
        match self {
            Self::Full { time: end } | Self::Incremental { end, .. } => end,
        }
    }

    /// Returns the time of the set that this session builds on; a full session's own time.
    pub fn start(self) -> BackupTime {
        match self {
            Self::Full { time: start } | Self::Incremental { start, .. } => start,
        }
    }

    /// Returns whether the session saved everything.
    pub fn is_full(self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// What a stored file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// The volume of this number, from 1.
    Volume(u32),
    /// The manifest.
    Manifest,
    /// The signature file.
    Signatures,
    /// Statistics as JSON; nothing that reading needs.
    Statistics,
}

/// How a stored file is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// Compressed.
    Gzip,
    /// Encrypted, and mostly compressed inside.
    OpenPgp,
}

/// How a name is spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameForm {
    /// `duplicity-full.20261122T151019Z.vol1.difftar`, the only form that versions 3.x write.
    #[default]
    Long,
    /// The same with local times: `duplicity-full.2026-11-22T10:02:16-05:00.vol1.difftar`
    /// (`--old-filenames`).
    Old {
        /// What stands for each `:` (`--time-separator`).
        separator: char,
    },
    /// `df.towsfm.1.dt` (`--short-filenames`).
    Short,
}

/// What the user put in front of all names: `global` first, then that of the kind, then the name,
/// without separators.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prefixes {
    /// `--file-prefix`.
    pub global: String,
    /// `--file-prefix-archive`, of volumes.
    pub archive: String,
    /// `--file-prefix-manifest`.
    pub manifest: String,
    /// `--file-prefix-signature`.
    pub signature: String,
    /// `--file-prefix-jsonstat`, of statistics.
    pub jsonstat: String,
}

impl Prefixes {
    fn of(&self, content: Content) -> &str {
        match content {
            Content::Volume(_) => &self.archive,
            Content::Manifest => &self.manifest,
            Content::Signatures => &self.signature,
            Content::Statistics => &self.jsonstat,
        }
    }
}

impl StoredName {
    /// Parses a name in any of the three forms; `None` if duplicity would not have written it.
    pub fn parse(name: &str, prefixes: &Prefixes) -> Option<Self> {
        let rest = name.strip_prefix(&prefixes.global)?;
        let kinds =
            [Content::Volume(1), Content::Manifest, Content::Signatures, Content::Statistics];
        kinds.into_iter().find_map(|kind| {
            let rest = rest.strip_prefix(prefixes.of(kind))?;
            let parsed = parse_long(rest).or_else(|| parse_short(rest))?;
            (std::mem::discriminant(&parsed.content) == std::mem::discriminant(&kind))
                .then_some(parsed)
        })
    }

    /// Prints the long name.
    pub fn print(&self, prefixes: &Prefixes) -> String {
        self.print_as(NameForm::Long, prefixes)
    }

    /// Prints the name in one of its forms.
    pub fn print_as(&self, form: NameForm, prefixes: &Prefixes) -> String {
        let name = match form {
            NameForm::Long => self.print_long(|time| time.to_string()),
            NameForm::Old { separator } => self.print_long(|time| time.print_w3c(separator)),
            NameForm::Short => self.print_short(),
        };
        format!("{}{}{name}", prefixes.global, prefixes.of(self.content))
    }

    fn print_short(&self) -> String {
        let word = match (self.session.is_full(), self.content) {
            (true, Content::Signatures) => "dfs",
            (true, _) => "df",
            (false, Content::Signatures) => "dns",
            (false, _) => "di",
        };
        let times = match self.session {
            Session::Full { time } => print_base36(time.seconds().max(0) as u64),
            Session::Incremental { start, end } => {
                [start, end].map(|time| print_base36(time.seconds().max(0) as u64)).join(".")
            }
        };
        let content = match self.content {
            Content::Volume(number) => format!("{}.dt", print_base36(number.into())),
            Content::Manifest => "m".into(),
            Content::Signatures => "st".into(),
            Content::Statistics => "jsonstat".into(), // never seen: only versions that write long names alone write statistics
        };
        let suffix = match self.encoding {
            _ if self.partial => ".p",
            Encoding::Plain => "",
            Encoding::Gzip => ".z",
            Encoding::OpenPgp => ".g",
        };
        format!("{word}.{times}.{content}{suffix}")
    }

    fn print_long(&self, print: impl Fn(BackupTime) -> String) -> String {
        let mut name = String::new();
        name += match (self.session.is_full(), self.content) {
            (true, Content::Signatures) => "duplicity-full-signatures.",
            (true, _) => "duplicity-full.",
            (false, Content::Signatures) => "duplicity-new-signatures.",
            (false, _) => "duplicity-inc.",
        };
        // Writing to a String cannot fail.
        let _ = match self.session {
            Session::Full { time } => write!(name, "{}", print(time)),
            Session::Incremental { start, end } => {
                write!(name, "{}.to.{}", print(start), print(end))
            }
        };
        let _ = match self.content {
            Content::Volume(number) => write!(name, ".vol{number}.difftar"),
            Content::Manifest => write!(name, ".manifest"),
            Content::Signatures => write!(name, ".sigtar"),
            Content::Statistics => write!(name, ".jsonstat"),
        };
        name += match self.encoding {
            _ if self.partial => ".part",
            Encoding::Plain => "",
            Encoding::Gzip => ".gz",
            Encoding::OpenPgp => ".gpg",
        };
        name
    }
}

/// Parses a long or old name behind its prefixes.
fn parse_long(name: &str) -> Option<StoredName> {
    let (full, signatures, rest) = [
        ("duplicity-full.", true, false),
        ("duplicity-inc.", false, false),
        ("duplicity-full-signatures.", true, true),
        ("duplicity-new-signatures.", false, true),
    ]
    .into_iter()
    .find_map(|(word, full, signatures)| Some((full, signatures, name.strip_prefix(word)?)))?;
    let (start, rest) = take_long_time(rest)?;
    let (end, rest) =
        if full { (start, rest) } else { take_long_time(rest.strip_prefix(".to.")?)? };
    let (content, rest) = match rest.strip_prefix(".vol") {
        _ if signatures => (Content::Signatures, rest.strip_prefix(".sigtar")?),
        Some(rest) => {
            let (number, rest) = rest.split_once('.')?;
            (
                Content::Volume(decimal(number.as_bytes())?.try_into().ok()?),
                rest.strip_prefix("difftar")?,
            )
        }
        None => match rest.strip_prefix(".manifest") {
            Some(rest) => (Content::Manifest, rest),
            None => (Content::Statistics, rest.strip_prefix(".jsonstat")?),
        },
    };
    assemble(full, start, end, content, rest)
}

/// Parses a short name behind its prefixes.
fn parse_short(name: &str) -> Option<StoredName> {
    let (word, rest) = name.split_once('.')?;
    let (full, signatures) = match word {
        "df" => (true, false),
        "di" => (false, false),
        "dfs" => (true, true),
        "dns" => (false, true),
        _ => return None,
    };
    let (start, rest) = take_short_time(rest)?;
    let (end, rest) = if full { (start, rest) } else { take_short_time(rest)? };
    let (field, behind) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
    let (content, rest) = match field {
        "st" if signatures => (Content::Signatures, behind),
        _ if signatures => return None,
        // No volume: its number would be followed by the word `dt`.
        "m" if !behind.starts_with(".dt") => (Content::Manifest, behind),
        number => (Content::Volume(base36(number)?.try_into().ok()?), behind.strip_prefix(".dt")?),
    };
    assemble(full, start, end, content, rest)
}

fn assemble(
    full: bool,
    start: BackupTime,
    end: BackupTime,
    content: Content,
    suffix: &str,
) -> Option<StoredName> {
    let volume = matches!(content, Content::Volume(_));
    let (partial, encoding) = match suffix {
        "" => (false, Encoding::Plain),
        ".gz" | ".z" => (false, Encoding::Gzip),
        ".gpg" | ".g" => (false, Encoding::OpenPgp),
        ".part" | ".p" if !volume => (true, Encoding::Plain),
        _ => return None,
    };
    // duplicity takes the time 0 for none.
    if content == Content::Volume(0) || [start, end].contains(&BackupTime::from_seconds(0)) {
        return None;
    }
    let session =
        if full { Session::Full { time: end } } else { Session::Incremental { start, end } };
    Some(StoredName { session, content, partial, encoding })
}

/// Takes a time in one of the two written forms from the front.
fn take_long_time(text: &str) -> Option<(BackupTime, &str)> {
    let form = |length: usize, parse: fn(&str) -> Option<BackupTime>| {
        let (time, rest) = text.split_at_checked(length)?;
        Some((parse(time)?, rest))
    };
    // With `--old-filenames` a zone is `Z` or `+hh:mm`.
    form(16, BackupTime::parse_compact)
        .or_else(|| form(20, BackupTime::parse_w3c))
        .or_else(|| form(25, BackupTime::parse_w3c))
}

/// Takes a time of a short name and the dot behind it from the front. Times after the year 9999 are
/// refused.
fn take_short_time(text: &str) -> Option<(BackupTime, &str)> {
    const END_OF_9999: i64 = 253_402_300_799;
    let (digits, rest) = text.split_once('.')?;
    let seconds = i64::try_from(base36(digits)?).ok().filter(|&seconds| seconds <= END_OF_9999)?;
    Some((BackupTime::from_seconds(seconds), rest))
}

/// Prints base 36 with digits `0` to `9`, `a` to `z`, without padding.
fn print_base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit((number % 36) as u32, 36));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

/// Parses base 36 with digits `0` to `9`, `a` to `z`.
fn base36(digits: &str) -> Option<u64> {
    let lower = digits.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    lower.then(|| u64::from_str_radix(digits, 36).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Encoding::*;
    use proptest::prelude::*;

    fn parse(name: &str) -> Option<StoredName> {
        StoredName::parse(name, &Prefixes::default())
    }

    fn full(seconds: i64) -> Session {
        Session::Full { time: BackupTime::from_seconds(seconds) }
    }

    fn inc(start: i64, end: i64) -> Session {
        Session::Incremental {
            start: BackupTime::from_seconds(start),
            end: BackupTime::from_seconds(end),
        }
    }

    const ODD: &str = "duplicity-full.2026-11-22T10:02:16-05:00.manifest";

    #[test]
    fn names_as_duplicity_writes_them() {
        let (t, u) = (1795359730, 1795359733);
        for (name, session, content, partial, encoding) in [
            (
                "duplicity-full-signatures.20261122T150210Z.sigtar",
                full(t),
                Content::Signatures,
                false,
                Plain,
            ),
            ("duplicity-full.20261122T150210Z.manifest", full(t), Content::Manifest, false, Plain),
            (
                "duplicity-full.20261122T150210Z.vol1.difftar",
                full(t),
                Content::Volume(1),
                false,
                Plain,
            ),
            (
                "duplicity-full.20261122T150210Z.vol10.difftar.gz",
                full(t),
                Content::Volume(10),
                false,
                Gzip,
            ),
            (
                "duplicity-full.20261122T150210Z.vol001.difftar.gpg",
                full(t),
                Content::Volume(1),
                false,
                OpenPgp,
            ),
            (
                "duplicity-full.20261122T150210Z.manifest.gz",
                full(t),
                Content::Manifest,
                false,
                Gzip,
            ),
            (
                "duplicity-full.20261122t150210z.manifest.gpg",
                full(t),
                Content::Manifest,
                false,
                OpenPgp,
            ),
            (
                "duplicity-inc.20261122T150210Z.to.20261122T150213Z.vol2.difftar.gpg",
                inc(t, u),
                Content::Volume(2),
                false,
                OpenPgp,
            ),
            (
                "duplicity-inc.20261122T150210Z.to.20261122T150213Z.manifest",
                inc(t, u),
                Content::Manifest,
                false,
                Plain,
            ),
            (
                "duplicity-new-signatures.20261122T150210Z.to.20261122T150213Z.sigtar.gz",
                inc(t, u),
                Content::Signatures,
                false,
                Gzip,
            ),
            (
                "duplicity-full.20261122T150210Z.jsonstat.gz",
                full(t),
                Content::Statistics,
                false,
                Gzip,
            ),
            (
                "duplicity-inc.20261122T150210Z.to.20261122T150213Z.jsonstat",
                inc(t, u),
                Content::Statistics,
                false,
                Plain,
            ),
            (
                "duplicity-full-signatures.20261122T150210Z.sigtar.part",
                full(t),
                Content::Signatures,
                true,
                Plain,
            ),
            (
                "duplicity-full.20261122T150210Z.manifest.part",
                full(t),
                Content::Manifest,
                true,
                Plain,
            ),
            ("df.towsfm.1.dt.g", full(t), Content::Volume(1), false, OpenPgp),
            ("df.towsfm.10.dt.z", full(t), Content::Volume(36), false, Gzip),
            ("df.towsfm.m.dt", full(t), Content::Volume(22), false, Plain),
            ("df.towsfm.m.g", full(t), Content::Manifest, false, OpenPgp),
            ("df.towsfm.m", full(t), Content::Manifest, false, Plain),
            ("df.towsfm.m.p", full(t), Content::Manifest, true, Plain),
            ("dfs.towsfm.st.g", full(t), Content::Signatures, false, OpenPgp),
            ("dfs.towsfm.st.gz", full(t), Content::Signatures, false, Gzip),
            ("di.towsfm.towsfp.1.dt.g", inc(t, u), Content::Volume(1), false, OpenPgp),
            ("di.towsfm.towsfp.m.g", inc(t, u), Content::Manifest, false, OpenPgp),
            ("dns.towsfm.towsfp.st.p", inc(t, u), Content::Signatures, true, Plain),
        ] {
            let stored = StoredName { session, content, partial, encoding };
            assert_eq!(parse(name), Some(stored), "{name}");
            let form = if name.starts_with("duplicity") { NameForm::Long } else { NameForm::Short };
            let usual = !["vol001", "150210z", ".st.gz"].iter().any(|odd| name.contains(odd));
            assert!(!usual || stored.print_as(form, &Prefixes::default()) == name, "{name}");
        }
    }

    #[test]
    fn old_names_are_read_as_they_are_printed() {
        for separator in [':', '_'] {
            for session in [full(1795359736), inc(1795359730, 1782000000)] {
                for content in [Content::Volume(12), Content::Manifest, Content::Signatures] {
                    let name = StoredName { session, content, partial: false, encoding: Gzip };
                    assert_eq!(
                        parse(&name.print_as(NameForm::Old { separator }, &Prefixes::default())),
                        Some(name)
                    );
                }
            }
        }
    }

    #[test]
    fn old_names_carry_a_zone() {
        let t = 1795359736;
        let inc_name =
            "duplicity-inc.2026-11-22T10:02:16-05:00.to.2026-11-22T10:02:17-05:00.vol1.difftar.gz";
        assert_eq!(parse(ODD).unwrap().session, full(t));
        assert_eq!(parse(inc_name).unwrap().session, inc(t, t + 1));
        assert_eq!(
            parse("duplicity-full.2026-11-22T11:47:39-04:30.manifest").unwrap().session,
            full(1795360659)
        );
        assert_eq!(
            parse("duplicity-full.2026-11-22T20_32_17+05_30.manifest.gpg").unwrap().session,
            full(t + 1)
        );
        assert_eq!(parse("duplicity-full.2026-11-22T15:02:16Z.manifest").unwrap().session, full(t));
    }

    #[test]
    fn prefixes_stand_in_front() {
        let prefixes = Prefixes {
            global: "G-".into(),
            archive: "A-".into(),
            manifest: "M-".into(),
            signature: "S-".into(),
            jsonstat: "J.*".into(),
        };
        for (name, found) in [
            ("G-A-duplicity-full.20261122T150217Z.vol1.difftar.gz", true),
            ("G-M-duplicity-full.20261122T150217Z.manifest", true),
            ("G-S-duplicity-full-signatures.20261122T150217Z.sigtar.gz", true),
            ("G-J.*duplicity-full.20261122T150217Z.jsonstat.gz", true),
            ("G-S-dfs.towsfm.st.g", true),
            ("G-A-duplicity-full.20261122T150217Z.manifest", false),
            ("G-duplicity-full.20261122T150217Z.manifest", false),
            ("A-G-duplicity-full.20261122T150217Z.vol1.difftar.gz", false),
            ("G-Jxyduplicity-full.20261122T150217Z.jsonstat.gz", false),
            ("duplicity-full.20261122T150217Z.manifest", false),
        ] {
            assert_eq!(StoredName::parse(name, &prefixes).is_some(), found, "{name}");
            assert_eq!(parse(name).is_some(), name.starts_with("dup"), "{name}");
        }
    }

    #[test]
    fn what_duplicity_would_misread_is_refused() {
        for name in [
            // Temporary and foreign files beside real ones: duplicity takes each of these for the
            // real thing.
            "duplicity-full.20261122T150210Z.vol1.difftar.gz.tmp",
            "duplicity-full.20261122T150210Z.vol1.difftar.gz.par2",
            "duplicity-full.20261122T150210Z.vol1.difftar.gz.vol000+01.par2",
            "duplicity-full.20261122T150210Z.vol1.difftar.part",
            "duplicity-full.20261122T150210Z.manifest.bak",
            "duplicity-full.20261122T150210Z.manifest.part.gz",
            "duplicity-full.20261122T150210Z.manifest.gz.gpg",
            "duplicity-full.20261122T150210Z.manifest.p7m",
            "df.towsfm.1.dt.p",
            // Volume numbers.
            "duplicity-full.20261122T150210Z.vol0.difftar",
            "duplicity-full.20261122T150210Z.vol00.difftar",
            "duplicity-full.20261122T150210Z.vol.difftar",
            "duplicity-full.20261122T150210Z.vol-1.difftar",
            "duplicity-full.20261122T150210Z.vol4294967296.difftar",
            "df.towsfm.0.dt",
            // Times that nobody wrote on purpose.
            "duplicity-full.1700000000.manifest",
            "duplicity-full.3D.manifest",
            "duplicity-full.2026-11-22.manifest",
            "duplicity-full.2026-11-22T10:02:16.manifest",
            "duplicity-full.20261122T150210X.manifest",
            "duplicity-full.19700101T000000Z.manifest",
            "df.0.m",
            "df.zzzzzzzzzzzz.m",
            "df.zzzzzzzzzzzzzzzz.m",
            "df.TOWSFM.m",
            "df.+towsf.m",
            // Words.
            "Duplicity-full.20261122T150210Z.manifest",
            "xduplicity-full.20261122T150210Z.manifest",
            "duplicity-full.20261122T150210Z.manifests",
            "duplicity-full.20261122T150210Z.sigtar",
            "duplicity-full-signatures.20261122T150210Z.manifest",
            "duplicity-full.20261122T150210Z.to.20261122T150213Z.manifest",
            "duplicity-inc.20261122T150210Z.manifest",
            "duplicity-inc.20261122T150210Z-20261122T150213Z.manifest",
            "df.towsfm.st",
            "dfs.towsfm.m",
            "di.towsfm.m",
            "lockfile",
            "",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    fn stored_name() -> impl Strategy<Value = StoredName> {
        // Years that long names can carry, from 1970 on.
        let time = || (1i64..4_102_444_800).prop_map(BackupTime::from_seconds);
        let session = prop_oneof![
            time().prop_map(|time| Session::Full { time }),
            (time(), time()).prop_map(|(start, end)| Session::Incremental { start, end })
        ];
        let content = prop_oneof![
            (1u32..).prop_map(Content::Volume),
            Just(Content::Manifest),
            Just(Content::Signatures),
            Just(Content::Statistics)
        ];
        let encoding = prop_oneof![Just(Plain), Just(Gzip), Just(OpenPgp)];
        (session, content, any::<bool>(), encoding).prop_map(
            |(session, content, partial, encoding)| {
                let partial = partial && !matches!(content, Content::Volume(_));
                StoredName {
                    session,
                    content,
                    partial,
                    encoding: if partial { Plain } else { encoding },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn printed_names_parse(name in stored_name(), words in prop::array::uniform5("[a-z.*-]{0,4}")) {
            let [global, archive, manifest, signature, jsonstat] = words;
            let prefixes = Prefixes { global, archive, manifest, signature, jsonstat };
            prop_assert_eq!(StoredName::parse(&name.print(&prefixes), &prefixes), Some(name));
        }

        #[test]
        fn any_text_is_a_name_or_none(text in "(duplicity-(full|inc|new-signatures)|df|di|dns)\\.([0-9TZa-zé:.-]|\\.to\\.){0,60}") {
            let _ = parse(&text);
        }
    }
}
