//! [`Pattern`]: duplicity's shell patterns, matched against whole paths.

use super::Error;
use regex::Regex;
use std::borrow::Cow;
use std::fmt::Write;

/// What a pattern has to do with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// It matches the path, or a directory above it.
    Matches,
    /// The path may be a directory on the way to a match.
    Leads,
}

/// One shell pattern, or one literal path.
#[derive(Debug)]
pub struct Pattern {
    form: Form,
    /// A match itself, as opposed to what lies below it, must be a directory: the pattern ended in
    /// `/`.
    only_directories: bool,
}

/// The ways to match, cheapest first.
#[derive(Debug)]
enum Form {
    /// `**`.
    Everything,
    /// No special characters.
    Plain(String),
    /// All others.
    Special {
        /// Matches at a match's end, or at the `/` behind it.
        within: Regex,
        /// Matches the match itself; only asked for when that must be a directory.
        exact: Option<Regex>,
        /// Matches each leading part, up to and with the first `**`.
        leads: Regex,
    },
}

/// How a path lies to a match: is it, or is below it.
enum Lies {
    At,
    Below,
}

impl Pattern {
    /// Parses a shell pattern.
    ///
    /// # Errors
    /// [`Error::Globbing`] for a doubled `/` before the first `**`, [`Error::BackwardRange`] for
    /// one in a class.
    ///
    /// Source: seen with 0.8.22 and 3.2.1, CLI.md 5.2.
    pub fn glob(text: &str, ignore_case: bool) -> Result<Self, Error> {
        if text == "/" || text == "**" {
            let form = if text == "/" {
                Form::special("/**", false, ignore_case)?
            } else {
                Form::Everything
            };
            return Ok(Self { form, only_directories: false });
        }
        let (glob, only_directories) = without_slash(text);
        if fixed(glob).contains("//") {
            return Err(Error::Globbing(format!(
                "Consecutive '/'s found in globbing string {text}"
            )));
        }
        let form = match glob.contains(['*', '?', '[']) || ignore_case {
            true => Form::special(glob, only_directories, ignore_case)?,
            false => Form::Plain(glob.to_string()),
        };
        Ok(Self { form, only_directories })
    }

    /// Takes a path as it is, without special characters. A `/` at its end is ignored.
    ///
    /// # Errors
    /// [`Error::Globbing`] if it is longer than a regular expression may be, without case.
    pub fn literal(text: &str, ignore_case: bool) -> Result<Self, Error> {
        let text = if text == "/" { text } else { without_slash(text).0 };
        let form = match (text, ignore_case) {
            ("/", _) => Form::special("/**", false, false)?,
            (_, false) => Form::Plain(text.to_string()),
            (_, true) => Form::special(&quoted(text), false, true)?,
        };
        Ok(Self { form, only_directories: false })
    }

    /// Reports what this pattern has to do with a path, which never ends in `/` except as `/`
    /// alone.
    pub fn hit(&self, path: &str, is_directory: bool) -> Option<Hit> {
        match self.form.lies(path) {
            Some(Lies::At) if self.only_directories && !is_directory => None,
            Some(_) => Some(Hit::Matches),
            None => self.form.leads_from(path).then_some(Hit::Leads),
        }
    }

    /// Returns whether this pattern matches a path; quicker than asking whether the path leads to a
    /// match as well.
    pub fn matches(&self, path: &str, is_directory: bool) -> bool {
        match self.form.lies(path) {
            Some(Lies::At) => is_directory || !self.only_directories,
            lies => lies.is_some(),
        }
    }
}

impl Form {
    /// Compiles a pattern without its last `/`.
    fn special(glob: &str, only_directories: bool, ignore_case: bool) -> Result<Self, Error> {
        let compile = |text: &str| {
            let built = regex::RegexBuilder::new(text)
                .dot_matches_new_line(true)
                .case_insensitive(ignore_case)
                .build();
            built.map_err(|_| Error::Globbing(glob.to_string()))
        };
        let whole = translated(glob)?;
        // A pattern that begins with anything needs no beginning, which lets the search jump to
        // what it names.
        let within = match whole.strip_prefix(".*") {
            Some(rest) => format!("{rest}(?:/|\\z)"),
            None => format!("\\A{whole}(?:/|\\z)"),
        };
        let exact = if only_directories { Some(compile(&format!("\\A{whole}\\z"))?) } else { None };
        let leads = leading_parts(fixed(glob)).map(translated).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::Special {
            within: compile(&within)?,
            exact,
            leads: compile(&format!("\\A(?:{})\\z", leads.join("|")))?,
        })
    }

    /// Returns whether a path is a match or below one; of a special pattern that need not be a
    /// directory, all count as below.
    fn lies(&self, path: &str) -> Option<Lies> {
        match self {
            Self::Everything => Some(Lies::Below),
            Self::Plain(plain) => match path.strip_prefix(&plain[..])?.as_bytes().first() {
                None => Some(Lies::At),
                Some(b'/') => Some(Lies::Below),
                Some(_) => None,
            },
            Self::Special { within, exact, .. } => within.is_match(path).then(|| {
                let is_exact = exact.as_ref().is_some_and(|exact| exact.is_match(path));
                if is_exact { Lies::At } else { Lies::Below }
            }),
        }
    }

    /// Returns whether a path that is no match may be on the way to one.
    fn leads_from(&self, path: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Plain(plain) => {
                plain.strip_prefix(path).is_some_and(|rest| path == "/" || rest.starts_with('/'))
            }
            Self::Special { leads, .. } => leads.is_match(path),
        }
    }
}

/// Decodes a path or a pattern: a byte that is not UTF-8 becomes one character, which no name in
/// use has.
///
/// duplicity uses lone surrogates, which Rust's strings cannot hold; the end of the last private
/// plane serves as well.
pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let stand_in = |&byte: &u8| {
        char::from_u32(0x10_FF00 + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    let chunks = bytes.utf8_chunks();
    Cow::Owned(
        chunks
            .flat_map(|chunk| chunk.valid().chars().chain(chunk.invalid().iter().map(stand_in)))
            .collect(),
    )
}

/// Takes one `/` from the end, and tells whether there was one.
fn without_slash(text: &str) -> (&str, bool) {
    text.strip_suffix('/').map_or((text, false), |text| (text, true))
}

/// Returns a pattern up to and with its first `**`: from there on any path may lead to a match.
fn fixed(glob: &str) -> &str {
    glob.find("**").map_or(glob, |at| &glob[..at + 2])
}

/// Returns the parts of a pattern that end before a `/`, and all of it; before a leading `/` the
/// root.
fn leading_parts(glob: &str) -> impl Iterator<Item = &str> {
    let ends = glob.match_indices('/').map(|(at, _)| at).chain([glob.len()]);
    ends.map(|end| if end == 0 { "/" } else { &glob[..end] })
}

/// Writes the special characters of a path as patterns that match them alone.
fn quoted(text: &str) -> String {
    text.chars().fold(String::new(), |mut glob, c| {
        if matches!(c, '*' | '?' | '[') {
            glob.extend(['[', c, ']']);
        } else {
            glob.push(c);
        }
        glob
    })
}

/// Translates a pattern to a regular expression, in which `.` matches a newline too.
fn translated(glob: &str) -> Result<String, Error> {
    let (mut regex, mut rest) = (String::new(), glob);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '*' if after.starts_with('*') => {
                regex.push_str(".*");
                &after[1..]
            }
            '[' if class_end(after).is_some() => {
                let (inside, after) = after.split_at(class_end(after).unwrap_or_default());
                class(&mut regex, inside).ok_or_else(|| Error::BackwardRange(glob.to_string()))?;
                &after[1..]
            }
            _ => {
                match c {
                    '*' => regex.push_str("[^/]*"),
                    '?' => regex.push_str("[^/]"),
                    _ => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
                }
                after
            }
        };
    }
    Ok(regex)
}

/// Returns the length of what stands between `[` and its `]`, which as the first of the class is a
/// plain character.
fn class_end(after: &str) -> Option<usize> {
    let sign = after.len() - after.trim_start_matches_once(['!', '^']).len();
    let first = after[sign..].chars().next()?.len_utf8();
    after[sign + first..].find(']').map(|at| sign + first + at)
}

/// Translates the inside of a class; `None` for a range that runs backwards.
fn class(regex: &mut String, inside: &str) -> Option<()> {
    let members = inside.trim_start_matches_once(['!', '^']);
    regex.push_str(if members.len() < inside.len() { "[^" } else { "[" });
    let mut rest = members.chars();
    while let Some(from) = rest.next() {
        let mut ahead = rest.clone();
        let to = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) => {
                rest = ahead;
                to
            }
            _ => from,
        };
        if from > to {
            return None;
        }
        write!(regex, "\\u{{{:x}}}-\\u{{{:x}}}", u32::from(from), u32::from(to)).ok()?;
    }
    regex.push(']');
    Some(())
}

/// Taking one character from the front, if it is one of those.
trait TrimOnce {
    fn trim_start_matches_once(&self, one_of: [char; 2]) -> &str;
}

impl TrimOnce for str {
    fn trim_start_matches_once(&self, one_of: [char; 2]) -> &str {
        self.strip_prefix(one_of).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(glob: &str, path: &str) -> &'static str {
        match Pattern::glob(glob, false).unwrap().hit(path, path.ends_with("dir")) {
            Some(Hit::Matches) => "matches",
            Some(Hit::Leads) => "leads",
            None => "-",
        }
    }

    #[test]
    fn elements() {
        let cases = [
            ("/s/a", "/s/a", "matches"),
            ("/s/a", "/s/a/b", "matches"),
            ("/s/a", "/s/ab", "-"),
            ("/s/a", "/s", "leads"),
            ("/s/a", "/", "leads"),
            ("/s/*", "/s/.x", "matches"),
            ("/s/*.x", "/s/a/b.x", "-"),
            ("/s/**.x", "/s/a/b.x", "matches"),
            ("/s/**.x", "/s/a/b.y", "leads"),
            ("/s/**.x", "/t", "-"),
            ("/s/?", "/s/é", "matches"),
            ("/s/?", "/s/ab", "-"),
            ("/s/[a-c]", "/s/b", "matches"),
            ("/s/[!a-c]", "/s/b", "-"),
            ("/s/[^a-c]", "/s/d", "matches"),
            ("/s/[]]", "/s/]", "matches"),
            ("/s/[!]]", "/s/a", "matches"),
            ("/s/[a", "/s/[a", "matches"),
            ("/s/[]", "/s/[]", "matches"),
            ("/s/[!]", "/s/[!]", "matches"),
            ("/s/[&&^-]", "/s/^", "matches"),
            ("/s/[&&^-]", "/s/-", "matches"),
            ("/s/[\\]x", "/s/\\x", "matches"),
            ("/s/\\*", "/s/*", "-"),
            ("/s/\\*", "/s/\\a", "matches"),
            ("/s/a*", "/s/a\nb", "matches"),
            ("/s/a", "/s/a\n", "-"),
            ("/s/dir/", "/s/dir", "matches"),
            ("/s/file/", "/s/file", "-"),
            ("/s/file/", "/s/file/x", "matches"),
            ("/s/file/", "/s", "leads"),
            ("**/", "/s/a", "-"),
            ("**/", "/s/dir", "matches"),
            ("*", "/s/a", "matches"),
            ("/", "/s/a", "matches"),
            ("a", "/s", "-"),
            ("me/x", "me", "leads"),
            ("./x", ".", "leads"),
        ];
        for (glob, path, expected) in cases {
            assert_eq!(hit(glob, path), expected, "{glob} on {path:?}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for bad in ["/s//a", "//s", "/s/a//b/**"] {
            assert!(matches!(Pattern::glob(bad, false), Err(Error::Globbing(_))), "{bad}");
        }
        assert!(matches!(Pattern::glob("/s/[z-a]", false), Err(Error::BackwardRange(_))));
        for odd in ["/s/**//a", "/s/a//", "//"] {
            assert!(Pattern::glob(odd, false).is_ok(), "{odd}");
        }
    }

    #[test]
    fn literals_have_no_special_characters() {
        let hit = |text: &str, ignore_case, path: &str| {
            Pattern::literal(text, ignore_case).unwrap().hit(path, false)
        };
        assert_eq!(hit("/s/a*[b]", false, "/s/a*[b]/x"), Some(Hit::Matches));
        assert_eq!(hit("/s/a*[b]", false, "/s/aab"), None);
        assert_eq!(hit("/s/A*[b]?/", true, "/S/a*[B]?"), Some(Hit::Matches));
        assert_eq!(hit("/s/A*[b]?", true, "/S/a*[B]x"), None);
        assert_eq!(hit("/s/A/b", true, "/S/a"), Some(Hit::Leads));
        assert_eq!(hit("/", false, "/s"), Some(Hit::Matches));
    }

    #[test]
    fn bytes_that_are_no_text_are_one_character_each() {
        let pattern = Pattern::glob("/s/?", false).unwrap();
        assert_eq!(pattern.hit(&decode(b"/s/\xff"), false), Some(Hit::Matches));
        assert_eq!(pattern.hit(&decode(b"/s/\xff\xfe"), false), None);
        let named = Pattern::glob(&decode(b"/s/a\xff"), false).unwrap();
        assert_eq!(named.hit(&decode(b"/s/a\xff"), false), Some(Hit::Matches));
        assert_eq!(named.hit(&decode(b"/s/a\xfe"), false), None);
    }
}
